//! Users and groups by their names, wherever this host keeps them (getpwnam_r(3)).

use std::ffi::CString;
use std::io;
use std::mem::MaybeUninit;
use std::ptr;

/// Bytes for an entry's texts at first, and at most: a group's members are among them.
const TEXT_BYTES: (usize, usize) = (1024, 1 << 20);

/// The number of a user; nothing if there is none of that name. May ask a directory
/// service, and wait for it.
///
/// # Errors
/// Those of getpwnam_r(3); `InvalidInput` for a name with a zero byte.
pub fn user(name: &str) -> io::Result<Option<u32>> {
    look_up(name, |name, text| {
        let mut entry = MaybeUninit::<libc::passwd>::uninit();
        let mut found = ptr::null_mut();
        // SAFETY: the name ends with a zero; the entry and its text are ours, the text as
        // long as is said; nothing of them is kept by the callee.
        let error = unsafe {
            libc::getpwnam_r(
                name.as_ptr(),
                entry.as_mut_ptr(),
                text.as_mut_ptr().cast(),
                text.len(),
                &raw mut found,
            )
        };
        // SAFETY: where there is no error, `found` is null or points to the entry, filled.
        (error, unsafe { found.as_ref() }.map(|entry| entry.pw_uid))
    })
}

/// The number of a group; nothing if there is none of that name. As [`user`].
///
/// # Errors
/// Those of getgrnam_r(3); `InvalidInput` for a name with a zero byte.
pub fn group(name: &str) -> io::Result<Option<u32>> {
    look_up(name, |name, text| {
        let mut entry = MaybeUninit::<libc::group>::uninit();
        let mut found = ptr::null_mut();
        // SAFETY: as in `user`.
        let error = unsafe {
            libc::getgrnam_r(
                name.as_ptr(),
                entry.as_mut_ptr(),
                text.as_mut_ptr().cast(),
                text.len(),
                &raw mut found,
            )
        };
        // SAFETY: as in `user`.
        (error, unsafe { found.as_ref() }.map(|entry| entry.gr_gid))
    })
}

/// Asks with more and more room for texts.
fn look_up(
    name: &str,
    ask: impl Fn(&CString, &mut [u8]) -> (i32, Option<u32>),
) -> io::Result<Option<u32>> {
    let name = CString::new(name)?;
    let mut text = vec![0; TEXT_BYTES.0];
    loop {
        match ask(&name, &mut text) {
            (0, found) => return Ok(found),
            (libc::ERANGE, _) if text.len() < TEXT_BYTES.1 => text.resize(2 * text.len(), 0),
            (libc::EINTR, _) => {}
            (error, _) => return Err(io::Error::from_raw_os_error(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_is_known_and_nobody_of_a_made_up_name() {
        assert_eq!(user("root").unwrap(), Some(0));
        assert_eq!(group("root").unwrap(), Some(0));
        assert_eq!(user("no-such-user-here").unwrap(), None);
        assert_eq!(group("no-such-group-here").unwrap(), None);
        assert!(user("a\0b").is_err());
    }
}
