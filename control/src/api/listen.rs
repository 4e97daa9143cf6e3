//! The API's socket: made, guarded against what is there already, removed.

use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use hairpin_proto::DESCRIPTORS;
use hairpin_proto::v1::switch_server::SwitchServer;
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Server;
use tonic::{Request, Status};

use super::by_right::ByRight;
use super::peer::Access;
use super::service::Service;
use super::{connections, peer};
use crate::config::ApiOthers;
use crate::switch::Switch;

/// Requests of one connection that are worked on at a time.
const REQUESTS_PER_CONNECTION: usize = 16;
/// How long a connection may be silent before it is asked for a sign of life, and then.
const KEEPALIVE: Duration = Duration::from_secs(20);
/// Streams that one connection may have open.
const STREAMS_PER_CONNECTION: u32 = 32;

/// Why the API cannot be offered.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The directory is not there.
    #[error(
        "switch: api: the directory {directory:?} does not exist; create it (as `install -d -m \
         755 {directory:?}`), or set `api` to a socket elsewhere"
    )]
    NoDirectory {
        /// Which.
        directory: PathBuf,
    },
    /// Another switch answers there.
    #[error(
        "switch: api: another program answers at {path:?}; stop that, or set `api` to another path"
    )]
    Taken {
        /// Where.
        path: PathBuf,
    },
    /// Something there is no socket.
    #[error("switch: api: {path:?} exists and is not a socket; move it away")]
    NotASocket {
        /// What.
        path: PathBuf,
    },
    /// The kernel refused.
    #[error(
        "switch: api: cannot listen at {path:?}: {source}; set `api` to a path that this user may \
         write"
    )]
    Refused {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The runtime could not be made.
    #[error("switch: api: the thread that serves it could not be made: {0}; see ulimit")]
    Thread(io::Error),
}

/// The API of a switch, served by a thread of its own until this is dropped.
#[derive(Debug)]
pub struct Api {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
    /// Last: it is there until nobody answers.
    _file: SocketFile,
}

/// A socket that listens and is not served yet: taken before anything else is
/// opened, so that a second daemon disturbs nothing. Dropped, as by a start that fails, it
/// leaves nothing behind.
#[derive(Debug)]
pub struct Bound {
    file: SocketFile,
    listener: UnixListener,
}

/// The file of a socket that was made here; dropped, it is removed.
#[derive(Debug)]
pub(crate) struct SocketFile(pub(crate) PathBuf);

impl SocketFile {
    /// Lets those connect who may read, at least: the others would be refused anyhow.
    pub(crate) fn let_in(&self, access: &Access) {
        let mode = |mode| fs::set_permissions(&self.0, fs::Permissions::from_mode(mode));
        let opened = match access.others() {
            ApiOthers::Read => mode(0o666),
            ApiOthers::Nothing => {
                std::os::unix::fs::chown(&self.0, None, access.group()).and_then(|()| mode(0o660))
            }
        };
        if let Err(error) = opened {
            tracing::warn!(path = ?self.0, %error, "who may connect to a socket could not be set");
        }
    }
}

impl Bound {
    /// Listens at a path. A socket at which nobody answers is replaced.
    ///
    /// # Errors
    /// See [`ListenError`].
    pub fn bind(path: &Path) -> Result<Bound, ListenError> {
        let refused = |source| ListenError::Refused { path: path.to_owned(), source };
        if let Some(directory) = path.parent().filter(|directory| !directory.is_dir()) {
            return Err(ListenError::NoDirectory { directory: directory.to_owned() });
        }
        clear(path)?;
        let listener = UnixListener::bind(path).map_err(refused)?;
        let file = SocketFile(path.to_owned());
        // Nobody else's, until it is served and known who may do what.
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).map_err(refused)?;
        listener.set_nonblocking(true).map_err(refused)?;
        Ok(Bound { file, listener })
    }

    /// Serves a switch.
    ///
    /// # Errors
    /// [`ListenError::Thread`].
    pub fn serve(self, switch: Switch) -> Result<Api, ListenError> {
        let (stop, stopped) = oneshot::channel();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(ListenError::Thread)?;
        let Bound { file, listener } = self;
        let access = Access::on_this_host(switch.view().desired.switch().api_others);
        file.let_in(&access);
        let thread = std::thread::Builder::new()
            .name("api".to_owned())
            .spawn(move || {
                if let Err(error) = runtime.block_on(serve(listener, switch, access, stopped)) {
                    tracing::error!(%error, "the API ended");
                }
                // Connections that are still open end here, not when their clients please.
                runtime.shutdown_background();
            })
            .map_err(ListenError::Thread)?;
        Ok(Api { stop: Some(stop), thread: Some(thread), _file: file })
    }
}

/// Removes a socket that a crashed switch left behind.
pub(crate) fn clear(path: &Path) -> Result<(), ListenError> {
    let refused = |source| ListenError::Refused { path: path.to_owned(), source };
    let metadata = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(refused(error)),
    };
    if !metadata.file_type().is_socket() {
        return Err(ListenError::NotASocket { path: path.to_owned() });
    }
    match UnixStream::connect(path) {
        Ok(_) => Err(ListenError::Taken { path: path.to_owned() }),
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
            fs::remove_file(path).map_err(refused)
        }
        Err(error) => Err(refused(error)),
    }
}

async fn serve(
    listener: UnixListener,
    switch: Switch,
    access: Access,
    stopped: oneshot::Receiver<()>,
) -> Result<(), Box<dyn std::error::Error>> {
    let listener = tokio::net::UnixListener::from_std(listener)?;
    let (accepted, incoming) = mpsc::channel(1);
    let (reporter, health) = tonic_health::server::health_reporter();
    reporter.set_serving::<SwitchServer<Service>>().await;
    let described = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let server = Server::builder()
        .concurrency_limit_per_connection(REQUESTS_PER_CONNECTION)
        .max_concurrent_streams(STREAMS_PER_CONNECTION)
        // A peer that is gone without a word, or stands still, is found out by these.
        .http2_keepalive_interval(Some(KEEPALIVE))
        .http2_keepalive_timeout(Some(KEEPALIVE))
        .add_service(ByRight::new(Service::new(switch)))
        .add_service(InterceptedService::new(health, may_ask))
        .add_service(InterceptedService::new(described().build_v1()?, may_ask))
        .add_service(InterceptedService::new(described().build_v1alpha()?, may_ask))
        .serve_with_incoming(ReceiverStream::new(incoming));
    tokio::select! {
        ended = server => Ok(ended?),
        () = connections::accept(listener, access, accepted) => Ok(()),
        _ = stopped => Ok(()),
    }
}

/// Lets nobody ask anything who may do nothing.
// Statuses are what tonic wants, and are large.
#[allow(clippy::result_large_err)]
fn may_ask(request: Request<()>) -> Result<Request<()>, Status> {
    peer::right(request.extensions()).map(|_| request)
}

impl Drop for Api {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // Its panic, if it had one, was reported by the hook.
            let _ = thread.join();
        }
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.0) {
            tracing::warn!(path = ?self.0, %error, "a socket could not be removed");
        }
    }
}
