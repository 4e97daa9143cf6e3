//! `device = { vhost-user = { … } }`.

use std::ops::RangeInclusive;
use std::path::PathBuf;

use toml::de::DeValue;

use super::Reading;
use super::fields::Fields;
use super::leaf::{self, Wrong};
use super::objects::value_or;
use crate::config::vhost_user::{
    Account, PAIRS_MAX, SOCKET_BYTES_MAX, SOCKET_MODE, SocketAccess, SocketRole, VhostUserConfig,
};

/// Keys that only who makes the socket has a use for.
const SERVER_KEYS: &[&str] = &["socket-mode", "owner", "group"];
/// The greatest number of a user or group; the one above means none.
const ACCOUNT_MAX: u32 = u32::MAX - 1;

#[derive(Clone, Copy)]
enum End {
    Client,
    Server,
}

/// The device, unless something of it is wrong.
pub fn vhost_user(reading: &mut Reading, fields: &Fields<'_, '_>) -> Option<VhostUserConfig> {
    fields.refuse_unknown(reading, &["socket", "role", "queues", "socket-mode", "owner", "group"]);
    let socket = fields.required(reading, "socket", socket, "\"/run/hairpin/vm1.sock\"");
    let end = fields.required(reading, "role", end, "\"client\" or \"server\"");
    let queues = value_or(fields.optional(reading, "queues", queues), 1);
    let access = access(reading, fields);
    if let Some(End::Client) = end.map(|end| end.value) {
        refuse_access(reading, fields);
    }
    let read = socket.zip(end).map(|(socket, end)| VhostUserConfig {
        socket: socket.value,
        role: match end.value {
            End::Client => SocketRole::Client,
            End::Server => SocketRole::Server(access),
        },
        queues,
    });
    fields.unless_refused(read)
}

fn access(reading: &mut Reading, fields: &Fields<'_, '_>) -> SocketAccess {
    SocketAccess {
        mode: value_or(fields.optional(reading, "socket-mode", socket_mode), SOCKET_MODE),
        owner: fields.optional(reading, "owner", account).map(|at| at.value),
        group: fields.optional(reading, "group", account).map(|at| at.value),
    }
}

/// The VMM makes the socket, and it says whose it is.
fn refuse_access(reading: &mut Reading, fields: &Fields<'_, '_>) {
    for key in SERVER_KEYS.iter().filter(|key| fields.get(key).is_some()) {
        let problem = "with role client the VMM makes the socket, and says who may use it";
        fields.refuse(reading, key, problem, "leave it out, or write role = \"server\"");
    }
}

/// A socket's path.
///
/// # Errors
/// It is relative, too long, or names no file.
pub fn socket(value: &DeValue<'_>) -> Result<PathBuf, Wrong> {
    let path = leaf::text(value)?;
    let remedy =
        format!("write an absolute path of at most {SOCKET_BYTES_MAX} bytes to a file's name");
    let wrong = |what: &str| Err(Wrong::new(format!("{path:?} {what}"), &*remedy));
    if !path.starts_with('/') {
        return wrong("is not absolute");
    }
    if path.len() > SOCKET_BYTES_MAX {
        return wrong(&format!("has {} bytes, more than a socket's path can", path.len()));
    }
    let names_a_file = !path.ends_with('/') && !path.contains('\0');
    if names_a_file { Ok(PathBuf::from(path)) } else { wrong("does not name a socket") }
}

fn end(value: &DeValue<'_>) -> Result<End, Wrong> {
    leaf::word(value, "a role", &[("client", End::Client), ("server", End::Server)])
}

/// Queue pairs that a VM may use.
pub const QUEUES: RangeInclusive<u64> = 1..=PAIRS_MAX as u64;

fn queues(value: &DeValue<'_>) -> Result<u16, Wrong> {
    leaf::number(value, QUEUES).map(|queues| queues as u16)
}

/// Permission bits, written as chmod(1) takes them: a bare number would be read as a
/// decimal one by TOML.
fn socket_mode(value: &DeValue<'_>) -> Result<u32, Wrong> {
    let digits = value.as_str().filter(|text| (3..=4).contains(&text.len()));
    let octal = |text: &str| text.bytes().all(|byte| (b'0'..=b'7').contains(&byte));
    let mode = digits.filter(|text| octal(text)).and_then(|text| u32::from_str_radix(text, 8).ok());
    mode.filter(|mode| *mode <= 0o777).ok_or_else(|| {
        Wrong::new(
            format!("{} is not a socket's mode", leaf::shown(value)),
            "write permission bits in octal and in quotes, as \"0660\"",
        )
    })
}

/// A user or group.
///
/// # Errors
/// It is neither a name nor a number of one.
pub fn account(value: &DeValue<'_>) -> Result<Account, Wrong> {
    let remedy = "write a name in quotes, as \"libvirt-qemu\", or a number";
    match value.as_str() {
        None => leaf::number(value, 0..=ACCOUNT_MAX.into())
            .map(|number| Account::Number(number as u32))
            .map_err(|Wrong { problem, .. }| Wrong::new(problem, remedy)),
        Some(name) if name.bytes().all(|byte| byte.is_ascii_digit()) && !name.is_empty() => name
            .parse()
            .ok()
            .filter(|number| *number <= ACCOUNT_MAX)
            .map(Account::Number)
            .ok_or_else(|| Wrong::new(format!("{name:?} is out of range"), remedy)),
        Some(name) if name.is_empty() || name.contains(['\0', ':', '\n']) => {
            Err(Wrong::new(format!("{name:?} is not a name of a user or group"), remedy))
        }
        Some(name) => Ok(Account::Name(name.to_owned())),
    }
}
