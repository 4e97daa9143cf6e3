//! DPDK's bare wire: testpmd moves frames from one port to the other and looks at none.

use std::path::PathBuf;

use super::{Peer, Switch, first_line};
use crate::error::Result;
use crate::hugepages::RunDirectory;
use crate::process::Process;
use crate::testpmd::{self, Testpmd};

/// testpmd `io` between two `net_vhost` ports.
#[derive(Clone, Copy, Debug)]
pub struct DpdkWire;

impl Peer for DpdkWire {
    fn name(&self) -> &'static str {
        "dpdk-wire"
    }

    fn version(&self) -> Result<String> {
        testpmd::check_installed()?;
        first_line("dpkg-query", &["-W", "-f", "DPDK ${Version}\n", "dpdk-dev"])
    }

    fn pages(&self) -> u64 {
        testpmd::PAGES
    }

    fn start(&self, sockets: &[PathBuf; 2], run: &RunDirectory) -> Result<Box<dyn Switch>> {
        Ok(Box::new(Testpmd::wire("dpdk-wire", sockets, run)?))
    }
}

impl Switch for Testpmd {
    fn await_start(&mut self) -> Result<()> {
        Testpmd::await_start(self)
    }

    /// It forwards from its start, whatever its ports are.
    fn await_up(&mut self) -> Result<()> {
        Ok(())
    }

    fn process(&mut self) -> &mut Process {
        Testpmd::process(self)
    }
}
