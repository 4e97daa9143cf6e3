//! The life of rings: set up, started, enabled, changed, stopped.

use std::fs::File;
use std::sync::Arc;

use hairpin_dataplane::port::vhost_user::features::{Features, ProtocolFeatures};
use hairpin_dataplane::port::vhost_user::message::{Acknowledge, Body, Message};
use hairpin_dataplane::port::vhost_user::queue::RingKind;
use hairpin_dataplane::port::vhost_user::ring::{RingIndex, Service, Stuck};
use hairpin_dataplane::port::vhost_user::session::{Fault, Footing, Handled, RingState};
use hairpin_dataplane::sys::eventfd::Eventfd;
use hairpin_dataplane::sys::memory::RegionHint;
use hairpin_dataplane::sys::virtqueue::{Merge, Order, Position, RingFault};
use proptest::prelude::*;

use super::wiring::*;

const PACKED: Features = MODERN.with(Features::RING_PACKED).with(Features::IN_ORDER);

/// All that it takes to have ring 1 run, each by its number.
fn say(vmm: &mut Vmm, step: usize) {
    let done = match step {
        0 => vmm.set(SET_FEATURES, &[PACKED.bits()], None),
        1 => vmm.lend(memfd(MEMORY_BYTES)),
        2 => vmm.state(SET_VRING_NUM, 1, 100),
        3 => vmm.set(SET_VRING_ADDR, &addresses(1), None),
        4 => vmm.state(SET_VRING_BASE, 1, 0x8005),
        5 => vmm.set(SET_VRING_KICK, &[1], Some(eventfd())),
        6 => vmm.set(SET_VRING_CALL, &[1], Some(eventfd())),
        7 => vmm.state(SET_VRING_ENABLE, 1, 1),
        _ => vmm.set(SET_OWNER, &[], None),
    };
    assert_eq!(done, Ok(()));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn a_ring_runs_once_all_was_said_in_any_order(
        order in Just((0..9).collect::<Vec<usize>>()).prop_shuffle()
    ) {
        let _alone = alone();
        let mut vmm = Vmm::new();
        // Without these it does not run, whatever else was said.
        let mut missing = vec![0, 1, 2, 3, 5];
        for step in order {
            prop_assert!(vmm.host.running().is_empty() || missing.is_empty());
            say(&mut vmm, step);
            missing.retain(|needed| *needed != step);
        }
        let start = vmm.host.start_of(1);
        prop_assert_eq!((start.kind, start.terms.layout.size), (RingKind::Packed, 100));
        prop_assert_eq!(start.terms.position, Position { available: 0x8005, used: 0x8005 });
        prop_assert_eq!((start.terms.order, start.terms.merge), (Order::InOrder, Merge::Mergeable));
        prop_assert_eq!(start.terms.layout.descriptors, GUEST + 0x1_0000);
        prop_assert_eq!(start.service, Service::Enabled);
        prop_assert!(start.kick.is_some() && start.call.is_some());
    }
}

#[test]
fn a_ring_without_a_kick_is_polled() {
    let _alone = alone();
    let mut vmm = Vmm::with_memory(MODERN);
    vmm.set_up(0);
    vmm.set(SET_VRING_KICK, &[0x100], None).unwrap();
    assert!(vmm.host.start_of(0).kick.is_none());
}

#[test]
fn rings_are_enabled_at_once_only_without_protocol_features() {
    let _alone = alone();
    let mut vmm = Vmm::with_memory(MODERN);
    vmm.set_up(0);
    assert_eq!(vmm.host.start_of(0).service, Service::Disabled);
    let features = MODERN.without(Features::PROTOCOL_FEATURES);
    vmm.set(SET_FEATURES, &[features.bits()], None).unwrap();
    assert_eq!(vmm.host.start_of(0).service, Service::Enabled);
    vmm.state(SET_VRING_ENABLE, 0, 0).unwrap();
    assert_eq!(vmm.host.start_of(0).service, Service::Disabled);
}

#[test]
fn a_ring_is_halted_where_it_stands_and_goes_on_from_there() {
    let _alone = alone();
    for (features, first, second) in [(MODERN, 7, 14), (PACKED, 0x8007_8007, 0x800e_800e)] {
        let mut vmm = Vmm::running(features, 1);
        vmm.host.log().progress = 7;
        assert_eq!(vmm.stop(0), first);
        assert!(vmm.host.running().is_empty());
        assert_eq!(vmm.stop(0), first);
        vmm.set(SET_VRING_KICK, &[0], Some(eventfd())).unwrap();
        let low = first as u16;
        let position = vmm.host.start_of(0).terms.position;
        assert_eq!(position, Position { available: low, used: low });
        assert_eq!(vmm.stop(0), second);
    }
}

#[test]
fn both_halves_of_a_packed_base_are_believed() {
    let _alone = alone();
    let mut vmm = Vmm::with_memory(PACKED);
    vmm.state(SET_VRING_BASE, 0, 0x8003_0005).unwrap();
    assert_eq!(vmm.stop(0), 0x8003_0005);
    vmm.set_up(0);
    let position = vmm.host.start_of(0).terms.position;
    assert_eq!(position, Position { available: 5, used: 0x8003 });
}

/// A VMM that lost its back end starts a packed ring at its beginning, wherever it stood.
#[test]
fn a_packed_ring_that_somebody_else_has_used_is_doubtful_where_it_begins() {
    let _alone = alone();
    let (available, used) = (1 << 7, 1 << 15);
    let cases = [
        // Never used, with buffers; used in the first lap; in the second.
        (available, None, Footing::Sure),
        (available | used, None, Footing::Doubtful),
        (used, None, Footing::Doubtful),
        // It is said where it stood.
        (available | used, Some(0x8005_8005), Footing::Sure),
        (available | used, Some(0x8000_8000), Footing::Doubtful),
    ];
    for (flags, base, footing) in cases {
        let mut vmm = Vmm::with_memory(PACKED);
        let file = memfd(MEMORY_BYTES);
        set_packed_flags(&file, 1, 3, available);
        set_packed_flags(&file, 1, 255, flags);
        vmm.lend(file).unwrap();
        if let Some(base) = base {
            vmm.state(SET_VRING_BASE, 1, base).unwrap();
        }
        (0..2).for_each(|ring| vmm.set_up(ring));
        let found: Vec<Footing> =
            vmm.session.status().rings.iter().map(|ring| ring.footing).collect();
        assert_eq!(found[..2], [Footing::Sure, footing], "{flags:#x}, {base:x?}");
        // Halted and started by us, it goes on where it stands.
        vmm.state(SET_VRING_NUM, 1, 128).unwrap();
        assert_eq!(vmm.session.status().rings[1].footing, footing);
    }
}

#[test]
fn a_split_ring_starts_where_its_used_index_is() {
    let _alone = alone();
    let mut vmm = Vmm::with_memory(MODERN);
    let file = memfd(MEMORY_BYTES);
    set_used_index(&file, 0, 0xfff0);
    vmm.lend(file).unwrap();
    vmm.state(SET_VRING_BASE, 0, 0).unwrap();
    vmm.set_up(0);
    let position = vmm.host.start_of(0).terms.position;
    assert_eq!(position, Position { available: 0xfff0, used: 0xfff0 });
}

#[test]
fn what_changes_nothing_halts_nothing_and_what_changes_a_ring_restarts_it() {
    let _alone = alone();
    let mut vmm = Vmm::running(MODERN, 4);
    let before = vmm.host.counts();
    vmm.set(SET_FEATURES, &[MODERN.bits()], None).unwrap();
    vmm.set(SET_VRING_ADDR, &addresses(0), None).unwrap();
    vmm.state(SET_VRING_NUM, 0, 256).unwrap();
    vmm.state(SET_VRING_ENABLE, 0, 1).unwrap();
    vmm.set(SET_VRING_ERR, &[0], Some(eventfd())).unwrap();
    assert_eq!(vmm.host.counts(), before);
    vmm.state(SET_VRING_NUM, 0, 128).unwrap();
    vmm.set(SET_VRING_CALL, &[0], Some(eventfd())).unwrap();
    vmm.set(SET_VRING_ADDR, &[0, addresses(0)[1], addresses(0)[3], addresses(0)[2], 0], None)
        .unwrap();
    assert_eq!(vmm.host.counts(), (before.0 + 3, before.1 + 3));
    assert_eq!(vmm.host.running().len(), 4);
}

#[test]
fn rings_of_another_kind_begin_anew() {
    let _alone = alone();
    let mut vmm = Vmm::running(MODERN, 2);
    vmm.host.log().progress = 9;
    vmm.set(SET_FEATURES, &[PACKED.bits()], None).unwrap();
    let start = vmm.host.start_of(1);
    assert_eq!(start.kind, RingKind::Packed);
    assert_eq!(start.terms.position, Position { available: 0x8000, used: 0x8000 });
}

#[test]
fn a_device_with_the_short_header_is_told_so() {
    let _alone = alone();
    let mut vmm = Vmm::with_memory(Features::CSUM);
    vmm.state(SET_VRING_NUM, 0, 256).unwrap();
    vmm.set(SET_VRING_ADDR, &addresses(0), None).unwrap();
    vmm.set(SET_VRING_KICK, &[0], Some(eventfd())).unwrap_err();
    assert_eq!(
        vmm.error(),
        "ring 0 cannot run: neither version_1 nor mrg_rxbuf is negotiated: use a modern virtio \
         driver (disable-legacy=on in QEMU)"
    );
    vmm.set(SET_FEATURES, &[Features::MRG_RXBUF.bits()], None).unwrap();
    assert_eq!(vmm.host.running(), [0]);
}

#[test]
fn features_that_were_never_offered_are_refused() {
    let _alone = alone();
    let mut vmm = Vmm::running(MODERN, 1);
    let strange = MODERN.bits() | 1 << 57 | 1 << 17;
    vmm.set(SET_FEATURES, &[strange], None).unwrap_err();
    let error = "SET_FEATURES: bit_17, bit_57: never offered: have the front end ask first";
    assert!(vmm.error().starts_with(error), "{}", vmm.error());
    assert_eq!((vmm.host.running(), vmm.host.start_of(0).terms.merge), (vec![0], Merge::Mergeable));
    vmm.set(SET_PROTOCOL_FEATURES, &[1 << 1], None).unwrap_err();
    assert!(vmm.error().starts_with("SET_PROTOCOL_FEATURES: bit_1: never offered"));
    assert_eq!(vmm.session.status().features, Some(MODERN));
}

#[test]
fn requests_are_acknowledged_only_where_that_was_negotiated_and_asked() {
    let _alone = alone();
    let mut vmm = Vmm::silent();
    assert_eq!(vmm.send(SET_OWNER, &[], None).unwrap(), Handled::Silently);
    assert_eq!(vmm.send(99, &[], None).unwrap(), Handled::Silently);
    let offered = Body::Value(Features::OFFERED.bits());
    assert_eq!(vmm.get(GET_FEATURES, &[]), offered);
    let protocol = ProtocolFeatures::REPLY_ACK.bits();
    vmm.set(SET_PROTOCOL_FEATURES, &[protocol], None).unwrap();
    vmm.set(SET_OWNER, &[], None).unwrap();
    vmm.set(99, &[], None).unwrap_err();
    assert_eq!(vmm.error(), "request 99: not offered here: the front end should not send it");
    let unasked = Message { acknowledge: Acknowledge::Unasked, ..message(SET_OWNER, &[], None) };
    assert_eq!(vmm.session.handle(unasked).unwrap(), Handled::Silently);
    let counts = vmm.session.status().counts;
    assert_eq!((counts.requests, counts.refused, counts.unknown), (7, 2, 2));
}

#[test]
fn what_has_to_be_answered_and_cannot_be_ends_the_session() {
    let _alone = alone();
    for code in [6, 24, 26, 31, 40, 43, 44] {
        let mut vmm = Vmm::new();
        let fault = vmm.send(code, &[0], None).unwrap_err();
        assert!(matches!(fault, Fault::Unanswerable { .. }), "{fault}");
    }
    let fault = Vmm::new().send(GET_VRING_BASE, &[4], None).unwrap_err();
    assert_eq!(
        fault.to_string(),
        "GET_VRING_BASE cannot be answered: GET_VRING_BASE: ring 4: this device has 2 queue \
         pairs, rings 0 to 3"
    );
}

#[test]
fn a_worker_that_does_not_let_go_delays_the_answer() {
    let _alone = alone();
    let mut vmm = Vmm::running(MODERN, 2);
    vmm.host.log().stuck = 2;
    assert_eq!(vmm.send(GET_VRING_BASE, &[0], None).unwrap(), Handled::Stuck);
    let fault = vmm.send(SET_OWNER, &[], None).unwrap_err();
    assert_eq!(fault.to_string(), "SET_OWNER: handed over while another request was not done");
    assert_eq!(vmm.session.resume().unwrap(), Handled::Stuck);
    let Handled::Reply(reply) = vmm.session.resume().unwrap() else { panic!() };
    assert_eq!(reply.body, Body::Base { ring: 0, base: 0 });
    assert_eq!(vmm.session.resume().unwrap(), Handled::Silently);
    assert_eq!(vmm.host.running(), [1]);
}

#[test]
fn a_broken_ring_is_signalled_and_stays_down_until_it_is_set_up_anew() {
    let _alone = alone();
    let mut vmm = Vmm::running(MODERN, 2);
    let error = eventfd();
    vmm.set(SET_VRING_ERR, &[1], Some(error.try_clone().unwrap())).unwrap();
    let ring = RingIndex::new(1, 2).unwrap();
    vmm.host.log().broken.push((ring, RingFault::Overrun));
    vmm.session.attend();
    let mut count = [0; 8];
    rustix::io::read(&error, &mut count).unwrap();
    assert_eq!(u64::from_ne_bytes(count), 1);
    let status = vmm.session.status();
    let how = "its driver made more buffers available than it has entries";
    assert_eq!(status.rings[1].state, RingState::Broken(how.to_owned()));
    assert_eq!(status.counts.broken_rings, 1);
    assert_eq!(vmm.error(), format!("ring 1 is broken: {how}: reset the guest's network device"));
    vmm.lend(memfd(MEMORY_BYTES)).unwrap();
    assert_eq!(vmm.host.running(), [0]);
    vmm.stop(1);
    vmm.set(SET_VRING_KICK, &[1], Some(eventfd())).unwrap();
    assert_eq!(vmm.host.running(), [0, 1]);
}

#[test]
fn memory_that_is_cut_short_breaks_the_rings_that_run() {
    let _alone = alone();
    let mut vmm = Vmm::running(MODERN, 2);
    let file = File::from(memfd(MEMORY_BYTES));
    vmm.lend(file.try_clone().unwrap().into()).unwrap();
    file.set_len(4096).unwrap();
    vmm.session.attend();
    assert_eq!(vmm.session.status().counts.broken_rings, 0, "nobody touched what is gone");
    let memory = Arc::clone(&vmm.host.start_of(0).terms.memory);
    let last = GUEST + MEMORY_BYTES - 1;
    let mut byte = [1];
    memory.place(&mut RegionHint::default(), last, 1).unwrap().read(&mut byte);
    assert_eq!(byte, [0]);
    drop(memory);
    vmm.session.attend();
    vmm.session.attend();
    let how = "the file of the memory that it lies in was cut short";
    let status = vmm.session.status();
    let broken = RingState::Broken(how.to_owned());
    assert!(status.rings[..2].iter().all(|ring| ring.state == broken), "{status:?}");
    assert_eq!((&status.rings[2].state, status.counts.broken_rings), (&RingState::Stopped, 2));
    assert_eq!(vmm.error(), format!("ring 1 is broken: {how}: restart the VM"));
    vmm.set(SET_VRING_KICK, &[0], Some(eventfd())).unwrap_err();
    let cannot = format!("{how}: restart the VM");
    assert_eq!(vmm.error(), format!("ring 0 cannot run: {cannot}"));
    assert_eq!(vmm.session.release(), Ok(()));
    assert_eq!(vmm.error(), format!("ring 1 cannot run: {cannot}"));
    assert_eq!(vmm.session.status().rings[1].state, RingState::Failed(cannot));
    vmm.lend(memfd(MEMORY_BYTES)).unwrap();
    vmm.session.attend();
    assert_eq!((vmm.host.running(), vmm.session.status().counts.broken_rings), (vec![0, 1], 2));
}

#[test]
fn a_broken_ring_that_is_released_runs_again_where_it_stood() {
    let _alone = alone();
    let mut vmm = Vmm::running(PACKED, 2);
    vmm.host.log().progress = 7;
    let ring = RingIndex::new(1, 2).unwrap();
    vmm.host.log().broken.push((ring, RingFault::Index));
    vmm.session.attend();
    vmm.host.log().stuck = 1;
    assert_eq!(vmm.session.release(), Err(Stuck));
    assert!(matches!(vmm.session.status().rings[1].state, RingState::Broken(_)));
    assert_eq!(vmm.session.release(), Ok(()));
    assert_eq!(vmm.host.running(), [0, 1]);
    let position = vmm.host.start_of(1).terms.position;
    assert_eq!(position, Position { available: 0x8007, used: 0x8007 });
    assert_eq!(vmm.host.start_of(0).terms.position.used, 0x8000, "the other ran on");
}

#[test]
fn a_ring_that_is_released_while_a_message_waits_runs_when_that_is_done() {
    let _alone = alone();
    let mut vmm = Vmm::running(MODERN, 2);
    let held = Arc::clone(&vmm.host.start_of(0).terms.memory);
    vmm.host.log().broken.push((RingIndex::new(1, 2).unwrap(), RingFault::Index));
    vmm.session.attend();
    let table = [1, GUEST, MEMORY_BYTES, USER, 0];
    let handled = vmm.send(SET_MEM_TABLE, &table, Some(memfd(MEMORY_BYTES))).unwrap();
    assert_eq!(handled, Handled::Stuck);
    assert_eq!(vmm.session.release(), Ok(()));
    assert!(vmm.host.running().is_empty());
    drop(held);
    assert!(matches!(vmm.session.resume().unwrap(), Handled::Reply(_)));
    assert_eq!(vmm.host.running(), [0, 1]);
}

#[test]
fn a_reset_device_has_to_be_set_up_again() {
    let _alone = alone();
    let mut vmm = Vmm::running(MODERN, 4);
    vmm.set(NET_SET_MTU, &[9000], None).unwrap();
    assert_eq!(vmm.session.status().mtu, Some(9000));
    vmm.set(RESET_DEVICE, &[], None).unwrap();
    assert_eq!((vmm.host.running(), vmm.session.status().mtu), (vec![], None));
    vmm.set(SET_VRING_KICK, &[0], Some(eventfd())).unwrap();
    assert!(vmm.host.running().is_empty());
    vmm.set_up(0);
    assert_eq!(vmm.host.start_of(0).service, Service::Disabled);
}

#[test]
fn the_end_of_a_session_halts_its_rings_and_the_next_one_begins_anew() {
    let _alone = alone();
    let mut vmm = Vmm::running(MODERN, 4);
    let memory = Arc::downgrade(&vmm.host.start_of(0).terms.memory);
    vmm.host.log().stuck = 1;
    assert!(vmm.session.end().is_err());
    assert!(vmm.session.end().is_ok());
    assert!(vmm.host.running().is_empty() && memory.upgrade().is_none());
    let status = vmm.session.status();
    assert_eq!((status.features, status.memory.regions), (None, 0));
    assert_eq!(status.protocol, ProtocolFeatures::NONE);

    let Vmm { session, host } = Vmm::running(MODERN, 2);
    drop(session);
    assert!(host.running().is_empty());
}

#[test]
fn the_status_is_for_people() {
    let _alone = alone();
    let mut vmm = Vmm::running(MODERN, 1);
    vmm.set(SET_FEATURES, &[1 << 60], None).unwrap_err();
    let status = vmm.session.status();
    assert_eq!(status.features.unwrap().to_string(), "mrg_rxbuf, protocol_features, version_1");
    assert_eq!(status.ring_kind, Some(RingKind::Split));
    assert_eq!(status.memory.to_string(), "262144 bytes in 1 regions");
    let rings: Vec<_> =
        status.rings.iter().map(|ring| (ring.size, ring.state.clone(), ring.service)).collect();
    assert_eq!(rings[0], (Some(256), RingState::Started, Service::Enabled));
    assert_eq!(rings[1], (None, RingState::Stopped, Service::Disabled));
    assert!(status.last_error.unwrap().contains("bit_60"));
}

#[test]
fn an_eventfd_that_others_share_does_not_block() {
    let _alone = alone();
    let mut vmm = Vmm::running(MODERN, 1);
    let call = eventfd();
    vmm.set(SET_VRING_CALL, &[0], Some(call.try_clone().unwrap())).unwrap();
    let call_of_ring = vmm.host.start_of(0).call.unwrap();
    rustix::io::write(&call, &(u64::MAX - 1).to_ne_bytes()).unwrap();
    Eventfd::signal(&call_of_ring);
}
