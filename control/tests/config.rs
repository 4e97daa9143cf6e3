//! What is said of wrong configurations: golden messages, every one with its
//! line, object, field, value and remedy.

// Helpers of tests are tests: a failure there is the message.
#![allow(clippy::unwrap_used)]

use hairpin::config::{self, DeviceConfig, VlanConfig};
use hairpin_dataplane::port::{HostsOwn, xdp};
use hairpin_dataplane::wire::{SVid, VlanId};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

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
fn somebody_else_s_interface_is_named_and_perhaps_taken_over() {
    let port = |device: &str| {
        format!(
            "[[link]]\nname = \"up0\"\nrole = \"station\"\n[[port]]\nname = \"vm1\"\n\
             channel = \"up0\"\nmode = \"veb\"\ndevice = {{ packet = {device} }}\n"
        )
    };
    let read = |device| config::parse(&port(device)).unwrap().ports()[0].device.clone();
    let wanted = |hosts_own| DeviceConfig::Packet { interface: "vnet3".to_owned(), hosts_own };
    assert_eq!(read("{ interface = \"vnet3\" }"), wanted(HostsOwn::Refuse));
    assert_eq!(read("{ interface = \"vnet3\", take-over = true }"), wanted(HostsOwn::TakeOver));
    for (device, refusal) in [
        ("7", "device: packet is not a table"),
        ("{}", "device packet: interface: it is missing; write interface = \"vnet3\""),
        ("{ interface = \"vnet3\", mode = \"auto\" }", "mode: unknown key"),
        ("{ interface = \"vnet3\", \"\" = 1 }", "\"\": unknown key"),
        ("{ interface = \"vnet3\", \"a b\" = 1 }", "\"a b\": unknown key"),
        (
            "{ interface = \"vnet3\", take-over = 1 }",
            "take-over: 1 is neither; write true or false",
        ),
        ("{ interface = \"a/b\" }", "interface: \"a/b\" is not an interface name"),
    ] {
        let refused = refusals(&port(device));
        assert!(refused.starts_with("line 8: port vm1") && refused.contains(refusal), "{refused}");
    }
    let twice = port("{ interface = \"vnet3\" }")
        + "[[port]]\nname = \"vm2\"\nchannel = \"up0\"\nmode = \"veb\"\n\
           device = { tap = { interface = \"vnet3\" } }\n";
    assert!(refusals(&twice).contains("interface \"vnet3\" is already that of port vm1"));
}

#[test]
fn an_xdp_device_has_an_interface_and_perhaps_a_mode() {
    let link = |device: &str| {
        format!("[[link]]\nname = \"up0\"\nrole = \"station\"\ndevice = {{ xdp = {device} }}\n")
    };
    let read = |device| config::parse(&link(device)).unwrap().links()[0].device.clone();
    for (device, mode) in [
        ("{ interface = \"eth1\" }", xdp::Mode::Auto),
        ("{ interface = \"eth1\", mode = \"auto\" }", xdp::Mode::Auto),
        (
            "{ interface = \"eth1\", mode = \"zero-copy\" }",
            xdp::Mode::Only(xdp::DataPath::ZeroCopy),
        ),
        ("{ interface = \"eth1\", mode = \"copy\" }", xdp::Mode::Only(xdp::DataPath::Copy)),
        ("{ interface = \"eth1\", mode = \"generic\" }", xdp::Mode::Only(xdp::DataPath::Generic)),
    ] {
        let interface = "eth1".to_owned();
        let hosts_own = HostsOwn::Refuse;
        assert_eq!(read(device), Some(DeviceConfig::Xdp { interface, mode, hosts_own }));
    }
    let taken = read("{ interface = \"eth1\", take-over = true }");
    let takes_over = matches!(taken, Some(DeviceConfig::Xdp { hosts_own: HostsOwn::TakeOver, .. }));
    assert!(takes_over, "{taken:?}");
    for (device, refusal) in [
        ("7", "device: xdp is not a table"),
        ("{}", "device xdp: interface: it is missing; write interface = \"eth1\""),
        ("{ interface = \"eth1\", queues = 2 }", "queues: unknown key"),
        (
            "{ interface = \"eth1\", mode = \"zerocopy\" }",
            "mode: \"zerocopy\" is not a mode of xdp (did you mean zero-copy?); \
             write auto, zero-copy, copy or generic",
        ),
        ("{ interface = \"a/b\" }", "interface: \"a/b\" is not an interface name"),
    ] {
        let refused = refusals(&link(device));
        assert!(refused.starts_with("line 4: link up0") && refused.contains(refusal), "{refused}");
    }
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
        r#"line 2: switch: nmae: unknown key (did you mean name?); known keys are name, workers, poll, api, api-others, metrics, state-dir, fdb
line 3: switch: workers: CPU 1 is there twice; write CPU numbers, each once, as [1, 2]
line 4: switch: poll: "lazy" is not a poll policy; write adaptive or busy
line 5: switch: api: "tcp:127.0.0.1:80" is not an address; write unix: and an absolute path of at most 107 bytes, as "unix:/run/hairpin/api.sock"
line 6: switch fdb: capacity: 1 is out of range; write a number from 64 to 16777216
line 6: switch fdb: ageing: "300" is not an ageing time; write a span from "1s" to "1000000s", in ms, s, m or h, as "300s"
line 9: link up0: role: "statoin" is not a role (did you mean station?); write station or bridge
line 10: link up0: mtu: 20 is out of range; write a number from 68 to 65521
line 13: port vm1: chanel: unknown key (did you mean channel?); known keys are name, channel, bridge, mirror, mode, device, mac, vlan, learn-limit, admin
line 14: port vm1: mode: "vebb" is not a mode (did you mean veb?); write veb, vepa, private or direct
line 15: port vm1: device vhost-user: role: it is missing; write role = "client" or "server"
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
             link's name, or bridge = a bridge's, or mirror = a mirror's",
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
             links, channels, ports, bridges and mirrors share one namespace: rename one",
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
            "[[bridge]]\nname = \"br1\"\nmembers = [{}]".to_owned(),
            "line 27: bridge br1: member: channel: it is missing, and so is link; write \
             { link = \"sbp0\" } or { channel = \"blue\" }",
        ),
        (
            "[[bridge]]\nname = \"br1\"\nmembers = [{ channel = \"a b\" }]".to_owned(),
            "line 27: bridge br1: member: channel: \"a b\" is not a name; write 1 to 64 letters, \
             digits, '-', '_' or '.', a letter or digit first",
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
fn whole_numbers_count_in_the_radix_they_are_written_in() {
    let red = "[[channel]]\nname = \"red\"\nlink = \"up0\"\nsvid = 0x65\n";
    let access = port("channel = \"red\"\nmode = \"veb\"\nvlan = { access = 0x10 }");
    let desired = config::parse(&format!("{SITE}{red}{access}")).unwrap();
    let svids: Vec<u16> =
        desired.channels().iter().filter_map(|channel| channel.svid).map(SVid::get).collect();
    assert_eq!(svids, [100, 100, 101]);
    let id = |number| VlanId::new(number).unwrap();
    assert_eq!(desired.config().ports[1].vlan, VlanConfig::Access(id(16)));

    let trunk = "channel = \"up0\"\nmode = \"veb\"\nvlan = { trunk = [0b11, 1_0], native = 0o24 }";
    let desired = config::parse(&format!("{SITE}{}", port(trunk))).unwrap();
    let trunk = VlanConfig::Trunk { members: vec![id(3), id(10)], native: Some(id(20)) };
    assert_eq!(desired.config().ports[1].vlan, trunk);
}

#[test]
fn wrong_numbers_are_shown_as_they_are_written() {
    assert_refused(&[
        (
            "[[channel]]\nname = \"red\"\nlink = \"up0\"\nsvid = 0x64".to_owned(),
            "line 28: channel red: svid: S-VID 100 is already channel blue of this link; give \
             each channel of a link its own S-VID",
        ),
        (
            "[[channel]]\nname = \"red\"\nlink = \"up0\"\nsvid = 0xfff".to_owned(),
            "line 28: channel red: svid: 0xfff is not an S-VID; write a number from 2 to 4094; \
             S-VID 1 is the default channel, which exists by itself",
        ),
        (
            port("channel = \"up0\"\nmode = \"veb\"\nvlan = { access = 0o7777 }"),
            "line 30: port vm2: vlan: access: 0o7777 is not a VLAN; write a number from 1 to \
             4094 (0 means no VLAN, 4095 is reserved)",
        ),
        (
            port("channel = \"up0\"\nmode = \"veb\"\nlearn-limit = 0xffffffff"),
            "line 30: port vm2: learn-limit: 0xffffffff is out of range; write a number from 1 \
             to 1048576",
        ),
    ]);
}

#[test]
fn wrong_vlans_are_refused_precisely() {
    let vlan = |vlan: &str| port(&format!("channel = \"up0\"\nmode = \"veb\"\nvlan = {vlan}"));
    assert_refused(&[
        (
            vlan("{ trunk = [0] }"),
            "line 30: port vm2: vlan: trunk: 0 is not a VLAN; write a number from 1 to 4094 \
             (0 means no VLAN, 4095 is reserved)",
        ),
        (
            vlan("{ trunk = [\"10-4095\"] }"),
            "line 30: port vm2: vlan: trunk: \"4095\" in \"10-4095\" is not a VLAN; write a \
             number from 1 to 4094 (0 means no VLAN, 4095 is reserved)",
        ),
        (
            vlan("{ trunk = [10], native = 0 }"),
            "line 30: port vm2: vlan: native: 0 is not a VLAN; write a number from 1 to 4094 \
             (0 means no VLAN, 4095 is reserved)",
        ),
        (
            vlan("{ trunk = [10], native = 4095 }"),
            "line 30: port vm2: vlan: native: 4095 is not a VLAN; write a number from 1 to 4094 \
             (0 means no VLAN, 4095 is reserved)",
        ),
    ]);
}

#[test]
fn a_second_port_in_a_direct_channel_is_refused_whichever_comes_first() {
    let pair = |first: &str, second: &str| {
        let third = port(&format!("channel = \"blue\"\nmode = \"{second}\"\n"));
        let third = third.replace("vm2", "vm3").replace("tap2", "tap3");
        port(&format!("channel = \"blue\"\nmode = \"{first}\"\n")) + &third
    };
    assert_refused(&[
        (
            pair("direct", "veb"),
            "line 33: port vm3: channel: channel blue belongs to vm2, whose mode is direct; a \
             direct port is the only port of its channel: use another channel, or another mode",
        ),
        (
            pair("veb", "direct"),
            "line 28: port vm2: channel: channel blue belongs to vm3, whose mode is direct; a \
             direct port is the only port of its channel: use another channel, or another mode",
        ),
        (
            pair("direct", "direct"),
            "line 33: port vm3: channel: channel blue belongs to vm2, whose mode is direct; a \
             direct port is the only port of its channel: use another channel, or another mode",
        ),
    ]);
}

#[test]
fn a_name_is_one_object_s() {
    let named = |name| port("channel = \"up0\"\nmode = \"veb\"\n").replace("vm2", name);
    assert_refused(&[
        (
            named("blue"),
            "line 26: port blue: name: \"blue\" is already the name of a channel in line 9; \
             links, channels, ports, bridges and mirrors share one namespace: rename one",
        ),
        (
            named("vm1"),
            "line 26: port vm1: name: \"vm1\" is already the name of a port in line 20; links, \
             channels, ports, bridges and mirrors share one namespace: rename one",
        ),
        (
            "[[link]]\nname = \"br0\"\nrole = \"station\"\n".to_owned(),
            "line 26: link br0: name: \"br0\" is already the name of a bridge in line 17; links, \
             channels, ports, bridges and mirrors share one namespace: rename one",
        ),
    ]);
}

#[test]
fn an_interface_name_that_no_device_takes_is_refused() {
    let on =
        |interface: &str| port("channel = \"up0\"\nmode = \"veb\"\n").replace("tap2", interface);
    let said = |interface: &str| {
        format!(
            "line 27: port vm2: device tap: interface: {interface:?} is not an interface name; \
             write 1 to 15 printable ASCII characters without '/', ':', '%' or blanks"
        )
    };
    for interface in ["täp2", "tap 2", "tap/2", "tap:2", "tap%d", "..", "", "sixteen-bytes-16"] {
        assert_eq!(refusals_behind_site(&on(interface)), said(interface));
    }
    assert!(config::parse(&format!("{SITE}{}", on("fifteen-bytes15"))).is_ok());
}

#[test]
fn a_rate_for_what_is_not_reflected_is_refused() {
    let bridge = |keys: &str| {
        format!("[[bridge]]\nname = \"br1\"\nmembers = [{{ channel = \"sbp0-blue\", {keys} }}]")
    };
    let said = "line 27: bridge br1: member: reflected-group-rate: nothing is reflected while \
                reflective-relay is off; write reflective-relay = \"on\", or leave the rate out";
    assert_refused(&[
        (bridge("reflected-group-rate = 10"), said),
        (bridge("reflective-relay = \"off\", reflected-group-rate = 10"), said),
        (
            bridge("reflective-relay = \"auto\", reflected-group-rate = 10"),
            "line 27: bridge br1: member: reflective-relay: \"auto\" comes with EVB; write on or \
             off for now",
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

/// Every key there is, each with a right value.
const EVERYTHING: &str = r#"[switch]
name = "host1"
workers = [1, 2]
poll = "busy"
api = "unix:/run/hairpin/api.sock"
state-dir = "/var/lib/hairpin"
fdb = { capacity = 4096, ageing = "300s" }
[[link]]
name = "up0"
role = "station"
mtu = 1500
admin = "up"
device = { tap = { interface = "tap0" } }
[[link]]
name = "sbp0"
role = "bridge"
device = { tap = { interface = "tap9" } }
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
members = [
  { link = "sbp0" },
  { channel = "sbp0-blue", reflective-relay = "on", reflected-group-rate = 10 },
]
[[port]]
name = "vm1"
channel = "up0"
mode = "veb"
mac = ["52:54:00:00:00:01", "52:54:00:00:00:11"]
vlan = { trunk = [10, "20-29"], native = 10 }
device = { tap = { interface = "tap1" } }
[[port]]
name = "vm2"
bridge = "br0"
vlan = { access = 10 }
learn-limit = 8
admin = "down"
device = { tap = { interface = "tap2" } }
"#;

/// Texts that stand for what people and programs get wrong.
const PIECES: &[&str] = &[
    "",
    "0",
    "1",
    "-1",
    "4095",
    "4096",
    "65536",
    "99999999999999999999",
    "1.5",
    "nan",
    "true",
    "1979-05-27",
    "\"\"",
    "\"up0\"",
    "\"vm1\"",
    "\"auto\"",
    "\"20-29\"",
    "\"-\"",
    "\"ü\"",
    "\"\\u0000\"",
    "[]",
    "[[]]",
    "{}",
    "{ x = 1 }",
    "[",
    "]",
    "{",
    "}",
    "=",
    "\"",
    "'",
    "#",
    "\n",
    ".",
    ",",
    "é",
    "\u{feff}",
    "\0",
    "[[port]]",
    "[port]",
    "[switch.fdb]",
    "name = \"vm1\"",
    "link = \"up0\"",
    "mtu = 9000",
    "device = { tap = {} }",
    "device = { tap = { interface = \"/\" } }",
    "vlan = {}",
    "fdb = {}",
];

/// One thing done to a text.
#[derive(Clone, Debug)]
enum Edit {
    /// A line goes.
    Drop(Index),
    /// A line comes again somewhere.
    Copy(Index, Index),
    /// The value of a line, behind its first `=`, is another.
    Value(Index, &'static str),
    /// Something stands where some characters stood.
    Splice(Index, usize, &'static str),
    /// The file ends here.
    Cut(Index),
}

fn edit() -> impl Strategy<Value = Edit> {
    prop_oneof![
        1 => any::<Index>().prop_map(Edit::Drop),
        1 => any::<(Index, Index)>().prop_map(|(from, to)| Edit::Copy(from, to)),
        4 => (any::<Index>(), select(PIECES)).prop_map(|(line, piece)| Edit::Value(line, piece)),
        4 => (any::<Index>(), 0..4_usize, select(PIECES))
            .prop_map(|(at, count, piece)| Edit::Splice(at, count, piece)),
        1 => any::<Index>().prop_map(Edit::Cut),
    ]
}

impl Edit {
    fn make(&self, text: &str) -> String {
        let mut lines: Vec<String> = text.split('\n').map(str::to_owned).collect();
        let mut characters: Vec<char> = text.chars().chain(['\n']).collect();
        match self {
            Edit::Drop(line) => drop(lines.remove(line.index(lines.len()))),
            Edit::Copy(from, to) => {
                let line = lines[from.index(lines.len())].clone();
                lines.insert(to.index(lines.len()), line);
            }
            Edit::Value(line, piece) => {
                let index = line.index(lines.len());
                let line = &mut lines[index];
                if let Some((key, _)) = line.split_once('=') {
                    *line = format!("{key}= {piece}");
                }
            }
            Edit::Splice(at, count, piece) => {
                let at = at.index(characters.len());
                let end = (at + count).min(characters.len());
                characters.splice(at..end, piece.chars());
                return characters.into_iter().collect();
            }
            Edit::Cut(at) => {
                characters.truncate(at.index(characters.len()));
                return characters.into_iter().collect();
            }
        }
        lines.join("\n")
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 4096,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn whatever_is_wrong_is_said_with_its_place_and_a_remedy(edits in vec(edit(), 1..6)) {
        prop_assert!(config::parse(EVERYTHING).is_ok());
        let text = edits.iter().fold(EVERYTHING.to_owned(), |text, edit| edit.make(&text));
        let Err(errors) = config::parse(&text) else { return Ok(()) };
        prop_assert!(!errors.errors().is_empty());
        let lines = text.split('\n').count();
        for error in errors.errors() {
            let line = error.line.map_or(0, |line| line as usize);
            prop_assert!((1..=lines).contains(&line), "{error} in\n{text}");
            // Only what is no TOML is of no field.
            let is_syntax = error.object == "configuration";
            prop_assert!(is_syntax || !error.field.is_empty(), "{error} in\n{text}");
            let said = [&error.object, &error.problem, &error.remedy];
            prop_assert!(said.iter().all(|said| !said.trim().is_empty()), "{error} in\n{text}");
        }
    }
}
