//! Switches with hosts on them.

use hairpin_tests::bed::{Daemon, Flooding, Host, KernelBridge, Result, Workers, mac_text};

/// A daemon whose TAPs `tapN` are plugged into hosts.
pub struct Site {
    /// The switch; it goes before its hosts, lest it make their TAPs anew.
    pub daemon: Daemon,
    /// In the order of their numbers as given.
    pub hosts: Vec<Host>,
}

impl Site {
    /// Starts the daemon and plugs `tapN` into host N.
    pub fn start(configuration: &str, numbers: &[u8]) -> Result<Site> {
        Site::start_with(Workers::One, configuration, numbers)
    }

    /// The same with these workers.
    pub fn start_with(workers: Workers, configuration: &str, numbers: &[u8]) -> Result<Site> {
        let daemon = Daemon::start(workers, configuration)?;
        let plug = |&number: &u8| Host::plug(daemon.namespace(), &tap(number), number);
        let hosts = numbers.iter().map(plug).collect::<Result<_>>()?;
        Ok(Site { daemon, hosts })
    }

    /// A station whose link `up0` is a port of a kernel bridge, and host 9 on that bridge.
    pub fn beside_kernel_bridge(
        configuration: &str,
        numbers: &[u8],
    ) -> Result<(Site, KernelBridge, Host)> {
        Site::beside_kernel_bridge_with(Workers::One, configuration, numbers)
    }

    /// The same with these workers.
    pub fn beside_kernel_bridge_with(
        workers: Workers,
        configuration: &str,
        numbers: &[u8],
    ) -> Result<(Site, KernelBridge, Host)> {
        let configuration = format!("{}\n{configuration}", station_link());
        let site = Site::start_with(workers, &configuration, numbers)?;
        let bridge = KernelBridge::new(Flooding::Unknown)?;
        bridge.attach(site.daemon.namespace(), "up0")?;
        let outside = bridge.host(9)?;
        Ok((site, bridge, outside))
    }
}

/// The TAP of host N.
fn tap(number: u8) -> String {
    format!("tap{number}")
}

/// A station link `up0` on a TAP of the same name.
pub fn station_link() -> String {
    tap_link("station", "up0")
}

/// A bridge link `up0` on a TAP `far0`: the other end of the cable.
pub fn bridge_link() -> String {
    tap_link("bridge", "far0")
}

/// Lays a cable between the links of a station and of a bridge.
pub fn lay_cable(station: &Site, bridge_side: &Site) -> Result<KernelBridge> {
    let cable = KernelBridge::new(Flooding::Always)?;
    cable.attach(station.daemon.namespace(), "up0")?;
    cable.attach(bridge_side.daemon.namespace(), "far0")?;
    Ok(cable)
}

fn tap_link(role: &str, interface: &str) -> String {
    format!(
        "[[link]]\nname = \"up0\"\nrole = \"{role}\"\n\
         device = {{ tap = {{ interface = \"{interface}\" }} }}\n"
    )
}

/// A link `up0` without a device.
pub fn local_link() -> String {
    "[[link]]\nname = \"up0\"\nrole = \"station\"\n".into()
}

/// A port `vmN` on `tapN` that learns its address.
pub fn learning_port(number: u8, channel: &str, mode: &str) -> String {
    format!(
        "[[port]]\nname = \"vm{number}\"\nchannel = \"{channel}\"\nmode = \"{mode}\"\n\
         device = {{ tap = {{ interface = \"{}\" }} }}\n",
        tap(number)
    )
}

/// A port `vmN` on `tapN` with host N's address registered.
pub fn registered_port(number: u8, channel: &str, mode: &str) -> String {
    format!("{}mac = \"{}\"\n", learning_port(number, channel, mode), mac_text(number))
}
