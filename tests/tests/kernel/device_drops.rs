//! What a TAP loses by itself is counted apart from what the switch loses.

use std::net::{SocketAddr, UdpSocket};

use hairpin_tests::bed::{Daemon, Family, Host, Workers, assert_reach, eventually, root};
use serde_json::Value;

use crate::site::{Site, local_link, registered_port};

/// More than a TAP's queue and the qdisc in front of it hold.
const FLOOD: u64 = 5000;

with_one_and_two_workers! {
    what_a_guest_sends_into_a_full_queue_is_counted_by_the_kernel
}

fn counters(daemon: &Daemon) -> (Value, Value) {
    let stats = daemon.hairpin("stats").unwrap();
    let of = |port: &str| stats["ports"][port].clone();
    (of("vm1"), of("vm2"))
}

fn number(counters: &Value, key: &str) -> u64 {
    counters[key].as_u64().unwrap_or_else(|| panic!("no {key} in {counters}"))
}

/// Sends datagrams from one host to the other, whoever reads them.
fn flood(from: &Host, to: &Host) {
    let near = SocketAddr::new(from.address(Family::Ipv4), 0);
    let far = SocketAddr::new(to.address(Family::Ipv4), 9);
    from.namespace()
        .enter(|| {
            let socket = UdpSocket::bind(near).unwrap();
            // Nobody listens there, which a host may say; that is not this one's concern.
            (0..FLOOD).for_each(|_| drop(socket.send_to(&[0; 64], far)));
        })
        .unwrap();
}

fn what_a_guest_sends_into_a_full_queue_is_counted_by_the_kernel(workers: Workers) {
    let Some(_root) = root() else { return };
    let ports: String = (1..=2).map(|number| registered_port(number, "up0", "veb")).collect();
    let site = Site::start_with(workers, &(local_link() + &ports), &[1, 2]).unwrap();
    let [one, two] = &site.hosts[..] else { unreachable!() };
    assert_reach(one, two);
    let before = counters(&site.daemon);
    assert_eq!(number(&before.0, "device_drops"), 0, "{before:?}");
    site.daemon.stand_still().unwrap();
    flood(one, two);
    site.daemon.go_on().unwrap();

    let arrived = |now: &Value| number(now, "rx_frames") - number(&before.0, "rx_frames");
    eventually("every frame of the flood to be received or dropped", || {
        let (now, _) = counters(&site.daemon);
        arrived(&now) + number(&now, "device_drops") >= FLOOD
    })
    .unwrap();
    let (sender, receiver) = counters(&site.daemon);
    assert!(number(&sender, "device_drops") > 0, "{sender}");
    assert_eq!(number(&receiver, "device_drops"), 0, "{receiver}");
    // The ledgers know nothing of it.
    for (was, is) in [(&before.0, &sender), (&before.1, &receiver)] {
        assert_eq!(was["drops"], is["drops"]);
        for (offered, accepted) in [("rx_frames", "decided"), ("offered", "tx_frames")] {
            let gained = |key| number(is, key) - number(was, key);
            assert_eq!(gained(offered), gained(accepted), "{offered} and {accepted} in {is}");
        }
    }
    assert_reach(one, two);
}
