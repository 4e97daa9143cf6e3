//! Frames from one veth pair to another, through one forwarder or another, in one run.
//!
//! Each contestant has a network namespace with two veth pairs in it. A sender pushes
//! frames into the far end of the first pair; what forwards, on CPU 1, sits between the two
//! near ends; what comes out of the far end of the second pair is counted and dropped. In
//! place of the second pair there may be a VM, which takes the frames by vhost-user. All
//! contestants are up for the whole run and take turns, a slice each, so that what the
//! machine does meanwhile meets all of them; one that would poll without pause is stopped
//! (SIGSTOP) between its turns.
//!
//! * [`wiring`]: the two pairs;
//! * [`generator`], [`datagram`]: the sender, the same for all, and what it sends;
//! * [`target`], [`sink`]: where they go, and the counter, the same for all;
//! * [`contestant`]: what forwards;
//! * [`slice`]: one turn, and what is counted in it;
//! * [`options`], [`report`]: the command line, the table and the JSON.

pub mod contestant;
pub mod datagram;
pub mod generator;
pub mod options;
pub mod report;
pub mod sink;
pub mod slice;
pub mod target;
pub mod wiring;
