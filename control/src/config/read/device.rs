//! A device: a table with one key, the kind, and under it the kind's own table.

use hairpin_dataplane::port::{HostsOwn, xdp};

use super::Reading;
use super::fields::Fields;
use super::leaf;
use super::vhost_user::vhost_user;
use crate::config::{At, DeviceConfig};

/// What is common to the kinds of device that a file may name and that are interfaces.
struct Kind {
    name: &'static str,
    /// An interface as it may be called, for people.
    example: &'static str,
    /// Keys of its table.
    known: &'static [&'static str],
    /// The rest of its table, behind the interface's name.
    rest: fn(&mut Reading, &Fields<'_, '_>, String) -> DeviceConfig,
}

const KINDS: [Kind; 3] = [
    Kind { name: "tap", example: "tap1", known: &["interface"], rest: tap },
    Kind { name: "packet", example: "vnet3", known: &["interface", "take-over"], rest: packet },
    Kind { name: "xdp", example: "eth1", known: &["interface", "mode", "take-over"], rest: af_xdp },
];

/// The kind that is no interface, but a socket.
const VHOST_USER: &str = "vhost-user";

/// `device` of a link or port; one that is wrong is refused and then absent.
pub fn device(reading: &mut Reading, owner: &Fields<'_, '_>) -> Option<At<DeviceConfig>> {
    const FORM: &str = "write { tap = { interface = \"tap1\" } }";
    let value = owner.get("device")?;
    let line = reading.line(&value.span());
    let Some(table) = value.get_ref().as_table() else {
        owner.refuse(reading, "device", "it is not a table", FORM);
        return None;
    };
    let mut kinds = table.iter();
    let (Some((name, settings)), None) = (kinds.next(), kinds.next()) else {
        owner.refuse(reading, "device", "it does not name exactly one kind", FORM);
        return None;
    };
    let name: &str = name.get_ref();
    let kind = KINDS.iter().find(|kind| kind.name == name);
    if kind.is_none() && name != VHOST_USER {
        refuse_kind(reading, owner, name);
        return None;
    }
    let Some(table) = settings.get_ref().as_table() else {
        owner.refuse(reading, "device", &format!("{name} is not a table"), FORM);
        return None;
    };
    let fields = Fields::new(&format!("{}: device {name}", owner.object()), table, line);
    let read = match kind {
        Some(kind) => of_kind(reading, &fields, kind),
        None => vhost_user(reading, &fields).map(DeviceConfig::VhostUser),
    };
    if read.is_none() {
        // What is wrong was said of the inner table; the owner is unreadable with it.
        owner.note_refusal();
    }
    read.map(|value| At { value, line })
}

fn refuse_kind(reading: &mut Reading, owner: &Fields<'_, '_>, name: &str) {
    let problem = match name {
        "memory" => "memory devices are for programs that embed the switch".to_owned(),
        _ => format!("{name:?} is not a kind of device"),
    };
    let form = |kind: &Kind| format!("{{ {} = {{ interface = {:?} }} }}", kind.name, kind.example);
    let [tap, packet, xdp] = KINDS.each_ref().map(form);
    let vhost_user = "{ vhost-user = { socket = \"/run/hairpin/vm1.sock\", role = \"server\" } }";
    let remedy = format!("supported now: {tap}, {packet}, {xdp} and {vhost_user}");
    owner.refuse(reading, "device", &problem, &remedy);
}

fn of_kind(reading: &mut Reading, fields: &Fields<'_, '_>, kind: &Kind) -> Option<DeviceConfig> {
    fields.refuse_unknown(reading, kind.known);
    let example = format!("{:?}", kind.example);
    let interface = fields.required(reading, "interface", leaf::interface, &example);
    let read = interface.map(|interface| (kind.rest)(reading, fields, interface.value));
    fields.unless_refused(read)
}

fn tap(_: &mut Reading, _: &Fields<'_, '_>, interface: String) -> DeviceConfig {
    DeviceConfig::Tap { interface }
}

fn packet(reading: &mut Reading, fields: &Fields<'_, '_>, interface: String) -> DeviceConfig {
    DeviceConfig::Packet { interface, hosts_own: hosts_own(reading, fields) }
}

fn af_xdp(reading: &mut Reading, fields: &Fields<'_, '_>, interface: String) -> DeviceConfig {
    let mode = fields.optional(reading, "mode", leaf::xdp_mode);
    let mode = mode.map_or(xdp::Mode::Auto, |mode| mode.value);
    DeviceConfig::Xdp { interface, mode, hosts_own: hosts_own(reading, fields) }
}

fn hosts_own(reading: &mut Reading, fields: &Fields<'_, '_>) -> HostsOwn {
    let take_over = fields.optional(reading, "take-over", leaf::take_over);
    take_over.map_or(HostsOwn::Refuse, |take_over| take_over.value)
}
