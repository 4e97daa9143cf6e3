//! `wire --cpu CPU [--null] [--stages] SOCKET0 SOCKET1`: a wire between two vhost-user front ends.
//!
//! Connects to both sockets, prints `ready` once the rings of both are up, and carries
//! frames until SIGTERM. With `--null` it only recycles descriptors: what the traffic's
//! generator can do at most. With `--stages` it says at the end where its time went.

use hairpin_bench::wire::device::{self, Device};
use hairpin_bench::wire::site::{Profile, Site};
use hairpin_bench::wire::worker::Work;
use std::process::ExitCode;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use vhost::vhost_user::{BackendReqHandler, Error};

const USAGE: &str = "usage: wire --cpu CPU [--null] [--stages] SOCKET0 SOCKET1";

/// How often a socket that is not there is tried.
const RETRY: Duration = Duration::from_millis(50);

struct Options {
    cpu: usize,
    work: Work,
    profile: Profile,
    sockets: [String; 2],
}

fn options(mut arguments: impl Iterator<Item = String>) -> Option<Options> {
    let (mut cpu, mut sockets) = (None, Vec::new());
    let (mut work, mut profile) = (Work::Copy, Profile::Off);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--cpu" => cpu = Some(arguments.next()?.parse().ok()?),
            "--null" => work = Work::Recycle,
            "--stages" => profile = Profile::Stages,
            _ if argument.starts_with('-') => return None,
            _ => sockets.push(argument),
        }
    }
    Some(Options { cpu: cpu?, work, profile, sockets: sockets.try_into().ok()? })
}

/// Serves one front end until it goes.
fn serve(index: usize, socket: &str, site: Arc<Site>) -> Result<(), Error> {
    let device = Arc::new(Mutex::new(Device::new(index, site)));
    let handler = loop {
        match BackendReqHandler::connect(socket, Arc::clone(&device)) {
            // A front end may make its second socket once its first one is served.
            Err(Error::SocketConnect(_)) => std::thread::sleep(RETRY),
            connected => break connected?,
        }
    };
    Err(device::serve(socket, handler, &device))
}

fn main() -> ExitCode {
    let Some(options) = options(std::env::args().skip(1)) else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    let Ok(mut signals) = signal_hook::iterator::Signals::new([
        signal_hook::consts::SIGTERM,
        signal_hook::consts::SIGINT,
    ]) else {
        eprintln!("signals cannot be caught");
        return ExitCode::FAILURE;
    };
    let site = Site::new(options.cpu, options.work, options.profile);
    for (index, socket) in options.sockets.into_iter().enumerate() {
        let site = Arc::clone(&site);
        std::thread::spawn(move || {
            if let Err(error) = serve(index, &socket, site) {
                eprintln!("{socket}: {error}");
            }
        });
    }
    signals.forever().next();
    site.finish();
    ExitCode::SUCCESS
}
