//! The record of what interfaces were like before they were ours, for the next process
//! should this one be killed: `interfaces.json` in the state-dir, there only while there
//! is something to be put back.
//!
//! It holds good until the kernel starts anew; one from before goes. It is replaced in one
//! piece, so it is never half written; one that is torn all the same, or is not ours, is
//! moved aside and said, once. Who writes it holds a lock beside it: a second daemon on the
//! same state-dir leaves the first one's alone.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use hairpin_dataplane::port::xdp::{Caretaker, Former, Record, Restored, UNWANTED};
use serde::{Deserialize, Serialize};

const RECORD: &str = "interfaces.json";
/// What cannot be understood is kept under this name.
const ASIDE: &str = "interfaces.torn";
const LOCK: &str = "interfaces.lock";
/// What the file says of itself.
const KIND: &str = "interfaces as they were before hairpin had them";
/// Another number at each start of the kernel.
const BOOT: &str = "/proc/sys/kernel/random/boot_id";

/// A caretaker that continues the record in a state-dir, if there is one, and writes it
/// there as soon as there is something to be written.
pub(super) fn caretaker(directory: &Path) -> Caretaker {
    let mut book = Book::new(directory);
    let inherited = book.inherit();
    Caretaker::new(Box::new(book), inherited)
}

/// The file's contents.
#[derive(Serialize, Deserialize)]
struct Contents {
    kind: String,
    boot: String,
    interfaces: Vec<Interface>,
}

#[derive(Serialize, Deserialize)]
struct Interface {
    namespace: u64,
    index: u32,
    address: [u8; 6],
    name: String,
    on: Vec<String>,
}

impl From<&Former> for Interface {
    fn from(former: &Former) -> Interface {
        let Former { namespace, index, address, ref name, ref on } = *former;
        let on = on.iter().map(|&name| name.to_owned()).collect();
        Interface { namespace, index, address, name: name.clone(), on }
    }
}

impl From<Interface> for Former {
    fn from(interface: Interface) -> Former {
        let Interface { namespace, index, address, name, on } = interface;
        let on = UNWANTED.into_iter().filter(|known| on.iter().any(|name| name == known));
        Former { namespace, index, address, name, on: on.collect() }
    }
}

#[derive(Debug)]
struct Book {
    directory: PathBuf,
    boot: String,
    lock: Lock,
    /// By what it failed last, so as to say it once.
    trouble: String,
}

/// The lock beside the file.
#[derive(Debug)]
enum Lock {
    /// Not asked for yet.
    Open,
    /// This process's, as long as the file is open.
    Ours(#[allow(dead_code, reason = "it is what holds the lock")] File),
}

impl Book {
    fn new(directory: &Path) -> Book {
        Book {
            directory: directory.to_owned(),
            boot: fs::read_to_string(BOOT).unwrap_or_default().trim().to_owned(),
            lock: Lock::Open,
            trouble: String::new(),
        }
    }

    fn path(&self) -> PathBuf {
        self.directory.join(RECORD)
    }

    /// What a process before left.
    fn inherit(&mut self) -> Vec<Former> {
        let path = self.path();
        let text = match self.read(&path) {
            Ok(Some(text)) => text,
            Ok(None) => return Vec::new(),
            Err(error) => {
                tracing::warn!(?path, %error, "what interfaces were like cannot be read: ignored");
                return Vec::new();
            }
        };
        match serde_json::from_str::<Contents>(&text) {
            Ok(contents) if contents.kind == KIND && contents.boot == self.boot => {
                contents.interfaces.into_iter().map(Former::from).collect()
            }
            // The kernel has started anew since: everything is as its driver makes it.
            Ok(contents) if contents.kind == KIND => {
                self.keep(&[]);
                Vec::new()
            }
            Ok(contents) => {
                self.put_aside(&format!("it says of itself {:?}", contents.kind));
                Vec::new()
            }
            Err(error) => {
                self.put_aside(&error.to_string());
                Vec::new()
            }
        }
    }

    /// Moves a file that cannot be understood out of the way: there may be something in it
    /// for people, and the next start need not say it again.
    fn put_aside(&self, problem: &str) {
        let (path, aside) = (self.path(), self.directory.join(ASIDE));
        let moved = fs::rename(&path, &aside);
        let kept = moved.as_ref().map_or(&path, |()| &aside);
        tracing::error!(
            ?path,
            ?kept,
            problem,
            "the record of what interfaces were like is torn or not ours: it is put aside, and \
             what a killed process turned off stays off: turn it on again (`ethtool -K INTERFACE \
             rxvlan on`)"
        );
        if let Err(error) = moved {
            tracing::error!(?path, %error, "it could not be put aside: remove it");
        }
    }

    fn read(&mut self, path: &Path) -> io::Result<Option<String>> {
        if !path.exists() {
            return Ok(None);
        }
        self.lock()?;
        fs::read_to_string(path).map(Some)
    }

    fn lock(&mut self) -> io::Result<()> {
        if matches!(self.lock, Lock::Ours(_)) {
            return Ok(());
        }
        fs::create_dir_all(&self.directory)?;
        let path = self.directory.join(LOCK);
        let file = OpenOptions::new().write(true).create(true).truncate(false).open(path)?;
        match file.try_lock() {
            Ok(()) => {
                self.lock = Lock::Ours(file);
                Ok(())
            }
            Err(TryLockError::WouldBlock) => {
                let taken = "another daemon uses this state-dir; give each its own";
                Err(io::Error::new(ErrorKind::WouldBlock, taken))
            }
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    fn write(&mut self, interfaces: Vec<Interface>) -> io::Result<()> {
        let path = self.path();
        if interfaces.is_empty() {
            // Never locked, it has nothing of ours.
            return match &self.lock {
                Lock::Open => Ok(()),
                Lock::Ours(_) => match fs::remove_file(path) {
                    Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
                    _ => Ok(()),
                },
            };
        }
        self.lock()?;
        let contents = Contents { kind: KIND.to_owned(), boot: self.boot.clone(), interfaces };
        let text = serde_json::to_string_pretty(&contents).map_err(io::Error::from)?;
        let new = path.with_extension("new");
        fs::write(&new, text + "\n")?;
        fs::rename(new, path)
    }
}

impl Record for Book {
    fn keep(&mut self, formers: &[&Former]) {
        let interfaces: Vec<Interface> = formers.iter().map(|&it| it.into()).collect();
        if let Err(error) = self.write(interfaces) {
            let error = error.to_string();
            if self.trouble != error {
                tracing::warn!(
                    path = ?self.path(),
                    error,
                    "what interfaces were like cannot be written down: if this process is \
                     killed, turn on again what it turned off (`ethtool -K INTERFACE rxvlan on`)"
                );
            }
            self.trouble = error;
        }
    }

    fn restored(&mut self, former: &Former, result: io::Result<Restored>) {
        let (interface, features) = (&former.name, former.on.join(" "));
        match result {
            Ok(Restored::Done) => tracing::info!(interface, features, "turned on again"),
            Ok(Restored::Gone) => {
                tracing::debug!(interface, features, "not turned on again: it is gone");
            }
            Ok(Restored::Elsewhere) => tracing::warn!(
                interface,
                features,
                "not turned on again: it was in another network namespace, where a daemon with \
                 this state-dir can do it, or `ethtool -K`"
            ),
            Err(error) => tracing::error!(
                interface,
                features,
                %error,
                "could not be turned on again: the next start tries it, or do it by `ethtool -K`"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn former(index: u32) -> Former {
        Former {
            namespace: 7,
            index,
            address: [2, 0, 0, 0, 0, 9],
            name: format!("if{index}"),
            on: vec!["rx-vlan-hw-parse", "rx-lro"],
        }
    }

    #[test]
    fn what_was_kept_is_inherited_after_a_crash_and_goes_when_it_is_put_back() {
        let base = tempfile::tempdir().unwrap();
        let directory = base.path().join("state");
        let mut book = Book::new(&directory);
        assert!(book.inherit().is_empty());
        book.keep(&[]);
        assert!(!directory.exists(), "nothing is made for nothing");
        book.keep(&[&former(3), &former(4)]);
        // One that lives is not robbed.
        assert!(Book::new(&directory).inherit().is_empty());
        Book::new(&directory).keep(&[]);
        drop(book);
        let mut next = Book::new(&directory);
        assert_eq!(next.inherit(), [former(3), former(4)]);
        next.keep(&[&former(4)]);
        drop(next);
        let mut last = Book::new(&directory);
        assert_eq!(last.inherit(), [former(4)]);
        last.keep(&[]);
        assert!(!directory.join(RECORD).exists());
    }

    #[test]
    fn torn_foreign_and_outdated_files_are_ignored_and_go() {
        let base = tempfile::tempdir().unwrap();
        let [record, aside] = [RECORD, ASIDE].map(|name| base.path().join(name));
        let is_put_aside = |text: &str| {
            let kept = fs::read_to_string(&aside).unwrap();
            fs::remove_file(&aside).unwrap();
            kept == text && !record.exists()
        };
        let write = |text: &str| fs::write(base.path().join(RECORD), text).unwrap();
        let inherit = || Book::new(base.path()).inherit();
        let mut book = Book::new(base.path());
        book.keep(&[&former(3)]);
        let whole = fs::read_to_string(base.path().join(RECORD)).unwrap();
        drop(book);
        assert_eq!(inherit(), [former(3)]);
        for length in [0, 1, whole.len() / 2, whole.len() - 3] {
            let torn = &whole[..length];
            write(torn);
            assert!(inherit().is_empty() && is_put_aside(torn), "torn at {length}");
            // That is said once.
            assert!(inherit().is_empty() && !aside.exists());
        }
        for foreign in ["{}", "[1]", "\0\0\0", &whole.replace(KIND, "something else")] {
            write(foreign);
            assert!(inherit().is_empty() && is_put_aside(foreign), "{foreign}");
        }
        let boot = Book::new(base.path()).boot;
        write(&whole.replace(&boot, "an earlier one"));
        assert!(inherit().is_empty() && !record.exists() && !aside.exists());
        // What this version does not know of a feature is not turned on.
        write(&whole.replace("rx-lro", "rx-all"));
        assert_eq!(inherit()[0].on, ["rx-vlan-hw-parse"]);
    }
}
