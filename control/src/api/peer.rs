//! Who is calling, and what they may.

use tokio::net::unix::UCred;
use tonic::transport::server::UdsConnectInfo;
use tonic::{Request, Status};

/// Whether a user may change things: root, and the user that runs the switch.
#[must_use]
pub fn writes(uid: u32) -> bool {
    uid == 0 || uid == own()
}

fn own() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// Who calls, in two words, as "user 0"; refuses a caller who is neither root nor the user
/// that runs the switch.
///
/// # Errors
/// PERMISSION_DENIED, naming both users.
pub fn writer<T>(request: &Request<T>) -> Result<String, Status> {
    let caller = request
        .extensions()
        .get::<UdsConnectInfo>()
        .and_then(|connection| connection.peer_cred)
        .map(|credentials: UCred| credentials.uid());
    match caller {
        Some(uid) if writes(uid) => Ok(format!("user {uid}")),
        Some(uid) => {
            let own = own();
            Err(Status::permission_denied(format!(
                "user {uid} may read but not change; call as root or as user {own}, who runs the \
                 switch"
            )))
        }
        None => Err(Status::permission_denied(
            "the caller is not known; call over the UNIX socket".to_owned(),
        )),
    }
}
