//! Tags and sizes on the way out.

use super::site::*;
use crate::ledger::DropReason::*;
use crate::snapshot::{Mode, VlanPolicy};

/// Port 1 sends; the copy leaves by port 2, or by the uplink of channel 100.
fn site(sender: VlanPolicy, receiver: VlanPolicy) -> Site {
    let mut topology = one_channel(vec![
        station(0, Mode::Veb, in_vlan(sender, registered(1))),
        station(0, Mode::Veb, in_vlan(receiver, registered(2))),
    ]);
    topology.channels = vec![channel(0, 100)];
    Site::new(&topology)
}

fn copied(site: &Site, device: u16, egress: u16, bytes: &Bytes) -> Bytes {
    let admitted = site.arrive(device, bytes.view()).unwrap().admitted;
    site.copy(&admitted, egress, bytes).unwrap()
}

fn plain() -> Bytes {
    frame(mac(2), mac(1))
}

#[test]
fn a_copy_has_the_tags_of_its_egress() {
    let transparent = || VlanPolicy::Transparent;
    let rows: Vec<(VlanPolicy, Bytes, VlanPolicy, Bytes)> = vec![
        // Classified VID 0: as it came.
        (transparent(), plain(), transparent(), plain()),
        (transparent(), plain().c(0xe000), transparent(), plain().c(0xe000)),
        // A VID: untagged at access and native, tagged elsewhere.
        (access(10), plain(), access(10), plain()),
        (access(10), plain().c(0xe000), access(10), plain()),
        (access(10), plain(), transparent(), plain().c(10)),
        (access(10), plain().c(0xf000), transparent(), plain().c(0xf00a)),
        (access(10), plain(), trunk(&[10], None), plain().c(10)),
        (access(10), plain(), trunk(&[10], Some(10)), plain()),
        (transparent(), plain().c(0x600a), access(10), plain()),
        (transparent(), plain().c(0x600a), trunk(&[10], None), plain().c(0x600a)),
        (transparent(), plain().c(0x600a), trunk(&[10, 20], Some(20)), plain().c(0x600a)),
        (trunk(&[10], Some(10)), plain().c(10), transparent(), plain().c(10)),
        (trunk(&[10], Some(10)), plain().c(0x2000), transparent(), plain().c(0x200a)),
        // What is behind the outer tag is opaque.
        (transparent(), plain().s(7).c(10), access(10), plain().s(7)),
    ];
    for (sender, sent, receiver, expected) in rows {
        let context = format!("{sender:?} to {receiver:?}: {:02x?}", &sent.0[12..20]);
        let site = site(sender, receiver);
        assert_eq!(copied(&site, 1, 2, &sent).0, expected.0, "{context}");
    }
}

#[test]
fn the_end_of_a_channel_adds_its_s_tag_with_the_outer_priority() {
    let rows: Vec<(VlanPolicy, Bytes, Bytes)> = vec![
        (VlanPolicy::Transparent, plain(), plain().s(100)),
        (VlanPolicy::Transparent, plain().c(0xb005), plain().c(0xb005).s(0xb064)),
        (VlanPolicy::Transparent, plain().c(0xe000), plain().c(0xe000).s(0xe064)),
        (access(10), plain().c(0xe000), plain().c(0xe00a).s(0xe064)),
        (access(10), plain(), plain().c(10).s(100)),
    ];
    for (sender, sent, expected) in rows {
        let site = site(sender, VlanPolicy::Transparent);
        assert_eq!(copied(&site, 1, LINK + 100, &sent).0, expected.0);
    }
}

#[test]
fn a_frame_from_the_link_loses_its_s_tag() {
    let from_link = || frame(mac(2), mac(500));
    let rows = [
        (from_link().s(0xe064), VlanPolicy::Transparent, from_link()),
        (from_link().c(10).s(100), VlanPolicy::Transparent, from_link().c(10)),
        (from_link().c(10).s(100), access(10), from_link()),
        (from_link().s(9).s(100), VlanPolicy::Transparent, from_link().s(9)),
    ];
    for (sent, receiver, expected) in rows {
        let site = site(VlanPolicy::Transparent, receiver);
        assert_eq!(copied(&site, LINK, 2, &sent).0, expected.0);
    }
}

#[test]
fn a_direct_channel_keeps_tags_and_takes_their_priority() {
    let mut topology = one_channel(vec![station(0, Mode::Direct, vm(1))]);
    topology.channels = vec![channel(0, 300)];
    let site = Site::new(&topology);
    let uplink = LINK + 300;
    for (sent, expected) in [
        (plain(), plain().s(300)),
        (plain().c(0xffff), plain().c(0xffff).s(0xf12c)),
        (plain().s(0x6005), plain().s(0x6005).s(0x612c)),
        (plain().tag(0x893f, 0xffff), plain().tag(0x893f, 0xffff).s(300)),
    ] {
        assert_eq!(copied(&site, 1, uplink, &sent).0, expected.0);
        assert_eq!(copied(&site, LINK, 1, &expected).0, sent.0, "and back");
    }
}

#[test]
fn a_bridge_turns_one_channel_s_tag_into_the_other_s() {
    use crate::snapshot::ReflectiveRelay::Off;
    let topology = crate::snapshot::topology::Topology {
        ageing_ms: AGEING_MS,
        links: vec![link(&[100, 200])],
        bridges: vec![bridge(0, vec![member(100, Off), member(200, Off)])],
        ..Default::default()
    };
    let site = Site::new(&topology);
    let sent = plain().c(0x600a).s(100);
    assert_eq!(copied(&site, LINK, LINK + 200, &sent).0, plain().c(0x600a).s(0x60c8).0);
}

#[test]
fn a_copy_must_fit_its_egress_whatever_its_tags() {
    let mut topology = one_channel(vec![station(0, Mode::Veb, vm(1))]);
    topology.channels[0].mtu = 100;
    topology.links[0].mtu = 1000;
    let site = Site::new(&topology);
    let sized = |payload: usize| frame(mac(1), mac(500)).c(5).length(18 + payload);
    let fate = |bytes: &Bytes| {
        let admitted = site.arrive(LINK, bytes.view()).unwrap().admitted;
        site.copy(&admitted, 1, bytes).map(drop)
    };
    assert_eq!((fate(&sized(100)), fate(&sized(101))), (Ok(()), Err(MtuExceeded)));
    assert_eq!(fate(&frame(mac(1), mac(500)).length(114)), Ok(()));
    assert_eq!(fate(&frame(mac(1), mac(500)).length(115)), Err(MtuExceeded));
}
