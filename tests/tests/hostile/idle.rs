//! As many ports as there can be, all but two of them silent.

use hairpin_bench::front_end::{Layout, idle};

use super::stage::Stage;

/// Silent ports.
const IDLE: usize = 254;

#[test]
fn the_254_idle_ports_beside_two_that_exchange_frames() {
    let stage = Stage::start(IDLE, 1);
    let guests = idle::attach((0..IDLE).map(|number| stage.socket(number)), Layout::IDLE).unwrap();
    assert_eq!(guests.len(), IDLE);
    for number in 0..IDLE {
        let running = serde_json::json!({ "size": 64, "state": "running" });
        let pair = serde_json::json!([{ "receive": running, "transmit": running }]);
        if number % 50 == 0 {
            assert_eq!(stage.shown(number)["queues"], pair, "port {number}");
        }
    }
    stage.await_lockstep(2000);
    drop(guests);
    stage.await_lockstep(100);
    stage.end();
}
