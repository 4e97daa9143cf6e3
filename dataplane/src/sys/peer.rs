//! Who is at the other end of a UNIX socket (socket(7), `SO_PEERGROUPS`).

use std::io;
use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd};

/// Groups at most that a process can be in (`NGROUPS_MAX`).
const GROUPS_MAX: usize = 65_536;
/// Groups that there is room for at first.
const GROUPS: usize = 64;

/// The supplementary groups that the peer of a connected UNIX stream socket was in when it
/// connected.
///
/// # Errors
/// Those of getsockopt(2), such as `ENODATA` where the peer is not known.
pub fn groups(socket: &impl AsFd) -> io::Result<Vec<u32>> {
    let descriptor = socket.as_fd().as_raw_fd();
    let mut groups: Vec<libc::gid_t> = vec![0; GROUPS];
    loop {
        let mut bytes = (groups.len() * size_of::<libc::gid_t>()) as libc::socklen_t;
        // SAFETY: the groups are ours and writable, and as long as is said.
        let result = unsafe {
            libc::getsockopt(
                descriptor,
                libc::SOL_SOCKET,
                libc::SO_PEERGROUPS,
                groups.as_mut_ptr().cast(),
                &raw mut bytes,
            )
        };
        let count = bytes as usize / size_of::<libc::gid_t>();
        if result == 0 {
            groups.truncate(count);
            return Ok(groups);
        }
        let error = io::Error::last_os_error();
        // It says how many there are.
        if error.raw_os_error() != Some(libc::ERANGE) || count > GROUPS_MAX {
            return Err(error);
        }
        groups.resize(count.max(groups.len() + 1), 0);
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn a_process_s_own_groups_are_those_of_its_peer() {
        let (one, _other) = UnixStream::pair().unwrap();
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("Groups:")).unwrap();
        let mut own: Vec<u32> = line.split_whitespace().map(|it| it.parse().unwrap()).collect();
        let mut seen = groups(&one).unwrap();
        own.sort_unstable();
        seen.sort_unstable();
        assert_eq!(seen, own);
    }
}
