//! The table beside a naive one: a map, and a clock that both are told.

#![allow(clippy::unwrap_used, reason = "a failure in a test's helper is the message")]

use std::collections::HashMap;

use proptest::prelude::*;

use super::*;

const AGEING_MS: u64 = 300_000;
const SECRET: Secret = Secret::new([0x2545_f491_4f6c_dd1d, 0x9e37_79b9_7f4a_7c15]);

fn mac(number: u64) -> Mac {
    Mac::from_u64(0x0200_0000_0000 | number)
}

fn address(domain: u16, vid: u16, number: u64) -> Address {
    Address { domain: DomainId(domain), vid: Vid::new(vid).unwrap(), mac: mac(number) }
}

fn tenant(port: u16, generation: u16) -> Tenant {
    Tenant { port: PortId(port), generation: Generation(generation) }
}

fn bind(
    fdb: &Fdb,
    address: Address,
    tenant: Tenant,
    limit: u32,
    now_ms: u64,
) -> Result<(), DropReason> {
    let binding = Binding { hash: fdb.hash(address), address, tenant, limit };
    apply(fdb, Learn::New(binding), now_ms)
}

/// Carries an intent out, after asking what that would give: twice, as asking changes
/// nothing.
fn apply(fdb: &Fdb, learn: Learn, now_ms: u64) -> Result<(), DropReason> {
    let foreseen = [(); 2].map(|()| fdb.foresee(learn));
    let done = fdb.apply(learn, now_ms);
    assert_eq!(foreseen, [done; 2], "{learn:?}");
    done
}

fn find(fdb: &Fdb, address: Address, now_ms: u64) -> Option<Learned> {
    fdb.find(fdb.hash(address), address, now_ms)
}

#[test]
fn a_full_table_holds_what_it_promises_and_no_more() {
    for capacity in [1_u32, 7, 64, 1000, 200_000] {
        let fdb = Fdb::keyed(capacity, SECRET);
        let learned = (0..u64::from(capacity))
            .filter(|&number| bind(&fdb, address(1, 0, number), tenant(1, 0), u32::MAX, 0).is_ok())
            .count();
        // A line and its spill line may both be full before the table is. Ten tables of
        // a million refused 9 to 23 addresses each; here are at most 50 in a million.
        let refused = capacity as usize - learned;
        assert!(refused <= capacity as usize / 20_000, "{refused} of {capacity}");
        assert_eq!(fdb.count(), learned as u64);
        (learned..capacity as usize).for_each(|spare| {
            let number = 1_000_000 + spare as u64;
            while bind(&fdb, address(1, 0, number), tenant(1, 0), u32::MAX, 0).is_err() {}
        });
        let one_more = bind(&fdb, address(1, 0, 2_000_000), tenant(1, 0), u32::MAX, 0);
        assert_eq!(one_more, Err(DropReason::LearnLimit), "capacity {capacity}");
    }
}

#[test]
fn what_spilled_is_found_moved_and_swept() {
    let fdb = Fdb::new(64);
    let target = fdb.home(fdb.hash(address(1, 0, 0)));
    let spill = fdb.spill(fdb.hash(address(1, 0, 0)));
    let at_home = |number: &u64| {
        let hash = fdb.hash(address(1, 0, *number));
        fdb.home(hash) == target && fdb.spill(hash) == spill
    };
    let numbers: Vec<u64> = (0..).filter(at_home).take(2 * WAYS).collect();
    for &number in &numbers {
        bind(&fdb, address(1, 0, number), tenant(1, 0), 64, 0).unwrap();
    }
    let found = |port| {
        let here = |&&number: &&u64| {
            find(&fdb, address(1, 0, number), 0).is_some_and(|it| it.tenant == tenant(port, 0))
        };
        numbers.iter().filter(here).count()
    };
    assert_eq!(found(1), 2 * WAYS);
    let seventh = (0..).filter(at_home).nth(2 * WAYS).unwrap();
    let full = bind(&fdb, address(1, 0, seventh), tenant(1, 0), 64, 0);
    assert_eq!(full, Err(DropReason::LearnLimit));
    assert_eq!(fdb.count_of(tenant(1, 0)), 2 * WAYS as u32);

    for &number in &numbers {
        let address = address(1, 0, number);
        let binding = Binding { hash: fdb.hash(address), address, tenant: tenant(2, 0), limit: 64 };
        apply(&fdb, Learn::Move(binding), 0).unwrap();
    }
    assert_eq!((found(1), found(2), fdb.moves()), (0, 2 * WAYS, 2 * WAYS as u64));
    assert_eq!((fdb.count_of(tenant(1, 0)), fdb.count_of(tenant(2, 0))), (0, 2 * WAYS as u32));

    assert_eq!(fdb.sweep(fdb.lines(), AGEING_MS, AGEING_MS, |_| true), 2 * WAYS);
    assert_eq!((found(2), fdb.count()), (0, 0));
    // The home line was visited before its spill line: the next sweep clears it.
    fdb.sweep(fdb.lines(), AGEING_MS, AGEING_MS, |_| true);
    assert!(!fdb.lines[target].has_spilled());
}

#[test]
fn a_stamp_is_renewed_and_survives_the_wrap_of_its_word() {
    let fdb = Fdb::new(64);
    let start = u64::from(u32::MAX) - 500;
    bind(&fdb, address(1, 0, 1), tenant(1, 0), 1, start).unwrap();
    let learned = find(&fdb, address(1, 0, 1), start + 1000).unwrap();
    assert_eq!(learned.idle_ms, 1000);
    fdb.apply(Learn::Refresh(learned.slot), start + 1000).unwrap();
    assert_eq!(find(&fdb, address(1, 0, 1), start + 1700).unwrap().idle_ms, 700);
    assert_eq!(find(&fdb, address(1, 0, 1), start + 999).unwrap().idle_ms, 0, "clocks cross");
}

#[test]
fn a_new_generation_has_nothing_and_its_whole_limit() {
    // With another secret the last address may find its line full of what is forgotten, and
    // take the place of some: it would be one less to be swept.
    let fdb = Fdb::keyed(4, SECRET);
    for number in 0..4 {
        bind(&fdb, address(1, 0, number), tenant(1, 0), 4, 0).unwrap();
    }
    assert_eq!(bind(&fdb, address(1, 0, 9), tenant(2, 0), 4, 0), Err(DropReason::LearnLimit));
    fdb.flush(tenant(1, 1));
    assert_eq!((fdb.count(), fdb.count_of(tenant(1, 0)), fdb.count_of(tenant(1, 1))), (0, 0, 0));
    bind(&fdb, address(1, 0, 9), tenant(2, 0), 4, 0).unwrap();
    bind(&fdb, address(1, 0, 0), tenant(1, 1), 4, 0).unwrap();
    assert_eq!(fdb.sweep(fdb.lines(), 0, AGEING_MS, |it| it.generation == Generation(1)), 4);
    assert_eq!((fdb.count(), fdb.count_of(tenant(1, 1))), (1, 1));
}

#[test]
fn only_the_tenant_that_was_seen_is_released() {
    let fdb = Fdb::new(64);
    let address = address(1, 0, 1);
    let hash = fdb.hash(address);
    bind(&fdb, address, tenant(1, 0), 1, 0).unwrap();
    fdb.apply(Learn::Release { hash, address, tenant: tenant(2, 0) }, 0).unwrap();
    assert_eq!((fdb.count(), fdb.moves()), (1, 0));
    fdb.apply(Learn::Release { hash, address, tenant: tenant(1, 0) }, 0).unwrap();
    assert_eq!((fdb.count(), fdb.moves(), find(&fdb, address, 0)), (0, 1, None));
}

#[test]
fn pages_show_every_row_once() {
    let fdb = Fdb::keyed(1000, SECRET);
    for number in 0..700 {
        bind(&fdb, address(1, 5, number), tenant(3, 2), 1000, 10).unwrap();
    }
    let (mut all, mut from) = (Vec::new(), Some(0));
    while let Some(line) = from {
        let mut rows = Vec::new();
        from = fdb.page(line, 50, 30, &mut rows);
        assert!(rows.len() < 50 + WAYS);
        all.extend(rows);
    }
    assert!(all.iter().all(|row| row.tenant == tenant(3, 2) && row.idle_ms == 20));
    let mut numbers: Vec<u64> = all.iter().map(|row| row.address.mac.to_u64()).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (0..700).map(|number| mac(number).to_u64()).collect::<Vec<_>>());
}

#[test]
fn readers_beside_writers_see_whole_entries() {
    let fdb = Fdb::new(64);
    let writer = |port: u16| {
        let fdb = &fdb;
        move || {
            for round in 0..20_000_u64 {
                let (address, tenant) = (address(port, port, round % 300), tenant(port, port));
                let binding = Binding { hash: fdb.hash(address), address, tenant, limit: 100 };
                // Not asked before: the other writer may come in between.
                let _ = fdb.apply(Learn::New(binding), round);
                if round % 64 == 0 {
                    fdb.sweep(8, round, 100, |_| true);
                }
            }
        }
    };
    std::thread::scope(|scope| {
        let writers = [scope.spawn(writer(1)), scope.spawn(writer(2))];
        while writers.iter().any(|writer| !writer.is_finished()) {
            let mut rows = Vec::new();
            let _ = fdb.page(0, 1000, 0, &mut rows);
            for Row { address, tenant, .. } in rows {
                let port = tenant.port.0;
                assert_eq!(
                    (address.domain.0, address.vid.get(), tenant.generation.0),
                    (port, port, port)
                );
            }
        }
    });
    // What was counted is what is there.
    let mut rows = Vec::new();
    assert_eq!(fdb.page(0, 1000, 0, &mut rows), None);
    assert_eq!(fdb.count(), rows.len() as u64);
    for port in [1, 2] {
        let counted = fdb.count_of(tenant(port, port)) as usize;
        assert_eq!(counted, rows.iter().filter(|row| row.tenant.port.0 == port).count());
    }
}

/// Something that happens to the table.
#[derive(Clone, Debug)]
enum Op {
    Use { address: u64, vid: u16, port: u16 },
    Release { address: u64, vid: u16 },
    Flush { port: u16 },
    Wait { seconds: u64 },
    Sweep,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        8 => (0..40_u64, 0..2_u16, 0..3_u16)
            .prop_map(|(address, vid, port)| Op::Use { address, vid, port }),
        1 => (0..40_u64, 0..2_u16).prop_map(|(address, vid)| Op::Release { address, vid }),
        1 => (0..3_u16).prop_map(|port| Op::Flush { port }),
        2 => (1..200_u64).prop_map(|seconds| Op::Wait { seconds }),
        2 => Just(Op::Sweep),
    ]
}

/// What the table should be: who learned an address, and when it was used.
struct Oracle {
    entries: HashMap<Address, (Tenant, u64)>,
    generations: [u16; 3],
    moves: u64,
}

const LIMIT: u32 = 12;
const CAPACITY: u32 = 30;

impl Oracle {
    fn tenant(&self, port: u16) -> Tenant {
        tenant(port, self.generations[usize::from(port)])
    }

    fn has(&self, wanted: Tenant) -> usize {
        self.entries.values().filter(|(tenant, _)| *tenant == wanted).count()
    }

    fn bind(&mut self, address: Address, port: u16, now_ms: u64) -> Result<(), DropReason> {
        let tenant = self.tenant(port);
        let old = self.entries.get(&address).map(|&(tenant, _)| tenant);
        let is_full = old.is_none() && self.entries.len() >= CAPACITY as usize;
        if old != Some(tenant) && (is_full || self.has(tenant) >= LIMIT as usize) {
            return Err(DropReason::LearnLimit);
        }
        self.moves += u64::from(old.is_some_and(|old| old != tenant));
        self.entries.insert(address, (tenant, now_ms));
        Ok(())
    }

    fn age(&mut self, now_ms: u64) {
        self.entries.retain(|_, (_, used_ms)| now_ms - *used_ms < AGEING_MS);
    }
}

/// Uses an address as the owner module does.
fn use_address(
    fdb: &Fdb,
    oracle: &Oracle,
    address: Address,
    port: u16,
    now_ms: u64,
) -> Result<(), DropReason> {
    let (hash, tenant) = (fdb.hash(address), oracle.tenant(port));
    let binding = Binding { hash, address, tenant, limit: LIMIT };
    let current = |it: &Learned| it.tenant == oracle.tenant(it.tenant.port.0);
    let learn = match fdb.find(hash, address, now_ms).filter(current) {
        None => Learn::New(binding),
        Some(known) if known.tenant != tenant => Learn::Move(binding),
        Some(known) if known.idle_ms >= REFRESH_MS => Learn::Refresh(known.slot),
        Some(_) => Learn::Nothing,
    };
    apply(fdb, learn, now_ms)
}

#[test]
fn what_a_port_s_former_tenant_left_is_foreseen_to_make_room() {
    let fdb = Fdb::new(64);
    let target = |number: u64| {
        let hash = fdb.hash(address(1, 0, number));
        (fdb.home(hash), fdb.spill(hash))
    };
    let numbers = (0..).filter(|number| target(*number) == target(0));
    let numbers: Vec<u64> = numbers.take(2 * WAYS + 1).collect();
    for &number in &numbers[..2 * WAYS] {
        bind(&fdb, address(1, 0, number), tenant(1, 0), 64, 0).unwrap();
    }
    let last = address(1, 0, numbers[2 * WAYS]);
    assert_eq!(bind(&fdb, last, tenant(2, 0), 64, 0), Err(DropReason::LearnLimit), "both are full");
    assert_eq!(bind(&fdb, last, tenant(1, 1), 64, 0), Ok(()), "the port has a new tenant");
}

proptest! {
    #[test]
    fn the_table_is_a_map_with_limits(
        secret in any::<[u64; 2]>().no_shrink(),
        ops in prop::collection::vec(op(), 1..200),
    ) {
        let fdb = Fdb::keyed(CAPACITY, Secret::new(secret));
        let mut oracle = Oracle { entries: HashMap::new(), generations: [0; 3], moves: 0 };
        let mut now_ms = 0;
        for op in ops {
            match op {
                Op::Use { address: number, vid, port } => {
                    let address = address(7, vid, number);
                    let got = use_address(&fdb, &oracle, address, port, now_ms);
                    prop_assert_eq!(got, oracle.bind(address, port, now_ms));
                }
                Op::Release { address: number, vid } => {
                    let address = address(7, vid, number);
                    if let Some((tenant, _)) = oracle.entries.remove(&address) {
                        oracle.moves += 1;
                        let hash = fdb.hash(address);
                        fdb.apply(Learn::Release { hash, address, tenant }, now_ms).unwrap();
                    }
                }
                Op::Flush { port } => {
                    oracle.generations[usize::from(port)] += 1;
                    let tenant = oracle.tenant(port);
                    oracle.entries.retain(|_, (old, _)| old.port != tenant.port);
                    fdb.flush(tenant);
                }
                Op::Wait { seconds } => {
                    now_ms += 1000 * seconds;
                    oracle.age(now_ms);
                    fdb.sweep(fdb.lines(), now_ms, AGEING_MS, |_| true);
                }
                Op::Sweep => {
                    let is_tenant = |it: Tenant| it == oracle.tenant(it.port.0);
                    fdb.sweep(fdb.lines(), now_ms, AGEING_MS, is_tenant);
                }
            }
            prop_assert_eq!(fdb.count(), oracle.entries.len() as u64);
            prop_assert_eq!(fdb.moves(), oracle.moves);
            for port in 0..3 {
                let tenant = oracle.tenant(port);
                prop_assert_eq!(fdb.count_of(tenant) as usize, oracle.has(tenant));
            }
            for (&address, &(tenant, used_ms)) in &oracle.entries {
                let found = find(&fdb, address, now_ms);
                let found = found.map(|it| (it.tenant, u64::from(it.idle_ms)));
                prop_assert_eq!(found, Some((tenant, now_ms - used_ms)));
            }
        }
    }
}
