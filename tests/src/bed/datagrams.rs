//! Numbered datagrams at a steady pace, to count what is lost on the way.
//!
//! Only what the way loses counts: a machine that is too busy to run one of the ends,
//! or the switch between them, slows a flow down.

use std::collections::HashMap;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::net::sockopt::set_socket_recv_buffer_size_force;

use super::error::{BedError, Result};
use super::host::{Family, Host};

/// A receiver that is not scheduled for seconds still loses nothing.
const RECEIVE_QUEUE_BYTES: usize = 8 << 20;
/// Datagrams on their way at a time: fewer than any queue of the kernel on it holds
/// (a TAP's 500), so that none is lost because somebody was not scheduled.
const WINDOW: u32 = 128;
/// How long one look at the socket takes if nothing comes.
const SILENCE: Duration = Duration::from_millis(500);
/// So many silent looks in a row, and what is on its way counts as lost.
const SILENCES_MAX: u32 = 10;

/// A running flow of numbered UDP datagrams from one host to another.
#[derive(Debug)]
pub struct Flow {
    state: Arc<State>,
    sender: JoinHandle<io::Result<u32>>,
    receiver: JoinHandle<io::Result<Vec<u32>>>,
}

/// What the two ends of a flow tell each other.
#[derive(Debug, Default)]
struct State {
    stop: AtomicBool,
    /// Set after the last datagram was sent.
    ended: AtomicBool,
    sent: AtomicU32,
    /// Datagrams below this number have arrived or count as lost.
    settled: AtomicU32,
}

/// What came of a flow.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FlowReport {
    /// Datagrams sent.
    pub sent: u32,
    /// Different datagrams received.
    pub received: u32,
    /// The first one that was not.
    pub first_lost: Option<u32>,
    /// Copies beyond the first.
    pub duplicates: u32,
    /// Datagrams that came before one of a lower number.
    pub reordered: u32,
}

impl FlowReport {
    /// Whether each datagram came once and in order.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.sent > 0 && self.received == self.sent && self.duplicates == 0 && self.reordered == 0
    }
}

impl Flow {
    /// Starts a flow with this time between datagrams, or more: it waits for those on
    /// their way when they are many. The way is known when this returns: no datagram
    /// of the flow has to wait until an address is resolved.
    ///
    /// # Errors
    /// If a socket cannot be had, or nothing arrives.
    pub fn start(from: &Host, to: &Host, family: Family, interval: Duration) -> Result<Flow> {
        let far = bind(to, family)?;
        set_socket_recv_buffer_size_force(&far, RECEIVE_QUEUE_BYTES)
            .map_err(io::Error::from)
            .map_err(BedError::while_doing("a receive queue"))?;
        far.set_read_timeout(Some(SILENCE)).map_err(BedError::while_doing("a timeout"))?;
        let near = bind(from, family)?;
        let target = far.local_addr().map_err(BedError::while_doing("an address"))?;
        find_way(&near, &far, target).map_err(BedError::while_doing("a first datagram"))?;
        let state = Arc::new(State::default());
        let (at_sender, at_receiver) = (Arc::clone(&state), Arc::clone(&state));
        let sender = std::thread::spawn(move || {
            let sent = send(&near, target, interval, &at_sender);
            at_sender.ended.store(true, Ordering::Release);
            sent
        });
        let receiver = std::thread::spawn(move || receive(&far, &at_receiver));
        Ok(Flow { state, sender, receiver })
    }

    /// Ends the flow and counts.
    ///
    /// # Errors
    /// If a socket failed on the way.
    pub fn stop(self) -> Result<FlowReport> {
        self.state.stop.store(true, Ordering::Relaxed);
        let gone = || BedError::new("a flow's thread panicked");
        let sent = self.sender.join().map_err(|_| gone())?;
        let numbers = self.receiver.join().map_err(|_| gone())?;
        let sent = sent.map_err(BedError::while_doing("sending datagrams"))?;
        Ok(count(sent, &numbers.map_err(BedError::while_doing("receiving datagrams"))?))
    }
}

fn bind(host: &Host, family: Family) -> Result<UdpSocket> {
    let address = SocketAddr::new(host.address(family), 0);
    host.namespace()
        .enter(|| UdpSocket::bind(address))?
        .map_err(BedError::while_doing(format_args!("binding {address}")))
}

/// Sends empty datagrams until one arrives.
fn find_way(near: &UdpSocket, far: &UdpSocket, target: SocketAddr) -> io::Result<()> {
    for _ in 0..SILENCES_MAX {
        near.send_to(&[], target)?;
        match far.recv(&mut [0; 4]) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            received => return received.map(drop),
        }
    }
    Err(io::ErrorKind::TimedOut.into())
}

fn send(
    socket: &UdpSocket,
    target: SocketAddr,
    interval: Duration,
    state: &State,
) -> io::Result<u32> {
    let mut number = 0_u32;
    while !state.stop.load(Ordering::Relaxed) {
        if number < state.settled.load(Ordering::Relaxed) + WINDOW {
            socket.send_to(&number.to_le_bytes(), target)?;
            number += 1;
            state.sent.store(number, Ordering::Release);
        }
        std::thread::sleep(interval);
    }
    Ok(number)
}

/// All numbers in the order they came, until all that were sent are there and nothing
/// more comes, or until nothing has come for long.
fn receive(socket: &UdpSocket, state: &State) -> io::Result<Vec<u32>> {
    let (mut numbers, mut datagram, mut silences) = (Vec::new(), [0; 4], 0);
    loop {
        match socket.recv(&mut datagram) {
            Ok(4) => {
                let number = u32::from_le_bytes(datagram);
                numbers.push(number);
                state.settled.fetch_max(number + 1, Ordering::Relaxed);
                silences = 0;
            }
            // One of those that found the way.
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                silences += 1;
                let ended = state.ended.load(Ordering::Acquire);
                let sent = state.sent.load(Ordering::Acquire);
                let complete = numbers.len() >= sent as usize;
                if ended && (complete || silences >= SILENCES_MAX) {
                    return Ok(numbers);
                }
                if silences >= SILENCES_MAX {
                    state.settled.fetch_max(sent, Ordering::Relaxed);
                }
            }
            Err(error) => return Err(error),
        }
    }
}

fn count(sent: u32, numbers: &[u32]) -> FlowReport {
    let mut copies = HashMap::new();
    for number in numbers {
        *copies.entry(*number).or_insert(0_u32) += 1;
    }
    let reordered = numbers.windows(2).filter(|pair| pair[1] < pair[0]).count() as u32;
    let received = copies.len() as u32;
    let first_lost = (0..sent).find(|number| !copies.contains_key(number));
    let duplicates = numbers.len() as u32 - received;
    FlowReport { sent, received, first_lost, duplicates, reordered }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_duplicates_and_disorder_are_told_apart() {
        let report = count(5, &[0, 2, 1, 1]);
        let first_lost = Some(3);
        let wanted = FlowReport { sent: 5, received: 3, first_lost, duplicates: 1, reordered: 1 };
        assert_eq!(report, wanted);
        assert!(count(3, &[0, 1, 2]).is_clean());
        assert!(!count(0, &[]).is_clean());
    }
}
