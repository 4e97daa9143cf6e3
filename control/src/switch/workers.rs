//! The workers: threads of the dataplane, started, fed and watched.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use core_affinity::CoreId;
use crossbeam_channel::{Receiver, SendError, Sender, bounded};
use hairpin_dataplane::relay::bucket::Reflections;
use hairpin_dataplane::relay::fdb::Fdb;
use hairpin_dataplane::snapshot::{DeviceId, Snapshot};
use hairpin_dataplane::sys::lane::TokenId;
use hairpin_dataplane::sys::published::Publisher;
use hairpin_dataplane::worker::command::{Command, CommandSender, Event, ReceiveQueue};
use hairpin_dataplane::worker::{Doing, Parts, Progress, Worker};

use super::meter::{Meter, Reading};
use crate::config::{Poll, SwitchConfig};

/// Events on their way; workers keep what does not fit.
const EVENTS_MAX: usize = 1024;
/// A breath longer than this is a stall.
pub const STALL: Duration = Duration::from_secs(1);

/// All workers of a switch.
#[derive(Debug)]
pub struct Crew {
    members: Vec<Member>,
    /// Both ends: the channel stays open when the last worker's thread has ended.
    events: (Sender<Event>, Receiver<Event>),
}

#[derive(Debug)]
struct Member {
    cpu: Option<usize>,
    token: TokenId,
    commands: CommandSender,
    progress: Arc<Progress>,
    thread: Option<JoinHandle<()>>,
    watch: Watch,
    meter: Meter,
}

/// What the watchdog saw last.
#[derive(Debug)]
struct Watch {
    breaths: u64,
    since: Instant,
    health: Health,
}

/// Whether a worker breathes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Health {
    /// It does, or sleeps.
    Breathing,
    /// It has been in one breath for longer than [`STALL`].
    Stalled,
    /// Its thread ended.
    Ended,
}

/// A change that the watchdog saw.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Alarm {
    /// Which worker.
    pub worker: usize,
    /// How it is now.
    pub health: Health,
    /// The device it was serving, if any.
    pub serving: Option<DeviceId>,
}

/// A worker as others see it.
#[derive(Clone, Debug)]
pub struct WorkerStatus {
    /// The CPU it is pinned to.
    pub cpu: Option<usize>,
    /// Breaths so far.
    pub breaths: u64,
    /// Sleeps so far.
    pub sleeps: u64,
    /// Nanoseconds of its time that frames took so far.
    pub busy_ns: u64,
    /// How it is.
    pub health: Health,
    /// The share of its time, 0 to 1, that frames took over the last second.
    pub load: f64,
}

/// A worker that can be told nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Gone;

/// Why the workers could not start.
#[derive(Debug, thiserror::Error)]
pub enum CrewError {
    /// A CPU cannot be used.
    #[error(
        "switch: workers: this process may not run on CPU {0}; name CPUs that are online and in \
         its affinity mask"
    )]
    Cpu(usize),
    /// The kernel refused memory, a descriptor or a thread.
    #[error("switch: workers: a worker could not be made: {0}; see ulimit and free memory")]
    Make(#[from] io::Error),
}

impl Crew {
    /// How many workers a configuration asks for.
    #[must_use]
    pub fn size(config: &SwitchConfig) -> usize {
        config.workers.len().max(1)
    }

    /// Starts the workers a configuration asks for.
    ///
    /// # Errors
    /// A CPU is not ours, or resources are short. Workers started already end.
    pub fn start(
        config: &SwitchConfig,
        publisher: &Publisher<Snapshot>,
        fdb: &Arc<Fdb>,
    ) -> Result<Crew, CrewError> {
        let events = bounded(EVENTS_MAX);
        let shared = Shared { fdb: Arc::clone(fdb), reflections: Arc::default() };
        let cpus: Vec<Option<usize>> = match &config.workers[..] {
            [] => vec![None],
            cpus => cpus.iter().copied().map(Some).collect(),
        };
        let mut crew = Crew { members: Vec::with_capacity(cpus.len()), events };
        for (index, cpu) in cpus.into_iter().enumerate() {
            let member = start_one(config, index, cpu, publisher, &shared, &crew.events.0);
            match member {
                Ok(member) => crew.members.push(member),
                Err(error) => {
                    crew.stop();
                    return Err(error);
                }
            }
        }
        Ok(crew)
    }

    /// Where the workers' events arrive.
    #[must_use]
    pub fn events(&self) -> Receiver<Event> {
        self.events.1.clone()
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.members.len()
    }

    /// The workers' tokens, for lanes of their own.
    #[must_use]
    pub fn tokens(&self) -> Vec<TokenId> {
        self.members.iter().map(|member| member.token).collect()
    }

    /// How one of them is.
    #[must_use]
    pub fn health(&self, worker: usize) -> Option<Health> {
        self.members.get(worker).map(|member| member.watch.health)
    }

    /// The way to each of them.
    #[must_use]
    pub fn commands(&self) -> Vec<CommandSender> {
        self.members.iter().map(|member| member.commands.clone()).collect()
    }

    /// Hands a queue to a worker.
    ///
    /// # Errors
    /// The queue, if there is no such worker or its thread has ended.
    pub fn adopt(
        &mut self,
        worker: usize,
        queue: Box<ReceiveQueue>,
    ) -> Result<(), Box<ReceiveQueue>> {
        let Some(member) = self.members.get(worker) else { return Err(queue) };
        match member.commands.send(Command::Adopt(queue)) {
            Err(SendError(Command::Adopt(queue))) => Err(queue),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Has a worker say ([`Event::Reported`], with this number) when it has done all that it
    /// was told before.
    ///
    /// # Errors
    /// There is no such worker, or its thread has ended.
    pub fn ask_report(&mut self, worker: usize, number: u64) -> Result<(), Gone> {
        let member = self.members.get(worker).ok_or(Gone)?;
        member.commands.send(Command::Report(number)).map_err(|_| Gone)
    }

    /// Takes a device's queues from the workers that serve it.
    pub fn dismiss(&mut self, device: DeviceId, placement: &[usize]) {
        for member in placement.iter().filter_map(|&worker| self.members.get(worker)) {
            // One whose thread has ended has none any more.
            let _ = member.commands.send(Command::Dismiss(device));
        }
    }

    /// Takes one queue from the worker that serves it.
    ///
    /// # Errors
    /// There is no such worker, or its thread has ended.
    pub fn dismiss_queue(
        &mut self,
        worker: usize,
        device: DeviceId,
        index: u16,
    ) -> Result<(), Gone> {
        let member = self.members.get(worker).ok_or(Gone)?;
        member.commands.send(Command::DismissQueue { device, index }).map_err(|_| Gone)
    }

    /// Ends one of them, as no command does.
    #[cfg(test)]
    pub fn end_one(&mut self, worker: usize) {
        let member = &mut self.members[worker];
        let _ = member.commands.send(Command::Stop);
        // Seen to have ended as soon as the watchdog looks.
        let _ = member.thread.take().map(JoinHandle::join);
    }

    /// Takes note of what they did since the last look.
    pub fn measure(&mut self, now: Instant) {
        for Member { meter, progress, .. } in &mut self.members {
            let busy_ns = || Reading { busy_ns: progress.busy_ns.get(), ..Reading::default() };
            meter.look(now, busy_ns);
        }
    }

    /// Lets all workers see a new snapshot although no frame comes.
    pub fn wake(&self) {
        self.members.iter().for_each(|member| member.commands.wake());
    }

    /// Looks after the workers; says whose health has changed.
    pub fn watch(&mut self, now: Instant) -> Vec<Alarm> {
        let look = |(worker, member): (usize, &mut Member)| member.watch(worker, now);
        self.members.iter_mut().enumerate().filter_map(look).collect()
    }

    /// How the workers are.
    #[must_use]
    pub fn status(&self) -> Vec<WorkerStatus> {
        let status = |member: &Member| WorkerStatus {
            cpu: member.cpu,
            breaths: member.progress.breaths.load(Ordering::Relaxed),
            sleeps: member.progress.sleeps.load(Ordering::Relaxed),
            busy_ns: member.progress.busy_ns.get(),
            health: member.watch.health,
            load: member.meter.rate().load,
        };
        self.members.iter().map(status).collect()
    }

    /// Ends the workers and waits for them.
    pub fn stop(&mut self) {
        for member in &self.members {
            let _ = member.commands.send(Command::Stop);
        }
        for thread in self.members.iter_mut().filter_map(|member| member.thread.take()) {
            // A worker contains its panics; one that escaped was logged by the hook.
            let _ = thread.join();
        }
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Member {
    fn watch(&mut self, worker: usize, now: Instant) -> Option<Alarm> {
        let signs = Signs {
            breaths: self.progress.breaths.load(Ordering::Relaxed),
            doing: self.progress.doing(),
            thread: match &self.thread {
                Some(thread) if !thread.is_finished() => Thread::Running,
                _ => Thread::Ended,
            },
        };
        self.watch.look(worker, signs, now)
    }
}

/// What a worker shows of itself.
#[derive(Clone, Copy, Debug)]
struct Signs {
    breaths: u64,
    doing: Doing,
    thread: Thread,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Thread {
    Running,
    Ended,
}

impl Watch {
    fn begin(now: Instant) -> Watch {
        Watch { breaths: 0, since: now, health: Health::Breathing }
    }

    /// Compares with what was seen before; says so if the health is another now.
    fn look(&mut self, worker: usize, signs: Signs, now: Instant) -> Option<Alarm> {
        if signs.breaths != self.breaths || signs.doing == Doing::Sleeping {
            (self.breaths, self.since) = (signs.breaths, now);
        }
        let health = if signs.thread == Thread::Ended {
            Health::Ended
        } else if now.saturating_duration_since(self.since) > STALL {
            Health::Stalled
        } else {
            Health::Breathing
        };
        if std::mem::replace(&mut self.health, health) == health {
            return None;
        }
        let serving = match signs.doing {
            Doing::Serving(device) => Some(device),
            Doing::Nothing | Doing::Sleeping => None,
        };
        Some(Alarm { worker, health, serving })
    }
}

/// Commands that may wait for a worker; control waits beyond.
const COMMANDS_MAX: usize = 1024;

/// What all workers write to.
#[derive(Clone)]
struct Shared {
    fdb: Arc<Fdb>,
    reflections: Arc<Reflections>,
}

/// What a worker tells of itself before it starts to work.
struct Introduction {
    token: TokenId,
    progress: Arc<Progress>,
    commands: CommandSender,
}

fn start_one(
    config: &SwitchConfig,
    index: usize,
    cpu: Option<usize>,
    publisher: &Publisher<Snapshot>,
    shared: &Shared,
    events: &Sender<Event>,
) -> Result<Member, CrewError> {
    // Bounded, so that taking a command never frees memory in the worker.
    let (command_sender, commands) = bounded(COMMANDS_MAX);
    let snapshot =
        publisher.reader().ok_or_else(|| io::Error::other("no reader is left for a worker"))?;
    let poll = match config.poll {
        Poll::Adaptive => hairpin_dataplane::worker::Poll::Adaptive,
        Poll::Busy => hairpin_dataplane::worker::Poll::Busy,
    };
    let (Shared { fdb, reflections }, events) = (shared.clone(), events.clone());
    let parts = Parts { index, poll, snapshot, fdb, reflections, events, commands };
    let (introduce, introduced) = bounded(1);
    let thread = std::thread::Builder::new().name(format!("worker{index}")).spawn(move || {
        // Made on its own CPU, so that its memory is near.
        match made(parts, cpu, command_sender) {
            Ok((worker, introduction)) => {
                if introduce.send(Ok(introduction)).is_ok() {
                    worker.run();
                }
            }
            // Control waits for exactly this answer.
            Err(error) => drop(introduce.send(Err(error))),
        }
    })?;
    let gone = |_| Err(io::Error::other("its thread ended at once").into());
    let Introduction { token, progress, commands } = introduced.recv().unwrap_or_else(gone)?;
    let (watch, meter) = (Watch::begin(Instant::now()), Meter::begin(Instant::now()));
    Ok(Member { cpu, token, commands, progress, thread: Some(thread), watch, meter })
}

/// A worker, made on the thread and the CPU that it will work on.
fn made(
    parts: Parts,
    cpu: Option<usize>,
    command_sender: Sender<Command>,
) -> Result<(Worker, Introduction), CrewError> {
    if let Some(id) = cpu.filter(|&id| !core_affinity::set_for_current(CoreId { id })) {
        return Err(CrewError::Cpu(id));
    }
    let worker = Worker::new(parts)?;
    let introduction = Introduction {
        token: worker.token_id(),
        progress: worker.progress(),
        commands: worker.command_sender(command_sender),
    };
    Ok((worker, introduction))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Desired};
    use crate::switch::Switch;

    const WORKER: usize = 3;
    const SERVING: Signs =
        Signs { breaths: 7, doing: Doing::Serving(DeviceId(5)), thread: Thread::Running };

    fn alarm(health: Health, serving: Option<DeviceId>) -> Option<Alarm> {
        Some(Alarm { worker: WORKER, health, serving })
    }

    #[test]
    fn a_worker_that_stays_in_one_breath_is_stalled_until_it_breathes_again() {
        let start = Instant::now();
        let mut watch = Watch::begin(start);
        let mut look = |signs, after| watch.look(WORKER, signs, start + after);
        assert_eq!(look(SERVING, Duration::ZERO), None);
        assert_eq!(look(SERVING, STALL), None);
        let stalled = alarm(Health::Stalled, Some(DeviceId(5)));
        assert_eq!(look(SERVING, 2 * STALL), stalled);
        assert_eq!(look(SERVING, 3 * STALL), None, "it is said once");
        let breathes = Signs { breaths: 8, doing: Doing::Nothing, ..SERVING };
        assert_eq!(look(breathes, 4 * STALL), alarm(Health::Breathing, None));
    }

    #[test]
    fn a_worker_that_sleeps_is_well_however_long() {
        let start = Instant::now();
        let mut watch = Watch::begin(start);
        let asleep = Signs { doing: Doing::Sleeping, ..SERVING };
        for seconds in [0, 10, 20] {
            assert_eq!(watch.look(WORKER, asleep, start + seconds * STALL), None);
        }
        // What counts is the time since it woke.
        assert_eq!(watch.look(WORKER, SERVING, start + 20 * STALL + STALL / 2), None);
    }

    #[test]
    fn a_thread_that_ended_is_no_stall() {
        let start = Instant::now();
        let mut watch = Watch::begin(start);
        let ended = Signs { thread: Thread::Ended, ..SERVING };
        let said = watch.look(WORKER, ended, start + 2 * STALL);
        assert_eq!(said, alarm(Health::Ended, Some(DeviceId(5))));
    }

    #[test]
    fn the_end_of_the_only_worker_is_reported() {
        let switch = Switch::start(Desired::try_from(Config::default()).unwrap()).unwrap();
        switch.engine().crew.members[0].commands.send(Command::Stop).unwrap();
        let patience = Instant::now() + Duration::from_secs(20);
        while switch.view().workers[0].health != Health::Ended {
            assert!(Instant::now() < patience, "nobody looks after the workers any more");
            std::thread::sleep(Duration::from_millis(2));
        }
        switch.stop();
    }
}
