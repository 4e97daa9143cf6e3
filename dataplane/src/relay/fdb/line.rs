//! One cache line of the table: three entries under a version word.

use super::{Address, Tenant};
use crate::snapshot::{DomainId, Generation, PortId};
use crate::sys::sync::{AtomicU32, AtomicU64, Ordering, fence};
use crate::wire::{Mac, Vid};

/// Entries in a line.
pub(super) const WAYS: usize = 3;
/// Tries of a reader, then of a writer: a writer holds a line for some 20 ns,
/// unless it is preempted, and then nobody waits.
const TRIES_MAX: u32 = if cfg!(loom) { 2 } else { 64 };

/// Bit of the version: a writer holds the line.
const LOCKED: u32 = 1;
/// Bit of the version: entries at home here may stand in the spill line.
const SPILLED: u32 = 2;
/// What every writing adds.
const VERSION: u32 = 4;

/// One entry, unpacked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Entry {
    pub(super) address: Address,
    pub(super) tenant: Tenant,
    /// The low half of the milliseconds at which it was used last.
    pub(super) stamp: u32,
}

/// A line. A way is free while its key is zero, which no station's address gives.
#[repr(align(64))]
pub(super) struct Line {
    version: AtomicU32,
    stamps: [AtomicU32; WAYS],
    /// MAC in bits 0..48, VID in 48..60.
    keys: [AtomicU64; WAYS],
    /// Domain in bits 0..16, port in 16..32, generation in 32..48.
    places: [AtomicU64; WAYS],
}

#[cfg(not(loom))]
const _: () = assert!(size_of::<Line>() == 64, "a line is one cache line");

#[inline]
fn key(address: Address) -> u64 {
    u64::from(address.vid.get()) << 48 | address.mac.to_u64()
}

fn place(entry: &Entry) -> u64 {
    let Tenant { port, generation } = entry.tenant;
    u64::from(generation.0) << 32 | u64::from(port.0) << 16 | u64::from(entry.address.domain.0)
}

/// The entry of these words; nothing for a free way.
#[inline]
fn unpack(key: u64, place: u64, stamp: u32) -> Option<Entry> {
    let vid = Vid::new((key >> 48) as u16).filter(|_| key != 0)?;
    let address = Address { domain: DomainId(place as u16), vid, mac: Mac::from_u64(key) };
    let generation = Generation((place >> 32) as u16);
    let tenant = Tenant { port: PortId((place >> 16) as u16), generation };
    Some(Entry { address, tenant, stamp })
}

impl Default for Line {
    fn default() -> Line {
        Line {
            version: AtomicU32::new(0),
            stamps: std::array::from_fn(|_| AtomicU32::new(0)),
            keys: std::array::from_fn(|_| AtomicU64::new(0)),
            places: std::array::from_fn(|_| AtomicU64::new(0)),
        }
    }
}

impl Line {
    /// Reads something of the line as it was at one moment. Nothing if a writer
    /// was in the way at every try.
    #[inline]
    fn read<T>(&self, something: impl Fn() -> T) -> Option<T> {
        for _ in 0..TRIES_MAX {
            let before = self.version.load(Ordering::Acquire);
            let found = something();
            fence(Ordering::Acquire);
            let after = self.version.load(Ordering::Relaxed);
            if before == after && before & LOCKED == 0 {
                return Some(found);
            }
            std::hint::spin_loop();
        }
        None
    }

    /// Where the address stands, and what stands there.
    #[inline]
    pub(super) fn find(&self, address: Address) -> Option<(usize, Entry)> {
        self.read(|| self.position(address)).flatten()
    }

    /// All entries, as they were at one moment; none if a writer was in the way.
    pub(super) fn entries(&self) -> [Option<Entry>; WAYS] {
        self.read(|| std::array::from_fn(|way| self.entry(way))).unwrap_or_default()
    }

    /// The line as it is, to be looked at; nothing if a writer was in the way.
    pub(super) fn seen(&self) -> Option<Seen> {
        let ways = || std::array::from_fn(|way| self.entry(way));
        self.read(|| Seen { entries: ways(), has_spilled: self.has_spilled() })
    }

    #[inline]
    fn position(&self, address: Address) -> Option<(usize, Entry)> {
        let wanted = key(address);
        for way in 0..WAYS {
            if self.keys[way].load(Ordering::Relaxed) == wanted
                && let Some(entry) = self.entry(way)
                && entry.address.domain == address.domain
            {
                return Some((way, entry));
            }
        }
        None
    }

    /// What a way holds just now: consistent only for who holds the line.
    #[inline]
    pub(super) fn entry(&self, way: usize) -> Option<Entry> {
        let key = self.keys[way].load(Ordering::Relaxed);
        let place = self.places[way].load(Ordering::Relaxed);
        unpack(key, place, self.stamps[way].load(Ordering::Relaxed))
    }

    /// Whether entries at home here may stand in the spill line.
    #[inline]
    pub(super) fn has_spilled(&self) -> bool {
        self.version.load(Ordering::Relaxed) & SPILLED != 0
    }

    /// Notes that a way was used. If it was given to another entry since it was
    /// found, that one, which was used just now as well, looks no younger than it is.
    #[inline]
    pub(super) fn stamp(&self, way: u8, stamp: u32) {
        if let Some(word) = self.stamps.get(usize::from(way)) {
            word.store(stamp, Ordering::Relaxed);
        }
    }

    /// The line for one writer, unless another keeps it.
    pub(super) fn lock(&self) -> Option<Writing<'_>> {
        for _ in 0..TRIES_MAX {
            let version = self.version.load(Ordering::Relaxed);
            let locked = version | LOCKED;
            let won = version & LOCKED == 0
                && self
                    .version
                    .compare_exchange(version, locked, Ordering::Acquire, Ordering::Relaxed)
                    .is_ok();
            if won {
                // A reader that sees one of our words must see the lock as well.
                fence(Ordering::Release);
                return Some(Writing { line: self, version });
            }
            std::hint::spin_loop();
        }
        None
    }
}

/// A line of which a way is to be given to an address.
pub(super) trait Ways {
    /// Where the address stands, and what stands there.
    fn position(&self, address: Address) -> Option<(usize, Entry)>;

    /// A way that holds nothing, or nothing that counts.
    fn free(&self, is_stale: impl Fn(&Entry) -> bool) -> Option<usize>;

    /// Whether entries at home here may stand in the spill line.
    fn has_spilled(&self) -> bool;

    /// Puts an entry into a way.
    fn set(&self, way: usize, entry: &Entry);

    /// Notes that an entry at home here stands in the spill line.
    fn set_spilled(&mut self);
}

/// The first way whose entry, if it has one, does not count.
fn free(
    entry: impl Fn(usize) -> Option<Entry>,
    is_stale: impl Fn(&Entry) -> bool,
) -> Option<usize> {
    (0..WAYS).find(|&way| entry(way).is_none_or(|entry| is_stale(&entry)))
}

/// A line as it was at one moment. Nothing is written.
pub(super) struct Seen {
    entries: [Option<Entry>; WAYS],
    has_spilled: bool,
}

impl Ways for Seen {
    fn position(&self, address: Address) -> Option<(usize, Entry)> {
        let mut ways = self.entries.iter().enumerate();
        ways.find_map(|(way, entry)| Some((way, entry.filter(|it| it.address == address)?)))
    }

    fn free(&self, is_stale: impl Fn(&Entry) -> bool) -> Option<usize> {
        free(|way| self.entries[way], is_stale)
    }

    fn has_spilled(&self) -> bool {
        self.has_spilled
    }

    fn set(&self, _: usize, _: &Entry) {}

    fn set_spilled(&mut self) {}
}

/// A line that is being written; free again when dropped.
pub(super) struct Writing<'l> {
    line: &'l Line,
    /// What the version was, with the spill bit as it is to be.
    version: u32,
}

impl Ways for Writing<'_> {
    fn position(&self, address: Address) -> Option<(usize, Entry)> {
        self.line.position(address)
    }

    fn free(&self, is_stale: impl Fn(&Entry) -> bool) -> Option<usize> {
        free(|way| self.entry(way), is_stale)
    }

    fn has_spilled(&self) -> bool {
        self.version & SPILLED != 0
    }

    fn set(&self, way: usize, entry: &Entry) {
        self.line.stamps[way].store(entry.stamp, Ordering::Relaxed);
        self.line.places[way].store(place(entry), Ordering::Relaxed);
        self.line.keys[way].store(key(entry.address), Ordering::Relaxed);
    }

    fn set_spilled(&mut self) {
        self.version |= SPILLED;
    }
}

impl Writing<'_> {
    pub(super) fn entry(&self, way: usize) -> Option<Entry> {
        self.line.entry(way)
    }

    pub(super) fn clear(&self, way: usize) {
        self.line.keys[way].store(0, Ordering::Relaxed);
    }

    pub(super) fn clear_spilled(&mut self) {
        self.version &= !SPILLED;
    }
}

impl Drop for Writing<'_> {
    fn drop(&mut self) {
        self.line.version.store(self.version.wrapping_add(VERSION), Ordering::Release);
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use super::*;
    use loom::sync::Arc;

    fn entry(tenant: u16) -> Entry {
        let address = Address {
            domain: DomainId(tenant),
            vid: Vid::UNTAGGED,
            mac: Mac::new([2, 0, 0, 0, 0, 1]),
        };
        let tenant = Tenant { port: PortId(tenant), generation: Generation(tenant) };
        Entry { address, tenant, stamp: u32::from(tenant.port.0) }
    }

    #[test]
    fn a_reader_sees_one_entry_or_the_other_never_a_mix() {
        loom::model(|| {
            let line = Arc::new(Line::default());
            line.lock().expect("nobody else").set(0, &entry(1));
            let writer = Arc::clone(&line);
            let thread = loom::thread::spawn(move || {
                if let Some(held) = writer.lock() {
                    held.set(0, &entry(2));
                }
            });
            for seen in line.entries().into_iter().flatten() {
                assert!(seen == entry(1) || seen == entry(2), "a mix: {seen:?}");
            }
            thread.join().expect("the writer ends");
        });
    }

    #[test]
    fn two_writers_take_different_ways() {
        loom::model(|| {
            let line = Arc::new(Line::default());
            let add = |line: &Line, tenant| {
                line.lock().is_some_and(|held| {
                    held.free(|_| false).inspect(|&way| held.set(way, &entry(tenant))).is_some()
                })
            };
            let other = Arc::clone(&line);
            let thread = loom::thread::spawn(move || usize::from(add(&other, 1)));
            let added = usize::from(add(&line, 2)) + thread.join().expect("the writer ends");
            assert!(added >= 1, "each was refused, and nobody held the line");
            assert_eq!(line.entries().into_iter().flatten().count(), added);
        });
    }
}
