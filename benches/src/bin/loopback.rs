//! `loopback [BURSTS]`: two guests in our own memory with the wire between them, each
//! ring layout and frame length, every received frame compared byte for byte.
//!
//! Both ends run in turn on one CPU, so times mean little; instruction counts do. Under
//! `valgrind --tool=callgrind --toggle-collect='*carry*'` the total, divided by the
//! frames printed, is what a frame costs the wire.

use hairpin_bench::wire::guest::{Guest, Rings};
use hairpin_bench::wire::worker::{Unprobed, Work, carry};
use hairpin_dataplane::frame::Batch;
use hairpin_dataplane::port::vhost_user::queue::RingKind;
use hairpin_dataplane::sys::virtqueue::{Merge, Order};
use std::error::Error;

const BURST: usize = 32;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let bursts: usize = arguments.next().map_or(Ok(1000), |count| count.parse())?;
    let only = arguments.next();
    let mut wrong = 0;
    for kind in [RingKind::Split, RingKind::Packed] {
        for (order, merge) in [
            (Order::Any, Merge::Mergeable),
            (Order::Any, Merge::Single),
            (Order::InOrder, Merge::Single),
        ] {
            for length in [60, 64, 256, 1500] {
                let name = format!("{kind:?}-{order:?}-{merge:?}-{length}");
                if only.as_ref().is_none_or(|only| *only == name) {
                    let (good, bad) = run(Rings { kind, order, merge }, length, bursts)?;
                    println!("{name}: {good} frames right, {bad} wrong");
                    wrong += bad + bursts * BURST - good;
                }
            }
        }
    }
    if wrong == 0 { Ok(()) } else { Err(format!("{wrong} frames lost or wrong").into()) }
}

/// Sends bursts from one guest to the other; says how many frames arrived right and wrong.
fn run(rings: Rings, length: usize, bursts: usize) -> Result<(usize, usize), Box<dyn Error>> {
    let (mut sender, mut from) = Guest::plug(rings)?;
    let (mut receiver, mut to) = Guest::plug(rings)?;
    let mut batch = Batch::new();
    let mut frame: Vec<u8> = (0..length).map(|at| at as u8).collect();
    let (mut good, mut bad) = (0, 0);
    for burst in 0..bursts {
        frame[6] = burst as u8;
        sender.send(&frame, BURST);
        carry(&mut from, &mut to, &mut batch, Work::Copy, &mut Unprobed);
        let (right, wrong) = receiver.receive(&frame);
        (good, bad) = (good + right, bad + wrong);
    }
    Ok((good, bad))
}
