//! Network namespaces that go when their owner goes.

use std::fs::File;
use std::io;
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::JoinHandle;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::command::run;
use super::error::{BedError, Result};

/// Where iproute2 keeps namespaces by name.
const DIRECTORY: &str = "/run/netns";
/// What the names of ours begin with; the owner's process id and a number follow.
const PREFIX: &str = "hp-";

/// A network namespace, deleted on drop with all interfaces in it.
#[derive(Debug)]
pub struct Namespace {
    name: String,
    file: File,
}

impl Namespace {
    /// Makes one, with `lo` up and IPv6 addresses usable at once (no duplicate
    /// address detection, no router solicitations).
    ///
    /// # Errors
    /// Without root or iproute2.
    pub fn new() -> Result<Namespace> {
        static SWEPT: Once = Once::new();
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        SWEPT.call_once(sweep);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("{PREFIX}{}-{number}", std::process::id());
        run(&["ip", "netns", "add", &name])?;
        let path = Path::new(DIRECTORY).join(&name);
        let file = File::open(&path).map_err(|error| {
            delete(&name);
            BedError::while_doing(format_args!("opening {}", path.display()))(error)
        })?;
        let namespace = Namespace { name, file };
        namespace.ip("link set lo up")?;
        for (key, value) in [("accept_dad", "0"), ("accept_ra", "0"), ("router_solicitations", "0")]
        {
            namespace.set_sysctl(&format!("net/ipv6/conf/default/{key}"), value)?;
        }
        Ok(namespace)
    }

    /// Its name, as `ip netns` knows it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Runs `ip` on it, with arguments separated by blanks.
    ///
    /// # Errors
    /// If `ip` fails.
    pub fn ip(&self, arguments: &str) -> Result<String> {
        let mut words = vec!["ip", "-n", &self.name];
        words.extend(arguments.split_whitespace());
        run(&words)
    }

    /// Runs a program in it, with arguments separated by blanks.
    ///
    /// # Errors
    /// If the program fails.
    pub fn run(&self, line: &str) -> Result<String> {
        let mut words = vec!["ip", "netns", "exec", &self.name];
        words.extend(line.split_whitespace());
        run(&words)
    }

    /// Runs `work` on a thread in it.
    ///
    /// # Errors
    /// Without the right to enter.
    ///
    /// # Panics
    /// If `work` does.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| self.move_into().map(|()| work()));
            match thread.join() {
                Ok(result) => result,
                Err(panic) => std::panic::resume_unwind(panic),
            }
        })
    }

    /// Starts `work` on a thread in it. Sockets it made stay good after the
    /// namespace's name is gone.
    ///
    /// # Errors
    /// If there is no descriptor left for the thread to enter by.
    pub fn spawn<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<JoinHandle<Result<T>>> {
        let file = self.file.try_clone().map_err(BedError::while_doing("keeping a namespace"))?;
        let inside = Namespace { name: String::new(), file };
        Ok(std::thread::spawn(move || inside.move_into().map(|()| work())))
    }

    /// Connects a TCP socket from within it to a listener of another namespace.
    pub(super) fn connect(&self, listener: &TcpListener) -> Result<TcpStream> {
        let address = listener.local_addr().map_err(BedError::while_doing("listening"))?;
        self.enter(|| TcpStream::connect(address))?
            .map_err(BedError::while_doing(format_args!("connecting to {address}")))
    }

    /// Writes a kernel parameter, by its path below `/proc/sys`.
    ///
    /// # Errors
    /// If the kernel has none of that name or refuses the value.
    pub fn set_sysctl(&self, path: &str, value: &str) -> Result<()> {
        // /proc/sys/net is that of the thread which opens it.
        self.enter(|| std::fs::write(Path::new("/proc/sys").join(path), value))?
            .map_err(BedError::while_doing(format_args!("setting {path} to {value}")))
    }

    /// Moves one of its interfaces to another namespace, where it is down at first.
    ///
    /// # Errors
    /// If it has no such interface, or the other has one already.
    pub fn give(&self, interface: &str, to: &Namespace) -> Result<()> {
        self.ip(&format!("link set {interface} netns {}", to.name)).map(drop)
    }

    /// Whether it has an interface of that name.
    #[must_use]
    pub fn has(&self, interface: &str) -> bool {
        self.ip(&format!("link show dev {interface}")).is_ok()
    }

    /// Moves the calling thread into it, for good.
    fn move_into(&self) -> Result<()> {
        move_into_link_name_space(self.file.as_fd(), Some(LinkNameSpaceType::Network))
            .map_err(io::Error::from)
            .map_err(BedError::while_doing(format_args!("entering namespace {}", self.name)))
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // A handle for a thread has no name and owns no namespace.
        if !self.name.is_empty() {
            delete(&self.name);
        }
    }
}

/// Deletes the namespaces of beds whose process is gone.
pub fn sweep() {
    let Ok(entries) = std::fs::read_dir(DIRECTORY) else { return };
    for name in entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()) {
        let owner = name.strip_prefix(PREFIX).and_then(|rest| rest.split_once('-'));
        let Some((owner, _)) = owner else { continue };
        if owner.parse::<u32>().is_ok() && !Path::new("/proc").join(owner).exists() {
            delete(&name);
        }
    }
}

fn delete(name: &str) {
    if let Err(error) = run(&["ip", "netns", "del", name]) {
        eprintln!("{error}");
    }
}
