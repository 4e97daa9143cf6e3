//! Hints about cache lines: asked for before they are needed, handed on once they are
//! written. They never fault and change nothing but timing.

/// Bytes of a cache line.
pub(super) const LINE: usize = 64;

/// Brings the line of this address near, to be read.
#[inline(always)]
pub(super) fn to_read(at: *const u8) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a prefetch may be given any address.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(at.cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = at;
}

/// Brings the line of this address near and takes it from other CPUs, to be written.
#[inline(always)]
pub(super) fn to_write(at: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: PREFETCHW may be given any address; CPUs that lack it do nothing.
    unsafe {
        std::arch::asm!("prefetchw [{at}]", at = in(reg) at,
            options(nostack, preserves_flags, readonly));
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = at;
}

/// Moves the line of this address, which was just written, from this CPU's own caches
/// to the shared one, where its next reader finds it sooner.
#[inline(always)]
pub(super) fn hand_on(at: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: CLDEMOTE may be given any address; CPUs that lack it do nothing, its
    // encoding being one of the reserved no-operations.
    unsafe {
        std::arch::asm!("cldemote [{at}]", at = in(reg) at,
            options(nostack, preserves_flags, readonly));
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = at;
}

/// Addresses in each line of the bytes `from..to` behind an address.
#[inline(always)]
pub(super) fn lines(at: *const u8, from: usize, to: usize) -> impl Iterator<Item = *const u8> {
    // Frames begin anywhere in a line: a short one may well end in the next.
    let before = at.addr() % LINE;
    let first = (before + from) / LINE * LINE;
    (first..before + to)
        .step_by(LINE)
        .map(move |offset| at.wrapping_sub(before).wrapping_add(offset))
}

/// Asks for the line that holds the value's first byte, to be read soon.
#[inline(always)]
pub fn prefetch_read<T>(value: &T) {
    to_read(std::ptr::from_ref(value).cast());
}
