//! DPDK's bare wire: testpmd moves frames from one port to the other and looks at none.

use std::path::PathBuf;

use super::{Change, Peer, Switch, first_line, lacks};
use crate::error::{Result, RigError};
use crate::hugepages::RunDirectory;
use crate::process::Process;
use crate::suite::scenario::{Kind, Scenario};
use crate::suite::setting::{Lengths, Setting};
use crate::suite::site::Ground;
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

    fn declines(&self, setting: &Setting) -> Option<String> {
        let long = setting.lengths == Lengths::Segments;
        long.then(|| "it is started without TSO: its buffers are as long as frames".to_owned())
    }

    fn refusal(&self, scenario: &Scenario, ports: usize) -> Option<String> {
        let two = scenario.seats.len().max(ports) == 2;
        let refused = || (!two).then(|| "a wire has two ends".to_owned());
        lacks(scenario, &[Kind::Vm]).or_else(refused)
    }

    fn start(&self, ground: &Ground, run: &RunDirectory) -> Result<Box<dyn Switch>> {
        let ends = <[PathBuf; 2]>::try_from(ground.sockets());
        let ends = ends.map_err(|_| RigError::new("a wire has two ends"))?;
        Ok(Box::new(Testpmd::wire(&ground.name, &ends, run)?))
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

    fn change(&self) -> Option<Change> {
        None
    }

    fn process(&mut self) -> Option<&mut Process> {
        Some(Testpmd::process(self))
    }
}
