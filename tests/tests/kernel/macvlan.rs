//! Macvlan at the far end of our bridge link: its guests reach each other and the outside
//! as they do on a kernel bridge, whose `hairpin` is what reflective relay is with us.

use std::collections::BTreeMap;
use std::time::Duration;

use hairpin_dataplane::sys::packet_socket::Direction;
use hairpin_tests::bed::{
    Daemon, Echo, Family, Flooding, Frame, Host, KernelBridge, Namespace, Recorder, Reflection,
    Workers, await_state, eventually, root, send_frame,
};

use crate::experiment::{BROADCAST, frame};
use crate::netdev::{Kind, lay};

/// The guests and their modes (macvlan in ip-link(8)).
const GUESTS: [(u8, &str); 6] =
    [(1, "vepa"), (2, "vepa"), (3, "bridge"), (4, "bridge"), (5, "private"), (6, "private")];

/// How often something came, by what was sent and where it was looked for.
type Findings = BTreeMap<String, usize>;

/// A kernel host whose guests share one cable.
struct Station {
    guests: Vec<Host>,
    lower: Namespace,
}

impl Station {
    /// A station whose cable ends loose, as `if0` in its own namespace.
    fn new() -> Station {
        let lower = Namespace::new().unwrap();
        lay(&lower, 0).unwrap();
        lower.ip("link set far0 up").unwrap();
        let guest = |(number, mode)| {
            let name = format!("mv{number}");
            lower.ip(&format!("link add link far0 name {name} type macvlan mode {mode}")).unwrap();
            Host::plug(&lower, &name, number).unwrap()
        };
        Station { guests: GUESTS.map(guest).into(), lower }
    }
}

#[test]
fn guests_are_reached_by_xdp_as_by_a_kernel_bridge() {
    let Some(_root) = root() else { return };
    assert_reached_as_by_a_kernel_bridge(Kind::Xdp);
}

#[test]
fn guests_are_reached_by_packet_sockets_as_by_a_kernel_bridge() {
    let Some(_root) = root() else { return };
    assert_reached_as_by_a_kernel_bridge(Kind::Packet);
}

fn assert_reached_as_by_a_kernel_bridge(kind: Kind) {
    let [off, on] = [Reflection::Off, Reflection::On].map(|reflection| {
        // Mostly they wait for answers that do not come: side by side.
        let (kernel, ours) = std::thread::scope(|scope| {
            let kernel = scope.spawn(|| on_a_kernel_bridge(reflection));
            let ours = on_our_bridge(kind, reflection);
            (kernel.join().unwrap(), ours)
        });
        assert_eq!(differences(&kernel, &ours), [""; 0], "kernel bridge and ours, {reflection:?}");
        kernel
    });
    // Else nothing would have been compared.
    assert!(!differences(&off, &on).is_empty());
}

fn differences(kernel: &Findings, ours: &Findings) -> Vec<String> {
    assert!(kernel.keys().eq(ours.keys()), "not the same experiments");
    let pairs = kernel.iter().zip(ours.values());
    let differing = pairs.filter(|((_, kernel), ours)| kernel != ours);
    differing.map(|((what, kernel), ours)| format!("{what}: {kernel} and {ours}")).collect()
}

fn on_a_kernel_bridge(reflection: Reflection) -> Findings {
    let station = Station::new();
    let bridge = KernelBridge::new(Flooding::Unknown).unwrap();
    bridge.attach(&station.lower, "if0").unwrap();
    bridge.reflect("if0", reflection).unwrap();
    let outside = bridge.host(9).unwrap();
    find(&station, &outside)
}

fn on_our_bridge(kind: Kind, reflection: Reflection) -> Findings {
    let relay = match reflection {
        Reflection::On => "on",
        Reflection::Off => "off",
    };
    let configuration = format!(
        "{}[[bridge]]\nname = \"br0\"\n\
         members = [ {{ link = \"up0\", reflective-relay = \"{relay}\" }} ]\n\
         [[port]]\nname = \"vm9\"\nbridge = \"br0\"\n\
         device = {{ tap = {{ interface = \"tap9\" }} }}\n",
        kind.link("bridge", 0)
    );
    let daemon = Daemon::start(Workers::One, &configuration).unwrap();
    let station = Station::new();
    station.lower.give("if0", daemon.namespace()).unwrap();
    daemon.namespace().ip("link set if0 up").unwrap();
    await_state(&daemon, "link up0", "up");
    let outside = Host::plug(daemon.namespace(), "tap9", 9).unwrap();
    find(&station, &outside)
}

fn find(station: &Station, outside: &Host) -> Findings {
    let guests: Vec<&Host> = station.guests.iter().collect();
    let mut findings = answers(&[&guests[..], &[outside]].concat());
    findings.extend(arrivals(&guests, outside));
    findings
}

/// Who is answered by whom: 0 never, 1 once, 2 more than once. All ask side by side, since
/// those who are not answered are patient.
fn answers(everyone: &[&Host]) -> Findings {
    std::thread::scope(|scope| {
        let mut asked = Vec::new();
        for &from in everyone {
            for &to in everyone.iter().filter(|to| to.mac() != from.mac()) {
                for family in Family::ALL {
                    let what = format!("{family} echo from {} to {}", name(from), name(to));
                    asked.push((what, scope.spawn(move || from.ping(to, family).unwrap())));
                }
            }
        }
        let times = |echo: Echo| (echo.received.min(1) + echo.duplicates.min(1)) as usize;
        asked.into_iter().map(|(what, ping)| (what, times(ping.join().unwrap()))).collect()
    })
}

/// How often each host hears each frame from everybody to everybody and to all: frames of
/// which there is no answer, so that what leaks one way only is seen.
fn arrivals(guests: &[&Host], outside: &Host) -> Findings {
    let everyone = [guests, &[outside]].concat();
    let recorder = |host: &&Host| Recorder::start(host.namespace(), host.interface()).unwrap();
    let recorders: Vec<Recorder> = everyone.iter().map(recorder).collect();
    let (last, at_guests) = recorders.split_last().unwrap();
    let mut sent: Vec<_> = guests.iter().flat_map(|from| send_all(from, &everyone)).collect();
    // The last of everybody's frames goes to all. The outside hears those of all guests, and
    // has the last word: when it is heard, all there was before has been relayed.
    let to_all = |(what, bytes): &(String, Vec<u8>)| what.contains("to all").then(|| bytes.clone());
    let heard_outside = hear(last, &sent.iter().filter_map(to_all).collect::<Vec<_>>());
    sent.extend(send_all(outside, &everyone));
    let end: Vec<_> = sent.last().map(|(_, bytes)| bytes.clone()).into_iter().collect();
    let mut heard: Vec<_> = at_guests.iter().map(|recorder| hear(recorder, &end)).collect();
    heard.push(heard_outside);
    let mut findings = Findings::new();
    for ((host, recorder), mut heard) in everyone.iter().zip(&recorders).zip(heard) {
        heard.extend(recorder.collect(Duration::from_millis(50), |_| true));
        for (what, bytes) in &sent {
            let arrived =
                |seen: &&Frame| seen.direction == Direction::Incoming && seen.bytes == *bytes;
            let times = heard.iter().filter(arrived).count();
            findings.insert(format!("{what} at {}", name(host)), times);
        }
    }
    findings
}

/// Sends a frame to each other host and then to all; says what it sent.
fn send_all(from: &Host, everyone: &[&Host]) -> Vec<(String, Vec<u8>)> {
    let others = everyone.iter().filter(|to| to.mac() != from.mac());
    let others = others.map(|to| (to.mac_bytes(), name(to)));
    let to_all = (BROADCAST, "all".to_owned());
    let send = |(destination, to): ([u8; 6], String)| {
        let bytes = frame(destination, from.mac_bytes(), &format!("to {to}"));
        send_frame(from.namespace(), from.interface(), &bytes).unwrap();
        (format!("frame from {} to {to}", name(from)), bytes)
    };
    others.chain([to_all]).map(send).collect()
}

/// What a recorder hears until it has heard all that it must.
fn hear(recorder: &Recorder, awaited: &[Vec<u8>]) -> Vec<Frame> {
    let mut heard = Vec::new();
    let arrived = |heard: &[Frame], bytes: &Vec<u8>| {
        heard.iter().any(|it| it.direction == Direction::Incoming && it.bytes == *bytes)
    };
    eventually("frames to all", || {
        heard.extend(recorder.collect(Duration::from_millis(20), |_| true));
        awaited.iter().all(|bytes| arrived(&heard, bytes))
    })
    .unwrap();
    heard
}

fn name(host: &Host) -> String {
    let mode = GUESTS.into_iter().find(|&(number, _)| host.interface() == format!("mv{number}"));
    mode.map_or_else(|| "outside".into(), |(number, mode)| format!("{mode} {number}"))
}
