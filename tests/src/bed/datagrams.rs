//! Numbered datagrams at a steady pace, to count what is lost on the way.

use std::collections::HashMap;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::net::sockopt::set_socket_recv_buffer_size_force;

use super::error::{BedError, Result};
use super::host::{Family, Host};

/// A receiver that is not scheduled for seconds still loses nothing.
const RECEIVE_QUEUE_BYTES: usize = 8 << 20;
/// After the last datagram, how long nothing more has to come.
const SILENCE: Duration = Duration::from_millis(500);

/// A running flow of numbered UDP datagrams from one host to another.
#[derive(Debug)]
pub struct Flow {
    stop: Arc<AtomicBool>,
    sender: JoinHandle<io::Result<u32>>,
    receiver: JoinHandle<io::Result<Vec<u32>>>,
}

/// What came of a flow.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FlowReport {
    /// Datagrams sent.
    pub sent: u32,
    /// Different datagrams received.
    pub received: u32,
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
    /// Starts a flow with this time between datagrams.
    ///
    /// # Errors
    /// If a socket cannot be had.
    pub fn start(from: &Host, to: &Host, family: Family, interval: Duration) -> Result<Flow> {
        let far = bind(to, family)?;
        set_socket_recv_buffer_size_force(&far, RECEIVE_QUEUE_BYTES)
            .map_err(io::Error::from)
            .map_err(BedError::while_doing("a receive queue"))?;
        far.set_read_timeout(Some(SILENCE)).map_err(BedError::while_doing("a timeout"))?;
        let near = bind(from, family)?;
        let target = far.local_addr().map_err(BedError::while_doing("an address"))?;
        let stop = Arc::new(AtomicBool::new(false));
        let (stop_sending, stop_receiving) = (Arc::clone(&stop), Arc::clone(&stop));
        let sender = std::thread::spawn(move || send(&near, target, interval, &stop_sending));
        let receiver = std::thread::spawn(move || receive(&far, &stop_receiving));
        Ok(Flow { stop, sender, receiver })
    }

    /// Ends the flow and counts.
    ///
    /// # Errors
    /// If a socket failed on the way.
    pub fn stop(self) -> Result<FlowReport> {
        self.stop.store(true, Ordering::Relaxed);
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

fn send(
    socket: &UdpSocket,
    target: SocketAddr,
    interval: Duration,
    stop: &AtomicBool,
) -> io::Result<u32> {
    let mut number = 0_u32;
    while !stop.load(Ordering::Relaxed) {
        socket.send_to(&number.to_le_bytes(), target)?;
        number += 1;
        std::thread::sleep(interval);
    }
    Ok(number)
}

/// All numbers in the order they came, until nothing comes after the end.
fn receive(socket: &UdpSocket, stop: &AtomicBool) -> io::Result<Vec<u32>> {
    let (mut numbers, mut datagram) = (Vec::new(), [0; 4]);
    loop {
        match socket.recv(&mut datagram) {
            Ok(_) => numbers.push(u32::from_le_bytes(datagram)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                if stop.load(Ordering::Relaxed) {
                    return Ok(numbers);
                }
            }
            Err(error) => return Err(error),
        }
    }
}

fn count(sent: u32, numbers: &[u32]) -> FlowReport {
    let mut copies = HashMap::new();
    for number in numbers {
        *copies.entry(number).or_insert(0_u32) += 1;
    }
    let reordered = numbers.windows(2).filter(|pair| pair[1] < pair[0]).count() as u32;
    let received = copies.len() as u32;
    FlowReport { sent, received, duplicates: numbers.len() as u32 - received, reordered }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_duplicates_and_disorder_are_told_apart() {
        let report = count(5, &[0, 2, 1, 1]);
        assert_eq!(report, FlowReport { sent: 5, received: 3, duplicates: 1, reordered: 1 });
        assert!(count(3, &[0, 1, 2]).is_clean());
        assert!(!count(0, &[]).is_clean());
    }
}
