//! Sends frames through the relay and does nothing else, so that an instruction
//! counter tells what one costs: (count(2N) - count(N)) / N, for instance with
//! `valgrind --tool=callgrind target/release/examples/relay_count N`.

#[path = "../benches/relay_site/mod.rs"]
mod relay_site;

use relay_site::{BURST, Site};

fn main() {
    let frames: usize = match std::env::args().nth(1).map(|text| text.parse()) {
        Some(Ok(frames)) => frames,
        _ => {
            eprintln!("usage: relay_count FRAMES");
            std::process::exit(2);
        }
    };
    let site = Site::registered();
    let mut work = site.work();
    let sent: usize = (0..frames.div_ceil(BURST)).map(|_| work.switch()).sum();
    assert_eq!(sent, frames.div_ceil(BURST) * BURST, "every frame is delivered");
    println!("{sent} frames");
}
