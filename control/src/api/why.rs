//! `rpc Why`: requests into questions, answers into messages.

use hairpin_dataplane::ledger::DropReason;
use hairpin_dataplane::relay::owner::Destination;
use hairpin_dataplane::relay::why::{
    Check, Copy, Explanation, Leaving, Outcome, Standing, Step, Title,
};
use hairpin_dataplane::wire::Mac;
use hairpin_dataplane::wire::offload::{Checksum, Ecn, Offload, Segmentation};
use hairpin_proto::v1;
use tonic::Status;

use super::configs;
use crate::switch::Switch;
use crate::switch::view::State;
use crate::switch::why::{Answer, Fate, Names, Question, Reflex, WhyError};

/// Asks the switch.
pub(super) fn why(switch: &Switch, request: v1::WhyRequest) -> Result<v1::WhyResponse, Status> {
    let offload = request.offload.map_or(Ok(Offload::NONE), |offload| self::offload(&offload))?;
    let question = Question { ingress: request.ingress, frame: request.frame, offload };
    let answer = switch.why(&question).map_err(|error| refusal(&error))?;
    Ok(response(&question, answer))
}

fn refusal(error: &WhyError) -> Status {
    let said = super::refusal::said(error);
    match error {
        WhyError::NoSuchPort { .. } => Status::not_found(said),
        WhyError::NoEntrance(_) | WhyError::Length { .. } => Status::invalid_argument(said),
        WhyError::Ending => Status::unavailable(said),
    }
}

/// What a sender left to do.
fn offload(offload: &v1::WhyOffload) -> Result<Offload, Status> {
    let number = |field: &str, value: u32| {
        let said = format!("offload: {field}: {value} is out of range; send 0 to 65535");
        u16::try_from(value).map_err(|_| Status::invalid_argument(said))
    };
    let size = number("segment_bytes", offload.segment_bytes)?;
    let ecn = Ecn::Without;
    let segmentation = match v1::WhySegmentation::try_from(offload.segmentation) {
        Ok(v1::WhySegmentation::Unspecified) => Segmentation::None,
        Ok(v1::WhySegmentation::Tcp4) => Segmentation::Tcp4 { size, ecn },
        Ok(v1::WhySegmentation::Tcp6) => Segmentation::Tcp6 { size, ecn },
        Ok(v1::WhySegmentation::Udp) => Segmentation::Udp { size },
        Err(_) => {
            let value = offload.segmentation;
            let said = format!("offload: segmentation: {value} is not known; see the API");
            return Err(Status::invalid_argument(said));
        }
    };
    let start = number("checksum_start", offload.checksum_start)?;
    let offset = number("checksum_offset", offload.checksum_offset)?;
    Ok(Offload { checksum: Checksum::Partial { start, offset }, segmentation })
}

fn response(question: &Question, answer: Answer) -> v1::WhyResponse {
    let Answer { revision, fate, names } = answer;
    let port = question.ingress.clone();
    match fate {
        Fate::Waits { state, problem } => {
            let awaited = match state {
                State::Quarantined => v1::WhyAwaited::Release,
                State::Waiting => v1::WhyAwaited::Device,
                State::Up | State::Down => v1::WhyAwaited::Up,
            };
            let waits = v1::WhyWaits { port, awaited: awaited.into(), problem };
            let outcome = Some(v1::why_response::Outcome::Waits(waits));
            v1::WhyResponse { revision, outcome, ..v1::WhyResponse::default() }
        }
        Fate::Taken { explanation, findings, tags, mirrored } => {
            let last = findings.len().saturating_sub(1);
            let each = findings.into_iter().enumerate();
            let step = |(index, (check, finding))| v1::WhyStep {
                check: self::check(check).into(),
                decides: index == last,
                finding,
            };
            let outcome = outcome(port, &names, &explanation, tags);
            v1::WhyResponse {
                revision,
                steps: each.map(step).collect(),
                outcome: Some(outcome),
                mirrored: mirrored.into_iter().map(reflex).collect(),
                ..found(&names, &explanation)
            }
        }
    }
}

fn reflex(reflex: Reflex) -> v1::WhyMirrored {
    let Reflex { port, of, frames } = reflex;
    v1::WhyMirrored { port, of, frames: configs::mirrored(frames).into() }
}

/// What the steps found, for programs.
fn found(names: &Names, explanation: &Explanation) -> v1::WhyResponse {
    let admitted = explanation.admitted.as_ref();
    let vid = admitted.map(|admitted| admitted.vid.get()).or_else(|| {
        explanation.steps.iter().find_map(|step| match step {
            Step::Vlan { vid } => vid.map(|vid| vid.get()),
            _ => None,
        })
    });
    let mut found = v1::WhyResponse {
        ingress: explanation.ingress.map(|port| names.port(port).to_owned()).unwrap_or_default(),
        domain: admitted.map(|it| names.domain(it.domain).to_owned()).unwrap_or_default(),
        vid: vid.map(u32::from),
        ..v1::WhyResponse::default()
    };
    for step in &explanation.steps {
        match *step {
            Step::Source { source, standing } => {
                found.source = Some(self::source(names, source, standing));
            }
            Step::Destination { destination, owner, title } => {
                found.destination = Some(self::destination(names, destination, owner, title));
            }
            Step::Rule(rule) => found.rule = rule.name().to_owned(),
            _ => {}
        }
    }
    found
}

fn source(names: &Names, mac: Mac, standing: Standing) -> v1::WhySource {
    use v1::WhyStanding as Is;
    let (standing, port) = match standing {
        Standing::Own => (Is::Own, None),
        Standing::NotOwn => (Is::NotOwn, None),
        Standing::RegisteredElsewhere(port) => (Is::RegisteredElsewhere, Some(port)),
        Standing::Known { .. } => (Is::Known, None),
        Standing::New => (Is::New, None),
        Standing::Moves(port) => (Is::Moves, Some(port)),
        Standing::NoRoom { .. } => (Is::NoRoom, None),
        Standing::Foreign => (Is::Foreign, None),
        Standing::Local(port, ..) => (Is::Local, Some(port)),
        Standing::Leaves(port) => (Is::Leaves, Some(port)),
    };
    let port = port.map(|port| names.port(port).to_owned()).unwrap_or_default();
    v1::WhySource { mac: mac.to_string(), standing: standing.into(), port }
}

fn destination(
    names: &Names,
    mac: Mac,
    owner: Destination,
    title: Option<Title>,
) -> v1::WhyDestination {
    use v1::why_destination::Kind;
    let kind = match owner {
        Destination::Group => Kind::Group(v1::WhyGroup {}),
        Destination::Unknown => Kind::Unknown(v1::WhyUnknown {}),
        Destination::Owned(port, _) => Kind::Owner(v1::WhyOwner {
            port: names.port(port).to_owned(),
            idle_ms: match title {
                Some(Title::Learned { idle_ms }) => Some(idle_ms.into()),
                Some(Title::Registered) | None => None,
            },
        }),
    };
    v1::WhyDestination { mac: mac.to_string(), kind: Some(kind) }
}

fn outcome(
    port: String,
    names: &Names,
    explanation: &Explanation,
    tags: Vec<String>,
) -> v1::why_response::Outcome {
    match &explanation.outcome {
        Outcome::Dropped(reason) => v1::why_response::Outcome::Dropped(v1::WhyDropped {
            reason: Some(self::reason(*reason)),
            port,
        }),
        Outcome::Copies(copies) => {
            let copies = copies.iter().zip(tags).map(|(it, tags)| copy(names, it, tags)).collect();
            v1::why_response::Outcome::Forwarded(v1::WhyForwarded { copies })
        }
    }
}

fn copy(names: &Names, copy: &Copy, tags: String) -> v1::WhyCopy {
    let fate = match &copy.fate {
        Ok(Leaving { header, length, .. }) => {
            let (length, header) = (u32::try_from(*length).unwrap_or(u32::MAX), header.clone());
            v1::why_copy::Fate::Leaving(v1::WhyLeaving { length, header, tags })
        }
        Err(reason) => v1::why_copy::Fate::Lost(self::reason(*reason)),
    };
    v1::WhyCopy {
        port: names.port(copy.port).to_owned(),
        device: names.device(copy.device).to_owned(),
        fate: Some(fate),
        may: copy.may.iter().map(|reason| reason.name().to_owned()).collect(),
    }
}

fn reason(reason: DropReason) -> v1::WhyReason {
    v1::WhyReason {
        name: reason.name().to_owned(),
        meaning: reason.meaning().to_owned(),
        remedy: reason.remedy().to_owned(),
    }
}

fn check(check: Check) -> v1::WhyCheck {
    match check {
        Check::Length => v1::WhyCheck::Length,
        Check::Channel => v1::WhyCheck::Channel,
        Check::Reserved => v1::WhyCheck::Reserved,
        Check::SourceForm => v1::WhyCheck::SourceForm,
        Check::Tag => v1::WhyCheck::Tag,
        Check::Vlan => v1::WhyCheck::Vlan,
        Check::Offload => v1::WhyCheck::Offload,
        Check::Source => v1::WhyCheck::Source,
        Check::Destination => v1::WhyCheck::Destination,
        Check::Rule => v1::WhyCheck::Rule,
    }
}
