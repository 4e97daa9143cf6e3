//! A host at a port: a kernel's TCP/IP stack in a namespace, behind the far end of a veth pair.
//! It speaks for itself; there is no generator in it.

use hairpin_tests::bed::Host;

use crate::error::{Result, RigError};
use crate::suite::endpoint::{Receiver, Sender};

impl Sender for Host {
    fn send(&mut self, _: &[&[u8]]) -> Result<usize> {
        Err(RigError::new("no frames of a generator's are sent by a host's port"))
    }
}

impl Receiver for Host {
    fn receive(&mut self, _: &mut dyn FnMut(&[u8])) -> Result<()> {
        Err(RigError::new("no frames of a generator's come by a host's port"))
    }
}
