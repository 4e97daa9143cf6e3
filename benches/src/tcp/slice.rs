//! One turn of a contestant.

use super::connection::{Carried, Plan, carry};
use super::contestant::{Contestant, Kind};
use crate::error::{Context, Result, RigError};

/// What a turn gave.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// Whose.
    pub kind: Kind,
    /// What its connection gave.
    pub carried: Carried,
}

/// Lets a contestant send for one turn.
///
/// # Errors
/// If the connection fails or carries nothing, or the run is interrupted.
pub fn take(contestant: &Contestant, plan: &Plan) -> Result<Sample> {
    let (kind, [from, to]) = (contestant.kind, &contestant.hosts);
    let carried = carry([from, to], contestant.pid(), plan).context(format_args!("{kind}"))?;
    let nothing = || RigError::new(format!("{kind}: no byte came by a TCP connection"));
    Ok(Sample { kind, carried: carried.ok_or_else(nothing)? })
}
