//! TCP between two hosts, by what their cables leave to others.

use std::time::Duration;

use hairpin_tests::bed::Family;

use self::offloads::Offloads;
use super::{Figure, Method, Needs, Sizes, Taken};
use crate::error::{Context, Result, RigError};
use crate::suite::bench::Bench;
use crate::suite::record::Better;
use crate::suite::scenario::{HOSTS_MTU, Kind, Scenario};
use crate::suite::setting::Lengths;
use crate::suite::site::Site;
use crate::tcp::connection::{Carried, Placement, Plan, carry};

mod offloads;

/// Shorter than that, and ticks of 10 ms say nothing of CPU time.
const LEAST: Duration = Duration::from_millis(200);
/// What the sender's cable and the receiver's are set to, and what that is called.
const SETTINGS: [(&str, [Offloads; 2]); 3] = [
    ("offloads on", [Offloads::On, Offloads::On]),
    ("offloads off", [Offloads::Off, Offloads::Off]),
    ("mixed", [Offloads::On, Offloads::Off]),
];

/// See [`Method`].
pub const METHOD: Method = Method {
    name: "tcp",
    explanation: [
        "Payload of a TCP connection, and CPU time for it, with offloads (checksums,",
        "TSO, GSO, GRO) on, off, and mixed: the sender's on, the receiver's off.",
    ],
    // Hosts choose how long frames are, up to their MTU.
    needs: Needs {
        sizes: Sizes::Own { bytes: HOSTS_MTU + 18, lengths: Lengths::Ordinary },
        ..Needs::at(0, &[Kind::Host])
    },
    take,
};

fn take(bench: &mut Bench, site: &mut Site, _: usize) -> Result<Taken> {
    let length = Duration::from_nanos(bench.profile.trial_ns).max(LEAST);
    let plan = Plan { length, family: Family::Ipv4, placement: Placement::Free };
    let switch = site.switch().process().map(|process| process.pid());
    let mut figures = Vec::new();
    for (setting, ends) in SETTINGS {
        let carried = carried(site, ends, switch, &plan).context(setting)?;
        figures.extend(tell(setting, carried));
    }
    Ok(figures.into())
}

/// One connection with the ends' cables set so.
fn carried(
    site: &Site,
    [sender, receiver]: [Offloads; 2],
    switch: Option<u32>,
    plan: &Plan,
) -> Result<Option<Carried>> {
    let hosts = site.hosts().ok_or_else(|| RigError::new("there are no hosts at its ports"))?;
    let (ground, Scenario { path: (from, to), .. }) = (site.ground(), site.scenario);
    for (host, port, offloads) in [(hosts[0], from, sender), (hosts[1], to, receiver)] {
        offloads.set(host.namespace(), host.interface())?;
        // What the switch sends to a host is as the switch's end has it.
        offloads.set(&ground.namespace, &ground.netdev(port))?;
    }
    carry(hosts, switch, plan)
}

/// Where nothing came, nothing can be said of what a byte costs.
fn tell(setting: &str, carried: Option<Carried>) -> Vec<Figure> {
    let figure = |metric: &str, unit, better, value| {
        Figure::new(&format!("{metric}, {setting}"), unit, better, value)
    };
    let payload = |value| figure("payload", "Gbit/s", Better::Higher, value);
    let Some(carried) = carried else { return vec![payload(0.0)] };
    let machine = carried.machine_seconds_per_gigabyte;
    let process = carried.switch_seconds_per_gigabyte;
    let mut figures = vec![
        payload(carried.gigabits_per_second),
        figure("CPU time of the machine", "s/GB", Better::Lower, machine),
    ];
    // The kernel's switches have no process: their time is the machine's.
    figures.extend(
        process.map(|process| {
            figure("CPU time of the switch's process", "s/GB", Better::Lower, process)
        }),
    );
    figures
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_switch_without_a_process_has_no_figure_of_it() {
        let carried = Carried {
            gigabits_per_second: 8.0,
            machine_seconds_per_gigabyte: 2.0,
            switch_seconds_per_gigabyte: Some(0.5),
        };
        let figures = tell("mixed", Some(carried));
        let values: Vec<f64> = figures.iter().map(|figure| figure.value).collect();
        assert_eq!(values, [8.0, 2.0, 0.5]);
        assert_eq!(figures[0].metric, "payload, mixed");
        let kernel = Carried { switch_seconds_per_gigabyte: None, ..carried };
        assert_eq!(tell("mixed", Some(kernel)).len(), 2);
        let nothing = tell("mixed", None);
        assert_eq!((nothing.len(), nothing[0].value), (1, 0.0));
    }
}
