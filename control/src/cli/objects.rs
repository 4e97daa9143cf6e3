//! `show`, `link`, `channel`, `bridge`, `template`, `mirror`.

use anyhow::anyhow;
use clap::Subcommand;
use hairpin_proto::v1;
use serde_json::{Value, json};

use super::client::Client;
use super::table::{fields, table};
use super::{Format, apply, json, port, wishes, words, workers};
use crate::config::nearest::hint;

/// What to do with a kind of object.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// All of them
    List,
    /// One of them
    Show {
        /// Its name
        name: String,
    },
    /// Make one: keys are those of the configuration file
    Add {
        /// Its name
        name: String,
        /// What it is to be, as role=station device=xdp:eth1 mtu=9000; link=up0 svid=100;
        /// members=sbp0,blue:on; from=vm1,vif* frames=received
        #[arg(value_name = "KEY=VALUE")]
        words: Vec<String>,
    },
    /// Change one while it runs
    Set {
        /// Its name
        name: String,
        /// What to change, as with add
        #[arg(required = true, value_name = "KEY=VALUE")]
        words: Vec<String>,
    },
    /// Delete some, all or none of them
    Del {
        /// Their names
        #[arg(required = true, value_name = "NAME")]
        names: Vec<String>,
    },
}

/// A kind of object, as commands list and show it.
pub struct Kind<O> {
    /// What one of them is called; with an s, several, and their list in JSON.
    pub word: &'static str,
    /// One's name.
    pub name: fn(&O) -> &String,
    /// One, for programs.
    pub json: fn(&O) -> Value,
    /// One, for people.
    pub fields: fn(&O) -> String,
    /// All, for people.
    pub table: fn(&[O]) -> String,
}

const LINK: Kind<v1::Link> = Kind {
    word: "link",
    name: |link| &link.name,
    json: json::link,
    fields: one_link,
    table: links,
};

const CHANNEL: Kind<v1::Channel> = Kind {
    word: "channel",
    name: |channel| &channel.name,
    json: json::channel,
    fields: one_channel,
    table: channels,
};

const BRIDGE: Kind<v1::Bridge> = Kind {
    word: "bridge",
    name: |bridge| &bridge.name,
    json: json::bridge,
    fields: one_bridge,
    table: bridges,
};

impl<O> Kind<O> {
    /// All of them.
    pub fn list(&self, all: &[O], format: Format) -> String {
        match format {
            Format::Json => {
                json::text(&json!({ (format!("{}s", self.word)): json::each(all, self.json) }))
            }
            Format::Table => (self.table)(all),
        }
    }

    /// One of them.
    pub fn show(&self, object: &O, format: Format) -> String {
        match format {
            Format::Json => json::text(&(self.json)(object)),
            Format::Table => (self.fields)(object),
        }
    }

    /// All of them, or the one of this name.
    fn answer(&self, all: &[O], name: Option<String>, format: Format) -> anyhow::Result<String> {
        let Some(name) = name else { return Ok(self.list(all, format)) };
        let found = all.iter().find(|object| *(self.name)(object) == name).ok_or_else(|| {
            let near = hint(&name, all.iter().map(|object| (self.name)(object).as_str()));
            anyhow!("there is no {} {name:?}{near}", self.word)
        })?;
        Ok(self.show(found, format))
    }
}

/// `hairpin show`.
pub fn show(client: &mut Client, format: Format) -> anyhow::Result<String> {
    let show = client.show(v1::ShowRequest {})?;
    if format == Format::Json {
        return Ok(json::text(&json::show(&show)));
    }
    let mut text = fields(&[
        ("switch", show.name.clone()),
        ("version", show.version.clone()),
        ("revision", show.revision.to_string()),
        ("up for", format!("{} s", show.uptime_ms / 1000)),
    ]);
    let sections = [
        ("LINKS", show.links.is_empty(), links(&show.links)),
        ("CHANNELS", show.channels.is_empty(), channels(&show.channels)),
        ("BRIDGES", show.bridges.is_empty(), bridges(&show.bridges)),
        ("PORTS", show.ports.is_empty(), port::ports(&show.ports)),
        ("WORKERS", show.workers.is_empty(), workers::workers_and_queues(&show.workers)),
    ];
    for (title, _, section) in sections.iter().filter(|(_, is_empty, _)| !is_empty) {
        text += &format!("\n{title}\n{section}");
    }
    Ok(text)
}

/// `hairpin link`.
pub fn link(
    connect: impl FnOnce() -> anyhow::Result<Client>,
    what: Option<Verb>,
    format: Format,
) -> anyhow::Result<String> {
    obey(connect, wishes::Kind::Link, what, format, |client, name| {
        LINK.answer(&client.list_links(v1::ListLinksRequest {})?.links, name, format)
    })
}

/// Changes, or asks for what is to be shown.
fn obey(
    connect: impl FnOnce() -> anyhow::Result<Client>,
    kind: wishes::Kind,
    what: Option<Verb>,
    format: Format,
    show: impl FnOnce(&mut Client, Option<String>) -> anyhow::Result<String>,
) -> anyhow::Result<String> {
    match what.unwrap_or(Verb::List) {
        Verb::List => show(&mut connect()?, None),
        Verb::Show { name } => show(&mut connect()?, Some(name)),
        Verb::Add { name, words } => apply::add(connect, kind, &name, &words, format),
        Verb::Set { name, words } => apply::set(&mut connect()?, kind, &name, &words, format),
        Verb::Del { names } => apply::delete(&mut connect()?, kind, names, format),
    }
}

fn one_link(link: &v1::Link) -> String {
    fields(&[
        ("name", link.name.clone()),
        ("role", words::role(link.role()).to_owned()),
        ("state", words::state(link.state()).to_owned()),
        ("device", words::device_in_full(link.device.as_ref())),
        ("mtu", link.mtu.to_string()),
        ("channels", words::joined(&link.channels)),
        ("last error", words::or_dash(&link.last_error)),
        ("warnings", words::sentences(&link.warnings)),
    ])
}

fn links(links: &[v1::Link]) -> String {
    let row = |link: &v1::Link| {
        vec![
            link.name.clone(),
            words::role(link.role()).to_owned(),
            words::marked_state(link.state(), &link.warnings),
            words::device(link.device.as_ref()),
            link.mtu.to_string(),
            words::joined(&link.channels),
        ]
    };
    let titles = ["NAME", "ROLE", "STATE", "DEVICE", "#MTU", "CHANNELS"];
    let legend = words::legend("link", links.iter().map(|link| &link.warnings[..]));
    table(&titles, links.iter().map(row)) + &legend
}

/// `hairpin channel`.
pub fn channel(
    connect: impl FnOnce() -> anyhow::Result<Client>,
    what: Option<Verb>,
    format: Format,
) -> anyhow::Result<String> {
    obey(connect, wishes::Kind::Channel, what, format, |client, name| {
        CHANNEL.answer(&client.list_channels(v1::ListChannelsRequest {})?.channels, name, format)
    })
}

fn svid(channel: &v1::Channel) -> String {
    channel.svid.map_or_else(|| "default".to_owned(), |svid| svid.to_string())
}

fn one_channel(channel: &v1::Channel) -> String {
    fields(&[
        ("name", channel.name.clone()),
        ("link", channel.link.clone()),
        ("svid", svid(channel)),
        ("ports", words::joined(&channel.ports)),
        ("bridge", words::or_dash(&channel.bridge)),
    ])
}

fn channels(channels: &[v1::Channel]) -> String {
    let row = |channel: &v1::Channel| {
        let tenants = if channel.bridge.is_empty() {
            words::joined(&channel.ports)
        } else {
            format!("bridge {}", channel.bridge)
        };
        vec![channel.name.clone(), channel.link.clone(), svid(channel), tenants]
    };
    table(&["NAME", "LINK", "#SVID", "PORTS"], channels.iter().map(row))
}

/// `hairpin bridge`.
pub fn bridge(
    connect: impl FnOnce() -> anyhow::Result<Client>,
    what: Option<Verb>,
    format: Format,
) -> anyhow::Result<String> {
    obey(connect, wishes::Kind::Bridge, what, format, |client, name| {
        BRIDGE.answer(&client.list_bridges(v1::ListBridgesRequest {})?.bridges, name, format)
    })
}

fn one_bridge(bridge: &v1::Bridge) -> String {
    let row = |member: &v1::Member| {
        let (reflects, rate) = if member.reflective_relay {
            ("on", member.reflected_group_rate.to_string())
        } else {
            ("off", "-".to_owned())
        };
        vec![member.channel.clone(), reflects.to_owned(), rate]
    };
    let titles = ["MEMBER", "REFLECTIVE RELAY", "#GROUP FRAMES/S"];
    let about = fields(&[("name", bridge.name.clone()), ("ports", words::joined(&bridge.ports))]);
    format!("{about}\n{}", table(&titles, bridge.members.iter().map(row)))
}

fn bridges(bridges: &[v1::Bridge]) -> String {
    let row = |bridge: &v1::Bridge| {
        let members: Vec<String> =
            bridge.members.iter().map(|member| member.channel.clone()).collect();
        vec![bridge.name.clone(), words::joined(&members), words::joined(&bridge.ports)]
    };
    table(&["NAME", "MEMBERS", "PORTS"], bridges.iter().map(row))
}

const TEMPLATE: Kind<v1::PortConfig> = Kind {
    word: "template",
    name: |template| &template.name,
    json: json::template,
    fields: one_template,
    table: templates,
};

/// `hairpin template`.
pub fn template(
    connect: impl FnOnce() -> anyhow::Result<Client>,
    what: Option<Verb>,
    format: Format,
) -> anyhow::Result<String> {
    obey(connect, wishes::Kind::Template, what, format, |client, name| {
        let config = client.get(v1::GetRequest {})?.config.unwrap_or_default();
        let templates = config.templates.into_iter().filter_map(|template| template.port);
        TEMPLATE.answer(&templates.collect::<Vec<_>>(), name, format)
    })
}

fn one_template(template: &v1::PortConfig) -> String {
    fields(&[
        ("name", template.name.clone()),
        ("devices", words::wanted_device(template.device.as_ref())),
        ("mode", words::mode(template.mode()).unwrap_or("-").to_owned()),
        ("channel", words::wanted_home(template)),
        ("vlan", words::vlan(template.vlan.as_ref())),
        ("learn limit", template.learn_limit.unwrap_or_default().to_string()),
        ("admin", words::admin(template.admin()).to_owned()),
    ])
}

fn templates(templates: &[v1::PortConfig]) -> String {
    let row = |template: &v1::PortConfig| {
        vec![
            template.name.clone(),
            words::wanted_device(template.device.as_ref()),
            words::mode(template.mode()).unwrap_or("-").to_owned(),
            words::wanted_home(template),
            words::vlan(template.vlan.as_ref()),
        ]
    };
    table(&["NAME", "DEVICES", "MODE", "CHANNEL", "VLAN"], templates.iter().map(row))
}

/// A mirror, and the ports that are on it.
type Mirror = (v1::MirrorConfig, Vec<String>);

const MIRROR: Kind<Mirror> = Kind {
    word: "mirror",
    name: |(mirror, _)| &mirror.name,
    json: json::mirror,
    fields: one_mirror,
    table: mirrors,
};

/// `hairpin mirror`.
pub fn mirror(
    connect: impl FnOnce() -> anyhow::Result<Client>,
    what: Option<Verb>,
    format: Format,
) -> anyhow::Result<String> {
    obey(connect, wishes::Kind::Mirror, what, format, |client, name| {
        let config = client.get(v1::GetRequest {})?.config.unwrap_or_default();
        let ports = client.list_ports(v1::ListPortsRequest {})?.ports;
        let on = |mirror: &v1::MirrorConfig| {
            let is_on =
                |port: &&v1::Port| port.home == Some(v1::port::Home::Mirror(mirror.name.clone()));
            ports.iter().filter(is_on).map(|port| port.name.clone()).collect()
        };
        let mirrors = config.mirrors.into_iter().map(|mirror| {
            let ports = on(&mirror);
            (mirror, ports)
        });
        MIRROR.answer(&mirrors.collect::<Vec<_>>(), name, format)
    })
}

fn one_mirror((mirror, ports): &Mirror) -> String {
    fields(&[
        ("name", mirror.name.clone()),
        ("from", words::joined(&mirror.from)),
        ("frames", words::mirrored(mirror.frames()).to_owned()),
        ("ports", words::joined(ports)),
    ])
}

fn mirrors(mirrors: &[Mirror]) -> String {
    let row = |(mirror, ports): &Mirror| {
        vec![
            mirror.name.clone(),
            words::mirrored(mirror.frames()).to_owned(),
            words::joined(&mirror.from),
            words::joined(ports),
        ]
    };
    table(&["NAME", "FRAMES", "FROM", "PORTS"], mirrors.iter().map(row))
}
