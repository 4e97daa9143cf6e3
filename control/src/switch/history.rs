//! The revisions: which desired states were applied, the last of which runs.

use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use super::archive::{Archive, ArchiveError};
use super::digest::Digest;
use crate::config::Config;

/// Revisions that are kept.
pub const KEPT: usize = 20;

/// An applied desired state.
#[derive(Clone, PartialEq, Debug)]
pub struct Revision {
    /// Its number, from 1.
    pub number: u64,
    /// When it was applied.
    pub applied: SystemTime,
    /// Who applied it, or what, in a few words.
    pub origin: String,
    /// Objects that it changed.
    pub changes: u32,
    /// The file that was the start-up file last, when it was applied.
    pub file: Option<Digest>,
    /// The state.
    pub config: Arc<Config>,
}

/// The revisions that are kept, on disk or in memory only.
#[derive(Debug)]
pub struct History {
    /// By number.
    kept: VecDeque<Revision>,
    /// The highest number that was given.
    highest: u64,
    /// The start-up file that was applied last.
    file: Option<Digest>,
    archive: Option<Archive>,
}

/// A state could not be written down.
#[derive(Debug, thiserror::Error)]
#[error(
    "switch: state-dir: revision {number} cannot be written to {folder:?}: {source}; nothing was \
     changed: make room there, or have it writable, and try again"
)]
pub struct RecordError {
    number: u64,
    folder: PathBuf,
    source: io::Error,
}

impl History {
    /// One that ends with the switch.
    #[must_use]
    pub fn in_memory() -> History {
        History { kept: VecDeque::new(), highest: 0, file: None, archive: None }
    }

    /// That of a state-dir.
    ///
    /// # Errors
    /// What was applied last cannot be read.
    pub fn on_disk(archive: Archive) -> Result<History, ArchiveError> {
        let (revisions, highest) = archive.read()?;
        let file = revisions.last().and_then(|revision| revision.file);
        Ok(History { kept: revisions.into(), highest, file, archive: Some(archive) })
    }

    /// The number of the revision that runs; 0 before the first.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.kept.back().map_or(0, |revision| revision.number)
    }

    /// All that are kept, by number.
    pub fn kept(&self) -> impl Iterator<Item = &Revision> {
        self.kept.iter()
    }

    /// The last one.
    #[must_use]
    pub fn last(&self) -> Option<&Revision> {
        self.kept.back()
    }

    /// One of those that are kept.
    #[must_use]
    pub fn get(&self, number: u64) -> Option<&Revision> {
        self.kept.iter().find(|revision| revision.number == number)
    }

    /// The one before the last.
    #[must_use]
    pub fn previous(&self) -> Option<&Revision> {
        self.kept.iter().rev().nth(1)
    }

    /// Where they are kept, if on disk.
    #[must_use]
    pub fn folder(&self) -> Option<PathBuf> {
        self.archive.as_ref().map(|archive| archive.folder().to_owned())
    }

    /// Takes note of the start-up file that was applied last.
    pub fn note_file(&mut self, file: Option<Digest>) {
        self.file = file.or(self.file);
    }

    /// Writes down a state that is about to run.
    ///
    /// # Errors
    /// See [`RecordError`]; it is then as if it had not been tried.
    pub fn record(
        &mut self,
        config: Arc<Config>,
        origin: &str,
        changes: u32,
        file: Option<Digest>,
    ) -> Result<(), RecordError> {
        let revision = Revision {
            number: self.highest + 1,
            applied: SystemTime::now(),
            origin: origin.to_owned(),
            changes,
            file: file.or(self.file),
            config,
        };
        if let Some(archive) = &self.archive {
            let folder = archive.folder().to_owned();
            let number = revision.number;
            let failed = |source| RecordError { number, folder, source };
            archive.write(&revision).map_err(failed)?;
        }
        self.highest = revision.number;
        self.file = revision.file;
        self.kept.push_back(revision);
        while self.kept.len() > KEPT {
            if let (Some(old), Some(archive)) = (self.kept.pop_front(), &self.archive) {
                archive.remove(old.number);
            }
        }
        Ok(())
    }
}
