//! How a guest has its rings and buffers.

use hairpin_dataplane::port::vhost_user::features::Features;

use super::memory::Pages;

/// How the descriptors of a frame, or of an empty buffer, lie.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Chains {
    /// Header and frame behind one descriptor.
    Whole,
    /// A descriptor for the header, one for the frame.
    Apart,
    /// The same in a table that a descriptor names (`indirect_desc`).
    Tables,
}

/// How a guest has its rings and buffers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Layout {
    /// What it is called.
    pub name: &'static str,
    /// What the driver accepts, apart from what every front end here does: `version_1`,
    /// `protocol_features`, and `mq` with several pairs.
    pub features: Features,
    /// How descriptors lie.
    pub chains: Chains,
    /// Queue pairs.
    pub pairs: usize,
    /// Entries of each ring: a power of two where rings are split.
    pub entries: u16,
    /// Bytes of each buffer, the virtio-net header included.
    pub buffer_bytes: u32,
    /// Bytes of memory behind rings and buffers, for whatever somebody wants to lay there.
    pub spare_bytes: u64,
    /// What all of it lies in.
    pub pages: Pages,
}

/// Every driver's, whatever the layout.
const MODERN: Features = Features::VERSION_1.with(Features::PROTOCOL_FEATURES);
const PACKED: Features = Features::RING_PACKED;
const MERGE: Features = Features::MRG_RXBUF;
const ORDER: Features = Features::IN_ORDER;
const TABLES: Features = Features::INDIRECT_DESC;
const EVENTS: Features = Features::EVENT_IDX;
/// Everything that a frame may be lacking, in either direction.
pub const OFFLOADS: Features = Features::CSUM
    .with(Features::GUEST_CSUM)
    .with(Features::HOST_TSO4)
    .with(Features::HOST_TSO6)
    .with(Features::HOST_ECN)
    .with(Features::HOST_USO)
    .with(Features::GUEST_TSO4)
    .with(Features::GUEST_TSO6)
    .with(Features::GUEST_ECN)
    .with(Features::GUEST_USO4)
    .with(Features::GUEST_USO6);

impl Layout {
    /// Split rings, buffers merged.
    pub const SPLIT: Layout = Layout {
        name: "split",
        features: MERGE,
        chains: Chains::Whole,
        pairs: 1,
        entries: 256,
        buffer_bytes: 2048,
        spare_bytes: 0x4000,
        pages: Pages::Ordinary,
    };

    /// Packed rings, buffers merged.
    pub const PACKED: Layout =
        Layout { name: "packed", features: MERGE.with(PACKED), ..Layout::SPLIT };

    /// Packed rings that are used in order, buffers merged.
    pub const PACKED_IN_ORDER: Layout =
        Layout { name: "packed-inorder", ..Layout::PACKED }.with(ORDER, Chains::Whole);

    /// Every kind of ring, each with what is to be had beside it in some mixture.
    pub const ALL: [Layout; 10] = [
        Layout::SPLIT,
        Layout { name: "split-single", features: Features::NONE, ..Layout::SPLIT }
            .with(Features::NONE, Chains::Apart),
        Layout { name: "split-inorder", ..Layout::SPLIT }.with(ORDER, Chains::Whole),
        Layout { name: "split-tables", ..Layout::SPLIT }.with(TABLES, Chains::Tables),
        Layout { name: "split-events", ..Layout::SPLIT }.with(EVENTS, Chains::Apart),
        Layout::PACKED,
        Layout { name: "packed-single", features: PACKED, ..Layout::SPLIT }
            .with(Features::NONE, Chains::Apart),
        Layout::PACKED_IN_ORDER,
        Layout { name: "packed-tables", ..Layout::PACKED }.with(TABLES, Chains::Tables),
        Layout { name: "packed-events", ..Layout::PACKED }.with(EVENTS.with(ORDER), Chains::Whole),
    ];

    /// Little of everything: for guests of which many are wanted.
    pub const IDLE: Layout = Layout { name: "idle", entries: 64, spare_bytes: 0, ..Layout::SPLIT };

    /// The same with these features too, its descriptors lying so.
    #[must_use]
    pub const fn with(self, features: Features, chains: Chains) -> Layout {
        Layout { features: self.features.with(features), chains, ..self }
    }

    /// What its driver accepts.
    #[must_use]
    pub fn accepted(&self) -> Features {
        let several = if self.pairs > 1 { Features::MQ } else { Features::NONE };
        self.features.with(MODERN).with(several)
    }
}
