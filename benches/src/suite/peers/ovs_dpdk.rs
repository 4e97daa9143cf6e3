//! Open vSwitch with DPDK, its bridge as it comes (`NORMAL`). Hosts' interfaces are its main
//! thread's, which is on the generator's CPU; it takes their frames whole (`userspace-tso-enable`).

use hairpin_tests::bed::Tso;

use super::{Change, Peer, Switch, first_line, lacks, run};
use crate::error::{Result, RigError};
use crate::hugepages::RunDirectory;
use crate::process::Process;
use crate::suite::scenario::{Kind, Place, Scenario, Seat};
use crate::suite::setting::{Addresses, Lengths};
use crate::suite::site::Ground;
use crate::testpmd;
use crate::vhost::open_vswitch::{self, OpenVSwitch, Plug};

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

    fn refusal(&self, scenario: &Scenario, _: usize) -> Option<String> {
        lacks(scenario, &[Kind::Vm, Kind::Host])
    }

    fn start(&self, ground: &Ground, run: &RunDirectory) -> Result<Box<dyn Switch>> {
        let plug = |(port, seat): (usize, &Seat)| match seat.kind {
            Kind::Vm => Plug::Socket(ground.socket(port)),
            Kind::Tap | Kind::Interface | Kind::Host => Plug::Netdev(ground.netdev(port)),
        };
        let plugs: Vec<Plug> = ground.seats.iter().enumerate().map(plug).collect();
        let long = ground.lengths == Lengths::Segments
            || plugs.iter().any(|plug| matches!(plug, Plug::Netdev(_)));
        let tso = if long { Tso::On } else { Tso::Off };
        let (namespace, limits) = (&ground.namespace, (ground.lengths.mtu(), tso));
        let switch = OpenVSwitch::launch(&ground.name, namespace, &plugs, limits, run)?;
        if ground.addressing == Addresses::Learned {
            switch.enlarge_table()?;
        }
        // Where there is one VLAN only, there need be none.
        if ground.seats.iter().any(|seat| seat.place != ground.seats[0].place) {
            for (port, seat) in ground.seats.iter().enumerate() {
                if let Place::Vlan(vlan) = seat.place {
                    switch.put_into_vlan(port, vlan)?;
                }
            }
        }
        Ok(Box::new(switch))
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

    fn change(&self) -> Option<Change> {
        let database = self.database();
        let add = ["add-port", "br0", "spare", "--", "set", "Interface", "spare", "type=internal"];
        Some(Box::new(move || {
            let client = |words: &[&str]| run(&[&["ovs-vsctl", &*database], words].concat(), &[]);
            client(&add)?;
            client(&["del-port", "br0", "spare"])
        }))
    }

    fn process(&mut self) -> Option<&mut Process> {
        Some(OpenVSwitch::process(self))
    }
}
