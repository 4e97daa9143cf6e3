//! `Capture`: what is asked for, and its stream.

mod pump;

use std::time::Duration;

use hairpin_dataplane::ledger::DropReason;
use hairpin_dataplane::wire::{Mac, Vid};
use hairpin_dataplane::worker::capture::SNAPSHOT_BYTES_MAX;
use hairpin_dataplane::worker::capture::filter::{Fates, Filter, Reasons, Ways};
use hairpin_proto::v1;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use crate::config::nearest::hint;
use crate::switch::Switch;
use crate::switch::capture::{CaptureError, Wish};
use pump::{Bounds, Pump};

/// First bytes of each frame that are kept: as few, where something is asked for, and as many
/// unless something is.
const SNAP_BYTES_MIN: usize = 14;
const SNAP_BYTES: usize = 256;
/// Hosts of a filter: each is compared with each frame.
const HOSTS_MAX: usize = 16;
/// Where EtherTypes begin; below are lengths.
const ETHERTYPE_MIN: u32 = 0x600;
/// Parts that wait for the client to read them, besides the last.
const PARTS_MAX: usize = 4;
/// How long a client may not read.
const PATIENCE: Duration = Duration::from_secs(30);

/// A capture's parts.
pub type Stream = ReceiverStream<Result<v1::CaptureResponse, Status>>;

/// Begins a capture; a thread of its own writes the stream.
///
/// # Errors
/// As the API says.
pub fn begin(switch: &Switch, request: v1::CaptureRequest) -> Result<Stream, Status> {
    let (wish, bounds) = read(request)?;
    let ports = wish.names.join(" ");
    let capture = switch.capture(wish).map_err(|error| refusal(&error))?;
    let (parts, stream) = mpsc::channel(PARTS_MAX + 1);
    let pump = Pump::new(capture, bounds, parts, PATIENCE)?;
    tracing::info!(ports, "capture");
    let thread = std::thread::Builder::new().name("capture".to_owned());
    let refused = |error| Status::resource_exhausted(format!("no thread for a capture: {error}"));
    thread.spawn(move || pump.run()).map_err(refused)?;
    Ok(ReceiverStream::new(stream))
}

fn refusal(error: &CaptureError) -> Status {
    let said = super::refusal::said(error);
    match error {
        CaptureError::Number(_) | CaptureError::Twice(_) => Status::invalid_argument(said),
        CaptureError::NoSuchPort { .. } => Status::not_found(said),
        CaptureError::Full | CaptureError::Make(_) => Status::resource_exhausted(said),
    }
}

/// What a request asks for.
fn read(request: v1::CaptureRequest) -> Result<(Wish, Bounds), Status> {
    let snapshot_bytes = match request.snap_bytes as usize {
        0 => SNAP_BYTES,
        bytes @ SNAP_BYTES_MIN..=SNAPSHOT_BYTES_MAX => bytes,
        bytes => {
            let range = format!("{SNAP_BYTES_MIN} to {SNAPSHOT_BYTES_MAX}");
            return Err(invalid("snap_bytes", bytes, &format!("write {range}")));
        }
    };
    let frames = (request.frames_max > 0).then_some(request.frames_max);
    let seconds = (request.seconds_max > 0).then_some(request.seconds_max);
    let time = seconds.map(|seconds| Duration::from_secs(seconds.into()));
    let (names, filter) = (request.ports.clone(), filter(&request)?);
    Ok((Wish { names, filter, snapshot_bytes }, Bounds { frames, time }))
}

fn filter(request: &v1::CaptureRequest) -> Result<Filter, Status> {
    let unknown = |field, value| invalid(field, value, "see the API for those that there are");
    let ways = match v1::CaptureDirection::try_from(request.direction) {
        Ok(v1::CaptureDirection::Unspecified) => Ways::Both,
        Ok(v1::CaptureDirection::Rx) => Ways::Inbound,
        Ok(v1::CaptureDirection::Tx) => Ways::Outbound,
        Err(_) => return Err(unknown("direction", request.direction)),
    };
    let fates = match v1::CaptureFate::try_from(request.fate) {
        _ if !request.reasons.is_empty() => Fates::Dropped(reasons(&request.reasons)?),
        Ok(v1::CaptureFate::Unspecified) => Fates::Any,
        Ok(v1::CaptureFate::Dropped) => Fates::Dropped(Reasons::ALL),
        Err(_) => return Err(unknown("fate", request.fate)),
    };
    if request.hosts.len() > HOSTS_MAX {
        return Err(invalid("hosts", request.hosts.len(), &format!("name {HOSTS_MAX} at most")));
    }
    let host = |text: &String| {
        let remedy = "write an address such as 52:54:00:00:00:01";
        text.parse::<Mac>().map_err(|_| invalid("hosts", format_args!("{text:?}"), remedy))
    };
    let hosts = request.hosts.iter().map(host).collect::<Result<_, _>>()?;
    let vid = |number: u32| {
        let vid = u16::try_from(number).ok().filter(|vid| *vid < 4095).and_then(Vid::new);
        vid.ok_or_else(|| invalid("vid", number, "write 1 to 4094, or 0 for untagged frames"))
    };
    let ethertype = |number: u32| {
        let ethertype = u16::try_from(number).ok().filter(|_| number >= ETHERTYPE_MIN);
        ethertype.ok_or_else(|| invalid("ethertype", number, "write 1536 to 65535"))
    };
    let (vid, ethertype) =
        (request.vid.map(vid).transpose()?, request.ethertype.map(ethertype).transpose()?);
    Ok(Filter { ways, fates, hosts, vid, ethertype })
}

fn reasons(names: &[String]) -> Result<Reasons, Status> {
    let reason = |name: &String| {
        DropReason::from_name(name).ok_or_else(|| {
            let near = hint(name, DropReason::ALL.iter().map(|reason| reason.name()));
            let remedy = "`hairpin drops --list` says which there are";
            invalid("reasons", format_args!("{name:?}{near}"), remedy)
        })
    };
    names.iter().map(reason).collect()
}

fn invalid(field: &str, value: impl std::fmt::Display, remedy: &str) -> Status {
    let said = format!("capture: {field}: {value} is none that can be had; {remedy}");
    Status::invalid_argument(super::refusal::shortened(&said))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> v1::CaptureRequest {
        v1::CaptureRequest { ports: vec!["vm1".to_owned()], ..v1::CaptureRequest::default() }
    }

    #[test]
    fn a_request_is_read_with_its_defaults() {
        let (wish, bounds) = read(request()).unwrap();
        assert_eq!((wish.filter, wish.snapshot_bytes), (Filter::default(), SNAP_BYTES));
        assert_eq!((bounds.frames, bounds.time), (None, None));
        let narrow = v1::CaptureRequest {
            direction: v1::CaptureDirection::Tx.into(),
            hosts: vec!["52:54:00:00:00:01".to_owned()],
            vid: Some(0),
            ethertype: Some(0x0806),
            reasons: vec!["rx_ring_full".to_owned()],
            seconds_max: 2,
            ..request()
        };
        let (wish, bounds) = read(narrow).unwrap();
        let fates = Fates::Dropped([DropReason::RxRingFull].into_iter().collect());
        assert_eq!((wish.filter.ways, wish.filter.fates), (Ways::Outbound, fates));
        assert_eq!((wish.filter.vid, wish.filter.ethertype), (Some(Vid::UNTAGGED), Some(0x0806)));
        assert_eq!((wish.filter.hosts.len(), bounds.time), (1, Some(Duration::from_secs(2))));
    }

    #[test]
    fn what_is_out_of_range_is_named() {
        let host = || "52:54:00:00:00:01".to_owned();
        let cases = [
            (v1::CaptureRequest { direction: 9, ..request() }, "direction"),
            (v1::CaptureRequest { fate: 9, ..request() }, "fate"),
            (v1::CaptureRequest { hosts: vec!["52:54".to_owned()], ..request() }, "hosts"),
            (v1::CaptureRequest { hosts: vec![host(); HOSTS_MAX + 1], ..request() }, "hosts"),
            (v1::CaptureRequest { vid: Some(4095), ..request() }, "vid"),
            (v1::CaptureRequest { vid: Some(70_000), ..request() }, "vid"),
            (v1::CaptureRequest { ethertype: Some(1500), ..request() }, "ethertype"),
            (v1::CaptureRequest { ethertype: Some(65_536), ..request() }, "ethertype"),
            (v1::CaptureRequest { snap_bytes: 13, ..request() }, "snap_bytes"),
            (v1::CaptureRequest { snap_bytes: 2049, ..request() }, "snap_bytes"),
            (
                v1::CaptureRequest { reasons: vec!["rx_rnig_full".to_owned()], ..request() },
                "reasons",
            ),
        ];
        for (request, field) in cases {
            let status = read(request).unwrap_err();
            assert_eq!(status.code(), tonic::Code::InvalidArgument);
            assert!(status.message().starts_with(&format!("capture: {field}: ")), "{status}");
        }
    }
}
