//! The counter. Whatever comes out of the far end of the second pair is counted by the
//! kernel, as received there, and dropped by a tc program before any protocol sees it. What
//! goes to a VM is counted by the VM.

use std::fs::File;
use std::io::{self, Read, Seek};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use hairpin_dataplane::sys::bpf::{Link, Program};
use hairpin_dataplane::sys::netdev;
use hairpin_dataplane::sys::tun::InterfaceName;
use hairpin_tests::bed::Namespace;

use crate::error::{Context, Result, RigError};

/// A counter of frames.
#[derive(Debug)]
pub enum Sink {
    /// An interface's.
    Netdev(NetdevSink),
    /// A VM's.
    Guest(Arc<AtomicU64>),
}

impl Sink {
    /// Frames so far.
    ///
    /// # Errors
    /// If the interface is gone.
    pub fn frames(&self) -> Result<u64> {
        match self {
            Sink::Netdev(sink) => sink.frames(),
            Sink::Guest(received) => Ok(received.load(Ordering::Relaxed)),
        }
    }
}

/// The counter of an interface.
#[derive(Debug)]
pub struct NetdevSink {
    interface: String,
    /// `/proc/net/dev` of the interface's namespace; read under a lock, as it is rewound.
    counters: Mutex<File>,
    _dropping: Link,
}

impl NetdevSink {
    /// One at an interface of a namespace.
    ///
    /// # Errors
    /// If the kernel does not take the program (Linux 6.6 or newer).
    pub fn open(namespace: &Namespace, interface: &str) -> Result<NetdevSink> {
        let opened = namespace.enter(|| open(interface)).context("the counter")?;
        opened.context(format_args!("the counter at {interface}"))
    }

    fn frames(&self) -> Result<u64> {
        let mut text = String::new();
        let mut file = self.counters.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        file.rewind().context("reading /proc/net/dev")?;
        file.read_to_string(&mut text).context("reading /proc/net/dev")?;
        received(&text, &self.interface)
            .ok_or_else(|| RigError::new(format!("/proc/net/dev has no {}", self.interface)))
    }
}

fn open(interface: &str) -> io::Result<NetdevSink> {
    let name = InterfaceName::new(interface).ok_or(io::ErrorKind::InvalidInput)?;
    let index = netdev::describe(name)?.index;
    let dropping = Link::tcx_ingress(&Program::drop_all()?, index)?;
    // It stays that of this thread's namespace, whoever reads it.
    let counters = Mutex::new(File::open("/proc/thread-self/net/dev")?);
    Ok(NetdevSink { interface: interface.to_owned(), counters, _dropping: dropping })
}

/// The packets received, the second number of an interface's line.
fn received(text: &str, interface: &str) -> Option<u64> {
    let numbers = text.lines().find_map(|line| {
        let (name, numbers) = line.split_once(':')?;
        (name.trim() == interface).then_some(numbers)
    })?;
    numbers.split_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interface_s_packets_are_found() {
        let text = "\
Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs
  far2:  640   10    0    0    0     0          0         0    70    1
 far22: 1280   20    0    0    0     0          0         0    70    2
";
        assert_eq!(received(text, "far2"), Some(10));
        assert_eq!(received(text, "far22"), Some(20));
        assert_eq!(received(text, "far"), None);
    }
}
