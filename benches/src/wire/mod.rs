//! The wire of step 0: two vhost-user ports, every frame of one goes out of the other.
//!
//! * [`device`]: one port's messages and what they add up to;
//! * [`guest`]: a guest in our own memory, for checks and profiles;
//! * [`site`]: the two ports; starts the worker once both are up;
//! * [`worker`]: moves the frames.

pub mod device;
pub mod guest;
pub mod site;
pub mod worker;
