//! The little of bpf(2) that ports need (`linux/bpf.h`): a program of two instructions, and
//! the link that ties it to a netdev for as long as a descriptor is open. No compiler, no
//! object file: the program is written down here, and the kernel's verifier reads it
//! before it runs.

use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// `BPF_PROG_LOAD` and `BPF_LINK_CREATE`.
const PROGRAM_LOAD: libc::c_long = 5;
const LINK_CREATE: libc::c_long = 28;

const PROGRAM_TYPE_SCHED_CLS: u32 = 3;
const ATTACH_TCX_INGRESS: u32 = 46;
/// Room for what the verifier says of a program that it refuses.
const LOG_BYTES: usize = 16 * 1024;

/// One instruction (`struct bpf_insn`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C)]
struct Instruction {
    code: u8,
    /// Destination register in the low half, source in the high half.
    registers: u8,
    offset: i16,
    immediate: i32,
}

const fn instruction(code: u8, to: u8, from: u8, offset: i16, immediate: i32) -> Instruction {
    Instruction { code, registers: from << 4 | to, offset, immediate }
}

/// `BPF_ALU64 | BPF_MOV | BPF_K`: a register gets a number.
const MOVE_NUMBER: u8 = 0xb7;
const EXIT: u8 = 0x95;
/// `TCX_DROP`.
const DROP: i32 = 2;
/// A loaded program.
#[derive(Debug)]
pub struct Program(OwnedFd);

/// A program tied to a netdev; untied when dropped, or when the process ends.
#[derive(Debug)]
pub struct Link(#[allow(dead_code, reason = "it is what keeps the program there")] OwnedFd);

impl Program {
    /// A tc program that drops every frame.
    ///
    /// # Errors
    /// `EPERM` without CAP_BPF and CAP_NET_ADMIN; those of bpf(2).
    pub fn drop_all() -> io::Result<Program> {
        let code = [instruction(MOVE_NUMBER, 0, 0, 0, DROP), instruction(EXIT, 0, 0, 0, 0)];
        Program::load(PROGRAM_TYPE_SCHED_CLS, b"hairpin_drop", &code)
    }

    fn load(kind: u32, name: &[u8], code: &[Instruction]) -> io::Result<Program> {
        let mut log = [0_u8; LOG_BYTES];
        let mut attributes = LoadAttributes {
            kind,
            count: code.len() as u32,
            code: code.as_ptr().expose_provenance() as u64,
            licence: c"MIT OR Apache-2.0".as_ptr().expose_provenance() as u64,
            log_level: 1,
            log_bytes: LOG_BYTES as u32,
            log: log.as_mut_ptr().expose_provenance() as u64,
            kernel_version: 0,
            flags: 0,
            name: [0; 16],
        };
        attributes.name[..name.len()].copy_from_slice(name);
        // SAFETY: code, licence and log live until the call has returned, each with the
        // length that is given (the licence ends with a zero).
        unsafe { bpf(PROGRAM_LOAD, &attributes) }.map(Program).map_err(|error| explain(error, &log))
    }
}

/// An error together with what the verifier said.
fn explain(error: io::Error, log: &[u8]) -> io::Error {
    let said = log.split(|&byte| byte == 0).next().unwrap_or_default();
    if said.is_empty() || error.raw_os_error() == Some(libc::EPERM) {
        return error;
    }
    io::Error::new(error.kind(), format!("{error}: {}", String::from_utf8_lossy(said).trim()))
}

impl Link {
    /// Has a netdev's ingress run a tc program, after its packet sockets have had the
    /// frame and before anybody else.
    ///
    /// # Errors
    /// `EINVAL` before Linux 6.6; those of bpf(2).
    pub fn tcx_ingress(program: &Program, interface: u32) -> io::Result<Link> {
        let attributes = LinkAttributes {
            program: program.0.as_raw_fd() as u32,
            interface,
            attach: ATTACH_TCX_INGRESS,
            flags: 0,
            relative: 0,
            reserved: 0,
            revision: 0,
        };
        // SAFETY: the attributes hold no pointer.
        unsafe { bpf(LINK_CREATE, &attributes) }.map(Link)
    }
}

/// `union bpf_attr` for `BPF_PROG_LOAD`, as far as it is used.
#[repr(C)]
struct LoadAttributes {
    kind: u32,
    count: u32,
    code: u64,
    licence: u64,
    log_level: u32,
    log_bytes: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
    name: [u8; 16],
}

/// The same for `BPF_LINK_CREATE`.
#[repr(C)]
struct LinkAttributes {
    program: u32,
    interface: u32,
    attach: u32,
    flags: u32,
    relative: u32,
    reserved: u32,
    revision: u64,
}

/// # Safety
/// The attributes are those of the command, and every pointer in them is good for it.
unsafe fn call<T>(command: libc::c_long, attributes: &T) -> io::Result<libc::c_long> {
    // SAFETY: the kernel reads the attributes, whose size is given, and what they point to
    // as the caller promises.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, command, &raw const *attributes, size_of::<T>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// # Safety
/// As for [`call`]; the command answers with a descriptor.
unsafe fn bpf<T>(command: libc::c_long, attributes: &T) -> io::Result<OwnedFd> {
    // SAFETY: passed on to the caller.
    let descriptor = unsafe { call(command, attributes) }?;
    // SAFETY: the kernel has just opened this descriptor, for us alone, close-on-exec.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor as i32) })
}
