//! `evb-bridge.toml`: two stations of ours at its links, with VMs in VEPA mode and in S-channel
//! 100, and who is behind its ports.

use hairpin_tests::bed::{Daemon, Host, Namespace, Workers, assert_apart, await_state, root};

use crate::example::Example;
use crate::reach::{arrivals, assert_reach};

/// A station's configuration: these hosts' TAPs, in the default channel and in the blue one.
fn station(vepa: &[u8], blue: &[u8]) -> String {
    let port = |number: &u8, channel, mode| {
        format!(
            "[[port]]\nname = \"vm{number}\"\nchannel = \"{channel}\"\nmode = \"{mode}\"\n\
             device = {{ tap = {{ interface = \"tap{number}\" }} }}\n"
        )
    };
    let mut text = "[[link]]\nname = \"up0\"\nrole = \"station\"\nmtu = 1500\n\
                    device = { xdp = { interface = \"if0\" } }\n\
                    [[channel]]\nname = \"blue\"\nlink = \"up0\"\nsvid = 100\n"
        .to_owned();
    text.extend(vepa.iter().map(|number| port(number, "up0", "vepa")));
    text.extend(blue.iter().map(|number| port(number, "blue", "veb")));
    text
}

/// Lays a cable from an interface of the bridge's to a new station, and plugs in its hosts.
fn attach<const N: usize>(
    bridge: &Daemon,
    interface: &str,
    configuration: &str,
    numbers: [u8; N],
) -> (Daemon, [Host; N]) {
    let station = Daemon::start(Workers::One, configuration).unwrap();
    let far = format!("type veth peer name if0 netns {}", station.namespace().name());
    bridge.namespace().ip(&format!("link add {interface} {far}")).unwrap();
    bridge.namespace().ip(&format!("link set {interface} up")).unwrap();
    station.namespace().ip("link set if0 up").unwrap();
    let hosts = numbers.map(|it| Host::plug(station.namespace(), &format!("tap{it}"), it).unwrap());
    await_state(&station, "link up0", "up");
    (station, hosts)
}

#[test]
fn stations_are_served_by_reflective_relay_and_channels_are_networks_of_their_own() {
    let Some(_root) = root() else { return };
    let bridge = Example::read("evb-bridge.toml").start(Namespace::new().unwrap());
    let (first, [one, two, three, four]) =
        attach(&bridge, "eth1", &station(&[1, 2], &[3, 4]), [1, 2, 3, 4]);
    let (second, [five, six]) = attach(&bridge, "eth2", &station(&[5], &[6]), [5, 6]);
    let far = "link add eth3 type veth peer name far3";
    bridge.namespace().ip(far).unwrap();
    bridge.namespace().ip("link set eth3 up").unwrap();
    let core = Host::plug(bridge.namespace(), "far3", 9).unwrap();
    let router = Host::plug(bridge.namespace(), "tap-router", 8).unwrap();
    for object in ["link station1", "link station2", "port core", "port router"] {
        await_state(&bridge, object, "up");
    }

    // VEPA: to a VM of the same station by way of the bridge, which returns every byte.
    let returned =
        |daemon: &Daemon| ["/rx_bytes", "/tx_bytes"].map(|it| daemon.count("up0", it).unwrap());
    let before = returned(&first);
    assert_reach(&one, &two);
    let after = returned(&first);
    assert!(after.iter().zip(before).all(|(now, then)| now - then > 8 << 20), "{after:?}");
    for (from, to) in [(&one, &five), (&five, &core), (&core, &two)] {
        assert_reach(from, to);
    }
    // The blue channel: locally, past the cable, then to the other station and out.
    let before = returned(&first);
    assert_reach(&three, &four);
    let after = returned(&first);
    assert!(after.iter().zip(before).all(|(now, then)| now - then < 1 << 20), "{after:?}");
    for (from, to) in [(&three, &six), (&six, &router), (&router, &four)] {
        assert_reach(from, to);
    }
    for (from, to) in [(&one, &three), (&core, &router), (&six, &five)] {
        assert_apart(from, to);
    }
    let all = [&one, &two, &three, &four, &five, &six, &router, &core];
    assert_eq!(arrivals(&one, "to the default network", all), [0, 1, 0, 0, 1, 0, 0, 1]);
    assert_eq!(arrivals(&core, "to both stations", all), [1, 1, 0, 0, 1, 0, 0, 0]);
    assert_eq!(arrivals(&three, "to the blue network", all), [0, 0, 0, 1, 0, 1, 1, 0]);
    for daemon in [first, second, bridge] {
        daemon.stop().unwrap();
    }
}
