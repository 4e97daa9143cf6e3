//! Features: what is offered, what it is called, and what follows from what was accepted.

use std::fmt;

use crate::port::vhost_user::queue::{NetHeaders, RingKind};
use crate::sys::virtqueue::{Indirect, Merge, Order, Wishes};
use crate::wire::offload::{Capabilities, Support};

macro_rules! feature_bits {
    (
        $(#[$doc:meta])*
        $name:ident { $($(#[$bit_doc:meta])* $constant:ident = $bit:literal, $word:literal;)* }
    ) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
        pub struct $name(u64);

        impl $name {
            $($(#[$bit_doc])* pub const $constant: $name = $name(1 << $bit);)*
            const NAMES: &'static [(u64, &'static str)] = &[$((1 << $bit, $word)),*];

            /// None.
            pub const NONE: $name = $name(0);

            /// Those of these bits.
            #[must_use]
            pub const fn from_bits(bits: u64) -> $name {
                $name(bits)
            }

            /// As bits.
            #[must_use]
            pub const fn bits(self) -> u64 {
                self.0
            }

            /// These, and those.
            #[must_use]
            pub const fn with(self, others: $name) -> $name {
                $name(self.0 | others.0)
            }

            /// These, but not those.
            #[must_use]
            pub const fn without(self, others: $name) -> $name {
                $name(self.0 & !others.0)
            }

            /// Whether all of those are among these.
            #[must_use]
            pub const fn has(self, others: $name) -> bool {
                self.0 & others.0 == others.0
            }

            /// Their names, in the order of their bits; `bit_57` for one without.
            pub fn names(self) -> impl Iterator<Item = String> {
                let set = move |(_, mask): &(u32, u64)| self.0 & mask != 0;
                let all = (0..u64::BITS).map(|bit| (bit, 1_u64 << bit));
                all.filter(set).map(|(bit, mask)| {
                    match Self::NAMES.iter().find(|(known, _)| *known == mask) {
                        Some((_, name)) => (*name).to_owned(),
                        None => format!("bit_{bit}"),
                    }
                })
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let names: Vec<String> = self.names().collect();
                f.write_str(if names.is_empty() { "none" } else { "" })?;
                f.write_str(&names.join(", "))
            }
        }
    };
}

feature_bits! {
    /// Features of a network device and its rings (virtio 1.2, 5.1.3 and 6).
    Features {
        /// The driver may leave checksums to us.
        CSUM = 0, "csum";
        /// The driver takes frames without checksums.
        GUEST_CSUM = 1, "guest_csum";
        /// The driver asks us for the MTU.
        MTU = 3, "mtu";
        /// The driver takes TSO over IPv4.
        GUEST_TSO4 = 7, "guest_tso4";
        /// The driver takes TSO over IPv6.
        GUEST_TSO6 = 8, "guest_tso6";
        /// The driver takes TSO with ECN.
        GUEST_ECN = 9, "guest_ecn";
        /// The driver may send TSO over IPv4.
        HOST_TSO4 = 11, "host_tso4";
        /// The driver may send TSO over IPv6.
        HOST_TSO6 = 12, "host_tso6";
        /// The driver may send TSO with ECN.
        HOST_ECN = 13, "host_ecn";
        /// A frame may be spread over several receive buffers.
        MRG_RXBUF = 15, "mrg_rxbuf";
        /// Several queue pairs.
        MQ = 22, "mq";
        /// Descriptors may name tables of descriptors.
        INDIRECT_DESC = 28, "indirect_desc";
        /// Wake-ups are asked for by a place in the ring.
        EVENT_IDX = 29, "event_idx";
        /// There are protocol features (vhost-user's own bit).
        PROTOCOL_FEATURES = 30, "protocol_features";
        /// Virtio 1.0 or later.
        VERSION_1 = 32, "version_1";
        /// Packed rings.
        RING_PACKED = 34, "ring_packed";
        /// Buffers are given back in order.
        IN_ORDER = 35, "in_order";
        /// The driver takes UDP segmentation over IPv4.
        GUEST_USO4 = 54, "guest_uso4";
        /// The driver takes UDP segmentation over IPv6.
        GUEST_USO6 = 55, "guest_uso6";
        /// The driver may send UDP segmentation.
        HOST_USO = 56, "host_uso";
    }
}

feature_bits! {
    /// Features of the vhost-user protocol.
    ProtocolFeatures {
        /// Several queue pairs ([`Request::GetQueueNum`](super::message::Request)).
        MQ = 0, "mq";
        /// Requests are acknowledged where asked.
        REPLY_ACK = 3, "reply_ack";
        /// The MTU is told.
        NET_MTU = 4, "net_mtu";
        /// The device can be reset.
        RESET_DEVICE = 13, "reset_device";
        /// Memory regions come and go one by one.
        CONFIGURE_MEM_SLOTS = 15, "configure_mem_slots";
    }
}

impl Features {
    /// All that can be offered. The control queue is not among them: it is the VMM's,
    /// which adds it for its driver.
    pub const OFFERED: Features = Features::CSUM
        .with(Features::GUEST_CSUM)
        .with(Features::MTU)
        .with(Features::GUEST_TSO4)
        .with(Features::GUEST_TSO6)
        .with(Features::GUEST_ECN)
        .with(Features::HOST_TSO4)
        .with(Features::HOST_TSO6)
        .with(Features::HOST_ECN)
        .with(Features::MRG_RXBUF)
        .with(Features::MQ)
        .with(Features::INDIRECT_DESC)
        .with(Features::EVENT_IDX)
        .with(Features::PROTOCOL_FEATURES)
        .with(Features::VERSION_1)
        .with(Features::RING_PACKED)
        .with(Features::IN_ORDER)
        .with(Features::GUEST_USO4)
        .with(Features::GUEST_USO6)
        .with(Features::HOST_USO);

    /// How rings are laid out.
    #[must_use]
    pub fn ring_kind(self) -> RingKind {
        if self.has(Features::RING_PACKED) { RingKind::Packed } else { RingKind::Split }
    }

    /// In which order buffers go back.
    #[must_use]
    pub fn order(self) -> Order {
        if self.has(Features::IN_ORDER) { Order::InOrder } else { Order::Any }
    }

    /// Whether receive buffers may be merged.
    #[must_use]
    pub fn merge(self) -> Merge {
        if self.has(Features::MRG_RXBUF) { Merge::Mergeable } else { Merge::Single }
    }

    /// Whether descriptors may be indirect.
    #[must_use]
    pub fn indirect(self) -> Indirect {
        if self.has(Features::INDIRECT_DESC) { Indirect::Allowed } else { Indirect::Refused }
    }

    /// How wake-ups are asked for.
    #[must_use]
    pub fn wishes(self) -> Wishes {
        if self.has(Features::EVENT_IDX) { Wishes::EventIndex } else { Wishes::Flags }
    }

    /// What the driver takes of frames that are not complete.
    #[must_use]
    pub fn accepts(self) -> Capabilities {
        let taken = |features| {
            if self.has(features) { Support::Taken } else { Support::Lacking }
        };
        Capabilities {
            checksum: taken(Features::GUEST_CSUM),
            tcp4: taken(Features::GUEST_TSO4),
            tcp6: taken(Features::GUEST_TSO6),
            ecn: taken(Features::GUEST_ECN),
            udp: taken(Features::GUEST_USO4.with(Features::GUEST_USO6)),
        }
    }

    /// Whether the headers of the driver's frames may say anything.
    #[must_use]
    pub fn headers(self) -> NetHeaders {
        if self.has(Features::CSUM) { NetHeaders::Read } else { NetHeaders::Ignored }
    }

    /// Whether the header in front of each frame has `num_buffers`, and thus 12 bytes
    /// (5.1.6.1). Rings are served in no other way.
    #[must_use]
    pub fn header(self) -> NetHeader {
        let longer = self.has(Features::VERSION_1) || self.has(Features::MRG_RXBUF);
        if longer { NetHeader::Twelve } else { NetHeader::Ten }
    }
}

/// Bytes of the header in front of each frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NetHeader {
    /// Without `num_buffers`: virtio 0.9 without mergeable buffers.
    Ten,
    /// With it.
    Twelve,
}

impl ProtocolFeatures {
    /// All that are offered.
    pub const OFFERED: ProtocolFeatures = ProtocolFeatures::MQ
        .with(ProtocolFeatures::REPLY_ACK)
        .with(ProtocolFeatures::NET_MTU)
        .with(ProtocolFeatures::RESET_DEVICE)
        .with(ProtocolFeatures::CONFIGURE_MEM_SLOTS);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn features_have_names_and_unknown_ones_numbers() {
        let features = Features::MRG_RXBUF.with(Features::VERSION_1);
        let strange = Features::from_bits(features.bits() | 1 << 57);
        assert_eq!(strange.to_string(), "mrg_rxbuf, version_1, bit_57");
        assert_eq!(Features::NONE.to_string(), "none");
        assert_eq!(ProtocolFeatures::OFFERED.to_string(), {
            "mq, reply_ack, net_mtu, reset_device, configure_mem_slots"
        });
        assert!(Features::OFFERED.names().all(|name| !name.starts_with("bit_")));
    }

    #[test]
    fn what_follows_from_features() {
        let all = Features::OFFERED;
        assert_eq!((all.ring_kind(), all.order()), (RingKind::Packed, Order::InOrder));
        assert_eq!((all.merge(), all.indirect()), (Merge::Mergeable, Indirect::Allowed));
        assert_eq!((all.wishes(), all.accepts()), (Wishes::EventIndex, Capabilities::ALL));
        let none = Features::NONE;
        assert_eq!((none.ring_kind(), none.order()), (RingKind::Split, Order::Any));
        assert_eq!((none.merge(), none.indirect()), (Merge::Single, Indirect::Refused));
        assert_eq!((none.wishes(), none.accepts()), (Wishes::Flags, Capabilities::NONE));
        assert_eq!(Features::GUEST_USO4.accepts(), Capabilities::NONE);
        let all_but_ecn = Capabilities { ecn: Support::Lacking, ..Capabilities::ALL };
        assert_eq!(all.without(Features::GUEST_ECN).accepts(), all_but_ecn);
    }

    #[test]
    fn only_old_devices_without_merged_buffers_have_the_short_header() {
        assert_eq!(Features::CSUM.header(), NetHeader::Ten);
        assert_eq!(Features::MRG_RXBUF.header(), NetHeader::Twelve);
        assert_eq!(Features::VERSION_1.header(), NetHeader::Twelve);
    }
}
