//! A test bed of real kernel network stacks.
//!
//! A [`Host`] is a network namespace with one interface, as a VM would be; a
//! [`Daemon`] is `hairpin run` in a namespace of its own, whose TAPs are plugged
//! into hosts; a [`KernelBridge`] is the adjacent bridge, or the cable between two
//! switches; an [`OpenVSwitch`] is a peer of another make; a [`Testpmd`] is two VMs, of
//! another make too; a [`Guest`] is a real one in QEMU; a [`Machine`] has systemd, and the
//! daemon as its service. Everything is undone on drop, and what a killed run left behind
//! is swept by the next one: a namespace's name holds the process id it belongs to.
//!
//! Needs root, iproute2 and iputils-ping. Nothing of it touches the network of
//! the machine itself.
//!
//! The daemon's program is the `hairpin` that cargo built beside the running
//! test: `cargo test --workspace` builds it because `control/` has integration
//! tests; for a single package run `cargo build` first. One that is older than
//! the sources is refused.

mod bridge;
mod command;
mod daemon;
mod datagrams;
mod echo;
mod error;
mod expect;
mod guest;
mod host;
mod machine;
mod namespace;
mod ovs;
mod recorder;
mod root;
mod stream;
mod testpmd;
mod transfer;
mod wait;

pub use bridge::{Flooding, KernelBridge, Reflection};
pub use command::run;
pub use daemon::{Daemon, Workers, program};
pub use datagrams::{Flow, FlowReport};
pub use echo::Echo;
pub use error::{BedError, Result};
pub use expect::{assert_apart, assert_reach, await_state};
pub use guest::{Guest, Nic};
pub use host::{Family, Host, mac_bytes, mac_text};
pub use machine::Machine;
pub use namespace::{Namespace, sweep};
pub use ovs::{OpenVSwitch, Tso};
pub use recorder::{Frame, Recorder, send_frame};
pub use root::{Root, root};
pub use stream::Stream;
pub use testpmd::{Buffers, Devices, HUGE_PAGES, Pages, PortCounters, Sockets, Testpmd};
pub use transfer::{Transfer, transfer, transfer_for};
pub use wait::eventually;
