//! Hairpin, as an operator runs it: registered addresses, an access VLAN, the source check on.

use std::path::PathBuf;

use super::{Peer, Switch, first_line};
use crate::error::Result;
use crate::hugepages::RunDirectory;
use crate::process::Process;
use crate::vhost;

/// Hairpin's daemon.
#[derive(Clone, Debug)]
pub struct Hairpin {
    /// Its program.
    pub program: PathBuf,
}

impl Peer for Hairpin {
    fn name(&self) -> &'static str {
        "hairpin"
    }

    fn version(&self) -> Result<String> {
        first_line(&self.program.display().to_string(), &["--version"])
    }

    fn pages(&self) -> u64 {
        0
    }

    fn start(&self, sockets: &[PathBuf; 2], run: &RunDirectory) -> Result<Box<dyn Switch>> {
        let daemon = vhost::hairpin::Hairpin::start("hairpin", &self.program, 0, sockets, run)?;
        Ok(Box::new(daemon))
    }
}

impl Switch for vhost::hairpin::Hairpin {
    fn await_start(&mut self) -> Result<()> {
        vhost::hairpin::Hairpin::await_start(self)
    }

    fn await_up(&mut self) -> Result<()> {
        vhost::hairpin::Hairpin::await_up(self)
    }

    fn process(&mut self) -> &mut Process {
        vhost::hairpin::Hairpin::process(self)
    }
}
