//! TCP without end, for measuring.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;

use super::error::{BedError, Result};
use super::host::{Family, Host};

const CHUNK_BYTES: usize = 128 * 1024;

/// A TCP connection over which one host sends as fast as it can, until drop.
#[derive(Debug)]
pub struct Stream {
    received: Arc<AtomicU64>,
    ends: [TcpStream; 2],
    threads: Vec<JoinHandle<()>>,
}

impl Stream {
    /// Starts one. Each end is served by a thread, on which `prepare` is called first
    /// (to pin it, for instance) with 0 at the sender and 1 at the receiver.
    ///
    /// # Errors
    /// If the hosts do not reach each other.
    pub fn start(
        from: &Host,
        to: &Host,
        family: Family,
        prepare: impl Fn(usize) + Clone + Send + 'static,
    ) -> Result<Stream> {
        let keeping = || BedError::while_doing("keeping a stream");
        let (near, far) = from.connect(to, family)?;
        let ends = [near.try_clone().map_err(keeping())?, far.try_clone().map_err(keeping())?];
        let received = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&received);
        let prepare_sender = prepare.clone();
        let sender = std::thread::spawn(move || {
            prepare_sender(0);
            send(near);
        });
        let receiver = std::thread::spawn(move || {
            prepare(1);
            receive(far, &counter);
        });
        Ok(Stream { received, ends, threads: vec![sender, receiver] })
    }

    /// Bytes received so far.
    #[must_use]
    pub fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        for end in &self.ends {
            // An end that is closed already needs no shutting down.
            let _ = end.shutdown(Shutdown::Both);
        }
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn send(mut stream: TcpStream) {
    let chunk = vec![0x5a; CHUNK_BYTES];
    while stream.write_all(&chunk).is_ok() {}
}

fn receive(mut stream: TcpStream, received: &AtomicU64) {
    let mut chunk = vec![0; CHUNK_BYTES];
    while let Ok(length @ 1..) = stream.read(&mut chunk) {
        received.fetch_add(length as u64, Ordering::Relaxed);
    }
}
