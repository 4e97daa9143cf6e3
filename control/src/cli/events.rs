//! `hairpin events`.

use std::ops::ControlFlow;

use clap::Args;
use hairpin_proto::v1;
use serde_json::{Value, json};

use super::client::Client;
use super::{Format, json, print, words};

/// Which events to show.
#[derive(Debug, Args)]
pub struct EventsArgs {
    /// Of these objects only, as "port vm1", "link up0", "worker 0" or "switch"
    #[arg(value_name = "OBJECT")]
    objects: Vec<String>,
    /// Go on as events happen, until interrupted
    #[arg(long, short)]
    follow: bool,
    /// Begin behind the event of this number [default: with the first that is kept]
    #[arg(long, value_name = "NUMBER")]
    after: Option<u64>,
    /// The run of the switch that --after is of, as --json has it: from another one all events
    /// that it has kept come [default: whichever answers]
    #[arg(long, value_name = "NUMBER", default_value_t = 0, hide_default_value = true)]
    instance: u64,
}

/// `hairpin events`: prints while it runs.
pub fn events(client: &mut Client, args: EventsArgs, format: Format) -> anyhow::Result<()> {
    let EventsArgs { objects, follow, after, instance } = args;
    let after_sequence = Some(after.unwrap_or(0));
    let request = v1::WatchRequest { after_sequence, instance, objects };
    let (mut eventless, mut failed) = (0, Ok(()));
    client.watch(request, |response| {
        match &response.event {
            Some(event) => failed = print(&text(&response, event, format)),
            None => eventless += 1,
        }
        // With the second of these all that there was has come.
        match failed.is_ok() && (follow || eventless < 2) {
            true => ControlFlow::Continue(()),
            false => ControlFlow::Break(()),
        }
    })?;
    Ok(failed?)
}

fn text(response: &v1::WatchResponse, event: &v1::Event, format: Format) -> String {
    if format == Format::Json {
        return format!("{}\n", object(response, event));
    }
    let lost = match response.lost {
        0 => String::new(),
        lost => format!("({lost} events before this are not kept)\n"),
    };
    let v1::Event { sequence, at_ms, object, cause, remedy, .. } = event;
    let (at, kind) = (words::instant(*at_ms), words::event_kind(event.kind()));
    let mut text = format!("{lost}{at} {sequence:>5} {object}: {kind}\n");
    for line in [cause, remedy].into_iter().filter(|line| !line.is_empty()) {
        text += &words::folded(line, "                          ");
    }
    text
}

fn object(response: &v1::WatchResponse, event: &v1::Event) -> Value {
    json!({
        "sequence": event.sequence,
        "instance": response.instance,
        "lost": response.lost,
        "at_ms": event.at_ms,
        "kind": words::event_kind(event.kind()),
        "object": event.object,
        "cause": json::unless_empty(&event.cause),
        "remedy": json::unless_empty(&event.remedy),
    })
}
