//! The files of sockets: made for whom they are meant, told apart from what others left
//! or hold, removed.

use std::fs;
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crossbeam_channel::bounded;
use hairpin_dataplane::sys::accounts;
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Uid};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use crate::config::vhost_user::{Account, SocketAccess};

/// VMMs that may wait while one is served.
const WAITING_MAX: i32 = 4;
/// How long a socket that nobody listens at is left before it counts as stale: whoever has
/// just made it, as another daemon, is about to listen.
const SECOND_LOOK: Duration = Duration::from_millis(20);
/// How long a directory service may take to tell a number.
const ACCOUNTS_PATIENCE: Duration = Duration::from_secs(2);

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
    #[error("socket: no thread serves it: {0}; see the log, and ulimit")]
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
    /// Who is meant was not told in time.
    #[error(
        "owner, group: this host did not say within {} s which numbers {names} have; see to its \
         directory service (`getent passwd`), or write numbers",
        ACCOUNTS_PATIENCE.as_secs()
    )]
    NoAnswer {
        /// The names.
        names: String,
    },
    /// Somebody else's file is in the socket's place.
    #[error(
        "socket: {path:?} is not the socket that was made there; see who else may write to its \
         directory"
    )]
    Replaced {
        /// The path.
        path: PathBuf,
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
    /// Looks names up, for two seconds at most: a directory service may not answer.
    ///
    /// # Errors
    /// [`SocketError::NoUser`], [`SocketError::NoGroup`], [`SocketError::NoAnswer`].
    pub fn of(access: &SocketAccess) -> Result<Access, SocketError> {
        let accounts = access.owner.iter().chain(&access.group);
        let names: Vec<&str> = accounts.filter_map(Account::name).collect();
        if names.is_empty() {
            return Access::look_up(access);
        }
        let (tell, told) = bounded(1);
        let asked = access.clone();
        let thread = std::thread::Builder::new().name("accounts".to_owned());
        thread.spawn(move || tell.send(Access::look_up(&asked))).map_err(SocketError::Thread)?;
        let names = names.join(", ");
        // What comes later is nobody's.
        told.recv_timeout(ACCOUNTS_PATIENCE).map_err(|_| SocketError::NoAnswer { names })?
    }

    fn look_up(access: &SocketAccess) -> Result<Access, SocketError> {
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
    /// What somebody else put there is not ours to change or remove.
    file: File,
}

/// A file's device and number.
type File = (u64, u64);

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
        let (_, file) = held(path).map_err(refused)?;
        let listening = Listening { path: path.to_owned(), socket, file };
        listening.set(access)?;
        // Only from here on: before, whoever connects is refused.
        rustix::net::listen(&listening.socket, WAITING_MAX)
            .map_err(|error| refused(error.into()))?;
        Ok(listening)
    }

    /// Sets who may connect from now on. What somebody else put in the socket's place, or
    /// a link that leads elsewhere, is left as it is.
    ///
    /// # Errors
    /// [`SocketError::Refused`], [`SocketError::Replaced`].
    pub fn set(&self, access: Access) -> Result<(), SocketError> {
        let refused = |source| SocketError::Refused { path: self.path.clone(), source };
        let (fd, file) = held(&self.path).map_err(refused)?;
        if file != self.file {
            return Err(SocketError::Replaced { path: self.path.clone() });
        }
        let (owner, group) = (access.owner.map(Uid::from_raw), access.group.map(Gid::from_raw));
        // A descriptor of a path's takes no fchmod(2), but leads to its file. While it is ours:
        // who may give files away may not change those of others by that.
        let link = format!("/proc/self/fd/{}", fd.as_raw_fd());
        fs::set_permissions(link, fs::Permissions::from_mode(access.mode)).map_err(refused)?;
        rustix::fs::chownat(&fd, "", owner, group, AtFlags::EMPTY_PATH)
            .map_err(|error| refused(error.into()))
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

/// A descriptor of the socket at a path, not of what a link there leads to, and which file
/// that is.
fn held(path: &Path) -> io::Result<(OwnedFd, File)> {
    let fd =
        rustix::fs::open(path, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
    let stat = rustix::fs::fstat(&fd)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::Socket {
        return Err(io::Error::new(ErrorKind::InvalidInput, "no socket is there any more"));
    }
    Ok((fd, (stat.st_dev, stat.st_ino)))
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
    let Some(file) = stale(path)? else { return Ok(()) };
    std::thread::sleep(SECOND_LOOK);
    clear_again(path, file)
}

/// The same, of a file that nobody listened at a while ago.
fn clear_again(path: &Path, before: File) -> Result<(), SocketError> {
    match stale(path)? {
        None => Ok(()),
        Some(file) if file == before => fs::remove_file(path)
            .map_err(|source| SocketError::Refused { path: path.to_owned(), source }),
        // Somebody is at it.
        Some(_) => Err(SocketError::Taken { path: path.to_owned() }),
    }
}

/// Which socket is there that nobody listens at.
fn stale(path: &Path) -> Result<Option<File>, SocketError> {
    let refused = |source| SocketError::Refused { path: path.to_owned(), source };
    let metadata = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
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
            Ok(Some((metadata.dev(), metadata.ino())))
        }
        Err(error) => Err(refused(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ACCESS: Access = Access { mode: 0o600, owner: None, group: None };

    /// A socket that nobody listens at yet.
    fn bound(path: &Path) -> OwnedFd {
        let bound = socket().unwrap();
        rustix::net::bind(&bound, &SocketAddrUnix::new(path).unwrap()).unwrap();
        bound
    }

    #[test]
    fn a_socket_that_its_owner_listens_at_a_little_later_is_not_taken_for_stale() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("vm1");
        let theirs = bound(&path);
        let file = stale(&path).unwrap().unwrap();
        rustix::net::listen(&theirs, WAITING_MAX).unwrap();
        assert!(matches!(clear_again(&path, file), Err(SocketError::Taken { .. })));
        // Nor is one that was made in the place of one that was.
        drop(theirs);
        fs::rename(&path, directory.path().join("stale")).unwrap();
        let _theirs = bound(&path);
        assert!(matches!(clear_again(&path, file), Err(SocketError::Taken { .. })));
        let file = stale(&path).unwrap().unwrap();
        clear_again(&path, file).unwrap();
        assert!(!path.exists());
    }

    #[test]
    fn a_link_in_the_place_of_a_socket_leads_to_nothing_that_is_changed() {
        let directory = tempfile::tempdir().unwrap();
        let (path, precious) = (directory.path().join("vm1"), directory.path().join("precious"));
        let listening = Listening::open(&path, ACCESS).unwrap();
        fs::write(&precious, "").unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        let (before, open) = (mode(&precious), Access { mode: 0o666, ..ACCESS });
        fs::rename(&path, directory.path().join("moved")).unwrap();
        std::os::unix::fs::symlink(&precious, &path).unwrap();
        assert!(matches!(listening.set(open), Err(SocketError::Refused { .. })));
        fs::remove_file(&path).unwrap();
        // Another's socket is as little ours to change.
        let _theirs = bound(&path);
        let theirs = mode(&path);
        assert!(matches!(listening.set(open), Err(SocketError::Replaced { .. })));
        assert_eq!((mode(&precious), mode(&path)), (before, theirs));
        fs::rename(directory.path().join("moved"), &path).unwrap();
        listening.set(open).unwrap();
        assert_eq!(mode(&path), 0o666);
    }
}
