//! The unit, under systemd, in a machine of its own.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;

use hairpin_bench::front_end::Layout;
use hairpin_tests::bed::{Host, Machine, Namespace, eventually, mac_bytes, mac_text, root};

use crate::guest::Guest;
use crate::reach::assert_reach;

const LOCAL: &str = "[switch]\nname = \"unit\"\n[[link]]\nname = \"up0\"\nrole = \"station\"\n";
/// As an ordinary user runs programs.
const NOBODY: &str = "setpriv --reuid=65534 --regid=65534";

/// Boots a machine with what `dist` has, this configuration and this drop-in, and starts the
/// service as an operator would.
fn serve(configuration: &str, drop_in: &str) -> Machine {
    let dist = Path::new(env!("CARGO_MANIFEST_DIR")).join("../control/dist");
    let read = |name: &str| fs::read_to_string(dist.join(name)).unwrap();
    let lock = lock();
    let machine = Machine::boot(&[
        ("systemd/system/hairpin.service", &read("hairpin.service")),
        ("sysusers.d/hairpin.conf", &read("hairpin.sysusers")),
        // VMMs' group is there where QEMU or libvirt is.
        ("sysusers.d/kvm.conf", "g kvm -\n"),
        ("tmpfiles.d/hairpin.conf", &read("hairpin.tmpfiles")),
        ("systemd/system/hairpin.service.d/test.conf", &format!("[Service]\n{drop_in}{lock}")),
        ("hairpin/hairpin.toml", configuration),
    ])
    .unwrap();
    machine.run("systemctl enable --now hairpin").unwrap();
    machine
}

/// What stands for LimitMEMLOCK= where root may not raise it, as in a container.
fn lock() -> &'static str {
    let raised = Command::new("prlimit").args(["--memlock=unlimited", "true"]).output().unwrap();
    match raised.status.success() {
        true => "",
        false => "CapabilityBoundingSet=CAP_IPC_LOCK\nAmbientCapabilities=CAP_IPC_LOCK\n",
    }
}

/// A property of the service, as systemd has it.
fn property(machine: &Machine, name: &str) -> String {
    let said = machine.run(&format!("systemctl show hairpin --value --property={name}")).unwrap();
    said.trim().to_owned()
}

/// A field of the daemon's `/proc/PID/status`.
fn field(machine: &Machine, name: &str) -> String {
    let pid = property(machine, "MainPID");
    let status = machine.run(&format!("cat /proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(&format!("{name}:")));
    line.unwrap().trim().to_owned()
}

#[test]
fn the_service_is_ready_when_started_and_only_its_group_may_change_it() {
    let Some(_root) = root() else { return };
    if !Machine::can_be_had() {
        return;
    }
    let machine = serve(LOCAL, "");
    // Not earlier than the daemon has said so.
    assert_eq!(property(&machine, "ActiveState"), "active");
    assert_eq!(property(&machine, "StatusText"), "0 ports, 1 links");
    let owners = machine.run("stat --format=%U:%G:%a /run/hairpin /var/lib/hairpin").unwrap();
    assert_eq!(owners, "hairpin:hairpin:755\nhairpin:hairpin:750\n");
    let given = u64::from_str_radix(&field(&machine, "CapEff"), 16).unwrap();
    let expected = 5 + u32::from(!lock().is_empty());
    assert_eq!((given.count_ones(), field(&machine, "NoNewPrivs")), (expected, "1".to_owned()));
    assert_eq!(field(&machine, "Seccomp"), "2");
    let pid = property(&machine, "MainPID");
    let mounts = machine.run(&format!("cat /proc/{pid}/mounts")).unwrap();
    let is_root = |line: &&str| line.split(' ').nth(1) == Some("/");
    let options = mounts.lines().rfind(is_root).and_then(|line| line.split(' ').nth(3)).unwrap();
    assert!(options.split(',').any(|it| it == "ro"), "{mounts}");

    let add = "hairpin link add up1 role=station";
    assert!(machine.run(&format!("{NOBODY} --clear-groups hairpin link list")).is_ok());
    let refused = machine.run(&format!("{NOBODY} --clear-groups {add}")).unwrap_err().to_string();
    assert!(refused.contains("hairpin"), "{refused}");
    machine.run(&format!("{NOBODY} --groups hairpin {add}")).unwrap();
    assert_eq!(machine.hairpin("show").unwrap()["revision"], 2);

    let more = "[[link]]\nname = \"up2\"\nrole = \"station\"\n";
    fs::write(machine.path("etc/hairpin/hairpin.toml"), format!("{LOCAL}{more}")).unwrap();
    machine.run("systemctl reload hairpin").unwrap();
    let revision = || machine.hairpin("show").unwrap()["revision"].clone();
    eventually("the file to be applied anew", || revision() == 3).unwrap();
    machine.run("systemctl stop hairpin").unwrap();
    assert_eq!(property(&machine, "ActiveState"), "inactive");
    assert_eq!(property(&machine, "Result"), "success");
    machine.run("systemctl start hairpin").unwrap();
    assert_eq!(revision(), 3);
}

/// Makes host N at the far end of a veth pair whose near end is an interface of the machine.
fn plug(machine: &Machine, interface: &str, number: u8) -> Host {
    let namespace = Namespace::new().unwrap();
    let far = format!("type veth peer name eth0 netns {}", namespace.name());
    machine.namespace().ip(&format!("link add {interface} {far}")).unwrap();
    machine.namespace().ip(&format!("link set {interface} up")).unwrap();
    Host::settle(namespace, "eth0", number).unwrap()
}

/// A port `vmN` in the link's default channel.
fn port(number: u8, device: &str) -> String {
    format!(
        "[[port]]\nname = \"vm{number}\"\nchannel = \"up0\"\nmode = \"veb\"\n\
         device = {{ {device} }}\n"
    )
}

#[track_caller]
fn await_up(machine: &Machine, object: &str, name: &str) {
    let shown = || machine.hairpin(&format!("{object} show {name}"));
    eventually("up", || shown().is_ok_and(|it| it["state"] == "up"))
        .unwrap_or_else(|error| panic!("{object} {name}: {error}: {:?}", shown()));
}

#[test]
fn a_daemon_that_stands_still_or_dies_comes_again_with_what_was_applied() {
    let Some(_root) = root() else { return };
    if !Machine::can_be_had() {
        return;
    }
    let ports = [1, 2].map(|it| port(it, &format!("packet = {{ interface = \"if{it}\" }}")));
    // Sooner than the unit has it, and long enough for a busy machine.
    let machine = serve(&format!("{LOCAL}{}", ports.concat()), "WatchdogSec=5s\n");
    let [one, two] = [1, 2].map(|it| plug(&machine, &format!("if{it}"), it));
    let assert_serving = || {
        await_up(&machine, "port", "vm1");
        await_up(&machine, "port", "vm2");
        assert_reach(&one, &two);
    };
    assert_serving();
    machine.run("hairpin port set vm2 learn-limit=3").unwrap();
    for (count, signal, result) in [("1", "STOP", "watchdog"), ("2", "KILL", "signal")] {
        machine.run(&format!("systemctl kill --signal={signal} --kill-whom=main hairpin")).unwrap();
        let again = || property(&machine, "NRestarts") == count;
        eventually("another start", again).unwrap();
        eventually("an active service", || property(&machine, "ActiveState") == "active").unwrap();
        let journal = machine.journal("hairpin");
        let failed = format!("hairpin.service: Failed with result '{result}'.");
        assert!(journal.contains(&failed), "{journal}");
        assert_eq!(machine.hairpin("show").unwrap()["revision"], 2);
        assert_eq!(machine.hairpin("port show vm2").unwrap()["learn_limit"], 3);
        assert_serving();
    }
    // It was no sign of life that was missing meanwhile.
    assert_eq!(property(&machine, "NRestarts"), "2");
}

/// A port `vmN` that has host N's address: it is flooded with nobody else's frames.
fn registered_port(number: u8, device: &str) -> String {
    format!("{}mac = \"{}\"\n", port(number, device), mac_text(number))
}

/// A port of each kind, and a link: 1 is a TAP, 2 by packet sockets, 3 a guest whose socket the
/// daemon makes, 4 one that makes its own; behind the link is 9.
fn one_of_each() -> String {
    let link = "device = { xdp = { interface = \"if9\" } }\n";
    let socket = |number: u8, role| {
        let path = format!("/run/hairpin/vm{number}.sock");
        format!("vhost-user = {{ socket = \"{path}\", {role} }}")
    };
    [
        LOCAL,
        link,
        &registered_port(1, "tap = { interface = \"tap1\" }"),
        &registered_port(2, "packet = { interface = \"if2\" }"),
        &registered_port(
            3,
            &socket(3, "role = \"server\", group = \"kvm\", socket-mode = \"0660\""),
        ),
        &registered_port(4, &socket(4, "role = \"client\"")),
    ]
    .concat()
}

#[test]
fn every_kind_of_device_works_as_the_unit_has_it_and_no_call_is_forbidden() {
    let Some(_root) = root() else { return };
    if !Machine::can_be_had() {
        return;
    }
    // What the unit refuses with an error kills here.
    let machine = serve(&one_of_each(), "SystemCallErrorNumber=kill\n");
    let tap = Host::plug(machine.namespace(), "tap1", 1).unwrap();
    let [packet, outside] =
        [("if2", 2), ("if9", 9)].map(|(name, number)| plug(&machine, name, number));
    // Nobody tells the other end of AF_XDP what is left to do on a frame.
    let finish = "ethtool -K eth0 tx off gso off tso off rxvlan off txvlan off";
    outside.namespace().run(finish).unwrap();
    let socket = machine.path("run/hairpin/vm3.sock");
    let owner = machine.run("stat --format=%U:%G:%a /run/hairpin/vm3.sock").unwrap();
    assert_eq!(owner, "hairpin:kvm:660\n");
    let mut third = Guest::connect(&socket, Layout::SPLIT, mac_bytes(3));
    let socket = machine.path("run/hairpin/vm4.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    fs::set_permissions(&socket, fs::Permissions::from_mode(0o600)).unwrap();
    let mut fourth = Guest::accept(&listener, Layout::PACKED, mac_bytes(4));
    for number in 1..=4 {
        await_up(&machine, "port", &format!("vm{number}"));
    }
    await_up(&machine, "link", "up0");

    for (from, to) in [(&tap, &packet), (&packet, &outside), (&outside, &tap)] {
        assert_reach(from, to);
    }
    for guest in [&mut third, &mut fourth] {
        for host in [&tap, &packet, &outside] {
            assert_eq!(guest.resolve(*host.mac_bytes().last().unwrap()), host.mac_bytes());
        }
    }
    let frame = crate::reach::frame(fourth.mac, third.mac, "from guest to guest");
    third.send(&frame);
    fourth.await_frame("the other guest's frame", |it| it == frame);
    machine.run("hairpin capture vm1 --seconds 1").unwrap();
    machine.run("hairpin why --in vm1 --dst ff:ff:ff:ff:ff:ff").unwrap();
    machine.run("systemctl stop hairpin").unwrap();
    assert_eq!(property(&machine, "Result"), "success", "{}", machine.journal("hairpin"));
    assert_eq!(property(&machine, "NRestarts"), "0", "{}", machine.journal("hairpin"));
}
