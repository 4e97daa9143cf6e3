//! The files of sockets: made for whom they are meant, told apart from what others left
//! or hold, removed.

use std::fs;
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use hairpin_dataplane::sys::accounts;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use crate::config::vhost_user::{Account, SocketAccess};

/// VMMs that may wait while one is served.
const WAITING_MAX: i32 = 4;

/// Why a socket cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// The directory is not there.
    #[error(
        "socket: the directory {directory:?} does not exist; create it (as `install -d \
         {directory:?}`), or name a socket elsewhere"
    )]
    NoDirectory {
        /// Which one.
        directory: PathBuf,
    },
    /// Nobody serves sockets.
    #[error("socket: the thread that serves it could not be made: {0}; see ulimit")]
    Thread(io::Error),
    /// Something else is there.
    #[error("socket: {path:?} is there and is no socket; remove it, or name another path")]
    NotASocket {
        /// The path.
        path: PathBuf,
    },
    /// It is somebody's.
    #[error(
        "socket: somebody listens at {path:?} (`ss -xlp` tells who); end that, name another path, \
         or write role = \"client\" if it is the VMM"
    )]
    Taken {
        /// The path.
        path: PathBuf,
    },
    /// There is no such user.
    #[error("owner: there is no user {name:?} on this host; add it, or write a number")]
    NoUser {
        /// Its name.
        name: String,
    },
    /// There is no such group.
    #[error("group: there is no group {name:?} on this host; add it, or write a number")]
    NoGroup {
        /// Its name.
        name: String,
    },
    /// The kernel does not want it so.
    #[error("socket: {path:?} cannot be made: {source}; see the directory's owner and permissions")]
    Refused {
        /// The path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Who may connect, as numbers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Access {
    mode: u32,
    owner: Option<u32>,
    group: Option<u32>,
}

impl Access {
    /// Looks names up, which may take a directory service's time.
    ///
    /// # Errors
    /// [`SocketError::NoUser`], [`SocketError::NoGroup`].
    pub fn of(access: &SocketAccess) -> Result<Access, SocketError> {
        let owner = access.owner.as_ref().map(|account| match account {
            Account::Number(number) => Ok(*number),
            Account::Name(name) => {
                let found = accounts::user(name).ok().flatten();
                found.ok_or_else(|| SocketError::NoUser { name: name.clone() })
            }
        });
        let group = access.group.as_ref().map(|account| match account {
            Account::Number(number) => Ok(*number),
            Account::Name(name) => {
                let found = accounts::group(name).ok().flatten();
                found.ok_or_else(|| SocketError::NoGroup { name: name.clone() })
            }
        });
        Ok(Access { mode: access.mode, owner: owner.transpose()?, group: group.transpose()? })
    }
}

/// A socket that listens; dropped, its file is removed.
#[derive(Debug)]
pub struct Listening {
    path: PathBuf,
    socket: OwnedFd,
    /// The file's device and number: what somebody else put there is not ours to remove.
    file: (u64, u64),
}

impl Listening {
    /// Makes a socket. Nobody can connect before it is whose it is to be.
    ///
    /// # Errors
    /// [`SocketError`]; there is no new file then.
    pub fn open(path: &Path, access: Access) -> Result<Listening, SocketError> {
        if let Some(directory) = path.parent().filter(|directory| !directory.is_dir()) {
            return Err(SocketError::NoDirectory { directory: directory.to_owned() });
        }
        clear(path)?;
        let refused = |source| SocketError::Refused { path: path.to_owned(), source };
        let socket = socket().map_err(refused)?;
        let address = SocketAddrUnix::new(path).map_err(|error| refused(error.into()))?;
        rustix::net::bind(&socket, &address).map_err(|error| refused(error.into()))?;
        let file = fs::symlink_metadata(path).map_err(refused)?;
        let listening = Listening { path: path.to_owned(), socket, file: (file.dev(), file.ino()) };
        listening.set(access)?;
        // Only from here on: before, whoever connects is refused.
        rustix::net::listen(&listening.socket, WAITING_MAX)
            .map_err(|error| refused(error.into()))?;
        Ok(listening)
    }

    /// Sets who may connect from now on.
    ///
    /// # Errors
    /// [`SocketError::Refused`].
    pub fn set(&self, access: Access) -> Result<(), SocketError> {
        let set = || -> io::Result<()> {
            std::os::unix::fs::lchown(&self.path, access.owner, access.group)?;
            fs::set_permissions(&self.path, fs::Permissions::from_mode(access.mode))
        };
        set().map_err(|source| SocketError::Refused { path: self.path.clone(), source })
    }

    /// Its path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The next VMM that waits; nothing if none does.
    ///
    /// # Errors
    /// Those of accept(2) that are not the VMM's.
    pub fn accept(&self) -> io::Result<Option<OwnedFd>> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        loop {
            match rustix::net::accept_with(&self.socket, flags) {
                Ok(socket) => return Ok(Some(socket)),
                // That one is gone again: the next.
                Err(Errno::CONNABORTED | Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok(None),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

impl AsFd for Listening {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        let Ok(file) = fs::symlink_metadata(&self.path) else { return };
        if (file.dev(), file.ino()) != self.file {
            return;
        }
        if let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!(socket = ?self.path, %error, "a socket could not be removed");
        }
    }
}

/// Connects to a VMM's socket, at once or not at all.
///
/// # Errors
/// What stands against it, in a sentence.
pub fn connect(path: &Path) -> Result<OwnedFd, String> {
    try_connect(path).map_err(|error| match error.kind() {
        ErrorKind::NotFound => format!("socket {path:?} is not there yet: its VMM makes it"),
        ErrorKind::ConnectionRefused => format!("nobody listens at socket {path:?}: start its VMM"),
        ErrorKind::WouldBlock => format!("socket {path:?} has others waiting: end those"),
        ErrorKind::PermissionDenied => {
            format!("socket {path:?} is not for this user: have its VMM make it accessible")
        }
        _ => format!("socket {path:?}: {error}"),
    })
}

fn socket() -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    Ok(rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?)
}

fn try_connect(path: &Path) -> io::Result<OwnedFd> {
    let socket = socket()?;
    rustix::net::connect(&socket, &SocketAddrUnix::new(path)?)?;
    Ok(socket)
}

/// Removes a socket that nobody listens at any more.
fn clear(path: &Path) -> Result<(), SocketError> {
    let refused = |source| SocketError::Refused { path: path.to_owned(), source };
    let metadata = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(refused(error)),
    };
    if !metadata.file_type().is_socket() {
        return Err(SocketError::NotASocket { path: path.to_owned() });
    }
    match try_connect(path) {
        Ok(_) => Err(SocketError::Taken { path: path.to_owned() }),
        // Its queue is full: somebody has one.
        Err(error) if error.kind() == ErrorKind::WouldBlock => {
            Err(SocketError::Taken { path: path.to_owned() })
        }
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
            fs::remove_file(path).map_err(refused)
        }
        Err(error) => Err(refused(error)),
    }
}
