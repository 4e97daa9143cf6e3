//! Memory that cannot be lent, or is taken away under the switch's hands.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use hairpin_bench::front_end::memory::{GUEST, PAGE_BYTES};
use hairpin_bench::front_end::message::{SET_MEM_TABLE, state, table};
use hairpin_bench::front_end::{FrontEndError, GuestMemory, Layout};
use hairpin_dataplane::port::vhost_user::message::RegionSpec;
use rustix::fs::{
    MemfdFlags, Mode, OFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create, open,
};

use super::cases::TRANSMIT;
use super::stage::{Expected, Stage};

/// Lends a table at a port of its own; it is refused for this reason, and the memory from
/// before is lent again.
#[track_caller]
fn refuse(stage: &Stage, number: usize, words: &[u64], fds: &[BorrowedFd<'_>], reason: &str) {
    let layout = [Layout::SPLIT, Layout::PACKED][number % 2];
    let mut front = stage.guest(number, layout);
    let answer = front.connection().set(SET_MEM_TABLE, words, fds);
    assert!(matches!(answer, Err(FrontEndError::Refused(SET_MEM_TABLE))), "{reason}: {answer:?}");
    let shown = stage.shown_refusing(number, 1);
    let said = shown["last_refusal"].as_str().unwrap();
    assert!(said.starts_with("SET_MEM_TABLE: ") && said.contains(reason), "{reason}: {said}");
    let mut hostile = front.hostile();
    let whole = hostile.memory().whole();
    hostile.lend(&[whole]).unwrap();
    stage.await_up(number);
    stage.await_lockstep(20);
}

fn numbers(count: u32, regions: &[RegionSpec]) -> Vec<u64> {
    let mut words = table(regions);
    words[0] = state(count, 0);
    words
}

#[test]
fn numbers_of_regions_that_cannot_be() {
    let stage = Stage::start(5, 1);
    let memory = GuestMemory::new(0x9000).unwrap();
    let nine: Vec<RegionSpec> = (0..9).map(|page| memory.part(page * 0x1000, 0x1000)).collect();
    let fds = [memory.as_fd(); 9];
    refuse(&stage, 0, &table(&nine), &fds, "number of regions 0x9: at most 8");
    let words = numbers(509, &nine[..8]);
    refuse(&stage, 1, &words, &fds[..8], "number of regions 0x1fd: at most 8");
    let words = numbers(u32::MAX, &nine[..1]);
    refuse(&stage, 2, &words, &fds[..1], "number of regions 0xffffffff: at most 8");
    let words = numbers(7, &nine[..8]);
    refuse(&stage, 3, &words, &fds[..8], "size 264: its payload has 232 bytes");
    // None: that there is no memory any more.
    let mut front = stage.guest(4, Layout::PACKED);
    front.hostile().lend(&[]).unwrap();
    assert_eq!(stage.shown(4)["memory"]["regions"], 0);
    assert_eq!(stage.shown(4)["queues"][0]["receive"]["state"], "stopped");
    let whole = front.hostile().memory().whole();
    front.hostile().lend(&[whole]).unwrap();
    stage.await_up(4);
    stage.expect(4, "without memory and with it", &Expected::Drops(Vec::new()));
    stage.end();
}

#[test]
fn cve_2018_1059_cve_2020_10722_regions_that_overlap_or_wrap() {
    let stage = Stage::start(9, 1);
    let memory = GuestMemory::new(0x4000).unwrap();
    let fd = memory.as_fd();
    let first = memory.part(0, 0x2000);
    let wrapping = u64::MAX - 0xfff;
    let tables: [(&[RegionSpec], &str); 9] = [
        (&[first, first], "overlaps the region at guest address"),
        (&[first, RegionSpec { guest: first.guest + 0x1fff, user: 0, ..first }], "overlaps"),
        (&[first, RegionSpec { user: first.user + 0x1000, guest: 0, ..first }], "overlaps"),
        (&[RegionSpec { user: wrapping, ..first }], "user address 0xfffffffffffff000 and size"),
        (&[RegionSpec { guest: wrapping, ..first }], "guest address 0xfffffffffffff000 and size"),
        (&[RegionSpec { offset: wrapping, ..first }], "offset 0xfffffffffffff000 and size"),
        (&[RegionSpec { bytes: 0, ..first }], "size 0: a region has at least one byte"),
        (&[RegionSpec { bytes: 0x4001, ..first }], "its file has 0x4000 bytes"),
        (&[RegionSpec { bytes: 1 << 62, ..first }], "have at most 0x40000000000 bytes together"),
    ];
    for (number, (regions, reason)) in tables.into_iter().enumerate() {
        let fds = vec![fd; regions.len()];
        refuse(&stage, number, &table(regions), &fds, reason);
    }
    stage.end();
}

/// A memfd of one page that was sealed so.
fn sealed(seals: SealFlags) -> OwnedFd {
    let file = memfd_create("sealed", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap();
    ftruncate(&file, 0x1000).unwrap();
    fcntl_add_seals(&file, seals).unwrap();
    file
}

/// Used rings lie in memory that is not to be written, or in none.
#[test]
fn descriptors_that_are_no_memory_and_memory_that_cannot_be_written() {
    let stage = Stage::start(9, 1);
    let memory = GuestMemory::new(0x1000).unwrap();
    let own = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&memory.as_fd()));
    let read_only = open(own, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).unwrap();
    let epoll = rustix::event::epoll::create(rustix::event::epoll::CreateFlags::CLOEXEC).unwrap();
    let short = memfd_create("short", MemfdFlags::CLOEXEC).unwrap();
    let kinds: [(OwnedFd, &str); 9] = [
        (File::open("/").unwrap().into(), "its descriptor is of a directory"),
        (UnixStream::pair().unwrap().0.into(), "its descriptor is of a socket"),
        (std::io::pipe().unwrap().1.into(), "its descriptor is of a pipe"),
        (epoll, "its descriptor is of a"),
        (File::open("/dev/zero").unwrap().into(), "its descriptor is of a character device"),
        (read_only, "its file is not open for reading and writing"),
        (sealed(SealFlags::WRITE), "its file cannot be mapped"),
        (sealed(SealFlags::FUTURE_WRITE), "its file cannot be mapped"),
        (short, "its file has 0x0 bytes"),
    ];
    for (number, (fd, reason)) in kinds.iter().enumerate() {
        let words = table(&[memory.whole()]);
        refuse(&stage, number, &words, &[fd.as_fd()], reason);
    }
    stage.end();
}

/// What is cut off, and how the switch comes to touch it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Cut {
    /// Everything; it looks at the transmit ring.
    AllAndKick,
    /// Everything; it looks at the receive ring.
    AllAndReceive,
    /// The transmit queue's buffers, but not its ring; it reads a frame.
    BuffersAndSend,
}

const CUTS: [Cut; 3] = [Cut::AllAndKick, Cut::AllAndReceive, Cut::BuffersAndSend];

#[test]
fn memory_that_is_cut_short_costs_its_own_port_only() {
    let layouts = [Layout::SPLIT, Layout::PACKED];
    let mut stage = Stage::start(layouts.len() * CUTS.len(), 1);
    let expected = Expected::Quarantined("was cut short".to_owned());
    let mut number = 0;
    for layout in layouts {
        for cut in CUTS {
            let mut front = stage.guest(number, layout);
            let frame = stage.station(number).frame(0, 1500);
            let mut hostile = front.hostile();
            let chain = hostile.lay_complete(0, &frame);
            match cut {
                Cut::AllAndKick | Cut::AllAndReceive => hostile.memory().truncate(0).unwrap(),
                Cut::BuffersAndSend => {
                    let buffers = hostile.queue(TRANSMIT).ground().buffers - GUEST;
                    hostile.memory().truncate(buffers - buffers % PAGE_BYTES).unwrap();
                    hostile.offer(TRANSMIT, &[chain]).unwrap();
                    hostile.publish(TRANSMIT);
                }
            }
            hostile.ring(TRANSMIT).kick();
            if cut == Cut::AllAndReceive {
                stage.send_to(number, 1);
            }
            stage.expect(number, &format!("{cut:?}, {}", layout.name), &expected);
            number += 1;
        }
    }
    stage.end();
}
