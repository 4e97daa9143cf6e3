//! A cable between two switches in one network namespace, of the lab's own: a veth at
//! each end, which the switch has by AF_XDP as it would have a NIC, and two threads
//! between their far ends.
//!
//! ```text
//!   switch ── up0 ═══ up0-cable ──▶ packet sockets ──▶ sbp0-cable ═══ sbp0 ── switch
//!     AF_XDP      veth          ◀──  written down  ◀──            veth    AF_XDP
//! ```
//!
//! What a switch sends by AF_XDP, and what the program at the other end hands to its
//! sockets, passes by every packet socket and every tc filter of a single pair: nobody
//! could say what crossed it. Here nothing crosses that was not written down before.

use std::fs;
use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use hairpin_dataplane::sys::packet_socket::{Format, PacketSocket, Received};
use hairpin_dataplane::wire::ethernet;

use super::cable::{Cable, Direction, Log, Overflow};
use super::estate::ip;
use super::namespaces::inside;

/// The largest payload in bytes that the switches' links are for.
pub(super) const PAYLOAD_BYTES: u32 = 1500;
/// The cable's MTU in bytes: an S-tag and a C-tag come on top of the payload, and a packet
/// socket grants room beyond the MTU to a C-tag alone.
const MTU_BYTES: u32 = PAYLOAD_BYTES + 2 * ethernet::TAG_BYTES as u32;
/// Longer than any frame.
const BUFFER_BYTES: usize = 4096;
/// How long a frame is waited for, before the end of the lab is looked for.
const WAIT: Duration = Duration::from_millis(50);
/// A frame that found the far end full is tried again this often, then lost, with such a
/// pause before: half a second in all, as a busy machine may stall for a while.
const RETRIES: (u32, Duration) = (10_000, Duration::from_micros(50));
/// Where the kernel tells the counters of the interfaces of the thread's namespace, and
/// which of the numbers of a line is `tx_dropped`.
const COUNTERS: (&str, usize) = ("/proc/thread-self/net/dev", 11);

/// Makes the veths in a namespace: their near ends are for the switches, by the names of
/// the links.
pub(super) fn lay(namespace: &str, links: [&str; 2]) -> Result<()> {
    inside(namespace, silence)?;
    let mtu = MTU_BYTES.to_string();
    let run = |words: &[&str]| ip(&[&["-n", namespace], words].concat());
    for link in links {
        let far = far_end(link);
        let peer = ["type", "veth", "peer", "name", &far, "mtu", &mtu];
        run(&[&["link", "add", link, "mtu", &mtu], &peer[..]].concat())?;
        run(&["link", "set", &far, "up"])?;
        run(&["link", "set", link, "up"])?;
    }
    Ok(())
}

/// Keeps the kernel's own stack from sending anything: no IPv6 on what is made in this
/// thread's namespace from now on, and nobody gives it IPv4 addresses.
fn silence() -> Result<()> {
    let switch = "/proc/sys/net/ipv6/conf/default/disable_ipv6";
    match fs::write(switch, "1") {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("writing {switch}: it must be writable"))
        }
        // A kernel without IPv6 has none to switch off.
        _ => Ok(()),
    }
}

fn far_end(link: &str) -> String {
    format!("{link}-cable")
}

/// Joins the far ends; `links` are the station's and the bridge's, which have their near
/// ends already.
pub(super) fn plug(namespace: &str, links: [&'static str; 2]) -> Result<Cable> {
    let end = |link| inside(namespace, move || End::open(link)).map(Arc::new);
    let [station, bridge] = links.map(end);
    let (station, bridge) = (station?, bridge?);
    let ends = [Arc::clone(&station), Arc::clone(&bridge)];
    let home = namespace.to_owned();
    let mut cable = Cable::new(move || overflow(&home, &ends));
    let strands = [
        Strand { from: Arc::clone(&station), to: Arc::clone(&bridge), direction: Direction::Out },
        Strand { from: bridge, to: station, direction: Direction::Back },
    ];
    for strand in strands {
        cable.carry(move |log: &Log, stop: &AtomicBool| strand.carry(log, stop))?;
    }
    Ok(cable)
}

/// The far end of a veth.
struct End {
    link: &'static str,
    socket: PacketSocket,
    /// Frames that the socket had no room for.
    overflowed: AtomicU64,
}

impl End {
    fn open(link: &'static str) -> Result<End> {
        let far = far_end(link);
        let opened = PacketSocket::open(&far, Format::Ethernet);
        let doing =
            || format!("a packet socket on {far}: CAP_NET_RAW and CAP_NET_ADMIN are needed");
        let socket = opened.with_context(doing)?;
        socket.set_patience(Some(WAIT))?;
        Ok(End { link, socket, overflowed: AtomicU64::new(0) })
    }

    fn overflowed(&self) -> u64 {
        // The kernel tells what is new; should it not, what was told before stands.
        let more = self.socket.take_lost().unwrap_or(0).into();
        self.overflowed.fetch_add(more, Ordering::Relaxed) + more
    }
}

/// One direction.
struct Strand {
    from: Arc<End>,
    to: Arc<End>,
    direction: Direction,
}

impl Strand {
    fn carry(&self, log: &Log, stop: &AtomicBool) {
        use hairpin_dataplane::sys::packet_socket::Direction::Incoming;
        let mut buffer = [0; BUFFER_BYTES];
        while !stop.load(Ordering::Relaxed) {
            // Either nothing came for a while, or the netdev went, after which nothing does.
            let received = self.from.socket.receive(&mut buffer[ethernet::TAG_BYTES..]);
            if let Ok(received) = received
                && received.direction == Incoming
            {
                let frame = whole(&mut buffer, received);
                log.note(self.direction, frame);
                self.deliver(frame, log);
            }
        }
    }

    fn deliver(&self, frame: &[u8], log: &Log) {
        let (retries, pause) = RETRIES;
        for _ in 0..retries {
            match self.to.socket.send(frame) {
                Ok(()) => return,
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {
                    std::thread::sleep(pause);
                }
                Err(_) => break,
            }
        }
        log.lose();
    }
}

/// The frame in a buffer that begins with room for a tag: with its outermost tag, which
/// the kernel took out of it, where that was.
fn whole(buffer: &mut [u8; BUFFER_BYTES], received: Received) -> &[u8] {
    let (room, end) = (ethernet::TAG_BYTES, ethernet::TAG_BYTES + received.length);
    let Some((tpid, tci)) = received.tag else { return &buffer[room..end] };
    buffer.copy_within(room..room + ethernet::ADDRESSES_BYTES, 0);
    let tag = &mut buffer[ethernet::ADDRESSES_BYTES..][..room];
    tag[..2].copy_from_slice(&tpid.to_be_bytes());
    tag[2..].copy_from_slice(&tci.to_be_bytes());
    &buffer[..end]
}

/// What was dropped between a switch and the thread that carries: by the veth, and by the
/// far end's socket.
fn overflow(namespace: &str, ends: &[Arc<End>; 2]) -> Overflow {
    let table = inside(namespace, || Ok(fs::read_to_string(COUNTERS.0)?));
    let table = table.unwrap_or_default();
    let of = |end: &Arc<End>| {
        let dropped = transmit_dropped(&table, end.link) + end.overflowed();
        (end.link.to_owned(), dropped)
    };
    ends.iter().map(of).collect()
}

/// What the kernel's table says of an interface: a line is `  up0: 1 2 3 …`.
fn transmit_dropped(table: &str, interface: &str) -> u64 {
    let lines = table.lines().filter_map(|line| line.trim_start().split_once(':'));
    let mut ours = lines.filter(|(name, _)| *name == interface);
    let dropped = ours.next().and_then(|(_, numbers)| numbers.split_whitespace().nth(COUNTERS.1));
    dropped.and_then(|number| number.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use hairpin_dataplane::sys::packet_socket::Direction::Incoming;

    use super::*;

    #[test]
    fn a_tag_is_put_back_where_it_was() {
        let mut buffer = [0; BUFFER_BYTES];
        let frame: Vec<u8> = (1..=64).collect();
        buffer[4..68].copy_from_slice(&frame);
        let mut received = Received { length: frame.len(), direction: Incoming, tag: None };
        assert_eq!(whole(&mut buffer, received), frame);
        received.tag = Some((0x88a8, 0xe064));
        let tagged = [&frame[..12], &[0x88, 0xa8, 0xe0, 0x64], &frame[12..]].concat();
        assert_eq!(whole(&mut buffer, received), tagged);
    }

    #[test]
    fn the_kernel_s_table_is_read() {
        let table = "Inter-|   Receive\n face |bytes    packets\n   up0: 1 2 3 4 5 6 7 8  9 10 11 12 \
                     13 14 15 16\nup0-cable: 0 0 0 0 0 0 0 0 0 0 0 7 0 0 0 0\n";
        assert_eq!(transmit_dropped(table, "up0"), 12);
        assert_eq!(transmit_dropped(table, "up0-cable"), 7);
        assert_eq!(transmit_dropped(table, "sbp0"), 0);
    }
}
