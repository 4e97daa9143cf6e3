//! The ingress checklists: each check, and which of two comes first.

use super::site::*;
use crate::ledger::DropReason::{self, *};
use crate::relay::{Admitted, Frame};
use crate::snapshot::{Mode, VlanPolicy};
use crate::wire::Mac;
use crate::wire::offload::{Checksum, Ecn, Offload, Segmentation};

fn reserved(last: u8) -> Mac {
    Mac::new([1, 0x80, 0xc2, 0, 0, last])
}

fn site(vlan: VlanPolicy) -> Site {
    Site::new(&one_channel(vec![
        station(0, Mode::Veb, in_vlan(vlan, registered(1))),
        station(0, Mode::Veb, vm(2)),
    ]))
}

/// A frame's first `length` bytes.
fn cut(frame: Bytes, length: usize) -> Bytes {
    frame.length(length)
}

#[test]
fn each_check_of_a_vm_s_frame_has_its_reason() {
    let good = || frame(mac(2), mac(1));
    let rows: Vec<(Bytes, Result<(), DropReason>)> = vec![
        (cut(good(), 0), Err(Runt)),
        (cut(good(), 13), Err(Runt)),
        (cut(good(), 14), Ok(())),
        (good().length(1514), Ok(())),
        (good().length(1515), Err(Giant)),
        (good().c(5).length(1518), Ok(())),
        (good().c(5).length(1519), Err(Giant)),
        (good().c(6).c(5).length(1522), Ok(())),
        (good().c(7).c(6).c(5).length(1523), Err(Giant)),
        (frame(reserved(0), mac(1)), Err(ReservedAddress)),
        (frame(reserved(0xf), mac(1)), Err(ReservedAddress)),
        (frame(reserved(0x10), mac(1)), Ok(())),
        (frame(mac(2), Mac::ZERO), Err(SourceInvalid)),
        (frame(mac(2), Mac::BROADCAST), Err(SourceInvalid)),
        (good().s(5), Err(TagNotAllowed)),
        (cut(good().s(5), 15), Err(TagNotAllowed)),
        (good().tag(0x893f, 5), Err(TagNotAllowed)),
        (good().tag(0x8926, 5), Err(TagNotAllowed)),
        (cut(good().c(5), 17), Err(TruncatedTag)),
        (cut(good().c(5), 14), Err(TruncatedTag)),
        (cut(good().c(5), 18), Ok(())),
        (good().c(4095), Err(VlanInvalid)),
        (good().c(4094), Ok(())),
        (good().s(9).c(5), Ok(())), // The inner tag is opaque.
        (frame(mac(2), mac(77)), Err(SourceNotRegistered)),
    ];
    let site = site(VlanPolicy::Transparent);
    for (bytes, expected) in rows {
        assert_eq!(
            site.send(1, &bytes).map(drop),
            expected,
            "{:02x?}",
            &bytes.0[..bytes.0.len().min(32)]
        );
    }
}

#[test]
fn vlan_policies_take_what_is_theirs() {
    let rows: Vec<(VlanPolicy, Option<u16>, Result<(), DropReason>)> = vec![
        (access(10), None, Ok(())),
        (access(10), Some(0xe000), Ok(())),
        (access(10), Some(10), Err(VlanTagged)),
        (trunk(&[10], None), None, Err(VlanUntagged)),
        (trunk(&[10], None), Some(0xe000), Err(VlanUntagged)),
        (trunk(&[10], None), Some(0xe00a), Ok(())),
        (trunk(&[10], None), Some(11), Err(VlanNotMember)),
        (trunk(&[10], Some(10)), None, Ok(())),
        (trunk(&[10], Some(10)), Some(10), Ok(())),
        (trunk(&[10], Some(10)), Some(0), Ok(())),
    ];
    for (vlan, tci, expected) in rows {
        let site = site(vlan.clone());
        let untagged = frame(mac(500), mac(1));
        let bytes = tci.map_or(untagged.clone(), |tci| untagged.c(tci));
        assert_eq!(site.send(1, &bytes).map(drop), expected, "{vlan:?}, {tci:?}");
    }
}

#[test]
fn the_first_failing_check_names_the_drop() {
    let site = site(access(10));
    let worst = || frame(reserved(0), Mac::ZERO).s(4095).length(1600);
    assert_eq!(site.send(1, &cut(worst(), 9)), Err(Runt));
    assert_eq!(site.send(1, &worst()), Err(Giant));
    assert_eq!(site.send(1, &cut(worst(), 60)), Err(ReservedAddress));
    assert_eq!(site.send(1, &frame(mac(2), Mac::ZERO).s(1)), Err(SourceInvalid));
    assert_eq!(site.send(1, &frame(mac(2), mac(77)).c(4095)), Err(VlanInvalid));
    assert_eq!(site.send(1, &frame(mac(2), mac(77)).c(10)), Err(VlanTagged));
    assert_eq!(site.send(1, &frame(mac(2), mac(77))), Err(SourceNotRegistered));
    assert_eq!(site.send(1, &frame(mac(1), mac(77))), Err(SourceNotRegistered));
}

#[test]
fn a_direct_port_passes_all_but_a_few() {
    for (svid, foreign_tag) in [(0, Err(TagNotAllowed)), (300, Ok(vec![LINK + 300]))] {
        let mut topology = one_channel(vec![station(0, Mode::Direct, vm(1))]);
        topology.channels = vec![channel(0, svid)];
        let site = Site::new(&topology);
        let passed = || Ok(vec![LINK + svid]);
        for last in 0..16 {
            let consumed = matches!(last, 1..=10 | 14);
            let expected = if consumed { Err(ReservedAddress) } else { passed() };
            assert_eq!(site.send(1, &frame(reserved(last), mac(1))), expected, "{last}");
        }
        assert_eq!(site.send(1, &cut(frame(mac(1), mac(1)), 13)), Err(Runt));
        assert_eq!(site.send(1, &frame(mac(1), mac(1)).length(1515)), Err(Giant));
        assert_eq!(site.send(1, &frame(mac(1), Mac::BROADCAST)), passed());
        assert_eq!(site.send(1, &frame(mac(1), mac(1)).c(4095)), passed());
        assert_eq!(site.send(1, &frame(mac(1), mac(1)).s(5)), foreign_tag);
        assert_eq!(site.send(1, &frame(mac(1), mac(1)).tag(0x8926, 5)), foreign_tag);
    }
}

#[test]
fn each_check_of_a_link_s_frame_has_its_reason() {
    let mut topology = one_channel(vec![station(1, Mode::Direct, vm(1))]);
    topology.links = vec![link(&[100, 200, 300])];
    topology.channels = vec![channel(0, 0), channel(1, 300), channel(2, 200)];
    let unused = Site::new(&topology);
    topology.station_ports.push(station(0, Mode::Veb, vm(2)));
    let site = Site::new(&topology);

    let good = || frame(mac(9), mac(8));
    let rows: Vec<(Bytes, Result<Vec<u16>, DropReason>)> = vec![
        (good(), Ok(vec![2])),
        (cut(good(), 13), Err(Runt)),
        (good().c(5).s(300).length(1522), Ok(vec![1])),
        (good().c(5).s(300).length(1523), Err(Giant)),
        (cut(good().s(300), 17), Err(TruncatedTag)),
        (good().s(100), Err(ChannelUnused)),
        (good().s(200), Err(ChannelUnused)),
        (good().s(400), Err(UnknownSvid)),
        (good().s(4095), Err(UnknownSvid)),
        (frame(reserved(1), mac(8)).s(400), Err(UnknownSvid)),
        (frame(reserved(1), mac(8)).s(300), Err(ReservedAddress)),
        (frame(reserved(0xe), mac(8)).s(300), Err(ReservedAddress)),
        (frame(reserved(0), mac(8)).s(300), Ok(vec![1])),
        (frame(reserved(0), mac(8)), Err(ReservedAddress)),
        (frame(mac(9), Mac::BROADCAST).s(300), Ok(vec![1])),
        (frame(mac(9), Mac::BROADCAST), Err(SourceInvalid)),
        (cut(good().c(5), 17), Err(TruncatedTag)),
        (cut(good().c(5).s(1), 21), Err(TruncatedTag)),
        (good().c(4095).s(1), Err(VlanInvalid)),
        (good().c(4095).s(300), Ok(vec![1])),
        (good().s(5).s(1), Ok(vec![2])),
        (good().tag(0x893f, 0), Ok(vec![2])),
    ];
    for (bytes, expected) in rows {
        assert_eq!(site.send(LINK, &bytes), expected, "{:02x?}", &bytes.0[..bytes.0.len().min(32)]);
    }
    assert_eq!(unused.send(LINK, &good()), Err(ChannelUnused));
    assert_eq!(unused.send(LINK, &good().s(1)), Err(ChannelUnused));
}

/// A frame in a thousand tags of one kind: 4,046 bytes are behind the addresses and
/// the EtherType, all but two tags' of them payload.
fn nested(tpid: u16, outermost: u16) -> Bytes {
    let inside = (0..999).fold(frame(mac(2), mac(1)), |bytes, _| bytes.tag(tpid, 7));
    inside.tag(tpid, outermost)
}

/// Ports 1 and 2 (in VLAN 5) on the default channel, port 3 alone on channel 300.
fn site_of_mtu(mtu: u32) -> Site {
    let mut topology = one_channel(vec![
        station(0, Mode::Veb, registered(1)),
        station(0, Mode::Veb, in_vlan(access(5), vm(2))),
        station(1, Mode::Direct, vm(3)),
    ]);
    topology.links = vec![link(&[300])];
    topology.channels = vec![channel(0, 0), channel(1, 300)];
    topology.links[0].mtu = mtu;
    topology.channels.iter_mut().for_each(|channel| channel.mtu = mtu);
    Site::new(&topology)
}

/// What becomes of a frame whose sender left something to do.
fn admit(
    site: &Site,
    device: u16,
    bytes: &Bytes,
    offload: Offload,
) -> Result<Admitted, DropReason> {
    site.arrive(device, Frame { offload, ..bytes.view() }).map(|arrival| arrival.admitted)
}

#[test]
fn a_thousand_c_tags_are_one_tag_and_payload() {
    let bytes = nested(0x8100, 5);
    assert_eq!(site_of_mtu(1500).send(1, &bytes), Err(Giant));
    assert_eq!(site_of_mtu(4037).send(1, &bytes), Err(Giant));
    assert_eq!(site_of_mtu(4038).send(1, &bytes), Ok(vec![2, LINK]));
    let site = site_of_mtu(9000);
    let admitted = site.arrive(1, bytes.view()).unwrap().admitted;
    assert_eq!(admitted.vid.get(), 5);
    // The access port's copy loses the one tag that was looked at.
    let inside = [&bytes.0[..12], &bytes.0[16..]].concat();
    assert_eq!(site.copy(&admitted, 2, &bytes).unwrap().0, inside);
    assert_eq!(site.copy(&admitted, LINK, &bytes).unwrap().0, bytes.0);
}

#[test]
fn what_is_left_to_do_behind_a_thousand_tags_is_not_searched_for() {
    let site = site_of_mtu(9000);
    let transport = 14 + 4 * 1000 + 20;
    let partial = |start| Checksum::Partial { start, offset: 16 };
    let tcp4 = Segmentation::Tcp4 { size: 1000, ecn: Ecn::Without };
    let tcp6 = Segmentation::Tcp6 { size: 1000, ecn: Ecn::Without };
    let udp = Segmentation::Udp { size: 1000 };
    let (none, visible) = (Segmentation::None, 14 + 4 * 2);
    let rows = [
        // The sum may begin anywhere behind the two tags that are walked.
        (partial(visible - 1), none, Err(OffloadInvalid)),
        (partial(visible), none, Ok(())),
        (partial(transport), none, Ok(())),
        (partial(transport + 9), none, Err(OffloadInvalid)),
        (partial(transport), tcp4, Err(OffloadInvalid)),
        (partial(transport), tcp6, Err(OffloadInvalid)),
        (Checksum::Partial { start: transport, offset: 6 }, udp, Err(OffloadInvalid)),
        (partial(visible + 20), tcp4, Err(OffloadInvalid)),
        (Checksum::Unknown, tcp4, Err(OffloadInvalid)),
    ];
    for (checksum, segmentation, expected) in rows {
        let offload = Offload { checksum, segmentation };
        let from_vm = admit(&site, 1, &nested(0x8100, 5), offload).map(drop);
        assert_eq!(from_vm, expected, "{offload:?}");
        let from_link = admit(&site, LINK, &nested(0x88a8, 300), offload).map(drop);
        assert_eq!(from_link, expected, "{offload:?} from the link");
    }
}

#[test]
fn of_a_thousand_s_tags_the_first_names_the_channel_and_goes() {
    let site = site_of_mtu(9000);
    assert_eq!(site.send(1, &nested(0x88a8, 300)), Err(TagNotAllowed));
    assert_eq!(site_of_mtu(1500).send(1, &nested(0x88a8, 300)), Err(Giant));
    assert_eq!(site_of_mtu(1500).send(LINK, &nested(0x88a8, 300)), Err(Giant));
    assert_eq!(site.send(LINK, &nested(0x88a8, 400)), Err(UnknownSvid));
    for (svid, receiver) in [(300, 3), (1, 1)] {
        let bytes = nested(0x88a8, svid);
        let arrival = site.arrive(LINK, bytes.view()).unwrap();
        assert_eq!(arrival.admitted.vid.get(), 0, "what is behind is opaque");
        let inside = [&bytes.0[..12], &bytes.0[16..]].concat();
        assert_eq!(site.copy(&arrival.admitted, receiver, &bytes).unwrap().0, inside);
    }
}
