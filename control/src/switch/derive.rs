//! Ports that come by themselves: for each interface or socket that a port template means
//! there is one, as long as that is there. They are no part of any revision: what an operator
//! wants is what is written, and what runs is that and these.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hairpin_dataplane::sys::netdev;

use super::edit::names;
use super::engine::Engine;
use super::events::{Kind, News};
use crate::config::template::matches;
use crate::config::{Config, ConfigErrors, Desired, PortConfig};

/// Between two looks at what there is.
const LOOKS: Duration = Duration::from_millis(500);

/// Ports that templates made, and when it was looked for them.
#[derive(Debug, Default)]
pub struct Derived {
    /// By name.
    ports: BTreeMap<String, Made>,
    looked: Option<Instant>,
    /// Names that no port could have, and why, so as to say it once.
    refused: BTreeMap<String, String>,
}

/// A port and the template that made it.
#[derive(Clone, PartialEq, Debug)]
struct Made {
    template: String,
    port: PortConfig,
}

impl Derived {
    /// What is written, and the ports that its templates have made: of a template that
    /// changed, as it has them now.
    pub fn with(&self, written: &Arc<Desired>) -> Result<Arc<Desired>, ConfigErrors> {
        if self.ports.is_empty() {
            return Ok(Arc::clone(written));
        }
        let mut config = written.config().clone();
        // What somebody wrote has its name, whatever a device is called.
        let taken: BTreeSet<&str> = names(written.config()).map(|(_, name)| name).collect();
        let free = |made: &&Made| !taken.contains(&*made.port.name.value);
        for made in self.ports.values().filter(free) {
            let template = config.templates.iter().find(|it| it.name() == made.template);
            let device = device_name(&made.port);
            let port =
                template.zip(device).and_then(|(template, device)| template.port_of(&device));
            config.ports.extend(port);
        }
        Desired::try_from(config).map(Arc::new)
    }

    /// The template that made a port.
    #[must_use]
    pub fn template_of(&self, port: &str) -> Option<&str> {
        self.ports.get(port).map(|made| made.template.as_str())
    }
}

/// The name that a port's device matched by.
fn device_name(port: &PortConfig) -> Option<String> {
    let device = &port.device.value;
    let socket = || device.socket()?.file_name()?.to_str();
    device.interface().or_else(socket).map(str::to_owned)
}

impl Engine {
    /// Looks for devices that templates mean, if it is time, and has ports follow them.
    pub(super) fn follow_templates(&mut self, now: Instant) {
        let templates = &self.written.config().templates;
        if templates.is_empty() && self.derived.ports.is_empty() {
            return;
        }
        let is_due = |looked| now.saturating_duration_since(looked) >= LOOKS;
        if !self.derived.looked.is_none_or(is_due) {
            return;
        }
        self.derived.looked = Some(now);
        let wanted = wanted(self.written.config());
        if wanted != self.derived.ports {
            self.derive(wanted, now);
        }
    }

    /// Makes these the derived ports, those apart that cannot be.
    fn derive(&mut self, wanted: BTreeMap<String, Made>, now: Instant) {
        let names: BTreeSet<&String> = wanted.keys().collect();
        self.derived.refused.retain(|name, _| names.contains(name));
        let before = self.derived.ports.clone();
        self.derived.ports = wanted;
        if self.rederive().is_ok() {
            return;
        }
        // One of them, at least, stands against the others: each by itself.
        let wanted = std::mem::replace(&mut self.derived.ports, before);
        self.derived.ports.retain(|name, _| wanted.contains_key(name));
        if let Err(problem) = self.rederive() {
            tracing::error!(problem, "ports whose devices went could not be removed");
        }
        for (name, made) in wanted {
            if self.derived.ports.get(&name) == Some(&made) {
                continue;
            }
            let former = self.derived.ports.insert(name.clone(), made.clone());
            if let Err(problem) = self.rederive() {
                match former {
                    Some(former) => self.derived.ports.insert(name.clone(), former),
                    None => self.derived.ports.remove(&name),
                };
                self.refuse_derived(name, &made.template, problem, now);
            }
        }
    }

    /// Has what runs be what is written and what is derived; nothing is recorded.
    fn rederive(&mut self) -> Result<(), String> {
        let desired = self.derived.with(&self.written).map_err(|errors| errors.to_string())?;
        self.follow_derived(desired).map_err(|error| error.to_string())
    }

    fn refuse_derived(&mut self, name: String, template: &str, problem: String, now: Instant) {
        if self.derived.refused.get(&name) == Some(&problem) {
            return;
        }
        let object = format!("port-template {template}");
        let cause = format!("there is no port for {name}: {problem}");
        let remedy = "rename the interface or socket, or what has its name".to_owned();
        self.tell_sometime(News { kind: Kind::Waiting, object, cause, remedy }, now);
        self.derived.refused.insert(name, problem);
    }
}

/// The ports that templates have now, by name; what matches several is the first one's.
fn wanted(config: &Config) -> BTreeMap<String, Made> {
    let mut interfaces: Option<Vec<String>> = None;
    let mut wanted = BTreeMap::new();
    // A device that somebody configured is theirs.
    let taken: BTreeSet<String> = config
        .links
        .iter()
        .filter_map(|link| link.device.as_ref()?.value.interface().map(str::to_owned))
        .chain(config.ports.iter().filter_map(device_name))
        .collect();
    for template in &config.templates {
        let found = match (template.interfaces(), template.sockets()) {
            (Some(pattern), _) => {
                let all = interfaces.get_or_insert_with(netdev::names);
                all.iter().filter(|name| matches(pattern, name)).cloned().collect()
            }
            (None, Some((directory, pattern))) => sockets(directory, pattern),
            (None, None) => Vec::new(),
        };
        for device in found.into_iter().filter(|device| !taken.contains(device)) {
            let Some(port) = template.port_of(&device) else { continue };
            let made = Made { template: template.name().to_owned(), port };
            wanted.entry(made.port.name.value.clone()).or_insert(made);
        }
    }
    wanted
}

/// Names of sockets in a directory that match.
fn sockets(directory: &Path, pattern: &str) -> Vec<String> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    let name = |entry: fs::DirEntry| {
        let name = entry.file_name().into_string().ok()?;
        let is_socket = entry.file_type().is_ok_and(|it| it.is_socket());
        (is_socket && matches(pattern, &name)).then_some(name)
    };
    entries.filter_map(|entry| name(entry.ok()?)).collect()
}
