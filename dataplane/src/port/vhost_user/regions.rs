//! The memory that a front end lends: checked, mapped, and taken back.
//!
//! A region is a file that cannot keep us waiting for a disk: of tmpfs (memfds are of
//! it, too) or hugetlbfs. Its owner may cut it short afterwards: then anonymous memory takes
//! its place ([`crate::sys::sigbus`]).

use std::collections::VecDeque;
use std::fmt;
use std::io::ErrorKind;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::{FileType, OFlags, Stat, fcntl_getfl, fstat, fstatfs};

use crate::port::vhost_user::message::RegionSpec;
use crate::port::vhost_user::ring::Stuck;
use crate::sys::memory::{Mapping, Memory, Region};
use crate::sys::sigbus::WATCHED_MAX;

/// Regions of a device. More than a VMM has by far, and few enough for 254 devices to stay
/// below the mappings that a process can have (`vm.max_map_count`, 65530), and those that
/// can be watched.
pub const REGIONS_MAX: usize = 128;
/// Bytes of all regions of a device together: address space is for all.
pub const MEMORY_BYTES_MAX: u64 = 4 << 40;

const _: () = assert!(254 * REGIONS_MAX <= WATCHED_MAX);

/// `TMPFS_MAGIC` and `HUGETLBFS_MAGIC` of statfs(2).
const FILE_SYSTEMS: [u64; 2] = [0x0102_1994, 0x9584_58f6];
/// Bytes of the smallest page.
const PAGE_BYTES: u64 = 4096;

/// Why a region is not taken.
#[derive(Debug, thiserror::Error)]
#[error("memory region at guest address {guest:#x}: {fault}")]
pub struct RegionError {
    /// Where it should have begun.
    pub guest: u64,
    /// What is wrong with it.
    pub fault: RegionFault,
}

/// What is wrong with a region.
#[derive(Debug, thiserror::Error)]
pub enum RegionFault {
    /// It has no bytes.
    #[error("size 0: a region has at least one byte")]
    Empty,
    /// A sum is beyond 64 bits.
    #[error("{field} {value:#x} and size {bytes:#x} are together beyond 64 bits")]
    Wraps {
        /// The field.
        field: &'static str,
        /// As sent.
        value: u64,
        /// The size, as sent.
        bytes: u64,
    },
    /// It shares addresses with another.
    #[error("{field} {value:#x}, size {bytes:#x}: overlaps the region at guest address {other:#x}")]
    Overlaps {
        /// The field.
        field: &'static str,
        /// As sent.
        value: u64,
        /// The size, as sent.
        bytes: u64,
        /// The other region.
        other: u64,
    },
    /// There are too many.
    #[error("a device has at most {REGIONS_MAX} regions: give the VM's memory in fewer")]
    TooMany,
    /// There are too many of all devices together.
    #[error(
        "the regions of all VMs together are {WATCHED_MAX}, and no more can be: give their memory \
         in fewer"
    )]
    TooManyInAll,
    /// It is too large.
    #[error(
        "size {0:#x}: the regions of a device have at most {MEMORY_BYTES_MAX:#x} bytes together"
    )]
    TooLarge(u64),
    /// Its file is none.
    #[error("its descriptor is of a {0}, not of a file: give the VM's memory as a memfd")]
    NoFile(&'static str),
    /// Its file is of another file system.
    #[error(
        "its file's system has the type {0:#x}, not tmpfs or hugetlbfs: give the VM's memory as a \
         memfd, in /dev/shm or as huge pages"
    )]
    FileSystem(u64),
    /// Its file cannot be written, or not be read.
    #[error("its file is not open for reading and writing: share it (share=on)")]
    Access,
    /// Its file is too short.
    #[error("offset {offset:#x}, size {bytes:#x}: its file has {file_bytes:#x} bytes")]
    Short {
        /// As sent.
        offset: u64,
        /// As sent.
        bytes: u64,
        /// The file's.
        file_bytes: u64,
    },
    /// It cannot be looked at or mapped.
    #[error("its file cannot be mapped: {0}")]
    Map(#[from] std::io::Error),
    /// To be taken back, it has to be there.
    #[error("there is no region of this guest address, user address and size")]
    Absent,
}

impl From<rustix::io::Errno> for RegionFault {
    fn from(errno: rustix::io::Errno) -> RegionFault {
        RegionFault::Map(errno.into())
    }
}

/// A region that is mapped.
#[derive(Debug)]
struct Lent {
    spec: RegionSpec,
    file: FileId,
    region: Region,
}

/// By what a file is known, whichever descriptor it has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct FileId {
    device: u64,
    inode: u64,
}

/// All regions of a device.
///
/// QEMU before 8.0 lends each region once for each queue pair, and takes it back as often:
/// what was done already is done, and no error.
#[derive(Debug, Default)]
pub struct Regions {
    lent: Vec<Lent>,
    /// Those that were taken back last, [`REGIONS_MAX`] at most.
    taken_back: VecDeque<RegionSpec>,
    memory: Option<Arc<Memory>>,
}

/// How much memory there is.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Extent {
    /// Regions.
    pub regions: usize,
    /// Bytes of all of them.
    pub bytes: u64,
}

impl fmt::Display for Extent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes in {} regions", self.bytes, self.regions)
    }
}

impl Regions {
    /// The memory of all regions, while there is any.
    #[must_use]
    pub fn memory(&self) -> Option<&Arc<Memory>> {
        self.memory.as_ref()
    }

    /// How much there is.
    #[must_use]
    pub fn extent(&self) -> Extent {
        let bytes = self.lent.iter().map(|lent| lent.spec.bytes).sum();
        Extent { regions: self.lent.len(), bytes }
    }

    /// The guest address of a front end's address, while there is memory.
    #[must_use]
    pub fn translate(&self, user: u64) -> Option<u64> {
        self.lent.iter().map(|lent| lent.spec).find_map(|spec| {
            let offset = user.checked_sub(spec.user)?;
            (offset < spec.bytes).then(|| spec.guest + offset)
        })
    }

    /// Lets the memory go, so that the regions can be changed. They stay mapped.
    ///
    /// # Errors
    /// [`Stuck`]: somebody else still has it; ask again.
    pub fn release(&mut self) -> Result<(), Stuck> {
        let Some(memory) = self.memory.take() else { return Ok(()) };
        Arc::try_unwrap(memory).map(drop).map_err(|shared| {
            self.memory = Some(shared);
            Stuck
        })
    }

    /// Unmaps everything and maps these in its place. To be preceded by
    /// [`Regions::release`].
    ///
    /// # Errors
    /// [`RegionError`]; there is no memory then.
    pub fn replace(&mut self, table: Vec<(RegionSpec, OwnedFd)>) -> Result<(), RegionError> {
        self.clear();
        for (spec, file) in table {
            if let Err(error) = self.take(spec, &file) {
                self.clear();
                return Err(error);
            }
        }
        self.assemble();
        Ok(())
    }

    /// Maps one more, unless it is there already. To be preceded by [`Regions::release`].
    ///
    /// # Errors
    /// [`RegionError`]; the others are as before then.
    pub fn add(&mut self, spec: RegionSpec, file: &OwnedFd) -> Result<(), RegionError> {
        let known = self.lent.iter().find(|lent| lent.spec == spec).map(|lent| lent.file);
        let is_there = known.is_some() && fstat(file).ok().map(FileId::from) == known;
        let taken = if is_there { Ok(()) } else { self.take(spec, file) };
        self.assemble();
        taken
    }

    /// Unmaps one, unless it was taken back before. To be preceded by [`Regions::release`].
    ///
    /// # Errors
    /// [`RegionError`]; all are as before then.
    pub fn remove(&mut self, spec: RegionSpec) -> Result<(), RegionError> {
        let key = |spec: RegionSpec| (spec.guest, spec.user, spec.bytes);
        let at = self.lent.iter().position(|lent| key(lent.spec) == key(spec));
        let removed = match at {
            Some(at) => {
                let Lent { spec, .. } = self.lent.remove(at);
                self.taken_back.truncate(REGIONS_MAX - 1);
                self.taken_back.push_front(spec);
                Ok(())
            }
            None if self.taken_back.iter().any(|&before| key(before) == key(spec)) => Ok(()),
            None => Err(RegionError { guest: spec.guest, fault: RegionFault::Absent }),
        };
        self.assemble();
        removed
    }

    /// Unmaps everything that nobody else has.
    pub fn clear(&mut self) {
        *self = Regions::default();
    }

    fn assemble(&mut self) {
        let regions: Vec<Region> = self.lent.iter().map(|lent| lent.region.clone()).collect();
        self.memory = (!regions.is_empty()).then(|| Arc::new(Memory::new(regions)));
    }

    fn take(&mut self, spec: RegionSpec, file: &OwnedFd) -> Result<(), RegionError> {
        let checked = self.check(spec).and_then(|()| map(spec, file));
        let (file, region) = checked.map_err(|fault| RegionError { guest: spec.guest, fault })?;
        self.taken_back.retain(|&before| before != spec);
        self.lent.push(Lent { spec, file, region });
        Ok(())
    }

    /// Whether a region can be beside the others, as far as numbers tell.
    fn check(&self, spec: RegionSpec) -> Result<(), RegionFault> {
        let bytes = spec.bytes;
        if bytes == 0 {
            return Err(RegionFault::Empty);
        }
        let fields =
            [("guest address", spec.guest), ("user address", spec.user), ("offset", spec.offset)];
        for (field, value) in fields {
            value.checked_add(bytes).ok_or(RegionFault::Wraps { field, value, bytes })?;
        }
        if self.lent.len() >= REGIONS_MAX {
            return Err(RegionFault::TooMany);
        }
        if bytes > MEMORY_BYTES_MAX - self.extent().bytes {
            return Err(RegionFault::TooLarge(bytes));
        }
        for other in self.lent.iter().map(|lent| lent.spec) {
            let apart = |a: u64, b: u64| a + bytes <= b || b + other.bytes <= a;
            let pairs = [
                ("guest address", spec.guest, other.guest),
                ("user address", spec.user, other.user),
            ];
            if let Some((field, value, _)) = pairs.into_iter().find(|(_, a, b)| !apart(*a, *b)) {
                return Err(RegionFault::Overlaps { field, value, bytes, other: other.guest });
            }
        }
        Ok(())
    }
}

impl From<Stat> for FileId {
    fn from(status: Stat) -> FileId {
        FileId { device: status.st_dev, inode: status.st_ino }
    }
}

/// Maps a region whose numbers were checked.
fn map(spec: RegionSpec, file: &OwnedFd) -> Result<(FileId, Region), RegionFault> {
    let status = check_file(spec, file)?;
    let page = (status.st_blksize as u64).max(PAGE_BYTES);
    // Huge pages are mapped, and unmapped, whole.
    let before = spec.offset % page;
    let whole = (before + spec.bytes).next_multiple_of(page);
    let [before, whole, bytes] = [before, whole, spec.bytes].map(|value| value as usize);
    let mapping = Mapping::shared(file.as_fd(), spec.offset - before as u64, whole)?;
    let mapping = mapping.watched().map_err(|error| match error.kind() {
        ErrorKind::QuotaExceeded => RegionFault::TooManyInAll,
        _ => RegionFault::Map(error),
    })?;
    let wraps = RegionFault::Wraps { field: "size", value: spec.guest, bytes: spec.bytes };
    let region = Region::part(spec.guest, mapping, before, bytes).ok_or(wraps)?;
    Ok((status.into(), region))
}

/// Whether a file is one that can be a region; what is known of it.
fn check_file(spec: RegionSpec, file: &OwnedFd) -> Result<Stat, RegionFault> {
    let status = fstat(file)?;
    let kind = FileType::from_raw_mode(status.st_mode);
    if !kind.is_file() {
        return Err(RegionFault::NoFile(name(kind)));
    }
    let file_system = fstatfs(file)?.f_type as u64;
    if !FILE_SYSTEMS.contains(&file_system) {
        return Err(RegionFault::FileSystem(file_system));
    }
    if fcntl_getfl(file)? & OFlags::ACCMODE != OFlags::RDWR {
        return Err(RegionFault::Access);
    }
    let file_bytes = status.st_size as u64;
    let RegionSpec { offset, bytes, .. } = spec;
    if offset + bytes > file_bytes {
        return Err(RegionFault::Short { offset, bytes, file_bytes });
    }
    Ok(status)
}

fn name(kind: FileType) -> &'static str {
    match kind {
        FileType::Directory => "directory",
        FileType::Fifo => "pipe",
        FileType::Socket => "socket",
        FileType::CharacterDevice => "character device",
        FileType::BlockDevice => "block device",
        _ => "thing of its own kind (an eventfd, for example)",
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
