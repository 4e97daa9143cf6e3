//! The little of bpf(2) that ports need (`linux/bpf.h`): programs of a few instructions,
//! a map of AF_XDP sockets, and links that tie a program to a netdev for as long as a
//! descriptor is open. No compiler, no object files: the programs are written down here,
//! instruction by instruction, and the kernel's verifier reads each before it runs.

use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use super::programs::ProgramId;

/// `BPF_MAP_CREATE` and so on.
const MAP_CREATE: libc::c_long = 0;
const MAP_UPDATE: libc::c_long = 2;
const PROGRAM_LOAD: libc::c_long = 5;
const LINK_CREATE: libc::c_long = 28;

const MAP_TYPE_XSKMAP: u32 = 17;
const PROGRAM_TYPE_SCHED_CLS: u32 = 3;
const PROGRAM_TYPE_XDP: u32 = 6;
const ATTACH_XDP: u32 = 37;
pub(super) const ATTACH_TCX_INGRESS: u32 = 46;
/// `BPF_F_XDP_HAS_FRAGS`: the program takes frames of several buffers.
const XDP_HAS_FRAGS: u32 = 1 << 5;
/// `XDP_FLAGS_SKB_MODE` and `XDP_FLAGS_DRV_MODE` (`linux/if_link.h`).
const XDP_GENERIC: u32 = 1 << 1;
const XDP_DRIVER: u32 = 1 << 2;
/// Room for what the verifier says of a program that it refuses.
const LOG_BYTES: usize = 16 * 1024;

/// What [`Program::drop_all`] is called, by which others know it.
pub const DROP_ALL: &str = "hairpin_drop";
/// The same of [`Program::to_sockets`].
pub const TO_SOCKETS: &str = "hairpin_xsk";

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
/// `BPF_LDX | BPF_MEM | BPF_W`: a register gets a word from memory.
const LOAD_WORD: u8 = 0x61;
/// `BPF_LD | BPF_IMM | BPF_DW`: a register gets a 64-bit number, in two instructions.
const LOAD_LONG: u8 = 0x18;
/// The source register that makes the long number a map's descriptor.
const PSEUDO_MAP: u8 = 1;
const CALL: u8 = 0x85;
const EXIT: u8 = 0x95;
/// `bpf_redirect_map`.
const REDIRECT_MAP: i32 = 51;
/// `TCX_DROP`.
const DROP: i32 = 2;
/// `XDP_PASS`: what a frame of a queue without a socket meets.
const PASS: i32 = 2;
/// Where `rx_queue_index` stands in `struct xdp_md`.
const QUEUE_INDEX_AT: i16 = 16;

/// Which part of the kernel runs an XDP program.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum XdpMode {
    /// The netdev's driver.
    Driver,
    /// The stack, once it has made a socket buffer of the frame: generic XDP.
    Generic,
}

/// A loaded program.
#[derive(Debug)]
pub struct Program(pub(super) OwnedFd);

/// A program tied to a netdev; untied when dropped, or when the process ends.
#[derive(Debug)]
pub struct Link {
    #[allow(dead_code, reason = "it is what keeps the program there")]
    fd: OwnedFd,
    program: ProgramId,
}

/// A map from a receive queue's index to the AF_XDP socket that gets its frames.
#[derive(Debug)]
pub struct SocketMap(OwnedFd);

impl Program {
    /// A tc program that drops every frame.
    ///
    /// # Errors
    /// `EPERM` without CAP_BPF and CAP_NET_ADMIN; those of bpf(2).
    pub fn drop_all() -> io::Result<Program> {
        let code = [instruction(MOVE_NUMBER, 0, 0, 0, DROP), instruction(EXIT, 0, 0, 0, 0)];
        Program::load(PROGRAM_TYPE_SCHED_CLS, 0, 0, DROP_ALL, &code)
    }

    /// An XDP program that gives each frame to the socket of its receive queue, and lets
    /// it pass to the stack where there is none.
    ///
    /// # Errors
    /// As for [`Program::drop_all`].
    pub fn to_sockets(map: &SocketMap) -> io::Result<Program> {
        let code = [
            instruction(LOAD_WORD, 2, 1, QUEUE_INDEX_AT, 0),
            instruction(LOAD_LONG, 1, PSEUDO_MAP, 0, map.0.as_raw_fd()),
            instruction(0, 0, 0, 0, 0),
            instruction(MOVE_NUMBER, 3, 0, 0, PASS),
            instruction(CALL, 0, 0, 0, REDIRECT_MAP),
            instruction(EXIT, 0, 0, 0, 0),
        ];
        Program::load(PROGRAM_TYPE_XDP, ATTACH_XDP, XDP_HAS_FRAGS, TO_SOCKETS, &code)
    }

    fn load(
        kind: u32,
        attach: u32,
        flags: u32,
        name: &str,
        code: &[Instruction],
    ) -> io::Result<Program> {
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
            flags,
            name: [0; 16],
            interface: 0,
            attach,
        };
        attributes.name[..name.len()].copy_from_slice(name.as_bytes());
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
        Link::create(program, interface, ATTACH_TCX_INGRESS, 0)
    }

    /// Has a netdev run an XDP program.
    ///
    /// # Errors
    /// `EBUSY`: it runs one already; `EOPNOTSUPP`: its driver has none; `ERANGE`: its MTU
    /// is too large for the driver's.
    pub fn xdp(program: &Program, interface: u32, mode: XdpMode) -> io::Result<Link> {
        let flags = match mode {
            XdpMode::Driver => XDP_DRIVER,
            XdpMode::Generic => XDP_GENERIC,
        };
        Link::create(program, interface, ATTACH_XDP, flags)
    }

    fn create(program: &Program, interface: u32, attach: u32, flags: u32) -> io::Result<Link> {
        let attributes = LinkAttributes {
            program: program.0.as_raw_fd() as u32,
            interface,
            attach,
            flags,
            relative: 0,
            reserved: 0,
            revision: 0,
        };
        let program = program.id()?;
        // SAFETY: the attributes hold no pointer.
        let fd = unsafe { bpf(LINK_CREATE, &attributes) }?;
        Ok(Link { fd, program })
    }

    /// What the kernel calls the program that it ties.
    #[must_use]
    pub fn program(&self) -> ProgramId {
        self.program
    }
}

impl SocketMap {
    /// A map for this many receive queues.
    ///
    /// # Errors
    /// Those of bpf(2).
    pub fn new(queues: u32) -> io::Result<SocketMap> {
        let attributes = MapAttributes {
            kind: MAP_TYPE_XSKMAP,
            key_bytes: 4,
            value_bytes: 4,
            entries: queues,
            flags: 0,
        };
        // SAFETY: the attributes hold no pointer.
        unsafe { bpf(MAP_CREATE, &attributes) }.map(SocketMap)
    }

    /// Gives a queue's frames to a socket.
    ///
    /// # Errors
    /// Those of bpf(2): the socket must be bound, the queue below the map's size.
    pub fn set(&self, queue: u32, socket: BorrowedFd<'_>) -> io::Result<()> {
        let value = socket.as_raw_fd() as u32;
        let attributes = self.element(&queue, &value);
        // SAFETY: key and value live until the call has returned, four bytes each.
        unsafe { bpf_status(MAP_UPDATE, &attributes) }
    }

    fn element(&self, key: &u32, value: &u32) -> ElementAttributes {
        ElementAttributes {
            map: self.0.as_raw_fd() as u32,
            reserved: 0,
            key: (&raw const *key).expose_provenance() as u64,
            value: (&raw const *value).expose_provenance() as u64,
            flags: 0,
        }
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
    interface: u32,
    attach: u32,
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

/// The same for `BPF_MAP_CREATE`.
#[repr(C)]
struct MapAttributes {
    kind: u32,
    key_bytes: u32,
    value_bytes: u32,
    entries: u32,
    flags: u32,
}

/// The same for `BPF_MAP_*_ELEM`.
#[repr(C)]
struct ElementAttributes {
    map: u32,
    reserved: u32,
    key: u64,
    value: u64,
    flags: u64,
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
/// As for [`call`]; what the kernel writes into the attributes leaves them valid.
pub(super) unsafe fn ask<T>(command: libc::c_long, attributes: &mut T) -> io::Result<()> {
    // SAFETY: the kernel reads and writes the attributes, whose size is given, and what they
    // point to as the caller promises.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, command, &raw mut *attributes, size_of::<T>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// # Safety
/// As for [`call`]; the command answers with a descriptor.
pub(super) unsafe fn bpf<T>(command: libc::c_long, attributes: &T) -> io::Result<OwnedFd> {
    // SAFETY: passed on to the caller.
    let descriptor = unsafe { call(command, attributes) }?;
    // SAFETY: the kernel has just opened this descriptor, for us alone, close-on-exec.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor as i32) })
}

/// # Safety
/// As for [`call`].
unsafe fn bpf_status<T>(command: libc::c_long, attributes: &T) -> io::Result<()> {
    // SAFETY: passed on to the caller.
    unsafe { call(command, attributes) }.map(|_| ())
}
