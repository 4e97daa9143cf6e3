//! Segmentation in software beside the kernel's own, byte for byte: the same TSO
//! frames, taken from a TCP connection as its sender's stack made them, are cut by
//! us and sent through a netdev that cannot cut them.

use std::time::{Duration, Instant};

use hairpin_dataplane::sys::packet_socket::{
    Direction, Format, PacketSocket, VIRTIO_NET_HEADER_BYTES,
};
use hairpin_dataplane::wire::offload::{Offload, Segmentation};
use hairpin_dataplane::wire::segment::to_frames;
use hairpin_dataplane::wire::virtio_net::decode_legacy;
use hairpin_tests::bed::{Family, Flooding, Host, KernelBridge, Namespace, Result, Stream, root};

use crate::experiment::EXPERIMENTAL;

const BUFFER_BYTES: usize = 68 * 1024;
/// Frames taken of each connection.
const SPECIMENS: usize = 10;
const ETHERNET_BYTES: usize = 14;
/// `VIRTIO_NET_HDR_GSO_ECN`, in the header's second byte.
const GSO_ECN: u8 = 0x80;

/// A frame with what its sender left to do.
#[derive(Clone)]
struct Specimen {
    header: [u8; VIRTIO_NET_HEADER_BYTES],
    bytes: Vec<u8>,
}

impl Specimen {
    fn parse(raw: &[u8]) -> Option<Specimen> {
        let (header, bytes) = raw.split_first_chunk()?;
        Some(Specimen { header: *header, bytes: bytes.to_vec() })
    }

    fn offload(&self) -> Offload {
        decode_legacy(&self.header).unwrap()
    }

    /// Where the TCP header starts: at the first byte summed.
    fn transport(&self) -> usize {
        u16::from_le_bytes([self.header[6], self.header[7]]).into()
    }

    /// With these TCP flags besides its own.
    fn with_flags(&self, flags: u8) -> Specimen {
        let mut changed = self.clone();
        changed.bytes[self.transport() + 13] |= flags;
        changed
    }

    /// With CWR, and the word that it is meant for the first segment only.
    fn with_ecn(&self) -> Specimen {
        let mut changed = self.with_flags(0x80);
        changed.header[1] |= GSO_ECN;
        changed
    }

    /// With an IPv4 identification about to wrap around (IPv6 has none: as it is).
    fn with_wrapping_identification(&self) -> Specimen {
        let mut changed = self.clone();
        if self.bytes[12..14] == [0x08, 0x00] {
            changed.bytes[ETHERNET_BYTES + 4..ETHERNET_BYTES + 6].copy_from_slice(&[0xff, 0xfe]);
        }
        changed
    }

    /// In a VLAN: four bytes more before what is summed.
    fn with_tag(&self) -> Specimen {
        let mut changed = self.clone();
        changed.bytes.splice(12..12, [0x81, 0x00, 0x60, 0x0a]);
        let start = self.transport() as u16 + 4;
        changed.header[6..8].copy_from_slice(&start.to_le_bytes());
        let length = u16::from_le_bytes([self.header[2], self.header[3]]) + 4;
        changed.header[2..4].copy_from_slice(&length.to_le_bytes());
        changed
    }

    fn raw(&self) -> Vec<u8> {
        [&self.header[..], &self.bytes].concat()
    }
}

/// A veth pair whose sending end can neither cut nor sum.
struct PlainNetdev {
    _namespace: Namespace,
    sender: PacketSocket,
    receiver: PacketSocket,
}

impl PlainNetdev {
    fn new() -> Result<PlainNetdev> {
        let namespace = Namespace::new()?;
        namespace.ip("link add name plain0 mtu 9100 type veth peer name plain1 mtu 9100")?;
        namespace.run("ethtool -K plain0 tx off tso off gso off")?;
        for interface in ["plain0", "plain1"] {
            namespace.ip(&format!("link set {interface} up"))?;
        }
        let open = |name: &str, format| {
            namespace.enter(|| PacketSocket::open(name, format)).map(|opened| opened.unwrap())
        };
        let sender = open("plain0", Format::VirtioNet)?;
        let receiver = open("plain1", Format::Ethernet)?;
        receiver.set_patience(Some(Duration::from_secs(3))).unwrap();
        Ok(PlainNetdev { _namespace: namespace, sender, receiver })
    }

    /// The frames that the kernel makes of a specimen: all of them, by a frame of the
    /// same source that follows them.
    fn cut(&self, specimen: &Specimen) -> Vec<Vec<u8>> {
        let (addresses, _) = specimen.bytes.split_first_chunk::<12>().unwrap();
        let last = Specimen {
            header: [0; VIRTIO_NET_HEADER_BYTES],
            bytes: [&addresses[..], &EXPERIMENTAL, &[0; 46]].concat(),
        };
        self.sender.send(&specimen.raw()).unwrap();
        self.sender.send(&last.raw()).unwrap();
        let frames = std::iter::repeat_with(|| self.next_from(&addresses[6..12]));
        frames.take_while(|frame| *frame != last.bytes).collect()
    }

    /// The next frame of a source: the pair's own ends talk now and then.
    fn next_from(&self, source: &[u8]) -> Vec<u8> {
        let mut buffer = vec![0; BUFFER_BYTES];
        loop {
            let received = self.receiver.receive(&mut buffer).expect("one more segment");
            let mut bytes = buffer[..received.length].to_vec();
            if let Some((tpid, tci)) = received.tag {
                bytes.splice(12..12, [tpid.to_be_bytes(), tci.to_be_bytes()].concat());
            }
            if received.direction == Direction::Incoming && bytes[6..12] == *source {
                return bytes;
            }
        }
    }
}

/// Frames on which the stack of a host left work to do, from a connection over a
/// kernel bridge: its first ones, without sums, and long ones, uncut.
fn specimens(from: &Host, to: &Host, family: Family) -> Vec<Specimen> {
    let open = || PacketSocket::open(from.interface(), Format::VirtioNet);
    let socket = from.namespace().enter(open).unwrap().unwrap();
    socket.set_patience(Some(Duration::from_secs(1))).unwrap();
    let _stream = Stream::start(from, to, family, |_| {}).unwrap();
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut found: Vec<Specimen> = Vec::new();
    let end = Instant::now() + Duration::from_secs(10);
    while found.len() < SPECIMENS {
        assert!(Instant::now() < end, "{family}: no frames without sums from the kernel");
        let Ok(received) = socket.receive(&mut buffer) else { continue };
        let specimen = Specimen::parse(&buffer[..received.length]).unwrap();
        let is_new = found.iter().all(|known| known.bytes.len() != specimen.bytes.len());
        let unfinished = !specimen.offload().is_complete();
        // Frames of one length are much alike; with some of each, any will do.
        let welcome = is_new || found.len() > SPECIMENS / 2;
        if received.direction == Direction::Outgoing && unfinished && welcome {
            found.push(specimen);
        }
    }
    found
}

/// Asserts that both make the same of a specimen; says how many segments.
fn assert_cut_alike(netdev: &PlainNetdev, specimen: &Specimen, what: &str) -> usize {
    let ours = to_frames(&specimen.bytes, &specimen.offload()).unwrap();
    let theirs = netdev.cut(specimen);
    for (index, (ours, theirs)) in ours.iter().zip(&theirs).enumerate() {
        let differs = ours.iter().zip(theirs).position(|(a, b)| a != b);
        assert_eq!(
            (ours.len(), differs),
            (theirs.len(), None),
            "{what}, segment {index}: length, first byte that differs\n{:x?}\n{:x?}",
            &ours[..ours.len().min(80)],
            &theirs[..theirs.len().min(80)]
        );
    }
    assert_eq!(ours.len(), theirs.len(), "{what}: segments");
    ours.len()
}

#[test]
fn tso_frames_are_cut_as_the_kernel_cuts_them() {
    let Some(_root) = root() else { return };
    let bridge = KernelBridge::new(Flooding::Unknown).unwrap();
    let (one, two) = (bridge.host(1).unwrap(), bridge.host(2).unwrap());
    let netdev = PlainNetdev::new().unwrap();
    for (mtu, timestamps) in [(1500, "1"), (1500, "0"), (1281, "1"), (9000, "1")] {
        bridge.set_mtu(mtu).unwrap();
        for host in [&one, &two] {
            host.set_mtu(mtu).unwrap();
            host.namespace().set_sysctl("net/ipv4/tcp_timestamps", timestamps).unwrap();
        }
        for family in Family::ALL {
            let mut segments_max = 0;
            for specimen in specimens(&one, &two, family) {
                let mut check = |specimen: &Specimen, change: &str| {
                    let what = format!("{family} {mtu} {timestamps} {change}");
                    segments_max = assert_cut_alike(&netdev, specimen, &what).max(segments_max);
                };
                check(&specimen, "as it is");
                check(&specimen.with_flags(0x01 | 0x08), "FIN and PSH");
                check(&specimen.with_flags(0x80 | 0x40), "CWR and ECE");
                check(&specimen.with_wrapping_identification(), "identification");
                check(&specimen.with_tag(), "tagged");
                if specimen.offload().segmentation != Segmentation::None {
                    check(&specimen.with_ecn(), "CWR for the first");
                }
            }
            assert!(segments_max > 2, "{family} {mtu}: nothing was cut");
        }
    }
}
