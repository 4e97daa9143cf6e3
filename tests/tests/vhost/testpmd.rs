//! DPDK's virtio-user at two ports: guests that send each other every frame back, as fast as
//! they can, and hand on what our front end sends around, of which it knows every byte.

use std::path::Path;
use std::time::{Duration, Instant};

use hairpin_bench::hugepages::RunDirectory;
use hairpin_tests::bed::{Devices, HUGE_PAGES, Pages, Sockets, Testpmd, root};
use serde_json::json;

use super::matrix::{
    Circumstances, Extent, Memory, PACKED_IN_ORDER, Rings, SPLIT_MERGEABLE, matrix,
};
use super::site::{GUESTS, Site, alone};

/// Frames that each pair of our front end's sends around: three of each length.
const FRAMES: u64 = 3 * 1455;
/// The same in each of many rounds.
const FRAMES_A_ROUND: u64 = 500;
/// How long somebody who is to be killed is busy before.
const BUSY: Duration = Duration::from_millis(50);

/// That testpmd and the daemon have agreed on the rings that are meant.
fn assert_rings(site: &Site<'_>, circumstances: Circumstances) {
    let Circumstances { rings, queues, .. } = circumstances;
    let queue = json!({ "size": 1024, "state": "running" });
    let pairs = vec![json!({ "receive": queue, "transmit": queue }); queues.into()];
    for (number, port) in (0..).zip(GUESTS) {
        let shown = site.shown(port);
        for (feature, is_wanted) in rings.features() {
            let agreed = shown["features"].as_array().unwrap();
            assert_eq!(agreed.contains(&json!(feature)), is_wanted, "{feature}: {shown}");
        }
        assert_eq!(shown["queues"], json!(pairs), "{port}");
        let path = site.testpmd.receive_path(number);
        match rings.are_to_be_had() {
            true => assert_eq!(path.as_deref(), Some(rings.receive_path), "{port}"),
            false => eprintln!("no AVX-512: {path:?} in place of {:?}", rings.receive_path),
        }
    }
}

/// All queues of both guests have received what our front end has sent around, and each of
/// its pairs has got some of it back.
fn assert_all_queues_serve(site: &mut Site<'_>, queues: u16, before: &[Vec<u64>]) {
    for ((number, port), before) in (0..).zip(GUESTS).zip(before) {
        let now = site.testpmd.received_by_queues(number, queues).unwrap();
        let received: Vec<u64> = now.iter().zip(before).map(|(now, before)| now - before).collect();
        assert_eq!(received, vec![FRAMES; queues.into()], "by the queues of {port}");
    }
    let mut came_by = site.circle.came_by();
    came_by.sort_unstable();
    assert_eq!(came_by, (0..queues.into()).collect::<Vec<_>>());
}

/// At full speed no frame is lost; in numbers that a ring can hold none is altered either.
fn assert_circumstances(circumstances: Circumstances, huge: &Path) {
    let Circumstances { rings, sockets, queues, memory } = circumstances;
    let pages = match memory {
        Memory::Ordinary => Pages::Ordinary,
        Memory::Huge => Pages::Huge(huge),
    };
    let mut site = Site::start(devices(rings, sockets, queues, pages));
    assert_rings(&site, circumstances);
    for frame_bytes in [64, 1500] {
        site.assert_passing(frame_bytes);
        site.assert_accounts_agree();
    }
    let received = |number| site.testpmd.received_by_queues(number, queues).unwrap();
    let before = [0, 1].map(received);
    site.start_handing_on();
    site.circle.assert_all_come_around(FRAMES);
    assert_all_queues_serve(&mut site, queues, &before);
    site.assert_nothing_dropped();
    assert_eq!(site.reconnects(), [0, 0]);
    site.daemon.stop().unwrap();
}

fn devices(rings: Rings, sockets: Sockets, queues: u16, pages: Pages<'_>) -> Devices<'_> {
    Devices { layout: rings.arguments, buffers: rings.buffers(), queues, sockets, pages }
}

#[test]
fn no_frame_is_lost_or_altered_in_any_layout_role_number_of_queues_and_memory() {
    let Some(_root) = root() else { return };
    if !Testpmd::is_installed() {
        return;
    }
    let _alone = alone();
    let huge = RunDirectory::create(HUGE_PAGES).unwrap();
    for circumstances in matrix(Extent::asked()) {
        eprintln!("{circumstances}");
        assert_circumstances(circumstances, &huge.huge());
    }
}

/// Has the guests at work, for somebody to be killed meanwhile: by turns with frames of their
/// own at full speed, and with those of our front end, of which none may come back altered,
/// twice or late.
fn be_busy(site: &mut Site<'_>, round: u64) {
    if round.is_multiple_of(2) {
        return site.assert_passing(64);
    }
    site.start_handing_on();
    let end = Instant::now() + BUSY;
    while Instant::now() < end {
        site.circle.press();
    }
}

/// What was underway is let go; from then on nothing is lost or altered.
fn assert_recovered(site: &mut Site<'_>) {
    site.start_handing_on();
    site.circle.settle();
    site.circle.assert_all_come_around(FRAMES_A_ROUND);
}

#[test]
fn guests_that_are_killed_again_and_again_come_again() {
    let Some(_root) = root() else { return };
    if !Testpmd::is_installed() {
        return;
    }
    let _alone = alone();
    let layouts = [(SPLIT_MERGEABLE, Sockets::There), (PACKED_IN_ORDER, Sockets::Made)];
    for (rings, sockets) in layouts {
        let mut site = Site::start(devices(rings, sockets, 1, Pages::Ordinary));
        for round in 1..=Extent::asked().rounds() {
            eprintln!("{}, sockets {sockets:?}, round {round}", rings.name);
            be_busy(&mut site, round);
            site.kill_guests();
            // To nobody.
            site.circle.press();
            site.start_guests_again();
            assert_eq!(site.reconnects(), [round, round]);
            assert_recovered(&mut site);
        }
        site.daemon.stop().unwrap();
    }
}

/// Where testpmd has made the sockets: where it has not, it does not come again by itself.
#[test]
fn guests_find_a_daemon_that_is_killed_again_and_again() {
    let Some(_root) = root() else { return };
    if !Testpmd::is_installed() {
        return;
    }
    let _alone = alone();
    for rings in [SPLIT_MERGEABLE, PACKED_IN_ORDER] {
        let mut site = Site::start(devices(rings, Sockets::Made, 1, Pages::Ordinary));
        for round in 1..=Extent::asked().rounds() {
            eprintln!("{}, round {round}", rings.name);
            be_busy(&mut site, round);
            site.daemon.kill().unwrap();
            site.start_daemon_again();
            assert_recovered(&mut site);
        }
        site.assert_passing(64);
        site.daemon.end().unwrap();
        site.start_daemon_again();
        assert_recovered(&mut site);
        site.daemon.stop().unwrap();
    }
}
