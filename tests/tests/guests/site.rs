//! Guests, and the ports they are at.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hairpin_tests::bed::{Daemon, Guest, Host, Nic, Root, Sockets, Workers, eventually, mac_text};
use serde_json::Value;

/// Between echo requests of [`while_reaching`].
const INTERVAL: Duration = Duration::from_millis(100);

/// IPv4 addresses of guests and hosts, by number.
pub fn ipv4(number: u8) -> String {
    format!("10.9.0.{number}")
}

/// IPv6 addresses.
pub fn ipv6(number: u8) -> String {
    format!("fd09::{number:x}")
}

/// What a test with guests needs: nothing else that takes all of a CPU at the same time.
pub struct Turn {
    _root: Root,
    _alone: MutexGuard<'static, ()>,
}

/// Waits for this test's turn; none if guests cannot be had here.
pub fn turn(root: Root) -> Option<Turn> {
    static ALONE: Mutex<()> = Mutex::new(());
    if !Guest::is_installed() {
        return None;
    }
    let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    Some(Turn { _root: root, _alone: alone })
}

/// A port `vmN` for guest N in a channel, and the socket it is at.
pub fn port(number: u8, channel: &str, mode: &str, nic: &Nic) -> String {
    let role = match nic.sockets {
        Sockets::Made => "client",
        Sockets::There => "server",
    };
    format!(
        "[[port]]\nname = \"vm{number}\"\nchannel = \"{channel}\"\nmode = \"{mode}\"\n\
         mac = \"{}\"\nvlan = {{ access = 10 }}\n\
         device = {{ vhost-user = {{ socket = \"{}\", role = \"{role}\", queues = {} }} }}\n",
        mac_text(number),
        nic.socket.display(),
        nic.pairs,
    )
}

/// A device of guest N, with one queue pair, whose socket is in a directory.
pub fn nic(directory: &Path, number: u8, sockets: Sockets, properties: &'static str) -> Nic {
    Nic { number, socket: socket(directory, number), sockets, pairs: 1, properties }
}

fn socket(directory: &Path, number: u8) -> PathBuf {
    directory.join(format!("vm{number}.sock"))
}

/// Starts guests side by side, and waits until their ports are up.
pub fn boot<const N: usize>(daemons: [&Daemon; N], nics: [&Nic; N]) -> [Guest; N] {
    let mut guests = nics.map(|nic| Guest::start(nic).unwrap());
    for ((guest, nic), daemon) in guests.iter_mut().zip(nics).zip(daemons) {
        guest.await_start().unwrap();
        await_up(daemon, nic.number);
    }
    guests
}

/// Waits until the port of guest N is up.
#[track_caller]
pub fn await_up(daemon: &Daemon, number: u8) {
    eventually("state up", || shown(daemon, number)["state"] == "up")
        .unwrap_or_else(|error| panic!("{error}: {}", shown(daemon, number)));
}

/// What `hairpin port show` has on the port of guest N.
pub fn shown(daemon: &Daemon, number: u8) -> Value {
    daemon.hairpin(&format!("port show vm{number}")).unwrap()
}

/// Asserts that a guest reaches an address of both families, each request answered once.
#[track_caller]
pub fn assert_reach(from: &mut Guest, to: u8) {
    for address in [ipv4(to), ipv6(to)] {
        let echo = from.ping(&address, 3).unwrap();
        assert!(echo.is_clean(), "to {address}: {echo:?}");
    }
}

/// Has a host send echo requests to guest N all the while something is done, and asserts
/// that each of them was answered.
#[track_caller]
pub fn while_reaching<T>(from: &Host, to: u8, work: impl FnOnce() -> T) -> T {
    let done = AtomicBool::new(false);
    let (result, lost) = std::thread::scope(|scope| {
        let requests = scope.spawn(|| {
            let mut lost = Vec::new();
            while !done.load(Ordering::Relaxed) {
                // One at a time: of several, ping waits 10 s for the first answer only, and for
                // the last of them twice as long as the longest before has taken.
                let line = format!("ping -q -n -c 1 -W 10 {}", ipv4(to));
                let said = from.namespace().run(&line).unwrap_or_else(|error| error.to_string());
                if !said.contains(" 1 received, 0% ") {
                    lost.push(said);
                }
                std::thread::sleep(INTERVAL);
            }
            lost
        });
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
        done.store(true, Ordering::Relaxed);
        (result, requests.join().unwrap())
    });
    let result = result.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    assert!(lost.is_empty(), "guest {to} was out of reach: {lost:?}");
    result
}

/// A daemon with guests 1 and 2 at VEB ports, and host 3 at a TAP.
pub struct Site {
    // In the order in which they go.
    pub guests: [Guest; 2],
    pub daemon: Daemon,
    pub host: Host,
    _directory: tempfile::TempDir,
}

impl Site {
    /// Starts it with this role of the sockets, and these properties of the devices.
    pub fn start(sockets: Sockets, properties: [&'static str; 2]) -> Site {
        Site::start_with_pairs(sockets, properties, [1, 1])
    }

    /// The same with so many queue pairs of each device.
    pub fn start_with_pairs(
        sockets: Sockets,
        properties: [&'static str; 2],
        pairs: [u8; 2],
    ) -> Site {
        let directory = tempfile::TempDir::new().unwrap();
        let nics = [0, 1].map(|at| {
            let nic = nic(directory.path(), at as u8 + 1, sockets, properties[at]);
            Nic { pairs: pairs[at], ..nic }
        });
        let ports =
            [1, 2].into_iter().zip(&nics).map(|(number, nic)| port(number, "up0", "veb", nic));
        let link = "[[link]]\nname = \"up0\"\nrole = \"station\"\nmtu = 9000\n".to_owned();
        let third = format!(
            "[[port]]\nname = \"vm3\"\nchannel = \"up0\"\nmode = \"veb\"\nmac = \"{}\"\n\
             vlan = {{ access = 10 }}\ndevice = {{ tap = {{ interface = \"tap3\" }} }}\n",
            mac_text(3)
        );
        let configuration: String = [link].into_iter().chain(ports).chain([third]).collect();
        let daemon = Daemon::start(Workers::One, &configuration).unwrap();
        let host = Host::plug(daemon.namespace(), "tap3", 3).unwrap();
        let guests = boot([&daemon; 2], [&nics[0], &nics[1]]);
        Site { guests, daemon, host, _directory: directory }
    }
}
