//! What the lab tries: every VM to every other, and transfers over each path.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Result, bail};

use super::cable::{Cable, Direction, Seen};
use super::guests::{Guests, Transfer};
use super::plan::{Path, Tag, VmPlan, expected_path};
use super::progress::Progress;

/// Echoes over IPv4 whose times and ways are recorded for each pair.
const ECHOES: usize = 3;
/// Echoes to be sent until the first answer.
const TRIES: usize = 2;
/// When an echo counts as lost. A shared machine may stall for a while.
const ECHO_TIMEOUT: Duration = Duration::from_secs(2);
/// How long each transfer lasts.
const TRANSFER: Duration = Duration::from_millis(700);
/// Pairs that a transfer is made between, where the scenario has them: one for
/// each kind of path.
const TRANSFERS: [(&str, &str); 8] = [
    ("veb1", "veb2"),
    ("veb1", "vepa1"),
    ("vepa1", "vepa2"),
    ("blue1", "blue2"),
    ("green1", "green2"),
    ("blue1", "green1"),
    ("red1", "green1"),
    ("veb1", "server"),
];

/// How one VM reached another.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Reached {
    /// Indexes of both.
    pub from: usize,
    pub to: usize,
    /// The way that was seen at the cable.
    pub path: Path,
    /// The way it had to take.
    pub expected: Path,
    /// Times of the echoes over IPv4, shortest first.
    pub times: Vec<Duration>,
    /// Echoes lost, over IPv4 and IPv6.
    pub lost: usize,
    /// Frames on the cable that were there more than once.
    pub duplicates: u64,
}

impl Reached {
    /// Whether all is as expected.
    pub fn holds(&self) -> bool {
        self.path == self.expected && self.lost == 0 && self.duplicates == 0
    }
}

/// A transfer and who made it.
pub(super) struct Transferred {
    pub from: usize,
    pub to: usize,
    /// The way that was seen at the cable.
    pub path: Path,
    /// The way it had to take.
    pub expected: Path,
    pub transfer: Transfer,
}

impl Transferred {
    /// Whether it brought something, by the expected way.
    pub fn holds(&self) -> bool {
        self.transfer.bytes > 0 && self.path == self.expected
    }
}

/// Pings every ordered pair over IPv4 and IPv6.
pub(super) fn reach_all(
    vms: &[VmPlan],
    guests: &mut Guests,
    cable: &Cable,
    interrupted: &AtomicBool,
) -> Result<Vec<Reached>> {
    let pairs: Vec<_> = (0..vms.len())
        .flat_map(|from| (0..vms.len()).map(move |to| (from, to)))
        .filter(|(from, to)| from != to)
        .collect();
    let mut progress = Progress::new("pings", pairs.len());
    let mut reached = Vec::new();
    for (from, to) in pairs {
        stop_if(interrupted)?;
        progress.step(&format!("{} to {}", vms[from].name, vms[to].name));
        reached.push(reach(vms, (from, to), guests, cable));
    }
    Ok(reached)
}

fn reach(
    vms: &[VmPlan],
    (from, to): (usize, usize),
    guests: &mut Guests,
    cable: &Cable,
) -> Reached {
    let (a, b) = (&vms[from], &vms[to]);
    let mut ping = |to: IpAddr| guests.ping(from, to, ECHO_TIMEOUT);
    // The first echo of a pair waits for address resolution, which may take a second
    // try: it is not recorded.
    let mut resolve = |to: IpAddr| (0..TRIES).find_map(|_| ping(to));
    let (first, second) = (resolve(b.ipv4().into()), resolve(b.ipv6().into()));
    cable.forget();
    let mut times: Vec<_> = (0..ECHOES).filter_map(|_| ping(b.ipv4().into())).collect();
    let seen = cable.seen();
    let lost = usize::from(first.is_none()) + usize::from(second.is_none()) + ECHOES - times.len();
    let (path, duplicates) = path_of(&seen, a, b);
    times.sort();
    Reached { from, to, path, expected: expected_path(a, b), times, lost, duplicates }
}

/// The way that most frames from `a` to `b` took, and how many were there too often
/// or with another tag.
fn path_of(seen: &HashMap<Seen, u64>, a: &VmPlan, b: &VmPlan) -> (Path, u64) {
    let crossed = |direction| {
        let matches = |seen: &Seen| {
            seen.direction == direction && seen.source == a.mac() && seen.destination == b.mac()
        };
        let found: Vec<(Tag, u64)> = seen
            .iter()
            .filter(|(seen, _)| matches(seen))
            .map(|(seen, &count)| (seen.tag, count))
            .collect();
        let most = found.iter().max_by_key(|(_, count)| *count).copied();
        let (tag, count) = most.map_or((None, 0), |(tag, count)| (Some(tag), count));
        let astray: u64 = found.iter().map(|(_, count)| count).sum::<u64>() - count;
        (tag, count, astray)
    };
    let (out, sent, astray_out) = crossed(Direction::Out);
    let (back, returned, astray_back) = crossed(Direction::Back);
    // A frame that both leaves and returns does so once each way.
    let doubled = if out.is_some() && back.is_some() { returned.saturating_sub(sent) } else { 0 };
    (Path { out, back }, doubled + astray_out + astray_back)
}

/// Makes the transfers that the scenario has VMs for.
pub(super) fn transfer_all(
    vms: &[VmPlan],
    guests: &mut Guests,
    cable: &Cable,
    interrupted: &AtomicBool,
) -> Result<Vec<Transferred>> {
    let index = |name: &str| vms.iter().position(|vm| vm.name == name);
    let pairs: Vec<_> =
        TRANSFERS.iter().filter_map(|(from, to)| Some((index(from)?, index(to)?))).collect();
    let mut progress = Progress::new("transfers", pairs.len());
    let mut transferred = Vec::new();
    for (from, to) in pairs {
        stop_if(interrupted)?;
        progress.step(&format!("{} to {}", vms[from].name, vms[to].name));
        cable.forget();
        let transfer = guests.transfer(from, (to, vms[to].ipv4().into()), TRANSFER)?;
        let (a, b) = (&vms[from], &vms[to]);
        let (path, _) = path_of(&cable.seen(), a, b);
        let expected = expected_path(a, b);
        transferred.push(Transferred { from, to, path, expected, transfer });
    }
    Ok(transferred)
}

fn stop_if(interrupted: &AtomicBool) -> Result<()> {
    if interrupted.load(Ordering::Relaxed) {
        bail!("lab: interrupted; everything it made is removed");
    }
    Ok(())
}
