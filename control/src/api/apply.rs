//! Calls that change the desired state: whole, edited, or an earlier one.

use hairpin_proto::v1;
use tonic::Status;

use super::refusal::{invalid, refusal};
use super::{configs, wanted};
use crate::config::{Config, Desired, write};
use crate::switch::diff::{Change, What};
use crate::switch::history::Revision;
use crate::switch::view::View;
use crate::switch::{Applied, Edit, Order, Switch, Trial};

/// Edits of one request.
const EDITS_MAX: usize = 4096;

/// As `dry_run` of a request says.
const TRIALS: [Trial; 2] = [Trial::Earnest, Trial::Dry];

/// Applies a whole desired state.
///
/// # Errors
/// Those of the API.
pub fn apply(
    switch: &Switch,
    request: v1::ApplyRequest,
    origin: String,
) -> Result<v1::ApplyResponse, Status> {
    let v1::ApplyRequest { config, base_revision, dry_run, file_sha256 } = request;
    let missing = || Status::invalid_argument("config: it is missing; send the whole state");
    let message = config.ok_or_else(missing)?;
    let file = match file_sha256.as_str() {
        "" => None,
        text => {
            let wrong = |error| Status::invalid_argument(format!("file_sha256: {error}"));
            Some(text.parse().map_err(wrong)?).filter(|digest| switch.starts_with(*digest))
        }
    };
    let running = switch.view().written;
    let config = wanted::config(message, running.config()).map_err(|it| invalid(&it))?;
    let desired = Desired::try_from(config).map_err(|errors| refusal(errors.into()))?;
    let order = Order { base: base_revision, origin, file };
    let trial = TRIALS[usize::from(dry_run)];
    let applied = switch.order(desired, &order, trial).map_err(refusal)?;
    Ok(response("apply", &order, trial, applied))
}

/// Edits the desired state that runs.
///
/// # Errors
/// Those of the API.
pub fn edit(
    switch: &Switch,
    request: v1::EditRequest,
    origin: String,
) -> Result<v1::ApplyResponse, Status> {
    let v1::EditRequest { edits, base_revision, dry_run } = request;
    if edits.is_empty() || edits.len() > EDITS_MAX {
        let count = edits.len();
        let said = format!("edits: {count} of them; send 1 to {EDITS_MAX}");
        return Err(Status::invalid_argument(said));
    }
    let running = switch.view().written;
    let edits: Result<Vec<Edit>, Status> =
        edits.into_iter().map(|edit| one(edit, running.config())).collect();
    let order = Order { base: base_revision, origin, file: None };
    let trial = TRIALS[usize::from(dry_run)];
    let applied = switch.edit(edits?, &order, trial).map_err(refusal)?;
    Ok(response("edit", &order, trial, applied))
}

fn one(edit: v1::Edit, running: &Config) -> Result<Edit, Status> {
    let object = |object| wanted::object(object, running).map_err(|errors| invalid(&errors));
    match edit.what {
        Some(v1::edit::What::Add(added)) => object(added).map(Edit::Add),
        Some(v1::edit::What::Replace(new)) => object(new).map(Edit::Replace),
        Some(v1::edit::What::Delete(name)) => Ok(Edit::Delete(name)),
        None => {
            let said = "edits: one says nothing; name what to add, replace or delete";
            Err(Status::invalid_argument(said))
        }
    }
}

/// Goes back to an earlier revision.
///
/// # Errors
/// Those of the API.
pub fn roll_back(
    switch: &Switch,
    request: v1::RollbackRequest,
    origin: String,
) -> Result<v1::ApplyResponse, Status> {
    let v1::RollbackRequest { revision, base_revision, dry_run } = request;
    let order = Order { base: base_revision, origin, file: None };
    let trial = TRIALS[usize::from(dry_run)];
    let applied = switch.roll_back(revision, &order, trial).map_err(refusal)?;
    Ok(response("rollback", &order, trial, applied))
}

/// What runs.
#[must_use]
pub fn get(view: &View) -> v1::GetResponse {
    let config = view.written.config();
    v1::GetResponse {
        revision: view.revision,
        config: Some(configs::config(config)),
        toml: write::to_toml(config),
    }
}

/// What one can go back to.
#[must_use]
pub fn revisions(switch: &Switch) -> v1::ListRevisionsResponse {
    let (revisions, folder) = switch.revisions();
    let each = revisions.iter().map(|revision: &Revision| {
        let since = revision.applied.duration_since(std::time::SystemTime::UNIX_EPOCH);
        let applied_ms = since.unwrap_or_default().as_millis();
        v1::Revision {
            number: revision.number,
            applied_ms: u64::try_from(applied_ms).unwrap_or(u64::MAX),
            origin: revision.origin.clone(),
            changes: revision.changes,
        }
    });
    let directory = folder.map(|folder| folder.display().to_string()).unwrap_or_default();
    v1::ListRevisionsResponse { revisions: each.collect(), directory }
}

fn response(verb: &str, order: &Order, trial: Trial, applied: Applied) -> v1::ApplyResponse {
    let Applied { revision, diff } = applied;
    if trial == Trial::Earnest {
        tracing::info!(revision, by = order.origin, %diff, "{verb}");
    }
    v1::ApplyResponse { revision, changes: diff.0.iter().map(change).collect() }
}

fn change(change: &Change) -> v1::Change {
    let (kind, name) = change.object.split_once(' ').unwrap_or((&change.object, ""));
    let kind = match kind {
        "link" => v1::ObjectKind::Link,
        "channel" => v1::ObjectKind::Channel,
        "bridge" => v1::ObjectKind::Bridge,
        "port" => v1::ObjectKind::Port,
        "port-template" => v1::ObjectKind::PortTemplate,
        "mirror" => v1::ObjectKind::Mirror,
        _ => v1::ObjectKind::Switch,
    };
    let (what, fields) = match &change.what {
        What::Added => (v1::ChangeKind::Added, &[][..]),
        What::Removed => (v1::ChangeKind::Removed, &[][..]),
        What::Changed(fields) => (v1::ChangeKind::Changed, &fields[..]),
        What::Disruptive(fields) => (v1::ChangeKind::Disruptive, &fields[..]),
    };
    v1::Change {
        kind: kind as i32,
        name: name.to_owned(),
        what: what as i32,
        fields: fields.iter().map(|&field| field.to_owned()).collect(),
    }
}
