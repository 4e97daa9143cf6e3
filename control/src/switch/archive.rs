//! Applied states on disk: `revisions/0000000012.toml` in the state-dir, one file each.
//!
//! A file is the configuration as an operator would write it, so that it can be read, checked
//! and applied by hand, below two lines of comment: the SHA-256 of all that follows it, and
//! what is known of the apply. It is written beside its place, made safe by fsync(2), renamed
//! and the directory made safe: whoever looks sees the whole of it or nothing. One that is not
//! whole all the same is put aside and said; the revision before it counts.
//!
//! One daemon has a state-dir at a time: it holds a lock on it.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::crash::{self, Place};
use super::digest::Digest;
use super::history::Revision;
use crate::config;

const FOLDER: &str = "revisions";
const LOCK: &str = "revisions.lock";
/// What every revision's file begins with, before its number and its sum.
const HEAD: &str = "# hairpin revision ";

/// The revisions of a state-dir.
#[derive(Debug)]
pub struct Archive {
    folder: PathBuf,
    /// What holds the lock.
    _lock: File,
}

/// Why a state-dir is not to be had.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// Another daemon has it.
    #[error(
        "switch: state-dir: another daemon uses {directory:?}; stop that, or give each its own"
    )]
    Taken {
        /// Which.
        directory: PathBuf,
    },
    /// A revision in it is whole, and not to be read.
    #[error(
        "switch: state-dir: {path:?} cannot be read: {problem}; see to that, or start the version \
         that wrote it; moved away, the revision before it counts"
    )]
    Unread {
        /// Which.
        path: PathBuf,
        /// Why.
        problem: String,
    },
    /// It cannot be made, or not be written.
    #[error("switch: state-dir: {directory:?} cannot be used: {source}")]
    Unusable {
        /// Which.
        directory: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl Archive {
    /// Takes the revisions of a state-dir, which is made if it is not there.
    ///
    /// # Errors
    /// See [`ArchiveError`].
    pub fn open(directory: &Path) -> Result<Archive, ArchiveError> {
        let unusable = |source| ArchiveError::Unusable { directory: directory.to_owned(), source };
        let folder = directory.join(FOLDER);
        make(directory, 0o755).and_then(|()| make(&folder, 0o750)).map_err(unusable)?;
        let mut options = OpenOptions::new();
        let lock = options.write(true).create(true).truncate(false).mode(0o640);
        let lock = lock.open(directory.join(LOCK)).map_err(unusable)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(ArchiveError::Taken { directory: directory.to_owned() });
            }
            Err(TryLockError::Error(source)) => return Err(unusable(source)),
        }
        let archive = Archive { folder, _lock: lock };
        archive.try_out().map_err(unusable)?;
        Ok(archive)
    }

    /// Whether files can be written, found out before it matters; what a crash left half
    /// written goes by it.
    fn try_out(&self) -> io::Result<()> {
        let path = self.folder.join("trial.new");
        fs::write(&path, "")?;
        for path in self.files("new")? {
            fs::remove_file(path)?;
        }
        Ok(())
    }

    /// The directory that the files are in.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    fn path(&self, number: u64) -> PathBuf {
        self.folder.join(format!("{number:010}.toml"))
    }

    /// Files with this extension, in the order of their names.
    fn files(&self, extension: &str) -> io::Result<Vec<PathBuf>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let path = entry?.path();
            if path.extension().is_some_and(|it| it == extension) {
                found.push(path);
            }
        }
        found.sort();
        Ok(found)
    }

    /// Whether there are revisions in a state-dir, as far as one can see.
    #[must_use]
    pub fn is_in(directory: &Path) -> bool {
        let entries = fs::read_dir(directory.join(FOLDER));
        let is_one = |path: PathBuf| path.extension().is_some_and(|it| it == "toml");
        entries
            .is_ok_and(|mut entries| entries.any(|entry| entry.is_ok_and(|it| is_one(it.path()))))
    }

    /// The revisions that are whole, by number, and the highest number that was ever given,
    /// as far as files tell. Those that are not whole are put aside.
    ///
    /// # Errors
    /// The last one is whole, and cannot be read all the same: one before it is not what was
    /// applied last. Of others that is only said.
    pub fn read(&self) -> Result<(Vec<Revision>, u64), ArchiveError> {
        let listed = |source| ArchiveError::Unusable { directory: self.folder.clone(), source };
        let files = self.files("toml").map_err(listed)?;
        let torn = self.files("torn").map_err(listed)?;
        let highest = files.iter().chain(&torn).filter_map(|path| number_of(path)).max();
        let mut revisions = Vec::with_capacity(files.len());
        let mut unread = None;
        for path in files {
            let read = fs::read_to_string(&path);
            let read = read.map_err(|error| Unread::Whole(error.to_string())).and_then(parse);
            match read {
                Ok(revision) if Some(revision.number) == number_of(&path) => {
                    revisions.push(revision);
                    unread = None;
                }
                Ok(revision) => {
                    put_aside(&path, &format!("it says that it is revision {}", revision.number));
                }
                Err(Unread::Torn(problem)) => put_aside(&path, &problem),
                Err(Unread::Whole(problem)) => {
                    tracing::error!(?path, problem, "a revision cannot be read");
                    unread = Some(ArchiveError::Unread { path, problem });
                }
            }
        }
        match unread {
            Some(error) => Err(error),
            None => Ok((revisions, highest.unwrap_or(0))),
        }
    }

    /// Writes a revision; once it returns, it is there whatever happens.
    ///
    /// # Errors
    /// Those of the file system; the revision is not there then.
    pub fn write(&self, revision: &Revision) -> io::Result<()> {
        let path = self.path(revision.number);
        let new = path.with_extension("new");
        let written = self.write_to(&new, &path, &text(revision));
        if written.is_err() {
            // Neither must be found by a later start; what cannot be removed was not made.
            let _ = fs::remove_file(&new);
            let _ = fs::remove_file(&path);
        }
        written
    }

    fn write_to(&self, new: &Path, path: &Path, text: &str) -> io::Result<()> {
        let mut options = OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(0o640).open(new)?;
        let (half, rest) = text.as_bytes().split_at(text.len() / 2);
        file.write_all(half)?;
        crash::at(Place::Half);
        file.write_all(rest)?;
        file.sync_all()?;
        crash::at(Place::Written);
        fs::rename(new, path)?;
        crash::at(Place::Named);
        File::open(&self.folder)?.sync_all()
    }

    /// Removes a revision that is no longer kept.
    pub fn remove(&self, number: u64) {
        let path = self.path(number);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                tracing::warn!(?path, %error, "an old revision could not be removed");
            }
            _ => {}
        }
    }
}

fn make(directory: &Path, mode: u32) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(mode).create(directory)
}

fn number_of(path: &Path) -> Option<u64> {
    path.file_stem()?.to_str()?.parse().ok()
}

/// Moves a file that is not whole out of the way: there may be something in it for people,
/// and the next start need not say it again.
fn put_aside(path: &Path, problem: &str) {
    let aside = path.with_extension("torn");
    let moved = fs::rename(path, &aside);
    tracing::error!(
        ?path,
        ?aside,
        problem,
        "an applied state cannot be read: it is put aside, and the revision before it counts; \
         compare what runs (`hairpin show`) with what you want"
    );
    if let Err(error) = moved {
        tracing::error!(?path, %error, "it could not be put aside: remove it");
    }
}

fn text(revision: &Revision) -> String {
    let Revision { number, applied, origin, changes, file, config } = revision;
    let applied = applied.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_millis();
    let file = file.map_or_else(|| "-".to_owned(), |file| file.to_string());
    let rest = format!(
        "# applied_ms {applied}, changes {changes}, file {file}, by {origin}\n{}",
        config::write::to_toml(config)
    );
    format!("{HEAD}{number} sha256 {}\n{rest}", Digest::of(rest.as_bytes()))
}

/// Why a revision cannot be read.
enum Unread {
    /// Its file is not what was written.
    Torn(String),
    /// It is, or it cannot be seen.
    Whole(String),
}

fn parse(text: String) -> Result<Revision, Unread> {
    let torn = || Unread::Torn("it is not whole".to_owned());
    let (first, rest) = text.split_once('\n').ok_or_else(torn)?;
    let head = first.strip_prefix(HEAD).ok_or_else(torn)?;
    let (number, sum) = head.split_once(" sha256 ").ok_or_else(torn)?;
    if sum.parse() != Ok(Digest::of(rest.as_bytes())) {
        let problem = "its sum is not that of its text: it was torn, or changed by hand";
        return Err(Unread::Torn(problem.to_owned()));
    }
    let about = rest.lines().next().unwrap_or_default();
    let field = |key: &str| {
        let (_, after) = about.split_once(&format!("{key} "))?;
        Some(after.split_once(", ").map_or(after, |(value, _)| value))
    };
    let applied_ms = field("applied_ms").and_then(|it| it.parse().ok()).ok_or_else(torn)?;
    let desired = config::parse(rest).map_err(|errors| Unread::Whole(errors.to_string()))?;
    Ok(Revision {
        number: number.parse().map_err(|_| torn())?,
        applied: SystemTime::UNIX_EPOCH + Duration::from_millis(applied_ms),
        origin: about.split_once(", by ").map_or("", |(_, origin)| origin).to_owned(),
        changes: field("changes").and_then(|it| it.parse().ok()).ok_or_else(torn)?,
        file: field("file").and_then(|it| it.parse().ok()),
        config: {
            let mut config = desired.config().clone();
            config.forget_lines();
            Arc::new(config)
        },
    })
}
