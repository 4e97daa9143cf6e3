//! macvtap in bridge mode: VMs on one lower device, whose netdevs the kernel switches between.
//! Its character devices are to the generator what TAPs' files are.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, OFlags, makedev, mknodat};

use super::linux_bridge::InKernel;
use super::{Peer, Switch, kernel_release, lacks, widen};
use crate::error::{Context, Result, RigError};
use crate::hugepages::RunDirectory;
use crate::suite::port::Tap;
use crate::suite::scenario::{Kind, Scenario};
use crate::suite::setting::{Addresses, Setting};
use crate::suite::site::{Ground, station};

/// What they all are on, and the other end of its cable.
const LOWER: [&str; 2] = ["lower", "outside"];

/// macvtap.
#[derive(Clone, Copy, Debug)]
pub struct Macvtap;

impl Peer for Macvtap {
    fn name(&self) -> &'static str {
        "macvtap"
    }

    fn version(&self) -> Result<String> {
        let pair = "link add lower type veth peer name outside";
        kernel_release(&[pair, "link add link lower name mv type macvtap mode bridge"])
    }

    fn pages(&self) -> u64 {
        0
    }

    fn refusal(&self, scenario: &Scenario, _: usize) -> Option<String> {
        lacks(scenario, &[Kind::Tap])
    }

    fn declines(&self, setting: &Setting) -> Option<String> {
        let learns = setting.addresses == Addresses::Learned;
        learns.then(|| "it does not learn: a device has the address that it was made with".into())
    }

    fn tap(&self, ground: &Ground, port: usize, run: &RunDirectory) -> Result<Tap> {
        let (namespace, name, [lower, outside]) = (&ground.namespace, ground.netdev(port), LOWER);
        if !namespace.has(lower) {
            let pair = format!("link add {lower} type veth peer name {outside}");
            for line in [pair, format!("link set {lower} up"), format!("link set {outside} up")] {
                namespace.ip(&line).context("a lower device")?;
            }
            LOWER.iter().rev().try_for_each(|name| widen(ground, name))?;
        }
        let mac = station(port);
        let add =
            format!("link add link {lower} name {name} address {mac} type macvtap mode bridge");
        for line in [add, format!("link set {name} up")] {
            namespace.ip(&line).context("a macvtap")?;
        }
        widen(ground, &name)?;
        let path = run.path().join(format!("{}-{port}", ground.name));
        open(ground, &name, &path).map(Tap::over)
    }

    fn start(&self, ground: &Ground, _: &RunDirectory) -> Result<Box<dyn Switch>> {
        let add = "link add link lower name spare type macvtap mode bridge";
        let change = [add, "link set spare up", "link del spare"];
        Ok(Box::new(InKernel::new(&ground.namespace, change)))
    }
}

/// Opens a macvtap's character device by a node of our own: `/dev` names them by numbers that
/// are each namespace's own.
fn open(ground: &Ground, name: &str, path: &Path) -> Result<fs::File> {
    // In the namespace, `ip netns exec` has its /sys.
    let read = |file: &str| {
        let shown = ground.namespace.run(&format!("cat /sys/class/net/{name}/{file}"));
        shown.context(format_args!("the device of {name}"))
    };
    let index = read("ifindex")?;
    let shown = read(&format!("macvtap/tap{}/dev", index.trim()))?;
    let number = shown
        .trim()
        .split_once(':')
        .and_then(|(major, minor)| Some(makedev(major.parse().ok()?, minor.parse().ok()?)));
    let number = number.ok_or_else(|| RigError::new(format!("{name} has the device {shown:?}")))?;
    let _ = fs::remove_file(path);
    let made = mknodat(CWD, path, FileType::CharacterDevice, Mode::RUSR | Mode::WUSR, number);
    made.context(format_args!("making the device node {}", path.display()))?;
    let flags = OFlags::NONBLOCK.bits() as i32;
    let opened = OpenOptions::new().read(true).write(true).custom_flags(flags).open(path);
    opened.context(format_args!("opening {}", path.display()))
}
