//! Copies of a frame's bytes, by length: short ones without a call, long ones in
//! whole cache lines of the receiver.
//!
//! Source and target are memory that others write meanwhile; what is copied may be
//! some of the old and some of the new.

use std::ptr;

/// Up to this length a copy is made in line.
const SHORT: usize = 128;

/// Copies `count` bytes between ranges that do not overlap.
///
/// # Safety
/// Both ranges are valid for `count` bytes and do not overlap.
#[inline(always)]
pub(super) unsafe fn apart(from: *const u8, to: *mut u8, count: usize) {
    // SAFETY: passed on to the caller; each branch touches `count` bytes only.
    unsafe {
        // In this order a minimal frame takes two comparisons.
        if count > 64 {
            match count {
                ..=SHORT => ends::<64>(from, to, count),
                _ => ptr::copy_nonoverlapping(from, to, count),
            }
        } else if count > 32 {
            ends::<32>(from, to, count);
        } else if count >= 16 {
            ends::<16>(from, to, count);
        } else {
            ptr::copy_nonoverlapping(from, to, count);
        }
    }
}

/// Copies `count` bytes of payload. The ranges may overlap, if a guest gave one buffer
/// for both directions; the bytes that both have are then some of either.
///
/// # Safety
/// Both ranges are valid for `count` bytes.
#[inline(always)]
pub(super) unsafe fn payload(from: *const u8, to: *mut u8, count: usize) {
    // SAFETY: passed on to the caller. `ends` loads all it copies before it stores.
    unsafe {
        match count {
            65..=SHORT => ends::<64>(from, to, count),
            33..=64 => ends::<32>(from, to, count),
            0..=32 => ptr::copy(from, to, count),
            _ => long(from, to, count),
        }
    }
}

/// Copies the first and the last `N` bytes of `count`, which are all of them.
///
/// # Safety
/// Both ranges are valid for `count` bytes, and `N <= count <= 2 * N`.
#[inline(always)]
unsafe fn ends<const N: usize>(from: *const u8, to: *mut u8, count: usize) {
    // SAFETY: both pieces lie within `count` bytes. They are loaded before either
    // is stored.
    unsafe {
        let first = from.cast::<[u8; N]>().read_unaligned();
        let last = from.add(count - N).cast::<[u8; N]>().read_unaligned();
        to.cast::<[u8; N]>().write_unaligned(first);
        to.add(count - N).cast::<[u8; N]>().write_unaligned(last);
    }
}

/// Copies more than [`SHORT`] bytes with the widest registers there are.
///
/// # Safety
/// Both ranges are valid for `count` bytes.
#[inline(always)]
unsafe fn long(from: *const u8, to: *mut u8, count: usize) {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bw") {
        // SAFETY: the CPU has these instructions; the ranges are the caller's.
        unsafe { lines(from, to, count) };
        return;
    }
    // SAFETY: as the caller promises.
    unsafe { ptr::copy(from, to, count) }
}

/// Copies so that every store but the first and the last fills a cache line of the
/// receiver's: no line is written in two halves.
///
/// # Safety
/// Both ranges are valid for `count` bytes; the CPU has AVX-512 F and BW.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw")]
unsafe fn lines(from: *const u8, to: *mut u8, count: usize) {
    use std::arch::x86_64::{
        _mm512_loadu_si512, _mm512_mask_storeu_epi8, _mm512_maskz_loadu_epi8, _mm512_store_si512,
    };
    const LINE: usize = 64;
    let first = to.align_offset(LINE).min(count);
    let whole = first + (count - first) / LINE * LINE;
    let part = |at: usize, length: usize| {
        let mask = (1_u64 << length) - 1;
        // SAFETY: the mask holds the access to `length` (less than LINE) bytes from
        // `at`, which the caller's ranges have.
        unsafe {
            let bytes = _mm512_maskz_loadu_epi8(mask, from.add(at).cast());
            _mm512_mask_storeu_epi8(to.add(at).cast(), mask, bytes);
        }
    };
    part(0, first);
    for at in (first..whole).step_by(LINE) {
        // SAFETY: a whole line lies between `at` and `whole`, and `to + first` begins
        // one.
        unsafe {
            _mm512_store_si512(to.add(at).cast(), _mm512_loadu_si512(from.add(at).cast()));
        }
    }
    part(whole, count - whole);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_length_and_offset_is_copied_whole_and_no_more() {
        let from: Vec<u8> = (0..2048_usize).map(|at| (at * 7 + at / 256) as u8 | 1).collect();
        for count in (0..300).chain([511, 512, 1372, 1514]) {
            for offset in [0, 1, 12, 63, 64] {
                let mut to = vec![0; 2048];
                let mut other = vec![0; 2048];
                // SAFETY: both vectors have more than offset + count bytes.
                unsafe {
                    payload(from.as_ptr(), to.as_mut_ptr().add(offset), count);
                    apart(from.as_ptr(), other.as_mut_ptr().add(offset), count);
                }
                assert_eq!(to[offset..offset + count], from[..count]);
                assert!(to[..offset].iter().chain(&to[offset + count..]).all(|byte| *byte == 0));
                assert_eq!(to, other);
            }
        }
    }
}
