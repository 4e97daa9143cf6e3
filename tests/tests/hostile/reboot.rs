//! A guest that reboots, or whose VMM is started again, a hundred times, while two others
//! exchange frames.

use std::time::{Duration, Instant};

use hairpin_bench::front_end::station::Heard;
use hairpin_bench::front_end::{FrontEnd, Layout};

use super::stage::{Expected, PATIENCE, Stage};

const REBOOTS: usize = 100;
/// A device that starts more often than three times a second is taken to flap, and counts as
/// up only later.
const PACE: Duration = Duration::from_millis(450);

/// Frames pass to the helper and back.
#[track_caller]
fn assert_passing(stage: &mut Stage, front: &mut FrontEnd, round: usize) {
    let station = stage.station(0);
    let number = round as u64;
    assert_eq!(front.send(&[&station.frame(number, 1514)]), 1);
    let came = stage.helper().receive_within(PATIENCE).unwrap();
    let heard: Vec<Heard> = came.iter().map(|frame| station.turned().hear(&frame.bytes)).collect();
    assert_eq!(heard, [Heard::Number(number)], "round {round}, out");
    assert_eq!(stage.helper().send(&[&station.turned().frame(number, 60)]), 1);
    let came = front.receive_within(PATIENCE).unwrap();
    let heard: Vec<Heard> = came.iter().map(|frame| station.hear(&frame.bytes)).collect();
    assert_eq!(heard, [Heard::Number(number)], "round {round}, in");
}

/// A layout for each round, split and packed in turn.
fn layout(round: usize) -> Layout {
    let half = Layout::ALL.len() / 2;
    Layout::ALL[round % 2 * half + round / 2 % half]
}

#[test]
fn vpp_519_a_hundred_vmms_one_after_the_other_lose_nobody_a_frame() {
    let mut stage = Stage::start(1, 1);
    let (mut descriptors, mut last) = (None, Instant::now());
    for round in 0..REBOOTS {
        let mut front = stage.guest(0, layout(round));
        assert_passing(&mut stage, &mut front, round);
        stage.expect_descriptors(*descriptors.get_or_insert_with(|| stage.descriptors()));
        std::thread::sleep(PACE.saturating_sub(last.elapsed()));
        drop(front);
        last = Instant::now();
    }
    stage.await_lockstep(20);
    assert!(stage.lost(0).is_empty(), "{:?}", stage.lost(0));
    assert_eq!(stage.shown(0)["reconnects"], REBOOTS - 1);
    stage.end();
}

#[test]
fn vpp_519_a_hundred_drivers_one_after_the_other_on_one_connection() {
    let mut stage = Stage::start(1, 1);
    let mut front = stage.guest(0, layout(0));
    let descriptors = stage.descriptors();
    for round in 0..REBOOTS {
        let begin = Instant::now();
        assert_passing(&mut stage, &mut front, round);
        std::thread::sleep(PACE.saturating_sub(begin.elapsed()));
        front.restart(layout(round + 1)).unwrap();
        stage.await_up(0);
    }
    stage.expect_descriptors(descriptors);
    stage.expect(0, "rebinds", &Expected::Drops(Vec::new()));
    assert_eq!(stage.shown(0)["reconnects"], 0);
    stage.end();
}
