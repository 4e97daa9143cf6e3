//! What is at the other end of a switch's port, nearly always the generator: send, receive, throw
//! away. Nothing here waits.

use hairpin_tests::bed::Host;

use super::endpoint::{Receiver, Sender};
use crate::error::Result;
use crate::front_end::FrontEnd;

mod host;
mod interface;
mod tap;

pub use interface::Interface;
pub use tap::Tap;

/// The other end of a port.
#[derive(Debug)]
pub enum Port {
    /// A VM.
    Vm(Box<FrontEnd>),
    /// A TAP's file.
    Tap(Tap),
    /// The far end of a veth pair.
    Interface(Box<Interface>),
    /// A host that speaks for itself.
    Host(Box<Host>),
}

impl Port {
    /// The VM, if it is one.
    pub fn vm(&mut self) -> Option<&mut FrontEnd> {
        match self {
            Port::Vm(front) => Some(front),
            Port::Tap(_) | Port::Interface(_) | Port::Host(_) => None,
        }
    }

    /// Throws away what has come.
    ///
    /// # Errors
    /// If the port is gone.
    pub fn discard(&mut self) -> Result<()> {
        match self {
            Port::Vm(front) => {
                front.discard();
                Ok(())
            }
            Port::Tap(tap) => tap.receive(&mut |_| {}),
            Port::Interface(interface) => interface.receive(&mut |_| {}),
            Port::Host(_) => Ok(()),
        }
    }
}

impl Sender for Port {
    fn send(&mut self, frames: &[&[u8]]) -> Result<usize> {
        match self {
            Port::Vm(front) => Sender::send(&mut **front, frames),
            Port::Tap(tap) => tap.send(frames),
            Port::Interface(interface) => interface.send(frames),
            Port::Host(host) => host.send(frames),
        }
    }

    fn make_ready(&mut self, frames: usize, bytes: usize) {
        if let Port::Vm(front) = self {
            front.make_ready(frames, bytes);
        }
    }
}

impl Receiver for Port {
    fn receive(&mut self, visit: &mut dyn FnMut(&[u8])) -> Result<()> {
        match self {
            Port::Vm(front) => Receiver::receive(&mut **front, visit),
            Port::Tap(tap) => tap.receive(visit),
            Port::Interface(interface) => interface.receive(visit),
            Port::Host(host) => host.receive(visit),
        }
    }
}
