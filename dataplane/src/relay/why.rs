//! Why a frame goes where it goes: what a worker would decide, and what that rests on.
//!
//! Nothing is decided here. [`Relay::why`] has the ingress checklist and the decision run
//! on one frame as a worker has them run on a batch, only that the table is a
//! [`Foresight`]: what the frame teaches is kept aside and the table stays as it is. What
//! the steps say of a frame is asked of the same functions; the plan of each copy is
//! [`egress::plan`]'s. No token is taken, no budget charged and nothing counted: what
//! hangs on these is said as what [`Copy::may`] befall a copy.

mod rule;
mod steps;

use super::arrival::Arrivals;
use super::fdb::Foresight;
use super::owner::{Destination, Source};
use super::{Admitted, Audience, Burst, Frame, Reach, Relay, Verdict, bridge, egress};
use crate::ledger::DropReason;
use crate::snapshot::{Device, DeviceId, Mode, PortId, RelayPort};
use crate::wire::ethernet::{Outer, TAG_BYTES};
use crate::wire::offload::Offload;
use crate::wire::{Mac, Vid};
pub use rule::Rule;
use steps::Checklist;

/// What would become of a frame, and why.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Explanation {
    /// The relay port it comes in by; nothing if it names none.
    pub ingress: Option<PortId>,
    /// What the ingress checklist found, if the frame passes it.
    pub admitted: Option<Admitted>,
    /// What was looked at, in order. The last step is the one that decides.
    pub steps: Vec<Step>,
    /// What it comes to.
    pub outcome: Outcome,
}

impl Explanation {
    /// Of a frame that nothing is looked at of.
    fn refused(reason: DropReason) -> Explanation {
        let outcome = Outcome::Dropped(reason);
        Explanation { ingress: None, admitted: None, steps: Vec::new(), outcome }
    }
}

/// What a frame comes to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// It is dropped, and counted at the device it came from.
    Dropped(DropReason),
    /// A copy for each of these, in this order.
    Copies(Vec<Copy>),
}

/// One copy of a frame, on its way out.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Copy {
    /// The relay port it leaves by.
    pub port: PortId,
    /// The device of that one.
    pub device: DeviceId,
    /// How it leaves; or why it does not, counted at that device.
    pub fate: Result<Leaving, DropReason>,
    /// What may become of it instead, by what is only known in the moment.
    pub may: Vec<DropReason>,
}

/// A copy as it leaves.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Leaving {
    /// Its first bytes; behind them it is as it came.
    pub header: Vec<u8>,
    /// Its length in bytes, without FCS.
    pub length: usize,
    /// What is left to do on it, if the device takes it so.
    pub offload: Offload,
}

/// What is looked at, on the way to a decision.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Check {
    /// Neither shorter than its header nor longer than the MTU.
    Length,
    /// The S-tag, which names the channel.
    Channel,
    /// No reserved group address.
    Reserved,
    /// A source that a station may have.
    SourceForm,
    /// The outermost tag that a frame may have here.
    Tag,
    /// The classified VID.
    Vlan,
    /// Whether what the sender left to do fits the frame.
    Offload,
    /// Whose the source is.
    Source,
    /// Whose the destination is.
    Destination,
    /// The mode's rule.
    Rule,
}

/// What a check found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Step {
    /// [`Check::Length`].
    Length {
        /// The frame's.
        bytes: usize,
        /// Largest payload here.
        mtu: u32,
    },
    /// [`Check::Channel`].
    Channel {
        /// The S-tag's VID, 0 to 4095, if there is a whole one.
        svid: Option<u16>,
        /// The channel's end, if there is one.
        port: Option<PortId>,
    },
    /// [`Check::Reserved`].
    Reserved {
        /// The destination.
        destination: Mac,
    },
    /// [`Check::SourceForm`].
    SourceForm {
        /// The source.
        source: Mac,
    },
    /// [`Check::Tag`].
    Tag {
        /// What stands there.
        outer: Outer,
    },
    /// [`Check::Vlan`].
    Vlan {
        /// The classified VID, unless the frame is refused for its VLAN.
        vid: Option<Vid>,
    },
    /// [`Check::Offload`].
    Offload {
        /// What is left to do.
        offload: Offload,
    },
    /// [`Check::Source`].
    Source {
        /// The source.
        source: Mac,
        /// Whose it is.
        standing: Standing,
    },
    /// [`Check::Destination`].
    Destination {
        /// The destination.
        destination: Mac,
        /// Whose it is.
        owner: Destination,
        /// How it became so, if it is somebody's.
        title: Option<Title>,
    },
    /// [`Check::Rule`].
    Rule(Rule),
}

/// How an address is somebody's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Title {
    /// By configuration.
    Registered,
    /// By use.
    Learned {
        /// Milliseconds since it was used.
        idle_ms: u32,
    },
}

/// Whose a source is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Standing {
    /// The port registered it.
    Own,
    /// The port has registered others: the frame is refused.
    NotOwn,
    /// Another port registered it: the frame is refused.
    RegisteredElsewhere(PortId),
    /// It is known here.
    Known {
        /// Milliseconds since it was used.
        idle_ms: u32,
    },
    /// It would be learned.
    New,
    /// It would move here from where it was learned.
    Moves(PortId),
    /// There is no room to learn it. A frame from a port is refused, one from a bridge's
    /// channel goes on.
    NoRoom {
        /// Addresses that may be learned here.
        limit: u32,
    },
    /// From an uplink: nobody's here.
    Foreign,
    /// From an uplink: a port of ours has it, so that the frame has come back.
    Local(PortId, Mode, Title),
    /// From an uplink: this port learned it and has not used it for a second. It would lose
    /// it.
    Leaves(PortId),
}

/// A batch of one frame.
struct Alone<'f>(Frame<'f>);

impl<'f> Burst<'f> for Alone<'f> {
    fn count(&self) -> usize {
        1
    }

    fn frame(&self, _: usize) -> Frame<'f> {
        self.0
    }

    fn alike(&self) -> u64 {
        0
    }
}

impl Relay<'_> {
    /// What would become of a frame that came from this device now; nothing if the id is not
    /// in use. `reaches` says whether copies reach a device that is up in the policy.
    #[must_use]
    pub fn why(
        &self,
        device: DeviceId,
        frame: &Frame<'_>,
        reaches: impl Fn(&Device) -> Result<(), DropReason>,
    ) -> Option<Explanation> {
        let foresight = Foresight::new(self.fdb);
        let relay = Relay { snapshot: self.snapshot, fdb: &foresight, now_ms: self.now_ms };
        let Some(entrance) = relay.entrance(device) else {
            return Some(Explanation::refused(self.snapshot.device(device)?.entry.refusal()));
        };
        let checklist = Checklist { snapshot: self.snapshot, entrance, frame };
        let (mut arrivals, mut refused) = (Arrivals::with_capacity(1), None);
        relay.admit(entrance, &Alone(*frame), &mut arrivals, |reason| refused = Some(reason));
        let ingress = checklist.ingress();
        let mut steps = checklist.steps(refused);
        let Some(admitted) = arrivals.all().first().map(|arrival| arrival.admitted) else {
            let outcome = Outcome::Dropped(refused.unwrap_or(DropReason::ChannelUnused));
            return Some(Explanation { ingress, admitted: None, steps, outcome });
        };
        // Before the decision teaches anything.
        let source = steps::source(&relay, &admitted);
        relay.decide_all(entrance, &mut arrivals);
        let verdict = arrivals.all().first().map(|arrival| arrival.verdict)?;
        steps.extend(steps::behind(&relay, &admitted, source, verdict));
        let outcome = match verdict {
            Verdict::Drop(reason) => Outcome::Dropped(reason),
            Verdict::To(port) => {
                let copy = copy(&relay, &admitted, frame, port, Vec::new(), &reaches);
                Outcome::Copies(copy.into_iter().collect())
            }
            Verdict::Flood(audience) => {
                Outcome::Copies(flood(&relay, &admitted, frame, audience, &reaches))
            }
        };
        Some(Explanation { ingress, admitted: Some(admitted), steps, outcome })
    }
}

/// The copies of a flood.
fn flood(
    relay: &Relay<'_, Foresight<'_>>,
    admitted: &Admitted,
    frame: &Frame<'_>,
    audience: Audience,
    reaches: &impl Fn(&Device) -> Result<(), DropReason>,
) -> Vec<Copy> {
    let spared = |port| audience.reach == Reach::Unregistered && audience.uplink == Some(port);
    let receivers = audience.receivers(relay.snapshot, admitted.domain);
    let made = receivers.filter_map(|id| {
        let port = relay.snapshot.port(id)?;
        let mut may = Vec::new();
        if !spared(id) {
            may.push(DropReason::FloodBudget);
        }
        if bridge::reflected_group_rate(admitted, id, port).is_some() {
            may.push(DropReason::ReflectedGroupRate);
        }
        copy(relay, admitted, frame, id, may, reaches)
    });
    made.collect()
}

/// One copy, for this relay port.
fn copy(
    relay: &Relay<'_, Foresight<'_>>,
    admitted: &Admitted,
    frame: &Frame<'_>,
    id: PortId,
    mut may: Vec<DropReason>,
    reaches: &impl Fn(&Device) -> Result<(), DropReason>,
) -> Option<Copy> {
    let port = relay.snapshot.port(id)?;
    let device = relay.snapshot.device(port.device)?;
    let fate = leave(admitted, port, frame).and_then(|leaving| reaches(device).map(|()| leaving));
    if fate.is_ok() {
        may.push(DropReason::RxRingFull);
        if !frame.offload.is_complete() {
            may.push(DropReason::OffloadHeaderTooDeep);
        }
    }
    Some(Copy { port: id, device: port.device, fate, may })
}

/// A copy as it leaves by a relay port.
fn leave(admitted: &Admitted, port: &RelayPort, frame: &Frame<'_>) -> Result<Leaving, DropReason> {
    let edit = egress::plan(admitted, port, frame)?;
    let mut header = vec![0; frame.header.len() + 2 * TAG_BYTES];
    let length = edit.apply(frame.header, &mut header);
    header.truncate(length);
    let length = frame.length.saturating_add_signed(edit.delta().into());
    Ok(Leaving { header, length, offload: frame.offload.shifted(edit.delta()) })
}

impl Check {
    /// Its stable name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Check::Length => "length",
            Check::Channel => "channel",
            Check::Reserved => "reserved",
            Check::SourceForm => "source_form",
            Check::Tag => "tag",
            Check::Vlan => "vlan",
            Check::Offload => "offload",
            Check::Source => "source",
            Check::Destination => "destination",
            Check::Rule => "rule",
        }
    }
}

impl Step {
    /// Which check it is of.
    #[must_use]
    pub const fn check(&self) -> Check {
        match self {
            Step::Length { .. } => Check::Length,
            Step::Channel { .. } => Check::Channel,
            Step::Reserved { .. } => Check::Reserved,
            Step::SourceForm { .. } => Check::SourceForm,
            Step::Tag { .. } => Check::Tag,
            Step::Vlan { .. } => Check::Vlan,
            Step::Offload { .. } => Check::Offload,
            Step::Source { .. } => Check::Source,
            Step::Destination { .. } => Check::Destination,
            Step::Rule(_) => Check::Rule,
        }
    }
}
