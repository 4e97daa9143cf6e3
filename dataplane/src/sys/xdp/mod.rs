//! AF_XDP sockets (`linux/if_xdp.h`): the frames of one receive queue of a netdev,
//! exchanged with the kernel over four rings in memory that both have mapped.
//!
//! * [`Umem`] — the memory that frames lie in, cut into frames of equal size.
//! * [`Producer`], [`Consumer`] — our half of a ring.
//! * [`Socket`] — what ties both to a queue of a netdev.
//!
//! Which frames are whose is the caller's affair. Nothing here depends on it for memory
//! safety: the kernel checks every descriptor that we give, and what the kernel gives is
//! looked up in the [`Umem`]'s [`Memory`](super::memory::Memory), which has bounds.

mod ring;
mod socket;
mod umem;

#[cfg(test)]
pub(crate) use ring::testing;
pub use ring::{CONTINUED, Consumer, Descriptor, Entry, Full, Producer, Room, Sequel, Wakeup};
pub use socket::{Binding, Pieces, Rings, Sizes, Socket};
pub use umem::{FRAME_BYTES, Umem};
