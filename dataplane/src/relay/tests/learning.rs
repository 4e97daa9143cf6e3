//! What sources lead to: learning, moves, limits, ageing, release.

use super::site::*;
use crate::ledger::DropReason::*;
use crate::snapshot::topology::Topology;
use crate::snapshot::{Admin, Generation, Mode};

/// `veb` ports 1 (registered), 2 and 3 (learning).
fn topology() -> Topology {
    one_channel(vec![
        station(0, Mode::Veb, registered(1)),
        station(0, Mode::Veb, vm(2)),
        station(0, Mode::Veb, vm(3)),
    ])
}

fn heard(site: &Site, port: u16, source: u16) {
    site.send(port, &frame(mac(1), mac(source))).unwrap();
}

fn reached(site: &Site, number: u16) -> Vec<u16> {
    site.send(1, &frame(mac(number), mac(1))).unwrap()
}

const UNKNOWN: [u16; 3] = [2, 3, LINK];

#[test]
fn a_source_is_learned_per_vid_and_moves_with_its_station() {
    let site = Site::new(&topology());
    assert_eq!(reached(&site, 50), UNKNOWN);
    heard(&site, 2, 50);
    assert_eq!(reached(&site, 50), [2]);
    let in_vlan_5 = frame(mac(50), mac(1)).c(5);
    assert_eq!(site.send(1, &in_vlan_5), Ok(UNKNOWN.to_vec()));
    heard(&site, 3, 50);
    assert_eq!((reached(&site, 50), site.fdb.moves(), site.fdb.count()), (vec![3], 1, 1));
}

#[test]
fn a_frame_finds_what_the_one_before_it_taught() {
    let site = Site::new(&topology());
    let frames = [frame(mac(1), mac(50)), frame(mac(50), mac(51))];
    let arrivals = site.arrive_together(2, frames.each_ref().map(Bytes::view), |_| {});
    assert_eq!(arrivals.all()[1].verdict, crate::relay::Verdict::Drop(OwnAddress));
}

#[test]
fn registered_addresses_are_not_to_be_had() {
    let site = Site::new(&topology());
    let stolen = site.send(2, &frame(mac(500), mac(1)));
    assert_eq!((stolen, site.fdb.count()), (Err(SourceRegisteredElsewhere), 0));
}

#[test]
fn a_port_learns_up_to_its_limit_and_may_keep_what_it_has() {
    let site = Site::new(&topology());
    (50..50 + LIMIT as u16).for_each(|source| heard(&site, 2, source));
    assert_eq!(site.send(2, &frame(mac(1), mac(60))), Err(LearnLimit));
    heard(&site, 2, 50);
    heard(&site, 3, 60);
    assert_eq!(site.send(2, &frame(mac(1), mac(60))), Err(LearnLimit), "a move counts as new");
    assert_eq!(reached(&site, 60), [3]);
    heard(&site, 3, 50);
    heard(&site, 2, 60);
    assert_eq!((reached(&site, 60), reached(&site, 50)), (vec![2], vec![3]));
}

#[test]
fn an_address_ages_from_its_last_use() {
    let mut site = Site::new(&topology());
    heard(&site, 2, 50);
    site.now_ms += AGEING_MS - 1000;
    heard(&site, 2, 50);
    site.now_ms += AGEING_MS - 1000;
    assert_eq!(reached(&site, 50), [2]);
    site.now_ms += 1000;
    assert_eq!(reached(&site, 50), UNKNOWN);
    heard(&site, 3, 50);
    assert_eq!((reached(&site, 50), site.fdb.moves()), (vec![3], 0), "nothing was left to move");
    site.now_ms += AGEING_MS;
    assert_eq!((site.relay().sweep(usize::MAX), site.fdb.count()), (1, 0));
}

#[test]
fn going_down_and_a_new_tenant_forget_everything() {
    let mut topology = topology();
    let mut site = Site::new(&topology);
    heard(&site, 2, 50);
    topology.station_ports[1].port.admin = Admin::Down;
    site.recompile(&topology);
    assert_eq!(reached(&site, 50), [3, LINK]);
    topology.station_ports[1].port.admin = Admin::Up;
    topology.station_ports[1].port.generation = Generation(1);
    site.recompile(&topology);
    assert_eq!(reached(&site, 50), UNKNOWN);
    heard(&site, 2, 50);
    assert_eq!((reached(&site, 50), site.fdb.moves()), (vec![2], 0));
}

#[test]
fn the_uplink_takes_an_address_that_was_unused_for_a_second() {
    let mut site = Site::new(&topology());
    heard(&site, 2, 50);
    let returned = frame(mac(1), mac(50));
    assert_eq!(site.send(LINK, &returned), Err(LocalFrameReturned));
    site.now_ms += 999;
    assert_eq!(site.send(LINK, &returned), Err(LocalFrameReturned));
    site.now_ms += 1;
    assert_eq!(site.send(LINK, &returned), Ok(vec![1]));
    assert_eq!((site.fdb.count(), site.fdb.moves()), (0, 1));
    assert_eq!(site.send(LINK, &frame(mac(1), mac(1))), Err(OwnFrameReturned));
    site.now_ms += 10_000;
    assert_eq!(site.send(LINK, &frame(mac(1), mac(1))), Err(OwnFrameReturned), "registered");
}

#[test]
fn nothing_is_learned_from_an_uplink_or_a_direct_port() {
    let mut topology = topology();
    topology.channels.push(channel(1, 300));
    topology.station_ports.push(station(1, Mode::Direct, vm(9)));
    let site = Site::new(&topology);
    site.send(LINK, &frame(mac(1), mac(500))).unwrap();
    site.send(LINK, &frame(mac(1), mac(500)).s(300)).unwrap();
    site.send(9, &frame(mac(1), mac(500))).unwrap();
    assert_eq!(site.fdb.count(), 0);
}

#[test]
fn vepa_and_private_ports_learn_too() {
    for mode in [Mode::Vepa, Mode::Private] {
        let site = Site::new(&one_channel(vec![station(0, mode, vm(1))]));
        heard(&site, 1, 50);
        assert_eq!(site.send(LINK, &frame(mac(50), mac(500))), Ok(vec![1]));
        assert_eq!(site.send(1, &frame(mac(50), mac(50))), Err(OwnAddress));
    }
}
