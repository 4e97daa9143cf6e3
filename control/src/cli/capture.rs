//! `hairpin capture`: frames as they pass, into a file or as lines.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, ErrorKind, IsTerminal, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, anyhow};
use clap::Args;
use hairpin_dataplane::port::pcapng::{Statistics, Writer};
use hairpin_proto::v1;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tonic::Streaming;

use super::client::{Client, said};
use super::pcapng::Reader;
use super::{Format, UsageError, captured};

/// What to capture.
#[derive(Debug, Args)]
pub struct CaptureArgs {
    /// Ports and links
    #[arg(value_name = "PORT", required = true)]
    ports: Vec<String>,
    /// Write pcapng, into FILE or to standard output (-), not a line for each frame; times in
    /// lines are UTC
    #[arg(short, long, value_name = "FILE|-")]
    write: Option<PathBuf>,
    /// End after so many frames
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// End after so many seconds
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    seconds: Option<u32>,
    /// First bytes of each frame that are kept, 14 to 2048 [default: 256]
    #[arg(long, value_name = "N")]
    snap: Option<u32>,
    /// Only what comes from the device into the switch
    #[arg(long, conflicts_with = "tx")]
    rx: bool,
    /// Only what leaves the switch by the device
    #[arg(long)]
    tx: bool,
    /// Only frames, and copies, that were dropped
    #[arg(long)]
    dropped: bool,
    /// Only from or to this address; may be there several times
    #[arg(long, value_name = "MAC")]
    host: Vec<String>,
    /// Only with this VID in their C-tag at the port; 0: without one
    #[arg(long, value_name = "VID")]
    vlan: Option<u32>,
    /// Only with this EtherType behind their tags: 0x0806, or arp, ipv4, ipv6, lldp, evb
    #[arg(long, value_name = "TYPE", value_parser = captured::ethertype)]
    ethertype: Option<u32>,
    /// Only dropped for this reason (see `hairpin drops --list`); may be there several times
    #[arg(long, value_name = "NAME")]
    reason: Vec<String>,
}

impl CaptureArgs {
    fn request(&self) -> v1::CaptureRequest {
        let direction = match (self.rx, self.tx) {
            (true, _) => v1::CaptureDirection::Rx,
            (_, true) => v1::CaptureDirection::Tx,
            (false, false) => v1::CaptureDirection::Unspecified,
        };
        let fate = match self.dropped {
            true => v1::CaptureFate::Dropped,
            false => v1::CaptureFate::Unspecified,
        };
        v1::CaptureRequest {
            ports: self.ports.clone(),
            direction: direction.into(),
            fate: fate.into(),
            hosts: self.host.clone(),
            vid: self.vlan,
            ethertype: self.ethertype,
            reasons: self.reason.clone(),
            snap_bytes: self.snap.unwrap_or(0),
            frames_max: self.count.unwrap_or(0),
            seconds_max: self.seconds.unwrap_or(0),
        }
    }
}

/// Captures until it is over, or until somebody ends it by a signal; what there was of it is
/// said on standard error.
///
/// # Errors
/// What the switch says; the file cannot be written.
pub fn capture(
    client: impl FnOnce() -> anyhow::Result<Client>,
    args: &CaptureArgs,
    format: Format,
) -> anyhow::Result<()> {
    let is_stdout = |path: &Path| path.as_os_str() == "-";
    if args.write.as_deref().is_some_and(is_stdout) && io::stdout().is_terminal() {
        let said = "pcapng is not for a terminal; write it to a file with -w FILE, or leave -w out";
        return Err(UsageError(said.to_owned()).into());
    }
    if args.write.is_some() && format == Format::Json {
        let said = "--json is for lines; leave it out, or -w";
        return Err(UsageError(said.to_owned()).into());
    }
    let Client { runtime, mut inner } = client()?;
    runtime.block_on(async {
        // Before anything is begun: who is ended by a signal has to say what there was.
        let mut signals = Signals::new().context("no signals")?;
        let stream = inner.capture(args.request()).await.map_err(|status| said(&status))?;
        let mut output = Output::open(args, format)?;
        let outcome = pass(stream.into_inner(), &mut signals, &mut output).await;
        // Also of one that was cut short.
        output.summarize();
        outcome
    })
}

/// From the stream to the output, until either ends or a signal comes.
async fn pass(
    mut stream: Streaming<v1::CaptureResponse>,
    signals: &mut Signals,
    output: &mut Output,
) -> anyhow::Result<()> {
    loop {
        let part = tokio::select! {
            part = stream.message() => part.map_err(|status| said(&status)),
            () = signals.next() => return output.finish(),
        };
        match part {
            Ok(Some(part)) => {
                let is_last = part.end() != v1::CaptureEnd::Unspecified;
                if output.take(part)? == Reading::Over || is_last {
                    return Ok(());
                }
            }
            Ok(None) => {
                output.finish()?;
                return Err(anyhow!("the switch ended the capture before it was over"));
            }
            Err(error) => {
                output.finish()?;
                return Err(error);
            }
        }
    }
}

/// Signals that end a capture.
struct Signals {
    interrupt: Signal,
    end: Signal,
}

impl Signals {
    fn new() -> io::Result<Signals> {
        let interrupt = signal(SignalKind::interrupt())?;
        Ok(Signals { interrupt, end: signal(SignalKind::terminate())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.end.recv() => {}
        }
    }
}

/// Whether somebody still reads what is written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reading {
    GoesOn,
    Over,
}

/// Where frames go.
struct Output {
    out: BufWriter<Box<dyn Write>>,
    form: Form,
    counts: Vec<v1::CaptureCount>,
    end: v1::CaptureEnd,
}

/// What is written.
enum Form {
    Pcapng,
    Lines(Reader, usize),
    Objects(Reader),
}

impl Output {
    fn open(args: &CaptureArgs, format: Format) -> anyhow::Result<Output> {
        let out: Box<dyn Write> = match &args.write {
            Some(path) if path.as_os_str() != "-" => Box::new(create(path)?),
            Some(_) | None => Box::new(io::stdout()),
        };
        let form = match (&args.write, format) {
            (Some(_), _) => Form::Pcapng,
            (None, Format::Json) => Form::Objects(Reader::default()),
            (None, Format::Table) => {
                let width = args.ports.iter().map(String::len).max().unwrap_or(0);
                Form::Lines(Reader::default(), width)
            }
        };
        Ok(Output {
            out: BufWriter::new(out),
            form,
            counts: Vec::new(),
            end: v1::CaptureEnd::Unspecified,
        })
    }

    fn take(&mut self, part: v1::CaptureResponse) -> anyhow::Result<Reading> {
        (self.end, self.counts) = (part.end(), part.counts);
        let Output { out, form, .. } = self;
        let written = match form {
            Form::Pcapng => out.write_all(&part.pcapng),
            Form::Lines(reader, width) => {
                let mut frames = reader.read(&part.pcapng)?.into_iter();
                frames.try_for_each(|f| out.write_all(captured::line(&f, *width).as_bytes()))
            }
            Form::Objects(reader) => {
                let mut frames = reader.read(&part.pcapng)?.into_iter();
                frames.try_for_each(|frame| out.write_all(captured::object(&frame).as_bytes()))
            }
        };
        reading(written.and_then(|()| out.flush()))
    }

    /// Ends a capture that the switch did not end: with the numbers that it told last.
    fn finish(&mut self) -> anyhow::Result<()> {
        if let Form::Pcapng = self.form {
            let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            let time_ns = u64::try_from(since.as_nanos()).unwrap_or(u64::MAX);
            let statistics = |count: &v1::CaptureCount| Statistics {
                passed: count.captured + count.missed,
                missing: count.missed,
            };
            let statistics: Vec<Statistics> = self.counts.iter().map(statistics).collect();
            let finished = Writer::resume(&mut self.out).finish(time_ns, &statistics);
            reading(finished.map(|_| ()))?;
        }
        Ok(())
    }

    fn summarize(&self) {
        let sum = |count: fn(&v1::CaptureCount) -> u64| self.counts.iter().map(count).sum::<u64>();
        let (captured, missed) = (sum(|count| count.captured), sum(|count| count.missed));
        let remedy = match missed {
            0 => "",
            _ => {
                "; they passed: to miss fewer, narrow the filter, keep less with --snap, or write \
                  a file"
            }
        };
        let why = match self.end {
            v1::CaptureEnd::PortsGone => "; none of its ports exists any more",
            v1::CaptureEnd::Switch => "; the switch ended",
            _ => "",
        };
        // Nothing is left to tell it to if standard error is closed as well.
        let _ = writeln!(io::stderr(), "{captured} frames captured, {missed} missed{remedy}{why}");
    }
}

/// What guests send is for its owner's eyes.
fn create(path: &Path) -> anyhow::Result<File> {
    let mut options = OpenOptions::new();
    let options = options.write(true).create(true).truncate(true).mode(0o600);
    options.open(path).with_context(|| format!("{} cannot be written", path.display()))
}

/// A reader who has had enough is no error.
fn reading(written: io::Result<()>) -> anyhow::Result<Reading> {
    match written {
        Ok(()) => Ok(Reading::GoesOn),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(Reading::Over),
        Err(error) => Err(error).context("the capture cannot be written"),
    }
}
