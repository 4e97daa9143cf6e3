//! Cables that are unplugged, flap, or are changed faster than anybody listens.

use std::fs;
use std::io::Write;

use hairpin_tests::bed::{
    Daemon, Family, Flooding, Host, KernelBridge, Namespace, Result, Stream, Workers, assert_apart,
    assert_reach, await_state, eventually, mac_text, root,
};

use crate::bystanders::Bystanders;
use crate::experiment::{BROADCAST, arrivals, frame};
use crate::netdev::{Kind, finish_frames, lay_offloading, show};
use crate::site::{learning_port, local_link, registered_port};

const MEGABYTE: u64 = 1 << 20;

fn unplug(host: &Host) -> Result<()> {
    host.namespace().ip(&format!("link set {} down", host.interface())).map(drop)
}

/// Plugs it in again, with the address that the kernel took from it.
fn plug_in(host: &Host) -> Result<()> {
    let (interface, address) = (host.interface(), host.address(Family::Ipv6));
    host.namespace().ip(&format!("link set {interface} up"))?;
    host.namespace().ip(&format!("addr add {address}/64 dev {interface} nodad")).map(drop)
}

/// Learned addresses of a port.
fn learned(daemon: &Daemon, name: &str) -> Vec<String> {
    let fdb = daemon.hairpin("fdb").unwrap();
    let all = fdb["addresses"].as_array().unwrap().iter();
    let ours = all.filter(|it| it["port"] == name && it["origin"] == "learned");
    ours.map(|it| it["mac"].as_str().unwrap().to_owned()).collect()
}

fn no_carrier(interface: &str) -> String {
    format!("interface {interface} has no carrier (cable unplugged, or its peer is down)")
}

with_one_and_two_workers! {
    a_packet_port_without_carrier_is_down_until_it_has_one
    an_xdp_port_without_carrier_is_down_until_it_has_one
    what_a_link_without_carrier_should_send_is_counted
    what_flaps_and_what_comes_and_goes_hurts_nobody_else
    changes_that_come_too_fast_are_not_lost
}

fn a_packet_port_without_carrier_is_down_until_it_has_one(workers: Workers) {
    let Some(_root) = root() else { return };
    assert_follows_carrier(Kind::Packet, workers);
}

fn an_xdp_port_without_carrier_is_down_until_it_has_one(workers: Workers) {
    let Some(_root) = root() else { return };
    assert_follows_carrier(Kind::Xdp, workers);
}

#[track_caller]
fn assert_follows_carrier(kind: Kind, workers: Workers) {
    let ports = kind.learning_port(1, "veb")
        + &registered_port(2, "up0", "veb")
        + &learning_port(3, "up0", "veb");
    let daemon = Daemon::start(workers, &(local_link() + &ports)).unwrap();
    let [two, three] =
        [2, 3].map(|it| Host::plug(daemon.namespace(), &format!("tap{it}"), it).unwrap());
    let vm1 = || show(&daemon, "port vm1");
    assert_eq!(vm1()["state"], "waiting");
    kind.lay(daemon.namespace(), 1).unwrap();
    await_state(&daemon, "port vm1", "down");
    assert_eq!(vm1()["last_error"], no_carrier("if1"));
    let one = Host::plug(daemon.namespace(), "far1", 1).unwrap();
    await_state(&daemon, "port vm1", "up");
    let reopened = vm1()["reopened"].clone();
    let bystanders = Bystanders::start(&two, &three).unwrap();
    assert_reach(&one, &two);
    assert_eq!(learned(&daemon, "vm1"), [mac_text(1)]);

    unplug(&one).unwrap();
    await_state(&daemon, "port vm1", "down");
    assert_eq!(vm1()["last_error"], no_carrier("if1"));
    assert_eq!(learned(&daemon, "vm1"), [""; 0]);
    let offered = daemon.count("vm1", "/offered").unwrap();
    let flood = frame(BROADCAST, two.mac_bytes(), "to all that are up");
    assert_eq!(arrivals(&two, &flood, &[&three]).unwrap(), [1]);
    assert_eq!(daemon.count("vm1", "/offered").unwrap(), offered, "floods pass it by");
    assert_apart(&two, &one);
    plug_in(&one).unwrap();
    await_state(&daemon, "port vm1", "up");
    assert_reach(&two, &one);
    assert_reach(&one, &three);
    assert_eq!(learned(&daemon, "vm1"), [mac_text(1)]);

    // The near end, likewise.
    daemon.namespace().ip("link set if1 down").unwrap();
    await_state(&daemon, "port vm1", "down");
    let reason = "interface if1 is down (`ip link set if1 up` brings it up)";
    assert_eq!(vm1()["last_error"], reason);
    assert_eq!(learned(&daemon, "vm1"), [""; 0]);
    daemon.namespace().ip("link set if1 up").unwrap();
    await_state(&daemon, "port vm1", "up");
    assert_reach(&one, &two);
    assert_eq!(vm1()["reopened"], reopened, "its sockets stayed");
    bystanders.assert_unhurt();
    daemon.stop().unwrap();
}

fn what_a_link_without_carrier_should_send_is_counted(workers: Workers) {
    let Some(_root) = root() else { return };
    for kind in [Kind::Packet, Kind::Xdp] {
        let up0 = kind.link("station", 0);
        let ports = [
            registered_port(1, "up0", "vepa"),
            registered_port(2, "up0", "veb"),
            registered_port(3, "up0", "veb"),
        ];
        let daemon = Daemon::start(workers, &(up0 + &ports.concat())).unwrap();
        let [one, two, three] =
            [1, 2, 3].map(|it| Host::plug(daemon.namespace(), &format!("tap{it}"), it).unwrap());
        kind.lay(daemon.namespace(), 0).unwrap();
        let bridge = KernelBridge::new(Flooding::Unknown).unwrap();
        bridge.attach(daemon.namespace(), "far0").unwrap();
        let outside = bridge.host(9).unwrap();
        await_state(&daemon, "link up0", "up");
        assert_reach(&one, &outside);
        let bystanders = Bystanders::start(&two, &three).unwrap();

        bridge.namespace().ip("link set far0 down").unwrap();
        await_state(&daemon, "link up0", "down");
        assert_eq!(show(&daemon, "link up0")["last_error"], no_carrier("if0"));
        assert_eq!(show(&daemon, "port vm1")["state"], "up");
        let counts = || {
            let of = |pointer: &str| daemon.count("up0", pointer).unwrap();
            (of("/tx_frames"), of("/drops/port_down"))
        };
        let (sent, dropped) = counts();
        assert_apart(&one, &outside);
        let (sent_now, dropped_now) = counts();
        assert!(sent_now == sent && dropped_now > dropped, "{:?}", counts());

        bridge.namespace().ip("link set far0 up").unwrap();
        await_state(&daemon, "link up0", "up");
        assert_reach(&one, &outside);
        assert_reach(&outside, &two);
        bystanders.assert_unhurt();
        daemon.stop().unwrap();
    }
}

#[test]
fn a_tap_whose_netdev_is_set_down_is_down_and_made_again_if_it_is_deleted() {
    let Some(_root) = root() else { return };
    let ports = learning_port(1, "up0", "veb") + &registered_port(2, "up0", "veb");
    let daemon = Daemon::start(Workers::Two, &(local_link() + &ports)).unwrap();
    let vm1 = || show(&daemon, "port vm1");
    assert_eq!(vm1()["state"], "up");
    for round in 1..=2 {
        daemon.namespace().ip("link set tap1 down").unwrap();
        await_state(&daemon, "port vm1", "down");
        let reason = "interface tap1 is down (`ip link set tap1 up` brings it up)";
        assert_eq!(vm1()["last_error"], reason);
        daemon.namespace().ip("link set tap1 up").unwrap();
        await_state(&daemon, "port vm1", "up");
        daemon.namespace().ip("link set tap1 down").unwrap();
        await_state(&daemon, "port vm1", "down");
        // Nobody reads from one that is down.
        daemon.namespace().ip("link del tap1").unwrap();
        eventually("another tap1", || vm1()["reopened"] == round).unwrap();
        await_state(&daemon, "port vm1", "up");
    }
    // What its guest does with it is the guest's.
    let [one, two] =
        [1, 2].map(|it| Host::plug(daemon.namespace(), &format!("tap{it}"), it).unwrap());
    assert_reach(&one, &two);
    assert_reach(&two, &one);
    assert_eq!(vm1()["state"], "up");
}

/// Runs lines of `ip`, one right behind the other.
fn batch(namespace: &Namespace, lines: &[String]) -> Result<()> {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    writeln!(file, "{}", lines.join("\n")).unwrap();
    namespace.ip(&format!("-batch {}", file.path().display())).map(drop)
}

/// Descriptors that the daemon has open, and KiB of memory it has in use.
fn possessions(daemon: &Daemon) -> (usize, u64) {
    let descriptors = fs::read_dir(format!("/proc/{}/fd", daemon.pid())).unwrap().count();
    let status = fs::read_to_string(format!("/proc/{}/status", daemon.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    (descriptors, line.trim().trim_end_matches(" kB").parse().unwrap())
}

fn what_flaps_and_what_comes_and_goes_hurts_nobody_else(workers: Workers) {
    let Some(_root) = root() else { return };
    let bystanding: String = (3..=6).map(|it| registered_port(it, "up0", "veb")).collect();
    let ports =
        Kind::Packet.learning_port(1, "veb") + &Kind::Xdp.learning_port(2, "veb") + &bystanding;
    let mut daemon = Daemon::start(workers, &(local_link() + &ports)).unwrap();
    let one = Kind::Packet.plug(&daemon, 1).unwrap();
    let two = Kind::Xdp.plug(&daemon, 2).unwrap();
    let [three, four, five, six] =
        [3, 4, 5, 6].map(|it| Host::plug(daemon.namespace(), &format!("tap{it}"), it).unwrap());
    for object in ["port vm1", "port vm2"] {
        await_state(&daemon, object, "up");
    }
    assert_reach(&one, &two);
    let (descriptors, memory) = possessions(&daemon);
    let bystanders = Bystanders::start(&three, &four).unwrap();
    let stream = Stream::start(&five, &six, Family::Ipv4, |_| {}).unwrap();
    let so_far = stream.received();

    let flaps = ["down", "up"].map(|way| format!("link set far1 {way}"));
    let flap = |times: usize| {
        let lines: Vec<String> = flaps.iter().cycle().take(2 * times).cloned().collect();
        batch(one.namespace(), &lines).unwrap();
    };
    std::thread::scope(|scope| {
        scope.spawn(|| flap(200));
        for _ in 0..50 {
            daemon.namespace().ip("link del if2").unwrap();
            lay_offloading(daemon.namespace(), 2).unwrap();
            daemon.namespace().ip("link set far2 up").unwrap();
        }
    });
    let said = || show(&daemon, "port vm1")["last_error"].as_str().unwrap().to_owned();
    // Of those that come between two looks one is seen: a busy machine may have few looks.
    eventually("the flaps seen", || {
        let seen = said().starts_with("interface if1 flaps: ");
        if !seen {
            flap(5);
        }
        seen
    })
    .unwrap();
    // What was free, and one more for each second or two.
    let ups = daemon.log().matches("its interface is up").count();
    assert!(ups < 20, "up {ups} times:\n{}", daemon.log());

    let so_far = stream.received() - so_far;
    eventually("the stream to go on", || stream.received() > so_far + MEGABYTE).unwrap();
    drop(stream);
    bystanders.assert_unhurt();
    two.replug(daemon.namespace()).unwrap();
    finish_frames(two.namespace(), two.interface()).unwrap();
    plug_in(&one).unwrap();
    for object in ["port vm1", "port vm2"] {
        await_state(&daemon, object, "up");
    }
    assert_reach(&one, &two);
    assert_reach(&two, &three);
    assert_reach(&four, &one);
    let now = || possessions(&daemon);
    eventually("its descriptors back", || now().0 == descriptors)
        .unwrap_or_else(|error| panic!("{error}: {descriptors} before, {} now", now().0));
    let grown = now().1.saturating_sub(memory);
    assert!(grown < 8 << 10, "it has {grown} KiB more than before");
    assert!(daemon.is_running());
}

fn changes_that_come_too_fast_are_not_lost(workers: Workers) {
    let Some(_root) = root() else { return };
    let ports = Kind::Packet.learning_port(1, "veb") + &registered_port(2, "up0", "veb");
    let daemon = Daemon::start(workers, &(local_link() + &ports)).unwrap();
    let (one, two) = (
        Kind::Packet.plug(&daemon, 1).unwrap(),
        Host::plug(daemon.namespace(), "tap2", 2).unwrap(),
    );
    let vm1 = || show(&daemon, "port vm1");
    await_state(&daemon, "port vm1", "up");
    assert_reach(&one, &two);
    daemon.namespace().ip("link add noise type veth peer name silence").unwrap();
    let noise: Vec<String> =
        (0..5000).map(|it| format!("link set noise mtu {}", 1000 + it % 400)).collect();
    // What matters comes when the socket's queue is full already.
    daemon.stand_still().unwrap();
    batch(daemon.namespace(), &noise).unwrap();
    unplug(&one).unwrap();
    daemon.go_on().unwrap();
    await_state(&daemon, "port vm1", "down");
    assert_eq!(vm1()["last_error"], no_carrier("if1"));
    // And once more while it reads.
    std::thread::scope(|scope| {
        let namespace = daemon.namespace();
        scope.spawn(|| batch(namespace, &noise).unwrap());
        plug_in(&one).unwrap();
    });
    await_state(&daemon, "port vm1", "up");
    assert_reach(&one, &two);
    assert_reach(&two, &one);
}
