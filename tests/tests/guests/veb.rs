//! Two guests beside each other.

use hairpin_tests::bed::{Guest, Sockets, eventually, root};

use crate::site::{Site, assert_reach, await_up, ipv4, ipv6, shown, turn, while_reaching};

/// Of what the two exchange by TCP.
const MEBIBYTES: u32 = 16;
/// The longest frame of a guest that does not leave segmentation to others.
const FRAME_BYTES: u64 = 1514;
/// Nothing that a guest's kernel could leave to the other side.
const NO_OFFLOADS: &str = "csum=off,guest_csum=off,gso=off,guest_tso4=off,guest_tso6=off,\
                           guest_ecn=off,guest_ufo=off,host_tso4=off,host_tso6=off,host_ecn=off,\
                           host_ufo=off,mrg_rxbuf=off";

/// Bytes of a frame, in the mean, of what was counted between two readings.
fn mean_bytes(before: [u64; 2], after: [u64; 2]) -> u64 {
    (after[1] - before[1]) / (after[0] - before[0]).max(1)
}

/// Frames and bytes that a guest's driver has taken out of its ring.
fn received(guest: &mut Guest) -> [u64; 2] {
    ["packets", "bytes"].map(|unit| {
        let said = guest.run(&format!("cat /sys/class/net/eth0/statistics/rx_{unit}")).unwrap();
        said.trim().parse().unwrap()
    })
}

#[test]
fn guests_with_all_offloads_exchange_data_whole() {
    let Some(root) = root() else { return };
    let Some(_turn) = turn(root) else { return };
    let mut site = Site::start(Sockets::There, ["packed=on", ""]);
    for (number, ring) in [(1, "packed"), (2, "split")] {
        let shown = shown(&site.daemon, number);
        assert_eq!(shown["ring"], ring);
        let features = shown["features"].to_string();
        for feature in ["csum", "guest_csum", "host_tso4", "guest_tso4", "mrg_rxbuf"] {
            assert!(features.contains(&format!("\"{feature}\"")), "{feature}: {features}");
        }
    }
    for (from, to) in [(1, 2), (2, 1)] {
        let [one, two] = &mut site.guests;
        let sender = if from == 1 { one } else { two };
        assert_reach(sender, to);
        for address in [ipv4(to), ipv6(to)] {
            sender.transfer(&address, MEBIBYTES).unwrap();
        }
    }
    site.daemon.stop().unwrap();
}

#[test]
fn a_guest_without_offloads_gets_whole_frames() {
    let Some(root) = root() else { return };
    let Some(_turn) = turn(root) else { return };
    let mut site = Site::start(Sockets::There, ["", NO_OFFLOADS]);
    let features = shown(&site.daemon, 2)["features"].to_string();
    assert!(!features.contains("csum") && !features.contains("tso"), "{features}");
    let [one, two] = &mut site.guests;
    for address in [ipv4(2), ipv6(2)] {
        let segments = || site.daemon.count("vm2", "/segments").unwrap();
        let before = (segments(), received(two));
        one.transfer(&address, MEBIBYTES).unwrap();
        // Few or many, as the sender's kernel finds more to send than a segment holds.
        assert!(segments() > before.0, "to {address}: nothing was cut");
        let mean = mean_bytes(before.1, received(two));
        assert!(mean <= FRAME_BYTES, "to {address}: {mean} bytes a frame");
    }
    for address in [ipv4(1), ipv6(1)] {
        site.guests[1].transfer(&address, MEBIBYTES).unwrap();
    }
    site.daemon.stop().unwrap();
}

#[test]
fn a_guest_changes_its_mtu_and_its_driver_while_others_talk() {
    let Some(root) = root() else { return };
    let Some(_turn) = turn(root) else { return };
    let mut site = Site::start(Sockets::There, ["", ""]);
    let Site { guests: [one, two], host, daemon, .. } = &mut site;
    assert_reach(one, 2);
    while_reaching(host, 2, || {
        for mtu in [1400, 9000, 1500] {
            for guest in [&mut *one, &mut *two] {
                guest.run(&format!("ip link set eth0 mtu {mtu}")).unwrap();
            }
            let echo = one.ping_packet_bytes(&ipv4(2), mtu).unwrap();
            assert!(echo.is_clean(), "MTU {mtu}: {echo:?}");
            one.transfer(&ipv4(2), MEBIBYTES).unwrap();
        }
    });
    while_reaching(host, 1, || {
        for _ in 0..3 {
            two.run("cd /sys/bus/virtio/drivers/virtio_net && echo virtio0 >unbind").unwrap();
            eventually("state down", || shown(daemon, 2)["state"] == "down").unwrap();
            two.run("cd /sys/bus/virtio/drivers/virtio_net && echo virtio0 >bind").unwrap();
            two.take_addresses().unwrap();
            await_up(daemon, 2);
            assert_reach(two, 3);
        }
    });
    one.transfer(&ipv4(2), MEBIBYTES).unwrap();
    site.daemon.stop().unwrap();
}
