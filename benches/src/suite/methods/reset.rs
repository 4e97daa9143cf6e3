//! For how long nothing passes when a switch is restarted (RFC 6201).

use std::time::Duration;

use super::{Figure, Method, Needs, Taken};
use crate::error::Result;
use crate::suite::bench::Bench;
use crate::suite::record::Better;
use crate::suite::site::{Ending, Site};

/// See [`Method`].
pub const METHOD: Method = Method {
    name: "reset",
    explanation: [
        "From SIGTERM, and from SIGKILL, to a switch that is started again at once to",
        "the first frame from VM to VM, which connect anew (RFC 6201, timestamps).",
    ],
    needs: Needs::vms(0),
    take,
};

fn take(_: &mut Bench, site: &mut Site, _: usize) -> Result<Taken> {
    let endings = [(Ending::Asked, "restart"), (Ending::Killed, "kill -9")];
    let figure = |(ending, metric)| Ok(figure(metric, site.reset(ending)?));
    Ok(endings.into_iter().map(figure).collect::<Result<Vec<_>>>()?.into())
}

/// How long nothing passed.
fn figure(metric: &str, outage: Duration) -> Figure {
    Figure::new(metric, "ms", Better::Lower, 1e3 * outage.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outage_is_said_in_milliseconds() {
        let figure = figure("restart", Duration::from_micros(1_234_500));
        assert_eq!((figure.value, figure.unit, figure.better), (1234.5, "ms", Better::Lower));
    }
}
