//! Where a switch's metrics are read.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

use super::read::leaf::api_path;

/// Where metrics are offered, by HTTP.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum MetricsAddress {
    /// At a UNIX socket, by its absolute path of at most 107 bytes.
    Unix(PathBuf),
    /// At one address of the host's, and a port that is not 0.
    Tcp(SocketAddr),
}

impl MetricsAddress {
    /// The address that a text names: `unix:/path`, or an IP address and a port.
    #[must_use]
    pub fn read(text: &str) -> Option<MetricsAddress> {
        if text.starts_with("unix:") {
            return api_path(text).map(MetricsAddress::Unix);
        }
        let address: SocketAddr = text.parse().ok()?;
        // Nobody is asked who they are: which network may read is to be said.
        let names_one = address.port() != 0 && !address.ip().is_unspecified();
        names_one.then_some(MetricsAddress::Tcp(address))
    }
}

impl fmt::Display for MetricsAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            MetricsAddress::Unix(path) => write!(f, "unix:{}", path.display()),
            MetricsAddress::Tcp(address) => address.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_reads_as_it_is_written() {
        for text in ["unix:/run/hairpin/metrics.sock", "127.0.0.1:9750", "[::1]:9750"] {
            assert_eq!(MetricsAddress::read(text).unwrap().to_string(), text);
        }
        let wrong = ["", "unix:", "unix:run/m", "9750", "localhost:9750", "127.0.0.1", ":9750"];
        for text in wrong.into_iter().chain(["127.0.0.1:0", "0.0.0.0:9750", "[::]:9750"]) {
            assert_eq!(MetricsAddress::read(text), None, "{text}");
        }
    }
}
