//! What the kernel dropped on the way to the files of TAPs.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::{InterfaceName, NAME_BYTES, Queue};

/// Where the kernel tells the counters of all interfaces of the namespace that the
/// thread is in.
const TABLE: &str = "/proc/thread-self/net/dev";
/// Which of the numbers of a line is `tx_dropped`.
const TRANSMIT_DROPPED: usize = 11;

/// Which network namespace: its device and inode.
type NamespaceId = (u64, u64);

/// A namespace, and which of the TAPs are in it, by what name.
struct Inhabited {
    file: OwnedFd,
    taps: Vec<(usize, InterfaceName)>,
}

/// Frames that were sent at each TAP's netdev and dropped before they could be read
/// here (`tx_dropped`: the queue was full), since the netdev is there. Given a queue
/// of each, answers in the same order; nothing for a TAP that is gone, or in a network
/// namespace that is not ours to enter.
///
/// Each namespace's counters are read once. If any is not this thread's own, one
/// thread more enters them one after the other, and ends there.
#[must_use]
pub fn transmit_drops(queues: &[&Queue]) -> Vec<Option<u64>> {
    let mut drops = vec![None; queues.len()];
    let mut namespaces: BTreeMap<NamespaceId, Inhabited> = BTreeMap::new();
    for (index, queue) in queues.iter().enumerate() {
        let found = queue.interface().and_then(|name| Ok((name, queue.namespace()?)));
        let Ok((name, file)) = found else { continue };
        let Ok(status) = rustix::fs::fstat(&file) else { continue };
        let here = namespaces.entry((status.st_dev, status.st_ino));
        let here = here.or_insert_with(|| Inhabited { file, taps: Vec::new() });
        here.taps.push((index, name));
    }
    let own = rustix::fs::stat("/proc/thread-self/ns/net").ok();
    let own = own.and_then(|own| namespaces.remove(&(own.st_dev, own.st_ino)));
    if let Some(own) = own {
        own.read(&mut drops);
    }
    if !namespaces.is_empty() {
        std::thread::scope(|scope| {
            let elsewhere = || namespaces.values().for_each(|there| there.visit(&mut drops));
            // Without a thread, or with one that failed, nothing is known of them.
            if let Ok(thread) = std::thread::Builder::new().spawn_scoped(scope, elsewhere) {
                let _ = thread.join();
            }
        });
    }
    drops
}

impl Inhabited {
    /// Moves this thread there and reads.
    fn visit(&self, drops: &mut [Option<u64>]) {
        let network = Some(LinkNameSpaceType::Network);
        if move_into_link_name_space(self.file.as_fd(), network).is_ok() {
            self.read(drops);
        }
    }

    /// Reads the counters of this thread's namespace.
    fn read(&self, drops: &mut [Option<u64>]) {
        let Ok(table) = table() else { return };
        let counts: BTreeMap<[u8; NAME_BYTES], u64> = table.lines().filter_map(count).collect();
        for (index, name) in &self.taps {
            drops[*index] = counts.get(&name.0).copied();
        }
    }
}

fn table() -> io::Result<String> {
    std::fs::read_to_string(TABLE)
}

/// One line, `  tap1: 1 2 3 …`: whose it is, and its `tx_dropped`.
fn count(line: &str) -> Option<([u8; NAME_BYTES], u64)> {
    let (name, numbers) = line.split_once(':')?;
    let name = InterfaceName::new(name.trim_start())?;
    let number = numbers.split_ascii_whitespace().nth(TRANSMIT_DROPPED)?;
    Some((name.0, number.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_and_a_title_is_not() {
        let line = "  tap1:  1 2 3 4 5 6 7 8  9 10 11 12 13 14 15 16";
        let name = InterfaceName::new("tap1").unwrap();
        assert_eq!(count(line), Some((name.0, 12)));
        assert_eq!(count(" face |bytes    packets errs drop fifo frame"), None);
        assert_eq!(count("tap1: 1 2 3"), None);
    }
}
