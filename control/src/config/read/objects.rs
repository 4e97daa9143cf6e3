//! The objects of a configuration, each from its table.

use hairpin_dataplane::snapshot::mirrors::Mirrored;
use hairpin_dataplane::snapshot::{Admin, ReflectiveRelay};
use hairpin_dataplane::wire::Mac;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::Reading;
use super::device::device;
use super::fields::Fields;
use super::leaf::{self, Reflection, Wrong};
use crate::config::template;
use crate::config::{
    At, BridgeConfig, ChannelConfig, FdbConfig, LEARN_LIMIT, LinkConfig, MemberConfig,
    MirrorConfig, NamedBy, PortConfig, REFLECTED_GROUP_RATE, SwitchConfig, TemplateConfig,
    VlanConfig,
};

const SWITCH_KEYS: &[&str] =
    &["name", "workers", "poll", "api", "api-others", "metrics", "state-dir", "fdb"];

/// `[switch]`.
pub fn switch(reading: &mut Reading, table: &DeTable<'_>) -> Option<SwitchConfig> {
    let fields = Fields::new("switch", table, None);
    fields.refuse_unknown(reading, SWITCH_KEYS);
    let default = SwitchConfig::default();
    let read = SwitchConfig {
        name: value_or(fields.optional(reading, "name", leaf::name), default.name),
        workers: value_or(fields.optional(reading, "workers", leaf::cpus), default.workers),
        poll: value_or(fields.optional(reading, "poll", leaf::poll), default.poll),
        api: value_or(fields.optional(reading, "api", leaf::api), default.api),
        api_others: value_or(
            fields.optional(reading, "api-others", leaf::api_others),
            default.api_others,
        ),
        metrics: fields.optional(reading, "metrics", leaf::metrics).map(|at| at.value),
        state_dir: value_or(
            fields.optional(reading, "state-dir", leaf::directory),
            default.state_dir,
        ),
        fdb: fdb(reading, &fields).unwrap_or(default.fdb),
    };
    fields.unless_refused(Some(read))
}

fn fdb(reading: &mut Reading, switch: &Fields<'_, '_>) -> Option<FdbConfig> {
    let value = switch.get("fdb")?;
    let Some(table) = value.get_ref().as_table() else {
        let remedy = "write fdb = { capacity = 65536, ageing = \"300s\" }";
        switch.refuse(reading, "fdb", "it is not a table", remedy);
        return None;
    };
    let fields = Fields::new("switch fdb", table, reading.line(&value.span()));
    fields.refuse_unknown(reading, &["capacity", "ageing"]);
    let default = FdbConfig::default();
    Some(FdbConfig {
        capacity: value_or(fields.optional(reading, "capacity", leaf::capacity), default.capacity),
        ageing: value_or(fields.optional(reading, "ageing", leaf::ageing), default.ageing),
    })
}

/// What was read, or what holds where nothing was.
pub fn value_or<T>(read: Option<At<T>>, default: T) -> T {
    read.map_or(default, |at| at.value)
}

/// `[[link]]`.
pub fn link(reading: &mut Reading, fields: &mut Fields<'_, '_>) -> Option<LinkConfig> {
    fields.refuse_unknown(reading, LINK_KEYS);
    let name = fields.required(reading, "name", leaf::name, "\"up0\"");
    let role = fields.required(reading, "role", leaf::role, "\"station\" or \"bridge\"");
    let device = device(reading, fields);
    let mtu = fields.optional(reading, "mtu", leaf::mtu);
    let admin = value_or(fields.optional(reading, "admin", leaf::admin), Admin::Up);
    let read = name.zip(role).map(|(name, role)| LinkConfig {
        name,
        role: role.value,
        device,
        mtu,
        admin,
    });
    fields.unless_refused(read)
}

/// `[[channel]]`.
pub fn channel(reading: &mut Reading, fields: &mut Fields<'_, '_>) -> Option<ChannelConfig> {
    fields.refuse_unknown(reading, CHANNEL_KEYS);
    let name = fields.required(reading, "name", leaf::name, "\"blue\"");
    let link = fields.required(reading, "link", leaf::name, "a link's name");
    let svid = fields.required(reading, "svid", leaf::svid, "100");
    let read =
        name.zip(link).zip(svid).map(|((name, link), svid)| ChannelConfig { name, link, svid });
    fields.unless_refused(read)
}

/// Keys of a `[[link]]`, its name first, as everywhere.
pub const LINK_KEYS: &[&str] = &["name", "role", "device", "mtu", "admin"];
/// Keys of a `[[channel]]`.
pub const CHANNEL_KEYS: &[&str] = &["name", "link", "svid"];
/// Keys of a `[[bridge]]`.
pub const BRIDGE_KEYS: &[&str] = &["name", "members"];
/// Keys of a `[[mirror]]`.
pub const MIRROR_KEYS: &[&str] = &["name", "from", "frames"];
/// Keys of a `[[port]]`.
pub const PORT_KEYS: &[&str] = &[
    "name",
    "channel",
    "bridge",
    "mirror",
    "mode",
    "device",
    "mac",
    "vlan",
    "learn-limit",
    "admin",
];

/// `[[port]]`.
pub fn port(reading: &mut Reading, fields: &mut Fields<'_, '_>) -> Option<PortConfig> {
    fields.refuse_unknown(reading, PORT_KEYS);
    port_fields(reading, fields, "write device = { tap = { interface = \"tap1\" } }")
}

/// What ports and templates of them have in common.
fn port_fields(
    reading: &mut Reading,
    fields: &mut Fields<'_, '_>,
    device_form: &str,
) -> Option<PortConfig> {
    let name = fields.required(reading, "name", leaf::name, "\"vm1\"");
    let channel = fields.optional(reading, "channel", leaf::name);
    let bridge = fields.optional(reading, "bridge", leaf::name);
    let mirror = fields.optional(reading, "mirror", leaf::name);
    let mode = fields.optional(reading, "mode", leaf::mode);
    if fields.get("device").is_none() {
        fields.refuse(reading, "device", "it is missing", device_form);
    }
    let device = device(reading, fields);
    let macs = macs(reading, fields);
    let vlan = vlan(reading, fields);
    let limit = fields.optional(reading, "learn-limit", leaf::learn_limit);
    let admin = value_or(fields.optional(reading, "admin", leaf::admin), Admin::Up);
    let read = name.zip(device).map(|(name, device)| PortConfig {
        name,
        channel,
        bridge,
        mirror,
        mode,
        device,
        macs,
        vlan,
        learn_limit: value_or(limit, LEARN_LIMIT),
        admin,
    });
    fields.unless_refused(read)
}

/// Keys of a `[[port-template]]`.
pub const TEMPLATE_KEYS: &[&str] =
    &["name", "channel", "bridge", "mode", "device", "vlan", "learn-limit", "admin"];

/// `[[port-template]]`: a port whose device has a pattern for a name.
pub fn template(reading: &mut Reading, fields: &mut Fields<'_, '_>) -> Option<TemplateConfig> {
    fields.refuse_unknown(reading, TEMPLATE_KEYS);
    let port = port_fields(reading, fields, template::FORM)?;
    let read = TemplateConfig { port };
    let problem = template::objection(&read.port.device.value);
    if let Some(problem) = problem {
        fields.refuse(reading, "device", problem, template::FORM);
    }
    fields.unless_refused(Some(read))
}

/// `mac`: one address or a list.
fn macs(reading: &mut Reading, fields: &Fields<'_, '_>) -> Vec<At<Mac>> {
    let Some(value) = fields.get("mac") else { return Vec::new() };
    let items = match value.get_ref() {
        DeValue::Array(items) if items.is_empty() => {
            let remedy = "list addresses, or leave mac out so that they are learned";
            fields.refuse(reading, "mac", "the list is empty", remedy);
            return Vec::new();
        }
        DeValue::Array(items) => items.iter().collect(),
        _ => vec![value],
    };
    let mut macs: Vec<At<Mac>> = Vec::with_capacity(items.len());
    for item in items {
        let line = reading.line(&item.span());
        match leaf::mac(item.get_ref()) {
            Ok(value) => macs.push(At { value, line }),
            Err(Wrong { problem, remedy }) => fields.refuse(reading, "mac", &problem, &remedy),
        }
    }
    macs
}

/// `vlan`: `{ access = … }` or `{ trunk = […], native = … }`.
fn vlan(reading: &mut Reading, port: &Fields<'_, '_>) -> VlanConfig {
    const FORM: &str = "write { access = 10 } or { trunk = [10, \"20-29\"], native = 10 }";
    let Some(value) = port.get("vlan") else { return VlanConfig::Transparent };
    let Some(table) = value.get_ref().as_table() else {
        port.refuse(reading, "vlan", "it is not a table", FORM);
        return VlanConfig::Transparent;
    };
    let object = format!("{}: vlan", port.object());
    let fields = Fields::new(&object, table, reading.line(&value.span()));
    fields.refuse_unknown(reading, &["access", "trunk", "native"]);
    let access = fields.optional(reading, "access", leaf::vlan_id);
    let trunk = fields.optional(reading, "trunk", leaf::vlan_list);
    let native = fields.optional(reading, "native", leaf::vlan_id);
    let given = |key| fields.get(key).is_some();
    match (given("access"), given("trunk"), given("native")) {
        (true, true, _) => {
            fields.refuse(reading, "trunk", "a port is either access or trunk", FORM);
        }
        (_, false, true) => {
            fields.refuse(reading, "native", "only a trunk has a native VLAN", FORM);
        }
        (false, false, false) => port.refuse(reading, "vlan", "it says nothing", FORM),
        _ => {}
    }
    if let Some(access) = access {
        return VlanConfig::Access(access.value);
    }
    trunk.map_or(VlanConfig::Transparent, |trunk| VlanConfig::Trunk {
        members: trunk.value,
        native: native.map(|native| native.value),
    })
}

/// `[[mirror]]`.
pub fn mirror(reading: &mut Reading, fields: &mut Fields<'_, '_>) -> Option<MirrorConfig> {
    fields.refuse_unknown(reading, MIRROR_KEYS);
    let name = fields.required(reading, "name", leaf::name, "\"probe\"");
    let from = sources(reading, fields);
    let frames = value_or(fields.optional(reading, "frames", leaf::frames), Mirrored::Both);
    fields.unless_refused(name.map(|name| MirrorConfig { name, from, frames }))
}

/// `from`: a list of names and patterns.
fn sources(reading: &mut Reading, fields: &Fields<'_, '_>) -> Vec<At<String>> {
    const FORM: &str = "write from = [\"vm1\", \"vif*\"]: names of ports and links, or patterns";
    let items = fields.get("from").map(|value| value.get_ref().as_array());
    let Some(Some(items)) = items else {
        let problem = if items.is_some() { "it is not a list" } else { "it is missing" };
        fields.refuse(reading, "from", problem, FORM);
        return Vec::new();
    };
    let mut from = Vec::with_capacity(items.len());
    for item in items.iter() {
        let line = reading.line(&item.span());
        match leaf::source(item.get_ref()) {
            Ok(value) => from.push(At { value, line }),
            Err(Wrong { problem, remedy }) => fields.refuse(reading, "from", &problem, &remedy),
        }
    }
    from
}

/// `[[bridge]]`.
pub fn bridge(reading: &mut Reading, fields: &mut Fields<'_, '_>) -> Option<BridgeConfig> {
    const FORM: &str = "write members = [ { link = \"sbp0\" }, { channel = \"blue\" } ]";
    fields.refuse_unknown(reading, BRIDGE_KEYS);
    let name = fields.required(reading, "name", leaf::name, "\"br0\"");
    let mut members = Vec::new();
    match fields.get("members").map(|value| (value, value.get_ref().as_array())) {
        None => {}
        Some((_, Some(items))) => {
            for item in items.iter() {
                members.extend(member(reading, fields, item));
            }
        }
        Some((_, None)) => fields.refuse(reading, "members", "it is not a list", FORM),
    }
    fields.unless_refused(name.map(|name| BridgeConfig { name, members }))
}

fn member(
    reading: &mut Reading,
    bridge: &Fields<'_, '_>,
    item: &Spanned<DeValue<'_>>,
) -> Option<MemberConfig> {
    const FORM: &str = "write { link = \"sbp0\" } or { channel = \"blue\" }";
    let Some(table) = item.get_ref().as_table() else {
        bridge.refuse(reading, "members", "a member is not a table", FORM);
        return None;
    };
    let object = format!("{}: member", bridge.object());
    let fields = Fields::new(&object, table, reading.line(&item.span()));
    let known = &["link", "channel", "reflective-relay", "reflected-group-rate"];
    fields.refuse_unknown(reading, known);
    let link = fields.optional(reading, "link", leaf::name);
    let channel = fields.optional(reading, "channel", leaf::name);
    let reflective_relay = reflective_relay(reading, &fields);
    let named = match (link, channel) {
        (Some(link), None) => Some((link, NamedBy::Link)),
        (None, Some(channel)) => Some((channel, NamedBy::Channel)),
        (Some(_), Some(_)) => {
            fields.refuse(reading, "channel", "a member is a link or a channel, not both", FORM);
            None
        }
        (None, None) => {
            // One that is there and wrong was refused already.
            if fields.get("link").or(fields.get("channel")).is_none() {
                fields.refuse(reading, "channel", "it is missing, and so is link", FORM);
            }
            None
        }
    };
    let read =
        named.map(|(channel, named_by)| MemberConfig { channel, named_by, reflective_relay });
    let read = fields.unless_refused(read);
    if read.is_none() {
        bridge.note_refusal();
    }
    read
}

/// `reflective-relay`, and the rate that is of use beside it only.
fn reflective_relay(reading: &mut Reading, member: &Fields<'_, '_>) -> ReflectiveRelay {
    let reflection = member.optional(reading, "reflective-relay", leaf::reflective_relay);
    let rate = member.optional(reading, "reflected-group-rate", leaf::rate);
    let is_unread = reflection.is_none() && member.get("reflective-relay").is_some();
    match value_or(reflection, Reflection::Off) {
        Reflection::On => ReflectiveRelay::On { group_rate: value_or(rate, REFLECTED_GROUP_RATE) },
        Reflection::Off => {
            if rate.is_some() && !is_unread {
                let problem = "nothing is reflected while reflective-relay is off";
                let remedy = "write reflective-relay = \"on\", or leave the rate out";
                member.refuse(reading, "reflected-group-rate", problem, remedy);
            }
            ReflectiveRelay::Off
        }
    }
}
