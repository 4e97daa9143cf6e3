//! Sends 64 KiB frames of TCP from one memory port to another that takes no offloads, so
//! that an instruction counter tells what a breath costs in which software cuts and
//! sums. What is to be counted is `breathe_once`, not the guests:
//!
//! `valgrind --tool=callgrind --toggle-collect='*breathe_once*' \
//! target/release/examples/segment_count N`, and (count(2N) - count(N)) / N.

#[path = "../benches/tcp/mod.rs"]
mod tcp;
#[path = "../tests/wiring/mod.rs"]
mod wiring;

use hairpin_dataplane::port::memory;
use hairpin_dataplane::wire::layout::Network;
use hairpin_dataplane::wire::offload::Capabilities;
use tcp::{SEGMENTS, Tcp};
use wiring::{Wiring, mac, plain};

/// A function of its own, for the counter to find.
#[inline(never)]
fn breathe_once(wiring: &mut Wiring) -> usize {
    wiring.breathe()
}

fn main() {
    let Some(Ok(frames)) = std::env::args().nth(1).map(|text| text.parse::<usize>()) else {
        eprintln!("usage: segment_count FRAMES");
        std::process::exit(2);
    };
    let open = |number| {
        let capabilities = if number == 1 { Capabilities::NONE } else { Capabilities::ALL };
        plain(memory::Config { capabilities, ..memory::Config::default() })
    };
    let mut wiring = Wiring::with(2, open);
    let frame = Tcp::to_cut(Network::Ipv4, [mac(1), mac(0)]);
    let mut received = Vec::with_capacity(frame.bytes.len());
    for _ in 0..frames {
        wiring.endpoints[0].send(&frame.bytes, frame.offload).expect("a frame fits into the ring");
        assert_eq!(breathe_once(&mut wiring), 1, "a breath takes the frame");
        let segments = std::iter::from_fn(|| wiring.endpoints[1].receive(&mut received)).count();
        assert_eq!(segments, SEGMENTS, "every segment is delivered");
    }
    println!("{frames} frames");
}
