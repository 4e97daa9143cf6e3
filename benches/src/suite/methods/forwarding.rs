//! What is forwarded of a load that is always there.

use super::{Figure, Method, Taken};
use crate::error::Result;
use crate::front_end::FrontEnd;
use crate::suite::bench::{Bench, is_near_ceiling};
use crate::suite::record::{Better, Bound};

/// See [`Method`].
pub const METHOD: Method = Method {
    name: "forwarding",
    explanation: [
        "Frames forwarded in a second with 256 under way at all times (closed loop).",
        "Near the rate of the self-test it is marked as bound by the generator.",
    ],
    take,
};

fn take(bench: &mut Bench, ports: &mut [FrontEnd; 2], bytes: usize) -> Result<Taken> {
    let value = bench.forwarding_rate(ports, bytes)?;
    let near = is_near_ceiling(value, bench.ceiling(bytes)?);
    let figure = Figure {
        metric: "forwarding rate".to_owned(),
        unit: "frames/s",
        better: Better::Higher,
        load: None,
        value,
        bound: if near { Bound::Generator } else { Bound::None },
    };
    Ok(Taken { figures: vec![figure], ..Taken::default() })
}
