//! Memory that changes under running rings.

use std::os::fd::AsFd;
use std::sync::Arc;

use hairpin_dataplane::port::vhost_user::features::Features;
use hairpin_dataplane::port::vhost_user::session::{Handled, RingState};
use hairpin_dataplane::sys::memory::Mapping;
use hairpin_dataplane::sys::sigbus::WATCHED_MAX;

use super::wiring::*;

const MORE: u64 = 0x100_0000;

#[test]
fn rings_go_on_in_new_memory_if_they_still_lie_in_it() {
    let _alone = alone();
    let mut vmm = Vmm::running(MODERN, 4);
    let old = Arc::downgrade(&vmm.host.start_of(0).terms.memory);
    // Rings 2 and 3 lie behind its end.
    let half = MEMORY_BYTES / 2;
    let table = [1, GUEST + MORE, half, USER, 0];
    vmm.set(SET_MEM_TABLE, &table, Some(memfd(half))).unwrap();
    assert!(old.upgrade().is_none());
    assert_eq!(vmm.host.running(), [0, 1]);
    assert_eq!(vmm.host.start_of(0).terms.layout.descriptors, GUEST + MORE);
    let status = vmm.session.status();
    let RingState::Failed(why) = &status.rings[3].state else { panic!("{status:?}") };
    assert_eq!(why, "address 0x7f0000030000: in no memory region of the front end's");
    vmm.lend(memfd(MEMORY_BYTES)).unwrap();
    assert_eq!(vmm.host.running(), [0, 1, 2, 3]);
}

#[test]
fn a_table_that_cannot_be_leaves_no_memory() {
    let _alone = alone();
    let mut vmm = Vmm::running(MODERN, 2);
    vmm.lend(eventfd()).unwrap_err();
    let error = "SET_MEM_TABLE: memory region at guest address 0x100000: its descriptor is of a";
    assert!(vmm.error().starts_with(error), "{}", vmm.error());
    assert_eq!((vmm.host.running(), vmm.session.status().memory.regions), (vec![], 0));
    vmm.lend(memfd(MEMORY_BYTES)).unwrap();
    assert_eq!(vmm.host.running(), [0, 1]);
}

#[test]
fn regions_come_and_go_under_running_rings() {
    let _alone = alone();
    let mut vmm = Vmm::running(MODERN, 2);
    let more = [0, GUEST + MORE, MEMORY_BYTES, USER + MORE, 0];
    vmm.set(ADD_MEM_REG, &more, Some(memfd(MEMORY_BYTES))).unwrap();
    assert_eq!((vmm.host.running(), vmm.session.status().memory.regions), (vec![0, 1], 2));
    vmm.set(ADD_MEM_REG, &more, Some(memfd(MEMORY_BYTES))).unwrap_err();
    assert!(vmm.error().starts_with("ADD_MEM_REG: memory region"), "{}", vmm.error());
    assert_eq!((vmm.host.running(), vmm.session.status().memory.regions), (vec![0, 1], 2));
    vmm.set(REM_MEM_REG, &more, None).unwrap();
    // Some say it for each queue pair.
    vmm.set(REM_MEM_REG, &more, None).unwrap();
    vmm.set(REM_MEM_REG, &[0, 7 * GUEST, MEMORY_BYTES, USER, 0], None).unwrap_err();
    assert_eq!((vmm.host.running(), vmm.session.status().memory.regions), (vec![0, 1], 1));
    vmm.set(REM_MEM_REG, &[0, GUEST, MEMORY_BYTES, USER, 0], None).unwrap();
    assert_eq!((vmm.host.running(), vmm.session.status().memory.regions), (vec![], 0));
}

#[test]
fn more_regions_than_can_be_watched_are_refused() {
    let _alone = alone();
    let mut vmm = Vmm::with_memory(MODERN);
    let file = memfd(4096);
    let map = || Mapping::shared(file.as_fd(), 0, 4096).unwrap().watched();
    let mut others: Vec<Mapping> = std::iter::from_fn(|| map().ok()).collect();
    assert_eq!(others.len(), WATCHED_MAX - 1);
    let more = [0, GUEST + MORE, MEMORY_BYTES, USER + MORE, 0];
    vmm.set(ADD_MEM_REG, &more, Some(memfd(MEMORY_BYTES))).unwrap_err();
    let error = "ADD_MEM_REG: memory region at guest address 0x1100000: the regions of all VMs \
                 together are 32512, and no more can be: give their memory in fewer";
    assert_eq!(vmm.error(), error);
    others.swap_remove(0);
    vmm.set(ADD_MEM_REG, &more, Some(memfd(MEMORY_BYTES))).unwrap();
}

#[test]
fn memory_is_promised_to_be_let_go_only_when_it_is() {
    let _alone = alone();
    for code in [SET_MEM_TABLE, REM_MEM_REG] {
        let mut vmm = Vmm::running(MODERN, 2);
        let held = Arc::clone(&vmm.host.start_of(0).terms.memory);
        let handled = match code {
            SET_MEM_TABLE => vmm.send(code, &[0], None),
            _ => vmm.send(code, &[0, GUEST, MEMORY_BYTES, USER, 0], None),
        };
        assert_eq!(handled.unwrap(), Handled::Stuck);
        assert_eq!(vmm.session.resume().unwrap(), Handled::Stuck);
        assert!(vmm.host.running().is_empty());
        drop(held);
        assert!(matches!(vmm.session.resume().unwrap(), Handled::Reply(_)));
        assert_eq!(vmm.session.status().memory.regions, 0);
    }
}

#[test]
fn regions_without_huge_pages_may_begin_anywhere() {
    let _alone = alone();
    let mut vmm = Vmm::new();
    vmm.set(SET_FEATURES, &[MODERN.with(Features::EVENT_IDX).bits()], None).unwrap();
    let table = [1, GUEST, MEMORY_BYTES, USER, 0x30];
    vmm.set(SET_MEM_TABLE, &table, Some(memfd(MEMORY_BYTES + 0x30))).unwrap();
    vmm.set_up(0);
    assert_eq!(vmm.host.running(), [0]);
}
