//! `kvm-host.toml`: VMs of two tenants and a firewall, and what is behind eth1.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use hairpin_bench::front_end::Layout;
use hairpin_dataplane::sys::packet_socket::Direction;
use hairpin_tests::bed::{
    Daemon, Frame, Namespace, Recorder, await_state, eventually, root, send_frame,
};

use crate::example::Example;
use crate::guest::Guest;
use crate::reach::{BROADCAST, MOMENT, frame, tagged};

const WEB1: [u8; 6] = [0x52, 0x54, 0, 0, 0x0a, 1];
const WEB2: [u8; 6] = [0x52, 0x54, 0, 0, 0x0a, 2];
const DATABASE: [u8; 6] = [0x52, 0x54, 0, 0, 0x14, 1];
const FIREWALL: [u8; 6] = [0x52, 0x54, 0, 0, 0xff, 1];
/// Somebody behind eth1.
const ELSEWHERE: [u8; 6] = [0x52, 0x54, 0, 0, 0xee, 1];
const TENANTS: [u16; 2] = [10, 20];

/// A netdev whose peer is the switch, and what came to it.
struct Wire {
    namespace: Namespace,
    interface: &'static str,
    recorder: Recorder,
}

impl Wire {
    fn new(namespace: Namespace, interface: &'static str) -> Wire {
        namespace.ip(&format!("link set {interface} up")).unwrap();
        let recorder = Recorder::start(&namespace, interface).unwrap();
        Wire { namespace, interface, recorder }
    }

    fn send(&self, frame: &[u8]) {
        send_frame(&self.namespace, self.interface, frame).unwrap();
    }

    #[track_caller]
    fn await_frame(&self, what: &str, frame: &[u8]) {
        self.recorder.find(what, |it| is_incoming(it, frame)).unwrap();
    }

    fn arrivals(&self, frame: &[u8]) -> usize {
        self.recorder.collect(MOMENT, |it| is_incoming(it, frame)).len()
    }
}

fn is_incoming(seen: &Frame, frame: &[u8]) -> bool {
    seen.direction == Direction::Incoming && seen.bytes == frame
}

/// The example, and everybody in it.
struct Site {
    daemon: Daemon,
    web1: Guest,
    web2: Guest,
    database: Guest,
    firewall: Wire,
    network: Wire,
}

impl Site {
    fn start() -> Site {
        // CPUs that a test's machine has.
        let example = Example::read("kvm-host.toml").with("workers = [2, 3]", "workers = [0, 1]");
        let daemon = example.start(Namespace::new().unwrap());
        let network = Namespace::new().unwrap();
        let far = format!("type veth peer name far1 netns {}", network.name());
        daemon.namespace().ip(&format!("link add eth1 {far}")).unwrap();
        daemon.namespace().ip("link set eth1 up").unwrap();
        let firewall = Namespace::new().unwrap();
        daemon.namespace().give("tap-firewall", &firewall).unwrap();
        let guest = |name: &str, layout: Layout, mac| {
            let socket = daemon.directory().join(format!("{name}.sock"));
            assert_for_kvm(&socket);
            Guest::connect(&socket, layout, mac)
        };
        let web1 = guest("web1", Layout { pairs: 2, ..Layout::SPLIT }, WEB1);
        let web2 = guest("web2", Layout { pairs: 2, ..Layout::PACKED }, WEB2);
        let database = guest("database", Layout::SPLIT, DATABASE);
        let firewall = Wire::new(firewall, "tap-firewall");
        let network = Wire::new(network, "far1");
        for name in ["web1", "web2", "database", "firewall"] {
            await_state(&daemon, &format!("port {name}"), "up");
        }
        await_state(&daemon, "link up0", "up");
        Site { daemon, web1, web2, database, firewall, network }
    }
}

/// The VMM's group is the socket's, and others have no part in it.
fn assert_for_kvm(socket: &Path) {
    let groups = std::fs::read_to_string("/etc/group").unwrap();
    let number = groups.lines().find_map(|line| line.strip_prefix("kvm:x:")?.split(':').next());
    let file = std::fs::metadata(socket).unwrap();
    assert_eq!(Some(&*file.gid().to_string()), number);
    assert_eq!(file.permissions().mode() & 0o777, 0o660);
}

#[test]
fn tenants_reach_their_own_and_what_is_elsewhere_with_their_tag() {
    let Some(_root) = root() else { return };
    let mut site = Site::start();
    let Site { web1, web2, database, firewall, network, .. } = &mut site;
    let hello = frame(WEB2, WEB1, "to the same tenant");
    web1.send(&hello);
    web2.await_frame("the neighbour's frame", |it| it == hello);
    let answer = frame(WEB1, WEB2, "back");
    web2.send(&answer);
    web1.await_frame("the neighbour's answer", |it| it == answer);
    // Neither left.
    assert_eq!([&hello, &answer].map(|it| network.arrivals(&tagged(it, 10))), [0, 0]);

    let all = frame(BROADCAST, WEB1, "to all of the tenant");
    web1.send(&all);
    web2.await_frame("a broadcast", |it| it == all);
    network.await_frame("a broadcast with its tag", &tagged(&all, 10));
    firewall.await_frame("a broadcast with its tag", &tagged(&all, 10));
    assert_eq!(database.arrivals(&all), 0);

    for (guest, vid) in [(web1, TENANTS[0]), (database, TENANTS[1])] {
        let out = frame(ELSEWHERE, guest.mac, "out");
        guest.send(&out);
        network.await_frame("a frame for elsewhere", &tagged(&out, vid));
        let back = frame(guest.mac, ELSEWHERE, "in");
        let other = TENANTS.into_iter().find(|&it| it != vid).unwrap();
        network.send(&tagged(&back, other));
        assert_eq!(guest.arrivals(&back), 0);
        network.send(&tagged(&back, vid));
        guest.await_frame("a frame from elsewhere", |it| it == back);
    }
    site.daemon.stop().unwrap();
}

#[test]
fn only_the_firewall_is_between_tenants_and_nobody_sends_as_another() {
    let Some(_root) = root() else { return };
    let mut site = Site::start();
    let Site { daemon, web1, web2, database, firewall, network } = &mut site;
    let across = frame(DATABASE, WEB1, "past the firewall");
    web1.send(&across);
    let through = frame(FIREWALL, WEB1, "to the firewall");
    web1.send(&through);
    firewall.await_frame("a frame with its tag", &tagged(&through, 10));
    assert_eq!(database.arrivals(&across), 0);
    let on = frame(DATABASE, FIREWALL, "by the firewall");
    firewall.send(&tagged(&on, 20));
    database.await_frame("the firewall's frame", |it| it == on);
    let drops = |daemon: &Daemon, port: &str, reason: &str| {
        daemon.count(port, &format!("/drops/{reason}")).unwrap()
    };
    firewall.send(&tagged(&frame(BROADCAST, FIREWALL, "to nobody's VLAN"), 30));
    eventually("a refusal", || drops(daemon, "firewall", "vlan_not_member") > 0).unwrap();

    let pretended = frame(BROADCAST, WEB2, "as somebody else");
    web1.send(&pretended);
    eventually("a refusal", || drops(daemon, "web1", "source_not_registered") > 0).unwrap();
    assert_eq!(web2.arrivals(&pretended), 0);
    assert_eq!(network.arrivals(&tagged(&pretended, 10)), 0);
    assert_scraped(daemon);
    site.daemon.stop().unwrap();
}

/// Asserts that Prometheus finds metrics at the host's own address.
fn assert_scraped(daemon: &Daemon) {
    let scrape = || {
        let mut stream = TcpStream::connect("127.0.0.1:9750")?;
        write!(stream, "GET /metrics HTTP/1.1\r\nHost: hairpin\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).map(|_| answer)
    };
    let answer = daemon.namespace().enter(scrape).unwrap().unwrap();
    for name in ["web1", "web2", "database", "firewall", "up0"] {
        assert!(answer.contains(&format!("port=\"{name}\"")), "{answer}");
    }
}
