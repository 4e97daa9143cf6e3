//! A VM: Debian's kernel in QEMU, without KVM, with one vhost-user device. Told by its
//! second serial port, by the init of `tests/guest`.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::echo::{Echo, parse};
use super::error::{BedError, Result};
use super::host::mac_text;
use super::root::skip;
use super::testpmd::Sockets;

const PROGRAM: &str = "qemu-system-x86_64";
/// How long a guest may take to boot, and for a command: on an idle machine three seconds,
/// and less than one. Without KVM, beside others, it is slower by far.
const PATIENCE: Duration = Duration::from_secs(180);
/// The kernel counts ticks of a timer as it boots, and gives up where QEMU had too little of
/// a CPU to send them.
const KERNEL_ARGUMENTS: &str = "console=ttyS0 quiet panic=1 no_timer_check";
/// Where guests take data, and answer with its SHA-1.
const DIGEST_PORT: u16 = 5001;
/// What a guest sends as often as it takes.
const DATA: &str = "/tmp/data";
const DATA_MEBIBYTES: u32 = 16;

/// A guest's network device.
#[derive(Clone, Debug)]
pub struct Nic {
    /// Names the guest: addresses are those of a [`Host`](super::Host) of this number.
    pub number: u8,
    /// The vhost-user socket.
    pub socket: PathBuf,
    /// Who makes the socket.
    pub sockets: Sockets,
    /// Queue pairs; the guest has as many CPUs, and its kernel a pair for each.
    pub pairs: u8,
    /// Properties of QEMU's `virtio-net-pci` beside its defaults, such as `packed=on`;
    /// separated by commas.
    pub properties: &'static str,
}

impl Nic {
    /// What QEMU needs to have it: memory, socket and device.
    fn arguments(&self) -> Vec<String> {
        let role = match self.sockets {
            Sockets::Made => "server=on,wait=off",
            Sockets::There => "reconnect=1",
        };
        let comma = if self.properties.is_empty() { "" } else { "," };
        let (mac, pairs) = (mac_text(self.number), self.pairs);
        let several = if pairs > 1 { "mq=on," } else { "" };
        [
            "-machine",
            "q35,accel=tcg,memory-backend=ram",
            "-m",
            "256M",
            "-object",
            "memory-backend-memfd,id=ram,size=256M,share=on",
            "-chardev",
            &format!("socket,id=socket,path={},{role}", self.socket.display()),
            "-netdev",
            &format!("vhost-user,id=net,chardev=socket,queues={pairs}"),
            "-smp",
            &pairs.to_string(),
            "-device",
            // QEMU 7.2 without KVM crashes with vhost-user and MSI-X.
            &format!(
                "virtio-net-pci,netdev=net,mac={mac},vectors=0,{several}romfile={comma}{}",
                self.properties
            ),
        ]
        .map(str::to_owned)
        .into()
    }
}

/// A running guest; dropping it kills it.
#[derive(Debug)]
pub struct Guest {
    number: u8,
    arguments: Vec<String>,
    child: Child,
    input: ChildStdin,
    lines: Receiver<String>,
    directory: TempDir,
}

impl Guest {
    /// Whether one can be had on this machine; if not, a test that asks is skipped, which
    /// is said with the reason on standard error.
    ///
    /// # Panics
    /// If not, and `HAIRPIN_TESTS=all` says that nothing may be skipped.
    #[must_use]
    pub fn is_installed() -> bool {
        let path = std::env::var_os("PATH").unwrap_or_default();
        if !std::env::split_paths(&path).any(|place| place.join(PROGRAM).is_file()) {
            skip("no qemu-system-x86_64 (Debian package qemu-system-x86)");
            return false;
        }
        if image().is_none() {
            skip("no target/guest/vmlinuz (`tests/guest/build target/guest` makes it)");
            return false;
        }
        true
    }

    /// Starts one with this device, which may be told when [`Guest::await_start`] says so.
    ///
    /// # Errors
    /// If QEMU or what it boots is not there.
    pub fn start(nic: &Nic) -> Result<Guest> {
        Guest::start_with(nic.number, nic.arguments())
    }

    /// The same with QEMU's arguments for machine, memory and devices.
    ///
    /// # Errors
    /// If QEMU or what it boots is not there.
    pub fn start_with(number: u8, arguments: Vec<String>) -> Result<Guest> {
        let directory = TempDir::new().map_err(BedError::while_doing("a directory"))?;
        let (child, input, lines) = spawn(&arguments, directory.path())?;
        Ok(Guest { number, arguments, child, input, lines, directory })
    }

    /// Waits until it has booted, and gives its device its addresses.
    ///
    /// # Errors
    /// If it does not boot in three minutes; then with what it said.
    pub fn await_start(&mut self) -> Result<()> {
        self.read_until(PATIENCE, "boot", |mark| mark == "ready").map(drop)?;
        self.take_addresses()?;
        let serve = format!("nc -ll -p {DIGEST_PORT} -e sha1sum >/dev/null 2>&1 &");
        self.run(&serve).map(drop)
    }

    /// Gives its device its addresses: of a host's first boot, and when its driver has
    /// come again.
    ///
    /// # Errors
    /// If it has no such device.
    pub fn take_addresses(&mut self) -> Result<()> {
        let number = self.number;
        self.run(&format!(
            "ip addr add 10.9.0.{number}/24 dev eth0 && \
             ip addr add fd09::{number:x}/64 dev eth0 && ip link set eth0 up"
        ))
        .map(drop)
    }

    /// Runs a line of its shell; returns what it wrote.
    ///
    /// # Errors
    /// If its status is not 0, or it takes more than three minutes.
    pub fn run(&mut self, line: &str) -> Result<String> {
        self.tell(line)?;
        let mut status = String::new();
        let lines = self.read_until(PATIENCE, line, |mark| {
            status = mark.to_owned();
            true
        })?;
        let text = lines.join("\n");
        if status != "0" {
            return Err(self.complaint(&format!("`{line}` ends with {status}: {text}")));
        }
        Ok(text)
    }

    /// Has it boot again, at once: its kernel puts nothing in order before it resets the
    /// machine.
    ///
    /// # Errors
    /// If it does not come again.
    pub fn reboot(&mut self) -> Result<()> {
        self.tell("echo b >/proc/sysrq-trigger")?;
        self.await_start()
    }

    /// Sends so many echo requests, one after the other, and waits 10 s for each answer.
    ///
    /// # Errors
    /// If its `ping` fails to run.
    pub fn ping(&mut self, address: &str, requests: u32) -> Result<Echo> {
        self.ping_each(address, requests, "")
    }

    /// The same with requests that make packets of this many bytes, unfragmented on the
    /// way if the MTUs allow.
    ///
    /// # Errors
    /// If its `ping` fails to run.
    pub fn ping_packet_bytes(&mut self, address: &str, bytes: u16) -> Result<Echo> {
        // IPv4's header and ICMP's.
        let payload_bytes = bytes - 28;
        self.ping_each(address, 3, &format!("-s {payload_bytes}"))
    }

    /// Sends three requests that nobody should answer.
    ///
    /// # Errors
    /// If its `ping` fails to run.
    pub fn ping_in_vain(&mut self, address: &str) -> Result<Echo> {
        self.ping_with(address, "-c 3 -i 0.2 -W 1")
    }

    /// One request after the other: of several, busybox waits 10 s for the first answer only,
    /// and for the last of them twice as long as the longest before has taken, which is little
    /// on a busy machine. Then two more, as an answer that comes twice is seen only while
    /// another is waited for.
    fn ping_each(&mut self, address: &str, requests: u32, options: &str) -> Result<Echo> {
        let mut all = Echo { sent: 0, received: 0, duplicates: 0 };
        for _ in 0..requests {
            let one = self.ping_with(address, &format!("-c 1 -W 10 {options}"))?;
            (all.sent, all.received) = (all.sent + one.sent, all.received + one.received);
        }
        let two = self.ping_with(address, &format!("-c 2 -i 0.2 -W 10 {options}"))?;
        Ok(Echo { duplicates: two.duplicates, ..all })
    }

    fn ping_with(&mut self, address: &str, options: &str) -> Result<Echo> {
        let text = self.run(&format!("ping -q {options} {address}; true"))?;
        parse(&text).ok_or_else(|| BedError::new(format_args!("ping: {text}")))
    }

    /// Sends at least so many mebibytes by TCP to another guest, which answers with their
    /// digest.
    ///
    /// # Errors
    /// If not all arrived as it was, or in three minutes.
    pub fn transfer(&mut self, address: &str, mebibytes: u32) -> Result<()> {
        let copies = mebibytes.div_ceil(DATA_MEBIBYTES);
        self.run(&format!(
            "[ -f {DATA} ] || dd if=/dev/urandom of={DATA} bs=1M count={DATA_MEBIBYTES}"
        ))?;
        let files = [DATA].repeat(usize::try_from(copies).unwrap_or(1)).join(" ");
        let here = self.run(&format!("cat {files} | sha1sum"))?;
        let there = self.run(&format!("cat {files} | nc {address} {DIGEST_PORT}"))?;
        if here != there {
            return Err(BedError::new(format_args!("sent {here}, arrived {there}")));
        }
        Ok(())
    }

    /// Has QEMU stand still, all its threads (SIGSTOP), until [`Guest::go_on`].
    ///
    /// # Errors
    /// If it is gone.
    pub fn stand_still(&self) -> Result<()> {
        self.signal(Signal::STOP)
    }

    /// Has it go on (SIGCONT).
    ///
    /// # Errors
    /// If it is gone.
    pub fn go_on(&self) -> Result<()> {
        self.signal(Signal::CONT)
    }

    /// Kills QEMU (SIGKILL).
    ///
    /// # Errors
    /// If it cannot be waited for.
    pub fn kill(&mut self) -> Result<()> {
        self.child.kill().map_err(BedError::while_doing("killing QEMU"))?;
        self.child.wait().map(drop).map_err(BedError::while_doing("waiting"))
    }

    /// Starts QEMU again after its end, with the same arguments.
    ///
    /// # Errors
    /// If it does not boot.
    pub fn start_again(&mut self) -> Result<()> {
        (self.child, self.input, self.lines) = spawn(&self.arguments, self.directory.path())?;
        self.await_start()
    }

    /// What QEMU and the guest's kernel have said since the last start.
    #[must_use]
    pub fn log(&self) -> String {
        let read = |name| fs::read_to_string(self.directory.path().join(name)).unwrap_or_default();
        ["log", "console"].map(read).concat()
    }

    fn tell(&mut self, line: &str) -> Result<()> {
        let written = self.input.write_all(format!("{line}\n").as_bytes());
        written.map_err(|error| self.complaint(&format!("QEMU takes no input: {error}")))
    }

    /// Collects lines until one is a mark that is awaited.
    fn read_until(
        &self,
        patience: Duration,
        what: &str,
        mut is_awaited: impl FnMut(&str) -> bool,
    ) -> Result<Vec<String>> {
        let end = Instant::now() + patience;
        let mut lines = Vec::new();
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let Ok(line) = self.lines.recv_timeout(left) else {
                return Err(
                    self.complaint(&format!("no end of `{what}` in {patience:?}: {lines:?}"))
                );
            };
            match line.strip_prefix("== ") {
                Some(mark) if is_awaited(mark) => break,
                _ => lines.push(line),
            }
        }
        // The mark stands on a line of its own whatever was before it.
        if lines.last().is_some_and(String::is_empty) {
            lines.pop();
        }
        Ok(lines)
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        kill_process(Pid::from_child(&self.child), signal)
            .map_err(|error| BedError::new(format_args!("signalling QEMU: {error}")))
    }

    fn complaint(&self, what: &str) -> BedError {
        BedError::new(format_args!("guest {}: {what}\n{}", self.number, self.log()))
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let _ = self.kill();
        if std::thread::panicking() {
            eprintln!("guest {} said:\n{}", self.number, self.log());
        }
    }
}

fn spawn(arguments: &[String], directory: &Path) -> Result<(Child, ChildStdin, Receiver<String>)> {
    let image = image().ok_or_else(|| BedError::new("no guest image: tests/guest/build"))?;
    let log = File::create(directory.join("log")).map_err(BedError::while_doing("a log"))?;
    let console = format!("file:{}", directory.join("console").display());
    let mut child = Command::new("setpriv")
        .args(["--pdeathsig", "KILL", PROGRAM])
        .args(["-nodefaults", "-display", "none", "-cpu", "max"])
        .args(["-serial", &console, "-serial", "stdio"])
        .arg("-kernel")
        .arg(image.join("vmlinuz"))
        .arg("-initrd")
        .arg(image.join("initrd.gz"))
        .args(["-append", KERNEL_ARGUMENTS])
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(log)
        .spawn()
        .map_err(BedError::while_doing(format_args!("starting {PROGRAM} (by setpriv)")))?;
    let streams = child.stdin.take().zip(child.stdout.take());
    let (input, output) = streams.ok_or_else(|| BedError::new("a QEMU without streams"))?;
    Ok((child, input, read(output)))
}

/// Reads to the end, lest a write find no reader.
fn read(output: ChildStdout) -> Receiver<String> {
    let (sender, lines) = channel();
    std::thread::spawn(move || {
        // The firmware's colours, before all else, are no UTF-8 to rely on.
        for line in BufReader::new(output).split(b'\n').map_while(std::io::Result::ok) {
            let line = String::from_utf8_lossy(&line);
            let _ = sender.send(line.trim_end_matches('\r').to_owned());
        }
    });
    lines
}

/// The directory of what guests boot: `guest` in cargo's target directory, above the running
/// program.
fn image() -> Option<PathBuf> {
    let me = std::env::current_exe().ok()?;
    let places = me.ancestors().skip(1).take(4).map(|place| place.join("guest"));
    places
        .into_iter()
        .find(|place| ["vmlinuz", "initrd.gz"].iter().all(|name| place.join(name).is_file()))
}
