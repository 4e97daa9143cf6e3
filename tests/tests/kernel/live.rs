//! Changes while traffic flows: what is not concerned never notices.

use std::time::Duration;

use hairpin_tests::bed::{
    Family, Host, Recorder, Reflection, Stream, Workers, assert_apart, assert_reach, eventually,
    root,
};
use serde_json::Value;

use crate::bystanders::Bystanders;
use crate::experiment::{BROADCAST, arrivals, frame};
use crate::site::{Site, learning_port, local_link, registered_port};

const MEGABYTE: u64 = 1 << 20;
fn mode(site: &Site, port: &str) -> Value {
    site.daemon.hairpin(&format!("port show {port}")).unwrap()["mode"].clone()
}

with_one_and_two_workers! {
    a_mode_change_costs_other_ports_nothing
    a_tap_that_is_deleted_comes_back
    a_link_s_tap_that_is_deleted_comes_back
    a_changed_file_is_applied_on_sighup
}

fn a_mode_change_costs_other_ports_nothing(workers: Workers) {
    let Some(_root) = root() else { return };
    let modes = [(1, "veb"), (2, "veb"), (3, "vepa"), (4, "vepa"), (5, "veb")];
    let ports: String =
        modes.iter().map(|&(number, mode)| registered_port(number, "up0", mode)).collect();
    let (site, bridge, outside) =
        Site::beside_kernel_bridge_with(workers, &ports, &[1, 2, 3, 4, 5]).unwrap();
    bridge.reflect("up0", Reflection::On).unwrap();
    let [one, two, three, four, five] = &site.hosts[..] else { unreachable!() };
    let recorder = Recorder::start(bridge.namespace(), "up0").unwrap();
    // Both cross the uplink, which is the only way of two of the modes.
    let reflected = Bystanders::start(three, four).unwrap();
    let outward = Bystanders::start(five, &outside).unwrap();
    for round in 0..4 {
        // Heard by host 2, and passed on the cable: out and back, or not at all.
        for (wanted, heard, passed) in [("vepa", 1, 2), ("private", 0, 2), ("veb", 1, 0)] {
            site.daemon.hairpin(&format!("port set vm1 mode={wanted}")).unwrap();
            assert_eq!(mode(&site, "vm1"), wanted);
            let word = format!("{wanted} {round}");
            let bytes = frame(two.mac_bytes(), one.mac_bytes(), &word);
            assert_eq!(arrivals(one, &bytes, &[two]).unwrap(), [heard], "{word}");
            let on_the_cable = recorder.collect(Duration::from_millis(50), |f| f.bytes == bytes);
            assert_eq!(on_the_cable.len(), passed, "{word}");
        }
    }
    reflected.assert_unhurt();
    outward.assert_unhurt();
    assert_reach(one, two);
    assert_reach(one, &outside);
}

#[test]
fn a_port_that_is_set_down_is_silent_until_it_is_up_again() {
    let Some(_root) = root() else { return };
    let ports: String = (1..=4).map(|number| registered_port(number, "up0", "veb")).collect();
    let site = Site::start(&(local_link() + &ports), &[1, 2, 3, 4]).unwrap();
    let [one, two, three, four] = &site.hosts[..] else { unreachable!() };
    assert_reach(one, two);
    let bystanders = Bystanders::start(three, four).unwrap();
    site.daemon.hairpin("port set vm1 admin=down").unwrap();
    assert_eq!(site.daemon.hairpin("port show vm1").unwrap()["state"], "down");
    assert_apart(two, one);
    site.daemon.hairpin("port set vm1 admin=up").unwrap();
    assert_reach(two, one);
    bystanders.assert_unhurt();
}

fn a_tap_that_is_deleted_comes_back(workers: Workers) {
    let Some(_root) = root() else { return };
    let ports: String = (1..=4).map(|number| registered_port(number, "up0", "veb")).collect();
    let mut site = Site::start_with(workers, &(local_link() + &ports), &[1, 2, 3, 4]).unwrap();
    let [one, two, three, four] = &site.hosts[..] else { unreachable!() };
    assert_reach(one, two);
    let bystanders = Bystanders::start(three, four).unwrap();
    // What is deleted is deleted under traffic, in both directions.
    let stream = Stream::start(two, one, Family::Ipv4, |_| {}).unwrap();
    for _ in 0..3 {
        let so_far = stream.received();
        eventually("the stream to flow", || stream.received() > so_far + MEGABYTE).unwrap();
        one.namespace().ip("link del tap1").unwrap();
        eventually("tap1 re-created", || site.daemon.namespace().has("tap1")).unwrap();
        one.replug(site.daemon.namespace()).unwrap();
        eventually("vm1 up", || site.daemon.hairpin("port show vm1").unwrap()["state"] == "up")
            .unwrap();
        assert_reach(one, two);
        assert_reach(two, one);
    }
    let so_far = stream.received();
    eventually("the stream to go on", || stream.received() > so_far + MEGABYTE).unwrap();
    drop(stream);
    bystanders.assert_unhurt();
    assert!(site.daemon.is_running());
}

fn a_link_s_tap_that_is_deleted_comes_back(workers: Workers) {
    let Some(_root) = root() else { return };
    let modes = [(1, "veb"), (2, "vepa"), (3, "veb"), (4, "veb")];
    let ports: String =
        modes.iter().map(|&(number, mode)| registered_port(number, "up0", mode)).collect();
    let (mut site, bridge, outside) =
        Site::beside_kernel_bridge_with(workers, &ports, &[1, 2, 3, 4]).unwrap();
    bridge.reflect("up0", Reflection::On).unwrap();
    let [one, two, three, four] = &site.hosts[..] else { unreachable!() };
    assert_reach(one, two);
    let bystanders = Bystanders::start(three, four).unwrap();
    // What is deleted is deleted under traffic, in both directions.
    let stream = Stream::start(one, &outside, Family::Ipv4, |_| {}).unwrap();
    for _ in 0..3 {
        let so_far = stream.received();
        eventually("the stream to flow", || stream.received() > so_far + MEGABYTE).unwrap();
        bridge.namespace().ip("link del up0").unwrap();
        eventually("up0 re-created", || site.daemon.namespace().has("up0")).unwrap();
        eventually("up0 up", || site.daemon.hairpin("link show up0").unwrap()["state"] == "up")
            .unwrap();
        // While it is not plugged in, what needs no cable needs none.
        assert_reach(one, three);
        bridge.attach(site.daemon.namespace(), "up0").unwrap();
        bridge.reflect("up0", Reflection::On).unwrap();
        assert_reach(&outside, one);
        assert_reach(one, two);
        assert_reach(two, &outside);
    }
    let so_far = stream.received();
    eventually("the stream to go on", || stream.received() > so_far + MEGABYTE).unwrap();
    drop(stream);
    bystanders.assert_unhurt();
    assert!(site.daemon.is_running());
}

fn a_changed_file_is_applied_on_sighup(workers: Workers) {
    let Some(_root) = root() else { return };
    let port = |number: u8| registered_port(number, "up0", "veb");
    let before = local_link() + &[port(1), port(2), port(3), port(4)].concat();
    let site = Site::start_with(workers, &before, &[1, 2, 3, 4]).unwrap();
    let [one, two, three, four] = &site.hosts[..] else { unreachable!() };
    let bystanders = Bystanders::start(three, four).unwrap();

    // Port 1 turns private, 2 goes, 5 comes.
    let changed = [registered_port(1, "up0", "private"), port(3), port(4), port(5)].concat();
    site.daemon.rewrite(&(local_link() + &changed)).unwrap();
    site.daemon.reload().unwrap();
    eventually("vm5 up", || {
        site.daemon.hairpin("port show vm5").is_ok_and(|port| port["state"] == "up")
    })
    .unwrap();
    assert_eq!(mode(&site, "vm1"), "private");
    assert!(site.daemon.hairpin("port show vm2").is_err());
    eventually("tap2 gone", || !two.namespace().has("tap2")).unwrap();
    let five = Host::plug(site.daemon.namespace(), "tap5", 5).unwrap();
    assert_reach(&five, three);
    assert_apart(one, three);

    // Back to the first file: what was applied before is applied again.
    site.daemon.rewrite(&before).unwrap();
    site.daemon.reload().unwrap();
    // Its netdev is there before: whoever takes that away makes the change fail.
    eventually("vm2 up", || {
        site.daemon.hairpin("port show vm2").is_ok_and(|port| port["state"] == "up")
    })
    .unwrap();
    two.replug(site.daemon.namespace()).unwrap();
    assert_reach(one, two);
    assert_reach(two, three);
    bystanders.assert_unhurt();
}

#[test]
fn a_learned_address_follows_its_host() {
    let Some(_root) = root() else { return };
    let ports: String = (1..=3).map(|number| learning_port(number, "up0", "veb")).collect();
    let site = Site::start(&(local_link() + &ports), &[1, 2, 3]).unwrap();
    let [one, two, three] = &site.hosts[..] else { unreachable!() };
    let moving = [0x52, 0x54, 0, 0, 2, 1];
    let announce = frame(BROADCAST, moving, "here");
    let to_it = frame(moving, three.mac_bytes(), "to it");
    for (at, expected) in [(one, [1, 0]), (two, [0, 1]), (one, [1, 0])] {
        arrivals(at, &announce, &[]).unwrap();
        let heard = arrivals(three, &to_it, &[one, two]).unwrap();
        assert_eq!(heard, expected);
    }
}
