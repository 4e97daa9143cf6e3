//! A worker's queues, and which of them are polled.
//!
//! Heads up: most queues of most hosts are silent. A breath looks at the hot ones only,
//! found in a set of keys; with each queue of 256 looked at, the 254 silent ones cost the
//! other two a tenth of their rate (`vhost` benchmark, 2026-11-27).

use std::ops::Range;

use super::command::{Event, ReceiveQueue};
use super::contain::{contained, quarantine};
use super::load::Watched;
use super::{HOT, QUEUES_MAX};
use crate::port::Receiver as DeviceReceiver;

/// How a queue is watched.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Activity {
    /// Polled every breath; so many polls in a row gave nothing.
    Hot { empty_polls: u32 },
    /// Its device will wake us.
    Armed,
    /// Its device is down: looked at again when the policy changes.
    Parked,
    /// Lost or quarantined: left alone until control takes it.
    Dormant,
}

impl Activity {
    /// As others see it.
    fn watched(self) -> Watched {
        match self {
            Activity::Hot { .. } => Watched::Hot,
            Activity::Armed => Watched::Armed,
            Activity::Parked => Watched::Parked,
            Activity::Dormant => Watched::Dormant,
        }
    }
}

/// A queue and how it is watched.
struct Served {
    queue: Box<ReceiveQueue>,
    activity: Activity,
}

/// The queues of a worker. A queue keeps its key for as long as it is here.
pub(super) struct Queues {
    /// A slab: a key is a place.
    places: Vec<Option<Served>>,
    /// The keys of those that are [`Activity::Hot`].
    hot: Keys,
}

impl Queues {
    /// None yet, and room for [`QUEUES_MAX`]; allocates once, here.
    pub fn new() -> Queues {
        Queues { places: Vec::with_capacity(QUEUES_MAX), hot: Keys::new() }
    }

    /// Takes a queue, to be polled.
    ///
    /// # Errors
    /// The queue, if there is no room.
    pub fn adopt(&mut self, queue: Box<ReceiveQueue>) -> Result<(), Box<ReceiveQueue>> {
        let free = self.places.iter().position(Option::is_none);
        let key = free.unwrap_or(self.places.len());
        if key == QUEUES_MAX {
            return Err(queue);
        }
        let served = Served { queue, activity: HOT };
        match self.places.get_mut(key) {
            Some(place) => *place = Some(served),
            None => self.places.push(Some(served)),
        }
        self.set(key, HOT);
        Ok(())
    }

    /// Gives a queue back.
    pub fn take(&mut self, key: usize) -> Option<Box<ReceiveQueue>> {
        let served = self.places.get_mut(key)?.take()?;
        self.hot.remove(key);
        Some(served.queue)
    }

    /// All keys that there were so far.
    pub fn keys(&self) -> Range<usize> {
        0..self.places.len()
    }

    /// The queue of a key.
    pub fn get(&self, key: usize) -> Option<&ReceiveQueue> {
        self.places.get(key)?.as_ref().map(|served| &*served.queue)
    }

    /// How the queue of a key is watched.
    pub fn activity(&self, key: usize) -> Option<Activity> {
        self.places.get(key)?.as_ref().map(|served| served.activity)
    }

    /// The next of a round over the hot queues: its key, itself, and how many polls in a row
    /// gave nothing.
    #[inline(always)]
    pub fn next_hot(&mut self, round: &mut Round) -> Option<(usize, &mut ReceiveQueue, u32)> {
        let key = round.next(&self.hot)?;
        let served = self.places.get_mut(key)?.as_mut()?;
        match served.activity {
            Activity::Hot { empty_polls } => Some((key, &mut served.queue, empty_polls)),
            Activity::Armed | Activity::Parked | Activity::Dormant => None,
        }
    }

    /// Whether no queue is polled.
    #[inline]
    pub fn are_silent(&self) -> bool {
        self.hot.is_empty()
    }

    /// After a turn. That a queue stays hot is told nobody: it is what happens most.
    #[inline(always)]
    pub fn go_on(&mut self, key: usize, activity: Activity) {
        match (activity, self.places.get_mut(key)) {
            (Activity::Hot { .. }, Some(Some(served))) => served.activity = activity,
            _ => self.set(key, activity),
        }
    }

    /// Does something to the device's receiver after which the queue is watched in
    /// another way. A panic on the way costs its device only; control is to know.
    pub fn watch(
        &mut self,
        key: usize,
        change: impl FnOnce(&mut DeviceReceiver) -> Activity,
    ) -> Option<Event> {
        let served = self.places.get_mut(key)?.as_mut()?;
        let (activity, event) = match contained(|| change(&mut served.queue.receiver)) {
            Ok(activity) => (activity, None),
            Err(cause) => (Activity::Dormant, Some(quarantine(&served.queue.attached, cause))),
        };
        self.set(key, activity);
        event
    }

    /// After a change of policy: devices that were down may be up.
    pub fn unpark(&mut self) {
        for key in self.keys() {
            if self.activity(key) == Some(Activity::Parked) {
                self.set(key, HOT);
            }
        }
    }

    fn set(&mut self, key: usize, activity: Activity) {
        let Some(Some(served)) = self.places.get_mut(key) else { return };
        served.activity = activity;
        served.queue.load.set_watched(activity.watched());
        match activity {
            Activity::Hot { .. } => self.hot.insert(key),
            Activity::Armed | Activity::Parked | Activity::Dormant => self.hot.remove(key),
        }
    }
}

/// One look at each key of a set, from some key on, the ones before it last. The set may
/// change meanwhile.
pub(super) struct Round {
    ahead: Range<usize>,
    /// What is left behind `ahead`.
    behind: Range<usize>,
}

impl Round {
    /// Over all keys, beginning with `first`, at most [`QUEUES_MAX`].
    #[inline(always)]
    pub fn from(first: usize) -> Round {
        Round { ahead: first..QUEUES_MAX, behind: 0..first }
    }

    #[inline(always)]
    fn next(&mut self, keys: &Keys) -> Option<usize> {
        loop {
            if let Some(key) = keys.first_in(self.ahead.clone()) {
                self.ahead.start = key + 1;
                return Some(key);
            }
            if self.behind.is_empty() {
                return None;
            }
            self.ahead = std::mem::take(&mut self.behind);
        }
    }
}

const WORD_KEYS: usize = u64::BITS as usize;
const WORDS: usize = QUEUES_MAX / WORD_KEYS;
// So that one word tells which words have keys.
const _: () = assert!(WORDS <= WORD_KEYS && QUEUES_MAX.is_multiple_of(WORD_KEYS));

/// A set of keys below [`QUEUES_MAX`]: a bit for each, and one for each word of them.
struct Keys {
    /// Bit n: word n has keys.
    summary: u64,
    words: Box<[u64; WORDS]>,
}

impl Keys {
    fn new() -> Keys {
        Keys { summary: 0, words: Box::new([0; WORDS]) }
    }

    #[inline]
    fn is_empty(&self) -> bool {
        self.summary == 0
    }

    fn insert(&mut self, key: usize) {
        let word = key / WORD_KEYS;
        self.words[word] |= 1 << (key % WORD_KEYS);
        self.summary |= 1 << word;
    }

    fn remove(&mut self, key: usize) {
        let word = key / WORD_KEYS;
        self.words[word] &= !(1 << (key % WORD_KEYS));
        if self.words[word] == 0 {
            self.summary &= !(1 << word);
        }
    }

    /// The lowest key of a range.
    #[inline(always)]
    fn first_in(&self, range: Range<usize>) -> Option<usize> {
        let word = range.start / WORD_KEYS;
        let rest = self.words.get(word)? >> (range.start % WORD_KEYS);
        let key = match rest {
            0 => self.first_behind(word)?,
            rest => range.start + rest.trailing_zeros() as usize,
        };
        (key < range.end).then_some(key)
    }

    /// The lowest key in words behind this one.
    #[inline(always)]
    fn first_behind(&self, word: usize) -> Option<usize> {
        // In two steps: shifting by all bits is none.
        let words = self.summary >> word >> 1;
        if words == 0 {
            return None;
        }
        let word = word + 1 + words.trailing_zeros() as usize;
        Some(word * WORD_KEYS + self.words[word].trailing_zeros() as usize)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn round(keys: &Keys, first: usize) -> Vec<usize> {
        let mut round = Round::from(first);
        std::iter::from_fn(|| round.next(keys)).collect()
    }

    #[test]
    fn an_empty_set_has_an_empty_round() {
        let keys = Keys::new();
        assert!(keys.is_empty());
        for first in [0, 1, 63, 64, QUEUES_MAX - 1, QUEUES_MAX] {
            assert_eq!(round(&keys, first), []);
        }
    }

    #[test]
    fn a_key_that_goes_during_a_round_is_left_out_and_one_ahead_is_seen() {
        let mut keys = Keys::new();
        [3, 70, 200].into_iter().for_each(|key| keys.insert(key));
        let mut round = Round::from(70);
        assert_eq!(round.next(&keys), Some(70));
        keys.remove(200);
        keys.insert(QUEUES_MAX - 1);
        assert_eq!(round.next(&keys), Some(QUEUES_MAX - 1));
        keys.insert(71);
        assert_eq!(round.next(&keys), Some(3));
        assert_eq!(round.next(&keys), None);
    }

    proptest! {
        #[test]
        fn a_round_is_each_key_once_from_the_first_on(
            changes in prop::collection::vec((any::<bool>(), prop_oneof![
                0..QUEUES_MAX, 0..WORD_KEYS + 2, QUEUES_MAX - 2..QUEUES_MAX
            ]), 0..60),
            first in prop_oneof![0..=QUEUES_MAX, 0..2 * WORD_KEYS],
        ) {
            let (mut keys, mut model) = (Keys::new(), BTreeSet::new());
            for (comes, key) in changes {
                if comes {
                    keys.insert(key);
                    model.insert(key);
                } else {
                    keys.remove(key);
                    model.remove(&key);
                }
            }
            let expected = model.range(first..).chain(model.range(..first)).copied();
            prop_assert_eq!(round(&keys, first), expected.collect::<Vec<usize>>());
            prop_assert_eq!(keys.is_empty(), model.is_empty());
        }
    }
}
