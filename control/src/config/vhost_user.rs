//! A vhost-user device as configured.

use std::fmt;
use std::path::PathBuf;

/// Queue pairs that a device can have.
pub use hairpin_dataplane::port::vhost_user::ring::PAIRS_MAX;

/// Bytes that a socket's path can have: what sockaddr_un holds.
pub const SOCKET_BYTES_MAX: usize = 107;
/// Who may use a socket unless told otherwise: its owner and its group.
pub const SOCKET_MODE: u32 = 0o660;

/// A VM's virtqueues, by a socket that its VMM is at the other end of.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VhostUserConfig {
    /// The socket's path: absolute, of at most [`SOCKET_BYTES_MAX`] bytes.
    pub socket: PathBuf,
    /// Which end of it we are.
    pub role: SocketRole,
    /// Queue pairs that the VM may use, 1 to [`PAIRS_MAX`].
    pub queues: u16,
}

impl VhostUserConfig {
    /// A device of one queue pair at a socket that the VMM makes.
    pub fn client(socket: impl Into<PathBuf>) -> VhostUserConfig {
        VhostUserConfig { socket: socket.into(), role: SocketRole::Client, queues: 1 }
    }

    /// A device of one queue pair at a socket that we make.
    pub fn server(socket: impl Into<PathBuf>, access: SocketAccess) -> VhostUserConfig {
        VhostUserConfig { socket: socket.into(), role: SocketRole::Server(access), queues: 1 }
    }
}

impl VhostUserConfig {
    /// What is not as it can be, each with what would be right.
    pub fn out_of_bounds(&self) -> impl Iterator<Item = (String, String)> {
        let queues = usize::from(self.queues);
        let queues = (!(1..=PAIRS_MAX).contains(&queues)).then(|| {
            (format!("queues: {queues} is out of range"), format!("take 1 to {PAIRS_MAX}"))
        });
        let bytes = self.socket.as_os_str().len();
        let socket = (!self.socket.is_absolute() || bytes > SOCKET_BYTES_MAX).then(|| {
            let problem = format!("socket: {:?} is no path of a socket", self.socket);
            (problem, format!("take an absolute path of at most {SOCKET_BYTES_MAX} bytes"))
        });
        queues.into_iter().chain(socket)
    }
}

/// Which end of a socket we are.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SocketRole {
    /// The VMM makes it, we connect to it.
    Client,
    /// We make it, the VMM connects to it.
    Server(SocketAccess),
}

/// Who may connect to a socket that we make.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SocketAccess {
    /// Its permission bits, 0 to 0o777.
    pub mode: u32,
    /// Its owner; the daemon's user if absent.
    pub owner: Option<Account>,
    /// Its group; the daemon's if absent.
    pub group: Option<Account>,
}

impl Default for SocketAccess {
    fn default() -> SocketAccess {
        SocketAccess { mode: SOCKET_MODE, owner: None, group: None }
    }
}

/// A user or a group.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Account {
    /// By number.
    Number(u32),
    /// By name, which is looked up when the socket is made.
    Name(String),
}

impl Account {
    /// Its name, if it is not a number.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        match self {
            Account::Number(_) => None,
            Account::Name(name) => Some(name),
        }
    }
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Account::Number(number) => number.fmt(f),
            Account::Name(name) => f.write_str(name),
        }
    }
}
