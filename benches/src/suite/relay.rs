//! What the generator does for the rest of the world: VMs that forward, and the bridge at the far
//! end of the cable that sends back what comes. A frame that finds no room is lost, as it would be
//! there.

use arrayvec::ArrayVec;

use super::endpoint::{Receiver, Sender};
use super::port::Port;
use super::scenario::Relay;
use crate::error::Result;

/// Frames sent at a time.
const BURST: usize = 32;

/// Frames on their way from one port to another.
#[derive(Debug, Default)]
pub struct Shuttle {
    /// As many as ever were on their way together: what they lie in is used again.
    frames: Vec<Vec<u8>>,
}

impl Shuttle {
    /// Carries what has come, both ways.
    ///
    /// # Errors
    /// If a port is gone.
    pub fn carry_all(&mut self, ports: &mut [Port], relays: &[Relay]) -> Result<()> {
        for relay in relays {
            self.carry(ports, *relay)?;
            if relay.from != relay.to {
                self.carry(ports, relay.turned())?;
            }
        }
        Ok(())
    }

    fn carry(&mut self, ports: &mut [Port], relay: Relay) -> Result<()> {
        let (frames, mut count) = (&mut self.frames, 0);
        ports[relay.from].receive(&mut |frame| {
            if !relay.frames.have(frame) {
                return;
            }
            if count == frames.len() {
                frames.push(Vec::new());
            }
            frames[count].clear();
            frames[count].extend_from_slice(frame);
            count += 1;
        })?;
        for burst in frames[..count].chunks(BURST) {
            let burst: ArrayVec<&[u8], BURST> = burst.iter().map(Vec::as_slice).collect();
            ports[relay.to].send(&burst)?;
        }
        Ok(())
    }
}
