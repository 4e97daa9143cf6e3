//! What is said of wrong configurations: golden messages, every one with its
//! line, object, field, value and remedy.

// Helpers of tests are tests: a failure there is the message.
#![allow(clippy::unwrap_used)]

use hairpin::config;

/// A host-local network with two ports; `edit` goes behind it.
const SITE: &str = r#"# A site.
[[link]]
name = "up0"
role = "station"
[[link]]
name = "sbp0"
role = "bridge"
[[channel]]
name = "blue"
link = "up0"
svid = 100
[[channel]]
name = "sbp0-blue"
link = "sbp0"
svid = 100
[[bridge]]
name = "br0"
members = [{ link = "sbp0" }]
[[port]]
name = "vm1"
channel = "up0"
mode = "veb"
mac = "52:54:00:00:00:01"
device = { tap = { interface = "tap1" } }
"#;

fn refusals(text: &str) -> String {
    config::parse(text).expect_err("it is wrong").to_string()
}

/// What is said of the site with these lines behind it, which begin in line 25.
fn refusals_behind_site(lines: &str) -> String {
    refusals(&format!("{SITE}{lines}"))
}

fn port(rest: &str) -> String {
    format!("[[port]]\nname = \"vm2\"\ndevice = {{ tap = {{ interface = \"tap2\" }} }}\n{rest}")
}

#[test]
fn the_site_itself_is_right() {
    let desired = config::parse(SITE).unwrap();
    assert_eq!(desired.ports().len(), 1);
    let names: Vec<&str> = desired.channels().iter().map(|channel| &*channel.name).collect();
    assert_eq!(names, ["up0", "sbp0", "blue", "sbp0-blue"]);
}

#[test]
fn the_example_is_right() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/two-taps.toml");
    let desired = config::load(path.as_ref()).unwrap();
    assert_eq!(desired.switch().name, "host1");
    assert_eq!(desired.ports().len(), 2);
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let errors = config::load("/nonexistent/hairpin.toml".as_ref()).unwrap_err().to_string();
    assert_eq!(
        errors,
        "/nonexistent/hairpin.toml: configuration: No such file or directory (os error 2); \
         name a file that this user may read"
    );
}

#[test]
fn every_error_is_reported_in_the_order_of_lines() {
    let text = r#"[switch]
nmae = "host1"
workers = [1, 1]
poll = "lazy"
api = "tcp:127.0.0.1:80"
fdb = { capacity = 1, ageing = "300" }
[[link]]
name = "up0"
role = "statoin"
mtu = 20
[[port]]
name = "vm1"
chanel = "up0"
mode = "vebb"
device = { vhost-user = { socket = "/run/vm1.sock" } }
vlan = { access = 4095 }
mac = ["01:00:5e:00:00:01", "zero", "00:00:00:00:00:00"]
learn-limit = 0
"#;
    assert_eq!(
        refusals(text),
        r#"line 2: switch: nmae: unknown key (did you mean name?); known keys are name, workers, poll, api, state-dir, fdb
line 3: switch: workers: CPU 1 is there twice; write CPU numbers, each once, as [1, 2]
line 4: switch: poll: "lazy" is not a poll policy; write adaptive or busy
line 5: switch: api: "tcp:127.0.0.1:80" is not an address; write unix: and an absolute path of at most 107 bytes, as "unix:/run/hairpin/api.sock"
line 6: switch fdb: capacity: 1 is out of range; write a number from 64 to 16777216
line 6: switch fdb: ageing: "300" is not an ageing time; write a span from "1s" to "1000000s", in ms, s, m or h, as "300s"
line 9: link up0: role: "statoin" is not a role (did you mean station?); write station or bridge
line 10: link up0: mtu: 20 is out of range; write a number from 68 to 65521
line 13: port vm1: chanel: unknown key (did you mean channel?); known keys are name, channel, bridge, mode, device, mac, vlan, learn-limit, admin
line 14: port vm1: mode: "vebb" is not a mode (did you mean veb?); write veb, vepa, private or direct
line 15: port vm1: device: vhost-user is not supported by this version; supported now: { tap = { interface = "tap1" } }
line 16: port vm1: vlan: access: 4095 is not a VLAN; write a number from 1 to 4094 (0 means no VLAN, 4095 is reserved)
line 17: port vm1: mac: 01:00:5e:00:00:01 is a group address; write an address with an even first octet: stations own no group address
line 17: port vm1: mac: "zero" is not a MAC address; write six octets as "52:54:00:00:00:01"
line 17: port vm1: mac: the zero address belongs to no station; write six octets as "52:54:00:00:00:01"
line 18: port vm1: learn-limit: 0 is out of range; write a number from 1 to 1048576"#
    );
}

/// Wrong additions to the site, and exactly what is said of each.
fn assert_refused(cases: &[(String, &str)]) {
    for (lines, said) in cases {
        assert_eq!(&refusals_behind_site(lines), said, "of\n{lines}");
    }
}

#[test]
fn wrong_ports_are_refused_precisely() {
    assert_refused(&[
        (
            port("channel = \"bleu\"\nmode = \"veb\""),
            "line 28: port vm2: channel: there is no channel \"bleu\" (did you mean blue?); \
             channels for ports are up0, blue",
        ),
        (
            port("channel = \"sbp0-blue\"\nmode = \"veb\""),
            "line 28: port vm2: channel: \"sbp0-blue\" is on a link with role bridge; write \
             bridge = the bridge that has this channel as a member, or name a channel of a \
             station link",
        ),
        (
            port("channel = \"up0\"\nmode = \"direct\""),
            "line 21: port vm1: channel: channel up0 belongs to vm2, whose mode is direct; a \
             direct port is the only port of its channel: use another channel, or another mode",
        ),
        (
            port("channel = \"up0\"\n"),
            "line 26: port vm2: mode: it is missing; write mode = \"veb\", \"vepa\", \
             \"private\" or \"direct\"",
        ),
        (
            port("bridge = \"br0\"\nmode = \"veb\""),
            "line 29: port vm2: mode: a bridge port has no mode; leave it out: modes are for \
             ports on channels",
        ),
        (
            port("bridge = \"br1\"\n"),
            "line 28: port vm2: bridge: there is no bridge \"br1\" (did you mean br0?); \
             bridges are br0",
        ),
        (
            port("mode = \"veb\""),
            "line 26: port vm2: channel: it is missing; write channel = a channel's or station \
             link's name, or bridge = a bridge's",
        ),
        (
            port("channel = \"up0\"\nmode = \"veb\"\nmac = \"52:54:00:00:00:01\""),
            "line 30: port vm2: mac: 52:54:00:00:00:01 is registered on port vm1 already; give \
             each port its own address, or put them into different VLANs",
        ),
        (
            port("channel = \"up0\"\nmode = \"veb\"\nvlan = { trunk = [\"30-20\"] }"),
            "line 30: port vm2: vlan: trunk: the range \"30-20\" runs backwards; write \
             \"20-30\"",
        ),
        (
            port("channel = \"up0\"\nmode = \"veb\"\nvlan = { access = 0 }"),
            "line 30: port vm2: vlan: access: 0 is not a VLAN; write a number from 1 to 4094 \
             (0 means no VLAN, 4095 is reserved)",
        ),
    ]);
}

#[test]
fn wrong_links_channels_and_bridges_are_refused_precisely() {
    assert_refused(&[
        (
            "[[channel]]\nname = \"red\"\nlink = \"up0\"\nsvid = 100".to_owned(),
            "line 28: channel red: svid: S-VID 100 is already channel blue of this link; give \
             each channel of a link its own S-VID",
        ),
        (
            "[[channel]]\nname = \"red\"\nlink = \"up0\"\nsvid = 1".to_owned(),
            "line 28: channel red: svid: 1 is not an S-VID; write a number from 2 to 4094; \
             S-VID 1 is the default channel, which exists by itself",
        ),
        (
            "[[channel]]\nname = \"red\"\nlink = \"up0\"\nsvid = \"auto\"".to_owned(),
            "line 28: channel red: svid: \"auto\" comes with EVB; write an S-VID from 2 to \
             4094 for now",
        ),
        (
            "[[channel]]\nname = \"red\"\nlink = \"up1\"\nsvid = 7".to_owned(),
            "line 27: channel red: link: there is no link \"up1\" (did you mean up0?); links \
             are up0, sbp0",
        ),
        (
            "[[bridge]]\nname = \"vm1\"\nmembers = []".to_owned(),
            "line 26: bridge vm1: name: \"vm1\" is already the name of a port in line 20; \
             links, channels, ports and bridges share one namespace: rename one",
        ),
        (
            "[[bridge]]\nname = \"br1\"\nmembers = [{ link = \"up0\" }]".to_owned(),
            "line 27: bridge br1: members: \"up0\" is on a link with role station; bridge \
             links and their channels are sbp0, sbp0-blue",
        ),
        (
            "[[bridge]]\nname = \"br1\"\nmembers = [{ channel = \"sbp0\" }]".to_owned(),
            "line 27: bridge br1: members: \"sbp0\" is already a member of bridge br0; a \
             channel is a member of one bridge, once",
        ),
        (
            "[[bridge]]\nname = \"br1\"\nmembers = [{ channel = \"sbp0-blue\", \
             reflective-relay = \"auto\" }]"
                .to_owned(),
            "line 27: bridge br1: member: reflective-relay: \"auto\" comes with EVB; write on \
             or off for now",
        ),
        (
            "[[link]]\nname = \"up1\"\nrole = \"station\"\nevb = true".to_owned(),
            "line 28: link up1: evb: this version does not know this key; comes with EVB",
        ),
        (
            "[[link]]\nname = \"up1\"\nrole = \"station\"\ndevice = { tap = { interface = \
             \"tap1\" } }"
                .to_owned(),
            "line 24: port vm1: device: interface \"tap1\" is already that of link up1; give \
             each its own",
        ),
    ]);
}

#[test]
fn an_unreadable_object_is_not_also_said_to_be_missing() {
    let lines = "[[channel]]\nname = \"red\"\nlink = \"up0\"\nsvid = 4095\n".to_owned()
        + &port("channel = \"red\"\nmode = \"veb\"");
    assert_eq!(refusals_behind_site(&lines).lines().count(), 1);
}

#[test]
fn one_address_may_be_registered_in_vlans_apart() {
    let vlans_apart = |first, second| {
        let with = |name, vlan| {
            format!(
                "[[port]]\nname = \"{name}\"\nchannel = \"blue\"\nmode = \"veb\"\nmac = \
                 \"52:54:00:00:00:09\"\nvlan = {vlan}\ndevice = {{ tap = {{ interface = \
                 \"t-{name}\" }} }}\n"
            )
        };
        config::parse(&format!("{SITE}{}{}", with("a", first), with("b", second))).is_ok()
    };
    assert!(vlans_apart("{ access = 10 }", "{ access = 11 }"));
    assert!(vlans_apart("{ access = 10 }", "{ trunk = [\"20-29\"], native = 30 }"));
    assert!(!vlans_apart("{ access = 30 }", "{ trunk = [\"20-29\"], native = 30 }"));
    assert!(!vlans_apart("{ trunk = [9, 20] }", "{ trunk = [\"20-29\"] }"));
}

#[test]
fn toml_that_is_no_toml_is_refused_with_its_line() {
    let said = refusals("[switch]\nname = \n[[link]]\n");
    assert!(said.starts_with("line 2: configuration: "), "{said}");
    let said = refusals("[switch]\nname = \"a\"\nname = \"b\"\n");
    assert!(said.starts_with("line 3: configuration: duplicate key"), "{said}");
}
