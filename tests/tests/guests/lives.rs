//! Guests that boot again, stand still or die, and a daemon that does.

use std::time::Duration;

use hairpin_tests::bed::{Daemon, Sockets, eventually, root};

use crate::site::{Site, assert_reach, await_up, ipv4, shown, turn, while_reaching};

const REBOOTS: u32 = 5;
const STANDSTILL: Duration = Duration::from_secs(4);
const MEBIBYTES: u32 = 16;

#[test]
fn guests_that_boot_again_or_stand_still_disturb_nobody() {
    let Some(root) = root() else { return };
    let Some(_turn) = turn(root) else { return };
    let mut site = Site::start(Sockets::There, ["", "packed=on"]);
    let Site { guests: [one, two], host, daemon, .. } = &mut site;
    assert_reach(one, 2);
    while_reaching(host, 1, || {
        for _ in 0..REBOOTS {
            two.reboot().unwrap();
            await_up(daemon, 2);
            assert_reach(two, 1);
        }
        assert_reach(two, 3);
        two.stand_still().unwrap();
        // More than its ring has room for: no answer is a failure to ping.
        let flood = format!("ping -q -n -f -c 2000 -w 5 {}", ipv4(2));
        assert!(host.namespace().run(&flood).is_err());
        assert!(daemon.count("vm2", "/drops/rx_ring_full").unwrap() > 0);
        std::thread::sleep(STANDSTILL);
        assert_reach(one, 3);
        two.go_on().unwrap();
        assert_reach(two, 1);
    });
    one.transfer(&ipv4(2), MEBIBYTES).unwrap();
    assert_eq!(shown(daemon, 1)["reconnects"], 0);
    site.daemon.stop().unwrap();
}

#[test]
fn a_killed_vm_comes_again() {
    let Some(root) = root() else { return };
    let Some(_turn) = turn(root) else { return };
    for sockets in [Sockets::There, Sockets::Made] {
        let mut site = Site::start(sockets, ["", ""]);
        let Site { guests: [_, two], host, daemon, .. } = &mut site;
        assert_reach(two, 1);
        while_reaching(host, 1, || {
            two.kill().unwrap();
            eventually("state waiting", || shown(daemon, 2)["state"] == "waiting").unwrap();
            two.start_again().unwrap();
            await_up(daemon, 2);
            assert_reach(two, 1);
        });
        two.transfer(&ipv4(1), MEBIBYTES).unwrap();
        assert_eq!(shown(daemon, 2)["reconnects"], 1);
        site.daemon.stop().unwrap();
    }
}

/// Where a packed ring is, only the back end knows. The port says what may be wrong, and what
/// it says helps.
#[test]
fn packed_rings_do_not_outlive_the_daemon_and_the_port_says_so() {
    let Some(root) = root() else { return };
    let Some(_turn) = turn(root) else { return };
    let mut site = Site::start(Sockets::There, ["packed=on", ""]);
    let Site { guests: [one, two], daemon, .. } = &mut site;
    assert_reach(one, 2);
    let warnings = |daemon: &Daemon| shown(daemon, 1)["warnings"].to_string();
    assert_eq!(warnings(daemon), "[]");
    daemon.kill().unwrap();
    daemon.start_again().unwrap();
    [1, 2].into_iter().for_each(|number| await_up(daemon, number));
    assert!(warnings(daemon).contains("bind the guest's driver anew"), "{}", warnings(daemon));
    one.run("cd /sys/bus/virtio/drivers/virtio_net && echo virtio0 >unbind").unwrap();
    one.run("cd /sys/bus/virtio/drivers/virtio_net && echo virtio0 >bind").unwrap();
    one.take_addresses().unwrap();
    await_up(daemon, 1);
    assert_reach(one, 2);
    assert_reach(two, 1);
    assert_eq!(warnings(daemon), "[]");
    site.daemon.stop().unwrap();
}

#[test]
fn guests_outlive_the_daemon() {
    let Some(root) = root() else { return };
    let Some(_turn) = turn(root) else { return };
    for sockets in [Sockets::Made, Sockets::There] {
        // Split ones: QEMU asks where a packed ring is, as it stops, and has no answer from a
        // back end that is gone.
        let mut site = Site::start(sockets, ["", ""]);
        let Site { guests: [one, two], daemon, .. } = &mut site;
        assert_reach(one, 2);
        for _ in 0..2 {
            daemon.kill().unwrap();
            daemon.start_again().unwrap();
            for number in [1, 2] {
                await_up(daemon, number);
            }
            assert_reach(one, 2);
            assert_reach(two, 1);
        }
        daemon.end().unwrap();
        daemon.start_again().unwrap();
        [1, 2].into_iter().for_each(|number| await_up(daemon, number));
        one.transfer(&ipv4(2), MEBIBYTES).unwrap();
        two.transfer(&ipv4(1), MEBIBYTES).unwrap();
        site.daemon.stop().unwrap();
    }
}
