//! What a netdev does to frames by itself and must not do while it is a port's: taking
//! VLAN tags out, and putting frames together. Both are turned off, and turned on again
//! when the port goes.
//!
//! A process that is killed turns nothing on again. So a [`Caretaker`] tells a [`Record`],
//! before it changes a netdev, how that was before, and is told by the next process what
//! the last one left ([`Caretaker::new`]): such a netdev gets back what it had before
//! *both*, at the next end of a port on it, or at [`Caretaker::settle`] if none is.

use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::sys::features::{Switch, Tie};
use crate::sys::netdev::{self, Description};

/// What is off while a netdev is a port's, as ethtool(8) calls it. AF_XDP hands tags that
/// were taken out of a frame to nobody, and frames put together have no place of their size.
pub const UNWANTED: [&str; 4] =
    ["rx-vlan-hw-parse", "rx-vlan-stag-hw-parse", "rx-lro", "rx-gro-hw"];

/// A netdev that is not as it was, and what it was.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Former {
    /// Its network namespace, as [`Tie::namespace`] numbers it.
    pub namespace: u64,
    /// Its index there.
    pub index: u32,
    /// Its permanent MAC address, or what it has where it tells none.
    pub address: [u8; 6],
    /// Its name, for people: it may have another by now.
    pub name: String,
    /// Which of [`UNWANTED`] were on.
    pub on: Vec<&'static str>,
}

/// What became of the attempt to put a netdev back as it was.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Restored {
    /// It is.
    Done,
    /// It is no longer there.
    Gone,
    /// It was one of another network namespace, which only a process in that can reach.
    Elsewhere,
}

/// Keeps what must outlive the process.
pub trait Record: Send + fmt::Debug {
    /// All netdevs that are not as they were, from now on. Called before one is changed,
    /// and after one was put back.
    fn keep(&mut self, formers: &[&Former]);

    /// A netdev was put back, or could not be; one that could not stays in the record.
    fn restored(&mut self, former: &Former, result: io::Result<Restored>);
}

/// Keeps nothing: for ports that nobody could find after a crash.
impl Record for () {
    fn keep(&mut self, _: &[&Former]) {}

    fn restored(&mut self, _: &Former, _: io::Result<Restored>) {}
}

/// Puts netdevs back as they were. Clones are the same one.
#[derive(Clone, Debug)]
pub struct Caretaker(Arc<Mutex<Book>>);

#[derive(Debug)]
struct Book {
    record: Box<dyn Record>,
    entries: Vec<Entry>,
    /// How many entries there ever were.
    numbered: u64,
}

#[derive(Debug)]
struct Entry {
    number: u64,
    former: Former,
    /// To the netdev itself, if it was one's that this process opened.
    tie: Option<Arc<Tie>>,
    /// Ports that have it. More than one where it went away and came back, and the port
    /// that had it before is not closed yet.
    users: usize,
}

impl Default for Caretaker {
    fn default() -> Caretaker {
        Caretaker::new(Box::new(()), Vec::new())
    }
}

impl Caretaker {
    /// One that continues what the record said.
    #[must_use]
    pub fn new(record: Box<dyn Record>, inherited: Vec<Former>) -> Caretaker {
        let entry = |(number, former)| Entry { number, former, tie: None, users: 0 };
        let entries: Vec<Entry> = (0..).zip(inherited).map(entry).collect();
        let numbered = entries.len() as u64;
        Caretaker(Arc::new(Mutex::new(Book { record, entries, numbered })))
    }

    /// Puts back what an earlier process left, as far as no port has it again, in the
    /// calling thread's network namespace.
    pub fn settle(&self) {
        let mut book = self.lock();
        let unused = book.entries.iter().filter(|entry| entry.users == 0);
        let unused: Vec<u64> = unused.map(|entry| entry.number).collect();
        for number in unused {
            book.put_back(number);
        }
    }

    /// Has a netdev do nothing unwanted as long as what is returned is there.
    pub(super) fn take(&self, found: &Description) -> io::Result<Custody> {
        let tie = Arc::new(Tie::to(found.index)?);
        let running = tie.running(&UNWANTED)?;
        let on = |name: &&str| running.switchable.iter().any(|it| it == name);
        let on: Vec<&'static str> = UNWANTED.into_iter().filter(on).collect();
        let former = Former {
            namespace: tie.namespace(),
            index: found.index,
            address: found.address,
            name: tie.name()?,
            on: on.clone(),
        };
        // From here on it is put back, whatever fails.
        let number = self.lock().enter(former, &tie);
        let (caretaker, still_on) = (self.clone(), Vec::new());
        let mut custody = Custody { caretaker, number, still_on, tie: Arc::clone(&tie) };
        tie.turn(&on, Switch::Off)?;
        let running = tie.running(&UNWANTED)?;
        custody.still_on = running.switchable.into_iter().chain(running.fixed).collect();
        Ok(custody)
    }

    fn lock(&self) -> MutexGuard<'_, Book> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Book {
    /// Notes a netdev and who has it: the entry it has already, or a new one.
    fn enter(&mut self, former: Former, tie: &Arc<Tie>) -> u64 {
        let same = |entry: &&mut Entry| entry.is(&former);
        let number = match self.entries.iter_mut().find(same) {
            Some(entry) => {
                let missing = former.on.iter().filter(|name| !entry.former.on.contains(name));
                let missing: Vec<&str> = missing.copied().collect();
                entry.former.on.extend(missing);
                entry.former.name = former.name;
                entry.tie = Some(Arc::clone(tie));
                entry.users += 1;
                entry.number
            }
            None => {
                let number = self.numbered;
                self.numbered += 1;
                self.entries.push(Entry { number, former, tie: Some(Arc::clone(tie)), users: 1 });
                number
            }
        };
        self.write();
        number
    }

    /// One who had it has it no more.
    fn leave(&mut self, number: u64) {
        let Some(entry) = self.entries.iter_mut().find(|entry| entry.number == number) else {
            return;
        };
        entry.users -= 1;
        if entry.users == 0 {
            self.put_back(number);
        }
    }

    fn put_back(&mut self, number: u64) {
        let Some(at) = self.entries.iter().position(|entry| entry.number == number) else {
            return;
        };
        let entry = &self.entries[at];
        let result = entry.restore();
        let former = match &result {
            Ok(Restored::Done | Restored::Gone) => self.entries.remove(at).former,
            Ok(Restored::Elsewhere) | Err(_) => entry.former.clone(),
        };
        if !former.on.is_empty() {
            self.record.restored(&former, result);
        }
        self.write();
    }

    fn write(&mut self) {
        let changed = self.entries.iter().map(|entry| &entry.former);
        let changed: Vec<&Former> = changed.filter(|former| !former.on.is_empty()).collect();
        self.record.keep(&changed);
    }
}

impl Entry {
    /// Whether this is the netdev: the same place and address, or held on to all the time.
    fn is(&self, former: &Former) -> bool {
        let held = self.tie.as_ref().is_some_and(|tie| tie.index().is_some());
        (self.former.namespace, self.former.index) == (former.namespace, former.index)
            && (held || self.former.address == former.address)
    }

    fn restore(&self) -> io::Result<Restored> {
        let Some(tie) = &self.tie else { return self.restore_inherited() };
        let turned = tie.index().map(|_| self.turn_on(tie));
        restored(turned, tie.index())
    }

    /// Of an earlier process: there is nothing but its description to know it by.
    fn restore_inherited(&self) -> io::Result<Restored> {
        let found = match netdev::describe_index(self.former.index) {
            Ok(found) => found,
            Err(error) if error.raw_os_error() == Some(libc::ENODEV) => return self.absent(),
            Err(error) => return Err(error),
        };
        let tie = Tie::to(found.index)?;
        if tie.namespace() != self.former.namespace {
            return Ok(Restored::Elsewhere);
        }
        if found.address != self.former.address {
            return Ok(Restored::Gone);
        }
        self.turn_on(&tie)?;
        Ok(Restored::Done)
    }

    /// Whether it is gone, or this is not where it was.
    fn absent(&self) -> io::Result<Restored> {
        // Every network namespace has a loopback device of this index.
        let here = Tie::to(1)?.namespace();
        Ok(if here == self.former.namespace { Restored::Gone } else { Restored::Elsewhere })
    }

    fn turn_on(&self, tie: &Tie) -> io::Result<()> {
        if self.former.on.is_empty() {
            return Ok(());
        }
        tie.turn(&self.former.on, Switch::On)
    }
}

/// What came of turning things on, if the netdev was there to try it on; its index afterwards.
/// It may go at any moment, also between the question and the deed, and the kernel does not
/// find it any more before sockets that are bound to it hear of that.
fn restored(turned: Option<io::Result<()>>, index: Option<u32>) -> io::Result<Restored> {
    match (turned, index) {
        (None, _) | (Some(Err(_)), None) => Ok(Restored::Gone),
        (Some(Err(error)), _) if error.raw_os_error() == Some(libc::ENODEV) => Ok(Restored::Gone),
        (Some(turned), _) => turned.map(|()| Restored::Done),
    }
}

/// A netdev that does nothing unwanted until this is dropped.
#[derive(Debug)]
pub(super) struct Custody {
    caretaker: Caretaker,
    number: u64,
    /// Which of [`UNWANTED`] it does all the same.
    pub(super) still_on: Vec<String>,
    /// To the netdev itself.
    pub(super) tie: Arc<Tie>,
}

impl Drop for Custody {
    fn drop(&mut self) {
        self.caretaker.lock().leave(self.number);
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::process::Command;

    use super::*;
    use crate::port::HostsOwn;
    use crate::port::xdp::{Config, Mode, open, open_with};
    use crate::sys::netns::{in_own_network_alone, ip};

    /// Remembers for a test what it was told.
    #[derive(Clone, Debug, Default)]
    struct Memo(Arc<Mutex<(Vec<Former>, Vec<Restored>)>>);

    impl Memo {
        fn kept(&self) -> Vec<Former> {
            self.0.lock().unwrap().0.clone()
        }

        fn restored(&self) -> Vec<Restored> {
            std::mem::take(&mut self.0.lock().unwrap().1)
        }
    }

    impl Record for Memo {
        fn keep(&mut self, formers: &[&Former]) {
            self.0.lock().unwrap().0 = formers.iter().map(|&former| former.clone()).collect();
        }

        fn restored(&mut self, _: &Former, result: io::Result<Restored>) {
            self.0.lock().unwrap().1.push(result.unwrap());
        }
    }

    /// A process that is killed as soon as something is written down.
    #[derive(Debug)]
    struct Killed(Memo);

    impl Record for Killed {
        fn keep(&mut self, formers: &[&Former]) {
            self.0.keep(formers);
            assert!(formers.is_empty(), "killed");
        }

        fn restored(&mut self, _: &Former, _: io::Result<Restored>) {
            panic!("one that was killed puts nothing back");
        }
    }

    #[test]
    fn what_goes_at_any_moment_of_it_is_gone_and_another_error_is_one() {
        let error = |code| Some(Err(io::Error::from_raw_os_error(code)));
        let result = |turned, index| restored(turned, index).map_err(|error| error.raw_os_error());
        assert_eq!(result(None, None), Ok(Restored::Gone));
        assert_eq!(result(error(libc::ENODEV), Some(7)), Ok(Restored::Gone));
        assert_eq!(result(error(libc::EBUSY), None), Ok(Restored::Gone));
        assert_eq!(result(error(libc::EBUSY), Some(7)), Err(Some(libc::EBUSY)));
        assert_eq!(result(Some(Ok(())), Some(7)), Ok(Restored::Done));
    }

    fn lay() {
        ip("link add a0 type veth peer name b0");
        ip("link set a0 up");
    }

    fn config() -> Config {
        let (interface, mode) = ("a0".to_owned(), Mode::Auto);
        Config { interface, mode, hosts_own: HostsOwn::Refuse, leaving: Vec::new() }
    }

    fn ethtool(words: &str) -> String {
        let output = Command::new("ethtool").args(words.split(' ')).output().unwrap();
        assert!(output.status.success(), "ethtool {words}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Whether tags are taken out, as ethtool(8) shows it: C-tags, S-tags.
    fn stripping(name: &str) -> [bool; 2] {
        let shown = ethtool(&format!("-k {name}"));
        ["rx-vlan-offload: on", "rx-vlan-stag-hw-parse: on"].map(|line| shown.contains(line))
    }

    #[test]
    fn tags_stay_in_frames_while_the_netdev_is_a_port_s() {
        in_own_network_alone(|| {
            lay();
            ethtool("-K a0 rx-vlan-stag-hw-parse off");
            assert_eq!(stripping("a0"), [true, false]);
            let memo = Memo::default();
            let caretaker = Caretaker::new(Box::new(memo.clone()), Vec::new());
            let device = open_with(&config(), &caretaker).unwrap();
            assert_eq!(stripping("a0"), [false, false]);
            assert_eq!(memo.kept()[0].on, ["rx-vlan-hw-parse"]);
            assert!(device.share().still_on().is_empty());
            ip("link set a0 name a7");
            drop(device);
            // What was off stays off.
            assert_eq!(stripping("a7"), [true, false]);
            assert_eq!((memo.kept(), memo.restored()), (Vec::new(), vec![Restored::Done]));
        });
    }

    #[test]
    fn an_open_that_fails_leaves_everything_as_it_was() {
        in_own_network_alone(|| {
            lay();
            let first = open(&config()).unwrap();
            assert_eq!(stripping("a0"), [false, false]);
            ethtool("-K a0 rxvlan on");
            // Up to its queues, which the first one has.
            let leaving = vec![first.share().program().unwrap()];
            open(&Config { leaving, ..config() }).unwrap_err();
            assert_eq!(stripping("a0"), [true, false], "somebody else's netdev was touched");
            drop(first);
            assert_eq!(stripping("a0"), [true, true]);
        });
    }

    #[test]
    fn a_netdev_is_in_the_record_before_it_is_changed() {
        in_own_network_alone(|| {
            lay();
            let memo = Memo::default();
            let caretaker = Caretaker::new(Box::new(Killed(memo.clone())), Vec::new());
            let opening = AssertUnwindSafe(|| open_with(&config(), &caretaker));
            assert!(catch_unwind(opening).is_err(), "nothing was written down");
            assert_eq!(memo.kept()[0].on, UNWANTED[..2]);
            assert_eq!(stripping("a0"), [true, true], "it was changed before");
            // The next process finds it as it was, and nothing is left to be done.
            Caretaker::new(Box::new(memo.clone()), memo.kept()).settle();
            assert_eq!(stripping("a0"), [true, true]);
            assert_eq!((memo.kept(), memo.restored()), (Vec::new(), vec![Restored::Done]));
        });
    }

    #[test]
    fn what_a_killed_process_left_is_put_back_or_taken_over() {
        in_own_network_alone(|| {
            lay();
            let memo = Memo::default();
            let crash = || {
                let caretaker = Caretaker::new(Box::new(memo.clone()), Vec::new());
                let device = open_with(&config(), &caretaker).unwrap();
                let left = memo.kept();
                // Its program and sockets go; what it would do besides goes elsewhere.
                std::mem::forget(device.share());
                device.share().untie();
                left
            };
            let left = crash();
            assert_eq!(stripping("a0"), [false, false]);
            let next = Caretaker::new(Box::new(memo.clone()), left.clone());
            next.settle();
            assert_eq!(stripping("a0"), [true, true]);
            assert_eq!((memo.kept(), memo.restored()), (Vec::new(), vec![Restored::Done]));
            // Taken again before it was put back: the first setting counts.
            ethtool("-K a0 rxvlan off rx-vlan-stag-hw-parse off");
            let next = Caretaker::new(Box::new(memo.clone()), left.clone());
            let found = netdev::describe_index(left[0].index).unwrap();
            let custody = next.take(&found).unwrap();
            next.settle();
            assert_eq!((stripping("a0"), memo.kept()), ([false, false], left.clone()));
            drop(custody);
            assert_eq!(stripping("a0"), [true, true]);
            memo.restored();
            // Another netdev in its place is left alone.
            ethtool("-K a0 rxvlan off");
            ip("link set a0 address 02:00:00:00:00:07");
            let next = Caretaker::new(Box::new(memo.clone()), left.clone());
            next.settle();
            assert_eq!(stripping("a0"), [false, true]);
            assert_eq!((memo.kept(), memo.restored()), (Vec::new(), vec![Restored::Gone]));
            // So is everything in another network namespace, and it is not forgotten.
            let elsewhere = Former { namespace: left[0].namespace + 1, ..left[0].clone() };
            let next = Caretaker::new(Box::new(memo.clone()), vec![elsewhere.clone()]);
            next.settle();
            assert_eq!(
                (memo.kept(), memo.restored()),
                (vec![elsewhere], vec![Restored::Elsewhere])
            );
        });
    }
}
