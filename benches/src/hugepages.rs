//! The run directory: sockets, DPDK's run-time files, and a hugetlbfs of our own.
//!
//! Everything is given back when [`RunDirectory`] is dropped. A run that was killed cannot do that,
//! so the next one clears up after it: the directory's name carries the process id, a file in it
//! how many huge pages that process had added.

use crate::error::{Context, Result, RigError};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const POOL: &str = "/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages";
const FREE: &str = "/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages";
const PREFIX: &str = "hairpin-step0-";
const ADDED: &str = "added-huge-pages";

/// A directory of this run's own, with huge pages mounted in it.
#[derive(Debug)]
pub struct RunDirectory(PathBuf);

impl RunDirectory {
    /// Creates the directory, mounts hugetlbfs and sees to it that `pages` pages of 2 MiB are free.
    pub fn create(pages: u64) -> Result<Self> {
        sweep();
        let path = std::env::temp_dir().join(format!("{PREFIX}{}", std::process::id()));
        fs::create_dir(&path).context(format_args!("creating {}", path.display()))?;
        let directory = Self(path);
        directory.reserve(pages)?;
        let mount = directory.huge();
        fs::create_dir(&mount).context(format_args!("creating {}", mount.display()))?;
        let status = Command::new("mount")
            .args(["-t", "hugetlbfs", "-o", "pagesize=2M", "none"])
            .arg(&mount)
            .status()
            .context("running mount")?;
        if !status.success() {
            return Err(RigError::new("mounting hugetlbfs failed: does this kernel have it?"));
        }
        Ok(directory)
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Where hugetlbfs is mounted.
    pub fn huge(&self) -> PathBuf {
        self.0.join("huge")
    }

    fn reserve(&self, pages: u64) -> Result<()> {
        let missing = pages.saturating_sub(read_count(FREE)?);
        if missing == 0 {
            return Ok(());
        }
        let before = read_count(POOL)?;
        fs::write(POOL, (before + missing).to_string()).context("reserving huge pages")?;
        let got = read_count(POOL)?.saturating_sub(before);
        fs::write(self.0.join(ADDED), got.to_string()).context("noting huge pages")?;
        if got < missing {
            return Err(RigError::new(format!(
                "only {got} of {missing} more huge pages of 2 MiB could be had: memory is short or \
                 fragmented (free some, or `echo 1 > /proc/sys/vm/compact_memory`)"
            )));
        }
        Ok(())
    }
}

impl Drop for RunDirectory {
    fn drop(&mut self) {
        clear(&self.0);
    }
}

/// Clears up after earlier runs that were killed.
fn sweep() {
    let Ok(entries) = fs::read_dir(std::env::temp_dir()) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let id = name.to_str().and_then(|name| name.strip_prefix(PREFIX)?.parse::<u32>().ok());
        if let Some(id) = id
            && !Path::new(&format!("/proc/{id}")).exists()
        {
            eprintln!("step0: clearing up after run {id}, which was killed");
            clear(&entry.path());
        }
    }
}

/// Gives back what a run directory holds. Complains, but goes on: the rest still wants clearing.
fn clear(path: &Path) {
    let huge = path.join("huge");
    if huge.exists() {
        if let Ok(entries) = fs::read_dir(&huge) {
            // Unmounting alone frees the pages, but not if something still holds the mount.
            entries.flatten().for_each(|entry| drop(fs::remove_file(entry.path())));
        }
        if !Command::new("umount").arg(&huge).status().is_ok_and(|status| status.success()) {
            eprintln!("step0: {} stays mounted", huge.display());
        }
    }
    if let Err(error) = give_back(path) {
        eprintln!("step0: huge pages stay reserved: {error}");
    }
    if let Err(error) = fs::remove_dir_all(path) {
        eprintln!("step0: {} stays: {error}", path.display());
    }
}

fn give_back(path: &Path) -> Result<()> {
    let note = path.join(ADDED);
    if !note.exists() {
        return Ok(());
    }
    let added = read_count(&note)?;
    let left = read_count(POOL)?.saturating_sub(added);
    fs::write(POOL, left.to_string()).context("releasing huge pages")
}

fn read_count(path: impl AsRef<Path>) -> Result<u64> {
    let path = path.as_ref();
    let text = fs::read_to_string(path).context(format_args!(
        "reading {} (does this kernel have huge pages of 2 MiB?)",
        path.display()
    ))?;
    text.trim().parse().context(format_args!("reading {}", path.display()))
}
