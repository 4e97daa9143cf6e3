//! One frame out of a capture: classic pcap of either byte order, in micro- or nanoseconds,
//! and pcapng (<https://www.ietf.org/archive/id/draft-ietf-opsawg-pcap-04.html>, and
//! `-pcapng-02`). Only what finds a frame is read.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use anyhow::{Context, anyhow, bail};
use hairpin_dataplane::frame::{FRAME_BYTES_MAX, HEADER_BYTES};

/// Link type of Ethernet.
const ETHERNET: u16 = 1;
/// The first word of a classic capture in microseconds, and in nanoseconds.
const CLASSIC: [u32; 2] = [0xa1b2_c3d4, 0xa1b2_3c4d];
/// The first word of a pcapng section, which reads the same either way round.
const SECTION: u32 = 0x0a0d_0d0a;
/// What tells a section's byte order.
const ORDER: u32 = 0x1a2b_3c4d;
/// Block types: interface, packet (obsolete), simple packet, enhanced packet.
const INTERFACE: u32 = 1;
const PACKET: u32 = 2;
const SIMPLE: u32 = 3;
const ENHANCED: u32 = 6;
/// Bytes of a block or record, at most: more is no capture of frames.
const BLOCK_BYTES_MAX: usize = 16 << 20;

/// Which end of a number comes first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Order {
    Big,
    Little,
}

impl Order {
    fn long(self, bytes: &[u8], at: usize) -> anyhow::Result<u32> {
        let bytes = bytes.get(at..).and_then(|rest| rest.first_chunk()).ok_or_else(cut)?;
        Ok(match self {
            Order::Big => u32::from_be_bytes(*bytes),
            Order::Little => u32::from_le_bytes(*bytes),
        })
    }

    fn short(self, bytes: &[u8], at: usize) -> anyhow::Result<u16> {
        let bytes = bytes.get(at..).and_then(|rest| rest.first_chunk()).ok_or_else(cut)?;
        Ok(match self {
            Order::Big => u16::from_be_bytes(*bytes),
            Order::Little => u16::from_le_bytes(*bytes),
        })
    }

    /// The order in which the first word is one of these.
    fn of(first: [u8; 4], words: &[u32]) -> Option<Order> {
        let orders = [Order::Big, Order::Little];
        orders.into_iter().find(|order| order.long(&first, 0).is_ok_and(|it| words.contains(&it)))
    }
}

fn cut() -> anyhow::Error {
    anyhow!("it ends in the middle")
}

/// A frame as it was captured.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Captured {
    /// Its link type.
    link: u16,
    /// What was captured of it.
    bytes: Vec<u8>,
    /// Its length.
    length: usize,
}

impl Captured {
    /// The frame. Where its end was not captured, that is zeros, if it is behind all that a
    /// switch looks at.
    fn whole(mut self) -> anyhow::Result<Vec<u8>> {
        if self.link != ETHERNET {
            bail!("it is of link type {}, not of Ethernet (1)", self.link);
        }
        if self.length > FRAME_BYTES_MAX {
            bail!("it has {} bytes; the longest frame has {FRAME_BYTES_MAX}", self.length);
        }
        let captured = self.bytes.len();
        if captured < self.length.min(HEADER_BYTES) {
            bail!(
                "only {captured} of its {} bytes were captured; capture {HEADER_BYTES} at least",
                self.length
            );
        }
        self.bytes.resize(self.length.max(captured), 0);
        Ok(self.bytes)
    }
}

/// A frame of a capture, by its number, from 1.
///
/// # Errors
/// There is no such file, it is no capture, or has no such frame of Ethernet.
pub fn frame(file: &Path, number: u64) -> anyhow::Result<Vec<u8>> {
    let named = || file.display().to_string();
    let opened = File::open(file).with_context(named)?;
    let mut count = 0;
    let found = find(&mut BufReader::new(opened), number, &mut count).with_context(named)?;
    let found = found.ok_or_else(|| {
        let has = if count == 1 { "1 frame".to_owned() } else { format!("{count} frames") };
        anyhow!("{}: there is no frame {number}: it has {has}", file.display())
    })?;
    found.whole().with_context(|| format!("{}: frame {number}", file.display()))
}

/// The frame of this number; nothing if there are only `count`.
fn find(reader: &mut impl Read, number: u64, count: &mut u64) -> anyhow::Result<Option<Captured>> {
    let mut first = [0; 4];
    let not_one = "it is no capture; give a file of tcpdump's, Wireshark's or `hairpin capture`'s";
    reader.read_exact(&mut first).context(not_one)?;
    if let Some(order) = Order::of(first, &CLASSIC) {
        return find_classic(reader, order, number, count);
    }
    if Order::of(first, &[SECTION]).is_some() {
        return find_block(reader, number, count);
    }
    bail!(not_one)
}

fn find_classic(
    reader: &mut impl Read,
    order: Order,
    number: u64,
    count: &mut u64,
) -> anyhow::Result<Option<Captured>> {
    let mut rest = [0; 20];
    reader.read_exact(&mut rest).map_err(|_| cut())?;
    // The upper half says whether an FCS is behind each frame, of how many 16-bit words.
    let link_and_fcs = order.long(&rest, 16)?;
    let link = link_and_fcs as u16;
    let has_fcs = link_and_fcs & 1 << 26 != 0;
    let fcs_bytes = if has_fcs { 2 * (link_and_fcs >> 28) as usize } else { 0 };
    while let Some(header) = next::<16>(reader)? {
        let (captured, length) = (order.long(&header, 8)?, order.long(&header, 12)?);
        let mut bytes = body(reader, captured as usize)?;
        *count += 1;
        if *count == number {
            let length = (length as usize).saturating_sub(fcs_bytes);
            bytes.truncate(length);
            return Ok(Some(Captured { link, bytes, length }));
        }
    }
    Ok(None)
}

/// What a section has said so far.
struct Section {
    order: Order,
    /// Link types of its interfaces.
    interfaces: Vec<u16>,
}

/// Looks at blocks, of the first of which the first word has been read.
fn find_block(
    reader: &mut impl Read,
    number: u64,
    count: &mut u64,
) -> anyhow::Result<Option<Captured>> {
    let length = next(reader)?.ok_or_else(cut)?;
    let mut section = section(reader, length)?;
    while let Some(head) = next::<8>(reader)? {
        if Order::of([head[0], head[1], head[2], head[3]], &[SECTION]).is_some() {
            section = self::section(reader, [head[4], head[5], head[6], head[7]])?;
            continue;
        }
        let order = section.order;
        let (kind, length) = (order.long(&head, 0)?, order.long(&head, 4)? as usize);
        let block = body(reader, length.checked_sub(8).ok_or_else(cut)?)?;
        if kind == INTERFACE {
            section.interfaces.push(order.short(&block, 0)?);
        }
        if let Some(captured) = packet(&section, kind, &block)? {
            *count += 1;
            if *count == number {
                return Ok(Some(captured));
            }
        }
    }
    Ok(None)
}

/// A section that begins with a block of this length, whose byte order is still to be seen.
fn section(reader: &mut impl Read, length: [u8; 4]) -> anyhow::Result<Section> {
    let order = Order::of(next(reader)?.ok_or_else(cut)?, &[ORDER]);
    let order = order.ok_or_else(|| anyhow!("its section header is none"))?;
    let length = order.long(&length, 0)? as usize;
    body(reader, length.checked_sub(12).ok_or_else(cut)?)?;
    Ok(Section { order, interfaces: Vec::new() })
}

/// The frame of a block, if it has one.
fn packet(section: &Section, kind: u32, block: &[u8]) -> anyhow::Result<Option<Captured>> {
    let order = section.order;
    let (interface, lengths) = match kind {
        ENHANCED => (order.long(block, 0)? as usize, 12),
        PACKET => (usize::from(order.short(block, 0)?), 12),
        SIMPLE => (0, 0),
        _ => return Ok(None),
    };
    let link = *section.interfaces.get(interface).ok_or_else(|| {
        anyhow!("a frame is of interface {interface}, which was not described before")
    })?;
    let (captured, length, start) = match kind {
        // Its captured length is what the block has room for, before the length's copy.
        SIMPLE => {
            let length = order.long(block, 0)? as usize;
            (length.min(block.len().saturating_sub(8)), length, 4)
        }
        _ => {
            let captured = order.long(block, lengths)? as usize;
            (captured, order.long(block, lengths + 4)? as usize, lengths + 8)
        }
    };
    let bytes = block.get(start..start + captured).ok_or_else(cut)?.to_vec();
    Ok(Some(Captured { link, bytes, length }))
}

/// The next bytes; nothing at the end of the file.
fn next<const BYTES: usize>(reader: &mut impl Read) -> anyhow::Result<Option<[u8; BYTES]>> {
    let mut bytes = [0; BYTES];
    let mut filled = 0;
    while filled < BYTES {
        match reader.read(&mut bytes[filled..])? {
            0 if filled == 0 => return Ok(None),
            0 => return Err(cut()),
            read => filled += read,
        }
    }
    Ok(Some(bytes))
}

fn body(reader: &mut impl Read, bytes: usize) -> anyhow::Result<Vec<u8>> {
    if bytes > BLOCK_BYTES_MAX {
        bail!("a block of {bytes} bytes is no frame's; it is damaged");
    }
    let mut body = vec![0; bytes];
    reader.read_exact(&mut body).map_err(|_| cut())?;
    Ok(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers in one order or the other.
    fn long(order: Order, number: u32) -> [u8; 4] {
        match order {
            Order::Big => number.to_be_bytes(),
            Order::Little => number.to_le_bytes(),
        }
    }

    fn longs(order: Order, numbers: &[u32]) -> Vec<u8> {
        numbers.iter().flat_map(|&number| long(order, number)).collect()
    }

    fn two() -> [Vec<u8>; 2] {
        [vec![1; 60], vec![2; 61]]
    }

    fn classic(order: Order, magic: u32, link: u32) -> Vec<u8> {
        // Version 2.4 is two short numbers: they are not looked at.
        let mut file = longs(order, &[magic, 0, 0, 0, 65_535, link]);
        for frame in two() {
            let length = frame.len() as u32;
            file.extend(longs(order, &[7, 8, length, length]));
            file.extend(frame);
        }
        file
    }

    fn block(order: Order, kind: u32, body: &[u8]) -> Vec<u8> {
        let padded = body.len().next_multiple_of(4);
        let length = long(order, padded as u32 + 12);
        let mut block = [&long(order, kind)[..], &length, body].concat();
        block.resize(8 + padded, 0);
        block.extend(length);
        block
    }

    /// A section with an interface and both frames, the second one in a block of this kind.
    fn section_of(order: Order, kind: u32) -> Vec<u8> {
        let [first, second] = two();
        let lengths = |frame: &Vec<u8>| [frame.len() as u32; 2];
        let mut file = block(order, SECTION, &longs(order, &[ORDER, 1, u32::MAX, u32::MAX]));
        let link = match order {
            Order::Big => 1_u16.to_be_bytes(),
            Order::Little => 1_u16.to_le_bytes(),
        };
        file.extend(block(order, INTERFACE, &[&link[..], &[0; 6]].concat()));
        let enhanced = |frame: &Vec<u8>| {
            let [captured, length] = lengths(frame);
            [longs(order, &[0, 1, 2, captured, length]), frame.clone()].concat()
        };
        file.extend(block(order, ENHANCED, &enhanced(&first)));
        // A block of no interest: name resolution.
        file.extend(block(order, 4, &[0; 8]));
        file.extend(match kind {
            SIMPLE => block(order, SIMPLE, &[longs(order, &[61]), second].concat()),
            kind => block(order, kind, &enhanced(&second)),
        });
        file
    }

    fn read(file: &[u8], number: u64) -> Result<Vec<u8>, String> {
        let mut count = 0;
        let found = find(&mut &file[..], number, &mut count).map_err(|error| error.to_string())?;
        let found = found.ok_or_else(|| format!("{count} frames"))?;
        found.whole().map_err(|error| error.to_string())
    }

    fn assert_has_both(file: &[u8]) {
        let [first, second] = two();
        assert_eq!(read(file, 1), Ok(first));
        assert_eq!(read(file, 2), Ok(second));
        assert_eq!(read(file, 3), Err("2 frames".to_owned()));
        assert_eq!(read(file, 0), Err("2 frames".to_owned()));
        // Cut anywhere, it says so or has fewer frames: it is not read beyond.
        for length in 0..file.len() {
            assert!(read(&file[..length], 2).is_err(), "of {length} bytes");
        }
    }

    #[test]
    fn frames_of_a_classic_capture_are_found_in_either_order_and_unit() {
        for order in [Order::Big, Order::Little] {
            for magic in CLASSIC {
                assert_has_both(&classic(order, magic, 1));
            }
        }
    }

    #[test]
    fn so_are_those_of_pcapng_sections() {
        for order in [Order::Big, Order::Little] {
            for kind in [ENHANCED, PACKET] {
                assert_has_both(&section_of(order, kind));
            }
            let simple = section_of(order, SIMPLE);
            assert_eq!(read(&simple, 2), Ok(two()[1].clone()));
        }
        let both = [section_of(Order::Big, ENHANCED), section_of(Order::Little, ENHANCED)].concat();
        assert_eq!(read(&both, 4), Ok(two()[1].clone()));
        assert_eq!(read(&both, 5), Err("4 frames".to_owned()));
    }

    #[test]
    fn what_is_no_capture_of_ethernet_is_refused() {
        assert!(read(b"[[link]]", 1).unwrap_err().contains("no capture"));
        let wireless = classic(Order::Little, CLASSIC[0], 105);
        assert!(read(&wireless, 1).unwrap_err().contains("link type 105"));
        let mut huge = classic(Order::Little, CLASSIC[0], 1);
        huge[32..36].copy_from_slice(&[0xff; 4]);
        assert!(read(&huge, 1).unwrap_err().contains("damaged"));
    }

    #[test]
    fn a_frame_whose_end_was_not_captured_is_as_long_as_it_was() {
        let cut_to = |bytes: usize| {
            let captured = Captured { link: 1, bytes: vec![1; bytes], length: 1514 };
            captured.whole().map(|frame| frame.len()).map_err(|error| error.to_string())
        };
        assert_eq!(cut_to(128), Ok(1514));
        assert!(cut_to(127).unwrap_err().contains("only 127 of its 1514 bytes"));
    }
}
