//! An interface of the generator's, by AF_XDP: the far end of a veth pair whose near end is the
//! switch's, or of its cable. The kernel copies frames both ways, and sends in bursts of 32 to
//! a system call; tags stay where they are.

use std::io;
use std::os::fd::AsFd;

use hairpin_dataplane::sys::bpf::{Link, Program, SocketMap, XdpMode};
use hairpin_dataplane::sys::memory::RegionHint;
use hairpin_dataplane::sys::netdev;
use hairpin_dataplane::sys::tun::InterfaceName;
use hairpin_dataplane::sys::xdp::{
    Binding, Descriptor, FRAME_BYTES, Pieces, Rings, Sizes, Socket, Umem,
};
use hairpin_tests::bed::Namespace;
use rustix::io::Errno;

use crate::error::{Context, Result, RigError};
use crate::suite::endpoint::{Receiver, Sender};

/// Frames that may be on their way there, and as many that may have come.
const FRAMES: u32 = 2048;
const SIZES: Sizes = Sizes { receive: FRAMES, transmit: FRAMES };

/// An interface: the program that gives its frames to a socket goes first.
#[derive(Debug)]
pub struct Interface {
    _program: Link,
    umem: Umem,
    socket: Socket,
    rings: Rings,
    /// Places of frames to send that are here.
    here: Vec<u64>,
    /// Places of frames that came, to be given back.
    taken: Vec<u64>,
    hint: RegionHint,
    frame: Vec<u8>,
}

impl Interface {
    /// One of a namespace, which is up and has one queue.
    ///
    /// # Errors
    /// If there is none of that name, or another program is at it.
    pub fn open(namespace: &Namespace, name: &str) -> Result<Interface> {
        let opened = namespace.enter(|| open(name)).context("entering a namespace")?;
        opened.context(format_args!("AF_XDP at {name}"))
    }

    fn reclaim(&mut self) {
        while let Some(address) = self.rings.completed.take() {
            self.here.push(address);
        }
        self.rings.completed.release();
    }

    /// Has the kernel send what it was given; what it leaves goes with the next.
    fn kick(&mut self) -> Result<()> {
        if self.rings.transmit.left() == 0 {
            return Ok(());
        }
        match self.socket.kick() {
            Ok(()) | Err(Errno::AGAIN | Errno::BUSY | Errno::NOBUFS | Errno::INTR) => Ok(()),
            Err(error) => Err(RigError::new(format!("an interface cannot send: {error}"))),
        }
    }

    /// Copies a frame from where the kernel has put it.
    fn take(&mut self, descriptor: Descriptor) -> Result<()> {
        let Descriptor { address, length, .. } = descriptor;
        let place = self.umem.memory().place(&mut self.hint, address, length);
        let place = place.ok_or_else(|| RigError::new("a frame that came has no place"))?;
        self.frame.resize(length as usize, 0);
        place.read(&mut self.frame);
        self.taken.push(address - address % u64::from(FRAME_BYTES));
        Ok(())
    }

    /// Gives places back. The kernel shows a frame before it says that its place has left the
    /// ring: for that moment there may be no room.
    fn give_back(&mut self) {
        while let Some(place) = self.taken.pop() {
            if self.rings.fill.push(place).is_err() {
                self.taken.push(place);
                break;
            }
        }
        self.rings.fill.publish();
    }
}

fn open(name: &str) -> io::Result<Interface> {
    let name = InterfaceName::new(name).ok_or(io::ErrorKind::InvalidInput)?;
    let index = netdev::describe(name)?.index;
    let umem = Umem::new(2 * FRAMES)?;
    let (socket, mut rings) = Socket::open(&umem, SIZES)?;
    let place = |frame| u64::from(frame) * u64::from(FRAME_BYTES);
    for frame in 0..FRAMES {
        rings.fill.push(place(frame)).map_err(|_| io::ErrorKind::InvalidInput)?;
    }
    rings.fill.publish();
    socket.bind(index, 0, Binding::Copy, Pieces::One)?;
    let map = SocketMap::new(1)?;
    map.set(0, socket.as_fd())?;
    let program = Link::xdp(&Program::to_sockets(&map)?, index, XdpMode::Driver)?;
    let here = (FRAMES..2 * FRAMES).map(place).collect();
    let (taken, hint, frame) = (Vec::new(), RegionHint::default(), Vec::new());
    Ok(Interface { _program: program, umem, socket, rings, here, taken, hint, frame })
}

impl Sender for Interface {
    fn send(&mut self, frames: &[&[u8]]) -> Result<usize> {
        self.reclaim();
        let mut sent = 0;
        for frame in frames {
            let Some(address) = self.here.pop() else { break };
            let length = frame.len() as u32;
            let place = self.umem.memory().place(&mut self.hint, address, length);
            place.ok_or_else(|| RigError::new("a frame has no place"))?.write(frame);
            let descriptor = Descriptor { address, length, options: 0 };
            if self.rings.transmit.push(descriptor).is_err() {
                self.here.push(address);
                break;
            }
            sent += 1;
        }
        self.rings.transmit.publish();
        self.kick()?;
        Ok(sent)
    }
}

impl Receiver for Interface {
    fn receive(&mut self, visit: &mut dyn FnMut(&[u8])) -> Result<()> {
        self.kick()?;
        for _ in 0..FRAMES {
            let Some(descriptor) = self.rings.received.take() else { break };
            self.take(descriptor)?;
            visit(&self.frame);
        }
        self.rings.received.release();
        self.give_back();
        Ok(())
    }
}
