//! Two guests that talk by way of an adjacent bridge.

use hairpin_tests::bed::{Daemon, Flooding, KernelBridge, Reflection, Sockets, Workers, root};
use tempfile::TempDir;

use crate::site::{assert_reach, boot, ipv4, ipv6, nic, port, turn};

const MEBIBYTES: u32 = 16;

#[test]
fn guests_on_vepa_reach_each_other_by_reflection_only() {
    let Some(root) = root() else { return };
    let Some(_turn) = turn(root) else { return };
    let directory = TempDir::new().unwrap();
    let nics = [(1, ""), (2, "packed=on")]
        .map(|(number, properties)| nic(directory.path(), number, Sockets::There, properties));
    let link = "[[link]]\nname = \"up0\"\nrole = \"station\"\n\
                device = { tap = { interface = \"up0\" } }\n";
    let ports = [1, 2].map(|number| {
        let nic = &nics[usize::from(number) - 1];
        // The kernel's bridge sees untagged frames.
        port(number, "up0", "vepa", nic).replace("vlan = { access = 10 }\n", "")
    });
    let daemon = Daemon::start(Workers::One, &format!("{link}{}", ports.concat())).unwrap();
    let bridge = KernelBridge::new(Flooding::Unknown).unwrap();
    bridge.attach(daemon.namespace(), "up0").unwrap();
    let outside = bridge.host(9).unwrap();
    let mut guests = boot([&daemon; 2], [&nics[0], &nics[1]]);
    let [one, two] = &mut guests;
    assert_reach(one, 9);
    assert_reach(two, 9);
    assert_eq!(one.ping_in_vain(&ipv4(2)).unwrap().received, 0);

    bridge.reflect("up0", Reflection::On).unwrap();
    one.run("ip neigh flush dev eth0").unwrap();
    let before = daemon.count("up0", "/tx_bytes").unwrap();
    for (from, to) in [(&mut *one, 2), (&mut *two, 1)] {
        assert_reach(from, to);
        for address in [ipv4(to), ipv6(to)] {
            from.transfer(&address, MEBIBYTES).unwrap();
        }
    }
    // All of it went out and came back.
    let passed = daemon.count("up0", "/tx_bytes").unwrap() - before;
    assert!(passed > (4 * u64::from(MEBIBYTES)) << 20, "{passed} bytes");
    drop((guests, outside));
    daemon.stop().unwrap();
}
