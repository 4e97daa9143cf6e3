//! `apply`, `rollback`, `revisions`, `config`, and `add`, `set` and `del` of single objects.

use std::path::Path;

use anyhow::{anyhow, bail};
use hairpin_proto::v1;
use serde_json::{Value, json};
use toml::Table;

use super::client::Client;
use super::table::table;
use super::wishes::{self, Kind};
use super::{Format, json, words};
use crate::api::configs;
use crate::config;
use crate::switch::digest::Digest;

/// How often a change to a single object is tried, each time upon what runs then.
const TRIES: u32 = 5;

/// `hairpin apply`.
pub fn apply(
    client: impl FnOnce() -> anyhow::Result<Client>,
    file: &Path,
    trial: Trial,
    format: Format,
) -> anyhow::Result<String> {
    // What is wrong with the file is found before anybody is asked.
    let (desired, text) = config::load_with_text(file)?;
    let request = v1::ApplyRequest {
        config: Some(configs::config(desired.config())),
        base_revision: trial.base,
        dry_run: trial.dry_run,
        file_sha256: Digest::of(text.as_bytes()).to_string(),
    };
    Ok(changed(&client()?.apply(request)?, &trial, format))
}

/// On what condition a change is made.
#[derive(Clone, Copy, Debug, Default, clap::Args)]
pub struct Trial {
    /// Only say what would change
    #[arg(long)]
    dry_run: bool,
    /// The revision that the change was made from; refused if another one runs
    #[arg(long, value_name = "REVISION")]
    base: Option<u64>,
}

/// `hairpin rollback`.
pub fn rollback(
    client: &mut Client,
    revision: Option<u64>,
    trial: Trial,
    format: Format,
) -> anyhow::Result<String> {
    let Trial { dry_run, base } = trial;
    let request = v1::RollbackRequest { revision, base_revision: base, dry_run };
    Ok(changed(&client.rollback(request)?, &trial, format))
}

/// `hairpin revisions`.
pub fn revisions(client: &mut Client, format: Format) -> anyhow::Result<String> {
    let response = client.list_revisions(v1::ListRevisionsRequest {})?;
    let revisions = &response.revisions;
    let running = revisions.last().map(|revision| revision.number);
    if format == Format::Json {
        let one = |revision: &v1::Revision| {
            json!({
                "number": revision.number,
                "applied_ms": revision.applied_ms,
                "origin": revision.origin,
                "changes": revision.changes,
                "running": Some(revision.number) == running,
            })
        };
        let directory = json::unless_empty(&response.directory);
        let object = json!({ "revisions": json::each(revisions, one), "directory": directory });
        return Ok(json::text(&object));
    }
    let row = |revision: &v1::Revision| {
        let mark = if Some(revision.number) == running { " *" } else { "" };
        vec![
            format!("{}{mark}", revision.number),
            words::instant(revision.applied_ms),
            revision.changes.to_string(),
            revision.origin.clone(),
        ]
    };
    let place = match response.directory.as_str() {
        "" => "in memory only: they end with the switch".to_owned(),
        directory => format!("kept in {directory}"),
    };
    let titles = ["REVISION", "APPLIED (UTC)", "#CHANGES", "BY"];
    Ok(table(&titles, revisions.iter().map(row)) + &format!("* runs; {place}\n"))
}

/// `hairpin config`.
pub fn config(client: &mut Client, format: Format) -> anyhow::Result<String> {
    let v1::GetResponse { revision, toml, .. } = client.get(v1::GetRequest {})?;
    match format {
        Format::Table => Ok(toml),
        Format::Json => {
            let config: Value = serde_json::to_value(toml.parse::<Table>()?)?;
            Ok(json::text(&json!({ "revision": revision, "config": config })))
        }
    }
}

/// `add` of an object.
pub fn add(
    client: impl FnOnce() -> anyhow::Result<Client>,
    kind: Kind,
    name: &str,
    words: &[String],
    format: Format,
) -> anyhow::Result<String> {
    let object = wishes::object(kind, name, words)?;
    let edits = vec![v1::Edit { what: Some(v1::edit::What::Add(object)) }];
    let request = v1::EditRequest { edits, ..v1::EditRequest::default() };
    Ok(changed(&client()?.edit(request)?, &Trial::default(), format))
}

/// `del` of objects.
pub fn delete(
    client: &mut Client,
    kind: Kind,
    names: Vec<String>,
    format: Format,
) -> anyhow::Result<String> {
    // Not another kind's object that took the name meanwhile.
    for _ in 0..TRIES {
        let get = client.get(v1::GetRequest {})?;
        for name in &names {
            written(&get.toml, kind, name)?;
        }
        let delete = |name: &String| v1::Edit { what: Some(v1::edit::What::Delete(name.clone())) };
        let edits = names.iter().map(delete).collect();
        let base_revision = Some(get.revision);
        let request = v1::EditRequest { edits, base_revision, dry_run: false };
        if let Some(response) = client.edit_unless_superseded(request)? {
            return Ok(changed(&response, &Trial::default(), format));
        }
    }
    bail!("{}: others change the switch all the time; try again", names.join(" "))
}

/// `set` of an object: what runs, with these words changed. Whoever changes it meanwhile is
/// not overwritten.
pub fn set(
    client: &mut Client,
    kind: Kind,
    name: &str,
    words: &[String],
    format: Format,
) -> anyhow::Result<String> {
    for word in words {
        wishes::parts(word, kind.keys())?;
    }
    for _ in 0..TRIES {
        let get = client.get(v1::GetRequest {})?;
        let written = written(&get.toml, kind, name)?;
        let object = wishes::changed(kind, name, &written, words)?;
        let edits = vec![v1::Edit { what: Some(v1::edit::What::Replace(object)) }];
        let base_revision = Some(get.revision);
        let request = v1::EditRequest { edits, base_revision, dry_run: false };
        if let Some(response) = client.edit_unless_superseded(request)? {
            return Ok(changed(&response, &Trial::default(), format));
        }
    }
    bail!("{} {name}: others change the switch all the time; try again", kind.word())
}

/// What is written of an object, in TOML.
fn written(toml: &str, kind: Kind, name: &str) -> anyhow::Result<String> {
    let config: Table = toml.parse()?;
    let all = config.get(kind.word()).and_then(|list| list.as_array());
    let all: Vec<&Table> = all.into_iter().flatten().filter_map(|one| one.as_table()).collect();
    let name_of = |object: &Table| object.get("name")?.as_str().map(str::to_owned);
    let found = all.iter().find(|object| name_of(object).as_deref() == Some(name));
    found.map(|object| object.to_string()).ok_or_else(|| {
        let names: Vec<String> = all.iter().filter_map(|object| name_of(object)).collect();
        let near = config::nearest::hint(name, names.iter().map(String::as_str));
        anyhow!("there is no {} {name:?}{near}", kind.word())
    })
}

/// What changed, or would.
fn changed(response: &v1::ApplyResponse, trial: &Trial, format: Format) -> String {
    let v1::ApplyResponse { revision, changes } = response;
    if format == Format::Json {
        let changes = json::each(changes, change_json);
        let object = json!({ "revision": revision, "dry_run": trial.dry_run, "changes": changes });
        return json::text(&object);
    }
    let lines: String = changes.iter().map(|change| line(change) + "\n").collect();
    match (changes.is_empty(), trial.dry_run) {
        (true, _) => format!("nothing changes; revision {revision} runs\n"),
        (false, true) => lines + &format!("nothing was changed; revision {revision} runs\n"),
        (false, false) => lines + &format!("revision {revision} runs\n"),
    }
}

fn change_json(change: &v1::Change) -> Value {
    json!({
        "kind": words::object_kind(change.kind()),
        "name": json::unless_empty(&change.name),
        "what": words::change_kind(change.what()),
        "fields": change.fields,
    })
}

fn line(change: &v1::Change) -> String {
    let kind = words::object_kind(change.kind());
    let object = format!("{kind} {}", change.name);
    let (object, fields) = (object.trim_end(), change.fields.join(", "));
    match change.what() {
        v1::ChangeKind::Added => format!("+ {object}"),
        v1::ChangeKind::Removed => format!("- {object}"),
        v1::ChangeKind::Disruptive => format!("! {object}: {fields} (disruptive)"),
        v1::ChangeKind::Changed | v1::ChangeKind::Unspecified => format!("~ {object}: {fields}"),
    }
}
