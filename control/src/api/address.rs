//! Where a switch's API is found.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::config::read::leaf::api_path;

/// The environment variable that names it.
pub const VARIABLE: &str = "HAIRPIN_API";
/// Where it is unless somebody says otherwise.
pub const DEFAULT: &str = "unix:/run/hairpin/api.sock";

/// The address of an API: a UNIX socket.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ApiAddress(PathBuf);

impl ApiAddress {
    /// The socket's path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl From<&Path> for ApiAddress {
    fn from(path: &Path) -> ApiAddress {
        ApiAddress(path.to_owned())
    }
}

impl fmt::Display for ApiAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "unix:{}", self.0.display())
    }
}

/// A text that is no address.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "{0:?} is not an API address; write unix: and an absolute path of at most 107 bytes, as {DEFAULT}"
)]
pub struct AddressError(String);

impl FromStr for ApiAddress {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<ApiAddress, AddressError> {
        api_path(text).map(ApiAddress).ok_or_else(|| AddressError(text.to_owned()))
    }
}
