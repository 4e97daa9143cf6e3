//! A frame as a command line has it: hexadecimal digits, or words.

use std::net::IpAddr;

use clap::Args;
use hairpin_dataplane::frame::FRAME_BYTES_MAX;
use hairpin_dataplane::wire::Mac;
use hairpin_dataplane::wire::ethernet::{
    self, ETHERTYPE_IPV4, ETHERTYPE_IPV6, HEADER_BYTES, TPID_C, TPID_S,
};
use hairpin_proto::v1;

use super::UsageError;

/// The shortest frame on a wire, without FCS, in bytes.
const FRAME_BYTES_MIN: usize = 60;
/// EtherType of ARP.
const ETHERTYPE_ARP: u16 = 0x0806;
/// EtherType of no protocol: IEEE 802's first for local experiments.
const ETHERTYPE_EXPERIMENT: u16 = 0x88b5;
/// Addresses for documentation: RFC 5737, RFC 3849.
const ADDRESSES: [[&str; 2]; 2] = [["192.0.2.1", "192.0.2.2"], ["2001:db8::1", "2001:db8::2"]];
/// The port of the other end where none is named: the first that is anybody's.
const PORT_EPHEMERAL: u16 = 49_152;
/// Tags that are walked to find a packet.
const TAGS_MAX: usize = 2;

/// A frame in words. Checksums are 0: the switch does not look at them.
#[derive(Debug, Default, Args)]
#[group(skip)]
pub struct Words {
    /// Source: an address, or a port whose it is [default: one that PORT has]
    #[arg(long, value_name = "MAC|NAME")]
    pub src: Option<String>,
    /// Destination, likewise [default with --arp: broadcast]
    #[arg(long, value_name = "MAC|NAME")]
    pub dst: Option<String>,
    /// A C-tag's VID; 0 is a priority tag
    #[arg(long, value_name = "VID", value_parser = clap::value_parser!(u16).range(0..=4095))]
    vlan: Option<u16>,
    /// The priority in the tags
    #[arg(long, value_name = "PCP", value_parser = clap::value_parser!(u16).range(0..=7))]
    priority: Option<u16>,
    /// An S-tag's VID
    #[arg(long, value_name = "SVID", value_parser = clap::value_parser!(u16).range(0..=4095))]
    svid: Option<u16>,
    /// EtherType, as 0x0800 or in decimal
    #[arg(long, value_name = "TYPE", value_parser = ethertype)]
    ethertype: Option<u16>,
    /// A UDP datagram to this port
    #[arg(long, value_name = "PORT", conflicts_with_all = ["tcp", "arp", "ethertype"])]
    udp: Option<u16>,
    /// A TCP segment to this port
    #[arg(long, value_name = "PORT", conflicts_with_all = ["arp", "ethertype"])]
    tcp: Option<u16>,
    /// An ARP request for --ip-dst
    #[arg(long, conflicts_with = "ethertype")]
    arp: bool,
    /// Source address of a packet, IPv4 or IPv6
    #[arg(long, value_name = "ADDRESS", conflicts_with = "ethertype")]
    ip_src: Option<IpAddr>,
    /// Destination address of a packet, likewise
    #[arg(long, value_name = "ADDRESS", conflicts_with = "ethertype")]
    ip_dst: Option<IpAddr>,
    /// Bytes of the whole frame, without FCS [default: what it needs, 60 at least]
    #[arg(long, value_name = "BYTES")]
    size: Option<usize>,
}

/// A transport header, as far as the switch looks at it.
#[derive(Clone, Copy)]
enum Transport {
    Udp(u16),
    Tcp(u16),
    /// None: a packet without payload.
    Nothing,
}

impl Words {
    /// Whether any of them was given.
    #[must_use]
    pub fn are_given(&self) -> bool {
        let Words { src, dst, vlan, priority, svid, ethertype, udp, tcp, arp, .. } = self;
        src.is_some()
            || dst.is_some()
            || [vlan, priority, svid, ethertype, udp, tcp].iter().any(|word| word.is_some())
            || *arp
            || self.ip_src.is_some()
            || self.ip_dst.is_some()
            || self.size.is_some()
    }

    /// The destination where none is named.
    ///
    /// # Errors
    /// One has to be.
    pub fn default_destination(&self) -> Result<Mac, UsageError> {
        let missing = "the frame has no destination; say --dst MAC, or --dst NAME of a port";
        if self.arp { Ok(Mac::BROADCAST) } else { Err(UsageError(missing.to_owned())) }
    }

    /// The frame.
    ///
    /// # Errors
    /// The words contradict each other.
    pub fn frame(&self, destination: Mac, source: Mac) -> Result<Vec<u8>, UsageError> {
        if let Some(size) = self.size.filter(|size| !(1..=FRAME_BYTES_MAX).contains(size)) {
            let said = format!("--size {size} is out of range; write 1 to {FRAME_BYTES_MAX}");
            return Err(UsageError(said));
        }
        let mut bytes = [destination.octets(), source.octets()].concat();
        let priority = self.priority.unwrap_or(0) << 13;
        for (tpid, vid) in [(TPID_S, self.svid), (TPID_C, self.vlan)] {
            if let Some(vid) = vid {
                bytes.extend(tpid.to_be_bytes());
                bytes.extend((priority | vid).to_be_bytes());
            }
        }
        if self.priority.is_some() && bytes.len() == 12 {
            return Err(UsageError("--priority is of a tag; add --vlan 0".to_owned()));
        }
        let room = self.size.unwrap_or(FRAME_BYTES_MIN).saturating_sub(bytes.len() + 2);
        let (ethertype, packet) = self.packet(source, room)?;
        bytes.extend(ethertype.to_be_bytes());
        bytes.extend(packet);
        let size = self.size.unwrap_or(FRAME_BYTES_MIN.max(bytes.len()));
        bytes.resize(size, 0);
        Ok(bytes)
    }

    /// EtherType, and a packet that fills so many bytes, if it is a packet.
    fn packet(&self, source: Mac, room: usize) -> Result<(u16, Vec<u8>), UsageError> {
        let transport = match (self.udp, self.tcp) {
            (Some(port), _) => Transport::Udp(port),
            (None, Some(port)) => Transport::Tcp(port),
            (None, None) => Transport::Nothing,
        };
        let is_packet = !matches!(transport, Transport::Nothing)
            || self.ip_src.is_some()
            || self.ip_dst.is_some();
        if !self.arp && !is_packet {
            return Ok((self.ethertype.unwrap_or(ETHERTYPE_EXPERIMENT), Vec::new()));
        }
        match (self.addresses()?, self.arp) {
            ((IpAddr::V4(from), IpAddr::V4(to)), true) => {
                let head = [0, 1, 8, 0, 6, 4, 0, 1];
                let [from, to] = [from, to].map(|address| address.octets());
                let packet = [&head[..], &source.octets(), &from, &[0; 6], &to].concat();
                Ok((ETHERTYPE_ARP, packet))
            }
            ((from, to), false) => Ok(datagram(from, to, transport, room)),
            _ => Err(UsageError("--arp is of IPv4 addresses; IPv6 has no ARP".to_owned())),
        }
    }

    fn addresses(&self) -> Result<(IpAddr, IpAddr), UsageError> {
        let is_ipv6 = self.ip_src.or(self.ip_dst).is_some_and(|address| address.is_ipv6());
        let default = |text: &str| -> IpAddr { text.parse().expect("it is an address") };
        let [from, to] = ADDRESSES[usize::from(is_ipv6)].map(default);
        let (from, to) = (self.ip_src.unwrap_or(from), self.ip_dst.unwrap_or(to));
        if from.is_ipv6() == to.is_ipv6() {
            return Ok((from, to));
        }
        let said = format!("--ip-src {from} and --ip-dst {to} are not of one family");
        Err(UsageError(said))
    }
}

/// EtherType and packet.
fn datagram(from: IpAddr, to: IpAddr, transport: Transport, room: usize) -> (u16, Vec<u8>) {
    let is_ipv6 = from.is_ipv6();
    let header = if is_ipv6 { 40 } else { 20 };
    let (protocol, mut segment) = match transport {
        Transport::Udp(port) => (17, ports(port)),
        Transport::Tcp(port) => (6, ports(port)),
        // IPv6's "no next header"; in IPv4 the first number for experiments (RFC 3692).
        Transport::Nothing => (if is_ipv6 { 59 } else { 253 }, Vec::new()),
    };
    let shortest: usize = match transport {
        Transport::Udp(_) => 8,
        Transport::Tcp(_) => 20,
        Transport::Nothing => 0,
    };
    let length = shortest.max(room.saturating_sub(header));
    let word = |number: usize| u16::try_from(number).unwrap_or(u16::MAX).to_be_bytes();
    match transport {
        Transport::Udp(_) => segment.extend([word(length), [0, 0]].concat()),
        // Sequence and acknowledgement, the header's length, ACK, a window.
        Transport::Tcp(_) => {
            segment.extend([0, 0, 0, 1, 0, 0, 0, 1, 0x50, 0x10, 0xff, 0xff, 0, 0, 0, 0]);
        }
        Transport::Nothing => {}
    }
    segment.resize(length, 0);
    match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let [high, low] = word(header + length);
            let head = [0x45, 0, high, low, 0, 0, 0x40, 0, 64, protocol, 0, 0];
            let packet = [&head[..], &from.octets(), &to.octets(), &segment].concat();
            (ETHERTYPE_IPV4, packet)
        }
        (from, to) => {
            let [high, low] = word(length);
            let octets = |address| match address {
                IpAddr::V4(it) => it.to_ipv6_mapped().octets(),
                IpAddr::V6(it) => it.octets(),
            };
            let head = [0x60, 0, 0, 0, high, low, protocol, 64];
            let packet = [&head[..], &octets(from), &octets(to), &segment].concat();
            (ETHERTYPE_IPV6, packet)
        }
    }
}

fn ports(to: u16) -> Vec<u8> {
    [PORT_EPHEMERAL.to_be_bytes(), to.to_be_bytes()].concat()
}

fn ethertype(text: &str) -> Result<u16, String> {
    let number = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) => u16::from_str_radix(digits, 16),
        None => text.parse(),
    };
    number.map_err(|_| "write a number such as 0x0800".to_owned())
}

/// The bytes of hexadecimal digits. Blanks, colons, dots, dashes and `0x` between them do
/// not matter, nor do offsets as in `tcpdump -xx` (`0x0010:`).
///
/// # Errors
/// Something else is there, half a byte, or too much.
pub fn hex(words: &[String]) -> Result<Vec<u8>, UsageError> {
    let mut digits = Vec::new();
    for word in words.iter().flat_map(|word| word.split_whitespace()) {
        let is_prefixed = word.starts_with("0x") || word.starts_with("0X");
        if is_prefixed && word.ends_with(':') {
            continue;
        }
        let rest = if is_prefixed { &word[2..] } else { word };
        for character in rest.chars().filter(|it| !matches!(it, ':' | '.' | '-' | '_' | ',')) {
            let digit = character.to_digit(16).ok_or_else(|| {
                let said = "is no hexadecimal digit; write the frame as 525400000001…, or in words";
                UsageError(format!("frame: {character:?} in {word:?} {said}"))
            })?;
            digits.push(digit as u8);
        }
    }
    let count = digits.len();
    if count % 2 != 0 {
        return Err(UsageError(format!("frame: {count} digits are half a byte too many")));
    }
    if count > 2 * FRAME_BYTES_MAX {
        let said = format!("frame: {} bytes are too many; send 1 to {FRAME_BYTES_MAX}", count / 2);
        return Err(UsageError(said));
    }
    Ok(digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect())
}

/// What a guest leaves to do on a frame of TCP or UDP that is to be cut into segments of so
/// many bytes.
///
/// # Errors
/// It is neither, or its headers are not all there.
pub fn to_be_cut(frame: &[u8], segment_bytes: u16) -> Result<v1::WhyOffload, UsageError> {
    use v1::WhySegmentation::{Tcp4, Tcp6, Udp};
    let refused = || UsageError("--segment is of TCP or UDP; the frame is neither".to_owned());
    let network = ethernet::network_offset(frame, TAGS_MAX);
    let (transport, protocol, tcp) = match ethernet::word(frame, network - 2) {
        Some(ETHERTYPE_IPV4) => {
            let first = frame.get(network).ok_or_else(refused)?;
            let protocol = frame.get(network + 9).ok_or_else(refused)?;
            (network + usize::from(first & 0xf) * 4, protocol, Tcp4)
        }
        Some(ETHERTYPE_IPV6) => (network + 40, frame.get(network + 6).ok_or_else(refused)?, Tcp6),
        _ => return Err(refused()),
    };
    let (segmentation, checksum_offset) = match protocol {
        6 => (tcp, 16),
        17 => (Udp, 6),
        _ => return Err(refused()),
    };
    let checksum_start = u32::try_from(transport).map_err(|_| refused())?;
    let (segmentation, segment_bytes) = (segmentation.into(), segment_bytes.into());
    Ok(v1::WhyOffload { checksum_start, checksum_offset, segmentation, segment_bytes })
}

/// The addresses of a frame, if it has them.
#[must_use]
pub fn addresses(frame: &[u8]) -> Option<(Mac, Mac)> {
    (frame.len() >= HEADER_BYTES).then(|| ethernet::addresses(frame))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<u8>, String> {
        hex(&[text.to_owned()]).map_err(|error| error.0)
    }

    #[test]
    fn hex_is_read_however_it_is_cut() {
        let expected = Ok(vec![0x52, 0x54, 0, 0xab, 0xcd]);
        for text in [
            "525400abcd",
            "0x525400ABCD",
            "52:54:00:ab:cd",
            "52-54-00 ab.cd",
            "0x52 0x54 0x00, 0xab 0xcd",
            "\t0x0000:  5254 00ab\n\t0x0004:  cd",
        ] {
            assert_eq!(read(text), expected, "{text:?}");
        }
        assert_eq!(read(""), Ok(vec![]));
        assert!(read("525").unwrap_err().contains("3 digits are half a byte too many"));
        assert!(read("52 5g").unwrap_err().contains("'g' in \"5g\" is no hexadecimal digit"));
        assert!(read(&"00".repeat(FRAME_BYTES_MAX + 1)).unwrap_err().contains("too many"));
        assert_eq!(read(&"00".repeat(FRAME_BYTES_MAX)).map(|it| it.len()), Ok(FRAME_BYTES_MAX));
    }

    const TO: Mac = Mac::new([2, 0, 0, 0, 0, 2]);
    const FROM: Mac = Mac::new([2, 0, 0, 0, 0, 1]);

    fn built(words: &Words) -> Vec<u8> {
        words.frame(TO, FROM).unwrap_or_default()
    }

    #[test]
    fn words_make_a_frame_of_what_they_say() {
        let plain = built(&Words::default());
        assert_eq!((plain.len(), &plain[12..14]), (60, &[0x88, 0xb5][..]));
        let tagged = Words {
            vlan: Some(10),
            svid: Some(100),
            priority: Some(5),
            udp: Some(53),
            size: Some(100),
            ..Words::default()
        };
        let bytes = built(&tagged);
        assert_eq!(bytes.len(), 100);
        assert_eq!(bytes[12..24], [0x88, 0xa8, 0xa0, 100, 0x81, 0, 0xa0, 10, 8, 0, 0x45, 0]);
        // 100 - 22 bytes of packet, 58 of datagram.
        assert_eq!((&bytes[24..26], &bytes[46..48]), (&[0, 78][..], &[0, 58][..]));
        assert_eq!(bytes[44..46], [0, 53]);
        let ipv6 = Words { ip_dst: "2001:db8::9".parse().ok(), tcp: Some(80), ..Words::default() };
        let bytes = built(&ipv6);
        assert_eq!((bytes.len(), &bytes[12..15]), (14 + 40 + 20, &[0x86, 0xdd, 0x60][..]));
        let arp = Words { arp: true, ..Words::default() };
        assert_eq!(built(&arp)[12..22], [8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
        assert_eq!(arp.default_destination().ok(), Some(Mac::BROADCAST));
        assert_eq!(built(&Words { size: Some(13), ..Words::default() }).len(), 13);
    }

    #[test]
    fn words_that_contradict_each_other_are_refused() {
        let refused = |words: Words| words.frame(TO, FROM).unwrap_err().0;
        let families = Words {
            ip_src: "192.0.2.1".parse().ok(),
            ip_dst: "2001:db8::1".parse().ok(),
            ..Words::default()
        };
        assert!(refused(families).contains("not of one family"));
        let arp = Words { arp: true, ip_dst: "2001:db8::1".parse().ok(), ..Words::default() };
        assert!(refused(arp).contains("IPv6 has no ARP"));
        assert!(refused(Words { priority: Some(1), ..Words::default() }).contains("--vlan 0"));
        assert!(refused(Words { size: Some(70_000), ..Words::default() }).contains("out of range"));
        assert!(Words::default().default_destination().is_err());
    }

    #[test]
    fn what_is_to_be_cut_is_found_behind_tags() {
        let words = Words { vlan: Some(10), tcp: Some(80), size: Some(9000), ..Words::default() };
        let offload = to_be_cut(&built(&words), 1448).ok();
        assert_eq!(
            offload,
            Some(v1::WhyOffload {
                checksum_start: 18 + 20,
                checksum_offset: 16,
                segmentation: v1::WhySegmentation::Tcp4.into(),
                segment_bytes: 1448,
            })
        );
        let udp = Words { udp: Some(53), ip_dst: "2001:db8::9".parse().ok(), ..Words::default() };
        let offload = to_be_cut(&built(&udp), 100).ok();
        let found = offload.map(|it| (it.checksum_start, it.checksum_offset));
        assert_eq!(found, Some((54, 6)));
        assert!(to_be_cut(&built(&Words::default()), 100).is_err());
        assert!(to_be_cut(&[], 100).is_err());
    }
}
