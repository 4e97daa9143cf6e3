//! The adjacent bridge's side.

use super::site::*;
use crate::ledger::DropReason::*;
use crate::relay::bridge::reflected_group_rate;
use crate::snapshot::topology::Topology;
use crate::snapshot::{PortId, ReflectiveRelay};
use crate::wire::Mac;

const ON: ReflectiveRelay = ReflectiveRelay::On { group_rate: 1000 };
const OFF: ReflectiveRelay = ReflectiveRelay::Off;
/// The members: the default channel reflects, the other does not.
const REFLECTING: u16 = LINK;
const PLAIN: u16 = LINK + 200;

/// Ports 1 (registered) and 2 (learning), and two channels of the link.
fn topology() -> Topology {
    Topology {
        ageing_ms: AGEING_MS,
        links: vec![link(&[200])],
        bridges: vec![bridge(0, vec![member(0, ON), member(200, OFF)])],
        bridge_ports: vec![bridge_port(0, registered(1)), bridge_port(0, vm(2))],
        ..Topology::default()
    }
}

#[test]
fn group_frames_reach_all_others_and_come_back_once_where_reflected() {
    let site = Site::new(&topology());
    let from = |source| frame(Mac::BROADCAST, mac(source));
    assert_eq!(site.send(1, &from(1)), Ok(vec![REFLECTING, PLAIN, 2]));
    assert_eq!(site.send(LINK, &from(50)), Ok(vec![REFLECTING, PLAIN, 1, 2]));
    assert_eq!(site.send(LINK, &from(60).s(200)), Ok(vec![REFLECTING, 1, 2]));
}

#[test]
fn unknown_unicast_spares_registered_ports() {
    let site = Site::new(&topology());
    let from = |source| frame(mac(500), mac(source));
    assert_eq!(site.send(1, &from(1)), Ok(vec![REFLECTING, PLAIN, 2]));
    assert_eq!(site.send(2, &from(2)), Ok(vec![REFLECTING, PLAIN]));
    assert_eq!(site.send(LINK, &from(50)), Ok(vec![REFLECTING, PLAIN, 2]));
    assert_eq!(site.send(LINK, &from(60).s(200)), Ok(vec![REFLECTING, 2]));
}

#[test]
fn unicast_goes_to_its_owner_and_back_where_reflected() {
    let site = Site::new(&topology());
    let between = |destination, source| frame(mac(destination), mac(source));
    for (source, svid) in [(50, 0), (51, 0), (60, 200), (61, 200)] {
        site.send(LINK, &between(1, source).s(svid)).unwrap();
    }
    assert_eq!(site.send(1, &between(50, 1)), Ok(vec![REFLECTING]));
    assert_eq!(site.send(LINK, &between(50, 51)), Ok(vec![REFLECTING]));
    assert_eq!(site.send(LINK, &between(60, 51)), Ok(vec![PLAIN]));
    assert_eq!(site.send(LINK, &between(60, 61).s(200)), Err(ReflectionOff));
    assert_eq!(site.send(LINK, &between(50, 61).s(200)), Ok(vec![REFLECTING]));
    assert_eq!(site.send(1, &between(1, 1)), Err(OwnAddress));
    site.send(LINK, &between(1, 50).s(200)).unwrap();
    assert_eq!((site.send(1, &between(50, 1)), site.fdb.moves()), (Ok(vec![PLAIN]), 1));
}

#[test]
fn a_registered_address_stays_with_its_port() {
    let site = Site::new(&topology());
    for bytes in [frame(mac(2), mac(1)), frame(mac(2), mac(1)).s(200)] {
        assert_eq!(site.send(LINK, &bytes), Err(SourceRegisteredElsewhere));
    }
    assert_eq!(site.send(2, &frame(mac(50), mac(1))), Err(SourceRegisteredElsewhere));
}

#[test]
fn a_channel_s_frame_passes_where_its_source_finds_no_room() {
    let mut site = Site::new(&topology());
    site.fdb = crate::relay::fdb::Fdb::new(0);
    assert_eq!(site.send(LINK, &frame(mac(1), mac(50))), Ok(vec![1]));
    assert_eq!(site.send(2, &frame(mac(1), mac(51))), Err(LearnLimit));
    assert_eq!(site.fdb.count(), 0);
}

#[test]
fn nobody_has_a_name() {
    let mut topology = topology();
    topology.bridge_ports.clear();
    topology.bridges[0].members.remove(0);
    let site = Site::new(&topology);
    let send = |destination| site.send(LINK, &frame(destination, mac(50)).s(200));
    assert_eq!(send(Mac::BROADCAST), Err(NoReceiver));
    assert_eq!(send(mac(500)), Err(UnknownUnicast));
}

#[test]
fn only_reflected_group_copies_are_limited() {
    let site = Site::new(&topology());
    let rate = |frame: &Bytes, egress| {
        let admitted = site.arrive(LINK, frame.view()).unwrap().admitted;
        let port = site.snapshot.port(PortId(egress)).unwrap();
        reflected_group_rate(&admitted, PortId(egress), port)
    };
    let group = frame(Mac::BROADCAST, mac(50));
    assert_eq!(rate(&group, REFLECTING), Some(1000));
    assert_eq!(rate(&group, PLAIN), None);
    assert_eq!(rate(&group, 2), None);
    assert_eq!(rate(&frame(mac(500), mac(50)), REFLECTING), None, "unknown unicast");
    assert_eq!(rate(&group.clone().s(200), REFLECTING), None, "not its ingress");
}

/// Who is at the far end of a link takes no port's room, and its frames pass all the same.
#[test]
fn a_channel_learns_up_to_its_share_and_is_not_refused_beyond() {
    let site = Site::new(&topology());
    let crowd = 50..60 + MEMBER_LIMIT as u16;
    for source in crowd.clone() {
        assert_eq!(site.send(LINK, &frame(mac(1), mac(source))), Ok(vec![1]));
    }
    assert_eq!(site.fdb.count(), u64::from(MEMBER_LIMIT));
    let known = |number: &u16| site.send(1, &frame(mac(*number), mac(1))) == Ok(vec![REFLECTING]);
    assert_eq!(crowd.filter(known).count(), MEMBER_LIMIT as usize);
}
