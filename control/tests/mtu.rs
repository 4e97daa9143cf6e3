//! The MTU of a link's own netdev, and who gets it. Needs root: the netdevs are real
//! ones, in a network namespace of the test's own.

// Helpers of tests are tests: a failure there is the message.
#![allow(clippy::unwrap_used)]

mod means;

use std::fs::File;
use std::os::fd::AsFd;
use std::process::Command;
use std::time::{Duration, Instant};

use hairpin::config::{self, Desired};
use hairpin::switch::Switch;
use means::has_means;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// Far longer than anything here takes, however busy the machine is.
const PATIENCE: Duration = Duration::from_secs(20);

/// A link on a TAP, with a channel; a bridge link on another; a port on each, and one
/// on the bridge. None says an MTU.
const SITE: &str = r#"
[[link]]
name = "up0"
role = "station"
device = { tap = { interface = "up0" } }
[[link]]
name = "sbp0"
role = "bridge"
device = { tap = { interface = "far0" } }
[[channel]]
name = "blue"
link = "up0"
svid = 100
[[bridge]]
name = "br0"
members = [{ link = "sbp0" }]
[[port]]
name = "vm1"
channel = "up0"
mode = "veb"
device = { tap = { interface = "tap1" } }
[[port]]
name = "vm2"
channel = "blue"
mode = "veb"
device = { tap = { interface = "tap2" } }
[[port]]
name = "vm3"
bridge = "br0"
device = { tap = { interface = "tap3" } }
"#;

/// A network namespace that goes with this value; named so that what is left of a
/// killed test is swept away with the rest.
struct Network(String);

impl Network {
    /// Nothing, with the reason told, where that is not to be had.
    fn new(test: &str) -> Option<Network> {
        if !has_means(test) {
            return None;
        }
        let name = format!("hp-{}-mtu", std::process::id());
        ip(&format!("netns add {name}"));
        Some(Network(name))
    }

    /// Moves the calling thread into it, for good.
    fn enter(&self) {
        let file = File::open(format!("/run/netns/{}", self.0)).unwrap();
        move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        ip(&format!("netns del {}", self.0));
    }
}

/// What `ip` says to these words, in this thread's namespace.
fn ip(words: &str) -> String {
    let output = Command::new("ip").args(words.split(' ')).output().unwrap();
    assert!(output.status.success(), "ip {words}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn mtu(interface: &str) -> u32 {
    let said = ip(&format!("-o link show dev {interface}"));
    let behind = said.split(" mtu ").nth(1).unwrap();
    behind.split(' ').next().unwrap().parse().unwrap()
}

fn mtus() -> [u32; 3] {
    ["tap1", "tap2", "tap3"].map(mtu)
}

fn with_link_mtu(bytes: u32) -> Desired {
    let role = "role = \"station\"\n";
    config::parse(&SITE.replacen(role, &format!("{role}mtu = {bytes}\n"), 1)).unwrap()
}

#[test]
fn ports_have_the_mtu_of_the_netdev_that_their_link_is() {
    let Some(network) = Network::new("ports_have_the_mtu_of_the_netdev_that_their_link_is") else {
        return;
    };
    network.enter();
    for (interface, bytes) in [("up0", 9000), ("far0", 4000)] {
        ip(&format!("tuntap add dev {interface} mode tap vnet_hdr"));
        ip(&format!("link set dev {interface} mtu {bytes} up"));
    }
    let desired = config::parse(SITE).unwrap();
    let switch = Switch::start(desired.clone()).unwrap();
    assert_eq!(mtus(), [9000, 9000, 4000]);
    let known = ["vm1", "vm2", "vm3"].map(|port| switch.view().status[port].mtu);
    assert_eq!(known, mtus());

    // What the configuration says comes first, and when it no longer says it, does not.
    switch.apply(with_link_mtu(1400)).unwrap();
    assert_eq!(mtus(), [1400, 1400, 4000]);
    switch.apply(desired).unwrap();
    assert_eq!(mtus(), [9000, 9000, 4000]);

    // The link's netdev is made again, with another MTU than it had.
    ip("link del up0");
    let patience = Instant::now() + PATIENCE;
    while mtus() != [1500, 1500, 4000] {
        assert!(Instant::now() < patience, "{:?}", mtus());
        std::thread::sleep(Duration::from_millis(5));
    }
    switch.stop();
}
