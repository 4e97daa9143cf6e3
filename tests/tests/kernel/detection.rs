//! Duplicate address detection (RFC 4862, 5.4) between two hosts.

use hairpin_tests::bed::{Host, eventually};

/// Has hosts detect duplicates from now on, as kernels before RFC 7527 do: without its
/// nonce, a solicitation that comes back to its sender is a duplicate.
pub fn detect_duplicates(hosts: &[&Host]) {
    let values = [("enhanced_dad", "0"), ("accept_dad", "1"), ("dad_transmits", "2")];
    for host in hosts {
        for (key, value) in values {
            for scope in ["all", host.interface()] {
                let path = format!("net/ipv6/conf/{scope}/{key}");
                host.namespace().set_sysctl(&path, value).unwrap();
            }
        }
    }
}

/// Asserts that the first host may take an address that nobody has, and that the
/// second, which takes the same one then, is told.
#[track_caller]
pub fn assert_duplicate_found(first: &Host, second: &Host, address: &str) {
    add(first, address);
    let is_undecided = |state: &str| state.contains("tentative") && !state.contains("dadfailed");
    eventually("an end of detection", || !is_undecided(&state(first, address))).unwrap();
    let found = state(first, address);
    assert!(found.contains(address) && !found.contains("dadfailed"), "{found}");
    add(second, address);
    eventually("a duplicate found", || state(second, address).contains("dadfailed")).unwrap();
}

fn add(host: &Host, address: &str) {
    let words = format!("addr add {address}/64 dev {}", host.interface());
    host.namespace().ip(&words).unwrap();
}

/// What `ip` says of an address.
fn state(host: &Host, address: &str) -> String {
    let words = format!("-6 addr show dev {} to {address}", host.interface());
    host.namespace().ip(&words).unwrap()
}
