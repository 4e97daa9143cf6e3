//! Open vSwitch with DPDK, its bridge as it comes (`NORMAL`).

use std::path::PathBuf;

use super::{Peer, Switch, first_line};
use crate::error::{Result, RigError};
use crate::hugepages::RunDirectory;
use crate::process::Process;
use crate::testpmd;
use crate::vhost::open_vswitch::{self, OpenVSwitch};

/// Open vSwitch with DPDK.
#[derive(Clone, Copy, Debug)]
pub struct OvsDpdk;

impl Peer for OvsDpdk {
    fn name(&self) -> &'static str {
        "ovs-dpdk"
    }

    fn version(&self) -> Result<String> {
        match open_vswitch::missing() {
            Some(reason) => Err(RigError::new(reason)),
            None => first_line("ovs-vsctl", &["--version"]),
        }
    }

    fn pages(&self) -> u64 {
        testpmd::PAGES
    }

    fn start(&self, sockets: &[PathBuf; 2], run: &RunDirectory) -> Result<Box<dyn Switch>> {
        Ok(Box::new(OpenVSwitch::start("ovs-dpdk", sockets, run)?))
    }
}

impl Switch for OpenVSwitch {
    /// Its database answered for it.
    fn await_start(&mut self) -> Result<()> {
        Ok(())
    }

    fn await_up(&mut self) -> Result<()> {
        OpenVSwitch::await_up(self)
    }

    fn process(&mut self) -> &mut Process {
        OpenVSwitch::process(self)
    }
}
