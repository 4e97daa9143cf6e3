//! What a worker waits for: of queues that left it nothing, and before a doorbell that is
//! due has been rung it does not sleep at all.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::super::idle::{EMPTY_POLLS_MAX, SPIN_NS, Wait};
use super::super::{Activity, Breath, Worker};
use super::wiring::{Wiring, frame, mac};
use crate::ledger::DropReason;
use crate::snapshot::DeviceId;
use crate::sys::lane::WorkerToken;
use crate::wire::offload::Offload;
use crate::worker::command::{Command, Event, ReceiveQueue};

const NOTHING: Breath = Breath { frames: 0 };
/// Long enough after any frame here.
const LATE_NS: u64 = 1000 * SPIN_NS;

fn are_armed(worker: &Worker) -> bool {
    let mut activities = worker.queues.keys().filter_map(|key| worker.queues.activity(key));
    activities.all(|activity| activity == Activity::Armed)
}

/// Breathes, without a sleep, until all queues are armed.
#[track_caller]
fn fall_silent(wiring: &mut Wiring) {
    for _ in 0..=EMPTY_POLLS_MAX {
        wiring.breathe();
        wiring.worker.rest(NOTHING, 0);
    }
    assert!(are_armed(&wiring.worker), "a silent queue is still polled");
}

/// The queues that the worker gave back, boxed as they travel.
#[allow(clippy::vec_box, reason = "they go back in the box in which they came")]
fn dismissed(wiring: &Wiring) -> Vec<Box<ReceiveQueue>> {
    let queue = |event| match event {
        Event::Dismissed(queue) => Some(queue),
        _ => None,
    };
    wiring.events.try_iter().filter_map(queue).collect()
}

/// Makes a queue's wake-up descriptor readable, asked for or not.
fn wake(queue: &ReceiveQueue) {
    rustix::io::write(queue.receiver.wake_fd(), &1_u64.to_ne_bytes()).unwrap();
}

fn leaves_while_armed(leave: Command) {
    let mut wiring = Wiring::new(2);
    fall_silent(&mut wiring);
    wiring.commands.send(leave).unwrap();
    wiring.worker.take_commands();
    let [queue] = <[Box<ReceiveQueue>; 1]>::try_from(dismissed(&wiring)).unwrap();
    wake(&queue);
    assert!(wiring.worker.poller.wait(Wait::Look).is_empty(), "it wakes a worker that it left");
    rustix::io::read(queue.receiver.wake_fd(), &mut [0; 8]).unwrap();
    // Where it comes back, as after a quarantine, it is polled, armed and woken as before.
    wiring.commands.send(Command::Adopt(queue)).unwrap();
    wiring.worker.take_commands();
    assert!(!are_armed(&wiring.worker));
    fall_silent(&mut wiring);
    wiring.endpoints[1].send(&frame(1, mac(0), 60), Offload::NONE).unwrap();
    wiring.worker.rest(NOTHING, 0);
    assert_eq!(wiring.breathe(), 1);
}

#[test]
fn a_queue_that_leaves_while_armed_wakes_nobody_any_more() {
    leaves_while_armed(Command::DismissQueue { device: DeviceId(1), index: 0 });
    leaves_while_armed(Command::Dismiss(DeviceId(1)));
}

#[test]
fn a_doorbell_that_is_due_keeps_a_worker_awake() {
    let mut wiring = Wiring::new(2);
    let sleeps = |wiring: &Wiring| wiring.worker.progress.sleeps.load(Ordering::Relaxed);
    let attached = Arc::clone(&wiring.attached[1]);
    let mut another = WorkerToken::new();
    let held = attached.transmitters[0].enter(&mut another).unwrap();
    wiring.endpoints[0].send(&frame(0, mac(1), 60), Offload::NONE).unwrap();
    assert_eq!(wiring.breathe(), 1);
    fall_silent(&mut wiring);
    wiring.worker.rest(NOTHING, LATE_NS);
    assert_eq!(sleeps(&wiring), 0, "it sleeps although a doorbell is due");
    drop(held);
    wiring.breathe();
    // So that it does not sleep for long.
    rustix::io::write(&*wiring.worker.poller.waker(), &1_u64.to_ne_bytes()).unwrap();
    wiring.worker.rest(NOTHING, LATE_NS);
    assert_eq!(sleeps(&wiring), 1);
    assert_eq!(wiring.totals(1).dropped(DropReason::TransmitBusy), 1);
}
