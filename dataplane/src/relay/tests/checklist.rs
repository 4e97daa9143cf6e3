//! The ingress checklists: each check, and which of two comes first.

use super::site::*;
use crate::ledger::DropReason::{self, *};
use crate::snapshot::{Mode, VlanPolicy};
use crate::wire::Mac;

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
