//! Hairpin, as an operator runs it: registered addresses, an access VLAN, the source check on.
//! TAPs are taken by packet sockets, since their files are the VMM's, and hosts' cables, since
//! AF_XDP has no offloads; interfaces by AF_XDP.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use super::{Change, Peer, Switch, first_line, run};
use crate::error::Result;
use crate::hugepages::RunDirectory;
use crate::process::Process;
use crate::suite::scenario::{Kind, Place, SVID, Scenario, Seat, VLAN};
use crate::suite::site::Ground;
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
        let object = |(port, seat): (usize, &Seat)| match seat.place {
            Place::Cable => "link up0".to_owned(),
            Place::Vlan(_) | Place::Vepa | Place::Channel => format!("port vm{port}"),
        };
        let objects = ground.seats.iter().enumerate().map(object).collect();
        let launch = vhost::hairpin::Launch {
            name: &ground.name,
            namespace: &ground.namespace,
            objects,
            configuration: &configuration(ground),
        };
        Ok(Box::new(vhost::hairpin::Hairpin::launch(&self.program, launch, run)?))
    }
}

/// The link, channels and ports of a ground.
fn configuration(ground: &Ground) -> String {
    let mut text = "[[link]]\nname = \"up0\"\nrole = \"station\"\n".to_owned();
    let cable = ground.seats.iter().position(|seat| seat.place == Place::Cable);
    if let Some(port) = cable {
        // What is longer at the cable are tags.
        text += &format!("mtu = 1500\ndevice = {{ {} }}\n", device(ground, port));
    }
    if ground.seats.iter().any(|seat| seat.place == Place::Channel) {
        text += &format!("[[channel]]\nname = \"red\"\nlink = \"up0\"\nsvid = {SVID}\n");
    }
    for (port, seat) in ground.seats.iter().enumerate() {
        let (channel, mode, vlan) = match seat.place {
            Place::Cable => continue,
            Place::Vlan(vlan) => ("up0", "veb", vlan),
            Place::Vepa => ("up0", "vepa", VLAN),
            Place::Channel => ("red", "vepa", VLAN),
        };
        text += &format!(
            "[[port]]\nname = \"vm{port}\"\nchannel = \"{channel}\"\nmode = \"{mode}\"\n\
             vlan = {{ access = {vlan} }}\ndevice = {{ {} }}\n",
            device(ground, port)
        );
        // Who forwards for others sends from their addresses.
        if ground.relays.iter().all(|relay| ![relay.from, relay.to].contains(&port)) {
            let addresses = ground.addresses(port);
            let addresses: Vec<String> = addresses.iter().map(|mac| format!("\"{mac}\"")).collect();
            text += &format!("mac = [{}]\n", addresses.join(", "));
        }
    }
    text
}

/// The device of a port or link.
fn device(ground: &Ground, port: usize) -> String {
    match ground.seats[port].kind {
        Kind::Vm => {
            let socket = ground.socket(port);
            format!("vhost-user = {{ socket = \"{}\", role = \"client\" }}", socket.display())
        }
        Kind::Tap | Kind::Host => {
            format!("packet = {{ interface = \"{}\" }}", ground.netdev(port))
        }
        Kind::Interface => format!("xdp = {{ interface = \"{}\" }}", ground.netdev(port)),
    }
}

impl Switch for vhost::hairpin::Hairpin {
    fn await_start(&mut self) -> Result<()> {
        vhost::hairpin::Hairpin::await_start(self)
    }

    fn await_up(&mut self) -> Result<()> {
        vhost::hairpin::Hairpin::await_up(self)
    }

    fn change(&self) -> Option<Change> {
        let (program, api) = self.client();
        let environment = [("HAIRPIN_API".to_owned(), api)];
        let changes = AtomicU32::new(0);
        Some(Box::new(move || {
            let client = |words: &[&str]| run(&[&[&*program], words].concat(), &environment);
            // A TAP goes when its worker has given it back: the next one has another name.
            let spare = format!("spare{}", changes.fetch_add(1, Ordering::Relaxed));
            let device = format!("device=tap:{spare}");
            client(&["port", "add", &spare, "channel=up0", "mode=veb", &device])?;
            client(&["port", "del", &spare])
        }))
    }

    fn process(&mut self) -> Option<&mut Process> {
        Some(vhost::hairpin::Hairpin::process(self))
    }
}
