//! Metrics of a switch, for scrapers: OpenMetrics, or the text format of Prometheus, by
//! HTTP. Values are read when somebody asks; the dataplane knows nothing of it.
//!
//! * [`collect`] — a switch as metric families ([`family`]). [`exposition`] — as text.
//! * [`log`] — the log, to standard error.
//! * [`page`] — one reading for all who ask at a time. [`http`] — who asks.
//!
//! Here: where that is, and the thread that answers.

pub mod collect;
pub mod exposition;
pub mod family;
pub mod http;
pub mod log;
pub mod page;

use std::fs;
use std::io::{self, ErrorKind};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use tokio::sync::oneshot;

use crate::api::listen::{ListenError, SocketFile, clear};
use crate::api::peer::Access;
use crate::config::MetricsAddress;
use crate::switch::Switch;
use http::Listener;
use page::Source;

/// Why metrics cannot be offered.
#[derive(Debug, thiserror::Error)]
pub enum MetricsError {
    /// The directory of the socket is not there.
    #[error(
        "switch: metrics: the directory {0:?} does not exist; create it (as `install -d -m 755 \
         {0:?}`), or set `metrics` to a socket elsewhere"
    )]
    NoDirectory(PathBuf),
    /// Another program answers there.
    #[error(
        "switch: metrics: another program answers at {0}; stop that, or set `metrics` to another \
         address"
    )]
    Taken(MetricsAddress),
    /// Something there is no socket.
    #[error("switch: metrics: {0:?} exists and is not a socket; move it away")]
    NotASocket(PathBuf),
    /// The kernel refused.
    #[error(
        "switch: metrics: cannot listen at {address}: {source}; set `metrics` to an address of \
         this host's, or a path that this user may write"
    )]
    Refused {
        /// Where.
        address: MetricsAddress,
        /// Why.
        source: io::Error,
    },
    /// The thread could not be made.
    #[error("switch: metrics: the thread that serves them could not be made: {0}; see ulimit")]
    Thread(io::Error),
}

/// An address that listens and is not served yet, taken before any device is opened.
#[derive(Debug)]
pub struct Bound {
    listener: Unserved,
    file: Option<SocketFile>,
}

#[derive(Debug)]
enum Unserved {
    Unix(UnixListener),
    Tcp(TcpListener),
}

/// The metrics of a switch, offered by a thread of their own until this is dropped.
#[derive(Debug)]
pub struct Telemetry {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
    /// Last: it is there until nobody answers.
    _file: Option<SocketFile>,
}

impl Bound {
    /// Listens. A socket at which nobody answers is replaced.
    ///
    /// # Errors
    /// See [`MetricsError`].
    pub fn bind(address: &MetricsAddress) -> Result<Bound, MetricsError> {
        let refused = |source: io::Error| match source.kind() {
            ErrorKind::AddrInUse => MetricsError::Taken(address.clone()),
            _ => MetricsError::Refused { address: address.clone(), source },
        };
        match address {
            MetricsAddress::Tcp(tcp) => {
                let listener = TcpListener::bind(tcp).map_err(refused)?;
                listener.set_nonblocking(true).map_err(refused)?;
                Ok(Bound { listener: Unserved::Tcp(listener), file: None })
            }
            MetricsAddress::Unix(path) => Bound::at_path(path, address, refused),
        }
    }

    fn at_path(
        path: &Path,
        address: &MetricsAddress,
        refused: impl Fn(io::Error) -> MetricsError,
    ) -> Result<Bound, MetricsError> {
        if let Some(directory) = path.parent().filter(|directory| !directory.is_dir()) {
            return Err(MetricsError::NoDirectory(directory.to_owned()));
        }
        clear(path).map_err(|error| match error {
            ListenError::Taken { .. } => MetricsError::Taken(address.clone()),
            ListenError::NotASocket { path } => MetricsError::NotASocket(path),
            ListenError::Refused { source, .. } => refused(source),
            other => refused(io::Error::other(other)),
        })?;
        let listener = UnixListener::bind(path).map_err(&refused)?;
        let file = SocketFile(path.to_owned());
        // Nobody else's, until it is served and known who may read.
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).map_err(&refused)?;
        listener.set_nonblocking(true).map_err(&refused)?;
        Ok(Bound { listener: Unserved::Unix(listener), file: Some(file) })
    }

    /// Offers the metrics of a switch.
    ///
    /// # Errors
    /// [`MetricsError::Thread`].
    pub fn serve(self, switch: Switch) -> Result<Telemetry, MetricsError> {
        let Bound { listener, file } = self;
        let others = switch.view().desired.switch().api_others;
        if let Some(file) = &file {
            file.let_in(&Access::on_this_host(others));
        }
        let (stop, stopped) = oneshot::channel();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(MetricsError::Thread)?;
        let listener = {
            let _within = runtime.enter();
            match listener {
                Unserved::Unix(it) => tokio::net::UnixListener::from_std(it).map(Listener::Unix),
                Unserved::Tcp(it) => tokio::net::TcpListener::from_std(it).map(Listener::Tcp),
            }
        };
        let listener = listener.map_err(MetricsError::Thread)?;
        let serve = async move {
            tokio::select! {
                () = http::serve(listener, Source::new(switch)) => {}
                _ = stopped => {}
            }
        };
        let thread = std::thread::Builder::new()
            .name("metrics".to_owned())
            .spawn(move || {
                runtime.block_on(serve);
                // Connections that are still open end here, not when their clients please.
                runtime.shutdown_background();
            })
            .map_err(MetricsError::Thread)?;
        Ok(Telemetry { stop: Some(stop), thread: Some(thread), _file: file })
    }
}

impl Drop for Telemetry {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // Its panic, if it had one, was reported by the hook.
            let _ = thread.join();
        }
    }
}
