//! Open vSwitch at the far end of the cable: its `dot1q-tunnel` ports are the far ends of
//! our S-channels.

use hairpin_dataplane::sys::packet_socket::Direction;
use hairpin_tests::bed::{
    Daemon, Family, Frame, Host, OpenVSwitch, Recorder, Tso, Workers, assert_apart, assert_reach,
    await_state, mac_text, root, transfer,
};

use crate::experiment::{BROADCAST, arrivals, frame};
use crate::netdev::{Kind, finish_frames, lay};

const MEGABYTE: u64 = 1 << 20;
/// Payload of 1500 bytes and a C-tag, and four of the S-tag's; veth lets four pass anyhow.
const CABLE_MTU_BYTES: u16 = 1508;

/// Hosts 1 and 3 on red, 3 in its VLAN 10; host 2 on blue.
fn station() -> (Daemon, [Host; 3]) {
    let channel = |name: &str, svid: u16| {
        format!("[[channel]]\nname = \"{name}\"\nlink = \"up0\"\nsvid = {svid}\n")
    };
    let port = |number: u8, channel: &str, vlan: &str| {
        format!(
            "[[port]]\nname = \"vm{number}\"\nchannel = \"{channel}\"\nmode = \"vepa\"\n\
             device = {{ tap = {{ interface = \"tap{number}\" }} }}\nmac = \"{}\"\n{vlan}",
            mac_text(number)
        )
    };
    let configuration = [
        Kind::Xdp.link("station", 0) + "mtu = 1500\n",
        channel("red", 100) + &channel("blue", 200),
        port(1, "red", "") + &port(2, "blue", "") + &port(3, "red", "vlan = { access = 10 }\n"),
    ];
    let daemon = Daemon::start(Workers::One, &configuration.concat()).unwrap();
    lay(daemon.namespace(), 0).unwrap();
    daemon.namespace().ip(&format!("link set if0 mtu {CABLE_MTU_BYTES}")).unwrap();
    let plug = |number| Host::plug(daemon.namespace(), &format!("tap{number}"), number).unwrap();
    let hosts = [1, 2, 3].map(plug);
    (daemon, hosts)
}

/// An Open vSwitch whose port `far0` is the cable.
fn peer(daemon: &Daemon) -> OpenVSwitch {
    let peer = OpenVSwitch::start(Tso::Off).unwrap();
    daemon.namespace().give("far0", peer.namespace()).unwrap();
    peer.namespace().ip(&format!("link set far0 mtu {CABLE_MTU_BYTES}")).unwrap();
    peer.namespace().ip("link set far0 up").unwrap();
    // So that a tag is looked for behind the S-tag.
    peer.configure("set Open_vSwitch . other_config:vlan-limit=2").unwrap();
    peer.configure("add-port br0 far0").unwrap();
    await_state(daemon, "link up0", "up");
    peer
}

/// Host N on a port of a bridge of Open vSwitch's, with these settings.
fn host(peer: &OpenVSwitch, number: u8, bridge: &str, settings: &str) -> Host {
    let (near, far) = (format!("near{number}"), format!("eth{number}"));
    let namespace = peer.namespace();
    namespace.ip(&format!("link add {near} type veth peer name {far}")).unwrap();
    finish_frames(namespace, &far).unwrap();
    namespace.ip(&format!("link set {near} up")).unwrap();
    peer.configure(&format!("add-port {bridge} {near} -- set port {near} {settings}")).unwrap();
    Host::plug(namespace, &far, number).unwrap()
}

/// A bridge `br1` behind a tunnel port of red, in which C-tags count.
fn customers_bridge(peer: &OpenVSwitch) {
    peer.configure("add-br br1 -- set bridge br1 datapath_type=netdev").unwrap();
    let patch = |bridge: &str, port: &str, to: &str, settings: &str| {
        peer.configure(&format!(
            "add-port {bridge} {port} {settings} \
             -- set interface {port} type=patch options:peer={to}"
        ))
        .unwrap();
    };
    patch("br0", "down", "up", "vlan_mode=dot1q-tunnel tag=100");
    patch("br1", "up", "down", "");
}

#[test]
fn tunnel_ports_are_the_far_ends_of_channels() {
    let Some(_root) = root() else { return };
    if !OpenVSwitch::is_installed() {
        return;
    }
    let (daemon, [one, two, three]) = station();
    let peer = peer(&daemon);
    let seven = host(&peer, 7, "br0", "vlan_mode=dot1q-tunnel tag=100");
    let eight = host(&peer, 8, "br0", "vlan_mode=dot1q-tunnel tag=200");
    customers_bridge(&peer);
    let nine = host(&peer, 9, "br1", "tag=10");

    let pairs = [(&one, &seven), (&two, &eight), (&three, &nine)];
    for (ours, theirs) in pairs {
        assert_reach(ours, theirs);
        assert_reach(theirs, ours);
    }
    assert_apart(&one, &eight);
    assert_apart(&two, &seven);
    assert_apart(&three, &seven);
    assert_apart(&one, &nine);
    for (ours, theirs) in pairs {
        for family in Family::ALL {
            assert!(ours.ping_packet_bytes(theirs, family, 1500).unwrap().is_clean(), "{family}");
            transfer(ours, theirs, family, 2 * MEGABYTE).unwrap();
            transfer(theirs, ours, family, 2 * MEGABYTE).unwrap();
        }
    }

    let recorder = Recorder::start(peer.namespace(), "far0").unwrap();
    let everyone = [&one, &two, &three, &seven, &eight, &nine];
    let heard = |from: &Host, word: &str| {
        arrivals(from, &frame(BROADCAST, from.mac_bytes(), word), &everyone).unwrap()
    };
    // What is sent untagged in red is no member of its VLAN 10, on either side.
    assert_eq!(heard(&one, "ours"), [0, 0, 0, 1, 0, 0]);
    assert_eq!(heard(&seven, "theirs"), [1, 0, 0, 0, 0, 0]);
    assert_eq!(heard(&two, "ours"), [0, 0, 0, 0, 1, 0]);
    assert_eq!(heard(&eight, "theirs"), [0, 1, 0, 0, 0, 0]);
    assert_eq!(heard(&nine, "theirs in 10"), [0, 0, 1, 0, 0, 0]);
    // Both put the same tags onto the cable.
    let tags = |from: &Host, direction| {
        let theirs =
            |seen: &Frame| seen.direction == direction && seen.bytes[6..12] == from.mac_bytes();
        recorder.find("a frame on the cable", theirs).unwrap().bytes[12..20].to_vec()
    };
    assert_eq!(tags(&one, Direction::Incoming)[..4], [0x88, 0xa8, 0, 100]);
    assert_eq!(tags(&seven, Direction::Outgoing)[..4], [0x88, 0xa8, 0, 100]);
    assert_eq!(tags(&two, Direction::Incoming)[..4], [0x88, 0xa8, 0, 200]);
    assert_eq!(tags(&eight, Direction::Outgoing)[..4], [0x88, 0xa8, 0, 200]);
    let inner = [0x88, 0xa8, 0, 100, 0x81, 0, 0, 10];
    assert_eq!(tags(&nine, Direction::Outgoing), inner);
    assert_eq!(heard(&three, "ours in 10"), [0, 0, 0, 0, 0, 1]);
    assert_eq!(tags(&three, Direction::Incoming), inner);
    assert_eq!(daemon.count("up0", "/drops/unknown_svid").unwrap(), 0);
    daemon.stop().unwrap();
}
