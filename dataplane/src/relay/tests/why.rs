//! What explanations say: which checks in which order, and what each found. That they tell
//! what then happens is held by `tests/tests/why.rs`.

use super::site::*;
use crate::ledger::DropReason::{self, *};
use crate::relay::owner::Destination;
use crate::relay::why::{Check, Explanation, Outcome, Rule, Standing, Step, Title};
use crate::snapshot::topology::Topology;
use crate::snapshot::{DeviceId, Mode, PortId, Role};
use crate::wire::Mac;
use crate::wire::offload::{Checksum, Offload, Segmentation};

const RESERVED: Mac = Mac::new([1, 0x80, 0xc2, 0, 0, 0]);
/// A checksum that would lie outside of any frame.
const NONSENSE: Offload = Offload {
    checksum: Checksum::Partial { start: 20_000, offset: 6 },
    segmentation: Segmentation::None,
};

fn ask(site: &Site, device: u16, bytes: &Bytes, offload: Offload) -> Explanation {
    let frame = crate::relay::Frame { offload, ..bytes.view() };
    site.relay().why(DeviceId(device), &frame, |_| Ok(())).expect("the device is planned")
}

/// Frames with ever fewer faults, the first in the order of the checks first; each is
/// refused by the check of its first fault, and for what a worker refuses it.
fn assert_refused_in_order(site: &Site, device: u16, rows: &[(Bytes, Offload, Check, DropReason)]) {
    let mut passed = Vec::new();
    for (bytes, offload, check, reason) in rows {
        let explanation = ask(site, device, bytes, *offload);
        let checks: Vec<Check> = explanation.steps.iter().map(Step::check).collect();
        passed.push(*check);
        assert_eq!((checks, explanation.outcome), (passed.clone(), Outcome::Dropped(*reason)));
        let frame = crate::relay::Frame { offload: *offload, ..bytes.view() };
        let verdict = site.arrive(device, frame).map(|arrival| arrival.verdict);
        assert!(verdict == Err(*reason), "{verdict:?}");
    }
}

#[test]
fn the_first_check_that_fails_is_the_last_step() {
    let port = in_vlan(access(10), registered(1));
    let site = Site::new(&one_channel(vec![station(0, Mode::Veb, port)]));
    let stranger = || frame(mac(2), mac(77));
    assert_refused_in_order(
        &site,
        1,
        &[
            (frame(RESERVED, Mac::ZERO).length(13), NONSENSE, Check::Length, Runt),
            (frame(RESERVED, Mac::ZERO).s(5), NONSENSE, Check::Reserved, ReservedAddress),
            (frame(mac(2), Mac::ZERO).s(5), NONSENSE, Check::SourceForm, SourceInvalid),
            (stranger().c(4095), NONSENSE, Check::Tag, VlanInvalid),
            (stranger().c(5), NONSENSE, Check::Vlan, VlanTagged),
            (stranger(), NONSENSE, Check::Offload, OffloadInvalid),
            (stranger(), Offload::NONE, Check::Source, SourceNotRegistered),
        ],
    );
}

#[test]
fn so_it_is_on_a_link() {
    let mut topology = one_channel(vec![station(0, Mode::Veb, vm(1))]);
    topology.links = vec![link(&[100])];
    topology.channels = vec![channel(0, 100)];
    let site = Site::new(&topology);
    let bad = || frame(RESERVED, Mac::ZERO).c(4095);
    assert_refused_in_order(
        &site,
        LINK,
        &[
            (bad().s(9).length(1600), NONSENSE, Check::Length, Giant),
            (bad().s(9), NONSENSE, Check::Channel, UnknownSvid),
            (bad().s(100), NONSENSE, Check::Reserved, ReservedAddress),
            (frame(mac(1), Mac::ZERO).c(4095).s(100), NONSENSE, Check::SourceForm, SourceInvalid),
            (frame(mac(1), mac(9)).c(4095).s(100), NONSENSE, Check::Tag, VlanInvalid),
        ],
    );
    // Every C-tag is of some VLAN here: no frame is refused for that.
    let explanation = ask(&site, LINK, &frame(mac(1), mac(9)).c(7).s(100), NONSENSE);
    assert_eq!(explanation.steps.last().map(Step::check), Some(Check::Offload));
    assert_eq!(explanation.ingress, Some(PortId(LINK + 100)));
    assert!(
        explanation
            .steps
            .contains(&Step::Channel { svid: Some(100), port: Some(PortId(LINK + 100)) })
    );
}

/// `veb` ports 1 (registered) and 2, a `vepa` port 3 (both learn).
fn topology() -> Topology {
    one_channel(vec![
        station(0, Mode::Veb, registered(1)),
        station(0, Mode::Veb, vm(2)),
        station(0, Mode::Vepa, vm(3)),
    ])
}

/// The last two steps before the rule, and the rule.
fn found(explanation: &Explanation) -> (Standing, Destination, Option<Title>, Rule) {
    match explanation.steps[..] {
        [
            ..,
            Step::Source { standing, .. },
            Step::Destination { owner, title, .. },
            Step::Rule(rule),
        ] => (standing, owner, title, rule),
        _ => panic!("{explanation:#?}"),
    }
}

#[test]
fn a_source_is_new_then_known_moves_and_leaves() {
    let mut site = Site::new(&topology());
    let from_50 = frame(mac(1), mac(50));
    let owned = Destination::Owned(PortId(1), Role::Station(Mode::Veb));
    let registered = Some(Title::Registered);
    let rows = [
        (2, Standing::New, Rule::VebUnicast),
        (2, Standing::Known { idle_ms: 0 }, Rule::VebUnicast),
        (3, Standing::Moves(PortId(2)), Rule::Vepa),
        (
            LINK,
            Standing::Local(PortId(3), Mode::Vepa, Title::Learned { idle_ms: 0 }),
            Rule::UplinkUnicast,
        ),
    ];
    for (device, standing, rule) in rows {
        let explanation = ask(&site, device, &from_50, Offload::NONE);
        assert_eq!(found(&explanation), (standing, owned, registered, rule));
        let learned = (site.fdb.count(), site.fdb.moves());
        assert_eq!(ask(&site, device, &from_50, Offload::NONE), explanation);
        assert_eq!((site.fdb.count(), site.fdb.moves()), learned, "asking teaches nothing");
        let _ = site.send(device, &from_50);
    }
    site.now_ms += 2000;
    let explanation = ask(&site, LINK, &from_50, Offload::NONE);
    assert_eq!(found(&explanation).0, Standing::Leaves(PortId(3)));
}

#[test]
fn a_frame_to_its_own_source_finds_what_itself_would_teach() {
    let site = Site::new(&topology());
    let explanation = ask(&site, 2, &frame(mac(50), mac(50)), Offload::NONE);
    let owner = Destination::Owned(PortId(2), Role::Station(Mode::Veb));
    let title = Some(Title::Learned { idle_ms: 0 });
    assert_eq!(found(&explanation), (Standing::New, owner, title, Rule::VebUnicast));
    assert_eq!(explanation.outcome, Outcome::Dropped(OwnAddress));
    assert_eq!(site.fdb.count(), 0);
}

#[test]
fn a_source_without_room_is_named_with_the_limit() {
    let site = Site::new(&topology());
    for source in 50..50 + LIMIT as u16 {
        let _ = site.send(2, &frame(mac(1), mac(source)));
    }
    let explanation = ask(&site, 2, &frame(mac(1), mac(60)), Offload::NONE);
    let standing = Standing::NoRoom { limit: LIMIT };
    assert_eq!(explanation.steps.last(), Some(&Step::Source { source: mac(60), standing }));
    assert_eq!(explanation.outcome, Outcome::Dropped(LearnLimit));
    let stolen = ask(&site, 2, &frame(mac(60), mac(1)), Offload::NONE);
    let standing = Standing::RegisteredElsewhere(PortId(1));
    assert_eq!(stolen.steps.last(), Some(&Step::Source { source: mac(1), standing }));
}
