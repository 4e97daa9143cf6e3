//! Large tables on huge pages, where the kernel has any.

use std::mem;

use rustix::mm::Advice;

/// A huge page of x86-64; advice about less is not worth a system call.
const HUGE_PAGE_BYTES: usize = 2 << 20;
/// madvise(2) wants its start on a page.
const PAGE_BYTES: usize = 4096;

/// A slice of `count` values, each made by `make`, for which huge pages are
/// asked before it is first touched. Without them it is an ordinary one.
pub fn filled<T>(count: usize, make: impl FnMut() -> T) -> Box<[T]> {
    let mut values = Vec::with_capacity(count);
    advise(values.spare_capacity_mut());
    values.resize_with(count, make);
    values.into_boxed_slice()
}

fn advise<T>(values: &mut [mem::MaybeUninit<T>]) {
    let bytes = size_of_val(values);
    let start = values.as_mut_ptr().cast::<u8>();
    let skip = start.align_offset(PAGE_BYTES);
    if bytes < HUGE_PAGE_BYTES || skip >= bytes {
        return;
    }
    let whole_pages = (bytes - skip) / PAGE_BYTES * PAGE_BYTES;
    // SAFETY: the range lies within the borrowed slice, and MADV_HUGEPAGE changes
    // how it is backed, never what it holds. A refusal leaves ordinary pages.
    let _ =
        unsafe { rustix::mm::madvise(start.add(skip).cast(), whole_pages, Advice::LinuxHugepage) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_larger_than_a_huge_page_is_filled_in_order() {
        let mut next = 0_u64;
        let table = filled(HUGE_PAGE_BYTES, || {
            next += 1;
            next
        });
        assert_eq!(table.len(), HUGE_PAGE_BYTES);
        assert!(table.iter().zip(1..).all(|(&value, expected)| value == expected));
    }
}
