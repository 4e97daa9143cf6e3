//! Mirrors: copies of the frames of some ports and links, for the ports that are on them.

use hairpin_dataplane::snapshot::mirrors::Mirrored;

use super::At;
use super::template::matches;

/// Names and patterns of one mirror.
pub const SOURCES_MAX: usize = 1024;
/// Mirrors of a switch: each may have every frame copied once more.
pub const MIRRORS_MAX: usize = 8;

/// What a mirror may copy, as files have it.
pub const FRAMES: &[(&str, Mirrored)] =
    &[("both", Mirrored::Both), ("received", Mirrored::Received), ("sent", Mirrored::Sent)];

/// A mirror.
#[derive(Clone, PartialEq, Debug)]
pub struct MirrorConfig {
    /// Its name.
    pub name: At<String>,
    /// Whose frames are copied: ports and links by their names, or by patterns of them, which
    /// also mean ports that templates make. Ports that are on a mirror are none of them.
    pub from: Vec<At<String>>,
    /// Which of their frames.
    pub frames: Mirrored,
}

impl MirrorConfig {
    /// A mirror of all frames of these.
    #[must_use]
    pub fn new(name: &str, from: &[&str]) -> MirrorConfig {
        let from = from.iter().map(|&name| name.into()).collect();
        MirrorConfig { name: name.into(), from, frames: Mirrored::Both }
    }

    pub(super) fn forget_lines(&mut self) {
        self.name.line = None;
        self.from.iter_mut().for_each(|from| from.line = None);
    }
}

/// Whether it stands for several names.
#[must_use]
pub fn is_pattern(name: &str) -> bool {
    name.contains(['*', '?'])
}

/// Whether one of some names and patterns means this name.
#[must_use]
pub fn means(from: &[String], name: &str) -> bool {
    from.iter().any(|pattern| matches(pattern, name))
}
