//! VMs as network namespaces: the kernel's TCP/IP stack behind a TAP.
//!
//! The namespaces are the lab's [`Estate`], and go with it.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use hairpin_dataplane::wire::checksum::Sum;
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketType, ipproto};
use rustix::thread::{CapabilitySet, LinkNameSpaceType, capabilities, move_into_link_name_space};

use super::estate::{Estate, NETNS, ip};
use super::guests::{Patience, Transfer};
use super::pattern::Pattern;
use super::plan::{Family, VmPlan};
use super::progress::Interrupt;

/// The TCP port of the lab's transfers.
const PORT: u16 = 7000;
/// Bytes of one write or read of a transfer.
const CHUNK_BYTES: usize = 128 * 1024;
/// An echo request's payload, in bytes.
const ECHO_BYTES: usize = 48;
/// How long a connection may make no progress.
const PATIENCE: Duration = Duration::from_secs(3);
/// How long an echo's answer is waited for before it is asked whether one can still come.
const GLANCE: Duration = Duration::from_millis(2);

/// The name of the interface that a VM's port creates, in the switches' namespace.
pub(super) fn interface(vm: &VmPlan) -> String {
    // 15 bytes at most: linux/if.h IFNAMSIZ.
    format!("tap-{}", vm.name)
}

/// All VMs.
pub(super) struct Namespaces {
    names: Vec<String>,
    sequence: u16,
}

impl Namespaces {
    /// Makes a namespace for each VM; [`Namespaces::plug`] brings its card.
    pub fn create(
        vms: &[VmPlan],
        estate: &mut Estate,
        interrupt: &Interrupt,
    ) -> Result<Namespaces> {
        let mut names = Vec::new();
        for vm in vms {
            interrupt.check()?;
            names.push(estate.add_namespace(vm.name)?);
        }
        Ok(Namespaces { names, sequence: 0 })
    }

    /// Moves the VMs' interfaces from the switches' namespace into their own and gives them
    /// addresses.
    pub fn plug(&self, vms: &[VmPlan], switches: &str, interrupt: &Interrupt) -> Result<()> {
        for (vm, name) in vms.iter().zip(&self.names) {
            interrupt.check()?;
            let interface = interface(vm);
            ip(&["-n", switches, "link", "set", &interface, "netns", name])?;
            let inside = ["-n", name.as_str()];
            let run = |arguments: &[&str]| ip(&[&inside, arguments].concat());
            run(&["link", "set", "lo", "up"])?;
            run(&["link", "set", &interface, "name", "eth0"])?;
            run(&["link", "set", "eth0", "address", &vm.mac().to_string()])?;
            run(&["addr", "add", &format!("{}/24", vm.ipv4()), "dev", "eth0"])?;
            run(&["addr", "add", &format!("{}/64", vm.ipv6()), "dev", "eth0", "nodad"])?;
            run(&["link", "set", "eth0", "up"])?;
        }
        Ok(())
    }

    /// The time an echo took, or nothing if it did not come back in time.
    pub fn ping(&mut self, from: usize, to: IpAddr, patience: Patience) -> Option<Duration> {
        self.start_ping(from, to, patience).and_then(finish).ok().flatten()
    }

    /// Pings of several VMs at once; whether each was answered in time.
    pub fn ping_at_once(&mut self, pings: &[(usize, IpAddr)], timeout: Duration) -> Vec<bool> {
        let start = |&(from, to)| self.start_ping(from, to, timeout.into());
        let started: Vec<_> = pings.iter().map(start).collect();
        let answered = |ping: Result<Work<Ping>>| matches!(ping.and_then(finish), Ok(Some(_)));
        started.into_iter().map(answered).collect()
    }

    fn start_ping(&mut self, from: usize, to: IpAddr, patience: Patience) -> Result<Work<Ping>> {
        self.sequence = self.sequence.wrapping_add(1);
        let sequence = self.sequence;
        start_inside(&self.names[from], move || echo(to, sequence, &patience))
    }

    /// Gives a VM a neighbour's entry that stays. What it sent in vain before, and keeps
    /// until it knows the address, is thrown away.
    pub fn introduce(&self, to: usize, peer: &VmPlan, family: Family) -> Result<()> {
        let (name, address) = (self.names[to].as_str(), peer.address(family).to_string());
        ip(&["-n", name, "neigh", "flush", "to", &address, "dev", "eth0"])?;
        let entry = [address.as_str(), "lladdr", &peer.mac().to_string(), "nud", "permanent"];
        ip(&[&["-n", name, "neigh", "replace"], &entry[..], &["dev", "eth0"]].concat())
    }

    /// Sends over one TCP connection for a while; counts and compares what arrived.
    pub fn transfer(
        &mut self,
        from: usize,
        to: (usize, IpAddr),
        length: Duration,
    ) -> Result<Transfer> {
        let address = SocketAddr::new(to.1, PORT);
        let listener = inside(&self.names[to.0], move || Ok(TcpListener::bind(address)?))?;
        // Connected before anybody waits for the connection, which may never come.
        let connect = move || {
            TcpStream::connect_timeout(&address, PATIENCE)
                .with_context(|| format!("connecting to {address}"))
        };
        let stream = inside(&self.names[from], connect)?;
        let receiver = std::thread::spawn(move || receive(&listener));
        let sent = send(stream, length);
        let received = receiver.join();
        let sent = sent?;
        let received =
            received.map_err(|_| anyhow::anyhow!("the receiving VM's thread panicked"))??;
        if received.bytes != sent {
            bail!("{sent} bytes were sent, {} arrived", received.bytes);
        }
        Ok(received)
    }
}

/// What a ping is good for: the time it took, if it was answered.
type Ping = Option<Duration>;

/// Work on a thread within a namespace.
type Work<T> = JoinHandle<Result<T>>;

/// Runs `work` on a thread within a namespace; threads that it starts are there too.
pub(super) fn inside<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    start_inside(name, work).and_then(finish)
}

fn start_inside<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<Work<T>> {
    let path = Path::new(NETNS).join(name);
    let namespace = File::open(&path).with_context(|| format!("namespace {name}"))?;
    Ok(std::thread::spawn(move || {
        use std::os::fd::AsFd;
        move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?;
        work()
    }))
}

fn finish<T>(work: Work<T>) -> Result<T> {
    work.join().map_err(|_| anyhow::anyhow!("a thread in a namespace panicked"))?
}

/// One ICMP echo through a raw socket.
fn echo(to: IpAddr, sequence: u16, patience: &Patience) -> Result<Ping> {
    let (family, protocol, request, reply, skip) = match to {
        IpAddr::V4(_) => (AddressFamily::INET, ipproto::ICMP, 8, 0, 20),
        IpAddr::V6(_) => (AddressFamily::INET6, ipproto::ICMPV6, 128, 129, 0),
    };
    let socket = rustix::net::socket(family, SocketType::RAW, Some(protocol))?;
    rustix::net::sockopt::set_socket_timeout(
        &socket,
        rustix::net::sockopt::Timeout::Recv,
        Some(GLANCE.min(patience.timeout)),
    )?;
    let message = echo_request(request, sequence);
    let started = Instant::now();
    rustix::net::sendto(&socket, &message, SendFlags::empty(), &SocketAddr::new(to, 0))?;
    let mut buffer = [0; 1500];
    while started.elapsed() < patience.timeout && !(patience.is_settled)() {
        let Ok((count, _)) = rustix::net::recv(&socket, &mut buffer, RecvFlags::empty()) else {
            continue;
        };
        // Raw IPv4 sockets give the IP header too, raw IPv6 sockets do not.
        let icmp = buffer.get(skip..count).unwrap_or_default();
        if icmp.first() == Some(&reply) && icmp.get(6..8) == Some(&sequence.to_be_bytes()) {
            return Ok(Some(started.elapsed()));
        }
    }
    Ok(None)
}

/// An echo request with the checksum of ICMP over IPv4; over IPv6 the kernel
/// writes its own.
fn echo_request(kind: u8, sequence: u16) -> Vec<u8> {
    let [high, low] = sequence.to_be_bytes();
    let mut message = vec![kind, 0, 0, 0, 0x48, 0x50, high, low];
    message.resize(8 + ECHO_BYTES, 0x48);
    let sum = Sum::of(&message).checksum();
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    message
}

fn send(mut stream: TcpStream, length: Duration) -> Result<u64> {
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut chunk = vec![0; CHUNK_BYTES];
    let (mut pattern, mut bytes) = (Pattern::default(), 0);
    let started = Instant::now();
    while started.elapsed() < length {
        pattern.fill(&mut chunk);
        stream.write_all(&chunk).context("sending")?;
        bytes += chunk.len() as u64;
    }
    Ok(bytes)
}

fn receive(listener: &TcpListener) -> Result<Transfer> {
    // Where its last segment is lost, a connection is one for who asked for it only.
    let limit = Some(PATIENCE);
    rustix::net::sockopt::set_socket_timeout(listener, rustix::net::sockopt::Timeout::Recv, limit)?;
    let (mut stream, _) = listener.accept().context("waiting for the connection")?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut chunk = vec![0; CHUNK_BYTES];
    let started = Instant::now();
    let (mut pattern, mut bytes, mut garbled) = (Pattern::default(), 0, 0);
    loop {
        match stream.read(&mut chunk) {
            Ok(0) => return Ok(Transfer { bytes, garbled, elapsed: started.elapsed() }),
            Ok(count) => {
                bytes += count as u64;
                garbled += pattern.differences(&chunk[..count]);
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error).context("receiving"),
        }
    }
}

/// Whether a lab in namespaces can be built here, else why not. What only the verifier of
/// programs can tell, the switches do.
pub(super) fn check() -> Result<()> {
    if !rustix::process::geteuid().is_root() {
        bail!(
            "lab --netns: network namespaces and TAPs need root; run it as root, or without --netns"
        );
    }
    privileged(capabilities(None)?.effective)?;
    if !Path::new("/dev/net/tun").exists() {
        bail!("lab --netns: /dev/net/tun is missing; load the kernel module `tun`");
    }
    knows_xdp(rustix::net::socket(AddressFamily::XDP, SocketType::RAW, None))
}

/// Whether these are enough for namespaces, devices and AF_XDP.
fn privileged(effective: CapabilitySet) -> Result<()> {
    let needed = [
        (CapabilitySet::SYS_ADMIN, "CAP_SYS_ADMIN"),
        (CapabilitySet::NET_ADMIN, "CAP_NET_ADMIN"),
        (CapabilitySet::NET_RAW, "CAP_NET_RAW"),
    ];
    let lacking = needed.into_iter().filter(|(one, _)| !effective.contains(*one));
    let lacking: Vec<&str> = lacking.map(|(_, name)| name).collect();
    if !lacking.is_empty() {
        bail!(
            "lab --netns: namespaces, TAPs and AF_XDP need {}, which this root has not; run it \
             with all capabilities (of a container: --privileged), or without --netns",
            lacking.join(" and ")
        );
    }
    Ok(())
}

/// What came of asking for an AF_XDP socket.
fn knows_xdp<T>(asked: Result<T, Errno>) -> Result<()> {
    match asked {
        Err(Errno::AFNOSUPPORT) => bail!(
            "lab --netns: this kernel has no AF_XDP, by which the switches have the cable's ends; \
             use one with CONFIG_XDP_SOCKETS (Linux 5.18 or newer), or run it without --netns"
        ),
        Err(error) => bail!(
            "lab --netns: no AF_XDP socket is to be had: {error}; see what confines this process \
             (seccomp, SELinux), or run it without --netns"
        ),
        Ok(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_echo_request_carries_its_checksum() {
        let request = echo_request(8, 7);
        assert_eq!(Sum::of(&request).checksum(), 0);
        assert_eq!(request[6..8], [0, 7]);
    }

    #[test]
    fn what_is_lacking_is_named_with_the_remedy() {
        let said = |lacking| privileged(CapabilitySet::all() - lacking).unwrap_err().to_string();
        privileged(CapabilitySet::all()).unwrap();
        let one = said(CapabilitySet::NET_RAW);
        assert!(
            one.contains("need CAP_NET_RAW, which") && one.contains("without --netns"),
            "{one}"
        );
        let two = said(CapabilitySet::NET_ADMIN | CapabilitySet::SYS_ADMIN);
        assert!(two.contains("need CAP_SYS_ADMIN and CAP_NET_ADMIN, which"), "{two}");
        let old = knows_xdp(Err::<(), _>(Errno::AFNOSUPPORT)).unwrap_err().to_string();
        assert!(old.contains("this kernel has no AF_XDP") && old.contains("5.18"), "{old}");
        let confined = knows_xdp(Err::<(), _>(Errno::PERM)).unwrap_err().to_string();
        assert!(confined.contains("seccomp"), "{confined}");
        knows_xdp(Ok(())).unwrap();
    }
}
