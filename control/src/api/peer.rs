//! Who is calling, and what they may.

use std::os::fd::AsFd;

use hairpin_dataplane::sys::{accounts, peer};
use tokio::net::UnixStream;
use tonic::codegen::http::Extensions;
use tonic::{Request, Status};

use crate::config::ApiOthers;

/// The group whose members may write.
pub const GROUP: &str = "hairpin";

/// Who may do what.
#[derive(Clone, Copy, Debug)]
pub struct Access {
    /// The user that runs the switch.
    own: u32,
    /// The group whose members may write, if this host has it.
    group: Option<u32>,
    others: ApiOthers,
}

/// Who is at the other end of a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Caller {
    /// The user, if that is known.
    pub user: Option<u32>,
    /// What they may do.
    pub right: Right,
}

/// What somebody may do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Right {
    /// Read and change.
    Write,
    /// Read.
    Read,
    /// Nothing.
    Nothing,
}

impl Access {
    /// What these others may, on this host. May ask a directory service for the group.
    #[must_use]
    pub fn on_this_host(others: ApiOthers) -> Access {
        let group = accounts::group(GROUP).unwrap_or_else(|error| {
            tracing::warn!(%error, group = GROUP, "API: whether there is this group is not known");
            None
        });
        Access { own: own(), group, others }
    }

    /// The group whose members may write, if there is one.
    #[must_use]
    pub fn group(&self) -> Option<u32> {
        self.group
    }

    /// What those may who may not write.
    #[must_use]
    pub fn others(&self) -> ApiOthers {
        self.others
    }

    /// Who is at the other end.
    #[must_use]
    pub fn caller(&self, stream: &UnixStream) -> Caller {
        let Ok(credentials) = stream.peer_cred() else { return self.stranger(None, &[]) };
        let mut groups = peer::groups(&stream.as_fd()).unwrap_or_default();
        groups.push(credentials.gid());
        self.stranger(Some(credentials.uid()), &groups)
    }

    fn stranger(&self, user: Option<u32>, groups: &[u32]) -> Caller {
        let is_member = self.group.is_some_and(|group| groups.contains(&group));
        let right = match user {
            Some(user) if user == 0 || user == self.own || is_member => Right::Write,
            _ => match self.others {
                ApiOthers::Read => Right::Read,
                ApiOthers::Nothing => Right::Nothing,
            },
        };
        Caller { user, right }
    }
}

fn own() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// Who calls.
///
/// # Errors
/// PERMISSION_DENIED if that is not known.
pub fn caller<T>(request: &Request<T>) -> Result<Caller, Status> {
    let unknown =
        || Status::permission_denied("the caller is not known; call over the UNIX socket");
    request.extensions().get::<Caller>().copied().ok_or_else(unknown)
}

/// What a caller may do; refuses one who may do nothing.
///
/// # Errors
/// PERMISSION_DENIED, with who may.
pub fn right(extensions: &Extensions) -> Result<Right, Status> {
    match extensions.get::<Caller>() {
        Some(&Caller { right: Right::Nothing, user }) => Err(denied(user, "read")),
        Some(&Caller { right, .. }) => Ok(right),
        None => Err(denied(None, "read")),
    }
}

/// Who calls, in two words, as "user 0"; refuses a caller who may not write.
///
/// # Errors
/// PERMISSION_DENIED, with who may.
pub fn writer<T>(request: &Request<T>) -> Result<String, Status> {
    match caller(request)? {
        Caller { right: Right::Write, user: Some(user) } => Ok(format!("user {user}")),
        Caller { user, .. } => Err(denied(user, "change")),
    }
}

fn denied(user: Option<u32>, what: &str) -> Status {
    let who = user.map_or_else(|| "this user".to_owned(), |user| format!("user {user}"));
    let may = if what == "read" { "may neither read nor change" } else { "may not change" };
    Status::permission_denied(format!(
        "{who} {may} this switch; call as root, as user {}, who runs it, or as a member of group \
         {GROUP}",
        own()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_the_own_user_and_the_group_write_and_others_do_as_configured() {
        for (others, theirs) in
            [(ApiOthers::Read, Right::Read), (ApiOthers::Nothing, Right::Nothing)]
        {
            let access = Access { own: 1000, group: Some(77), others };
            let right = |user, groups: &[u32]| access.stranger(user, groups).right;
            assert_eq!(right(Some(0), &[]), Right::Write);
            assert_eq!(right(Some(1000), &[]), Right::Write);
            assert_eq!(right(Some(1001), &[5, 77]), Right::Write);
            assert_eq!(right(Some(1001), &[5]), theirs);
            assert_eq!(right(None, &[77]), theirs);
            let nowhere = Access { group: None, ..access };
            assert_eq!(nowhere.stranger(Some(1001), &[77]).right, theirs);
        }
    }
}
