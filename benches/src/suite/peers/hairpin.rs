//! Hairpin, as an operator runs it: registered addresses, an access VLAN, the source check on.
//! Where a test is about learning, its ports learn as many as they can be configured for.
//! TAPs are taken by packet sockets, since their files are the VMM's, and hosts' cables, since
//! AF_XDP has no offloads; interfaces by AF_XDP.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use super::{Change, Peer, Switch, first_line, run};
use crate::error::Result;
use crate::hugepages::RunDirectory;
use crate::process::Process;
use crate::suite::scenario::{Kind, Place, SVID, Scenario, Seat, VLAN};
use crate::suite::setting::{Addresses, Lengths, Setting, Tagging};
use crate::suite::site::Ground;
use crate::vhost;

/// Addresses that a port can be told to learn at most.
const LEARNED_MAX: u32 = 1 << 20;

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

    fn declines(&self, setting: &Setting) -> Option<String> {
        let tagged = setting.traffic.tagging == Tagging::Service;
        tagged.then(|| "it drops what bears an S-tag at a port (tag_not_allowed)".to_owned())
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
    let mut text = String::new();
    if ground.addressing == Addresses::Learned {
        text += &format!("[switch.fdb]\ncapacity = {}\n", 2 * LEARNED_MAX);
    }
    text += "[[link]]\nname = \"up0\"\nrole = \"station\"\n";
    let cable = ground.seats.iter().position(|seat| seat.place == Place::Cable);
    if cable.is_some() || ground.lengths == Lengths::Jumbo {
        // What is longer at the cable are tags.
        text += &format!("mtu = {}\n", ground.lengths.mtu());
    }
    if let Some(port) = cable {
        text += &format!("device = {{ {} }}\n", device(ground, port));
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
             vlan = {{ {} }}\ndevice = {{ {} }}\n",
            membership(ground, vlan),
            device(ground, port)
        );
        // Who forwards for others sends from their addresses.
        if ground.addressing == Addresses::Learned {
            text += &format!("learn-limit = {LEARNED_MAX}\n");
        } else if ground.relays.iter().all(|relay| ![relay.from, relay.to].contains(&port)) {
            let addresses = ground.addresses(port);
            let addresses: Vec<String> = addresses.iter().map(|mac| format!("\"{mac}\"")).collect();
            text += &format!("mac = [{}]\n", addresses.join(", "));
        }
    }
    text
}

/// How a port is in a VLAN.
fn membership(ground: &Ground, vlan: u16) -> String {
    match ground.traffic.tagging {
        Tagging::Untagged => format!("access = {vlan}"),
        Tagging::Customer | Tagging::Service => format!("trunk = [{vlan}]"),
    }
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
