//! A driver at both rings of a queue pair: first honest, then as bad as it likes.
//!
//! An input is 4 bytes for the features, the ring's size and where it begins, then
//! operations: a byte for which, and what that takes. As long as the driver did nothing
//! wrong:
//!
//! * frames are found in the order they were sent, byte for byte, or rejected for what is
//!   wrong with them;
//! * a descriptor comes back once, after it was released, and in the end all have;
//! * whoever went to sleep is woken.
//!
//! Whatever it did: nothing panics, what is found lies in memory and is bounded, and a split
//! ring gives back as many chains as it took.

mod bed;
mod hostile;
mod received;
mod sent;

use hairpin_dataplane::port::vhost_user::queue::RingKind;
use hairpin_dataplane::sys::virtqueue::Terms;
use hairpin_dataplane::sys::virtqueue::driver::{PackedDriver, SplitDriver};

use super::input::Input;
use bed::{Bed, Plan};

/// Operations in an input.
const OPERATIONS_MAX: usize = 256;

/// Does what an input says on split rings.
///
/// # Panics
/// If what is promised does not hold.
pub fn split(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let plan = Plan::draw(RingKind::Split, &mut input);
    let driver = |terms: &Terms| {
        let driver = SplitDriver::new(&plan.memory, terms.layout, terms.order);
        driver.expect("the ring lies in memory").from_position(terms.position, terms.wishes)
    };
    Bed::new(&plan, driver).run(&mut input);
}

/// The same on packed rings.
///
/// # Panics
/// As for [`split`].
pub fn packed(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let plan = Plan::draw(RingKind::Packed, &mut input);
    let driver = |terms: &Terms| {
        let driver = PackedDriver::new(&plan.memory, terms.layout, terms.order);
        let driver = driver.expect("the ring lies in memory");
        driver.from_position(terms.position, terms.wishes).expect("the ring begins within it")
    };
    Bed::new(&plan, driver).run(&mut input);
}
