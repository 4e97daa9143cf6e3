//! `hairpin why` of a real daemon. That it says what the dataplane then does is held by
//! `tests/tests/why.rs`; here is that it can be asked, and what people and programs read.

// Helpers of tests are tests: a failure there is the message.
#![allow(clippy::unwrap_used)]

mod daemon;
mod means;

use std::fs;

use daemon::{Daemon, LOCAL, Place, eventually, in_own_network, port, stderr, stdout};
use means::has_means;
use rustix::process::Signal;
use serde_json::{Value, json};

/// A host-local link, a channel of it, and a port whose VMM is not there.
fn without_a_vmm(place: &Place) -> Daemon {
    let socket = place.file().with_file_name("vm1.sock");
    place.write(&format!(
        "{LOCAL}[[channel]]\nname = \"blue\"\nlink = \"up0\"\nsvid = 100\n[[port]]\nname = \
         \"vm1\"\nchannel = \"up0\"\nmode = \"veb\"\nmac = \"52:54:00:00:00:01\"\ndevice = {{ \
         vhost-user = {{ socket = \"{}\", role = \"server\" }} }}\n",
        socket.display()
    ));
    Daemon::start(place.daemon_command())
}

#[test]
fn a_port_without_a_vmm_gives_no_frame() {
    let place = Place::new();
    let daemon = without_a_vmm(&place);
    let output = place.client("why --in vm1 --arp");
    assert!(output.status.success(), "{}", stderr(&output));
    let text = stdout(&output);
    let heading = "60 bytes, from 52:54:00:00:00:01 to ff:ff:ff:ff:ff:ff\ninto vm1\n";
    assert!(text.starts_with(heading), "{text}");
    assert!(text.contains("not taken: vm1 is waiting for its device"), "{text}");
    let answer = place.json("why --in vm1 ffffffffffff-525400000001-88b5");
    assert_eq!((&answer["outcome"], &answer["steps"]), (&json!("waits"), &json!([])));
    assert_eq!(answer["waits"]["awaited"], "device");
    assert_eq!(answer["frame"], "ffffffffffff52540000000188b5");
    assert_eq!(daemon.end(Signal::TERM), Some(0));
}

#[test]
fn what_cannot_be_asked_is_refused_with_a_remedy() {
    let place = Place::new();
    let daemon = without_a_vmm(&place);
    let not_a_capture = place.file().display().to_string();
    let refused = [
        (1, "why --in vm7 00", "there is no port or link \"vm7\" (did you mean vm1?)"),
        (1, "why --in up0 00", "link up0 is host-local, no frame comes in by it"),
        (1, "why --in blue 00", "blue is a channel; name its link, up0, and send a frame with"),
        (1, "why --in vm1 --dst vm2", "there is no port \"vm2\" (did you mean vm1?)"),
        (1, "why --in vm1 --pcap /nonexistent", "/nonexistent: No such file"),
        (1, &format!("why --in vm1 --pcap {not_a_capture}"), "it is no capture"),
        (1, "why --in vm1 0x", "frame: 0 bytes are out of range; send 1 to 65558"),
        (2, "why --in vm1", "say which frame in one way"),
        (2, "why --in vm1 00 --dst vm1", "say which frame in one way"),
        (2, "why --in vm1 5254xx", "'x' in \"5254xx\" is no hexadecimal digit"),
        (2, "why --in vm1 --src vm1", "the frame has no destination; say --dst MAC"),
        (2, "why --in vm1 --dst vm1 --vlan 4096", "4096 is not in 0..=4095"),
        (2, "why --in vm1 --dst vm1 --segment 100", "--segment is of TCP or UDP"),
    ];
    for (code, words, said) in refused {
        let output = place.client(words);
        assert_eq!(output.status.code(), Some(code), "{words}: {}", stderr(&output));
        assert!(stderr(&output).contains(said), "{words}: {}", stderr(&output));
    }
    drop(daemon);
}

/// `vm1` and `vm2` with an address each in VLAN 10, `vm3` that learns and is transparent.
fn three_taps(place: &Place) -> Daemon {
    let registered = |name: &str, tap: &str, mac: &str| {
        format!("{}mac = \"{mac}\"\nvlan = {{ access = 10 }}\n", port(name, tap))
    };
    place.write(&format!(
        "{LOCAL}{}{}{}",
        registered("vm1", "tap1", "52:54:00:00:00:01"),
        registered("vm2", "tap2", "52:54:00:00:00:02"),
        port("vm3", "tap3"),
    ));
    in_own_network(place, &[])
}

fn checks(answer: &Value) -> Vec<&str> {
    let steps = answer["steps"].as_array().unwrap();
    steps.iter().map(|step| step["check"].as_str().unwrap()).collect()
}

#[test]
fn a_frame_between_ports_is_explained_and_nothing_changes() {
    if !has_means("a_frame_between_ports_is_explained_and_nothing_changes") {
        return;
    }
    let place = Place::new();
    let daemon = three_taps(&place);
    let answer = place.json("why --in vm1 --dst vm2");
    assert_eq!(answer["outcome"], "forwarded");
    let all = ["length", "reserved", "source_form", "tag", "vlan", "offload", "source"];
    assert_eq!(checks(&answer), [&all[..], &["destination", "rule"]].concat());
    assert_eq!((&answer["rule"], &answer["vid"]), (&json!("veb_unicast"), &json!(10)));
    assert_eq!(answer["source"]["standing"], "own");
    assert_eq!(answer["destination"]["port"], "vm2");
    let copies = answer["copies"].as_array().unwrap();
    assert_eq!(copies.len(), 1);
    assert_eq!((&copies[0]["port"], &copies[0]["length"]), (&json!("vm2"), &json!(60)));
    assert_eq!(copies[0]["may"], json!(["rx_ring_full"]));

    let answer = place.json("why --in vm1 --dst vm2 --vlan 10");
    assert_eq!(
        (&answer["outcome"], &answer["drop"]["reason"]),
        (&json!("dropped"), &json!("vlan_tagged"))
    );
    assert_eq!(checks(&answer).last(), Some(&"vlan"));
    assert_eq!(answer["steps"].as_array().unwrap().last().unwrap()["decides"], true);

    // A tag comes where it is wanted: vm3 is transparent.
    let answer = place.json("why --in vm1 --dst 52:54:00:00:00:33");
    assert_eq!(answer["copies"][0]["port"], "vm3");
    assert_eq!(answer["copies"][0]["header"].as_str().unwrap()[24..32], *"8100000a");
    let answer = place.json("why --in vm3 --dst vm1 --vlan 10 --src 52:54:00:00:00:03");
    assert_eq!(answer["source"]["standing"], "new");
    assert_eq!(answer["copies"][0]["port"], "vm1");
    let answer = place.json("why --in vm3 --dst vm1 --src vm2 --vlan 10");
    assert_eq!(
        answer["source"],
        json!({
            "mac": "52:54:00:00:00:02", "standing": "registered_elsewhere", "port": "vm2",
        })
    );
    let known = place.json("fdb").to_string();
    assert!(!known.contains("52:54:00:00:00:03"), "asking taught {known}");

    for words in [
        "--dst vm2",
        "--arp",
        "--dst vm2 --vlan 10",
        "--dst vm2 --tcp 80 --size 9000 --segment 1448",
    ] {
        let output = place.client(&format!("why --in vm1 {words}"));
        let text = stdout(&output);
        assert!(output.status.success(), "{words}: {}", stderr(&output));
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        assert_eq!(text.lines().filter(|line| line.starts_with('*')).count(), 1, "{text}");
    }
    place.client("port set vm2 admin=down");
    let answer = place.json("why --in vm1 --arp");
    assert!(
        answer["copies"].as_array().unwrap().iter().all(|copy| copy["port"] != "vm2"),
        "{answer}"
    );
    assert_eq!(place.json("why --in vm2 --dst vm1")["waits"]["awaited"], "up");
    drop(daemon);
}

/// Bytes of a classic capture of this frame.
fn capture(frame: &[u8]) -> Vec<u8> {
    let length = frame.len() as u32;
    let numbers = [0xa1b2_c3d4, 0x0004_0002, 0, 0, 65_535, 1, 0, 0, length, length];
    [numbers.map(u32::to_le_bytes).concat(), frame.to_vec()].concat()
}

#[test]
fn the_s_tag_of_a_link_s_frame_names_its_channel() {
    if !has_means("the_s_tag_of_a_link_s_frame_names_its_channel") {
        return;
    }
    let place = Place::new();
    place.write(&format!(
        "[[link]]\nname = \"up0\"\nrole = \"station\"\ndevice = {{ tap = {{ interface = \"upl\" }} \
         }}\n[[channel]]\nname = \"blue\"\nlink = \"up0\"\nsvid = 100\n{}mac = \
         \"52:54:00:00:00:01\"\n",
        port("vm1", "tap1").replace("channel = \"up0\"", "channel = \"blue\"")
    ));
    let daemon = in_own_network(&place, &[]);
    eventually("the link", || place.json("link show up0")["state"] == "up");
    let answer = place.json("why --in up0 --dst vm1 --svid 100 --vlan 7");
    assert_eq!((&answer["ingress"], &answer["vid"]), (&json!("blue"), &json!(7)));
    assert_eq!(answer["copies"][0]["port"], "vm1");
    assert_eq!(answer["copies"][0]["length"], 56, "without its S-tag");
    let answer = place.json("why --in up0 --dst vm1 --svid 300");
    assert_eq!(answer["drop"]["reason"], "unknown_svid");
    let answer = place.json("why --in up0 --dst vm1");
    assert_eq!(answer["drop"]["reason"], "channel_unused");
    // And back: the port's frames bear it.
    let file = place.file().with_file_name("one.pcap");
    let frame = [&[0xff; 6][..], &[0x52, 0x54, 0, 0, 0, 1], &[8, 6], &[0; 46]].concat();
    fs::write(&file, capture(&frame)).unwrap();
    let answer = place.json(&format!("why --in vm1 --pcap {} --number 1", file.display()));
    assert_eq!(
        (&answer["copies"][0]["port"], &answer["copies"][0]["device"]),
        (&json!("blue"), &json!("up0"))
    );
    assert_eq!(answer["copies"][0]["header"].as_str().unwrap()[24..32], *"88a80064");
    let output = place.client(&format!("why --in vm1 --pcap {} --number 2", file.display()));
    assert!(stderr(&output).contains("there is no frame 2: it has 1 frame"), "{}", stderr(&output));
    drop(daemon);
}
