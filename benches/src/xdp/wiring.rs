//! Two veth pairs in a namespace: `far1`–`near1` and `near2`–`far2`.

use hairpin_tests::bed::{Namespace, Result};

/// The near ends, between which something forwards.
pub const NEAR: [&str; 2] = ["near1", "near2"];
/// The far ends: the sender's, and the counter's.
pub const FAR: [&str; 2] = ["far1", "far2"];
/// The station at each far end.
pub const STATIONS: [[u8; 6]; 2] = [[0x52, 0x54, 0, 0, 0, 1], [0x52, 0x54, 0, 0, 0, 2]];

/// Lays both pairs and brings them up. Nobody in the namespace speaks by itself.
///
/// # Errors
/// If the kernel has no veth.
pub fn lay(namespace: &Namespace) -> Result<()> {
    for scope in ["all", "default"] {
        namespace.set_sysctl(&format!("net/ipv6/conf/{scope}/disable_ipv6"), "1")?;
    }
    for (near, far) in NEAR.into_iter().zip(FAR) {
        namespace.ip(&format!("link add name {near} type veth peer name {far}"))?;
        namespace.ip(&format!("link set {near} up"))?;
        namespace.ip(&format!("link set {far} up"))?;
    }
    Ok(())
}
