//! What the kernel tells of BPF programs that are loaded, whoever did that: which ones a
//! netdev runs, and what they are called.

use std::fmt;
use std::io;
use std::mem::size_of;
use std::os::fd::AsRawFd;

use super::bpf::{ATTACH_TCX_INGRESS, Program, ask, bpf};

const PROGRAM_BY_ID: libc::c_long = 13;
const INFORMATION: libc::c_long = 15;
const QUERY: libc::c_long = 16;
/// Programs that one place of a netdev can have (`BPF_MPROG_MAX`).
const PROGRAMS_MAX: usize = 64;

/// What the kernel calls a program from when it is loaded until it is gone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ProgramId(pub(super) u32);

impl fmt::Display for ProgramId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl ProgramId {
    /// The name that it was loaded with, 15 bytes at most; nothing if it is gone.
    ///
    /// # Errors
    /// `EPERM` without CAP_SYS_ADMIN, which the kernel asks for with programs of others;
    /// those of bpf(2).
    pub fn name(self) -> io::Result<Option<String>> {
        let attributes = ByIdAttributes { id: self.0, next: 0, flags: 0 };
        // SAFETY: the attributes hold no pointer.
        let program = match unsafe { bpf(PROGRAM_BY_ID, &attributes) } {
            Ok(fd) => Program(fd),
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => return Ok(None),
            Err(error) => return Err(error),
        };
        let name = program.information()?.name;
        let name = name.split(|&byte| byte == 0).next().unwrap_or_default();
        Ok(Some(String::from_utf8_lossy(name).into_owned()))
    }
}

impl Program {
    /// What the kernel calls it.
    ///
    /// # Errors
    /// Those of bpf(2).
    pub fn id(&self) -> io::Result<ProgramId> {
        self.information().map(|information| ProgramId(information.id))
    }

    fn information(&self) -> io::Result<Information> {
        let mut information = Information::default();
        let mut attributes = InformationAttributes {
            program: self.0.as_raw_fd() as u32,
            bytes: size_of::<Information>() as u32,
            information: (&raw mut information).expose_provenance() as u64,
        };
        // SAFETY: the kernel writes at most the bytes given to `information`, which lives,
        // and any bytes are valid for it; its own pointers are null, with lengths of 0.
        unsafe { ask(INFORMATION, &mut attributes) }?;
        Ok(information)
    }
}

/// The tc programs that a netdev of the calling thread's network namespace runs on what it
/// receives, as far as they came by tcx; none where the kernel has no tcx (before Linux
/// 6.6).
///
/// # Errors
/// `ENODEV`: there is no such netdev; `EPERM` without CAP_NET_ADMIN; those of bpf(2).
pub fn tcx_ingress(interface: u32) -> io::Result<Vec<ProgramId>> {
    let mut ids = [0_u32; PROGRAMS_MAX];
    let mut attributes = QueryAttributes {
        interface,
        attach: ATTACH_TCX_INGRESS,
        query_flags: 0,
        attach_flags: 0,
        ids: ids.as_mut_ptr().expose_provenance() as u64,
        count: ids.len() as u32,
        reserved: 0,
        program_flags: 0,
        links: 0,
        link_flags: 0,
        revision: 0,
    };
    // SAFETY: the kernel writes at most `count` ids to where `ids` lives, and numbers into
    // the attributes; pointers that are null it leaves alone.
    match unsafe { ask(QUERY, &mut attributes) } {
        Ok(()) => Ok(ids.into_iter().take(attributes.count as usize).map(ProgramId).collect()),
        Err(error) if matches!(error.raw_os_error(), Some(libc::EINVAL | libc::ENOENT)) => {
            Ok(Vec::new())
        }
        Err(error) => Err(error),
    }
}

/// `struct bpf_prog_info` as far as it is used.
#[derive(Default)]
#[repr(C)]
struct Information {
    kind: u32,
    id: u32,
    tag: [u8; 8],
    jited_bytes: u32,
    translated_bytes: u32,
    jited: u64,
    translated: u64,
    loaded_at: u64,
    loaded_by: u32,
    map_count: u32,
    maps: u64,
    name: [u8; 16],
}

/// `union bpf_attr` for `BPF_PROG_GET_FD_BY_ID`.
#[repr(C)]
struct ByIdAttributes {
    id: u32,
    next: u32,
    flags: u32,
}

/// The same for `BPF_OBJ_GET_INFO_BY_FD`.
#[repr(C)]
struct InformationAttributes {
    program: u32,
    bytes: u32,
    information: u64,
}

/// The same for `BPF_PROG_QUERY`.
#[repr(C)]
struct QueryAttributes {
    interface: u32,
    attach: u32,
    query_flags: u32,
    attach_flags: u32,
    ids: u64,
    count: u32,
    reserved: u32,
    program_flags: u64,
    links: u64,
    link_flags: u64,
    revision: u64,
}

#[cfg(test)]
mod tests {
    use super::super::bpf::{DROP_ALL, Link};
    use super::super::netdev;
    use super::super::netns::{in_own_network_alone, ip};
    use super::super::tun::InterfaceName;
    use super::*;

    #[test]
    fn programs_are_found_and_called_by_name_until_they_go() {
        in_own_network_alone(|| {
            ip("link add a0 type veth peer name b0");
            let index = netdev::describe(InterfaceName::new("a0").unwrap()).unwrap().index;
            assert_eq!(tcx_ingress(index).unwrap(), []);
            let program = Program::drop_all().unwrap();
            let ties = [0, 1].map(|_| {
                Link::tcx_ingress(&program, index).unwrap_or_else(|_| {
                    let another = Program::drop_all().unwrap();
                    Link::tcx_ingress(&another, index).unwrap()
                })
            });
            assert_eq!(tcx_ingress(index).unwrap(), ties.each_ref().map(Link::program));
            let id = program.id().unwrap();
            assert_eq!(id.name().unwrap().as_deref(), Some(DROP_ALL));
            drop((program, ties));
            assert_eq!(tcx_ingress(index).unwrap(), []);
            let nowhere = tcx_ingress(index + 7).unwrap_err();
            assert_eq!(nowhere.raw_os_error(), Some(libc::ENODEV));
        });
    }
}
