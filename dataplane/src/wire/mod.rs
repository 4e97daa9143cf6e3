//! Bytes and their meaning: pure functions over byte slices, no I/O.
//!
//! * [`mac`] — addresses.
//! * [`vlan`] — VLAN ids, S-VIDs, tag control information.
//! * [`ethernet`] — the tag stack at the head of a frame; [`ethernet::TagEdit`].
//! * [`offload`] — what is left to do on a frame: checksum, segmentation.
//! * [`virtio_net`] — the virtio-net header that carries an offload.
//! * [`checksum`] — the Internet checksum, over pieces.
//! * [`transport`] — a frame's TCP or UDP, and whether its checksum is filled in.
//! * [`layout`] — where the headers of a frame to be cut lie.
//! * [`segment`] — the headers of its segments.

pub mod checksum;
pub mod ethernet;
pub mod layout;
pub mod mac;
pub mod offload;
pub mod segment;
#[cfg(test)]
pub(crate) mod specimen;
pub mod transport;
pub mod virtio_net;
pub mod vlan;

pub use mac::Mac;
pub use vlan::{SVid, Tci, Vid, VlanId};
