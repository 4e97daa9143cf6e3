//! The sender: an AF_XDP socket in copy mode at the far end of the first pair.
//!
//! Its frames are written before it starts, and none is touched again: what a frame costs
//! it is one descriptor, and the kernel's part of sending. Its thread is pinned to
//! [`CPU`], on which the kernel also receives what it sent at the near end. It waits for
//! nobody: what the forwarder does not take is lost there.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use core_affinity::CoreId;
use hairpin_dataplane::sys::memory::RegionHint;
use hairpin_dataplane::sys::netdev;
use hairpin_dataplane::sys::tun::InterfaceName;
use hairpin_dataplane::sys::xdp::{
    Binding, Descriptor, FRAME_BYTES, Pieces, Rings, Sizes, Socket, Umem,
};
use hairpin_tests::bed::Namespace;
use rustix::io::Errno;

use super::datagram;
use super::target::Guest;
use crate::error::{Context, Result, RigError};
use crate::testpmd::GENERATOR_CPU;

/// The CPU it sends on.
pub const CPU: usize = GENERATOR_CPU;
/// Frames that may be on their way.
const FRAMES: u32 = 512;
/// Frames handed over by one system call: the kernel takes no more in copy mode.
const BURST: u64 = 32;
/// How long frames may take to come back after the last one.
const PATIENCE: Duration = Duration::from_millis(200);

/// How fast frames are sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Load {
    /// As fast as it can.
    Full,
    /// So many a second, in bursts of at most 32.
    Frames(u32),
}

impl Load {
    /// Frames that are due now, a burst at most.
    fn due(self, elapsed: Duration, sent: u64) -> u64 {
        match self {
            Load::Full => BURST,
            Load::Frames(rate) => {
                let so_far = elapsed.as_nanos() * u128::from(rate) / 1_000_000_000;
                (so_far as u64).saturating_sub(sent).min(BURST)
            }
        }
    }

    /// How long to wait when nothing is due.
    fn pause(self) -> Option<Duration> {
        match self {
            Load::Full => None,
            Load::Frames(rate) => Some(Duration::from_secs(BURST) / rate),
        }
    }
}

/// What others see of a sender at work, and how they end it.
#[derive(Debug, Default)]
pub struct Control {
    /// Frames that the kernel has taken.
    pub sent: AtomicU64,
    /// Whether it is to end.
    pub over: AtomicBool,
}

/// A sender.
#[derive(Debug)]
pub struct Generator {
    umem: Umem,
    socket: Socket,
    rings: Rings,
    /// Frames that are here, by their addresses.
    here: Vec<u64>,
    /// The VM to which they go, if it is one: it works between the bursts.
    guest: Option<Guest>,
}

impl Generator {
    /// One at an interface of a namespace.
    ///
    /// # Errors
    /// If the kernel has no AF_XDP, or the interface has a socket already.
    pub fn open(namespace: &Namespace, interface: &str, guest: Option<Guest>) -> Result<Generator> {
        let opened = namespace.enter(|| open(interface, guest)).context("the sender")?;
        opened.context(format_args!("the sender's socket at {interface}"))
    }

    /// Sends frames of `bytes` bytes until it is told to end, on its own CPU.
    ///
    /// # Errors
    /// If the kernel does not take them, or does not give them back.
    pub fn run(&mut self, bytes: usize, load: Load, control: &Control) -> Result<()> {
        if !core_affinity::set_for_current(CoreId { id: CPU }) {
            return Err(RigError::new(format!("cannot pin the sender to CPU {CPU}")));
        }
        self.write(&datagram::frame(bytes))?;
        let (start, mut given) = (Instant::now(), 0);
        while !control.over.load(Ordering::Relaxed) {
            self.reclaim();
            let due = load.due(start.elapsed(), given);
            let added = self.give(due, bytes as u32);
            given += added;
            self.kick()?;
            self.guest.iter_mut().for_each(Guest::take);
            let left = u64::from(self.rings.transmit.left());
            control.sent.store(given - left, Ordering::Relaxed);
            match load.pause() {
                Some(pause) if due == 0 => std::thread::sleep(pause),
                // Whoever has the frames may need this CPU to give them back.
                _ if added == 0 => std::thread::yield_now(),
                _ => {}
            }
        }
        self.settle()
    }

    /// Writes the frame wherever one can lie.
    fn write(&mut self, frame: &[u8]) -> Result<()> {
        let mut hint = RegionHint::default();
        for &address in &self.here {
            let place = self.umem.memory().place(&mut hint, address, frame.len() as u32);
            place.ok_or_else(|| RigError::new("a frame has no place"))?.write(frame);
        }
        Ok(())
    }

    fn reclaim(&mut self) {
        while let Some(address) = self.rings.completed.take() {
            self.here.push(address);
        }
        self.rings.completed.release();
    }

    /// Gives frames to the kernel, as far as there are any; says how many.
    fn give(&mut self, due: u64, length: u32) -> u64 {
        let mut given = 0;
        while given < due
            && let Some(address) = self.here.pop()
        {
            if self.rings.transmit.push(Descriptor { address, length, options: 0 }).is_err() {
                self.here.push(address);
                break;
            }
            given += 1;
        }
        self.rings.transmit.publish();
        given
    }

    fn kick(&mut self) -> Result<()> {
        if self.rings.transmit.left() == 0 {
            return Ok(());
        }
        match self.socket.kick() {
            Ok(()) | Err(Errno::AGAIN | Errno::BUSY | Errno::NOBUFS | Errno::INTR) => Ok(()),
            Err(error) => Err(RigError::new(format!("the sender cannot send: {error}"))),
        }
    }

    /// Waits until all frames are here again.
    fn settle(&mut self) -> Result<()> {
        let end = Instant::now() + PATIENCE;
        while self.here.len() < FRAMES as usize {
            if Instant::now() > end {
                let missing = FRAMES as usize - self.here.len();
                return Err(RigError::new(format!("{missing} of the sender's frames are kept")));
            }
            self.kick()?;
            self.guest.iter_mut().for_each(Guest::take);
            std::thread::yield_now();
            self.reclaim();
        }
        Ok(())
    }
}

fn open(interface: &str, guest: Option<Guest>) -> io::Result<Generator> {
    let name = InterfaceName::new(interface).ok_or(io::ErrorKind::InvalidInput)?;
    let index = netdev::describe(name)?.index;
    let umem = Umem::new(FRAMES)?;
    let sizes = Sizes { receive: FRAMES, transmit: FRAMES };
    let (socket, rings) = Socket::open(&umem, sizes)?;
    socket.bind(index, 0, Binding::Copy, Pieces::One)?;
    let here = (0..FRAMES).map(|frame| u64::from(frame) * u64::from(FRAME_BYTES)).collect();
    Ok(Generator { umem, socket, rings, here, guest })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_due_follows_the_clock_a_burst_at_most() {
        let load = Load::Frames(100_000);
        let after = |microseconds, sent| load.due(Duration::from_micros(microseconds), sent);
        assert_eq!([after(0, 0), after(9, 0), after(10, 0), after(100, 4)], [0, 0, 1, 6]);
        assert_eq!((after(1_000_000, 99_990), after(1_000_000, 0)), (10, BURST));
        // Ahead of the clock, it waits.
        assert_eq!(after(100, 11), 0);
        assert_eq!(load.pause(), Some(Duration::from_micros(320)));
        assert_eq!((Load::Full.due(Duration::ZERO, 7), Load::Full.pause()), (BURST, None));
    }
}
