//! The self-test, before anything is measured: what generator and receiver do without a switch.
//!
//! * `straight`: from the generator's hand into the receiver's. No switch lets more through.
//! * `rings`: between two VMs whose rings a thread of ours moves, on the switch's CPU, that looks
//!   at no frame ([`crate::wire`]). Where the generator hardly waits for it, this is what it can do
//!   with rings; else it is what the wire can.

use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex};

use vhost::vhost_user::BackendReqHandler;

use super::bench::Bench;
use super::methods::forwarding;
use super::record::{Better, Bound, Parameters, Record, Sample};
use crate::error::{Context, Result};
use crate::front_end::{self, Connection, FrontEnd, Layout};
use crate::gauge::Gauge;
use crate::statistics::{median, median_interval};
use crate::testpmd::{GENERATOR_CPU, WIRE_CPU};
use crate::wire::device::{self, Device};
use crate::wire::site::Site;
use crate::wire::worker::Work;

/// VMs at a time.
const VMS: usize = 2;
/// Trials of each kind.
const TRIALS: usize = 3;

/// Does the self-test with frames of these lengths; the ports' rings are laid out so.
///
/// # Errors
/// If a frame is lost or altered where none can be.
pub fn records(bench: &mut Bench, layout: Layout, sizes: &[usize]) -> Result<Vec<Record>> {
    let mut ports = ports(layout)?;
    let mut records = Vec::new();
    let mut gauge = Gauge::new(GENERATOR_CPU, WIRE_CPU)?;
    for &bytes in sizes {
        let size = ("size".to_owned(), bytes.to_string());
        let straight = (0..TRIALS).map(|_| bench.ceiling(bytes).map(|rate| (rate, 0.0)));
        let straight = straight.collect::<Result<Vec<_>>>()?;
        records.extend(record("straight", [size.clone()].into(), &straight));
        gauge.since()?;
        let rings = (0..TRIALS).map(|_| bench.forwarding_between(&mut ports, bytes));
        let rings = rings.collect::<Result<Vec<_>>>()?;
        let cores = ("cores".to_owned(), gauge.since()?.to_string());
        records.extend(record("rings", [size, cores].into(), &rings));
    }
    Ok(records)
}

/// Huge pages that it takes.
#[must_use]
pub fn pages(layout: Layout) -> u64 {
    VMS as u64 * front_end::huge_pages(&layout)
}

/// Rates, each with the share of the time in which the generator waited.
fn record(scenario: &str, parameters: Parameters, rates: &[(f64, f64)]) -> Option<Record> {
    let values: Vec<f64> = rates.iter().map(|&(rate, _)| rate).collect();
    let own = rates.iter().all(|&(_, waited)| waited < forwarding::WAITING_SHARE);
    Some(Record::Sample(Sample {
        test: "self-test".to_owned(),
        scenario: scenario.to_owned(),
        peer: "generator".to_owned(),
        parameters,
        metric: "ceiling".to_owned(),
        unit: "frames/s".to_owned(),
        better: Better::Neither,
        median: median(&values)?,
        interval: median_interval(&values)?,
        values,
        bound: if own { Bound::Generator } else { Bound::None },
    }))
}

/// Two VMs with our own wire between them, which ends with them.
fn ports(layout: Layout) -> Result<[FrontEnd; VMS]> {
    let site = Site::silent(WIRE_CPU, Work::Copy);
    Ok([port(0, &site, layout)?, port(1, &site, layout)?])
}

fn port(index: usize, site: &Arc<Site>, layout: Layout) -> Result<FrontEnd> {
    let (ours, theirs) = UnixStream::pair().context("a pair of sockets")?;
    let device = Arc::new(Mutex::new(Device::new(index, Arc::clone(site))));
    let handler = BackendReqHandler::from_stream(theirs, Arc::clone(&device));
    std::thread::spawn(move || device::serve("the self-test's wire", handler, &device));
    let connection = Connection::new(ours).context("a pair of sockets")?;
    FrontEnd::over(connection, layout).context("a VM of the self-test")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::suite::bench::Profile;

    #[test]
    fn each_length_is_tried_straight_and_by_rings() {
        // Long enough that the wire's thread has its turn on a busy machine, too.
        let mut bench = Bench::new(Profile { trial_ns: 1_000_000_000, ..Profile::QUICK });
        let layout = Layout { entries: 1024, ..Layout::SPLIT };
        let records = records(&mut bench, layout, &[64, 1518]).unwrap();
        let shown = records.iter().map(|record| match record {
            Record::Sample(sample) => (&sample.scenario[..], &sample.parameters["size"][..]),
            other => panic!("{other:?}"),
        });
        let expected =
            [("straight", "64"), ("rings", "64"), ("straight", "1518"), ("rings", "1518")];
        assert_eq!(shown.collect::<Vec<_>>(), expected);
    }
}
