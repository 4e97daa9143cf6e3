//! The table's smallest whole: one home line, full, and the spill line of whatever
//! else comes. loom tries the orders in which workers look, bind, move and sweep.

use loom::model::Builder;
use loom::sync::Arc;
use loom::thread::spawn;

use super::*;

const SECRET: Secret = Secret::new([0x2545_f491_4f6c_dd1d, 0x9e37_79b9_7f4a_7c15]);
/// The line that everything is at home in.
const HOME: usize = 0;
/// The tenant of what fills the home line.
const SETTLED: Tenant = tenant(0);
const ONE: Tenant = tenant(1);
const TWO: Tenant = tenant(2);
/// The time of all that happens, in milliseconds.
const NOW_MS: u64 = 1000;

const fn tenant(port: u16) -> Tenant {
    Tenant { port: PortId(port), generation: Generation(0) }
}

/// Explores with at most this many threads stopped before they wait or end: three
/// threads that each take two lines have too many orders for all of them.
fn explore(preemptions: usize, model: impl Fn() + Sync + Send + 'static) {
    let mut builder = Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.max_branches = 10_000;
    builder.check(model);
}

/// A table of which the home line is full of what [`SETTLED`] learned, and the
/// addresses that spill from there to one line, of which none is learned.
struct Table {
    fdb: Fdb,
    spill: usize,
    spilling: [Address; 2],
}

impl Table {
    fn new() -> Table {
        let fdb = Fdb {
            lines: huge::filled(1 + SPILLS_PER_GROUP, Line::default),
            homes: 1,
            secret: SECRET,
            capacity: 100,
            total: AtomicU64::new(0),
            moves: Moves::default(),
            tenancies: (0..3).map(|_| AtomicU64::new(0)).collect(),
            broom: AtomicUsize::new(0),
        };
        let address = |number: u64| Address {
            domain: DomainId(7),
            vid: Vid::UNTAGGED,
            mac: Mac::from_u64(0x0200_0000_0000 | number),
        };
        let spill = fdb.spill(fdb.hash(address(0)));
        let mut addresses = (0..).map(address).filter(|it| fdb.spill(fdb.hash(*it)) == spill);
        let mut next = || addresses.next().expect("there is no end of them");
        let (settled, spilling): ([_; WAYS], _) =
            (std::array::from_fn(|_| next()), std::array::from_fn(|_| next()));
        let table = Table { fdb, spill, spilling };
        for address in settled {
            table.bind(address, SETTLED).expect("there is room");
        }
        table
    }

    fn binding(&self, address: Address, tenant: Tenant) -> Binding {
        Binding { hash: self.fdb.hash(address), address, tenant, limit: 10 }
    }

    fn bind(&self, address: Address, tenant: Tenant) -> Result<(), DropReason> {
        self.fdb.apply(Learn::New(self.binding(address, tenant)), NOW_MS)
    }

    fn shift(&self, address: Address, tenant: Tenant) -> Result<(), DropReason> {
        self.fdb.apply(Learn::Move(self.binding(address, tenant)), NOW_MS)
    }

    fn release(&self, address: Address, tenant: Tenant) {
        let learn = Learn::Release { hash: self.fdb.hash(address), address, tenant };
        self.fdb.apply(learn, NOW_MS).expect("a release is never refused");
    }

    /// Sweeps one line of what this tenant learned.
    fn sweep(&self, line: usize, gone: Tenant) -> usize {
        self.fdb.sweep_line(line, |entry| entry.tenant != gone)
    }

    fn find(&self, address: Address) -> Option<Tenant> {
        let found = self.fdb.find(self.fdb.hash(address), address, NOW_MS)?;
        assert_eq!(found.idle_ms, 0, "{found:?}");
        Some(found.tenant)
    }

    /// Nobody is at work any more: an address stands once, where it is found, and
    /// the counts are those of the entries.
    #[track_caller]
    fn assert_whole(&self) {
        let mut rows = Vec::new();
        assert_eq!(self.fdb.page(0, usize::MAX, NOW_MS, &mut rows), None);
        for row in &rows {
            let same = rows.iter().filter(|other| other.address == row.address);
            assert_eq!(same.count(), 1, "{rows:?}");
            assert_eq!(self.find(row.address), Some(row.tenant), "{rows:?}");
        }
        assert_eq!(self.fdb.count(), rows.len() as u64, "{rows:?}");
        for tenant in [SETTLED, ONE, TWO] {
            let has = rows.iter().filter(|row| row.tenant == tenant).count();
            assert_eq!(self.fdb.count_of(tenant) as usize, has, "{tenant:?} in {rows:?}");
        }
    }
}

#[test]
fn an_address_that_is_moved_and_released_has_one_tenant_or_none() {
    explore(2, || {
        let table = Arc::new(Table::new());
        let [address, _] = table.spilling;
        table.bind(address, ONE).expect("there is room");
        let (moving, releasing) = (Arc::clone(&table), Arc::clone(&table));
        let mover = spawn(move || moving.shift(address, TWO));
        let releaser = spawn(move || releasing.release(address, ONE));
        assert!(matches!(table.find(address), None | Some(ONE | TWO)));
        let moved = mover.join().expect("the mover ends");
        releaser.join().expect("the releaser ends");
        assert!(matches!((moved, table.find(address)), (Ok(()), Some(TWO)) | (Err(_), _)));
        table.assert_whole();
    });
}

#[test]
fn what_two_bind_at_once_stands_once_and_is_found() {
    explore(2, || {
        let table = Arc::new(Table::new());
        let [swept, address] = table.spilling;
        table.bind(swept, ONE).expect("there is room");
        assert_eq!(table.sweep(table.spill, ONE), 1);
        // The home line still says that something spilled: a sweep takes that back.
        let (sweeping, binding) = (Arc::clone(&table), Arc::clone(&table));
        let sweeper = spawn(move || sweeping.sweep(HOME, ONE));
        let binder = spawn(move || binding.bind(address, ONE));
        let ours = table.bind(address, TWO);
        assert_eq!(sweeper.join().expect("the sweeper ends"), 0);
        let theirs = binder.join().expect("the binder ends");
        match (theirs, ours) {
            (Ok(()), Ok(())) => assert!(matches!(table.find(address), Some(ONE | TWO))),
            (Ok(()), Err(_)) => assert_eq!(table.find(address), Some(ONE)),
            (Err(_), Ok(())) => assert_eq!(table.find(address), Some(TWO)),
            (Err(_), Err(_)) => assert_eq!(table.find(address), None),
        }
        table.assert_whole();
    });
}
