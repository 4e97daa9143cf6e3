//! Guests that have nothing to say, as many as are wanted: what they cost those who do.

use std::path::Path;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::{FrontEnd, FrontEndError, Layout};

/// Descriptors that a guest of one pair takes: socket, memory, two kicks, two calls.
pub const DESCRIPTORS: u64 = 6;

/// Attaches a silent guest to each of these sockets, which the switch has made (role
/// `server`): its rings run, its buffers are posted, and nothing is sent. They stay until
/// they are dropped. [`Layout::IDLE`] takes some 0.3 MiB of address space each, and touches
/// 12 KiB of it.
///
/// # Errors
/// [`FrontEndError`] of the first that fails; the others are let go then.
pub fn attach<S: AsRef<Path>>(
    sockets: impl IntoIterator<Item = S>,
    layout: Layout,
) -> Result<Vec<FrontEnd>, FrontEndError> {
    allow_descriptors().map_err(FrontEndError::io("the limit of open files"))?;
    sockets.into_iter().map(|socket| FrontEnd::connect(socket.as_ref(), layout)).collect()
}

/// Takes as many descriptors as the host lets this process have.
fn allow_descriptors() -> std::io::Result<()> {
    let limit = getrlimit(Resource::Nofile);
    Ok(setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit })?)
}
