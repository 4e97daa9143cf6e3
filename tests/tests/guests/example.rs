//! QEMU as the example has it.

use std::path::Path;

use hairpin_tests::bed::{Daemon, Guest, Workers, mac_text, root};
use tempfile::TempDir;

use crate::site::{assert_reach, await_up, ipv4, turn};

const MEBIBYTES: u32 = 16;
/// Where the example has its sockets.
const PLACE: &str = "/run/hairpin";

fn example() -> String {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(package.join("../control/examples/qemu.toml")).unwrap()
}

/// The arguments of the command line in the example's comments, but for the size of its
/// memory and what it takes to go without KVM.
fn command_line(example: &str) -> Vec<String> {
    let start = example.lines().skip_while(|line| !line.contains("qemu-system-x86_64 "));
    let mut lines = Vec::new();
    for line in start {
        lines.push(line.trim_start_matches('#').trim().trim_end_matches('\\'));
        if !line.ends_with('\\') {
            break;
        }
    }
    let line = lines.join(" ").replace("accel=kvm", "accel=tcg").replace("1G", "256M");
    let words = line.split_whitespace().skip(1).filter(|word| *word != "…");
    let without_msi_x = |word: &str| match word.starts_with("virtio-net-pci,") {
        true => format!("{word},vectors=0,romfile="),
        false => word.to_owned(),
    };
    words.map(without_msi_x).collect()
}

#[test]
fn the_example_s_command_line_serves() {
    let Some(root) = root() else { return };
    let Some(_turn) = turn(root) else { return };
    let directory = TempDir::new().unwrap();
    let example = example().replace(PLACE, directory.path().to_str().unwrap());
    // The bed has a `[switch]` of its own.
    let (comments, rest) = example.split_once("[switch]\n").unwrap();
    let tables = &rest[rest.find("[[link]]").unwrap()..];
    let first = command_line(comments);
    // The second port's socket is QEMU's, as is said there.
    let made = ",server=on,wait=off";
    assert!(tables.contains(made), "{tables}");
    let second: Vec<String> = first
        .iter()
        .map(|word| {
            let word = word.replace("vm1.sock", "vm2.sock").replace(",reconnect=1", made);
            word.replace(&mac_text(1), &mac_text(2))
        })
        .collect();
    let daemon = Daemon::start(Workers::One, tables).unwrap();
    let mut guests = [(1, first), (2, second)]
        .map(|(number, arguments)| Guest::start_with(number, arguments).unwrap());
    for (guest, number) in guests.iter_mut().zip([1, 2]) {
        guest.await_start().unwrap();
        await_up(&daemon, number);
    }
    let [one, two] = &mut guests;
    assert_reach(one, 2);
    assert_reach(two, 1);
    one.transfer(&ipv4(2), MEBIBYTES).unwrap();
    drop(guests);
    daemon.stop().unwrap();
}
