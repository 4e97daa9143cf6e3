//! What a neighbour can do to two ports that mind their own business.

use std::time::Duration;

use super::meanwhile::Meanwhile;
use super::{Figure, Method, Needs, Taken, bound_of, lane, missed_share, switch_loss};
use crate::error::{Result, RigError};
use crate::suite::bench::Bench;
use crate::suite::frame::{FLOWS_MAX, Size, Stations, Stream};
use crate::suite::joint::Lane;
use crate::suite::pace::Pace;
use crate::suite::record::Better;
use crate::suite::scenario::Kind;
use crate::suite::site::{Ending, Site};
use crate::suite::trial::{Load, Outcome};
use hairpin_dataplane::wire::Mac;

/// The neighbour, and whom it floods.
const NEIGHBOUR: usize = 2;
const OTHER: usize = 3;
/// Of PDR, what the victims exchange.
const VICTIM_SHARE: f64 = 0.5;
/// Of PDR, what the neighbour sends: with the victims' too much for a switch with one CPU.
const NEIGHBOUR_SHARE: f64 = 1.0;
/// Its ring to transmit by, and how far beyond what is used it claims to be.
const TRANSMIT: usize = 1;
const BEYOND: u16 = 0x8000;
/// The first of the addresses that the neighbour makes up.
const SPRAYED: Mac = Mac::new([0x52, 0x54, 0x80, 0, 0, 0]);

/// See [`Method`].
pub const METHOD: Method = Method {
    name: "isolation",
    explanation: [
        "Two ports at half of PDR beside one that floods, broadcasts, makes addresses",
        "up, corrupts its ring, or is silent: what they lose, and their p99.",
    ],
    needs: Needs { ports: 4, kinds: &[Kind::Vm] },
    take,
};

/// What the neighbour does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Conduct {
    Silent,
    Floods,
    Broadcasts,
    Sprays,
    Corrupts,
}

impl Conduct {
    const ALL: [(Conduct, &'static str); 5] = [
        (Conduct::Silent, "silent"),
        (Conduct::Floods, "flooding"),
        (Conduct::Broadcasts, "broadcasting"),
        (Conduct::Sprays, "address-spraying"),
        // The last: the switch is started again after it.
        (Conduct::Corrupts, "ring-corrupting"),
    ];

    /// What it sends.
    fn lane(self, site: &Site, frames_per_second: f64) -> Option<Lane> {
        let flood = site.stream_between(NEIGHBOUR, OTHER, 64);
        let stream = match self {
            Conduct::Silent | Conduct::Corrupts => return None,
            Conduct::Floods => flood,
            Conduct::Broadcasts => {
                Stream { destination: Mac::new([0xff; 6]).into(), size: Size::Fixed(64), ..flood }
            }
            Conduct::Sprays => {
                let source = Stations { first: SPRAYED, count: FLOWS_MAX };
                Stream { source, flows: FLOWS_MAX, ..flood }
            }
        };
        let load = Load::Open(Pace { frames_per_second });
        // The fourth port takes what it gets; nobody keeps an account of it.
        Some(Lane { stream, load, from: NEIGHBOUR, to: vec![OTHER] })
    }
}

/// The same while the neighbour's driver claims, a thousand times a second, to have made more
/// buffers available than its ring has; the switch is started again afterwards.
fn beside_corruption(
    bench: &mut Bench,
    site: &mut Site,
    lanes: &[Lane],
) -> Result<Vec<Vec<Outcome>>> {
    let neighbour = site.ports[NEIGHBOUR].vm();
    let neighbour = neighbour.ok_or_else(|| RigError::new("only VMs have rings to corrupt"))?;
    let ring = neighbour.hostile().ring(TRANSMIT);
    let corrupting = Meanwhile::start(move || {
        ring.set_available(ring.used().wrapping_add(BEYOND));
        ring.kick();
        std::thread::sleep(Duration::from_millis(1));
        Ok(())
    });
    let outcomes = bench.jointly(site, lanes);
    corrupting.stop()?;
    site.reset(Ending::Asked)?;
    outcomes
}

fn take(bench: &mut Bench, site: &mut Site, bytes: usize) -> Result<Taken> {
    let highest = bench.partial(site, bytes)?;
    let mut figures = Vec::new();
    for (conduct, name) in Conduct::ALL {
        let path = site.scenario.path;
        let stream = site.stream_between(path.0, path.1, bytes);
        let victims = lane(stream, path, VICTIM_SHARE * highest);
        let neighbour = conduct.lane(site, NEIGHBOUR_SHARE * highest);
        let lanes: Vec<Lane> = [victims].into_iter().chain(neighbour).collect();
        let outcomes = match conduct {
            Conduct::Corrupts => beside_corruption(bench, site, &lanes)?,
            _ => bench.jointly(site, &lanes)?,
        };
        let bound = bound_of(missed_share(outcomes.iter().flatten()));
        for victim in &outcomes[0] {
            let loss = 100.0 * switch_loss(victim);
            let metric = format!("loss, neighbour {name}");
            figures.push(Figure::new(&metric, "%", Better::Lower, loss).bounded(bound));
            let Some(ns) = victim.latency.quantile(0.99) else { continue };
            let (metric, us) = (format!("latency p99, neighbour {name}"), ns as f64 / 1000.0);
            figures.push(Figure::new(&metric, "µs", Better::Lower, us).bounded(bound));
        }
    }
    Ok(figures.into())
}
