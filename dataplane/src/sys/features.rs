//! What a netdev does to frames by itself (its "features", ethtool(8)) and by how many
//! queues, asked of and set on the very netdev that a [`Tie`] was made to.

use std::io;
use std::mem::{MaybeUninit, size_of};
use std::os::fd::{AsRawFd, OwnedFd};

use rustix::net::{AddressFamily, SocketFlags, SocketType, netdevice};

use super::tun::{Channels, InterfaceName, Interfaces, check};

/// `linux/ethtool.h`.
const ETHTOOL_GSTRINGS: u32 = 0x1b;
const ETHTOOL_GSSET_INFO: u32 = 0x37;
const ETHTOOL_GFEATURES: u32 = 0x3a;
const ETHTOOL_SFEATURES: u32 = 0x3b;
/// `ETH_SS_FEATURES`: the set of strings that are the features' names.
const FEATURE_NAMES: u32 = 4;
/// Words of a name (`ETH_GSTRING_LEN`), and features in a block.
const NAME_WORDS: usize = 8;
const BLOCK_FEATURES: usize = 32;
/// `SO_NETNS_COOKIE` (`asm-generic/socket.h`, Linux 5.14).
const NETNS_COOKIE: libc::c_int = 71;

/// Held on to a netdev: it is asked and set in the network namespace in which the tie was
/// made, by whatever name it has there, and never taken for another one of its name or
/// index. Receives no frames, and keeps nobody from deleting the netdev.
#[derive(Debug)]
pub struct Tie {
    socket: OwnedFd,
    interfaces: Interfaces,
}

/// What is to become of features.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Switch {
    /// They are to be on.
    On,
    /// They are to be off.
    Off,
}

/// Which of some features are on.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Running {
    /// Those that can be turned off.
    pub switchable: Vec<String>,
    /// Those that cannot, or were and run nevertheless.
    pub fixed: Vec<String>,
}

impl Tie {
    /// To the netdev of that index, in the calling thread's network namespace.
    ///
    /// # Errors
    /// `EPERM` without CAP_NET_RAW; `ENODEV`: there is none.
    pub fn to(index: u32) -> io::Result<Tie> {
        let flags = SocketFlags::CLOEXEC;
        // Without a protocol it is bound, but receives nothing.
        let socket = rustix::net::socket_with(AddressFamily::PACKET, SocketType::RAW, flags, None)?;
        let address = address(index);
        // SAFETY: the kernel reads a sockaddr_ll at the pointer, which is to one that lives.
        check(unsafe {
            libc::bind(
                socket.as_raw_fd(),
                (&raw const address).cast(),
                size_of::<libc::sockaddr_ll>() as libc::socklen_t,
            )
        })?;
        Ok(Tie { socket, interfaces: Interfaces::open()? })
    }

    /// Its index, as long as it is there: one that was deleted, or moved to another network
    /// namespace, is not, and does not come back to this tie.
    #[must_use]
    pub fn index(&self) -> Option<u32> {
        let mut found = MaybeUninit::<libc::sockaddr_ll>::zeroed();
        let mut length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
        // SAFETY: the kernel writes at most `length` bytes to what is as long.
        let asked = check(unsafe {
            libc::getsockname(self.socket.as_raw_fd(), found.as_mut_ptr().cast(), &raw mut length)
        });
        asked.ok()?;
        // SAFETY: zeroed at first, and all-zero bytes are a valid sockaddr_ll too.
        let index = unsafe { found.assume_init() }.sll_ifindex;
        u32::try_from(index).ok().filter(|&index| index != 0)
    }

    /// A number that no other network namespace has between two starts of the kernel; 0
    /// where the kernel gives none.
    #[must_use]
    pub fn namespace(&self) -> u64 {
        let mut cookie = 0_u64;
        let mut length = size_of::<u64>() as libc::socklen_t;
        // SAFETY: the kernel writes at most `length` bytes to what is as long.
        let asked = check(unsafe {
            libc::getsockopt(
                self.socket.as_raw_fd(),
                libc::SOL_SOCKET,
                NETNS_COOKIE,
                (&raw mut cookie).cast(),
                &raw mut length,
            )
        });
        asked.map_or(0, |()| cookie)
    }

    /// Its name now.
    ///
    /// # Errors
    /// `ENODEV`: it is gone.
    pub fn name(&self) -> io::Result<String> {
        let gone = || io::Error::from_raw_os_error(libc::ENODEV);
        let index = self.index().ok_or_else(gone)?;
        Ok(netdevice::index_to_name(&self.socket, index)?)
    }

    /// Which of these features are on. One that the kernel does not know is off.
    ///
    /// # Errors
    /// `ENODEV`: it is gone.
    pub fn running(&self, wanted: &[&str]) -> io::Result<Running> {
        let table = self.table()?;
        let mut running = Running::default();
        for (name, at) in table.find(wanted) {
            let [available, requested, active, _] = table.blocks[at / BLOCK_FEATURES];
            let has = |word: u32| word >> (at % BLOCK_FEATURES) & 1 == 1;
            if has(available) && has(requested) {
                running.switchable.push(name.to_owned());
            } else if has(active) {
                running.fixed.push(name.to_owned());
            }
        }
        Ok(running)
    }

    /// Whether each of these features runs, in the same order. One that the kernel does not
    /// know does not.
    ///
    /// # Errors
    /// `ENODEV`: it is gone.
    pub fn active<const N: usize>(&self, names: [&str; N]) -> io::Result<[bool; N]> {
        let table = self.table()?;
        Ok(names.map(|name| table.find(&[name]).any(|(_, at)| table.is_active(at))))
    }

    /// Turns features on or off; those that it cannot change stay as they are.
    ///
    /// # Errors
    /// `EPERM` without CAP_NET_ADMIN; `ENODEV`: it is gone; those of its driver.
    pub fn turn(&self, names: &[&str], switch: Switch) -> io::Result<()> {
        let table = self.table()?;
        let mut words = vec![ETHTOOL_SFEATURES, table.blocks.len() as u32];
        words.resize(2 + 2 * table.blocks.len(), 0);
        for (_, at) in table.find(names) {
            let (block, bit) = (at / BLOCK_FEATURES, 1 << (at % BLOCK_FEATURES));
            // Which ones are meant, then what they are to be.
            words[2 + 2 * block] |= bit;
            words[3 + 2 * block] |= match switch {
                Switch::On => bit,
                Switch::Off => 0,
            };
        }
        self.ethtool(&mut words)
    }

    fn table(&self) -> io::Result<Table> {
        // `struct ethtool_sset_info`: which sets, as a mask of 64 bits; then their sizes.
        let mut info = [ETHTOOL_GSSET_INFO, 0, 0, 0, 0];
        info[2..4].copy_from_slice(&mask(1 << FEATURE_NAMES));
        self.ethtool(&mut info)?;
        let count = info[4] as usize;
        let mut names = vec![ETHTOOL_GSTRINGS, FEATURE_NAMES, count as u32];
        names.resize(3 + count * NAME_WORDS, 0);
        self.ethtool(&mut names)?;
        let blocks = count.div_ceil(BLOCK_FEATURES);
        let mut features = vec![ETHTOOL_GFEATURES, blocks as u32];
        features.resize(2 + 4 * blocks, 0);
        self.ethtool(&mut features)?;
        let (names, _) = names[3..].as_chunks::<NAME_WORDS>();
        let (blocks, _) = features[2..].as_chunks::<4>();
        Ok(Table { names: names.iter().map(text).collect(), blocks: blocks.to_vec() })
    }

    /// The queues that its driver uses.
    ///
    /// # Errors
    /// `ENODEV`: it is gone. `EOPNOTSUPP`: its driver does not say.
    pub fn channels(&self) -> io::Result<Channels> {
        self.interfaces.channels(self.interface_name()?)
    }

    fn ethtool(&self, words: &mut [u32]) -> io::Result<()> {
        self.interfaces.ethtool(self.interface_name()?, words)
    }

    fn interface_name(&self) -> io::Result<InterfaceName> {
        let gone = || io::Error::from_raw_os_error(libc::ENODEV);
        InterfaceName::new(&self.name()?).ok_or_else(gone)
    }
}

/// All features of a netdev.
struct Table {
    names: Vec<String>,
    /// Of 32 features each: available, requested, active, never changed
    /// (`struct ethtool_get_features_block`).
    blocks: Vec<[u32; 4]>,
}

impl Table {
    /// The places of those that the kernel knows.
    fn find<'n>(&self, names: &[&'n str]) -> impl Iterator<Item = (&'n str, usize)> {
        let place = |&name: &&'n str| {
            let at = self.names.iter().position(|known| known == name)?;
            Some((name, at))
        };
        names.iter().filter_map(place)
    }

    fn is_active(&self, at: usize) -> bool {
        let [_, _, active, _] = self.blocks[at / BLOCK_FEATURES];
        active >> (at % BLOCK_FEATURES) & 1 == 1
    }
}

fn address(index: u32) -> libc::sockaddr_ll {
    libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as u16,
        sll_protocol: 0,
        sll_ifindex: index.cast_signed(),
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    }
}

/// A number of 64 bits as it lies in memory.
fn mask(bits: u64) -> [u32; 2] {
    let [a, b, c, d, e, f, g, h] = bits.to_ne_bytes();
    [u32::from_ne_bytes([a, b, c, d]), u32::from_ne_bytes([e, f, g, h])]
}

/// A text that ends with a zero.
fn text(words: &[u32; NAME_WORDS]) -> String {
    let bytes = words.iter().flat_map(|word| word.to_ne_bytes());
    let bytes: Vec<u8> = bytes.take_while(|&byte| byte != 0).collect();
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::netdev;
    use crate::sys::netns::{in_own_network, ip};

    const STRIPPING: &str = "rx-vlan-hw-parse";

    fn tie(name: &str) -> Tie {
        let found = netdev::describe(InterfaceName::new(name).unwrap()).unwrap();
        Tie::to(found.index).unwrap()
    }

    #[test]
    fn a_feature_is_turned_off_and_on_by_whatever_name_the_netdev_has() {
        in_own_network(|| {
            ip("link add a0 type veth peer name b0");
            let (tie, other) = (tie("a0"), tie("b0"));
            assert_eq!(tie.namespace(), other.namespace());
            let wanted = [STRIPPING, "rx-lro", "no such feature"];
            let on = Running { switchable: vec![STRIPPING.to_owned()], fixed: Vec::new() };
            assert_eq!(tie.running(&wanted).unwrap(), on);
            ip("link set a0 name a7");
            tie.turn(&wanted, Switch::Off).unwrap();
            assert_eq!(tie.name().unwrap(), "a7");
            assert_eq!(tie.running(&wanted).unwrap(), Running::default());
            assert_eq!(other.running(&wanted).unwrap(), on);
            tie.turn(&wanted, Switch::On).unwrap();
            assert_eq!(tie.running(&wanted).unwrap(), on);
            // What is on for good is told apart.
            assert_eq!(tie.running(&["tx-lockless"]).unwrap().switchable, Vec::<String>::new());
        });
    }

    #[test]
    fn a_tie_ends_with_its_netdev_and_takes_no_other_for_it() {
        in_own_network(|| {
            ip("link add a0 index 100 type veth peer name b0");
            let tie = tie("a0");
            assert_eq!(tie.index(), Some(100));
            ip("link del a0");
            ip("link add a0 index 100 type veth peer name b0");
            assert_eq!(tie.index(), None);
            let error = tie.turn(&[STRIPPING], Switch::Off).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::ENODEV));
        });
    }
}
