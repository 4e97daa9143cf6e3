//! For how long nothing passes when a switch is restarted (RFC 6201).

use super::{Figure, Method, Needs, Taken};
use crate::error::Result;
use crate::suite::bench::Bench;
use crate::suite::record::Better;
use crate::suite::scenario::Kind;
use crate::suite::site::{Ending, Site};

/// See [`Method`].
pub const METHOD: Method = Method {
    name: "reset",
    explanation: [
        "From SIGTERM, and from SIGKILL, to a switch that is started again at once to",
        "the first frame from VM to VM, which connect anew (RFC 6201, timestamps).",
    ],
    needs: Needs { ports: 0, kinds: &[Kind::Vm] },
    take,
};

fn take(_: &mut Bench, site: &mut Site, _: usize) -> Result<Taken> {
    let endings = [(Ending::Asked, "restart"), (Ending::Killed, "kill -9")];
    let figure = |(ending, metric): (Ending, &str)| {
        let outage = site.reset(ending)?;
        Ok(Figure::new(metric, "ms", Better::Lower, 1e3 * outage.as_secs_f64()))
    };
    Ok(endings.into_iter().map(figure).collect::<Result<Vec<_>>>()?.into())
}
