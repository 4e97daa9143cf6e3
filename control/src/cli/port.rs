//! `hairpin port list|show|add|set|del|release`.

use clap::{Args, Subcommand};
use hairpin_proto::v1;
use serde_json::json;

use super::client::Client;
use super::objects::Kind;
use super::table::{fields, table};
use super::{Format, apply, json, vmm, wishes, words};
use crate::api::views;
use crate::config::ConfigErrors;
use crate::config::read::leaf::{self, Wrong};

/// What to do with ports.
#[derive(Debug, Args)]
pub struct PortArgs {
    #[command(subcommand)]
    what: Option<PortCommand>,
}

impl PortArgs {
    /// Whether it changes nothing.
    #[must_use]
    pub fn only_shows(&self) -> bool {
        matches!(self.what, None | Some(PortCommand::List | PortCommand::Show { .. }))
    }
}

#[derive(Debug, Subcommand)]
enum PortCommand {
    /// All ports
    List,
    /// One port
    Show {
        /// Its name
        name: String,
    },
    /// Make a port: channel=up0 mode=veb device=vhost-user:/run/vm1.sock,role=server
    Add {
        /// Its name
        name: String,
        /// What it is to be, by the keys of the configuration file; devices are tap:NAME,
        /// packet:NAME, xdp:NAME and vhost-user:SOCKET, with their keys behind commas
        #[arg(value_name = "KEY=VALUE")]
        words: Vec<String>,
    },
    /// Change a port while it runs: mode=vepa channel=blue bridge=br0 vlan=access:10 admin=down
    Set {
        /// Its name
        name: String,
        /// What to change: channel, bridge, mode, device, mac, vlan, learn-limit, admin
        #[arg(required = true, value_name = "KEY=VALUE")]
        changes: Vec<String>,
    },
    /// Delete ports, all or none of them
    Del {
        /// Their names
        #[arg(required = true, value_name = "NAME")]
        names: Vec<String>,
    },
    /// End the quarantine of a port, or of a link; one that is in none is left as it is
    Release {
        /// Its name
        name: String,
    },
}

/// `hairpin port`.
pub fn port(
    client: impl FnOnce() -> anyhow::Result<Client>,
    args: PortArgs,
    format: Format,
) -> anyhow::Result<String> {
    match args.what.unwrap_or(PortCommand::List) {
        PortCommand::List => {
            Ok(PORT.list(&client()?.list_ports(v1::ListPortsRequest {})?.ports, format))
        }
        PortCommand::Show { name } => {
            let port = client()?.get_port(v1::GetPortRequest { name })?.port.unwrap_or_default();
            Ok(PORT.show(&port, format))
        }
        PortCommand::Add { name, words } => {
            apply::add(client, wishes::Kind::Port, &name, &words, format)
        }
        PortCommand::Del { names } => {
            apply::delete(&mut client()?, wishes::Kind::Port, names, format)
        }
        PortCommand::Set { name, changes } => {
            // What is asked is understood before anybody is asked.
            let request = request(name, &changes)?;
            let port = client()?.set_port(request)?.port.unwrap_or_default();
            Ok(PORT.show(&port, format))
        }
        PortCommand::Release { name } => {
            let request = v1::ReleasePortRequest { name: name.clone() };
            Ok(released(&name, &client()?.release_port(request)?, format))
        }
    }
}

fn released(name: &str, response: &v1::ReleasePortResponse, format: Format) -> String {
    use v1::release_port_response::Released;
    match (format, &response.released) {
        (Format::Json, released) => {
            let mut object = match released {
                Some(Released::Port(port)) => json::port(port),
                Some(Released::Link(link)) => json::link(link),
                None => json!({ "name": name }),
            };
            object["was_quarantined"] = response.was_quarantined.into();
            json::text(&object)
        }
        (Format::Table, _) if response.was_quarantined => format!("{name} is released\n"),
        (Format::Table, _) => format!("{name} was not in quarantine; it is left as it is\n"),
    }
}

const PORT: Kind<v1::Port> =
    Kind { word: "port", name: |port| &port.name, json: json::port, fields: one, table: ports };

/// All ports as a table.
#[must_use]
pub fn ports(ports: &[v1::Port]) -> String {
    let row = |port: &v1::Port| {
        vec![
            port.name.clone(),
            words::marked_state(port.state(), &port.warnings),
            words::mode(port.mode()).unwrap_or("-").to_owned(),
            words::home(port),
            words::device(port.device.as_ref()),
            words::vlan(port.vlan.as_ref()),
        ]
    };
    let titles = ["NAME", "STATE", "MODE", "CHANNEL", "DEVICE", "VLAN"];
    let legend = words::legend("port", ports.iter().map(|port| &port.warnings[..]));
    table(&titles, ports.iter().map(row)) + &legend
}

fn one(port: &v1::Port) -> String {
    let addresses = if port.macs.is_empty() {
        format!("learned, {} at most", port.learn_limit)
    } else {
        port.macs.join(" ")
    };
    let workers: Vec<String> = port.workers.iter().map(u32::to_string).collect();
    let mut rows = vec![
        ("name", port.name.clone()),
        ("state", words::state(port.state()).to_owned()),
        ("admin", words::admin(port.admin()).to_owned()),
        ("mode", words::mode(port.mode()).unwrap_or("-").to_owned()),
        (words::home_kind(port), words::or_dash(words::home_name(port))),
        ("device", words::device_in_full(port.device.as_ref())),
        ("vlan", words::vlan(port.vlan.as_ref())),
        ("mac", addresses),
        ("mtu", port.mtu.to_string()),
        ("workers", words::joined(&workers)),
        ("reopened", port.reopened.to_string()),
    ];
    if !port.template.is_empty() {
        rows.push(("made by", format!("port template {}", port.template)));
    }
    rows.extend(port.vmm.iter().flat_map(vmm::rows));
    rows.extend([
        ("last error", words::or_dash(&port.last_error)),
        ("warnings", words::sentences(&port.warnings)),
    ]);
    fields(&rows)
}

/// What `key=value` words ask for.
fn request(name: String, changes: &[String]) -> anyhow::Result<v1::SetPortRequest> {
    let mut request = v1::SetPortRequest { name, ..v1::SetPortRequest::default() };
    for change in changes {
        let (key, value) = wishes::parts(change, wishes::Kind::Port.keys())?;
        set(&mut request, key, value).map_err(|Wrong { problem, remedy }| {
            anyhow::anyhow!("port {}: {key}: {problem}; {remedy}", request.name)
        })?;
    }
    Ok(request)
}

fn set(request: &mut v1::SetPortRequest, key: &str, value: &str) -> Result<(), Wrong> {
    let text = toml::de::DeValue::String(value.into());
    match key {
        "mode" => request.mode = views::mode(leaf::mode(&text)?) as i32,
        "admin" => request.admin = views::admin(leaf::admin(&text)?) as i32,
        "vlan" => request.vlan = Some(views::vlan(&leaf::vlan_words(value)?)),
        "channel" => {
            request.home = Some(v1::set_port_request::Home::Channel(value.to_owned()));
        }
        "bridge" => request.home = Some(v1::set_port_request::Home::Bridge(value.to_owned())),
        "mirror" => request.home = Some(v1::set_port_request::Home::Mirror(value.to_owned())),
        "mac" => {
            let macs = value.split(',').filter(|mac| !mac.is_empty()).map(str::to_owned);
            request.macs = Some(v1::Addresses { macs: macs.collect() });
        }
        "learn-limit" => {
            let number = value.parse().map_err(|_| {
                Wrong::new(format!("{value:?} is no number"), "write one from 1 to 1048576")
            });
            request.learn_limit = Some(number?);
        }
        _ => {
            let wrong = |errors: ConfigErrors| match errors.into_errors().pop() {
                Some(error) => Wrong::new(error.problem, error.remedy),
                None => Wrong::new(format!("{value:?} is no device"), "write KIND:NAME"),
            };
            request.device = Some(wishes::device_of(value).map_err(wrong)?);
        }
    }
    Ok(())
}
