//! Devices: opened, shared with workers, opened again when they are lost.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hairpin_dataplane::ledger::Counters;
use hairpin_dataplane::port::memory::{self, Endpoint};
use hairpin_dataplane::port::{Attached, Opened, Receiver, tap};
use hairpin_dataplane::snapshot::DeviceId;
use hairpin_dataplane::sys::lane::{Access, Lane, TokenId};

use super::topology::Plugged;
use crate::config::DeviceConfig;

/// The first wait before a lost device is tried again, and the longest.
const RETRY: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(5));

/// Makes the devices that exist only within this program.
pub trait Embedder: Send {
    /// Opens the memory device of a port or link. Called again for the same name
    /// when a configuration changes it.
    ///
    /// # Errors
    /// What stands against it; nothing of the change is then applied.
    fn open(&mut self, name: &str, config: memory::Config) -> io::Result<Opened>;
}

/// Memory devices whose other ends wait to be taken, by name.
#[derive(Clone, Debug, Default)]
pub struct Endpoints(Arc<Mutex<BTreeMap<String, Endpoint>>>);

impl Endpoints {
    /// The other end of a port's or link's device, once.
    #[must_use]
    pub fn take(&self, name: &str) -> Option<Endpoint> {
        self.lock().remove(name)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Endpoint>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Embedder for Endpoints {
    fn open(&mut self, name: &str, config: memory::Config) -> io::Result<Opened> {
        let (device, endpoint) = memory::pair(config)?;
        self.lock().insert(name.to_owned(), endpoint);
        Ok(device.into())
    }
}

/// A device that was opened but is not attached yet: dropped, it is closed.
#[derive(Debug)]
pub struct Fresh {
    opened: Opened,
    mtu: Option<u32>,
}

/// Opens what a configuration says, with `mtu` bytes of payload if that is given,
/// for so many workers.
///
/// # Errors
/// What stands against it, in a sentence with its remedy.
pub fn open(
    name: &str,
    config: &DeviceConfig,
    mtu: Option<u32>,
    workers: usize,
    embedder: &mut dyn Embedder,
) -> Result<Fresh, String> {
    match config {
        DeviceConfig::Memory(config) => {
            let opened = embedder.open(name, *config).map_err(|error| {
                format!("its memory could not be made: {error}; see ulimit and free memory")
            })?;
            Ok(Fresh { opened, mtu: None })
        }
        DeviceConfig::Tap { interface } => open_tap(interface, mtu, workers),
    }
}

/// A device that workers serve.
#[derive(Debug)]
pub struct Device {
    /// What it was opened from.
    pub config: DeviceConfig,
    /// What workers share of it.
    pub attached: Arc<Attached>,
    /// Its MTU, if it has one of its own.
    pub mtu: Option<u32>,
    /// By queue: the worker that serves it.
    pub placement: Vec<usize>,
    /// What is being done about it.
    pub care: Care,
    /// How often it was opened again.
    pub reopened: u64,
    /// The last trouble with it; empty if there was none.
    pub last_error: String,
}

/// What is being done about a device.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Care {
    /// Nothing: it works, or nothing can be done.
    None,
    /// It is to be opened again.
    Retry {
        /// When.
        at: Instant,
        /// How long to wait after the next failure.
        wait: Duration,
    },
}

impl Care {
    /// At once, then less and less often.
    #[must_use]
    pub fn at_once(now: Instant) -> Care {
        Care::Retry { at: now, wait: RETRY.0 }
    }

    /// After another failure.
    #[must_use]
    pub fn later(self, now: Instant) -> Care {
        let wait = match self {
            Care::None => RETRY.0,
            Care::Retry { wait, .. } => wait,
        };
        Care::Retry { at: now + wait, wait: (2 * wait).min(RETRY.1) }
    }

    /// Whether something is to be done now.
    #[must_use]
    pub fn is_due(self, now: Instant) -> bool {
        matches!(self, Care::Retry { at, .. } if at <= now)
    }
}

/// A device and the queues that are to be handed to workers.
#[derive(Debug)]
pub struct Ready {
    /// What workers share.
    pub attached: Arc<Attached>,
    /// Its MTU.
    pub mtu: Option<u32>,
    /// One per receive queue.
    pub receivers: Vec<Receiver>,
}

impl Ready {
    /// As a topology needs it.
    #[must_use]
    pub fn plugged(&self) -> Plugged {
        Plugged { attached: Arc::clone(&self.attached), mtu: self.mtu }
    }
}

impl Device {
    /// As a topology needs it.
    #[must_use]
    pub fn plugged(&self) -> Plugged {
        Plugged { attached: Arc::clone(&self.attached), mtu: self.mtu }
    }
}

impl Fresh {
    /// Gives it an id, counters, and a lane for each transmitter: a lane of its own
    /// for each worker where there are enough.
    #[must_use]
    pub fn attach(
        self,
        id: DeviceId,
        name: &str,
        counters: Arc<[Counters]>,
        tokens: &[TokenId],
    ) -> Ready {
        let Opened { receivers, transmitters, capabilities } = self.opened;
        let one_each = transmitters.len() == tokens.len();
        let accesses = tokens.iter().map(|&token| Access::Owned(token));
        let accesses: Vec<Access> = if one_each {
            accesses.collect()
        } else {
            transmitters.iter().map(|_| Access::Shared).collect()
        };
        let lanes = accesses.into_iter().zip(transmitters);
        let lanes = lanes.map(|(access, transmitter)| Lane::new(access, transmitter)).collect();
        let attached = Arc::new(Attached::new(id, name, counters, capabilities, lanes));
        Ready { attached, mtu: self.mtu, receivers }
    }
}

fn open_tap(interface: &str, mtu: Option<u32>, workers: usize) -> Result<Fresh, String> {
    let queues = workers.clamp(1, tap::QUEUES_MAX);
    let config = tap::Config { interface: interface.to_owned(), queues, mtu };
    let device = tap::open(&config).map_err(|error| error.to_string())?;
    let mtu = Some(device.mtu);
    Ok(Fresh { opened: device.into(), mtu })
}
