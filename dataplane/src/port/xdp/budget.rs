//! The frames of a queue that may be on their way out.

use super::{RECEIVE_FRAMES, TRANSMIT_FRAMES};
use crate::sys::xdp::FRAME_BYTES;

/// Who has a transmit frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Holder {
    Us,
    Kernel,
}

/// Transmit frames: they lie behind the receive frames of the UMEM. Whatever the kernel
/// says, none is given out twice at once.
#[derive(Debug)]
pub(super) struct Budget {
    /// Numbers of those we have. The last one given back goes out first: it is warm.
    ours: Vec<u16>,
    holders: Box<[Holder]>,
}

const _: () = assert!(TRANSMIT_FRAMES <= 1 << u16::BITS);

impl Budget {
    /// All of them ours.
    pub(super) fn new() -> Budget {
        let holders = vec![Holder::Us; TRANSMIT_FRAMES as usize].into_boxed_slice();
        Budget { ours: (0..TRANSMIT_FRAMES as u16).rev().collect(), holders }
    }

    /// Those that may be sent now.
    #[inline]
    pub(super) fn count(&self) -> usize {
        self.ours.len()
    }

    /// The address of one that is to be sent; it is the kernel's then.
    #[inline]
    pub(super) fn take(&mut self) -> Option<u64> {
        let number = self.ours.pop()?;
        self.holders[usize::from(number)] = Holder::Kernel;
        Some(u64::from(RECEIVE_FRAMES + u32::from(number)) * u64::from(FRAME_BYTES))
    }

    /// One that came back. An address that is in none of the kernel's is passed over.
    #[inline]
    pub(super) fn give_back(&mut self, address: u64) {
        let number = (address / u64::from(FRAME_BYTES)).checked_sub(RECEIVE_FRAMES.into());
        let number = number.and_then(|number| u16::try_from(number).ok());
        let holder =
            number.and_then(|number| Some((number, self.holders.get_mut(usize::from(number))?)));
        if let Some((number, holder)) = holder
            && *holder == Holder::Kernel
        {
            *holder = Holder::Us;
            self.ours.push(number);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_frame_is_out_twice_whatever_comes_back() {
        let mut budget = Budget::new();
        let all: BTreeSet<u64> = std::iter::from_fn(|| budget.take()).collect();
        assert_eq!((all.len(), budget.count()), (TRANSMIT_FRAMES as usize, 0));
        let (first, last) = (*all.first().unwrap(), *all.last().unwrap());
        assert_eq!(first, u64::from(RECEIVE_FRAMES * FRAME_BYTES));
        for nonsense in [0, first - 1, last + u64::from(FRAME_BYTES), u64::MAX] {
            budget.give_back(nonsense);
        }
        assert_eq!(budget.count(), 0);
        // Anywhere within the frame; twice is once.
        budget.give_back(last + 100);
        budget.give_back(last);
        assert_eq!(budget.count(), 1);
        assert_eq!((budget.take(), budget.take()), (Some(last), None));
    }
}
