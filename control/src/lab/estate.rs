//! What a lab makes outside its process, and who clears it away.
//!
//! Before a lab makes the first of it – a network namespace, a socket of `--hold` – it
//! makes its *will*, a file `hairpin-lab-PID`: locked (`flock`) for as long as the lab
//! lives, whatever ends it, and naming each thing before that is made. A will that can be
//! locked is a dead lab's, and precisely what it names is removed: by the lab itself at its
//! end, by the next lab of the same user after a crash. Names and process ids alone prove
//! nothing: a namespace that merely looks like a lab's is somebody else's and stays.

use std::fmt;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::progress::say;

/// Where iproute2 keeps its namespaces.
pub(super) const NETNS: &str = "/run/netns";
/// What the names of wills and of all that they name begin with; the process id follows.
const PREFIX: &str = "hairpin-lab-";
/// The first line of a will.
const HEAD: &str = "a hairpin lab made\n";
/// How often is tried what another process can disturb at its start.
const ATTEMPTS: usize = 10;

/// Something that outlives its process.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Thing {
    /// A network namespace, by its name.
    Namespace(String),
    /// A socket, by its path.
    Socket(PathBuf),
}

impl fmt::Display for Thing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Thing::Namespace(name) => write!(f, "namespace {name}"),
            Thing::Socket(path) => write!(f, "socket {}", path.display()),
        }
    }
}

impl Thing {
    /// Reads a line of a will.
    fn read(line: &str) -> Option<Thing> {
        match line.split_once(' ')? {
            ("namespace", name) => Some(Thing::Namespace(name.to_owned())),
            ("socket", path) => Some(Thing::Socket(path.into())),
            _ => None,
        }
    }

    fn path(&self) -> PathBuf {
        match self {
            Thing::Namespace(name) => Path::new(NETNS).join(name),
            Thing::Socket(path) => path.clone(),
        }
    }

    /// Removes it; what is gone already is no error.
    fn remove(&self) -> Result<()> {
        let removed = match self {
            _ if !self.path().exists() => return Ok(()),
            Thing::Namespace(name) => ip(&["netns", "del", name]),
            Thing::Socket(path) => fs::remove_file(path).map_err(Into::into),
        };
        // Its user may have removed it at the same moment.
        if self.path().exists() { removed } else { Ok(()) }
    }
}

/// What this lab makes; all of it is removed when this is dropped.
pub(super) struct Estate {
    base: PathBuf,
    made: Option<Made>,
}

struct Made {
    will: PathBuf,
    /// Locked as long as this is open.
    file: File,
    things: Vec<Thing>,
}

impl Estate {
    /// Nothing yet.
    pub fn new() -> Estate {
        Estate { base: base(), made: None }
    }

    /// Makes a namespace of this lab, named after `what`; says its name.
    pub fn add_namespace(&mut self, what: &str) -> Result<String> {
        let name = format!("{PREFIX}{}-{what}", std::process::id());
        self.will_own(Thing::Namespace(name.clone()))?;
        ip(&["netns", "add", &name])?;
        Ok(name)
    }

    /// A path for a socket of this lab.
    pub fn add_socket(&mut self, what: &str) -> Result<PathBuf> {
        let path = self.base.join(format!("{PREFIX}{}-{what}.sock", std::process::id()));
        self.will_own(Thing::Socket(path.clone()))?;
        Ok(path)
    }

    /// Writes down what is about to be made.
    fn will_own(&mut self, thing: Thing) -> Result<()> {
        if thing.path().exists() {
            bail!("lab: {thing} is there already and is not this lab's; remove it if it is unused");
        }
        let made = match &mut self.made {
            Some(made) => made,
            None => self.made.insert(Made::new(&self.base)?),
        };
        // In one piece: a line is there or it is not.
        made.file
            .write_all(format!("{thing}\n").as_bytes())
            .with_context(|| format!("lab: writing {}", made.will.display()))?;
        made.things.push(thing);
        Ok(())
    }
}

impl Drop for Estate {
    fn drop(&mut self) {
        if let Some(made) = self.made.take()
            && let Err(error) = remove(&made.will, &made.things)
        {
            say(format_args!("lab: {error:#}; the next lab will try again"));
        }
    }
}

impl Made {
    fn new(base: &Path) -> Result<Made> {
        let will = base.join(format!("{PREFIX}{}", std::process::id()));
        let doing = || format!("lab: making {}", will.display());
        for _ in 0..ATTEMPTS {
            let mut file =
                OpenOptions::new().write(true).create_new(true).open(&will).with_context(doing)?;
            file.lock().with_context(doing)?;
            // Before it was locked, it looked like a dead lab's, and may have been removed.
            if is_at(&file, &will) {
                file.write_all(HEAD.as_bytes()).with_context(doing)?;
                return Ok(Made { will, file, things: Vec::new() });
            }
        }
        bail!("{}: it is removed again and again", doing())
    }
}

/// Removes what labs of this user left that were killed.
pub(super) fn clear_the_dead() {
    clear_the_dead_in(&base());
}

fn clear_the_dead_in(base: &Path) {
    let Ok(entries) = fs::read_dir(base) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let number = name.to_str().and_then(|name| name.strip_prefix(PREFIX));
        if number.is_some_and(|number| number.parse::<u32>().is_ok())
            && let Err(error) = clear_if_dead(&entry.path())
        {
            say(format_args!("lab: clearing what {} names: {error:#}", entry.path().display()));
        }
    }
}

fn clear_if_dead(will: &Path) -> Result<()> {
    let own = rustix::process::geteuid().as_raw();
    // Neither a link nor a pipe is opened, nor is a will believed that another user wrote.
    match fs::symlink_metadata(will) {
        Ok(metadata) if metadata.is_file() && metadata.uid() == own => {}
        _ => return Ok(()),
    }
    let mut file = match File::open(will) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        opened => opened?,
    };
    match file.try_lock() {
        // Its lab lives.
        Err(TryLockError::WouldBlock) => return Ok(()),
        Err(TryLockError::Error(error)) => return Err(error.into()),
        Ok(()) if !is_at(&file, will) => return Ok(()),
        Ok(()) => {}
    }
    let mut text = String::new();
    file.read_to_string(&mut text)?;
    // Empty: killed before it wrote a word.
    let Some(things) = text.strip_prefix(HEAD).or(text.is_empty().then_some("")) else {
        return Ok(());
    };
    remove(will, &things.lines().filter_map(Thing::read).collect::<Vec<_>>())
}

/// Removes things, and then the will that names them.
fn remove(will: &Path, things: &[Thing]) -> Result<()> {
    let each =
        things.iter().map(|thing| thing.remove().with_context(|| format!("removing {thing}")));
    // All are tried before the first failure is told.
    each.collect::<Vec<_>>().into_iter().collect::<Result<()>>()?;
    match fs::remove_file(will) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}

/// Whether a file is still the one at its path.
fn is_at(file: &File, path: &Path) -> bool {
    let (Ok(opened), Ok(there)) = (file.metadata(), fs::symlink_metadata(path)) else {
        return false;
    };
    (opened.dev(), opened.ino()) == (there.dev(), there.ino())
}

/// Where wills lie. For root it is the same in every environment, so that each lab finds
/// every other's.
fn base() -> PathBuf {
    match rustix::process::geteuid().is_root() {
        true => "/run".into(),
        false => std::env::temp_dir(),
    }
}

/// Runs ip(8), out of Ctrl-C's reach, which would cut it short: in a process group of its
/// own. Until it is in that, it may be killed, but has done nothing yet: it is run again.
pub(super) fn ip(arguments: &[&str]) -> Result<()> {
    let run = || {
        let mut command = Command::new("ip");
        command.args(arguments).process_group(0).output()
    };
    let mut output = run();
    for _ in 1..ATTEMPTS {
        if output.as_ref().is_ok_and(|output| output.status.signal().is_some()) {
            output = run();
        }
    }
    let output = output.context("running `ip`: install Debian's package iproute2 for --netns")?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("`ip {}` failed ({}): {}", arguments.join(" "), output.status, said.trim());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn estate(base: &Path) -> Estate {
        Estate { base: base.to_owned(), made: None }
    }

    /// A will of a lab that died, and the socket it names.
    fn orphan(base: &Path, number: u32) -> (PathBuf, PathBuf) {
        let (will, socket) = (base.join(format!("{PREFIX}{number}")), base.join("orphan.sock"));
        fs::write(&socket, "").unwrap();
        fs::write(&will, format!("{HEAD}{}\n", Thing::Socket(socket.clone()))).unwrap();
        (will, socket)
    }

    #[test]
    fn an_estate_goes_with_its_lab_and_not_before() {
        let base = tempfile::tempdir().unwrap();
        let mut estate = estate(base.path());
        let socket = estate.add_socket("station").unwrap();
        fs::write(&socket, "").unwrap();
        clear_the_dead_in(base.path());
        assert!(socket.exists(), "a living lab lost its socket");
        drop(estate);
        assert_eq!(fs::read_dir(base.path()).unwrap().count(), 0);
    }

    #[test]
    fn what_a_dead_lab_named_is_removed_and_nothing_else() {
        let base = tempfile::tempdir().unwrap();
        // The number is a living process's: that proves nothing.
        let (will, socket) = orphan(base.path(), std::process::id());
        let other = base.path().join(format!("{PREFIX}{}-station.sock", u32::MAX));
        fs::write(&other, "").unwrap();
        clear_the_dead_in(base.path());
        assert!(!will.exists() && !socket.exists());
        assert!(other.exists(), "it was in no will");
    }

    #[test]
    fn a_will_cut_off_at_birth_is_removed_and_a_file_that_is_no_will_stays() {
        let base = tempfile::tempdir().unwrap();
        let empty = base.path().join(format!("{PREFIX}1"));
        let foreign = base.path().join(format!("{PREFIX}2"));
        let link = base.path().join(format!("{PREFIX}3"));
        let (will, socket) = orphan(&base.path().join("."), 4);
        fs::rename(&will, base.path().join("elsewhere")).unwrap();
        std::os::unix::fs::symlink(base.path().join("elsewhere"), &link).unwrap();
        fs::write(&empty, "").unwrap();
        fs::write(&foreign, format!("socket {}\n", socket.display())).unwrap();
        clear_the_dead_in(base.path());
        assert!(!empty.exists());
        assert!(foreign.exists() && link.is_symlink() && socket.exists());
    }

    #[test]
    fn what_is_there_already_is_not_taken() {
        let base = tempfile::tempdir().unwrap();
        let name = format!("{PREFIX}{}-bridge.sock", std::process::id());
        fs::write(base.path().join(&name), "").unwrap();
        let mut estate = estate(base.path());
        let error = estate.add_socket("bridge").unwrap_err().to_string();
        assert!(error.contains(&name) && error.contains("is not this lab's"), "{error}");
        drop(estate);
        assert!(base.path().join(&name).exists());
    }
}
