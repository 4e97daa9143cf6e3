//! Labs that must fail: real sites in the process, with one thing wrong in each.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hairpin_dataplane::snapshot::{Mode, ReflectiveRelay};
use hairpin_dataplane::wire::SVid;

use super::cable::{Direction, Traffic, seen};
use super::checks::Pace;
use super::examine;
use super::memory_cable;
use super::plan::{Family, Scenario, VmPlan};
use super::progress::Interrupt;
use super::report::report;
use super::site::{Kind, Site, bridge_config, station_config};
use crate::config::{Config, Desired};
use crate::switch::{PortChange, Switch};

/// Long enough for what is answered, short enough to wait for all that is not.
const PACE: Pace = Pace {
    echo: Duration::from_millis(200),
    stranger: Duration::from_millis(20),
    transfer: Duration::from_millis(100),
};

/// A site of some of the plan's VMs.
struct Small {
    vms: Vec<VmPlan>,
    site: Site,
}

impl Small {
    fn build(names: &[&str]) -> Small {
        Small::build_on(names, |_, _| 1)
    }

    /// On a cable that changes frames, and says how many of each go on.
    fn build_on(
        names: &[&str],
        meddle: impl FnMut(Direction, &mut Vec<u8>) -> usize + Send + 'static,
    ) -> Small {
        let mut vms = Scenario::All.vms();
        vms.retain(|vm| names.contains(&vm.name));
        assert_eq!(vms.len(), names.len());
        let plug = |station, bridge| memory_cable::plug_through(station, bridge, meddle);
        let site = Site::build_in_process(&vms, &Interrupt::default(), plug).unwrap();
        Small { vms, site }
    }

    /// Its exit code, and what is printed.
    fn verdict(&mut self) -> (ExitCode, String) {
        let interrupt = Interrupt::default();
        let findings = examine(&self.vms, &mut self.site, PACE, &interrupt).unwrap();
        (findings.exit_code(), report(&self.vms, &findings))
    }

    #[track_caller]
    fn assert_passes(mut self) {
        let (code, report) = self.verdict();
        assert_eq!(code, ExitCode::SUCCESS, "{report}");
        assert!(!report.contains("\n  ! "), "{report}");
    }

    /// Asserts that it fails, and says all of this.
    #[track_caller]
    fn assert_fails(mut self, says: &[&str]) {
        let (code, report) = self.verdict();
        assert_eq!(code, ExitCode::FAILURE, "{report}");
        for says in says {
            assert!(report.contains(says), "{says:?} is not in:\n{report}");
        }
    }

    fn station(&self) -> Config {
        station_config(&self.vms, Kind::InProcess)
    }

    fn bridge(&self) -> Config {
        bridge_config(&self.vms, Kind::InProcess)
    }

    fn set_mode(&self, port: &str, mode: Mode) {
        let change = PortChange { mode: Some(mode), ..PortChange::default() };
        self.site.station.set_port(port, change).unwrap();
    }
}

fn apply(switch: &Switch, config: Config) {
    let diff = switch.apply(Desired::try_from(config).unwrap()).unwrap();
    assert!(!diff.is_empty(), "it changes nothing");
}

/// Changes the second echo request that goes out once the site is built: of the first pair
/// over IPv4, the first that is recorded.
fn meddle_with_one_echo(
    is_built: Arc<AtomicBool>,
    meddle: impl Fn(&mut Vec<u8>) -> usize,
) -> impl FnMut(Direction, &mut Vec<u8>) -> usize {
    let mut echoes = 0;
    move |direction, frame| {
        let traffic = seen(direction, frame).map(|seen| (seen.direction, seen.traffic));
        let is_echo = traffic == Some((Direction::Out, Traffic::Echo(Family::Ipv4)));
        if is_echo && is_built.load(Ordering::Relaxed) {
            echoes += 1;
            if echoes == 2 {
                return meddle(frame);
            }
        }
        1
    }
}

/// Asserts that a site fails on whose cable one echo is changed.
#[track_caller]
fn assert_one_echo_fails(
    names: &[&str],
    says: &str,
    meddle: impl Fn(&mut Vec<u8>) -> usize + Send + 'static,
) {
    let is_built = Arc::new(AtomicBool::new(false));
    let small = Small::build_on(names, meddle_with_one_echo(Arc::clone(&is_built), meddle));
    is_built.store(true, Ordering::Relaxed);
    small.assert_fails(&[says]);
}

#[test]
fn small_sites_pass() {
    Small::build(&["veb1", "vepa1", "vepa2", "priv1"]).assert_passes();
    Small::build(&["blue1", "blue2", "green1"]).assert_passes();
}

#[test]
fn a_bridge_without_reflective_relay_fails() {
    let small = Small::build(&["vepa1", "vepa2"]);
    let mut config = small.bridge();
    for member in &mut config.bridges[0].members {
        member.reflective_relay = ReflectiveRelay::Off;
    }
    apply(&small.site.bridge, config);
    small.assert_fails(&[
        "vepa1 to vepa2 over IPv4: 4 echoes lost",
        "path out untagged (expected hairpin untagged)",
        "reflection_off",
    ]);
}

#[test]
fn a_vepa_port_that_is_switched_locally_fails() {
    let small = Small::build(&["veb1", "vepa1"]);
    small.set_mode("vepa1", Mode::Veb);
    small.assert_fails(&[
        "vepa1 to veb1 over IPv6: 0 echoes lost, 0 frames dropped as private, path local \
         (expected hairpin untagged)",
        "veb1 to vepa1 over TCP: path local (expected hairpin untagged)",
    ]);
}

#[test]
fn a_private_port_that_is_none_fails() {
    let small = Small::build(&["vepa1", "priv1"]);
    small.set_mode("priv1", Mode::Vepa);
    // How many echoes come back in time depends on how busy the machine is, and whether the
    // address is named beside them on how many.
    small.assert_fails(&[
        "priv1 to vepa1 over IPv4: must be apart: ",
        " echoes answered",
        " 0 of 3 frames dropped as private",
        "vepa1 to priv1 over IPv6: must be apart: ",
    ]);
}

#[test]
fn channels_that_bear_each_other_s_tags_fail() {
    let small = Small::build(&["blue1", "blue2", "green1"]);
    let mut config = small.station();
    let [blue, green] = &mut config.channels[..] else { panic!("two channels") };
    std::mem::swap(&mut blue.svid, &mut green.svid);
    apply(&small.site.station, config);
    small.assert_fails(&[
        "path hairpin S-200 (expected hairpin S-100)",
        "path S-200 > S-100 (expected S-100 > S-200)",
    ]);
}

#[test]
fn a_bridge_that_knows_a_channel_by_another_tag_fails() {
    let small = Small::build(&["blue1", "green1"]);
    let mut config = small.bridge();
    config.channels[0].svid = SVid::new(101).unwrap().into();
    apply(&small.site.bridge, config);
    small.assert_fails(&["blue1 to green1 over IPv4: 4 echoes lost", "unknown_svid"]);
}

#[test]
fn vms_that_bear_each_other_s_addresses_fail() {
    let small = Small::build(&["vepa1", "vepa2"]);
    let mut config = small.station();
    let [one, two] = &mut config.ports[..] else { panic!("two ports") };
    std::mem::swap(&mut one.macs, &mut two.macs);
    apply(&small.site.station, config);
    small.assert_fails(&["vepa1 to vepa2 over IPv4: 4 echoes lost", "source_not_registered"]);
}

#[test]
fn a_cable_that_drops_one_echo_fails() {
    let says = "vepa1 to vepa2 over IPv4: 1 echoes lost, 0 frames dropped as private, path hairpin \
                untagged (expected hairpin untagged), 0 requests too many at the cable, 2 too few";
    assert_one_echo_fails(&["vepa1", "vepa2"], says, |_| 0);
}

#[test]
fn a_cable_that_doubles_one_echo_fails() {
    let says = "vepa1 to vepa2 over IPv4: 0 echoes lost, 0 frames dropped as private, path hairpin \
                untagged (expected hairpin untagged), 2 requests too many at the cable, 0 too few";
    assert_one_echo_fails(&["vepa1", "vepa2"], says, |_| 2);
}

#[test]
fn a_cable_that_moves_one_echo_to_another_channel_fails() {
    assert_one_echo_fails(&["blue1", "blue2", "green1"], "1 requests too many", |frame| {
        // The lower octet of the S-VID.
        frame[15] = 200;
        1
    });
}

#[test]
fn a_cable_that_changes_what_tcp_carries_fails() {
    let mut segments = 0;
    let small = Small::build_on(&["vepa1", "vepa2"], move |direction, frame| {
        let traffic = seen(direction, frame).map(|seen| seen.traffic);
        // Long segments: not the handshake, nor what only acknowledges.
        if traffic == Some(Traffic::Tcp(Family::Ipv4)) && frame.len() > 1000 {
            segments += 1;
        }
        if segments == 10 {
            // Exchanged words leave the checksum as it was.
            let (one, two) = frame[500..].split_at_mut(2);
            one.swap_with_slice(&mut two[..2]);
            segments += 1;
        }
        1
    });
    small.assert_fails(&["vepa1 to vepa2 over TCP: ", " of them not as sent"]);
}

#[test]
fn a_cable_with_nobody_at_its_far_end_fails() {
    let small = Small::build(&["vepa1", "vepa2"]);
    small.site.bridge.stop();
    small.assert_fails(&["4 echoes lost", "the cable lost "]);
}
