//! The two ports of the wire, and the worker that runs while both are up.

use super::worker::{self, Port, Probed, Unprobed, Work};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

/// Whether the worker looks where its time goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Profile {
    /// It does not.
    Off,
    /// Four times a burst; printed on standard error when the worker stops.
    Stages,
}

/// The ports and the worker.
#[derive(Debug)]
pub struct Site {
    cpu: usize,
    work: Work,
    profile: Profile,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    ports: [Option<Port>; 2],
    worker: Option<(Arc<AtomicBool>, JoinHandle<[Port; 2]>)>,
    announced: bool,
}

impl Site {
    /// A wire whose worker is to run on a CPU; says `ready` when it first does.
    #[must_use]
    pub fn new(cpu: usize, work: Work, profile: Profile) -> Arc<Site> {
        Arc::new(Site { cpu, work, profile, state: Mutex::default() })
    }

    /// The same, which says nothing on standard output.
    #[must_use]
    pub fn silent(cpu: usize, work: Work) -> Arc<Site> {
        let state = Mutex::new(State { announced: true, ..State::default() });
        Arc::new(Site { cpu, work, profile: Profile::Off, state })
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Brings a port up; starts the worker if the other one is up too.
    pub fn up(&self, index: usize, port: Port) {
        let mut state = self.state();
        state.halt();
        state.ports[index] = Some(port);
        state.start(self);
    }

    /// Takes a port down; the worker has stopped when this returns.
    pub fn down(&self, index: usize) -> Option<Port> {
        let mut state = self.state();
        state.halt();
        state.ports[index].take()
    }

    /// Stops the worker and says on standard error what was counted.
    pub fn finish(&self) {
        let mut state = self.state();
        state.halt();
        for (index, port) in state.ports.iter().enumerate() {
            match port {
                Some(port) => eprintln!("port {index}: {:?}", port.counts),
                None => eprintln!("port {index}: down"),
            }
        }
    }
}

impl State {
    fn halt(&mut self) {
        let Some((stop, thread)) = self.worker.take() else { return };
        stop.store(true, Ordering::Relaxed);
        match thread.join() {
            Ok(ports) => self.ports = ports.map(Some),
            Err(_) => eprintln!("the worker panicked"),
        }
    }

    fn start(&mut self, site: &Site) {
        let (cpu, work, profile) = (site.cpu, site.work, site.profile);
        let [Some(_), Some(_)] = &self.ports else { return };
        let [Some(a), Some(b)] = std::mem::take(&mut self.ports) else { return };
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            if !core_affinity::set_for_current(core_affinity::CoreId { id: cpu }) {
                eprintln!("CPU {cpu}: the worker could not be pinned to it");
            }
            let mut ports = [a, b];
            run(&mut ports, work, profile, &stopped);
            ports
        });
        self.worker = Some((stop, thread));
        if !std::mem::replace(&mut self.announced, true) {
            println!("ready");
        }
    }
}

fn run(ports: &mut [Port; 2], work: Work, profile: Profile, stop: &AtomicBool) {
    match profile {
        Profile::Off => worker::run(ports, work, stop, &mut Unprobed),
        Profile::Stages => {
            let mut probe = Probed::default();
            let before: u64 = ports.iter().map(|port| port.counts.received).sum();
            worker::run(ports, work, stop, &mut probe);
            let after: u64 = ports.iter().map(|port| port.counts.received).sum();
            let frames = (after - before).max(1) as f64;
            let [receive, transmit, release] =
                [probe.stages.receive, probe.stages.transmit, probe.stages.release]
                    .map(|nanoseconds| nanoseconds as f64 / frames);
            eprintln!(
                "ns/frame: receive {receive:.1}, transmit {transmit:.1}, release {release:.1}"
            );
        }
    }
}
