//! TCP from host to host, compared byte by byte.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use super::error::{BedError, Result};
use super::host::{Family, Host};

const CHUNK_BYTES: usize = 64 * 1024;
/// Longer than a transfer may stand still before it has failed.
const PATIENCE: Duration = Duration::from_secs(20);

/// A transfer that arrived, every byte of it right.
#[derive(Clone, Copy, Debug)]
pub struct Transfer {
    /// Bytes sent and received.
    pub bytes: u64,
    /// From the first write to the last read.
    pub elapsed: Duration,
}

/// Sends pseudo-random bytes (rounded up to 64 KiB) from one host to another and
/// compares what arrives.
///
/// # Errors
/// If the connection fails or stands still for 20 s, or a byte is not what was sent.
pub fn transfer(from: &Host, to: &Host, family: Family, bytes: u64) -> Result<Transfer> {
    let chunks = bytes.div_ceil(CHUNK_BYTES as u64);
    let (near, far) = from.connect(to, family)?;
    for end in [&near, &far] {
        end.set_read_timeout(Some(PATIENCE)).map_err(BedError::while_doing("a timeout"))?;
        end.set_write_timeout(Some(PATIENCE)).map_err(BedError::while_doing("a timeout"))?;
    }
    let start = Instant::now();
    std::thread::scope(|scope| {
        let sender = scope.spawn(|| send(near, chunks));
        let received = receive(far, chunks);
        let sent = sender.join().map_err(|_| BedError::new("the sender panicked"))?;
        sent.and(received)
    })?;
    Ok(Transfer { bytes: chunks * CHUNK_BYTES as u64, elapsed: start.elapsed() })
}

fn send(mut stream: TcpStream, chunks: u64) -> Result<()> {
    let mut pattern = Pattern::new();
    for _ in 0..chunks {
        stream.write_all(pattern.chunk()).map_err(BedError::while_doing("sending"))?;
    }
    stream.shutdown(Shutdown::Write).map_err(BedError::while_doing("ending a stream"))
}

fn receive(mut stream: TcpStream, chunks: u64) -> Result<()> {
    let mut pattern = Pattern::new();
    let mut chunk = vec![0; CHUNK_BYTES];
    for number in 0..chunks {
        stream.read_exact(&mut chunk).map_err(BedError::while_doing("receiving"))?;
        let differs = chunk.iter().zip(pattern.chunk()).position(|(is, be)| is != be);
        if let Some(position) = differs {
            let at = number * CHUNK_BYTES as u64 + position as u64;
            return Err(BedError::new(format_args!("byte {at} is not what was sent")));
        }
    }
    match stream.read(&mut chunk).map_err(BedError::while_doing("receiving the end"))? {
        0 => Ok(()),
        more => Err(BedError::new(format_args!("{more} bytes more than were sent"))),
    }
}

/// Bytes that repeat nowhere near: the same on both ends.
struct Pattern {
    state: u64,
    chunk: Vec<u8>,
}

impl Pattern {
    fn new() -> Pattern {
        Pattern { state: 0x243f_6a88_85a3_08d3, chunk: vec![0; CHUNK_BYTES] }
    }

    /// The next bytes: xorshift, eight at a time.
    fn chunk(&mut self) -> &[u8] {
        for word in self.chunk.chunks_exact_mut(8) {
            self.state ^= self.state << 13;
            self.state ^= self.state >> 7;
            self.state ^= self.state << 17;
            word.copy_from_slice(&self.state.to_le_bytes());
        }
        &self.chunk
    }
}
