//! vhost-user devices as configured: what is read, and what is said of each that is wrong.

// Helpers of tests are tests: a failure there is the message.
#![allow(clippy::unwrap_used)]

use hairpin::config::vhost_user::{Account, SocketAccess, SocketRole, VhostUserConfig};
use hairpin::config::{self, Config, Desired, DeviceConfig, LinkConfig, LinkRole, PortConfig};
use hairpin::switch::diff::Diff;
use hairpin_dataplane::snapshot::Mode;

/// A port whose device begins in line 8.
fn site(device: &str) -> String {
    format!(
        "[[link]]\nname = \"up0\"\nrole = \"station\"\n[[port]]\nname = \"vm1\"\n\
         channel = \"up0\"\nmode = \"veb\"\ndevice = {{ vhost-user = {device} }}\n"
    )
}

fn read(device: &str) -> VhostUserConfig {
    let desired = config::parse(&site(device)).unwrap();
    let DeviceConfig::VhostUser(read) = desired.ports()[0].device.clone() else {
        panic!("another kind of device");
    };
    read
}

fn refusal(text: &str) -> String {
    config::parse(text).expect_err("it is wrong").to_string()
}

#[test]
fn either_end_is_read_with_what_it_leaves_out() {
    let client = VhostUserConfig::client("/run/vm1.sock");
    assert_eq!(read(r#"{ socket = "/run/vm1.sock", role = "client" }"#), client);
    let wide = VhostUserConfig { queues: 16, ..client };
    assert_eq!(read(r#"{ socket = "/run/vm1.sock", role = "client", queues = 16 }"#), wide);
    let server = VhostUserConfig::server("/run/vm1.sock", SocketAccess::default());
    assert_eq!(read(r#"{ socket = "/run/vm1.sock", role = "server" }"#), server);
    assert_eq!(SocketAccess::default().mode, 0o660);
    let access = SocketAccess {
        mode: 0o606,
        owner: Some(Account::Name("libvirt-qemu".to_owned())),
        group: Some(Account::Number(64055)),
    };
    let whole = r#"{ socket = "/run/vm1.sock", role = "server", socket-mode = "0606",
                     owner = "libvirt-qemu", group = 64055 }"#
        .replace('\n', " ");
    assert_eq!(read(&whole).role, SocketRole::Server(access.clone()));
    // A number is one in quotes, too.
    assert_eq!(read(&whole.replace("64055", "\"64055\"")).role, SocketRole::Server(access));
}

#[test]
fn everything_that_is_wrong_is_refused_precisely() {
    let path = |path: &str| format!(r#"{{ socket = "{path}", role = "client" }}"#);
    let server = |keys: &str| format!(r#"{{ socket = "/run/a", role = "server", {keys} }}"#);
    let remedy = "write an absolute path of at most 107 bytes to a file's name";
    let mode = "is not a socket's mode; write permission bits in octal and in quotes, as \"0660\"";
    let account = "write a name in quotes, as \"libvirt-qemu\", or a number";
    let long = format!("/{}", "x".repeat(107));
    for (device, said) in [
        ("7".to_owned(), "port vm1: device: vhost-user is not a table".to_owned()),
        (
            r#"{ role = "client" }"#.to_owned(),
            "socket: it is missing; write socket = \"/run/hairpin/vm1.sock\"".to_owned(),
        ),
        (
            r#"{ socket = "/run/a" }"#.to_owned(),
            "role: it is missing; write role = \"client\" or \"server\"".to_owned(),
        ),
        (
            r#"{ socket = "/run/a", role = "servr" }"#.to_owned(),
            "role: \"servr\" is not a role (did you mean server?); write client or server"
                .to_owned(),
        ),
        (path("run/a"), format!("socket: \"run/a\" is not absolute; {remedy}")),
        (path(""), format!("socket: \"\" is not absolute; {remedy}")),
        (path("/run/"), format!("socket: \"/run/\" does not name a socket; {remedy}")),
        (
            path(&long),
            format!("socket: {long:?} has 108 bytes, more than a socket's path can; {remedy}"),
        ),
        (server("queues = 0"), "queues: 0 is out of range; write a number from 1 to 16".into()),
        (server("queues = 17"), "queues: 17 is out of range; write a number from 1 to 16".into()),
        (server("socket-mode = 660"), format!("socket-mode: 660 {mode}")),
        (server("socket-mode = \"0680\""), format!("socket-mode: \"0680\" {mode}")),
        (server("socket-mode = \"1777\""), format!("socket-mode: \"1777\" {mode}")),
        (server("socket-mode = \"60\""), format!("socket-mode: \"60\" {mode}")),
        (server("owner = -1"), format!("owner: -1 is out of range; {account}")),
        (server("owner = \"4294967295\""), format!("is out of range; {account}")),
        (server("owner = \"a:b\""), "owner: \"a:b\" is not a name of a user or group".to_owned()),
        (server("group = true"), format!("group: true is out of range; {account}")),
        (server("mode = \"0660\""), "mode: unknown key".to_owned()),
        (
            r#"{ socket = "/run/a", role = "client", socket-mode = "0660" }"#.to_owned(),
            "socket-mode: with role client the VMM makes the socket, and says who may use it; \
             leave it out, or write role = \"server\""
                .to_owned(),
        ),
        (
            r#"{ socket = "/run/a", role = "client", group = 7 }"#.to_owned(),
            "group: with role client the VMM makes the socket".to_owned(),
        ),
    ] {
        let refused = refusal(&site(&device));
        assert!(refused.starts_with("line 8: port vm1: device"), "{device}: {refused}");
        assert!(refused.contains(&said), "{device}: {refused}, not {said}");
    }
}

#[test]
fn a_socket_is_one_port_s_and_no_link_s_nor_the_api_s() {
    let socket = r#"{ socket = "/run/a", role = "client" }"#;
    let second = format!(
        "[[port]]\nname = \"vm2\"\nchannel = \"up0\"\nmode = \"veb\"\n\
         device = {{ vhost-user = {} }}\n",
        r#"{ socket = "/run/a", role = "server" }"#
    );
    assert_eq!(
        refusal(&(site(socket) + &second)),
        "line 13: port vm2: device: socket \"/run/a\" is already that of port vm1; give each its \
         own"
    );
    let api = format!("[switch]\napi = \"unix:/run/a\"\n{}", site(socket));
    assert_eq!(
        refusal(&api),
        "line 10: port vm1: device: socket \"/run/a\" is already that of the API; give each its \
         own"
    );
    let link = "[[link]]\nname = \"up0\"\nrole = \"station\"\n\
                device = { vhost-user = { socket = \"/run/a\", role = \"client\" } }\n";
    assert_eq!(
        refusal(link),
        "line 4: link up0: device: vhost-user devices are for ports: a link is a cable to another \
         switch, and knows no VM that may come and go; write a tap, packet or xdp device here, and \
         a [[port]] for the VM"
    );
}

/// What a program writes, without a file.
fn program(device: VhostUserConfig) -> Config {
    let device = DeviceConfig::VhostUser(device);
    Config {
        links: vec![LinkConfig::new("up0", LinkRole::Station, None)],
        ports: vec![PortConfig::station("vm1", "up0", Mode::Veb, device)],
        ..Config::default()
    }
}

#[test]
fn what_a_program_writes_is_held_to_the_same_bounds() {
    let refused = |device| Desired::try_from(program(device)).unwrap_err().to_string();
    let client = VhostUserConfig::client("/run/a");
    assert_eq!(
        refused(VhostUserConfig { queues: 17, ..client.clone() }),
        "port vm1: device: queues: 17 is out of range; take 1 to 16"
    );
    assert_eq!(
        refused(VhostUserConfig { socket: "run/a".into(), ..client.clone() }),
        "port vm1: device: socket: \"run/a\" is no path of a socket; take an absolute path of at \
         most 107 bytes"
    );
    assert!(Desired::try_from(program(client)).is_ok());
}

#[test]
fn another_socket_or_other_queues_are_disruptive() {
    let client = VhostUserConfig::client("/run/a");
    let diff = |new| Diff::between(&program(client.clone()), &program(new)).to_string();
    let wide = VhostUserConfig { queues: 2, ..client.clone() };
    assert_eq!(diff(wide), "! port vm1: device (disruptive)");
    assert_eq!(diff(VhostUserConfig::client("/run/b")), "! port vm1: device (disruptive)");
    assert_eq!(diff(client.clone()), "nothing changes");
}
