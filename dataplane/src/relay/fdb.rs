//! The learned addresses of all domains: one table, shared by the workers.
//!
//! Lines of one cache line with three entries each. An address has one home line
//! and, if that is full, one of the spill lines. Readers take no lock: a version
//! word tells them whether a line changed under them, and after a few tries they
//! take the miss path. Writers hold a line by a try-lock in the same word. Every
//! word is an atomic, so a reader racing a writer reads old or new words, never
//! undefined ones.
//!
//! An entry names its *tenant*, a port and its generation. Raising a port's
//! generation therefore forgets all it learned, at once; the entries left behind
//! are swept later.
//!
//! Times are milliseconds. An entry's stamp is written only when it is
//! [`REFRESH_MS`] old, so that the lines of busy addresses stay shared between
//! CPUs: an address counts as idle for up to that much longer than it is. Times
//! that are multiples of [`REFRESH_MS`] are exact.

mod foresight;
mod hand;
mod line;
pub mod moves;
mod table;

use crate::ledger::DropReason;
use crate::snapshot::keyed::Secret;
use crate::snapshot::{DomainId, Generation, PORTS_MAX, PortId};
use crate::sys::huge;
use crate::sys::prefetch::prefetch_read;
use crate::sys::sync::{AtomicU64, AtomicUsize, Ordering};
use crate::wire::{Mac, Vid};
pub use foresight::Foresight;
use hand::{Asks, Hand, Writes};
use line::{Entry, Line, WAYS, Ways, Writing};
use moves::{Move, Moves, Told};
pub use table::Table;

/// How old a stamp becomes before it is written anew, in milliseconds.
pub const REFRESH_MS: u32 = 250;
/// Home lines that share a group of spill lines.
const HOMES_PER_GROUP: usize = 16;
/// Spill lines of a group: an address's hash picks one of them, so that a crowded
/// home line spreads over all.
const SPILLS_PER_GROUP: usize = 4;
/// The smallest table, so that a tiny capacity is reached before a line is full.
const HOMES_MIN: usize = 256;

/// A learned address's name: an address is learned for one VID of one domain.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Address {
    /// The address space.
    pub domain: DomainId,
    /// The classified VID.
    pub vid: Vid,
    /// The address, a station's.
    pub mac: Mac,
}

/// One tenancy of a port id.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Tenant {
    /// The port.
    pub port: PortId,
    /// Which of its tenants.
    pub generation: Generation,
}

/// Where an entry was found. It may have been replaced since: every use checks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Slot {
    line: u32,
    way: u8,
}

/// A learned address, as found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Learned {
    /// Who learned it.
    pub tenant: Tenant,
    /// Milliseconds since it was used.
    pub idle_ms: u32,
    /// Where it stands.
    pub slot: Slot,
}

/// An address to be bound to a tenant.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Binding {
    /// The address's [`Fdb::hash`].
    pub hash: u64,
    /// The address.
    pub address: Address,
    /// Who is to have it.
    pub tenant: Tenant,
    /// Addresses the tenant may have.
    pub limit: u32,
}

/// What a frame's source address leads to: decided by [`super::owner`], applied by
/// [`Fdb::apply`] in frame order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Learn {
    /// Nothing is to be learned.
    Nothing,
    /// The address is known; its stamp is renewed.
    Refresh(Slot),
    /// The address is new.
    New(Binding),
    /// Another port has learned the address.
    Move(Binding),
    /// The address is used elsewhere: its tenant loses it. Counted as a move.
    Release {
        /// The address's [`Fdb::hash`].
        hash: u64,
        /// The address.
        address: Address,
        /// Who loses it, if it still is the one who has it.
        tenant: Tenant,
    },
}

/// A row of the table, for people.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Row {
    /// The address.
    pub address: Address,
    /// Who learned it.
    pub tenant: Tenant,
    /// Milliseconds since it was used.
    pub idle_ms: u32,
}

/// The table.
pub struct Fdb {
    /// Home lines, then spill lines.
    lines: Box<[Line]>,
    homes: usize,
    secret: Secret,
    capacity: u64,
    /// Sum of all tenants' counts.
    total: AtomicU64,
    moves: Moves,
    /// By port: how many addresses which generation of it has.
    tenancies: Box<[AtomicU64]>,
    /// The line that the next sweep starts at.
    broom: AtomicUsize,
}

/// The number scaled from 0..2^64 to 0..`count`.
#[inline]
fn scale(hash: u64, count: usize) -> usize {
    ((u128::from(hash) * count as u128) >> 64) as usize
}

/// A tenancy as one word.
const fn tenancy(generation: Generation, count: u32) -> u64 {
    (generation.0 as u64) << 32 | count as u64
}

const fn tenancy_count(word: u64) -> u32 {
    word as u32
}

const fn tenancy_is(word: u64, generation: Generation) -> bool {
    word >> 32 == generation.0 as u64
}

/// The word of a tenancy that has an address more, if the limit allows it.
fn claimed(word: u64, generation: Generation, limit: u32) -> Option<u64> {
    let count = if tenancy_is(word, generation) { tenancy_count(word) } else { 0 };
    (count < limit).then(|| tenancy(generation, count + 1))
}

/// Milliseconds between two stamps of one clock; 0 if the workers' clocks cross.
#[inline]
fn age(now_ms: u64, stamp: u32) -> u32 {
    let age = (now_ms as u32).wrapping_sub(stamp);
    if age > u32::MAX / 2 { 0 } else { age }
}

impl Fdb {
    /// A table for this many addresses: three slots for each, and a quarter of
    /// that to spill to. By the time it is full, some 15 addresses in a million found
    /// both their lines full. Allocates once, here: 80 bytes an address.
    #[must_use]
    pub fn new(capacity: u32) -> Fdb {
        Fdb::keyed(capacity, Secret::random())
    }

    /// The same with a given secret, for what has to be repeated exactly.
    #[must_use]
    pub fn keyed(capacity: u32, secret: Secret) -> Fdb {
        let homes = (capacity as usize).max(HOMES_MIN);
        let lines =
            huge::filled(homes + homes.div_ceil(HOMES_PER_GROUP) * SPILLS_PER_GROUP, Line::default);
        Fdb {
            lines,
            homes,
            secret,
            capacity: u64::from(capacity),
            total: AtomicU64::new(0),
            moves: Moves::default(),
            tenancies: (0..PORTS_MAX).map(|_| AtomicU64::new(0)).collect(),
            broom: AtomicUsize::new(0),
        }
    }

    /// The hash to look an address up by.
    #[inline]
    #[must_use]
    pub fn hash(&self, address: Address) -> u64 {
        let Address { domain, vid, mac } = address;
        self.secret.hash(u64::from(domain.0) << 48 | mac.to_u64(), u64::from(vid.get()) << 40)
    }

    /// Asks for the line that [`Fdb::find`] will read.
    #[inline]
    pub fn prefetch(&self, hash: u64) {
        if let Some(line) = self.lines.get(self.home(hash)) {
            prefetch_read(line);
        }
    }

    #[inline]
    fn home(&self, hash: u64) -> usize {
        scale(hash, self.homes)
    }

    /// The first of the spill lines of a home line.
    #[inline]
    fn spills(&self, home: usize) -> usize {
        self.homes + home / HOMES_PER_GROUP * SPILLS_PER_GROUP
    }

    /// The spill line of an address. Its low bits are not those that [`scale`] uses.
    #[inline]
    fn spill(&self, hash: u64) -> usize {
        self.spills(self.home(hash)) + hash as usize % SPILLS_PER_GROUP
    }

    /// Who learned the address, however long ago and whether or not it is still
    /// its port's tenant. Nothing too if a writer held the line all the while.
    #[inline]
    #[must_use]
    pub fn find(&self, hash: u64, address: Address, now_ms: u64) -> Option<Learned> {
        let home = self.home(hash);
        let line = self.lines.get(home)?;
        match line.find(address) {
            Some((way, entry)) => Some(learned(home, way, &entry, now_ms)),
            None if line.has_spilled() => self.find_spilled(hash, address, now_ms),
            None => None,
        }
    }

    #[cold]
    fn find_spilled(&self, hash: u64, address: Address, now_ms: u64) -> Option<Learned> {
        let spill = self.spill(hash);
        let (way, entry) = self.lines.get(spill)?.find(address)?;
        Some(learned(spill, way, &entry, now_ms))
    }

    /// Carries out what a frame's source leads to.
    ///
    /// # Errors
    /// [`DropReason::LearnLimit`] if an address cannot be bound: the tenant has its
    /// limit, the table its capacity, or a line had no room or stayed locked.
    #[inline]
    pub fn apply(&self, learn: Learn, now_ms: u64) -> Result<(), DropReason> {
        match learn {
            Learn::Nothing => Ok(()),
            Learn::Refresh(slot) => {
                if let Some(line) = self.lines.get(slot.line as usize) {
                    line.stamp(slot.way, now_ms as u32);
                }
                Ok(())
            }
            Learn::New(binding) | Learn::Move(binding) => {
                let before = self.bind(Writes, &binding, now_ms)?;
                if let (Learn::Move(_), Some(before)) = (learn, before) {
                    let to = Some(binding.tenant.port);
                    self.moves.note(Move { address: binding.address, from: before.port, to });
                }
                Ok(())
            }
            Learn::Release { hash, address, tenant } => {
                self.release(hash, address, tenant);
                Ok(())
            }
        }
    }

    /// What [`Fdb::apply`] would say. Nothing is written, and no line held.
    ///
    /// # Errors
    /// As there, but for lines that are locked just then.
    pub fn foresee(&self, learn: Learn) -> Result<(), DropReason> {
        match learn {
            Learn::New(binding) | Learn::Move(binding) => self.bind(Asks, &binding, 0).map(drop),
            Learn::Nothing | Learn::Refresh(_) | Learn::Release { .. } => Ok(()),
        }
    }

    /// Gives an address to a tenant; whose it was.
    #[cold]
    fn bind<'f>(
        &'f self,
        hand: impl Hand<'f>,
        binding: &Binding,
        now_ms: u64,
    ) -> Result<Option<Tenant>, DropReason> {
        let &Binding { hash, address, tenant, .. } = binding;
        let entry = Entry { address, tenant, stamp: now_ms as u32 };
        let home = hand.take(self, self.home(hash)).ok_or(DropReason::LearnLimit)?;
        if let Some((way, old)) = home.position(address) {
            return self.replace(hand, &home, way, &old, &entry, binding.limit);
        }
        if home.has_spilled() {
            let spill = hand.take(self, self.spill(hash)).ok_or(DropReason::LearnLimit)?;
            if let Some((way, old)) = spill.position(address) {
                return self.replace(hand, &spill, way, &old, &entry, binding.limit);
            }
        }
        self.insert(hand, home, self.spill(hash), &entry, binding.limit).map(|()| None)
    }

    /// Gives a place that holds the address already to a tenant; whose it was.
    fn replace<'f, H: Hand<'f>>(
        &'f self,
        hand: H,
        line: &H::Line,
        way: usize,
        old: &Entry,
        new: &Entry,
        limit: u32,
    ) -> Result<Option<Tenant>, DropReason> {
        if old.tenant != new.tenant {
            hand.claim(self, new.tenant, limit)?;
            hand.unclaim(self, old.tenant);
        }
        line.set(way, new);
        Ok(Some(old.tenant))
    }

    /// Gives an address a place in its home line, or in the spill line.
    fn insert<'f, H: Hand<'f>>(
        &'f self,
        hand: H,
        mut home: H::Line,
        spill: usize,
        entry: &Entry,
        limit: u32,
    ) -> Result<(), DropReason> {
        if self.total.load(Ordering::Relaxed) >= self.capacity {
            return Err(DropReason::LearnLimit);
        }
        hand.claim(self, entry.tenant, limit)?;
        // What another tenant of the port had the claim has made forgotten, or would have.
        let is_former = |old: Tenant| old.port == entry.tenant.port && old != entry.tenant;
        let is_stale = |old: &Entry| is_former(old.tenant) || !self.is_counted(old.tenant);
        if let Some(way) = home.free(is_stale) {
            home.set(way, entry);
            return Ok(());
        }
        let placed = hand.take(self, spill).and_then(|spill| {
            let way = spill.free(is_stale)?;
            home.set_spilled();
            spill.set(way, entry);
            Some(())
        });
        placed.ok_or_else(|| {
            hand.unclaim(self, entry.tenant);
            DropReason::LearnLimit
        })
    }

    #[cold]
    fn release(&self, hash: u64, address: Address, tenant: Tenant) {
        for index in [self.home(hash), self.spill(hash)] {
            let Some(line) = self.lock(index) else { return };
            if let Some((way, entry)) = line.position(address) {
                if entry.tenant == tenant {
                    line.clear(way);
                    self.unclaim(tenant);
                    self.moves.note(Move { address, from: tenant.port, to: None });
                }
                return;
            }
        }
    }

    fn lock(&self, index: usize) -> Option<Writing<'_>> {
        self.lines.get(index)?.lock()
    }

    /// Counts an address for a tenant, if its limit allows. What another tenant of
    /// the port had is forgotten; a worker still in a breath of that tenant's may
    /// bring it back for a moment, which makes the limit laxer, never the table's
    /// count wrong.
    fn claim(&self, tenant: Tenant, limit: u32) -> Result<(), DropReason> {
        let raise = |word| claimed(word, tenant.generation, limit);
        let word = self.tenancy(tenant.port).ok_or(DropReason::LearnLimit)?;
        let before = word
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, raise)
            .map_err(|_| DropReason::LearnLimit)?;
        if !tenancy_is(before, tenant.generation) {
            self.total.fetch_sub(u64::from(tenancy_count(before)), Ordering::Relaxed);
        }
        self.total.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// Counts an address less, unless its tenant's count was forgotten already.
    fn unclaim(&self, tenant: Tenant) {
        let lower = |word: u64| {
            let counted = tenancy_is(word, tenant.generation) && tenancy_count(word) > 0;
            counted.then(|| word - 1)
        };
        let Some(word) = self.tenancy(tenant.port) else { return };
        if word.fetch_update(Ordering::Relaxed, Ordering::Relaxed, lower).is_ok() {
            self.total.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Whether this tenant's addresses count, as far as the table has heard.
    fn is_counted(&self, tenant: Tenant) -> bool {
        let word = self.tenancy(tenant.port).map_or(0, |word| word.load(Ordering::Relaxed));
        tenancy_is(word, tenant.generation)
    }

    #[inline]
    fn tenancy(&self, port: PortId) -> Option<&AtomicU64> {
        self.tenancies.get(usize::from(port.0))
    }

    /// Forgets what was counted for a port's former tenants, now that `tenant` has
    /// it. Their entries have stopped counting with the generation; this frees
    /// their share of the capacity at once. Any thread may call it.
    pub fn flush(&self, tenant: Tenant) {
        let fresh = tenancy(tenant.generation, 0);
        let change = |word: u64| (!tenancy_is(word, tenant.generation)).then_some(fresh);
        let Some(word) = self.tenancy(tenant.port) else { return };
        if let Ok(before) = word.fetch_update(Ordering::Relaxed, Ordering::Relaxed, change) {
            self.total.fetch_sub(u64::from(tenancy_count(before)), Ordering::Relaxed);
        }
    }

    /// How many addresses a tenant has, aged ones included until they are swept.
    #[must_use]
    pub fn count_of(&self, tenant: Tenant) -> u32 {
        let word = self.tenancy(tenant.port).map_or(0, |word| word.load(Ordering::Relaxed));
        if tenancy_is(word, tenant.generation) { tenancy_count(word) } else { 0 }
    }

    /// How many addresses the table has, aged ones included until they are swept.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.total.load(Ordering::Relaxed)
    }

    /// How many it may have.
    #[must_use]
    pub fn capacity(&self) -> u64 {
        self.capacity
    }

    /// How often an address moved, since the start.
    #[must_use]
    pub fn moves(&self) -> u64 {
        self.moves.count()
    }

    /// Moves behind the first `seen`, as far as they are remembered.
    #[must_use]
    pub fn moves_since(&self, seen: u64) -> Told {
        self.moves.since(seen)
    }

    /// How many lines a whole sweep visits.
    #[must_use]
    pub fn lines(&self) -> usize {
        self.lines.len()
    }

    /// Visits the next `lines` lines (all of them at most) and removes what aged or
    /// whose tenant is none any more; says how many. Workers may sweep at the same
    /// time, each then visits other lines. To be called so often that every line is
    /// visited within days: a stamp wraps after 24.
    pub fn sweep(
        &self,
        lines: usize,
        now_ms: u64,
        ageing_ms: u64,
        is_tenant: impl Fn(Tenant) -> bool,
    ) -> usize {
        let count = lines.min(self.lines.len());
        let start = self.broom.fetch_add(count, Ordering::Relaxed);
        let stays = |entry: &Entry| {
            u64::from(age(now_ms, entry.stamp)) < ageing_ms && is_tenant(entry.tenant)
        };
        let visit = |step| self.sweep_line(start.wrapping_add(step) % self.lines.len(), stays);
        (0..count).map(visit).sum()
    }

    fn sweep_line(&self, index: usize, stays: impl Fn(&Entry) -> bool) -> usize {
        let Some(line) = self.lines.get(index) else { return 0 };
        let is_dusty = (0..WAYS).filter_map(|way| line.entry(way)).any(|entry| !stays(&entry));
        if !is_dusty && !line.has_spilled() {
            return 0;
        }
        let Some(mut line) = line.lock() else { return 0 };
        let mut removed = 0;
        for way in 0..WAYS {
            if let Some(entry) = line.entry(way).filter(|entry| !stays(entry)) {
                line.clear(way);
                self.unclaim(entry.tenant);
                removed += 1;
            }
        }
        if line.has_spilled() && !self.is_spilled(index, &line) {
            line.clear_spilled();
        }
        removed
    }

    /// Whether an entry of this home line, which is held, stands in a spill line.
    /// Nobody can add one meanwhile; if one goes, the next sweep sees it.
    fn is_spilled(&self, home: usize, _held: &Writing<'_>) -> bool {
        let first = self.spills(home);
        let lines = self.lines.get(first..first + SPILLS_PER_GROUP).unwrap_or_default();
        let mut entries = lines.iter().flat_map(|line| (0..WAYS).filter_map(|way| line.entry(way)));
        entries.any(|entry| self.home(self.hash(entry.address)) == home)
    }

    /// Reads on from line `from` until `rows` has `rows_max` or more (three more at
    /// most); says where to go on, or nothing at the end. What changes meanwhile is
    /// seen or not. For the control thread: it allocates.
    pub fn page(
        &self,
        from: usize,
        rows_max: usize,
        now_ms: u64,
        rows: &mut Vec<Row>,
    ) -> Option<usize> {
        for index in from..self.lines.len() {
            if rows.len() >= rows_max {
                return Some(index);
            }
            let entries = self.lines.get(index)?.entries().into_iter().flatten();
            rows.extend(entries.map(|entry| Row {
                address: entry.address,
                tenant: entry.tenant,
                idle_ms: age(now_ms, entry.stamp),
            }));
        }
        None
    }
}

#[inline]
fn learned(line: usize, way: usize, entry: &Entry, now_ms: u64) -> Learned {
    let slot = Slot { line: line as u32, way: way as u8 };
    Learned { tenant: entry.tenant, idle_ms: age(now_ms, entry.stamp), slot }
}

impl std::fmt::Debug for Fdb {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fdb")
            .field("count", &self.count())
            .field("capacity", &self.capacity)
            .field("moves", &self.moves.count())
            .finish_non_exhaustive()
    }
}

#[cfg(all(test, loom))]
mod loom_tests;
#[cfg(all(test, not(loom)))]
mod tests;
