//! Which circumstances testpmd is tried in: its rings, who makes the sockets, how many queue
//! pairs there are, and what its memory is made of.
//!
//! With `HAIRPIN_MATRIX=whole` it is every combination, and ten rounds of what is repeated;
//! without, a few in which each value meets each of the others, and two rounds.

use std::fmt;
use std::fs;

use hairpin_tests::bed::{Buffers, Sockets};
use hairpin_tests::covering::{every, pairwise};

/// How much is tried.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Extent {
    /// Combinations with every pair of values.
    Pairwise,
    /// Every combination.
    Whole,
}

impl Extent {
    /// As `HAIRPIN_MATRIX` has it.
    pub fn asked() -> Extent {
        match std::env::var("HAIRPIN_MATRIX") {
            Err(_) => Extent::Pairwise,
            Ok(word) if word == "whole" => Extent::Whole,
            Ok(word) => panic!("HAIRPIN_MATRIX={word:?}: set it to `whole`, or not at all"),
        }
    }

    /// How often somebody is killed.
    pub fn rounds(self) -> u64 {
        match self {
            Extent::Pairwise => 2,
            Extent::Whole => 10,
        }
    }
}

/// A layout of rings that testpmd has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rings {
    pub name: &'static str,
    /// All that decides it: virtio-user's own defaults are
    /// `packed_vq=0,mrg_rxbuf=1,in_order=1`.
    pub arguments: &'static str,
    /// How testpmd calls the way of receiving that is meant.
    pub receive_path: &'static str,
}

impl Rings {
    /// Buffers are merged where the rings allow it.
    pub fn buffers(self) -> Buffers {
        match self.arguments.contains("mrg_rxbuf=1") {
            true => Buffers::Parts,
            false => Buffers::Whole,
        }
    }

    /// Features by which they differ, and whether these have them.
    pub fn features(self) -> [(&'static str, bool); 3] {
        let features = [
            ("ring_packed", "packed_vq=1"),
            ("mrg_rxbuf", "mrg_rxbuf=1"),
            ("in_order", "in_order=1"),
        ];
        features.map(|(name, argument)| (name, self.arguments.contains(argument)))
    }

    /// Whether this machine's processor has what they take.
    pub fn are_to_be_had(self) -> bool {
        let flags = || fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        self != PACKED_VECTOR || flags().contains(" avx512f")
    }
}

const fn rings(name: &'static str, arguments: &'static str, receive_path: &'static str) -> Rings {
    Rings { name, arguments, receive_path }
}

/// Split rings, buffers merged.
pub const SPLIT_MERGEABLE: Rings =
    rings("split mergeable", "packed_vq=0,mrg_rxbuf=1,in_order=0", "mergeable buffer");
/// Packed rings in order.
pub const PACKED_IN_ORDER: Rings =
    rings("packed in-order", "packed_vq=1,mrg_rxbuf=0,in_order=1", "packed ring standard");
/// The same, by AVX-512 in both directions: else testpmd goes the standard way.
const PACKED_VECTOR: Rings = rings(
    "packed in-order vectorised",
    "packed_vq=1,mrg_rxbuf=0,in_order=1,vectorized=1",
    "packed ring vectorized",
);

/// Every layout. There are vectorised ones of split rings that are neither in order nor
/// mergeable, where only receiving is, and of packed rings that are in order and not mergeable;
/// elsewhere testpmd takes `vectorized=1` and goes the standard way.
const RINGS: [Rings; 10] = [
    rings("split", "packed_vq=0,mrg_rxbuf=0,in_order=0", "standard"),
    SPLIT_MERGEABLE,
    rings("split in-order", "packed_vq=0,mrg_rxbuf=0,in_order=1", "inorder"),
    rings("split in-order mergeable", "packed_vq=0,mrg_rxbuf=1,in_order=1", "inorder"),
    rings("split vectorised", "packed_vq=0,mrg_rxbuf=0,in_order=0,vectorized=1", "vectorized"),
    rings("packed", "packed_vq=1,mrg_rxbuf=0,in_order=0", "packed ring standard"),
    rings("packed mergeable", "packed_vq=1,mrg_rxbuf=1,in_order=0", "packed ring mergeable buffer"),
    PACKED_IN_ORDER,
    rings(
        "packed in-order mergeable",
        "packed_vq=1,mrg_rxbuf=1,in_order=1",
        "packed ring mergeable buffer",
    ),
    PACKED_VECTOR,
];
const SOCKETS: [Sockets; 2] = [Sockets::Made, Sockets::There];
const QUEUES: [u16; 2] = [1, 4];

/// What its memory is made of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Memory {
    Ordinary,
    Huge,
}

const MEMORY: [Memory; 2] = [Memory::Ordinary, Memory::Huge];

/// One combination.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Circumstances {
    pub rings: Rings,
    pub sockets: Sockets,
    pub queues: u16,
    pub memory: Memory,
}

impl fmt::Display for Circumstances {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Circumstances { rings, sockets, queues, memory } = self;
        let role = match sockets {
            Sockets::Made => "client",
            Sockets::There => "server",
        };
        let pages = match memory {
            Memory::Ordinary => "ordinary",
            Memory::Huge => "huge",
        };
        write!(f, "{}, we as {role}, queue pairs: {queues}, {pages} pages", rings.name)
    }
}

/// The combinations of an extent.
pub fn matrix(extent: Extent) -> Vec<Circumstances> {
    let values = [RINGS.len(), SOCKETS.len(), QUEUES.len(), MEMORY.len()];
    let combinations = match extent {
        Extent::Pairwise => pairwise(&values),
        Extent::Whole => every(&values),
    };
    let circumstances = |of: Vec<usize>| Circumstances {
        rings: RINGS[of[0]],
        sockets: SOCKETS[of[1]],
        queues: QUEUES[of[2]],
        memory: MEMORY[of[3]],
    };
    combinations.into_iter().map(circumstances).collect()
}

/// That each value of the first list is there together with each of the second.
fn assert_met<A: Copy + PartialEq + fmt::Debug, B: Copy + PartialEq + fmt::Debug>(
    (firsts, first): (&[A], fn(&Circumstances) -> A),
    (seconds, second): (&[B], fn(&Circumstances) -> B),
) {
    let matrix = matrix(Extent::Pairwise);
    for one in firsts {
        for other in seconds {
            let is_there = |it: &Circumstances| first(it) == *one && second(it) == *other;
            assert!(matrix.iter().any(is_there), "{one:?} never meets {other:?}");
        }
    }
}

#[test]
fn each_value_meets_each_of_the_others_in_the_usual_tier() {
    let rings: (&[Rings], fn(&Circumstances) -> Rings) = (&RINGS, |it| it.rings);
    let sockets: (&[Sockets], fn(&Circumstances) -> Sockets) = (&SOCKETS, |it| it.sockets);
    let queues: (&[u16], fn(&Circumstances) -> u16) = (&QUEUES, |it| it.queues);
    let memory: (&[Memory], fn(&Circumstances) -> Memory) = (&MEMORY, |it| it.memory);
    assert_met(rings, sockets);
    assert_met(rings, queues);
    assert_met(rings, memory);
    assert_met(sockets, queues);
    assert_met(sockets, memory);
    assert_met(queues, memory);
}

#[test]
fn the_whole_matrix_is_every_combination_once() {
    let whole = matrix(Extent::Whole);
    assert_eq!(whole.len(), 80);
    for (index, one) in whole.iter().enumerate() {
        assert!(!whole[..index].contains(one), "{one} is there twice");
    }
}
