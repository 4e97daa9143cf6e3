//! VEB: hosts on one switch, without a link's device.

use hairpin_tests::bed::{Family, Host, Workers, assert_reach, root, transfer};

use crate::experiment::{BROADCAST, arrivals, frame};
use crate::site::{Site, learning_port, local_link, registered_port};

const MEGABYTE: u64 = 1 << 20;

with_one_and_two_workers! {
    kernel_stacks_reach_each_other_and_segmentation_travels
}

fn kernel_stacks_reach_each_other_and_segmentation_travels(workers: Workers) {
    let Some(_root) = root() else { return };
    let ports = [registered_port(1, "up0", "veb"), learning_port(2, "up0", "veb")];
    let site = Site::start_with(workers, &(local_link() + &ports.concat()), &[1, 2]).unwrap();
    let [one, two] = &site.hosts[..] else { unreachable!() };
    assert_reach(one, two);
    assert_reach(two, one);
    for family in Family::ALL {
        transfer(one, two, family, 64 * MEGABYTE).unwrap();
        transfer(two, one, family, 64 * MEGABYTE).unwrap();
    }
    // Bulk data crosses in TSO frames: cut to the MTU it would be 1,514 bytes a frame at
    // most, and the acknowledgements count as frames too.
    for port in ["vm1", "vm2"] {
        let count = |pointer: &str| site.daemon.count(port, pointer).unwrap();
        let mean = count("/rx_bytes") / count("/rx_frames");
        assert!(mean > 1514, "{port}: {mean} bytes a frame");
        assert!(count("/tx_bytes") > 128 * MEGABYTE);
    }
    site.daemon.stop().unwrap();
}

#[test]
fn a_broadcast_reaches_each_other_host_once() {
    let Some(_root) = root() else { return };
    let ports: String = (1..=3).map(|number| learning_port(number, "up0", "veb")).collect();
    let site = Site::start(&(local_link() + &ports), &[1, 2, 3]).unwrap();
    let listeners: Vec<&Host> = site.hosts.iter().collect();
    let from = listeners[0];
    let bytes = frame(BROADCAST, from.mac_bytes(), "to all");
    assert_eq!(arrivals(from, &bytes, &listeners).unwrap(), [0, 1, 1]);
    let bytes = frame(listeners[2].mac_bytes(), from.mac_bytes(), "to three");
    let bytes_back = frame(from.mac_bytes(), listeners[2].mac_bytes(), "back");
    assert_eq!(arrivals(listeners[2], &bytes_back, &listeners).unwrap(), [1, 0, 0]);
    assert_eq!(arrivals(from, &bytes, &listeners).unwrap(), [0, 0, 1]);
}

#[test]
fn jumbo_frames_cross_whole() {
    let Some(_root) = root() else { return };
    let ports = [registered_port(1, "up0", "veb"), learning_port(2, "up0", "veb")];
    let configuration = format!("{}mtu = 9000\n{}", local_link(), ports.concat());
    let site = Site::start(&configuration, &[1, 2]).unwrap();
    let [one, two] = &site.hosts[..] else { unreachable!() };
    one.set_mtu(9000).unwrap();
    two.set_mtu(9000).unwrap();
    for family in Family::ALL {
        let echo = one.ping_packet_bytes(two, family, 9000).unwrap();
        assert!(echo.is_clean(), "{family}: {echo:?}");
        transfer(one, two, family, 64 * MEGABYTE).unwrap();
    }
}

#[test]
fn a_foreign_source_is_dropped_under_its_reason() {
    let Some(_root) = root() else { return };
    let ports = [registered_port(1, "up0", "veb"), learning_port(2, "up0", "veb")];
    let site = Site::start(&(local_link() + &ports.concat()), &[1, 2]).unwrap();
    let [one, two] = &site.hosts[..] else { unreachable!() };
    let dropped =
        |port: &str, reason: &str| site.daemon.count(port, &format!("/drops/{reason}")).unwrap();

    let before = dropped("vm1", "source_not_registered");
    let foreign = frame(BROADCAST, [0x52, 0x54, 0, 0, 1, 1], "foreign");
    assert_eq!(arrivals(one, &foreign, &[two]).unwrap(), [0]);
    assert_eq!(dropped("vm1", "source_not_registered"), before + 1);

    let stolen = frame(BROADCAST, one.mac_bytes(), "stolen");
    assert_eq!(arrivals(two, &stolen, &[one]).unwrap(), [0]);
    assert_eq!(dropped("vm2", "source_registered_elsewhere"), 1);

    let group = frame(BROADCAST, [0x53, 0x54, 0, 0, 1, 1], "group source");
    assert_eq!(arrivals(two, &group, &[one]).unwrap(), [0]);
    assert_eq!(dropped("vm2", "source_invalid"), 1);

    let reserved = frame([1, 0x80, 0xc2, 0, 0, 0x0e], two.mac_bytes(), "reserved");
    assert_eq!(arrivals(two, &reserved, &[one]).unwrap(), [0]);
    assert!(dropped("vm2", "reserved_address") >= 1);
}
