//! AF_XDP by the kernel's generic path, which any driver has.

use hairpin_tests::bed::{Daemon, Family, Workers, assert_reach, await_state, root, transfer};

use crate::ledgers::assert_ledgers_hold;
use crate::netdev::{Kind, plug, show};
use crate::site::local_link;

const MEGABYTE: u64 = 1 << 20;
/// An Ethernet header and a payload of 1500 bytes.
const FRAME_BYTES_MAX: u64 = 1514;

/// Bytes of a port's received frames, by the mean.
fn mean_bytes(daemon: &Daemon, port: &str) -> u64 {
    let count = |pointer: &str| daemon.count(port, pointer).unwrap();
    count("/rx_bytes") / count("/rx_frames")
}

/// Where a program is on the generic path, the kernel puts no segments together (GRO)
/// before it. Host 3, by packet sockets, shows that it would.
#[test]
fn segments_are_not_put_together_before_the_generic_path() {
    let Some(_root) = root() else { return };
    let generic = |number: u8| {
        let device = format!("\"if{number}\", mode = \"generic\"");
        Kind::Xdp.port(number, "veb").replace(&format!("\"if{number}\""), &device)
    };
    let ports = generic(1) + &generic(2) + &Kind::Packet.port(3, "veb");
    let daemon = Daemon::start(Workers::Two, &(local_link() + &ports)).unwrap();
    let hosts = [1, 2, 3].map(|number| {
        let host = plug(&daemon, number).unwrap();
        daemon.namespace().run(&format!("ethtool -K if{number} gro on")).unwrap();
        host.namespace().run(&format!("ethtool -K far{number} gro on")).unwrap();
        await_state(&daemon, &format!("port vm{number}"), "up");
        host
    });
    for (number, port) in [(1, "vm1"), (2, "vm2")] {
        let device = &show(&daemon, &format!("port {port}"))["device"]["xdp"];
        assert_eq!([&device["mode"], &device["granted"]], ["generic", "generic"]);
        let features = daemon.namespace().run(&format!("ethtool -k if{number}")).unwrap();
        assert!(features.contains("generic-receive-offload: on"), "{features}");
    }
    let [one, two, three] = &hosts;
    assert_reach(one, two);
    assert_reach(two, three);
    for family in Family::ALL {
        for (from, to) in [(one, two), (two, one), (three, one), (one, three)] {
            // Every byte is compared.
            let sent = transfer(from, to, family, 32 * MEGABYTE).unwrap();
            assert_eq!(sent.bytes, 32 * MEGABYTE);
        }
    }
    let merged = mean_bytes(&daemon, "vm3");
    assert!(merged > FRAME_BYTES_MAX, "{merged} bytes a frame: GRO puts nothing together here");
    for port in ["vm1", "vm2"] {
        let mean = mean_bytes(&daemon, port);
        assert!(mean <= FRAME_BYTES_MAX, "{port}: {mean} bytes a frame");
        for reason in ["giant", "mtu_exceeded", "too_many_segments", "offload_invalid"] {
            let lost = daemon.count(port, &format!("/drops/{reason}")).unwrap();
            assert_eq!(lost, 0, "{port}: {reason}");
        }
    }
    assert_ledgers_hold(&daemon);
    daemon.stop().unwrap();
}
