//! `hairpin port list|show|set`.

use clap::{Args, Subcommand};
use hairpin_dataplane::snapshot::{Admin, Mode};
use hairpin_proto::v1;
use serde_json::json;

use super::client::Client;
use super::table::{fields, table};
use super::{Format, UsageError, json, words};
use crate::config::VlanConfig;
use crate::config::nearest::hint;
use crate::config::read::leaf::{self, Wrong};

/// What to do with ports.
#[derive(Debug, Args)]
pub struct PortArgs {
    #[command(subcommand)]
    what: Option<PortCommand>,
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
    /// Change a port while it runs: mode=vepa channel=blue bridge=br0 vlan=access:10 admin=down
    Set {
        /// Its name
        name: String,
        /// What to change: mode, channel, bridge, vlan, admin
        #[arg(required = true, value_name = "KEY=VALUE")]
        changes: Vec<String>,
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
            let all = client()?.list_ports(v1::ListPortsRequest {})?.ports;
            Ok(match format {
                Format::Json => json::text(&json!({ "ports": json::each(&all, json::port) })),
                Format::Table => ports(&all),
            })
        }
        PortCommand::Show { name } => {
            let port = client()?.get_port(v1::GetPortRequest { name })?.port.unwrap_or_default();
            Ok(match format {
                Format::Json => json::text(&json::port(&port)),
                Format::Table => one(&port),
            })
        }
        PortCommand::Set { name, changes } => {
            // What is asked is understood before anybody is asked.
            let request = request(name, &changes)?;
            let response = client()?.set_port(request)?;
            let port = response.port.unwrap_or_default();
            Ok(match format {
                Format::Json => json::text(&json::port(&port)),
                Format::Table => one(&port),
            })
        }
    }
}

/// All ports as a table.
#[must_use]
pub fn ports(ports: &[v1::Port]) -> String {
    let row = |port: &v1::Port| {
        vec![
            port.name.clone(),
            words::state(port.state()).to_owned(),
            words::mode(port).unwrap_or("-").to_owned(),
            words::home(port).to_owned(),
            words::device(port.device.as_ref()),
            words::vlan(port.vlan.as_ref()),
        ]
    };
    let titles = ["NAME", "STATE", "MODE", "CHANNEL", "DEVICE", "VLAN"];
    table(&titles, ports.iter().map(row))
}

fn one(port: &v1::Port) -> String {
    let home = match port.home {
        Some(v1::port::Home::Bridge(_)) => "bridge",
        Some(v1::port::Home::Channel(_)) | None => "channel",
    };
    let addresses = if port.macs.is_empty() {
        format!("learned, {} at most", port.learn_limit)
    } else {
        port.macs.join(" ")
    };
    let workers: Vec<String> = port.workers.iter().map(u32::to_string).collect();
    fields(&[
        ("name", port.name.clone()),
        ("state", words::state(port.state()).to_owned()),
        ("admin", words::admin(port.admin()).to_owned()),
        ("mode", words::mode(port).unwrap_or("-").to_owned()),
        (home, words::home(port).to_owned()),
        ("device", words::device(port.device.as_ref())),
        ("vlan", words::vlan(port.vlan.as_ref())),
        ("mac", addresses),
        ("mtu", port.mtu.to_string()),
        ("workers", words::joined(&workers)),
        ("reopened", port.reopened.to_string()),
        ("last error", if port.last_error.is_empty() { "-" } else { &port.last_error }.to_owned()),
    ])
}

const KEYS: &[&str] = &["mode", "channel", "bridge", "vlan", "admin"];

/// What `key=value` words ask for.
fn request(name: String, changes: &[String]) -> anyhow::Result<v1::SetPortRequest> {
    let mut request = v1::SetPortRequest { name, ..v1::SetPortRequest::default() };
    for change in changes {
        let (key, value) = change.split_once('=').ok_or_else(|| {
            UsageError(format!("{change:?} is not KEY=VALUE; keys are {}", KEYS.join(", ")))
        })?;
        set(&mut request, key, value)?;
    }
    Ok(request)
}

fn set(request: &mut v1::SetPortRequest, key: &str, value: &str) -> anyhow::Result<()> {
    let text = toml::de::DeValue::String(value.into());
    let refused = |Wrong { problem, remedy }: Wrong| {
        anyhow::anyhow!("port {}: {key}: {problem}; {remedy}", request.name)
    };
    match key {
        "mode" => request.mode = mode(leaf::mode(&text).map_err(refused)?) as i32,
        "admin" => request.admin = admin(leaf::admin(&text).map_err(refused)?) as i32,
        "vlan" => request.vlan = Some(vlan(leaf::vlan_words(value).map_err(refused)?)),
        "channel" => {
            request.home = Some(v1::set_port_request::Home::Channel(value.to_owned()));
        }
        "bridge" => request.home = Some(v1::set_port_request::Home::Bridge(value.to_owned())),
        _ => {
            let near = hint(key, KEYS.iter().copied());
            let known = KEYS.join(", ");
            return Err(UsageError(format!("unknown key {key:?}{near}; keys are {known}")).into());
        }
    }
    Ok(())
}

fn mode(mode: Mode) -> v1::Mode {
    match mode {
        Mode::Veb => v1::Mode::Veb,
        Mode::Vepa => v1::Mode::Vepa,
        Mode::Private => v1::Mode::Private,
        Mode::Direct => v1::Mode::Direct,
    }
}

fn admin(admin: Admin) -> v1::Admin {
    match admin {
        Admin::Up => v1::Admin::Up,
        Admin::Down => v1::Admin::Down,
    }
}

fn vlan(vlan: VlanConfig) -> v1::Vlan {
    let policy = match vlan {
        VlanConfig::Transparent => v1::vlan::Policy::Transparent(v1::Transparent {}),
        VlanConfig::Access(id) => v1::vlan::Policy::Access(id.get().into()),
        VlanConfig::Trunk { members, native } => v1::vlan::Policy::Trunk(v1::Trunk {
            vids: members.iter().map(|id| id.get().into()).collect(),
            native: native.map(|id| id.get().into()),
        }),
    };
    v1::Vlan { policy: Some(policy) }
}
