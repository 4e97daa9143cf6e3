//! Changes to single objects of the running state.

use super::ApplyError;
use super::engine::Engine;
use super::history::Revision;
use crate::config::nearest::hint;
use crate::config::{
    BridgeConfig, ChannelConfig, Config, LinkConfig, MirrorConfig, PortConfig, TemplateConfig,
};

/// A change to one object.
#[derive(Clone, PartialEq, Debug)]
pub enum Edit {
    /// It is new.
    Add(Object),
    /// It takes the place of the one of its kind and name.
    Replace(Object),
    /// It goes.
    Delete(String),
}

/// An object of a desired state.
#[derive(Clone, PartialEq, Debug)]
pub enum Object {
    /// A link.
    Link(LinkConfig),
    /// A channel.
    Channel(ChannelConfig),
    /// A bridge.
    Bridge(BridgeConfig),
    /// A port.
    Port(PortConfig),
    /// A port template.
    Template(TemplateConfig),
    /// A mirror.
    Mirror(MirrorConfig),
}

impl Object {
    fn kind(&self) -> &'static str {
        match self {
            Object::Link(_) => "link",
            Object::Channel(_) => "channel",
            Object::Bridge(_) => "bridge",
            Object::Port(_) => "port",
            Object::Template(_) => "port-template",
            Object::Mirror(_) => "mirror",
        }
    }

    fn name(&self) -> &str {
        match self {
            Object::Link(link) => &link.name.value,
            Object::Channel(channel) => &channel.name.value,
            Object::Bridge(bridge) => &bridge.name.value,
            Object::Port(port) => &port.name.value,
            Object::Template(template) => template.name(),
            Object::Mirror(mirror) => &mirror.name.value,
        }
    }
}

/// Names by kind, in the order of the file.
pub(super) fn names(config: &Config) -> impl Iterator<Item = (&'static str, &str)> {
    let links = config.links.iter().map(|it| ("link", it.name.value.as_str()));
    let channels = config.channels.iter().map(|it| ("channel", it.name.value.as_str()));
    let bridges = config.bridges.iter().map(|it| ("bridge", it.name.value.as_str()));
    let ports = config.ports.iter().map(|it| ("port", it.name.value.as_str()));
    let templates = config.templates.iter().map(|it| ("port-template", it.name()));
    let mirrors = config.mirrors.iter().map(|it| ("mirror", it.name.value.as_str()));
    links.chain(channels).chain(bridges).chain(ports).chain(templates).chain(mirrors)
}

/// The configuration with the edits made, in their order.
pub(super) fn edited(mut config: Config, edits: Vec<Edit>) -> Result<Config, ApplyError> {
    for edit in edits {
        match edit {
            Edit::Add(object) => add(&mut config, object)?,
            Edit::Replace(object) => replace(&mut config, object)?,
            Edit::Delete(name) => delete(&mut config, &name)?,
        }
    }
    // The lines of the file it once came from say nothing of what is asked now.
    config.forget_lines();
    Ok(config)
}

fn add(config: &mut Config, object: Object) -> Result<(), ApplyError> {
    if let Some((kind, name)) = names(config).find(|(_, name)| *name == object.name()) {
        let holder = format!("{kind} {name}");
        let object = format!("{} {}", object.kind(), object.name());
        return Err(ApplyError::Exists { object, holder });
    }
    match object {
        Object::Link(link) => config.links.push(link),
        Object::Channel(channel) => config.channels.push(channel),
        Object::Bridge(bridge) => config.bridges.push(bridge),
        Object::Port(port) => config.ports.push(port),
        Object::Template(template) => config.templates.push(template),
        Object::Mirror(mirror) => config.mirrors.push(mirror),
    }
    Ok(())
}

fn replace(config: &mut Config, object: Object) -> Result<(), ApplyError> {
    let (kind, name) = (object.kind(), object.name().to_owned());
    let is_it = |it: &str| it == name;
    let replaced = match object {
        Object::Link(new) => {
            let mut links = config.links.iter_mut();
            links.find(|it| is_it(&it.name.value)).map(|it| *it = new)
        }
        Object::Channel(new) => {
            let mut channels = config.channels.iter_mut();
            channels.find(|it| is_it(&it.name.value)).map(|it| *it = new)
        }
        Object::Bridge(new) => {
            let mut bridges = config.bridges.iter_mut();
            bridges.find(|it| is_it(&it.name.value)).map(|it| *it = new)
        }
        Object::Port(new) => {
            let mut ports = config.ports.iter_mut();
            ports.find(|it| is_it(&it.name.value)).map(|it| *it = new)
        }
        Object::Template(new) => {
            let mut templates = config.templates.iter_mut();
            templates.find(|it| is_it(it.name())).map(|it| *it = new)
        }
        Object::Mirror(new) => {
            let mut mirrors = config.mirrors.iter_mut();
            mirrors.find(|it| is_it(&it.name.value)).map(|it| *it = new)
        }
    };
    replaced.ok_or_else(|| {
        let known = names(config).filter(|(of, _)| *of == kind).map(|(_, name)| name);
        let hint = hint(&name, known);
        ApplyError::NoSuchObject { kind, name, hint }
    })
}

fn delete(config: &mut Config, name: &str) -> Result<(), ApplyError> {
    let before = names(config).count();
    config.links.retain(|it| it.name.value != name);
    config.channels.retain(|it| it.name.value != name);
    config.bridges.retain(|it| it.name.value != name);
    config.ports.retain(|it| it.name.value != name);
    config.templates.retain(|it| it.name() != name);
    config.mirrors.retain(|it| it.name.value != name);
    if names(config).count() < before {
        return Ok(());
    }
    let hint = hint(name, names(config).map(|(_, name)| name));
    Err(ApplyError::NoSuchObject { kind: "object", name: name.to_owned(), hint })
}

impl Engine {
    /// Has what was learned on a relay port, or on all, count no more.
    pub(super) fn flush(&mut self, name: Option<&str>) -> Result<(), ApplyError> {
        if !self.ids.flush(name) {
            let name = name.unwrap_or_default();
            let hint = hint(name, self.ids.port_names());
            return Err(ApplyError::NoSuchPort { name: name.to_owned(), hint });
        }
        self.recompile();
        Ok(())
    }

    /// The revision of this number, or the one before the last.
    pub(super) fn revision_to_return_to(
        &self,
        number: Option<u64>,
    ) -> Result<Revision, ApplyError> {
        let history = &self.history;
        let found = match number {
            Some(number) => history.get(number),
            None => history.previous(),
        };
        found.cloned().ok_or_else(|| {
            let kept: Vec<String> = history.kept().map(|it| it.number.to_string()).collect();
            let kept = format!("those kept are {}", kept.join(", "));
            let number = number.unwrap_or_else(|| history.number().saturating_sub(1));
            ApplyError::NoSuchRevision { number, kept }
        })
    }
}
