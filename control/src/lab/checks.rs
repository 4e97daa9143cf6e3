//! What the lab tries: every VM to every other, and transfers over each path.

use std::time::Duration;

use anyhow::Result;

use super::cable::{Amount, Cable, Crossed, Direction, Traffic};
use super::guests::{Guests, Transfer};
use super::plan::{Family, Path, VmPlan, expected_path};
use super::progress::{Interrupt, Progress};

/// Echoes whose times and ways are recorded for each pair and family.
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
    /// The way that frames had to take.
    pub expected: Path,
    /// What came of it over IPv4 and over IPv6.
    pub ipv4: Echoes,
    pub ipv6: Echoes,
}

impl Reached {
    /// Whether all is as expected.
    pub fn holds(&self) -> bool {
        Family::ALL.iter().all(|&family| self.over(family).hold(self.expected))
    }

    pub fn over(&self, family: Family) -> &Echoes {
        match family {
            Family::Ipv4 => &self.ipv4,
            Family::Ipv6 => &self.ipv6,
        }
    }
}

/// What came of the echoes from one VM to another over one family.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Echoes {
    /// The way that was seen at the cable.
    pub path: Path,
    /// Round-trip times, shortest first.
    pub times: Vec<Duration>,
    /// Echoes without an answer.
    pub lost: usize,
    /// Requests that were at the cable more than once, or in another channel too.
    pub surplus: u64,
    /// Requests that went another way than past the cable, where others passed it.
    pub missing: u64,
}

impl Echoes {
    /// Whether all came back, each by the expected way.
    fn hold(&self, expected: Path) -> bool {
        self.path == expected && self.lost == 0 && self.surplus == 0 && self.missing == 0
    }

    /// Judges [`ECHOES`] requests by what crossed the cable meanwhile, the times of those
    /// that were answered, and how many were lost, with any before these.
    fn judge(sighting: &Sighting, mut times: Vec<Duration>, lost: usize) -> Echoes {
        times.sort();
        let sent = ECHOES as u64;
        let counts = sighting.crossings().map(|amount| amount.frames);
        let surplus: u64 = counts.clone().map(|count| count.saturating_sub(sent)).sum();
        let missing = counts.map(|count| sent.saturating_sub(count)).sum();
        let surplus = surplus + sighting.astray;
        Echoes { path: sighting.path, times, lost, surplus, missing }
    }
}

/// A transfer and who made it.
#[derive(Debug)]
pub(super) struct Transferred {
    pub from: usize,
    pub to: usize,
    /// The way that was seen at the cable.
    pub path: Path,
    /// The way it had to take.
    pub expected: Path,
    /// What it brought, or why it brought nothing.
    pub outcome: Result<Transfer>,
    /// Frames in another channel than most.
    pub astray: u64,
    /// Bytes that arrived by another way than past the cable, where others passed it.
    pub unseen_bytes: u64,
}

impl Transferred {
    /// Whether it brought something, all of it by the expected way.
    pub fn holds(&self) -> bool {
        let brought = self.outcome.as_ref().is_ok_and(|transfer| transfer.bytes > 0);
        brought && self.path == self.expected && self.astray == 0 && self.unseen_bytes == 0
    }

    fn judge(
        (from, to): (usize, usize),
        expected: Path,
        sighting: &Sighting,
        outcome: Result<Transfer>,
    ) -> Transferred {
        let bytes = outcome.as_ref().map_or(0, |transfer| transfer.bytes);
        let passed = sighting.crossings().map(|amount| amount.bytes);
        let unseen_bytes = passed.map(|passed| bytes.saturating_sub(passed)).sum();
        let (path, astray) = (sighting.path, sighting.astray);
        Transferred { from, to, path, expected, outcome, astray, unseen_bytes }
    }
}

/// What was seen at the cable of one VM's traffic to another.
struct Sighting {
    /// The way that most of it took.
    path: Path,
    /// How much took it.
    out: Amount,
    back: Amount,
    /// Frames that bore another tag.
    astray: u64,
}

impl Sighting {
    fn of(crossed: &Crossed, a: &VmPlan, b: &VmPlan, traffic: Traffic) -> Sighting {
        let went = |direction| {
            let ours = crossed.iter().filter(move |(seen, _)| {
                (seen.direction, seen.traffic) == (direction, traffic)
                    && (seen.source, seen.destination) == (a.mac(), b.mac())
            });
            let frames: u64 = ours.clone().map(|(_, amount)| amount.frames).sum();
            let most = ours.max_by_key(|(_, amount)| amount.frames);
            let (tag, amount) =
                most.map_or((None, Amount::default()), |(seen, &amount)| (Some(seen.tag), amount));
            (tag, amount, frames - amount.frames)
        };
        let (out_tag, out, astray_out) = went(Direction::Out);
        let (back_tag, back, astray_back) = went(Direction::Back);
        let path = Path { out: out_tag, back: back_tag };
        Sighting { path, out, back, astray: astray_out + astray_back }
    }

    /// How much passed the cable, once for each direction in which anything did.
    fn crossings(&self) -> impl Iterator<Item = Amount> + Clone {
        let out = self.path.out.map(|_| self.out);
        out.into_iter().chain(self.path.back.map(|_| self.back))
    }
}

/// Pings every ordered pair over IPv4 and IPv6.
pub(super) fn reach_all(
    vms: &[VmPlan],
    guests: &mut Guests,
    cable: &Cable,
    interrupt: &Interrupt,
) -> Result<Vec<Reached>> {
    let pairs: Vec<_> = (0..vms.len())
        .flat_map(|from| (0..vms.len()).map(move |to| (from, to)))
        .filter(|(from, to)| from != to)
        .collect();
    let mut progress = Progress::new("pings", pairs.len());
    let mut reached = Vec::new();
    for (from, to) in pairs {
        progress.step(&format!("{} to {}", vms[from].name, vms[to].name));
        let mut over = |family| reach(vms, (from, to), family, guests, cable, interrupt);
        let (ipv4, ipv6) = (over(Family::Ipv4)?, over(Family::Ipv6)?);
        let expected = expected_path(&vms[from], &vms[to]);
        reached.push(Reached { from, to, expected, ipv4, ipv6 });
    }
    Ok(reached)
}

fn reach(
    vms: &[VmPlan],
    (from, to): (usize, usize),
    family: Family,
    guests: &mut Guests,
    cable: &Cable,
    interrupt: &Interrupt,
) -> Result<Echoes> {
    let mut ping = || {
        interrupt.check()?;
        anyhow::Ok(guests.ping(from, vms[to].address(family), ECHO_TIMEOUT))
    };
    // The first echo of a pair waits for address resolution, which may take a second
    // try: it is not recorded.
    let mut resolved = ping()?;
    for _ in 1..TRIES {
        resolved = if resolved.is_some() { resolved } else { ping()? };
    }
    cable.forget();
    let echoes = (0..ECHOES).map(|_| ping()).collect::<Result<Vec<_>>>()?;
    let times: Vec<_> = echoes.into_iter().flatten().collect();
    let lost = usize::from(resolved.is_none()) + ECHOES - times.len();
    let sighting = Sighting::of(&cable.seen(), &vms[from], &vms[to], Traffic::Echo(family));
    Ok(Echoes::judge(&sighting, times, lost))
}

/// Makes the transfers that the scenario has VMs for.
pub(super) fn transfer_all(
    vms: &[VmPlan],
    guests: &mut Guests,
    cable: &Cable,
    interrupt: &Interrupt,
) -> Result<Vec<Transferred>> {
    let index = |name: &str| vms.iter().position(|vm| vm.name == name);
    let pairs: Vec<_> =
        TRANSFERS.iter().filter_map(|(from, to)| Some((index(from)?, index(to)?))).collect();
    let mut progress = Progress::new("transfers", pairs.len());
    let mut transferred = Vec::new();
    for (from, to) in pairs {
        progress.step(&format!("{} to {}", vms[from].name, vms[to].name));
        cable.forget();
        let outcome = guests.transfer(from, (to, vms[to].ipv4().into()), TRANSFER);
        interrupt.check()?;
        let (a, b) = (&vms[from], &vms[to]);
        let sighting = Sighting::of(&cable.seen(), a, b, Traffic::Tcp(Family::Ipv4));
        let expected = expected_path(a, b);
        transferred.push(Transferred::judge((from, to), expected, &sighting, outcome));
    }
    Ok(transferred)
}

#[cfg(test)]
mod tests {
    use std::process::ExitCode;

    use hairpin_dataplane::ledger::Totals;

    use super::super::cable::Seen;
    use super::super::findings::{Findings, Ledger};
    use super::super::plan::{Scenario, Tag};
    use super::super::report::report;
    use super::*;

    const SENT: u64 = ECHOES as u64;
    const ECHO_V6: Traffic = Traffic::Echo(Family::Ipv6);
    const TCP: Traffic = Traffic::Tcp(Family::Ipv4);
    const BYTES: u64 = 1 << 20;

    /// What a lab might have seen of one pair.
    struct Evidence {
        vms: Vec<VmPlan>,
        pair: (usize, usize),
        crossed: Crossed,
        answered: usize,
        transferred: Result<u64, &'static str>,
        ledger: Ledger,
    }

    impl Evidence {
        /// Of a pair, everything as it should be.
        fn of(from: &str, to: &str) -> Evidence {
            let vms = Scenario::All.vms();
            let index = |name: &str| vms.iter().position(|vm| vm.name == name).unwrap();
            let pair = (index(from), index(to));
            let ledger = Ledger::from([("up0".to_owned(), Totals::default())]);
            let (crossed, transferred) = (Crossed::new(), Ok(BYTES));
            let mut evidence =
                Evidence { vms, pair, crossed, answered: ECHOES, transferred, ledger };
            let path = evidence.expected();
            let directions = [(Direction::Out, path.out), (Direction::Back, path.back)];
            for (direction, tag) in directions {
                if let Some(tag) = tag {
                    for family in Family::ALL {
                        evidence.cross(direction, tag, Traffic::Echo(family), SENT);
                    }
                    evidence.cross(direction, tag, TCP, 800);
                }
            }
            evidence
        }

        fn expected(&self) -> Path {
            expected_path(&self.vms[self.pair.0], &self.vms[self.pair.1])
        }

        fn seen(&self, direction: Direction, tag: Tag, traffic: Traffic) -> Seen {
            let (source, destination) = (self.vms[self.pair.0].mac(), self.vms[self.pair.1].mac());
            Seen { direction, tag, source, destination, traffic }
        }

        /// Sets how many frames crossed the cable.
        fn cross(&mut self, direction: Direction, tag: Tag, traffic: Traffic, frames: u64) {
            let seen = self.seen(direction, tag, traffic);
            let amount = Amount { frames, bytes: frames * 1514 };
            if frames == 0 {
                self.crossed.remove(&seen);
            } else {
                self.crossed.insert(seen, amount);
            }
        }

        fn findings(self) -> Findings {
            let (from, to) = self.pair;
            let expected = self.expected();
            let sighting =
                |traffic| Sighting::of(&self.crossed, &self.vms[from], &self.vms[to], traffic);
            let over = |family| {
                let times = vec![Duration::from_micros(9); self.answered];
                Echoes::judge(&sighting(Traffic::Echo(family)), times, ECHOES - self.answered)
            };
            let (ipv4, ipv6) = (over(Family::Ipv4), over(Family::Ipv6));
            let outcome = self
                .transferred
                .map_err(anyhow::Error::msg)
                .map(|bytes| Transfer { bytes, elapsed: Duration::from_secs(1) });
            let transferred = Transferred::judge(self.pair, expected, &sighting(TCP), outcome);
            Findings {
                reached: vec![Reached { from, to, expected, ipv4, ipv6 }],
                transferred: vec![transferred],
                ledgers: vec![("station", self.ledger)],
            }
        }
    }

    const UNTAGGED: Tag = Tag(None);
    const BLUE: Tag = Tag(Some(100));
    const GREEN: Tag = Tag(Some(200));

    /// Asserts that the lab fails on what was changed in a pair's evidence, with a report
    /// that says so.
    #[track_caller]
    fn assert_fails((from, to): (&str, &str), says: &str, change: impl FnOnce(&mut Evidence)) {
        let mut evidence = Evidence::of(from, to);
        change(&mut evidence);
        let vms = evidence.vms.clone();
        let findings = evidence.findings();
        assert_eq!(findings.exit_code(), ExitCode::FAILURE);
        let report = report(&vms, &findings);
        assert!(report.contains(says), "{says:?} is not in:\n{report}");
    }

    #[test]
    fn what_is_as_expected_succeeds() {
        let pairs = [
            ("veb1", "veb2"),
            ("vepa1", "veb2"),
            ("blue1", "blue2"),
            ("red1", "green1"),
            ("veb1", "server"),
            ("server", "red1"),
        ];
        for (from, to) in pairs {
            let evidence = Evidence::of(from, to);
            let vms = evidence.vms.clone();
            let findings = evidence.findings();
            let report = report(&vms, &findings);
            assert_eq!(findings.exit_code(), ExitCode::SUCCESS, "{from} to {to}:\n{report}");
            assert!(!report.contains("\n  !"), "{report}");
        }
    }

    #[test]
    fn a_lost_frame_fails() {
        assert_fails(("vepa1", "vepa2"), "1 echoes lost", |seen| seen.answered -= 1);
        assert_fails(("blue1", "blue2"), "0 too few", |seen| {
            // It went out, came back, and was not answered.
            seen.answered -= 1;
        });
        assert_fails(("blue1", "green1"), "1 too few", |seen| {
            seen.cross(Direction::Back, GREEN, ECHO_V6, SENT - 1);
        });
    }

    #[test]
    fn a_pair_that_is_not_reached_fails_though_nothing_went_astray() {
        assert_fails(("veb1", "veb2"), "3 echoes lost", |seen| seen.answered = 0);
        assert_fails(("vepa1", "vepa2"), "path local (expected hairpin untagged)", |seen| {
            seen.answered = 0;
            seen.crossed.clear();
        });
    }

    #[test]
    fn local_instead_of_hairpinned_fails_even_for_one_frame_and_one_family() {
        assert_fails(("vepa1", "vepa2"), "IPv6: path local", |seen| {
            seen.cross(Direction::Out, UNTAGGED, ECHO_V6, 0);
            seen.cross(Direction::Back, UNTAGGED, ECHO_V6, 0);
        });
        assert_fails(("vepa1", "vepa2"), "2 too few", |seen| {
            seen.cross(Direction::Out, UNTAGGED, ECHO_V6, SENT - 1);
            seen.cross(Direction::Back, UNTAGGED, ECHO_V6, SENT - 1);
        });
    }

    #[test]
    fn hairpinned_instead_of_local_fails() {
        assert_fails(("green1", "green2"), "path hairpin S-200 (expected local)", |seen| {
            seen.cross(Direction::Out, GREEN, ECHO_V6, SENT);
            seen.cross(Direction::Back, GREEN, ECHO_V6, SENT);
        });
        // A copy that leaves, although the frame was delivered locally.
        assert_fails(("green1", "green2"), "path out S-200 (expected local)", |seen| {
            seen.cross(Direction::Out, GREEN, ECHO_V6, 1);
        });
    }

    #[test]
    fn a_wrong_channel_fails_even_for_one_frame() {
        assert_fails(("blue1", "blue2"), "path S-100 > S-200 (expected hairpin", |seen| {
            seen.cross(Direction::Back, BLUE, ECHO_V6, 0);
            seen.cross(Direction::Back, GREEN, ECHO_V6, SENT);
        });
        assert_fails(("blue1", "blue2"), "1 requests too many", |seen| {
            seen.cross(Direction::Back, GREEN, ECHO_V6, 1);
        });
        assert_fails(("blue1", "blue2"), "path untagged > S-100", |seen| {
            seen.cross(Direction::Out, BLUE, ECHO_V6, 0);
            seen.cross(Direction::Out, UNTAGGED, ECHO_V6, SENT);
        });
    }

    #[test]
    fn a_frame_that_comes_twice_fails() {
        assert_fails(("vepa1", "vepa2"), "1 requests too many", |seen| {
            seen.cross(Direction::Back, UNTAGGED, ECHO_V6, SENT + 1);
        });
    }

    #[test]
    fn a_transfer_that_fails_or_goes_another_way_fails() {
        assert_fails(("veb1", "veb2"), "no route", |seen| seen.transferred = Err("no route"));
        assert_fails(("veb1", "veb2"), ": path local (expected local), 0 bytes", |seen| {
            seen.transferred = Ok(0);
        });
        assert_fails(("veb1", "veb2"), "over TCP: path hairpin untagged", |seen| {
            seen.cross(Direction::Out, UNTAGGED, TCP, 800);
            seen.cross(Direction::Back, UNTAGGED, TCP, 800);
        });
        assert_fails(("blue1", "blue2"), "2 frames in another channel", |seen| {
            seen.cross(Direction::Back, GREEN, TCP, 2);
        });
        // Half of it was switched locally.
        assert_fails(("vepa1", "vepa2"), "bytes not past the cable", |seen| {
            seen.cross(Direction::Out, UNTAGGED, TCP, 400);
            seen.cross(Direction::Back, UNTAGGED, TCP, 400);
        });
    }

    #[test]
    fn a_ledger_that_does_not_balance_fails() {
        let says = "the ledger of the switch station does not balance";
        let totals = |seen: &mut Evidence, change: fn(&mut Totals)| {
            change(seen.ledger.get_mut("up0").unwrap());
        };
        assert_fails(("veb1", "veb2"), says, |seen| totals(seen, |up0| up0.rx_frames = 1));
        assert_fails(("veb1", "veb2"), says, |seen| totals(seen, |up0| up0.offered = 1));
        // Each device balances, but a copy got lost between them.
        assert_fails(("veb1", "veb2"), says, |seen| totals(seen, |up0| up0.fan_out = 1));
    }
}
