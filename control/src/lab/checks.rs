//! What the lab tries: every VM to every other, and transfers over each path.

use std::time::Duration;

use anyhow::Result;
use hairpin_dataplane::ledger::DropReason;

use super::cable::{Amount, Crossed, Direction, Traffic};
use super::guests::{Patience, Transfer};
use super::plan::{Expectation, Family, Path, VmPlan};
use super::progress::{Interrupt, Progress};
use super::site::Site;
use super::strangers::Strangers;

/// Echoes whose times and ways are recorded for each pair and family.
pub(super) const ECHOES: usize = 3;
/// Echoes to be sent until the first answer.
const TRIES: usize = 2;
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

/// How much time is taken.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    /// When an echo counts as lost.
    pub echo: Duration,
    /// When an echo to an address that nobody tells counts as unanswered: in most labs all
    /// are, and each is waited for.
    pub stranger: Duration,
    /// How long each transfer lasts.
    pub transfer: Duration,
}

impl Default for Pace {
    fn default() -> Pace {
        Pace {
            // A shared machine may stall for a while.
            echo: Duration::from_secs(2),
            stranger: Duration::from_millis(100),
            transfer: Duration::from_millis(700),
        }
    }
}

/// What is tried, and on what.
pub(super) struct Trial<'t> {
    pub vms: &'t [VmPlan],
    pub site: &'t mut Site,
    pub pace: Pace,
    pub interrupt: &'t Interrupt,
}

/// How one VM reached another, or did not.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Reached {
    /// Indexes of both.
    pub from: usize,
    pub to: usize,
    /// What had to become of it.
    pub expected: Expectation,
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

/// What came of the first echo, for which a VM had to ask for the other's MAC address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Resolution {
    Answered,
    Unanswered,
}

/// What came of the echoes from one VM to another over one family.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Echoes {
    /// The way that was seen at the cable.
    pub path: Path,
    /// Round-trip times, shortest first.
    pub times: Vec<Duration>,
    /// What came of the one before these.
    pub resolution: Resolution,
    /// Frames that the station dropped as `private` meanwhile.
    pub refused: u64,
    /// Requests that were at the cable more than once, or in another channel too.
    pub surplus: u64,
    /// Requests that went another way than past the cable, where others passed it.
    pub missing: u64,
}

impl Echoes {
    /// Echoes without an answer, the first one among them.
    pub fn lost(&self) -> usize {
        usize::from(self.resolution == Resolution::Unanswered) + ECHOES - self.times.len()
    }

    /// Whether all went the expected way, and came back or did not.
    fn hold(&self, expected: Expectation) -> bool {
        let is_as_expected = match expected {
            Expectation::Reached(_) => self.lost() == 0 && self.refused == 0,
            Expectation::Apart(_) => {
                let unanswered = self.resolution == Resolution::Unanswered && self.times.is_empty();
                unanswered && self.refused == ECHOES as u64
            }
        };
        let went = self.path == expected.path() && self.surplus == 0 && self.missing == 0;
        is_as_expected && went
    }

    /// Judges [`ECHOES`] requests by what crossed the cable meanwhile, the times of those
    /// that were answered, what came of the one before these, and how many frames were
    /// refused.
    fn judge(
        sighting: &Sighting,
        mut times: Vec<Duration>,
        resolution: Resolution,
        refused: u64,
    ) -> Echoes {
        times.sort();
        let sent = ECHOES as u64;
        let counts = sighting.crossings().map(|amount| amount.frames);
        let surplus: u64 = counts.clone().map(|count| count.saturating_sub(sent)).sum();
        let missing = counts.map(|count| sent.saturating_sub(count)).sum();
        let surplus = surplus + sighting.astray;
        Echoes { path: sighting.path, times, resolution, refused, surplus, missing }
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
    /// Whether it brought something, as it was sent, all of it by the expected way.
    pub fn holds(&self) -> bool {
        let whole = |transfer: &Transfer| transfer.bytes > 0 && transfer.garbled == 0;
        let brought = self.outcome.as_ref().is_ok_and(whole);
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
pub(super) fn reach_all(trial: &mut Trial<'_>, strangers: &Strangers) -> Result<Vec<Reached>> {
    let vms = trial.vms;
    let pairs: Vec<_> = pairs(vms).collect();
    let mut progress = Progress::new("pings", pairs.len());
    let mut reached = Vec::new();
    for (from, to) in pairs {
        progress.step(&format!("{} to {}", vms[from].name, vms[to].name));
        let expected = Expectation::of(&vms[from], &vms[to]);
        let mut over = |family| {
            let resolution = match expected {
                Expectation::Reached(_) => resolve(trial, (from, to), family)?,
                Expectation::Apart(_) => {
                    trial.site.guests.introduce(from, &vms[to], family)?;
                    strangers.resolution(from, to, family)
                }
            };
            reach(trial, (from, to), family, resolution)
        };
        let (ipv4, ipv6) = (over(Family::Ipv4)?, over(Family::Ipv6)?);
        reached.push(Reached { from, to, expected, ipv4, ipv6 });
    }
    Ok(reached)
}

/// Every ordered pair of VMs.
pub(super) fn pairs(vms: &[VmPlan]) -> impl Iterator<Item = (usize, usize)> {
    let count = vms.len();
    let all = (0..count).flat_map(move |from| (0..count).map(move |to| (from, to)));
    all.filter(|(from, to)| from != to)
}

/// What comes of a pair's first echo. It waits for address resolution, which may take a
/// second try, and is not recorded.
fn resolve(
    trial: &mut Trial<'_>,
    (from, to): (usize, usize),
    family: Family,
) -> Result<Resolution> {
    for _ in 0..TRIES {
        trial.interrupt.check()?;
        let address = trial.vms[to].address(family);
        if trial.site.guests.ping(from, address, trial.pace.echo.into()).is_some() {
            return Ok(Resolution::Answered);
        }
    }
    Ok(Resolution::Unanswered)
}

fn reach(
    trial: &mut Trial<'_>,
    (from, to): (usize, usize),
    family: Family,
    resolution: Resolution,
) -> Result<Echoes> {
    let Trial { vms, site, pace, interrupt } = trial;
    let (a, b) = (&vms[from], &vms[to]);
    site.cable.forget();
    let before = site.refused(DropReason::Private);
    let mut times = Vec::new();
    for sent in 1..=ECHOES as u64 {
        interrupt.check()?;
        let patience = match Expectation::of(a, b) {
            Expectation::Reached(_) => pace.echo.into(),
            // What was dropped is not answered.
            Expectation::Apart(_) => Patience {
                timeout: pace.echo,
                is_settled: Box::new(site.has_refused(DropReason::Private, before + sent)),
            },
        };
        times.extend(site.guests.ping(from, b.address(family), patience));
    }
    let refused = site.refused(DropReason::Private) - before;
    let sighting = Sighting::of(&site.cable.seen(), a, b, Traffic::Echo(family));
    Ok(Echoes::judge(&sighting, times, resolution, refused))
}

/// Makes the transfers that the scenario has VMs for.
pub(super) fn transfer_all(trial: &mut Trial<'_>) -> Result<Vec<Transferred>> {
    let Trial { vms, site, pace, interrupt } = trial;
    let index = |name: &str| vms.iter().position(|vm| vm.name == name);
    let pairs: Vec<_> =
        TRANSFERS.iter().filter_map(|(from, to)| Some((index(from)?, index(to)?))).collect();
    let mut progress = Progress::new("transfers", pairs.len());
    let mut transferred = Vec::new();
    for (from, to) in pairs {
        progress.step(&format!("{} to {}", vms[from].name, vms[to].name));
        site.cable.forget();
        let outcome = site.guests.transfer(from, (to, vms[to].ipv4().into()), pace.transfer);
        interrupt.check()?;
        let (a, b) = (&vms[from], &vms[to]);
        let sighting = Sighting::of(&site.cable.seen(), a, b, Traffic::Tcp(Family::Ipv4));
        let expected = Expectation::of(a, b).path();
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
        resolution: Resolution,
        refused: u64,
        strangers: Strangers,
        transferred: Result<u64, &'static str>,
        garbled: u64,
        ledger: Ledger,
        lost_at_cable: u64,
    }

    impl Evidence {
        /// Of a pair, everything as it should be.
        fn of(from: &str, to: &str) -> Evidence {
            let vms = Scenario::All.vms();
            let index = |name: &str| vms.iter().position(|vm| vm.name == name).unwrap();
            let pair = (index(from), index(to));
            let ledger = Ledger::from([("up0".to_owned(), Totals::default())]);
            let is_reached =
                matches!(Expectation::of(&vms[pair.0], &vms[pair.1]), Expectation::Reached(_));
            let mut evidence = Evidence {
                vms,
                pair,
                crossed: Crossed::new(),
                answered: if is_reached { ECHOES } else { 0 },
                resolution: match is_reached {
                    true => Resolution::Answered,
                    false => Resolution::Unanswered,
                },
                refused: if is_reached { 0 } else { SENT },
                strangers: Strangers::default(),
                transferred: Ok(BYTES),
                garbled: 0,
                ledger,
                lost_at_cable: 0,
            };
            let path = evidence.expected().path();
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

        fn expected(&self) -> Expectation {
            Expectation::of(&self.vms[self.pair.0], &self.vms[self.pair.1])
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
                let sighting = sighting(Traffic::Echo(family));
                Echoes::judge(&sighting, times, self.resolution, self.refused)
            };
            let (ipv4, ipv6) = (over(Family::Ipv4), over(Family::Ipv6));
            let (elapsed, garbled) = (Duration::from_secs(1), self.garbled);
            let outcome = self.transferred.map_err(anyhow::Error::msg).map(|bytes| Transfer {
                bytes,
                garbled,
                elapsed,
            });
            let path = expected.path();
            let transferred = Transferred::judge(self.pair, path, &sighting(TCP), outcome);
            Findings {
                strangers: self.strangers,
                reached: vec![Reached { from, to, expected, ipv4, ipv6 }],
                transferred: vec![transferred],
                xdp_ends: Vec::new(),
                ledgers: vec![("station", self.ledger)],
                overflow: Vec::new(),
                lost_at_cable: self.lost_at_cable,
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
            ("priv1", "vepa1"),
            ("veb1", "priv1"),
            ("priv1", "blue1"),
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
        assert_fails(
            ("vepa1", "vepa2"),
            "IPv6: 0 echoes lost, 0 frames dropped as private, path local",
            |seen| {
                seen.cross(Direction::Out, UNTAGGED, ECHO_V6, 0);
                seen.cross(Direction::Back, UNTAGGED, ECHO_V6, 0);
            },
        );
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
    fn an_answer_to_or_from_a_private_vm_fails() {
        for pair in [("priv1", "priv2"), ("priv1", "veb1"), ("vepa1", "priv1")] {
            assert_fails(pair, "must be apart: 1 echoes answered", |seen| seen.answered = 1);
            assert_fails(pair, "its address resolved", |seen| {
                seen.resolution = Resolution::Answered;
            });
        }
    }

    #[test]
    fn a_frame_for_a_private_vm_that_is_lost_elsewhere_or_arrives_fails() {
        let pair = ("veb1", "priv1");
        assert_fails(pair, "2 of 3 frames dropped as private", |seen| seen.refused -= 1);
        assert_fails(pair, "path out untagged (expected hairpin", |seen| {
            seen.cross(Direction::Back, UNTAGGED, ECHO_V6, 0);
        });
        assert_fails(pair, "1 requests too many", |seen| {
            seen.cross(Direction::Back, UNTAGGED, ECHO_V6, SENT + 1);
        });
        assert_fails(("veb1", "vepa1"), "1 frames dropped as private", |seen| seen.refused = 1);
        assert_fails(pair, "private VMs asked for 2 addresses", |seen| {
            seen.strangers = Strangers { asked: 2, returned: 1, ..Strangers::default() };
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
        assert_fails(("veb1", "veb2"), "3 of them not as sent", |seen| seen.garbled = 3);
        // Half of it was switched locally.
        assert_fails(("vepa1", "vepa2"), "bytes not past the cable", |seen| {
            seen.cross(Direction::Out, UNTAGGED, TCP, 400);
            seen.cross(Direction::Back, UNTAGGED, TCP, 400);
        });
    }

    #[test]
    fn a_frame_that_the_cable_lost_fails() {
        let says = "the cable lost 1 frames";
        assert_fails(("veb1", "veb2"), says, |seen| seen.lost_at_cable = 1);
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
