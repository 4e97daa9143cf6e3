//! What the kernel says of netdevs besides [`super::tun::Interfaces`]: what one is, whom
//! it belongs to, its addresses, and when any of them changes (rtnetlink(7)).

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::CStr;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::OwnedFd;
use std::ptr::NonNull;
use std::sync::{Mutex, PoisonError};

use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};

use super::programs::ProgramId;
use super::tun::{InterfaceName, Interfaces};

const RTM_NEWLINK: u16 = 16;
const RTM_GETLINK: u16 = 18;
const NLMSG_ERROR: u16 = 2;
const NLM_F_REQUEST: u16 = 1;
const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_MASTER: u16 = 10;
const IFLA_STATS64: u16 = 23;
const IFLA_NUM_RX_QUEUES: u16 = 32;
const IFLA_XDP: u16 = 43;
/// Within [`IFLA_XDP`]: the one program that there is, or by who runs it, where there are
/// several.
const IFLA_XDP_PROGRAMS: [u16; 4] = [4, 5, 6, 7];
const IFLA_CARRIER_DOWN_COUNT: u16 = 48;
const IFLA_PERM_ADDRESS: u16 = 54;
/// `RTMGRP_LINK`.
const GROUP_LINK: u32 = 1;
/// `struct nlmsghdr` and `struct ifinfomsg`.
const HEADER_BYTES: usize = 16;
const INFO_BYTES: usize = 16;
/// Where `tx_dropped` stands in `struct rtnl_link_stats64`.
const TRANSMIT_DROPPED_AT: usize = 7 * 8;
/// `IFF_LOWER_UP` of `linux/if.h`: there is a carrier.
const CARRIER: u32 = 1 << 16;
/// Messages that are taken at a time: more than the socket's queue holds, so that it ends
/// also where they come as fast as they are taken.
const MESSAGES_MAX: usize = 4096;
/// Room for an answer: a link with many attributes takes some 2 KiB.
const ANSWER_BYTES: usize = 32 * 1024;

/// A netdev as the kernel describes it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Description {
    /// Its index in this network namespace.
    pub index: u32,
    /// Whether frames can pass.
    pub line: Line,
    /// How often it lost its carrier, which is told only as often as the kernel finds time.
    pub carrier_losses: u32,
    /// What its frames are, as `linux/if_arp.h` numbers it: [`ETHERNET`] or another.
    pub hardware: u16,
    /// Its MTU in bytes.
    pub mtu: u32,
    /// The index of the bridge, bond or other netdev that it is a port of.
    pub master: Option<u32>,
    /// Receive queues it was made with, 1 or more; its driver may use fewer.
    pub receive_queues: u32,
    /// Frames that it was to send and lost, since it was made.
    pub transmit_dropped: u64,
    /// The MAC address that it was made with, if it tells, else the one that it has; zeros
    /// if it has none.
    pub address: [u8; 6],
    /// The XDP program that it runs, or one of them.
    pub xdp_program: Option<ProgramId>,
}

/// [`Description::hardware`] of a netdev whose frames are Ethernet's (`ARPHRD_ETHER`).
pub const ETHERNET: u16 = 1;

/// Whether frames can pass a netdev.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Line {
    /// They can.
    Up,
    /// Its owner has it up, but nothing answers at the far end: the cable is unplugged, or
    /// what it is plugged into is down.
    NoCarrier,
    /// Its owner has it down.
    Down,
}

impl Line {
    /// From `ifi_flags`.
    fn of(flags: u32) -> Line {
        if flags & libc::IFF_UP as u32 == 0 {
            Line::Down
        } else if flags & CARRIER == 0 {
            Line::NoCarrier
        } else {
            Line::Up
        }
    }
}

/// Asks for a netdev of the calling thread's network namespace.
///
/// # Errors
/// `ENODEV`: there is none of this name.
pub fn describe(name: InterfaceName) -> io::Result<Description> {
    Directory::open()?.ask(&request(0, name.bytes()))
}

/// The same by its index, whatever its name is now.
///
/// # Errors
/// `ENODEV`: there is none of this index.
pub fn describe_index(index: u32) -> io::Result<Description> {
    Directory::open()?.describe_index(index)
}

/// How to speak of the netdev of this index in the calling thread's network namespace: by
/// its name, if it has one there.
#[must_use]
pub fn title(index: u32) -> String {
    let interfaces = Interfaces::open().and_then(|socket| socket.name(index));
    interfaces.map_or_else(|_| format!("the interface of index {index}"), |it| format!("`{it}`"))
}

/// The netdevs of the network namespace in which it was opened, whichever namespace the
/// thread is in that asks: elsewhere the same index may be another netdev's.
#[derive(Debug)]
pub struct Directory(Mutex<OwnedFd>);

impl Directory {
    /// That of the calling thread's network namespace: one descriptor, as long as it lives.
    ///
    /// # Errors
    /// Those of socket(2).
    pub fn open() -> io::Result<Directory> {
        let flags = SocketFlags::CLOEXEC;
        let socket =
            rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, None)?;
        Ok(Directory(Mutex::new(socket)))
    }

    /// The netdev of this index, whatever its name is now.
    ///
    /// # Errors
    /// `ENODEV`: there is none.
    pub fn describe_index(&self, index: u32) -> io::Result<Description> {
        self.ask(&request(index, &[]))
    }

    fn ask(&self, request: &[u8]) -> io::Result<Description> {
        // One question at a time: answers come in the order of the questions. The kernel
        // has answered by the time that the question is sent.
        let socket = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        rustix::net::send(&*socket, request, SendFlags::empty())?;
        let mut answer = vec![0; ANSWER_BYTES];
        let (length, _) = rustix::io::retry_on_intr(|| {
            rustix::net::recv(&*socket, &mut answer[..], RecvFlags::empty())
        })?;
        understand(&answer[..length])
    }
}

/// `RTM_GETLINK` by index, or by name if that is 0.
fn request(index: u32, name: &[u8]) -> Vec<u8> {
    let attribute_bytes = if name.is_empty() { 0 } else { 4 + name.len() + 1 };
    let length = HEADER_BYTES + INFO_BYTES + attribute_bytes.next_multiple_of(4);
    let mut message = Vec::with_capacity(length);
    message.extend((length as u32).to_ne_bytes());
    message.extend(RTM_GETLINK.to_ne_bytes());
    message.extend(NLM_F_REQUEST.to_ne_bytes());
    message.resize(HEADER_BYTES + 4, 0);
    message.extend(index.to_ne_bytes());
    message.resize(HEADER_BYTES + INFO_BYTES, 0);
    if !name.is_empty() {
        message.extend((attribute_bytes as u16).to_ne_bytes());
        message.extend(IFLA_IFNAME.to_ne_bytes());
        message.extend(name);
    }
    message.resize(length, 0);
    message
}

/// The first message of an answer.
fn understand(answer: &[u8]) -> io::Result<Description> {
    let cut = || io::Error::from(io::ErrorKind::UnexpectedEof);
    let kind = answer.get(4..6).ok_or_else(cut)?;
    let word = |at: usize| word_at(answer, at).ok_or_else(cut);
    match u16::from_ne_bytes([kind[0], kind[1]]) {
        RTM_NEWLINK => {}
        NLMSG_ERROR => {
            let error = word(HEADER_BYTES)?.cast_signed();
            return Err(io::Error::from_raw_os_error(-error));
        }
        other => return Err(io::Error::other(format!("message {other} in place of a link"))),
    }
    let length = (word(0)? as usize).min(answer.len());
    let attributes = answer.get(HEADER_BYTES + INFO_BYTES..length).ok_or_else(cut)?;
    let find = |wanted| attributes_of(attributes).find(|(kind, _)| *kind == wanted);
    let number = |wanted| find(wanted).and_then(|(_, value)| word_at(value, 0));
    let address = find(IFLA_PERM_ADDRESS).or_else(|| find(IFLA_ADDRESS));
    let address = address.and_then(|(_, value)| value.first_chunk().copied());
    let (_, xdp) = find(IFLA_XDP).unwrap_or_default();
    let xdp_program = attributes_of(xdp).find(|(kind, _)| IFLA_XDP_PROGRAMS.contains(kind));
    let hardware = answer.get(HEADER_BYTES + 2..HEADER_BYTES + 4).ok_or_else(cut)?;
    Ok(Description {
        index: word(HEADER_BYTES + 4)?,
        line: Line::of(word(HEADER_BYTES + 8)?),
        carrier_losses: number(IFLA_CARRIER_DOWN_COUNT).unwrap_or(0),
        hardware: u16::from_ne_bytes([hardware[0], hardware[1]]),
        mtu: number(IFLA_MTU).ok_or_else(cut)?,
        master: number(IFLA_MASTER),
        receive_queues: number(IFLA_NUM_RX_QUEUES).unwrap_or(1).max(1),
        transmit_dropped: find(IFLA_STATS64)
            .and_then(|(_, value)| long_at(value, TRANSMIT_DROPPED_AT))
            .unwrap_or(0),
        address: address.unwrap_or_default(),
        xdp_program: xdp_program.and_then(|(_, value)| word_at(value, 0)).map(ProgramId),
    })
}

fn word_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn long_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_ne_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

/// The attributes (kind, value) that lie one behind the other.
fn attributes_of(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let head = bytes.get(..4)?;
        let length = usize::from(u16::from_ne_bytes([head[0], head[1]]));
        let kind = u16::from_ne_bytes([head[2], head[3]]);
        let value = bytes.get(4..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

/// The names of all netdevs of the calling thread's network namespace; none where the kernel
/// does not tell (`/proc/net/dev`).
#[must_use]
pub fn names() -> Vec<String> {
    let table = std::fs::read_to_string("/proc/thread-self/net/dev").unwrap_or_default();
    let lines = table.lines().skip(2);
    lines.filter_map(|line| Some(line.split_once(':')?.0.trim().to_owned())).collect()
}

/// Hears of every change to netdevs of the network namespace in which it was opened.
#[derive(Debug)]
pub struct Changes(OwnedFd);

impl Changes {
    /// Listens from now on.
    ///
    /// # Errors
    /// Those of socket(2) and bind(2).
    pub fn open() -> io::Result<Changes> {
        let flags = SocketFlags::CLOEXEC;
        let socket =
            rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, None)?;
        rustix::net::bind(&socket, &SocketAddrNetlink::new(0, GROUP_LINK))?;
        Ok(Changes(socket))
    }

    /// What was told since the last call. Does not wait.
    #[must_use]
    pub fn take(&self) -> News {
        let mut message = [0; 1024];
        let mut news = News::default();
        for _ in 0..MESSAGES_MAX {
            match rustix::net::recv(&self.0, &mut message[..], RecvFlags::DONTWAIT) {
                Ok((length, _)) => news.add(&message[..length]),
                Err(rustix::io::Errno::NOBUFS) => news.extent = Extent::Anything,
                Err(rustix::io::Errno::INTR) => {}
                Err(_) => break,
            }
        }
        news
    }
}

/// What [`Changes`] tells: of which netdevs something has changed. What they are now is
/// asked of [`describe_index`].
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct News {
    told: BTreeMap<u32, Told>,
    /// Of what was told, by the names that they had at the time.
    names: BTreeSet<Box<[u8]>>,
    extent: Extent,
}

/// What may have changed besides what was told.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum Extent {
    /// Nothing.
    #[default]
    Told,
    /// Anything: changes came too fast to be told one by one (`ENOBUFS`).
    Anything,
}

/// What was told of a netdev's line, from one call of [`Changes::take`] to the next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Told {
    /// How it was when it was first spoken of.
    pub first: Line,
    /// How often it was up after that, and then no longer.
    pub falls: u32,
    /// How it was when it was last spoken of.
    pub last: Line,
}

impl News {
    /// Whether nothing has changed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.told.is_empty() && self.extent == Extent::Told
    }

    /// Whether something may have changed of the netdev of this index.
    #[must_use]
    pub fn concerns(&self, index: u32) -> bool {
        self.told.contains_key(&index) || self.extent == Extent::Anything
    }

    /// Whether something may have changed of a netdev of this name: it has come or gone, or
    /// anything else of it is another. What was renamed is known by its new name.
    #[must_use]
    pub fn concerns_name(&self, name: &str) -> bool {
        self.names.contains(name.as_bytes()) || self.extent == Extent::Anything
    }

    /// What was told of the netdev of this index.
    #[must_use]
    pub fn told(&self, index: u32) -> Option<Told> {
        self.told.get(&index).copied()
    }

    /// Takes note of a message: `RTM_NEWLINK` or `RTM_DELLINK`, which may be cut off.
    pub fn add(&mut self, message: &[u8]) {
        let word = |at| word_at(message, HEADER_BYTES + at);
        let (Some(index), Some(flags)) = (word(4), word(8)) else { return };
        let line = Line::of(flags);
        let told = self.told.entry(index).or_insert(Told { first: line, falls: 0, last: line });
        if told.last == Line::Up && line != Line::Up {
            told.falls += 1;
        }
        told.last = line;
        let attributes = message.get(HEADER_BYTES + INFO_BYTES..).unwrap_or_default();
        let name = attributes_of(attributes).find(|&(kind, _)| kind == IFLA_IFNAME);
        // A zero ends it.
        let name = name.and_then(|(_, value)| value.split(|&byte| byte == 0).next());
        self.names.extend(name.map(Box::from));
    }
}

/// The addresses of a netdev of the calling thread's network namespace, link-local ones
/// left out: with these it is in use by the host's own stack.
///
/// # Errors
/// Those of getifaddrs(3).
pub fn global_addresses(interface: &str) -> io::Result<Vec<IpAddr>> {
    let list = AddressList::new()?;
    let ours = list.iter().filter(|entry| name(entry) == interface.as_bytes());
    Ok(ours.filter_map(address).filter(|address| !is_link_local(address)).collect())
}

fn is_link_local(address: &IpAddr) -> bool {
    match address {
        IpAddr::V4(_) => false,
        IpAddr::V6(address) => address.is_unicast_link_local(),
    }
}

/// The list that getifaddrs(3) makes.
struct AddressList(Option<NonNull<libc::ifaddrs>>);

impl AddressList {
    fn new() -> io::Result<AddressList> {
        let mut first = std::ptr::null_mut();
        // SAFETY: the call writes one pointer, to a list that is ours until freed.
        match unsafe { libc::getifaddrs(&raw mut first) } {
            0 => Ok(AddressList(NonNull::new(first))),
            _ => Err(io::Error::last_os_error()),
        }
    }

    fn iter(&self) -> impl Iterator<Item = &libc::ifaddrs> {
        let mut next = self.0;
        std::iter::from_fn(move || {
            // SAFETY: every element of the list lives, unchanged, until `self` is dropped.
            let entry = unsafe { next?.as_ref() };
            next = NonNull::new(entry.ifa_next);
            Some(entry)
        })
    }
}

impl Drop for AddressList {
    fn drop(&mut self) {
        if let Some(first) = self.0 {
            // SAFETY: the list is getifaddrs's, and no reference into it is left.
            unsafe { libc::freeifaddrs(first.as_ptr()) };
        }
    }
}

fn name(entry: &libc::ifaddrs) -> &[u8] {
    // SAFETY: the list's names end with a zero and live as long as the entry.
    unsafe { CStr::from_ptr(entry.ifa_name) }.to_bytes()
}

fn address(entry: &libc::ifaddrs) -> Option<IpAddr> {
    let socket = NonNull::new(entry.ifa_addr)?;
    // SAFETY: a sockaddr of the list begins with its family.
    match i32::from(unsafe { socket.as_ref() }.sa_family) {
        libc::AF_INET => {
            // SAFETY: a sockaddr of this family is a whole sockaddr_in.
            let address = unsafe { socket.cast::<libc::sockaddr_in>().read_unaligned() };
            Some(Ipv4Addr::from_bits(u32::from_be(address.sin_addr.s_addr)).into())
        }
        libc::AF_INET6 => {
            // SAFETY: a sockaddr of this family is a whole sockaddr_in6.
            let address = unsafe { socket.cast::<libc::sockaddr_in6>().read_unaligned() };
            Some(Ipv6Addr::from(address.sin6_addr.s6_addr).into())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::netns::{in_further_network, in_own_network, ip};

    #[test]
    fn a_netdev_is_described_and_its_changes_are_heard_of() {
        in_own_network(|| {
            let name = |text| InterfaceName::new(text).unwrap();
            let missing = describe(name("a0")).unwrap_err();
            assert_eq!(missing.raw_os_error(), Some(libc::ENODEV));
            let changes = Changes::open().unwrap();
            assert!(changes.take().is_empty());
            ip(
                "link add a0 address 02:00:00:00:00:0a mtu 1400 numrxqueues 3 type veth peer name b0",
            );
            let a0 = describe(name("a0")).unwrap();
            let news = changes.take();
            assert!(news.concerns(a0.index) && !news.concerns(a0.index + 7), "{news:?}");
            let named = |name| news.concerns_name(name);
            assert!(named("a0") && named("b0") && !named("a") && !named("a00"), "{news:?}");
            assert!(changes.take().is_empty());
            assert_eq!((a0.line, a0.mtu, a0.master), (Line::Down, 1400, None));
            assert_eq!((a0.receive_queues, a0.address), (3, [2, 0, 0, 0, 0, 0xa]));
            ip("link add br0 type bridge");
            ip("link set a0 master br0 up");
            let a0 = describe(name("a0")).unwrap();
            let br0 = describe(name("br0")).unwrap();
            assert_eq!((a0.line, a0.master), (Line::NoCarrier, Some(br0.index)));
            assert_eq!(title(br0.index), "`br0`");
            assert_eq!(title(1 << 20), "the interface of index 1048576");
            ip("link set b0 up");
            let up = describe(name("a0")).unwrap();
            assert_eq!(up.line, Line::Up);
            ip("link set b0 down");
            ip("link set b0 up");
            let again = Description { carrier_losses: up.carrier_losses + 1, ..up };
            assert_eq!(describe(name("a0")).unwrap(), again);
            let _ = changes.take();
            ip("link set b0 down");
            ip("link set b0 name b7");
            assert!(changes.take().concerns_name("b7"));
            ip("link del a0");
            let news = changes.take();
            assert!(news.concerns_name("a0") && !news.concerns_name("b0"), "{news:?}");
        });
    }

    #[test]
    fn a_directory_tells_of_its_own_namespace_wherever_it_is_asked() {
        in_own_network(|| {
            ip("link add a0 index 100 mtu 1400 type veth peer name b0");
            let here = Directory::open().unwrap();
            let a0 = describe_index(100).unwrap();
            in_further_network(move || {
                assert_eq!(here.describe_index(100).unwrap(), a0);
                ip("link add c0 index 100 mtu 1300 type veth peer name d0");
                ip("link add e0 index 101 type veth peer name f0");
                assert_eq!(here.describe_index(100).unwrap(), a0);
                let missing = here.describe_index(101).unwrap_err();
                assert_eq!(missing.raw_os_error(), Some(libc::ENODEV));
                // What was refused is not taken for the next answer.
                assert_eq!(here.describe_index(100).unwrap(), a0);
            });
        });
    }

    #[test]
    fn each_fall_of_a_line_is_told() {
        in_own_network(|| {
            ip("link add a0 type veth peer name b0");
            ip("link set a0 up");
            ip("link set b0 up");
            let index = describe(InterfaceName::new("a0").unwrap()).unwrap().index;
            let changes = Changes::open().unwrap();
            for _ in 0..3 {
                ip("link set a0 down");
                ip("link set a0 up");
            }
            let Told { first, falls, .. } = changes.take().told(index).unwrap();
            assert_eq!((first, falls), (Line::Down, 2));
        });
    }

    #[test]
    fn what_came_too_fast_concerns_everything() {
        in_own_network(|| {
            ip("link add a0 type veth peer name b0");
            let changes = Changes::open().unwrap();
            let batch: String =
                (0..600).map(|it| format!("link set a0 mtu {}\n", 1400 + it)).collect();
            let file = std::env::temp_dir().join(format!("hairpin-changes-{}", std::process::id()));
            std::fs::write(&file, batch).unwrap();
            ip(&format!("-batch {}", file.display()));
            std::fs::remove_file(file).unwrap();
            let news = changes.take();
            assert!(news.concerns(u32::MAX) && news.concerns_name("any"));
            assert!(changes.take().is_empty());
        });
    }

    #[test]
    fn link_local_addresses_do_not_count() {
        in_own_network(|| {
            ip("link add a0 type veth peer name b0");
            std::fs::write("/proc/sys/net/ipv6/conf/a0/disable_ipv6", "0").unwrap();
            ip("addr add fe80::7/64 dev a0");
            ip("link set a0 up");
            assert_eq!(global_addresses("a0").unwrap(), Vec::<IpAddr>::new());
            ip("addr add 192.0.2.7/24 dev a0");
            ip("addr add 2001:db8::7/64 dev a0 nodad");
            let mut found = global_addresses("a0").unwrap();
            found.sort();
            let wanted: [IpAddr; 2] =
                [Ipv4Addr::new(192, 0, 2, 7).into(), "2001:db8::7".parse().unwrap()];
            assert_eq!(found, wanted);
            assert!(global_addresses("b0").unwrap().is_empty());
        });
    }
}
