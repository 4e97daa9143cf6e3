//! All ways in which two sides' steps can follow each other.

use std::cell::RefCell;
use std::collections::HashSet;
use std::collections::hash_map::DefaultHasher;
use std::future::Future;
use std::hash::{Hash, Hasher};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Waker};

use super::drivers::{Plan, World};
use super::probe;
use super::{Arc, Doorbell, MEMORY_BYTES, Memory, Terms};

/// Steps of the driver in one run.
const STEPS_MAX: usize = 1000;
/// States of one plan. No more than are looked through in seconds.
const STATES_MAX: usize = 3_000_000;

/// Who goes on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Turn {
    Device,
    Driver,
}

/// What one run decides, and finds.
struct Run {
    world: Rc<World>,
    driver: Option<Pin<Box<dyn Future<Output = ()>>>>,
    steps: usize,
    /// What is decided beforehand, and what was so far.
    decided: Vec<Turn>,
    path: Vec<Turn>,
    /// A hash of what the device has read and written; its last word's offset.
    device: u64,
    last: Option<usize>,
    /// Whether the run came to a state that was seen before.
    is_known: bool,
    seen: Rc<RefCell<HashSet<u64>>>,
    /// Runs that would decide otherwise.
    others: Vec<Vec<Turn>>,
}

impl Run {
    fn can_step(&self) -> bool {
        self.driver.is_some() && (!self.world.sleeps.get() || self.world.called.get())
    }

    /// The driver makes one step.
    fn step(&mut self) {
        self.steps += 1;
        assert!(self.steps < STEPS_MAX, "the driver does not come to an end: {:?}", self.path);
        let Some(driver) = &mut self.driver else { return };
        if driver.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready() {
            self.driver = None;
        }
    }

    /// The device is about to use a word, or to do something else that the driver sees.
    fn before(&mut self, at: Option<usize>) {
        self.note();
        let at = at.map(|at| at - self.world.base());
        // Where it stands, too: nothing was read or written on the way to some places.
        self.device = mixed(&(self.device, at));
        while self.can_step() && self.decide() == Turn::Driver {
            self.step();
        }
        self.last = at;
    }

    /// Notes what the device read or wrote last: nobody else has written since.
    fn note(&mut self) {
        let Some(last) = self.last.take() else { return };
        let value = self.world.peek(last as u64);
        self.device = mixed(&(self.device, last, value));
    }

    fn decide(&mut self) -> Turn {
        let turn = self.decided.get(self.path.len()).copied().unwrap_or_else(|| {
            if !self.is_known && self.seen.borrow_mut().insert(self.state()) {
                self.others.push([&self.path[..], &[Turn::Driver]].concat());
            } else {
                self.is_known = true;
            }
            Turn::Device
        });
        self.path.push(turn);
        turn
    }

    fn state(&self) -> u64 {
        let world = &self.world;
        let flags = (world.sleeps.get(), world.called.get(), world.kicked.get());
        mixed(&(self.device, world.history.get(), flags, world.snapshot()))
    }

    /// The device does nothing until the driver kicks.
    fn sleep(&mut self) {
        self.note();
        while !self.world.kicked.get() {
            assert!(self.can_step(), "both sleep: {:?}", self.path);
            self.step();
        }
        self.before(None);
    }

    /// The device has used so many chains, found no more, and looks again when there is one:
    /// looks in vain between change nothing.
    fn wait(&mut self, used: u16) {
        self.note();
        while self.world.sent.get() <= used {
            assert!(self.can_step(), "the driver sleeps, and is not called: {:?}", self.path);
            self.step();
        }
    }

    /// The device is done: so is the driver, in the end.
    fn finish(&mut self) {
        while self.driver.is_some() {
            assert!(self.can_step(), "the driver sleeps for ever: {:?}", self.path);
            self.step();
        }
    }
}

fn mixed(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

/// What the device does besides using words.
pub struct Device(Rc<RefCell<Run>>);

impl Device {
    /// Rings, if that is wanted.
    pub fn ring(&self, doorbell: Doorbell) {
        if doorbell == Doorbell::Wanted {
            let mut run = self.0.borrow_mut();
            run.before(None);
            run.world.called.set(true);
        }
    }

    /// Takes kicks back that came so far.
    pub fn forget_kicks(&self) {
        let mut run = self.0.borrow_mut();
        run.before(None);
        run.world.kicked.set(false);
    }

    /// Sleeps until it is kicked.
    pub fn sleep(&self) {
        self.0.borrow_mut().sleep();
    }

    /// Waits for more chains than these, of which the driver does not tell.
    pub fn wait(&self, used: u16) {
        self.0.borrow_mut().wait(used);
    }
}

/// Runs the device with this driver in every order of their steps.
pub fn explore<F: Future<Output = ()> + 'static>(
    plan: &Plan,
    driver: fn(Rc<World>) -> F,
    device: impl Fn(&Terms, &Device),
) {
    let seen = Rc::new(RefCell::new(HashSet::new()));
    let mut left = vec![Vec::new()];
    let memory = Arc::new(Memory::arena(MEMORY_BYTES).unwrap());
    while let Some(decided) = left.pop() {
        let world = Rc::new(World::new(plan, &memory));
        let run = Rc::new(RefCell::new(Run {
            driver: Some(Box::pin(driver(Rc::clone(&world)))),
            steps: 0,
            path: Vec::new(),
            decided,
            device: 0,
            last: None,
            is_known: false,
            seen: Rc::clone(&seen),
            others: Vec::new(),
            world: Rc::clone(&world),
        }));
        // It lays its ring out before the device comes.
        run.borrow_mut().step();
        let watched = Rc::clone(&run);
        probe::watch(
            move |at| watched.borrow_mut().before(Some(at)),
            || device(&world.terms(), &Device(Rc::clone(&run))),
        );
        let mut run = run.borrow_mut();
        run.finish();
        left.append(&mut run.others);
        assert!(seen.borrow().len() < STATES_MAX, "{plan:?}: too many states to look through");
    }
    println!("{plan:?}: {} states", seen.borrow().len());
}
