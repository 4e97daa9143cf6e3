//! Sends frames to learned addresses through the relay, so that an instruction counter
//! tells what one costs in a table of this many. What is to be counted is
//! `switch_once`, not the choice of addresses:
//!
//! `valgrind --tool=callgrind --toggle-collect='*switch_once*' \
//! target/release/examples/learned_count ADDRESSES N`, and (count(2N) - count(N)) / N.

#[path = "../benches/relay_site/mod.rs"]
mod relay_site;

use relay_site::{BURST, Site, Work};

/// The numbers of the addresses that are learned start here.
const FIRST: u64 = 1000;
/// Strides through the addresses: a prime, so that all of them come up.
const STRIDE: u64 = 7_919;

/// A function of its own, for the counter to find.
#[inline(never)]
fn switch_once(work: &mut Work<'_>) -> usize {
    work.switch()
}

fn main() {
    let mut arguments = std::env::args().skip(1).map(|text| text.parse::<u32>());
    let (Some(Ok(addresses)), Some(Ok(frames))) = (arguments.next(), arguments.next()) else {
        eprintln!("usage: learned_count ADDRESSES FRAMES");
        std::process::exit(2);
    };
    let site = Site::learned(addresses);
    let mut work = site.work_to((0..BURST as u64).map(|number| FIRST + number));
    let mut sent = 0_u64;
    for _ in 0..(frames as usize).div_ceil(BURST) {
        let next = |index| FIRST + (sent + index) * STRIDE % u64::from(addresses);
        work.aim((0..BURST as u64).map(next));
        switch_once(&mut work);
        sent += BURST as u64;
    }
    println!("{sent} frames");
}
