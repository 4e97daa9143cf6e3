//! `vhost_count LAYOUT BYTES FRAMES`: sends frames from one vhost-user port to another in
//! bursts of 32, so that an instruction counter tells what a whole breath costs per frame.
//! The guests are in our own memory and take complete frames only, as DPDK's do. LAYOUT is
//! `split`, `packed` or `packed-inorder`. What is to be counted is `breathe_once`:
//!
//! `valgrind --tool=callgrind --toggle-collect='*breathe_once*' \
//! target/release/vhost_count packed-inorder 64 N`, and (count(2N) - count(N)) / N.

#[path = "../../../dataplane/tests/wiring/mod.rs"]
mod wiring;

use std::error::Error;
use std::process::ExitCode;

use hairpin_bench::wire::guest::{Guest, Rings};
use hairpin_dataplane::port::Opened;
use hairpin_dataplane::port::vhost_user::queue::{NetHeaders, RingKind};
use hairpin_dataplane::port::vhost_user::ring::{RingHost, RingIndex, Service, Start};
use hairpin_dataplane::port::vhost_user::{Host, open};
use hairpin_dataplane::sys::virtqueue::{Merge, Order, Terms};
use hairpin_dataplane::wire::offload::Capabilities;
use wiring::{Wiring, frame, mac, topology};

const BURST: usize = 32;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [layout, bytes, frames] = &arguments[..] else {
        eprintln!("usage: vhost_count split|packed|packed-inorder BYTES FRAMES");
        return ExitCode::from(2);
    };
    match count(layout, bytes, frames) {
        Ok(delivered) => {
            println!("{delivered} frames");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("vhost_count: {error}");
            ExitCode::FAILURE
        }
    }
}

/// A function of its own, for the counter to find.
#[inline(never)]
fn breathe_once(wiring: &mut Wiring) -> usize {
    wiring.breathe()
}

fn count(layout: &str, bytes: &str, frames: &str) -> Result<usize, Box<dyn Error>> {
    let (bytes, frames): (usize, usize) = (bytes.parse()?, frames.parse()?);
    let rings = rings(layout)?;
    let (mut sender, first, _sender) = plug(rings)?;
    let (mut receiver, second, _receiver) = plug(rings)?;
    let mut wiring = Wiring::over(vec![first, second], topology);
    let sent = frame(0, mac(1), bytes);
    let mut delivered = 0;
    for _ in 0..frames.div_ceil(BURST) {
        sender.send(&sent, BURST);
        if breathe_once(&mut wiring) != BURST {
            return Err("a breath did not take the burst".into());
        }
        let (right, wrong) = receiver.receive(&sent);
        if (right, wrong) != (BURST, 0) {
            return Err(format!("of {BURST} frames {right} came, and {wrong} wrong ones").into());
        }
        delivered += right;
    }
    Ok(delivered)
}

fn rings(layout: &str) -> Result<Rings, String> {
    let (kind, order, merge) = match layout {
        "split" => (RingKind::Split, Order::Any, Merge::Mergeable),
        "packed" => (RingKind::Packed, Order::Any, Merge::Mergeable),
        "packed-inorder" => (RingKind::Packed, Order::InOrder, Merge::Single),
        _ => return Err(format!("{layout:?} is no layout (see usage)")),
    };
    Ok(Rings { kind, order, merge })
}

/// A guest, the port that it is plugged into, and what keeps its rings running.
fn plug(rings: Rings) -> Result<(Guest, Opened, Host), Box<dyn Error>> {
    let (guest, terms) = Guest::new(rings)?;
    let (opened, mut host) = open(1)?;
    for (index, terms) in RingIndex::all(1).zip(terms) {
        host.start(index, start(rings.kind, terms))?;
    }
    Ok((guest, opened, host))
}

fn start(kind: RingKind, terms: Terms) -> Start {
    let (service, headers, accepts) = (Service::Enabled, NetHeaders::Read, Capabilities::NONE);
    Start { kind, terms, service, headers, accepts, kick: None, call: None }
}
