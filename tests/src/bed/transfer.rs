//! TCP from host to host, compared byte by byte.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use super::error::{BedError, Result};
use super::host::{Family, Host};

const CHUNK_BYTES: usize = 64 * 1024;
/// How long the receiver looks if nothing comes.
const LOOK: Duration = Duration::from_millis(50);
/// So many looks in vain, and a transfer has failed: 20 s, or more where the receiver
/// itself is not scheduled.
const LOOKS_IN_VAIN_MAX: u32 = 400;

/// A transfer that arrived, every byte of it right.
#[derive(Clone, Copy, Debug)]
pub struct Transfer {
    /// Bytes sent and received.
    pub bytes: u64,
    /// From the first write to the last read.
    pub elapsed: Duration,
    /// The longest time that the receiver looked in vain: a multiple of 50 ms. It had to
    /// be scheduled to look, so that a machine that stood still is none of it.
    pub longest_silence: Duration,
}

/// When the sender has sent enough.
#[derive(Clone, Copy, Debug)]
enum End {
    Chunks(u64),
    Moment(Instant),
}

impl End {
    fn is_reached(self, chunks: u64) -> bool {
        match self {
            End::Chunks(all) => chunks >= all,
            End::Moment(moment) => Instant::now() >= moment,
        }
    }
}

/// Sends pseudo-random bytes (rounded up to 64 KiB) from one host to another and
/// compares what arrives.
///
/// # Errors
/// If the connection fails or stands still for 20 s, or a byte is not what was sent.
pub fn transfer(from: &Host, to: &Host, family: Family, bytes: u64) -> Result<Transfer> {
    transfer_until(from, to, family, End::Chunks(bytes.div_ceil(CHUNK_BYTES as u64)))
}

/// The same, for some time and as fast as it goes.
///
/// # Errors
/// As [`transfer`].
pub fn transfer_for(from: &Host, to: &Host, family: Family, during: Duration) -> Result<Transfer> {
    transfer_until(from, to, family, End::Moment(Instant::now() + during))
}

fn transfer_until(from: &Host, to: &Host, family: Family, end: End) -> Result<Transfer> {
    let (near, far) = from.connect(to, family)?;
    let patience = LOOK * LOOKS_IN_VAIN_MAX;
    near.set_write_timeout(Some(patience)).map_err(BedError::while_doing("a timeout"))?;
    far.set_read_timeout(Some(LOOK)).map_err(BedError::while_doing("a timeout"))?;
    let start = Instant::now();
    let (sent, received) = std::thread::scope(|scope| {
        let sender = scope.spawn(|| send(near, end));
        // Dropped here if it fails: then sending fails as well, and that ends.
        let received = receive(far);
        let sent = sender.join().map_err(|_| BedError::new("the sender panicked"))?;
        received.and_then(|received| Ok((sent?, received)))
    })?;
    if received.bytes != sent {
        let Received { bytes, .. } = received;
        return Err(BedError::new(format_args!("{sent} bytes were sent, {bytes} received")));
    }
    let longest_silence = LOOK * received.longest_silence_looks;
    Ok(Transfer { bytes: sent, elapsed: start.elapsed(), longest_silence })
}

/// Says how many bytes were sent.
fn send(mut stream: TcpStream, end: End) -> Result<u64> {
    let mut pattern = Pattern::new();
    let mut chunks = 0;
    while !end.is_reached(chunks) {
        stream.write_all(pattern.chunk()).map_err(BedError::while_doing("sending"))?;
        chunks += 1;
    }
    stream.shutdown(Shutdown::Write).map_err(BedError::while_doing("ending a stream"))?;
    Ok(chunks * CHUNK_BYTES as u64)
}

/// What a receiver saw.
struct Received {
    bytes: u64,
    longest_silence_looks: u32,
}

/// Receives to the end and compares.
fn receive(mut stream: TcpStream) -> Result<Received> {
    let mut pattern = Pattern::new();
    let mut chunk = vec![0; CHUNK_BYTES];
    let (mut received, mut filled, mut looks) =
        (Received { bytes: 0, longest_silence_looks: 0 }, 0, 0);
    loop {
        match stream.read(&mut chunk[filled..]) {
            Ok(0) => return Ok(received),
            Ok(length) => {
                filled += length;
                received.bytes += length as u64;
                looks = 0;
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock && looks < LOOKS_IN_VAIN_MAX => {
                looks += 1;
                received.longest_silence_looks = received.longest_silence_looks.max(looks);
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(BedError::while_doing("receiving")(error)),
        }
        if filled == CHUNK_BYTES {
            let differs = chunk.iter().zip(pattern.chunk()).position(|(is, be)| is != be);
            if let Some(position) = differs {
                let at = received.bytes - (CHUNK_BYTES - position) as u64;
                return Err(BedError::new(format_args!("byte {at} is not what was sent")));
            }
            filled = 0;
        }
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
