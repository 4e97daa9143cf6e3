//! Opening a netdev: what it is, and the best path to it that there is.

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use super::custody::{Caretaker, Custody};
use super::error::{Against, Obstacle, reasons};
use super::queue::{Netdev, Parts, Queue};
use super::{Config, DataPath, Granted, Pieces, QUEUE_BYTES, XdpDevice, XdpError, mtu_max};
use crate::port::taking::{By, Wanted};
use crate::sys::bpf::{Link, Program, SocketMap, XdpMode};
use crate::sys::netdev::{Description, Directory};
use crate::sys::promiscuous::Promiscuous;
use crate::sys::tun::{Channels, InterfaceName, Interfaces};
use crate::sys::xdp::{Binding, Socket};

/// The kernel lets go of a queue some time after its socket was closed, and tells nobody:
/// how often to try, and how long to wait each time.
const BUSY_RETRIES: (u32, Duration) = (50, Duration::from_millis(2));

/// Opens a netdev as [`Config`] says, in this thread's network namespace. May wait for a
/// tenth of a second where a queue of it was closed just before. What it is made not to do
/// by itself meanwhile is not remembered beyond this process.
///
/// # Errors
/// [`XdpError`]; nothing is left behind then.
pub fn open(config: &Config) -> Result<XdpDevice, XdpError> {
    open_with(config, &Caretaker::default())
}

/// The same, remembered by a caretaker.
///
/// # Errors
/// [`XdpError`]; nothing is left behind then.
pub fn open_with(config: &Config, caretaker: &Caretaker) -> Result<XdpDevice, XdpError> {
    open_by(config, caretaker, Socket::bind)
}

/// How a socket is tied to a queue: [`Socket::bind`], or what an older kernel would do.
pub(super) type Bind = fn(&Socket, u32, u32, Binding, Pieces) -> io::Result<()>;

/// [`open_with`] with sockets tied in this way.
pub(super) fn open_by(
    config: &Config,
    caretaker: &Caretaker,
    bind: Bind,
) -> Result<XdpDevice, XdpError> {
    let mut opening = Opening::new(config, caretaker, bind);
    let found = opening.describe()?;
    let directory = opening.must("ask for it from anywhere", Directory::open())?;
    let promiscuous = opening.must("have it receive all frames", Promiscuous::on(found.index))?;
    let mut obstacles = Vec::new();
    for &path in config.mode.paths() {
        if let Some((pieces, (link, queues))) = opening.by_path(&found, path, &mut obstacles)? {
            let granted = Granted { path, pieces, reason: reasons(&obstacles) };
            let custody = opening.custody(&found)?;
            let parts = Parts { link, promiscuous, queues, custody, directory };
            let netdev = Netdev::new(&config.interface, &found, granted, parts);
            return Ok(XdpDevice::new(netdev, found.mtu));
        }
    }
    let interface = opening.interface();
    Err(match obstacles.iter().any(|obstacle| obstacle.against == Against::Mtu) {
        true => XdpError::MtuTooLarge { interface, mtu: found.mtu, pieces: Pieces::One },
        false => XdpError::NoPath { interface, reasons: reasons(&obstacles) },
    })
}

/// What a path gave, or what stands against it.
type Attempt<T> = Result<T, Obstacle>;

/// A program, and the sockets that it gives frames to.
type Tied = (Link, Vec<Queue>);

/// The step at which frames of several pieces are refused.
const BIND: &str = "bind an AF_XDP socket";

/// What the steps of opening need.
struct Opening<'c> {
    wanted: Wanted<'c>,
    bind: Bind,
    caretaker: &'c Caretaker,
    /// Taken once its queues are ours: before that, it is perhaps somebody else's.
    custody: Option<Custody>,
}

impl<'c> Opening<'c> {
    fn new(config: &'c Config, caretaker: &'c Caretaker, bind: Bind) -> Opening<'c> {
        let &Config { ref interface, hosts_own, ref leaving, .. } = config;
        let wanted = Wanted { by: By::Xdp, interface, hosts_own, leaving };
        Opening { wanted, bind, caretaker, custody: None }
    }

    fn interface(&self) -> String {
        self.wanted.interface.to_owned()
    }

    /// What an error means that has nothing to do with the path.
    fn refusal(&self, step: &'static str, source: io::Error) -> XdpError {
        if source.raw_os_error() == Some(libc::ENOBUFS) {
            let interface = self.interface();
            return XdpError::MemoryNotLocked { interface, mebibytes: QUEUE_BYTES >> 20 };
        }
        self.wanted.refusal(step, source).into()
    }

    fn must<T>(&self, step: &'static str, result: io::Result<T>) -> Result<T, XdpError> {
        result.map_err(|source| self.refusal(step, source))
    }

    /// The interface, if it may be taken, and its frames fit.
    fn describe(&self) -> Result<Description, XdpError> {
        let found = self.wanted.ask()?;
        let (mtu, pieces) = (found.mtu, Pieces::Several);
        if mtu > mtu_max(pieces) {
            return Err(XdpError::MtuTooLarge { interface: self.interface(), mtu, pieces });
        }
        Ok(found)
    }

    /// Opens it by one path: for frames of several pieces, or of one, if that is what there
    /// is and enough for its MTU. What stands against it is added to the obstacles.
    fn by_path(
        &mut self,
        found: &Description,
        path: DataPath,
        obstacles: &mut Vec<Obstacle>,
    ) -> Result<Option<(Pieces, Tied)>, XdpError> {
        // Each with sockets and memory of its own: a failed attempt leaves traces in both.
        let several = match self.attempt(found, path, Pieces::Several)? {
            Ok(tied) => return Ok(Some((Pieces::Several, tied))),
            Err(obstacle) if obstacle.step != BIND => {
                obstacles.push(obstacle);
                return Ok(None);
            }
            Err(obstacle) => obstacle,
        };
        Ok(match self.attempt(found, path, Pieces::One)? {
            Ok(_) if found.mtu > mtu_max(Pieces::One) => {
                obstacles.push(Obstacle { against: Against::Mtu, ..several });
                None
            }
            Ok(tied) => {
                obstacles.push(Obstacle { against: Against::SeveralPieces, ..several });
                Some((Pieces::One, tied))
            }
            Err(obstacle) => {
                obstacles.push(obstacle);
                None
            }
        })
    }

    /// Opens it: sockets first, so that from the moment the program runs each frame finds
    /// one.
    fn attempt(
        &mut self,
        found: &Description,
        path: DataPath,
        pieces: Pieces,
    ) -> Result<Attempt<Tied>, XdpError> {
        let queues = match self.queues(found, path, pieces)? {
            Ok(queues) => queues,
            Err(obstacle) => return Ok(Err(obstacle)),
        };
        let custody = self.custody(found)?;
        self.custody = Some(custody);
        let map = self.must("make a map of sockets", SocketMap::new(queues.len() as u32))?;
        for (number, queue) in (0..).zip(&queues) {
            self.must("enter a socket", map.set(number, queue.socket.as_fd()))?;
        }
        let program = self.must("load a program", Program::to_sockets(&map))?;
        let mode = match path {
            DataPath::ZeroCopy | DataPath::Copy => XdpMode::Driver,
            DataPath::Generic => XdpMode::Generic,
        };
        match Link::xdp(&program, found.index, mode) {
            Ok(link) => Ok(Ok((link, queues))),
            Err(error) => {
                let step = "attach an XDP program";
                match error.raw_os_error() {
                    Some(libc::EBUSY | libc::EEXIST) => {
                        Err(XdpError::ProgramTaken { interface: self.interface() })
                    }
                    Some(libc::EOPNOTSUPP | libc::EINVAL | libc::ERANGE) => {
                        Ok(Err(Obstacle { path, against: Against::Path, step, error }))
                    }
                    Some(libc::ENOSPC) => {
                        Ok(Err(Obstacle { path, against: Against::FewQueues, step, error }))
                    }
                    _ => Err(self.refusal(step, error)),
                }
            }
        }
    }

    /// How many receive queues its driver uses, if it says.
    fn used_queues(&self) -> Option<u32> {
        let name = InterfaceName::new(self.wanted.interface)?;
        let channels = Interfaces::open().and_then(|asked| asked.channels(name));
        channels.ok().map(Channels::receive_queues)
    }

    /// Has it leave frames as they are, if it does not yet.
    fn custody(&mut self, found: &Description) -> Result<Custody, XdpError> {
        match self.custody.take() {
            Some(custody) => Ok(custody),
            None => {
                let taken = self.caretaker.take(found);
                self.must("have it leave tags and frames as they are", taken)
            }
        }
    }

    /// A socket for each receive queue that the driver uses.
    fn queues(
        &self,
        found: &Description,
        path: DataPath,
        pieces: Pieces,
    ) -> Result<Attempt<Vec<Queue>>, XdpError> {
        let binding = match path {
            DataPath::ZeroCopy => Binding::ZeroCopy,
            DataPath::Copy | DataPath::Generic => Binding::Copy,
        };
        let mut queues = Vec::with_capacity(found.receive_queues as usize);
        let used = self.used_queues();
        for number in 0..found.receive_queues {
            let queue = self.must("open an AF_XDP socket", Queue::open())?;
            let step = BIND;
            match self.bind(&queue, found.index, number, (binding, pieces)) {
                Ok(()) => queues.push(queue),
                Err(error) => match error.raw_os_error() {
                    // A netdev may have been made with more queues than it uses.
                    Some(libc::EINVAL) if number > 0 => match used {
                        Some(used) if number < used => {
                            let against = Against::Queue { number, used };
                            return Ok(Err(Obstacle { path, against, step, error }));
                        }
                        Some(_) | None => break,
                    },
                    Some(libc::EBUSY) => {
                        let interface = self.interface();
                        return Err(XdpError::QueueTaken { interface, queue: number });
                    }
                    Some(libc::EOPNOTSUPP | libc::EINVAL | libc::EPROTONOSUPPORT) => {
                        return Ok(Err(Obstacle { path, against: Against::Path, step, error }));
                    }
                    _ => return Err(self.refusal(step, error)),
                },
            }
        }
        Ok(Ok(queues))
    }

    fn bind(
        &self,
        queue: &Queue,
        interface: u32,
        number: u32,
        (binding, pieces): (Binding, Pieces),
    ) -> io::Result<()> {
        let bind = || (self.bind)(&queue.socket, interface, number, binding, pieces);
        let (retries, pause) = BUSY_RETRIES;
        for _ in 0..retries {
            match bind() {
                Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {
                    std::thread::sleep(pause);
                }
                result => return result,
            }
        }
        bind()
    }
}
