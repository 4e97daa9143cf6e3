//! The command line of `step0`.

use crate::command_line::{self, Given};
use crate::error::{Context, Result, RigError};
use crate::layout::{LAYOUTS, Layout};
use crate::pair::{Side, WireKind};
use crate::testpmd::Traffic;
use std::path::PathBuf;
use std::time::Duration;

/// What `--help` prints.
pub const HELP: &str = "\
step0: our wire beside DPDK's bare wire, between the two ports of a testpmd generator

Usage: step0 [OPTIONS]          (as root, on a machine with two CPUs and nothing else to do)

  --layouts A,B   ring layouts, of: split split-nomrg split-inorder packed packed-inorder
                  packed-vector (default: all)
  --sizes A,B     frame lengths without checksum (default: 64,256,1500)
  --windows N     windows per side (default: 20)
  --rounds N      spread over so many starts of all processes (default: 4)
  --window-ms N   length of a window (default: 1000)
  --wire CMD      our wire: CMD --cpu 1 SOCKET0 SOCKET1, vhost-user client of both sockets, which
                  prints `ready` once both are up and runs until SIGTERM
                  (default: `wire` beside this program; `dpdk`: DPDK's, which calibrates the rig)
  --base CMD      what ours is compared with (default: dpdk)
  --null [CMD]    a third side, the generator's ceiling: a wire that only recycles descriptors
                  (default: `wire --null`)
  --only SIDE     measure only `dpdk`, `ours` or `null`
  --engine E      what the generator does with a frame: mac (default) or io (touches nothing)
  --bursts N      64 N frames in flight (default: 8)
  --json FILE     append every window as a line of JSON
  --help          this

Only one side runs at a time, the others are stopped (SIGSTOP) with their frames in flight. A
window is labelled near, far or mixed after what a cache line takes between the two CPUs right
before and after it; ratios are formed within near and within far only.

Where a process's memory happens to lie biases all its windows by up to some 3 %, which no number of
windows shows. Hence the rounds, in which the sides change places; intervals are drawn over rounds
first and over their windows second.

The generator's limit shows in two ways. `busy` is the share of its CPU that it spends on frames:
near 100 % the figure is the generator's, not the wire's; `limit` is the rate at which it would be
busy always, were its cycles per frame to stay. But those hold the cache misses a wire causes it, so
a better wire lifts the limit: --null measures what is left with a wire that touches rings only.
";

/// The options given.
#[derive(Clone, Debug)]
pub struct Options {
    /// Layouts to measure.
    pub layouts: Vec<Layout>,
    /// Frame lengths to measure.
    pub sizes: Vec<u32>,
    /// Windows per side.
    pub windows: usize,
    /// Starts of all processes that they are spread over.
    pub rounds: usize,
    /// Length of a window.
    pub length: Duration,
    /// Sides to measure.
    pub sides: Vec<Side>,
    /// What the generators do.
    pub traffic: Traffic,
    /// Where raw windows go.
    pub json: Option<PathBuf>,
}

/// The side ours is compared with.
pub const BASE: &str = "dpdk";
/// Our side.
pub const OURS: &str = "ours";
/// The generator's ceiling.
pub const NULL: &str = "null";

impl Options {
    /// Reads the command line; `None` asks for help.
    pub fn parse(arguments: impl IntoIterator<Item = String>) -> Result<Option<Self>> {
        command_line::parse::<Wanted>(arguments)?.map(Wanted::sides).transpose()
    }
}

/// What the command line asks for; sides are known once all of it was read.
struct Wanted {
    options: Options,
    base: WireKind,
    wire: Option<WireKind>,
    null: Option<WireKind>,
    only: Option<String>,
}

impl Default for Wanted {
    fn default() -> Self {
        let options = Options::default();
        Self { options, base: WireKind::Dpdk, wire: None, null: None, only: None }
    }
}

impl command_line::Options for Wanted {
    fn set(&mut self, given: &mut Given<'_>) -> Result<()> {
        let options = &mut self.options;
        match given.option() {
            "--layouts" => {
                options.layouts = given.named("layout", &LAYOUTS, |layout| layout.name)?;
            }
            "--sizes" => options.sizes = given.list(size)?,
            "--windows" => options.windows = given.number()? as usize,
            "--rounds" => options.rounds = given.number()? as usize,
            "--window-ms" => options.length = given.milliseconds()?,
            "--wire" => self.wire = Some(WireKind::parse(&given.value()?)?),
            "--base" => self.base = WireKind::parse(&given.value()?)?,
            "--null" => {
                let command = given.optional_value();
                let wire = command.map_or_else(|| sibling(&["--null"]), |it| WireKind::parse(&it));
                self.null = Some(wire?);
            }
            "--only" => self.only = Some(given.value()?),
            "--engine" => options.traffic.engine = engine(given.value()?)?,
            "--bursts" => options.traffic.bursts = given.number()?.into(),
            "--json" => options.json = Some(given.value()?.into()),
            _ => return given.refuse(),
        }
        Ok(())
    }
}

impl Wanted {
    /// The options with the sides that are to be measured.
    fn sides(self) -> Result<Options> {
        let Self { mut options, base, wire, null, only } = self;
        let wanted = |name: &str| only.as_deref().is_none_or(|only| only == name);
        if wanted(BASE) {
            options.sides.push(Side { name: BASE, wire: base });
        }
        if wanted(OURS) {
            let wire = wire.map_or_else(|| sibling(&[]), Ok)?;
            options.sides.push(Side { name: OURS, wire });
        }
        if let Some(wire) = null.filter(|_| wanted(NULL)) {
            options.sides.push(Side { name: NULL, wire });
        }
        if options.sides.is_empty() {
            return Err(RigError::new("--only takes dpdk, ours, or (with --null) null"));
        }
        Ok(options)
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            layouts: LAYOUTS.to_vec(),
            sizes: vec![64, 256, 1500],
            windows: 20,
            rounds: 4,
            length: Duration::from_secs(1),
            sides: Vec::new(),
            traffic: Traffic { engine: "mac".into(), bursts: 8 },
            json: None,
        }
    }
}

fn size(text: &str) -> Result<u32> {
    match text.parse() {
        Ok(bytes) if (60..=1518).contains(&bytes) => Ok(bytes),
        _ => Err(RigError::new(format!("--sizes takes lengths from 60 to 1518, not {text:?}"))),
    }
}

fn engine(name: String) -> Result<String> {
    match ["mac", "io"].contains(&name.as_str()) {
        true => Ok(name),
        false => Err(RigError::new("--engine takes mac or io")),
    }
}

/// The `wire` that was built along with this program.
fn sibling(arguments: &[&str]) -> Result<WireKind> {
    let path = std::env::current_exe().context("finding this program")?.with_file_name("wire");
    if !path.is_file() {
        return Err(RigError::new(format!(
            "{} does not exist: build it (cargo build --release -p hairpin-bench) or name a wire \
             with --wire",
            path.display()
        )));
    }
    let mut words = vec![path.display().to_string()];
    words.extend(arguments.iter().map(ToString::to_string));
    Ok(WireKind::Command(words))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Option<Options>> {
        Options::parse(line.split_whitespace().map(Into::into))
    }

    #[test]
    fn sides_follow_the_options() {
        let names = |line: &str| -> Vec<&str> {
            parse(line).unwrap().unwrap().sides.iter().map(|side| side.name).collect()
        };
        assert_eq!(names("--wire dpdk"), [BASE, OURS]);
        assert_eq!(names("--only dpdk"), [BASE]);
        assert_eq!(names("--wire ./w --null ./n --windows 3"), [BASE, OURS, NULL]);
        assert_eq!(names("--null ./n --only null"), [NULL]);
        assert!(parse("--only theirs").is_err());
        assert!(parse("--help").unwrap().is_none());
    }

    #[test]
    fn nonsense_is_refused() {
        let lines = ["--layouts splat", "--sizes 0", "--windows none", "--windows", "--engine x"];
        for line in lines.into_iter().chain(["--frobnicate 1", "--sizes 9000", "--windows 0"]) {
            assert!(parse(&format!("--only dpdk {line}")).is_err(), "{line}");
        }
        let options = parse("--only dpdk --layouts packed,split --sizes 64").unwrap().unwrap();
        assert_eq!(options.layouts.len(), 2);
        assert_eq!(options.sizes, [64]);
    }
}
