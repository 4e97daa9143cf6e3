//! Station channels: who gets what, by mode and by the owner of the source.

use super::site::*;
use crate::ledger::DropReason::{self, *};
use crate::relay::arrival::Arrivals;
use crate::relay::{Frame, Verdict};
use crate::snapshot::topology::{Topology, VmPlan};
use crate::snapshot::{Addresses, Admin, Mode, PortId};
use crate::wire::Mac;
use crate::wire::offload::{Checksum, Offload};

const UPLINK: u16 = LINK;
const FOREIGN: u16 = 500;
const NOBODY: u16 = 501;

/// Ports 1, 2, 4, 6 have their addresses; 3, 5, 7 have learned theirs just now.
fn mixed() -> Site {
    let site = Site::new(&one_channel(vec![
        station(0, Mode::Veb, registered(1)),
        station(0, Mode::Veb, registered(2)),
        station(0, Mode::Veb, vm(3)),
        station(0, Mode::Vepa, registered(4)),
        station(0, Mode::Vepa, vm(5)),
        station(0, Mode::Private, registered(6)),
        station(0, Mode::Private, vm(7)),
    ]));
    for port in [3, 5, 7] {
        site.send(port, &frame(mac(FOREIGN), mac(port))).unwrap();
    }
    site
}

/// Where a frame from a device goes, by the numbers of its addresses.
type Row<'r> = (u16, Mac, u16, Result<&'r [u16], DropReason>);

fn check(site: &Site, rows: &[Row<'_>]) {
    for &(device, destination, source, expected) in rows {
        let got = site.send(device, &frame(destination, mac(source)));
        let context = format!("device {device}: to {destination} from {source}");
        assert_eq!(got, expected.map(<[u16]>::to_vec), "{context}");
    }
}

#[test]
fn veb_ports_reach_each_other_and_the_uplink() {
    check(
        &mixed(),
        &[
            (1, mac(2), 1, Ok(&[2])),
            (1, mac(3), 1, Ok(&[3])),
            (3, mac(1), 3, Ok(&[1])),
            (1, mac(4), 1, Ok(&[UPLINK])),
            (1, mac(5), 1, Ok(&[UPLINK])),
            (1, mac(6), 1, Ok(&[UPLINK])),
            (1, mac(1), 1, Err(OwnAddress)),
            (3, mac(3), 3, Err(OwnAddress)),
            (1, Mac::BROADCAST, 1, Ok(&[2, 3, UPLINK])),
            (3, Mac::BROADCAST, 3, Ok(&[1, 2, UPLINK])),
            (1, mac(NOBODY), 1, Ok(&[3, UPLINK])),
            (3, mac(NOBODY), 3, Ok(&[UPLINK])),
        ],
    );
}

#[test]
fn vepa_and_private_ports_reach_the_uplink_only() {
    for port in 4..=7 {
        check(
            &mixed(),
            &[
                (port, mac(1), port, Ok(&[UPLINK])),
                (port, mac(NOBODY), port, Ok(&[UPLINK])),
                (port, Mac::BROADCAST, port, Ok(&[UPLINK])),
                (port, mac(port), port, Err(OwnAddress)),
            ],
        );
    }
}

#[test]
fn group_frames_from_the_uplink_go_by_the_owner_of_their_source() {
    check(
        &mixed(),
        &[
            (LINK, Mac::BROADCAST, FOREIGN, Ok(&[1, 2, 3, 4, 5, 6, 7])),
            (LINK, Mac::BROADCAST, 1, Ok(&[4, 5])),
            (LINK, Mac::BROADCAST, 3, Ok(&[4, 5])),
            (LINK, Mac::BROADCAST, 4, Ok(&[1, 2, 3, 5])),
            (LINK, Mac::BROADCAST, 5, Ok(&[1, 2, 3, 4])),
            (LINK, Mac::BROADCAST, 6, Err(OwnFrameReturned)),
            (LINK, Mac::BROADCAST, 7, Err(OwnFrameReturned)),
        ],
    );
}

#[test]
fn unicast_from_the_uplink_goes_to_the_owner_unless_it_had_it() {
    check(
        &mixed(),
        &[
            (LINK, mac(1), FOREIGN, Ok(&[1])),
            (LINK, mac(5), FOREIGN, Ok(&[5])),
            (LINK, mac(6), FOREIGN, Ok(&[6])),
            (LINK, mac(1), 1, Err(OwnFrameReturned)),
            (LINK, mac(5), 5, Err(OwnFrameReturned)),
            (LINK, mac(6), 6, Err(OwnFrameReturned)),
            (LINK, mac(2), 1, Err(LocalFrameReturned)),
            (LINK, mac(4), 1, Ok(&[4])),
            (LINK, mac(1), 4, Ok(&[1])),
            (LINK, mac(5), 4, Ok(&[5])),
            (LINK, mac(6), 1, Err(Private)),
            (LINK, mac(7), 4, Err(Private)),
            (LINK, mac(1), 6, Err(Private)),
            (LINK, mac(6), 7, Err(Private)),
        ],
    );
}

#[test]
fn unknown_unicast_from_the_uplink_goes_where_addresses_are_learned() {
    check(
        &mixed(),
        &[
            (LINK, mac(NOBODY), FOREIGN, Ok(&[3, 5, 7])),
            (LINK, mac(NOBODY), 1, Ok(&[5])),
            (LINK, mac(NOBODY), 4, Ok(&[3, 5])),
            (LINK, mac(NOBODY), 5, Ok(&[3])),
            (LINK, mac(NOBODY), 6, Err(OwnFrameReturned)),
        ],
    );
}

#[test]
fn nobody_has_a_name_for_each_case() {
    let of = |mode| Site::new(&one_channel(vec![station(0, mode, registered(1))]));
    let rows: [(Mode, DropReason, DropReason); 3] = [
        (Mode::Veb, LocalFrameReturned, UnknownUnicast),
        (Mode::Vepa, OwnFrameReturned, UnknownUnicast),
        (Mode::Private, OwnFrameReturned, OwnFrameReturned),
    ];
    for (mode, group, unicast) in rows {
        check(
            &of(mode),
            &[(LINK, Mac::BROADCAST, 1, Err(group)), (LINK, mac(NOBODY), 1, Err(unicast))],
        );
    }
    check(&of(Mode::Veb), &[(LINK, mac(NOBODY), FOREIGN, Err(UnknownUnicast))]);
    let elsewhere = in_vlan(access(7), registered(1));
    let site = Site::new(&one_channel(vec![station(0, Mode::Veb, elsewhere)]));
    check(&site, &[(LINK, Mac::BROADCAST, FOREIGN, Err(NoReceiver))]);
}

#[test]
fn a_host_local_channel_has_no_way_out() {
    let stations = vec![
        station(0, Mode::Veb, registered(1)),
        station(0, Mode::Veb, registered(2)),
        station(0, Mode::Vepa, registered(4)),
        station(1, Mode::Veb, registered(5)),
        station(2, Mode::Direct, vm(6)),
    ];
    let channels = (0..3).map(local_channel).collect();
    let topology =
        Topology { ageing_ms: AGEING_MS, channels, station_ports: stations, ..Topology::default() };
    check(
        &Site::new(&topology),
        &[
            (1, mac(2), 1, Ok(&[2])),
            (1, Mac::BROADCAST, 1, Ok(&[2])),
            (1, mac(4), 1, Err(NoUplink)),
            (1, mac(NOBODY), 1, Err(UnknownUnicast)),
            (4, mac(1), 4, Err(NoUplink)),
            (5, Mac::BROADCAST, 5, Err(NoReceiver)),
            (6, mac(1), 6, Err(NoUplink)),
        ],
    );
}

#[test]
fn channels_of_one_link_are_strangers() {
    let mut topology = one_channel(vec![
        station(0, Mode::Veb, registered(1)),
        station(1, Mode::Veb, registered(2)),
        station(1, Mode::Veb, vm(3)),
        station(2, Mode::Direct, vm(4)),
    ]);
    topology.channels.extend([channel(1, 100), channel(2, 300)]);
    let site = Site::new(&topology);
    assert_eq!(site.send(1, &frame(mac(2), mac(1))), Ok(vec![LINK]));
    assert_eq!(site.send(2, &frame(mac(1), mac(2))), Ok(vec![3, LINK + 100]));
    let to_blue = |frame: Bytes| site.send(LINK, &frame.s(100));
    assert_eq!(to_blue(frame(mac(2), mac(FOREIGN))), Ok(vec![2]));
    assert_eq!(to_blue(frame(mac(1), mac(FOREIGN))), Ok(vec![3]));
    assert_eq!(site.send(LINK, &frame(mac(2), mac(FOREIGN)).s(300)), Ok(vec![4]));
    for default in [0, 1] {
        assert_eq!(site.send(LINK, &frame(mac(1), mac(FOREIGN)).s(default)), Ok(vec![1]));
    }
    assert_eq!(site.send(4, &frame(mac(1), mac(2)).s(100)), Ok(vec![LINK + 300]));
}

#[test]
fn vlans_separate_ports_and_share_addresses() {
    let shared = |port, vlan| VmPlan {
        addresses: Addresses::Registered([mac(9)].into()),
        ..in_vlan(vlan, vm(port))
    };
    let site = Site::new(&one_channel(vec![
        station(0, Mode::Veb, in_vlan(access(10), registered(1))),
        station(0, Mode::Veb, in_vlan(trunk(&[10, 20], Some(20)), registered(2))),
        station(0, Mode::Veb, registered(3)),
        station(0, Mode::Veb, shared(4, access(10))),
        station(0, Mode::Veb, shared(5, access(20))),
    ]));
    assert_eq!(site.send(1, &frame(Mac::BROADCAST, mac(1))), Ok(vec![2, 3, 4, LINK]));
    assert_eq!(site.send(2, &frame(Mac::BROADCAST, mac(2))), Ok(vec![3, 5, LINK]));
    assert_eq!(site.send(2, &frame(mac(9), mac(2)).c(10)), Ok(vec![4]));
    assert_eq!(site.send(2, &frame(mac(9), mac(2))), Ok(vec![5]));
    assert_eq!(site.send(3, &frame(mac(9), mac(3)).c(30)), Ok(vec![LINK]));
    assert_eq!(site.send(3, &frame(mac(1), mac(3))), Ok(vec![LINK]), "1 is not in VID 0");
    assert_eq!(site.send(3, &frame(mac(1), mac(3)).c(10)), Ok(vec![1]));
    assert_eq!(site.send(LINK, &frame(mac(9), mac(FOREIGN)).c(20)), Ok(vec![5]));
}

#[test]
fn a_down_port_owns_nothing_and_hears_nothing() {
    let mut topology = one_channel(vec![
        station(0, Mode::Veb, registered(1)),
        station(0, Mode::Veb, registered(2)),
        station(0, Mode::Veb, vm(3)),
    ]);
    topology.station_ports[1].port.admin = Admin::Down;
    let site = Site::new(&topology);
    assert_eq!(site.send(1, &frame(mac(2), mac(1))), Ok(vec![3, LINK]));
    assert_eq!(site.send(1, &frame(Mac::BROADCAST, mac(1))), Ok(vec![3, LINK]));
    assert_eq!(site.send(3, &frame(mac(1), mac(2))), Ok(vec![1]), "free to be learned");

    topology.channels[0].uplink.as_mut().unwrap().admin = Admin::Down;
    let site = Site::new(&topology);
    let broadcast = frame(Mac::BROADCAST, mac(1));
    assert_eq!(site.send(1, &broadcast), Ok(vec![3, LINK]), "the link stays in audiences");
    let admitted = site.arrive(1, broadcast.view()).unwrap().admitted;
    assert_eq!(site.copy(&admitted, LINK, &broadcast).unwrap_err(), PortDown);
}

/// Decided at once, later, or refused: in one batch, and each in a place that each other
/// kind stood in before.
#[test]
fn what_becomes_of_a_frame_does_not_depend_on_those_around_it() {
    let site = mixed();
    let to = |number| frame(mac(number), mac(1));
    let forged = frame(mac(2), mac(FOREIGN));
    let broadcast = frame(Mac::BROADCAST, mac(1));
    let mut kinds = [to(2), to(3), broadcast, forged, to(NOBODY), to(4)];
    let mut arrivals = Arrivals::with_capacity(kinds.len());
    for _ in 0..kinds.len() {
        let alone = kinds.each_ref().map(|frame| site.arrive(1, frame.view()));
        let mut refused = Vec::new();
        let frames = std::array::from_fn::<_, 6, _>(|index| Frame {
            index: index as u16,
            ..kinds[index].view()
        });
        site.arrive_into(&mut arrivals, 1, frames, |reason| refused.push(reason));
        assert_eq!(refused, [SourceNotRegistered]);
        let together: Vec<_> = arrivals.all().iter().map(|it| (it.index, it.verdict)).collect();
        let alone = (0..).zip(alone).filter_map(|(index, it)| Some((index, it.ok()?.verdict)));
        assert_eq!(together, alone.collect::<Vec<_>>());
        kinds.rotate_left(1);
    }
}

/// One arrival stands for frames that are alike; not for one that is longer, is tagged, has
/// something left to do, or comes behind another; nor for those that are refused.
#[test]
fn frames_that_are_alike_are_decided_as_one() {
    let site = mixed();
    let to = |number| frame(mac(number), mac(1));
    let (near, far) = (to(2), to(3));
    let near = near.view();
    let longer = Frame { length: near.length + 1, ..near };
    let unsummed =
        Frame { offload: Offload { checksum: Checksum::Valid, ..Offload::NONE }, ..near };
    let tagged = frame(mac(2), mac(1)).c(10);
    let (tagged, far) = (tagged.view(), far.view());
    let forged = frame(mac(2), mac(FOREIGN));
    let forged = forged.view();
    let kinds = [
        near, near, longer, near, unsummed, near, near, far, near, near, tagged, tagged, forged,
        forged, far,
    ];
    let frames =
        std::array::from_fn::<_, 15, _>(|index| Frame { index: index as u16, ..kinds[index] });
    let mut arrivals = Arrivals::with_capacity(frames.len());
    let mut refused = Vec::new();
    site.arrive_into(&mut arrivals, 1, frames, |reason| refused.push(reason));
    let runs: Vec<_> = arrivals.all().iter().map(|arrival| arrival.run()).collect();
    assert_eq!(runs, [0..2, 2..4, 4..5, 5..7, 7..8, 8..10, 10..11, 11..12, 14..15]);
    for arrival in arrivals.all() {
        for index in arrival.run() {
            let alone = site.arrive(1, frames[index]).unwrap();
            assert_eq!(arrival.verdict, alone.verdict, "frame {index}");
        }
    }
    assert_eq!(refused, [SourceNotRegistered; 2]);
}

/// However many ports there are: what is for the outside only is no flood.
#[test]
fn unicast_to_the_outside_is_for_the_uplink_alone_where_every_port_registered() {
    let veb = |number| station(0, Mode::Veb, registered(number));
    let site = Site::new(&one_channel((1..=9).map(veb).collect()));
    let outward = site.arrive(1, frame(mac(500), mac(1)).view()).unwrap();
    assert_eq!(outward.verdict, Verdict::To(PortId(LINK)));
    let one_learns = (1..=9).map(veb).chain([station(0, Mode::Veb, vm(10))]).collect();
    let site = Site::new(&one_channel(one_learns));
    let flooded = site.arrive(1, frame(mac(500), mac(1)).view()).unwrap();
    assert!(matches!(flooded.verdict, Verdict::Flood(_)));
    assert_eq!(site.send(1, &frame(mac(500), mac(1))), Ok(vec![10, LINK]));
}
