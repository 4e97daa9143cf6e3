//! Memory that shrinks under us.
//!
//! A file that somebody else maps, too, may be cut short by them: touching what is gone
//! then raises SIGBUS. For mappings that are [watched](watch) the handler puts anonymous
//! memory in the place of the whole mapping, notes that it did, and lets the access go on.
//! Any other SIGBUS ends the process, as ever.
//!
//! The handler knows mappings by a table of fixed size: it may neither allocate nor lock.

use std::io;
use std::ptr::{self, NonNull};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};

/// Mappings that can be watched at a time: those of 254 guests with 128 regions each, which
/// is half of what a process may map.
pub const WATCHED_MAX: usize = 254 * 128;

/// What the handler knows of a mapping.
struct Entry {
    state: AtomicU8,
    start: AtomicUsize,
    length: AtomicUsize,
}

const FREE: u8 = 0;
/// Being entered: not to be looked at.
const CLAIMED: u8 = 1;
const WATCHED: u8 = 2;
/// Replaced.
const POISONED: u8 = 3;

static TABLE: [Entry; WATCHED_MAX] = [const {
    Entry { state: AtomicU8::new(FREE), start: AtomicUsize::new(0), length: AtomicUsize::new(0) }
}; WATCHED_MAX];

/// A mapping that is watched, until this is dropped: to be done before it is unmapped.
#[derive(Debug)]
pub(super) struct Watch(&'static Entry);

impl std::fmt::Debug for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Entry").field("state", &self.state).finish_non_exhaustive()
    }
}

/// Watches the mapping at `start`.
///
/// # Errors
/// Those of sigaction(2); `QuotaExceeded` if [`WATCHED_MAX`] are watched.
pub(super) fn watch(start: NonNull<u8>, length: usize) -> io::Result<Watch> {
    static INSTALLED: OnceLock<Result<(), i32>> = OnceLock::new();
    let installed = INSTALLED.get_or_init(install);
    installed.map_err(io::Error::from_raw_os_error)?;
    let full = "as many mappings are watched as can be";
    let entry = claim().ok_or_else(|| io::Error::new(io::ErrorKind::QuotaExceeded, full))?;
    entry.start.store(start.addr().get(), Ordering::Relaxed);
    entry.length.store(length, Ordering::Relaxed);
    entry.state.store(WATCHED, Ordering::Release);
    Ok(Watch(entry))
}

/// Claims an entry that is free, if there is one. The search goes on where the last one
/// ended, so that a table that fills up is not walked from its start for each mapping.
fn claim() -> Option<&'static Entry> {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let first = NEXT.load(Ordering::Relaxed) % WATCHED_MAX;
    let is_claimed = |entry: &Entry| {
        entry.state.load(Ordering::Relaxed) == FREE
            && entry
                .state
                .compare_exchange(FREE, CLAIMED, Ordering::Acquire, Ordering::Relaxed)
                .is_ok()
    };
    let index = (first..WATCHED_MAX).chain(0..first).find(|&index| is_claimed(&TABLE[index]))?;
    NEXT.store(index + 1, Ordering::Relaxed);
    Some(&TABLE[index])
}

impl Watch {
    /// Whether the mapping was cut short and replaced.
    pub(super) fn is_poisoned(&self) -> bool {
        self.0.state.load(Ordering::Acquire) == POISONED
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.0.state.store(FREE, Ordering::Release);
    }
}

fn install() -> Result<(), i32> {
    let handler: extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void) = on_sigbus;
    // SAFETY: zeroes are a valid sigaction; its fields are then set. The handler has the
    // signature that SA_SIGINFO asks for and does only what signal-safety(7) allows, and
    // mmap(2), which is a bare system call.
    let done = unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = handler as usize;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_RESTART;
        libc::sigemptyset(&raw mut action.sa_mask);
        libc::sigaction(libc::SIGBUS, &raw const action, ptr::null_mut())
    };
    match done {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error().raw_os_error().unwrap_or(libc::EINVAL)),
    }
}

extern "C" fn on_sigbus(_: libc::c_int, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    // SAFETY: the kernel hands a valid siginfo to a handler with SA_SIGINFO; of a SIGBUS it
    // has the address.
    let address = unsafe { (*info).si_addr() }.addr();
    let replaced = TABLE.iter().find(|entry| entry.holds(address)).is_some_and(Entry::replace);
    if !replaced {
        // SAFETY: a signal's default action is always allowed. The access is tried again
        // when this returns, and ends the process.
        unsafe { libc::signal(libc::SIGBUS, libc::SIG_DFL) };
    }
}

impl Entry {
    fn holds(&self, address: usize) -> bool {
        let state = self.state.load(Ordering::Acquire);
        let (start, length) =
            (self.start.load(Ordering::Relaxed), self.length.load(Ordering::Relaxed));
        matches!(state, WATCHED | POISONED) && address.wrapping_sub(start) < length
    }

    /// Puts anonymous memory in the mapping's place; says whether that could be done.
    fn replace(&self) -> bool {
        let at = self.start.load(Ordering::Relaxed) as *mut libc::c_void;
        let length = self.length.load(Ordering::Relaxed);
        // Before, so that nobody believes what is read there from now on.
        self.state.store(POISONED, Ordering::SeqCst);
        // SAFETY: the range is a mapping of ours that is watched, hence still mapped: who
        // touched it borrows it. Nobody holds a reference to its bytes, which others change
        // at any time.
        let mapped = unsafe {
            libc::mmap(
                at,
                length,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED | libc::MAP_NORESERVE,
                -1,
                0,
            )
        };
        mapped == at
    }
}
