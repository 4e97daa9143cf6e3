//! What can be lent, and what cannot.

#![allow(clippy::unwrap_used, reason = "a failure in the wiring is the message")]

use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;

use rustix::fs::{MemfdFlags, Mode, OFlags, memfd_create};

use super::*;
use crate::sys::memory::RegionHint;

const PAGE: u64 = 4096;

fn memfd(bytes: u64) -> OwnedFd {
    let file = File::from(memfd_create("regions", MemfdFlags::CLOEXEC).unwrap());
    file.set_len(bytes).unwrap();
    file.into()
}

fn spec(guest: u64, bytes: u64) -> RegionSpec {
    RegionSpec { guest, bytes, user: guest.wrapping_add(0x7000_0000), offset: 0 }
}

fn added(spec: RegionSpec, file: OwnedFd) -> Result<Regions, String> {
    let mut regions = Regions::default();
    regions.add(spec, &file).map(|()| regions).map_err(|error| error.to_string())
}

#[track_caller]
fn assert_refused(spec: RegionSpec, file: OwnedFd, fault: &str) {
    let expected = format!("memory region at guest address {:#x}: {fault}", spec.guest);
    assert_eq!(added(spec, file).unwrap_err(), expected);
}

fn read(regions: &Regions, guest: u64) -> Option<u8> {
    let mut byte = [0];
    let memory = regions.memory()?;
    memory.place(&mut RegionHint::default(), guest, 1)?.read(&mut byte);
    Some(byte[0])
}

#[test]
fn a_region_is_where_it_is_said_to_be_and_no_longer() {
    let file = File::from(memfd(8 * PAGE));
    file.write_all_at(&[7], 5000).unwrap();
    file.write_all_at(&[8], 5099).unwrap();
    let spec = RegionSpec { guest: 0x1_0000, bytes: 100, user: 0x5000, offset: 5000 };
    let regions = added(spec, file.into()).unwrap();
    assert_eq!((read(&regions, 0x1_0000), read(&regions, 0x1_0000 + 99)), (Some(7), Some(8)));
    assert_eq!((read(&regions, 0xffff), read(&regions, 0x1_0000 + 100)), (None, None));
    assert_eq!(
        (regions.translate(0x5000), regions.translate(0x5063)),
        (Some(0x1_0000), Some(0x1_0063))
    );
    assert_eq!((regions.translate(0x4fff), regions.translate(0x5064)), (None, None));
    assert_eq!(regions.extent(), Extent { regions: 1, bytes: 100 });
}

#[test]
fn what_is_no_shared_memory_is_refused() {
    let there = spec(0, PAGE);
    let folder = File::open(env!("CARGO_MANIFEST_DIR")).unwrap().into();
    let none = |kind| {
        format!("its descriptor is of a {kind}, not of a file: give the VM's memory as a memfd")
    };
    assert_refused(there, folder, &none("directory"));
    assert_refused(there, std::io::pipe().unwrap().1.into(), &none("pipe"));
    let socket = std::os::unix::net::UnixStream::pair().unwrap().0;
    assert_refused(there, socket.into(), &none("socket"));
    assert_refused(there, File::open("/dev/null").unwrap().into(), &none("character device"));
    let eventfd = rustix::event::eventfd(0, rustix::event::EventfdFlags::CLOEXEC).unwrap();
    assert_refused(there, eventfd, &none("thing of its own kind (an eventfd, for example)"));

    // Where this was built is no memory, and that is said before anything else of a file.
    let disk = File::open(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml")).unwrap();
    let error = added(there, disk.into()).unwrap_err();
    assert!(error.contains("its file's system has the type 0x"), "{error}");
}

#[test]
fn a_file_that_cannot_be_written_is_refused() {
    use std::os::fd::AsRawFd;
    let file = memfd(PAGE);
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    for flags in [OFlags::RDONLY, OFlags::WRONLY, OFlags::PATH] {
        let other = rustix::fs::open(&path, flags | OFlags::CLOEXEC, Mode::empty()).unwrap();
        assert_refused(
            spec(0, PAGE),
            other,
            "its file is not open for reading and writing: share it (share=on)",
        );
    }
}

#[test]
fn numbers_that_cannot_be_are_refused() {
    assert_refused(spec(0, 0), memfd(PAGE), "size 0: a region has at least one byte");
    let wraps = |field, value: u64| {
        format!("{field} {value:#x} and size 0x1000 are together beyond 64 bits")
    };
    let high = u64::MAX - 0xffe;
    let at = |guest, user, offset| RegionSpec { guest, user, offset, bytes: PAGE };
    assert_refused(at(high, 0, 0), memfd(PAGE), &wraps("guest address", high));
    assert_refused(at(0, high, 0), memfd(PAGE), &wraps("user address", high));
    assert_refused(at(0, 0, high), memfd(PAGE), &wraps("offset", high));
    let short = "offset 0x1, size 0x1000: its file has 0x1000 bytes";
    assert_refused(at(0, 0, 1), memfd(PAGE), short);
    let huge = u64::MAX / 2;
    assert_refused(spec(0, huge), memfd(huge), &RegionFault::TooLarge(huge).to_string());
}

#[test]
fn a_file_that_was_truncated_is_refused() {
    let file = File::from(memfd(2 * PAGE));
    file.set_len(PAGE).unwrap();
    let short = "offset 0x0, size 0x2000: its file has 0x1000 bytes";
    assert_refused(spec(0, 2 * PAGE), file.into(), short);
}

#[test]
fn regions_that_overlap_are_refused_and_leave_the_others_alone() {
    let mut regions = added(spec(0x10_0000, 2 * PAGE), memfd(2 * PAGE)).unwrap();
    let overlaps = |guest, user| {
        let spec = RegionSpec { guest, user, bytes: 2 * PAGE, offset: 0 };
        let mut regions = added(self::spec(0x10_0000, 2 * PAGE), memfd(2 * PAGE)).unwrap();
        regions.release().unwrap();
        let error = regions.add(spec, &memfd(2 * PAGE)).err().map(|error| error.to_string());
        assert_eq!(read(&regions, 0x10_0000), Some(0));
        error
    };
    for guest in [0x10_0000, 0x10_1fff, 0x0f_e001] {
        let error = overlaps(guest, 0).unwrap();
        let expected = "size 0x2000: overlaps the region at guest address 0x100000";
        assert!(error.contains("guest address") && error.ends_with(expected), "{error}");
    }
    assert!(overlaps(0, 0x7010_0000).unwrap().contains("user address 0x70100000"));
    assert_eq!((overlaps(0x10_2000, 0), overlaps(0x0f_e000, 0x7010_2000)), (None, None));
    regions.release().unwrap();
    regions.add(spec(0x10_2000, PAGE), &memfd(PAGE)).unwrap();
    assert_eq!((read(&regions, 0x10_1fff), read(&regions, 0x10_2fff)), (Some(0), Some(0)));
}

#[test]
fn regions_come_and_go_one_by_one_up_to_a_number() {
    let mut regions = Regions::default();
    let file = memfd(PAGE);
    for index in 0..REGIONS_MAX as u64 {
        regions.release().unwrap();
        regions.add(spec(index * PAGE, PAGE), &file).unwrap();
    }
    regions.release().unwrap();
    let error = regions.add(spec(1 << 40, PAGE), &file).unwrap_err();
    assert!(matches!(error.fault, RegionFault::TooMany));
    regions.release().unwrap();
    regions.remove(spec(PAGE, PAGE)).unwrap();
    assert_eq!((read(&regions, 0), read(&regions, PAGE)), (Some(0), None));
    regions.release().unwrap();
    let error = regions.remove(spec(1 << 40, PAGE)).unwrap_err();
    assert!(matches!(error.fault, RegionFault::Absent));
    assert_eq!(regions.extent().regions, REGIONS_MAX - 1);
}

/// As QEMU before 8.0 does, once for each queue pair.
#[test]
fn what_is_lent_or_taken_back_again_is_as_it_is() {
    let (file, other) = (memfd(2 * PAGE), memfd(2 * PAGE));
    let [first, second] = [0, 2 * PAGE].map(|guest| spec(guest, 2 * PAGE));
    let mut regions = Regions::default();
    let mut change = |change: &dyn Fn(&mut Regions) -> Result<(), RegionError>| {
        regions.release().unwrap();
        let changed = change(&mut regions).map_err(|error| error.fault);
        (changed, regions.extent().regions)
    };
    for _ in 0..2 {
        for pair in 0..4 {
            for (spec, there) in [(first, 1), (second, 2)] {
                let there = if pair == 0 { there } else { 2 };
                // A descriptor of its own, as each message has.
                let again = file.try_clone().unwrap();
                let (changed, regions) = change(&|all| all.add(spec, &again));
                assert!(changed.is_ok() && regions == there, "pair {pair}: {regions} there");
            }
        }
        // Another file, or another part of the same one, is not the same memory.
        let overlaps = |(changed, _)| matches!(changed, Err(RegionFault::Overlaps { .. }));
        assert!(overlaps(change(&|all| all.add(first, &other))));
        let part = RegionSpec { offset: PAGE, bytes: PAGE, ..first };
        assert!(overlaps(change(&|all| all.add(part, &file))));
        for pair in 0..4 {
            for (spec, left) in [(first, 1), (second, 0)] {
                let left = if pair == 0 { left } else { 0 };
                let (changed, regions) = change(&|all| all.remove(spec));
                assert!(changed.is_ok() && regions == left, "pair {pair}: {regions} left");
            }
        }
    }
    let never = change(&|all| all.remove(spec(1 << 30, PAGE)));
    assert!(matches!(never, (Err(RegionFault::Absent), 0)));
}

#[test]
fn a_table_takes_the_place_of_all_and_a_bad_one_leaves_none() {
    let mut regions = added(spec(0, PAGE), memfd(PAGE)).unwrap();
    regions.release().unwrap();
    let table = vec![(spec(PAGE, PAGE), memfd(PAGE)), (spec(0x9000, PAGE), memfd(PAGE))];
    regions.replace(table).unwrap();
    assert_eq!([0, PAGE, 0x9000].map(|at| read(&regions, at)), [None, Some(0), Some(0)]);
    regions.release().unwrap();
    let bad = vec![(spec(0, PAGE), memfd(PAGE)), (spec(PAGE, PAGE), memfd(0))];
    regions.replace(bad).unwrap_err();
    assert_eq!((regions.extent(), read(&regions, 0)), (Extent::default(), None));
}

#[test]
fn memory_that_somebody_has_is_not_let_go() {
    let mut regions = added(spec(0, PAGE), memfd(PAGE)).unwrap();
    let held = Arc::clone(regions.memory().unwrap());
    assert_eq!(regions.release(), Err(Stuck));
    assert_eq!(read(&regions, 0), Some(0));
    drop(held);
    assert_eq!(regions.release(), Ok(()));
}
