//! Hairpin, as an operator runs it: registered addresses, an access VLAN, the source check on.
//! TAPs are taken by packet sockets, since their files are the VMM's; interfaces by AF_XDP.

use std::path::PathBuf;

use super::{Peer, Switch, first_line};
use crate::error::Result;
use crate::hugepages::RunDirectory;
use crate::process::Process;
use crate::suite::scenario::{Kind, Place, Scenario};
use crate::suite::site::{Ground, station};
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

    fn refusal(&self, _: &Scenario, _: usize) -> Option<String> {
        None
    }

    fn start(&self, ground: &Ground, run: &RunDirectory) -> Result<Box<dyn Switch>> {
        let objects = (0..ground.seats.len()).map(|port| format!("port vm{port}")).collect();
        let launch = vhost::hairpin::Launch {
            name: &ground.name,
            namespace: &ground.namespace,
            objects,
            configuration: &configuration(ground),
        };
        Ok(Box::new(vhost::hairpin::Hairpin::launch(&self.program, launch, run)?))
    }
}

/// The links and ports of a ground.
fn configuration(ground: &Ground) -> String {
    let mut text = "[[link]]\nname = \"up0\"\nrole = \"station\"\n".to_owned();
    for (port, seat) in ground.seats.iter().enumerate() {
        let device = match seat.kind {
            Kind::Vm => {
                let socket = ground.socket(port);
                format!("vhost-user = {{ socket = \"{}\", role = \"client\" }}", socket.display())
            }
            Kind::Tap => format!("packet = {{ interface = \"{}\" }}", ground.netdev(port)),
            Kind::Interface => format!("xdp = {{ interface = \"{}\" }}", ground.netdev(port)),
        };
        let Place::Vlan(vlan) = seat.place;
        text += &format!(
            "[[port]]\nname = \"vm{port}\"\nchannel = \"up0\"\nmode = \"veb\"\n\
             mac = \"{}\"\nvlan = {{ access = {vlan} }}\ndevice = {{ {device} }}\n",
            station(port)
        );
    }
    text
}

impl Switch for vhost::hairpin::Hairpin {
    fn await_start(&mut self) -> Result<()> {
        vhost::hairpin::Hairpin::await_start(self)
    }

    fn await_up(&mut self) -> Result<()> {
        vhost::hairpin::Hairpin::await_up(self)
    }

    fn process(&mut self) -> Option<&mut Process> {
        Some(vhost::hairpin::Hairpin::process(self))
    }
}
