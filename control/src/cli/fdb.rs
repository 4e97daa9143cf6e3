//! `hairpin fdb`.

use clap::{Args, Subcommand};
use hairpin_proto::v1;
use serde_json::json;

use super::client::Client;
use super::table::table;
use super::{Format, json};

/// Addresses asked for at a time.
const PAGE: u32 = 1000;

/// What to do with addresses.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct FdbArgs {
    /// Of this port only
    #[arg(long, value_name = "NAME")]
    port: Option<String>,
    #[command(subcommand)]
    what: Option<FdbCommand>,
}

impl FdbArgs {
    /// Whether it changes nothing.
    #[must_use]
    pub fn only_shows(&self) -> bool {
        self.what.is_none()
    }
}

#[derive(Debug, Subcommand)]
enum FdbCommand {
    /// Forget learned addresses, so that they are learned anew
    Flush {
        /// Of this port or bridge member only
        #[arg(value_name = "NAME")]
        port: Option<String>,
    },
}

/// `hairpin fdb`.
pub fn fdb(client: &mut Client, args: FdbArgs, format: Format) -> anyhow::Result<String> {
    match args.what {
        None => list(client, args.port, format),
        Some(FdbCommand::Flush { port }) => {
            let request = v1::FlushRequest { port: port.clone().unwrap_or_default() };
            client.flush(request)?;
            Ok(match (format, port) {
                (Format::Json, port) => json::text(&json!({ "flushed": port })),
                (Format::Table, Some(port)) => format!("what was learned on {port} is forgotten\n"),
                (Format::Table, None) => "what was learned is forgotten\n".to_owned(),
            })
        }
    }
}

fn list(client: &mut Client, port: Option<String>, format: Format) -> anyhow::Result<String> {
    let port = port.unwrap_or_default();
    if !port.is_empty() {
        // Says so if there is no such port, and what was meant.
        client.get_port(v1::GetPortRequest { name: port.clone() })?;
    }
    let mut addresses = Vec::new();
    let mut request = v1::FdbRequest { port, page_size: PAGE, page_token: String::new() };
    loop {
        let page = client.fdb(request.clone())?;
        addresses.extend(page.addresses);
        if page.next_page_token.is_empty() {
            break;
        }
        request.page_token = page.next_page_token;
    }
    Ok(match format {
        Format::Json => json::text(&json!({ "addresses": json::each(&addresses, json::address) })),
        Format::Table => address_table(&addresses),
    })
}

fn address_table(addresses: &[v1::Address]) -> String {
    let row = |address: &v1::Address| {
        let idle = match &address.origin {
            Some(v1::address::Origin::Learned(learned)) => {
                format!("{} s ago", learned.idle_ms / 1000)
            }
            Some(v1::address::Origin::Registered(_)) | None => "registered".to_owned(),
        };
        vec![
            address.mac.clone(),
            address.vid.map_or_else(|| "any".to_owned(), |vid| vid.to_string()),
            address.port.clone(),
            address.domain.clone(),
            idle,
        ]
    };
    table(&["ADDRESS", "#VLAN", "PORT", "CHANNEL OR BRIDGE", "USED"], addresses.iter().map(row))
}
