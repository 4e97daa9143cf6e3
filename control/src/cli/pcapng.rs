//! The pcapng that the API sends, read back: whole blocks, little endian, times in
//! nanoseconds. What is not known is passed over.

use hairpin_dataplane::port::pcapng::Direction;

const INTERFACE_DESCRIPTION: u32 = 1;
const ENHANCED_PACKET: u32 = 6;
/// Type and length before a block's body; the length once more behind it.
const BLOCK_HEAD_BYTES: usize = 8;
const BLOCK_TAIL_BYTES: usize = 4;
/// Before the options, or the frame.
const INTERFACE_BYTES: usize = 8;
const PACKET_BYTES: usize = 20;

const OPTION_COMMENT: u16 = 1;
const IF_NAME: u16 = 2;
const EPB_FLAGS: u16 = 2;
/// The direction's bits in a packet's flags.
const DIRECTION_BITS: u8 = 0b11;
const OUTBOUND: u8 = 0b10;

/// A frame of a capture.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Captured<'c> {
    /// The port or link.
    pub port: &'c str,
    /// Nanoseconds since 1970-01-01 UTC.
    pub time_ns: u64,
    /// Which way it went.
    pub way: Direction,
    /// Its length in bytes when it passed.
    pub length: u32,
    /// Its first bytes.
    pub bytes: &'c [u8],
    /// What is said of it.
    pub comment: Option<&'c str>,
}

/// It is not what the API sends.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the switch sent a capture that is none; are both of one version?")]
pub struct Malformed;

/// Reads parts of one capture, one after the other.
#[derive(Debug, Default)]
pub struct Reader {
    ports: Vec<String>,
}

impl Reader {
    /// The frames of a part, in order.
    ///
    /// # Errors
    /// [`Malformed`]: the part does not consist of whole blocks.
    pub fn read<'c>(&'c mut self, part: &'c [u8]) -> Result<Vec<Captured<'c>>, Malformed> {
        let blocks = blocks(part)?;
        for (kind, body) in &blocks {
            if *kind == INTERFACE_DESCRIPTION {
                let options = body.get(INTERFACE_BYTES..).ok_or(Malformed)?;
                let name = option(options, IF_NAME).unwrap_or_default();
                self.ports.push(String::from_utf8_lossy(name).into_owned());
            }
        }
        let reader: &'c Reader = self;
        let packets = blocks.iter().filter(|(kind, _)| *kind == ENHANCED_PACKET);
        packets.map(|(_, body)| reader.packet(body).ok_or(Malformed)).collect()
    }

    fn packet<'c>(&'c self, body: &'c [u8]) -> Option<Captured<'c>> {
        let (head, rest) = body.split_at_checked(PACKET_BYTES)?;
        let word = |index: usize| number(head, 4 * index);
        let (high, low) = (word(1)?, word(2)?);
        let kept = word(3)? as usize;
        let bytes = rest.get(..kept)?;
        let options = rest.get(kept.next_multiple_of(4)..)?;
        let flags = option(options, EPB_FLAGS).and_then(|flags| flags.first().copied());
        let is_outbound = flags.unwrap_or(0) & DIRECTION_BITS == OUTBOUND;
        Some(Captured {
            port: self.ports.get(word(0)? as usize)?,
            time_ns: (u64::from(high) << 32) | u64::from(low),
            way: if is_outbound { Direction::Outbound } else { Direction::Inbound },
            length: word(4)?,
            bytes,
            comment: option(options, OPTION_COMMENT).and_then(|text| str::from_utf8(text).ok()),
        })
    }
}

/// Types and bodies of blocks.
fn blocks(mut part: &[u8]) -> Result<Vec<(u32, &[u8])>, Malformed> {
    let mut blocks = Vec::new();
    while !part.is_empty() {
        let (kind, length) = (number(part, 0).ok_or(Malformed)?, number(part, 4));
        let length = length.ok_or(Malformed)? as usize;
        let (block, behind) = part.split_at_checked(length).ok_or(Malformed)?;
        let end = length.checked_sub(BLOCK_TAIL_BYTES).ok_or(Malformed)?;
        blocks.push((kind, block.get(BLOCK_HEAD_BYTES..end).ok_or(Malformed)?));
        part = behind;
    }
    Ok(blocks)
}

/// The first option of this code.
fn option(mut options: &[u8], wanted: u16) -> Option<&[u8]> {
    while let Some((head, behind)) = options.split_first_chunk::<4>() {
        let [code, length] = [[head[0], head[1]], [head[2], head[3]]].map(u16::from_le_bytes);
        let length = usize::from(length);
        if code == wanted {
            return behind.get(..length);
        }
        options = behind.get(length.next_multiple_of(4)..)?;
    }
    None
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

#[cfg(test)]
mod tests {
    use hairpin_dataplane::port::pcapng::{Packet, Statistics, Writer};

    use super::*;

    #[test]
    fn what_is_written_is_read_back_part_by_part() {
        let frames = [
            Captured {
                port: "up0",
                time_ns: 0x0102_0304_0506_0708,
                way: Direction::Outbound,
                length: 1514,
                bytes: b"abcde",
                comment: Some("dropped: runt: It was."),
            },
            Captured {
                port: "vm1",
                time_ns: 7,
                way: Direction::Inbound,
                length: 0,
                bytes: b"",
                comment: None,
            },
        ];
        let mut writer = Writer::new(Vec::new(), &["vm1", "up0"], 256).unwrap();
        let mut reader = Reader::default();
        for frame in frames {
            let Captured { port, time_ns, way, length, bytes, comment } = frame;
            let interface = u32::from(port == "up0");
            let packet = Packet { interface, time_ns, direction: way, length, bytes, comment };
            writer.packet(&packet).unwrap();
            let part = std::mem::take(writer.out());
            assert_eq!(reader.read(&part), Ok(vec![frame]));
            for end in 1..part.len() {
                // Cut short it is refused, unless whole blocks are left.
                let _ = Reader::default().read(&part[..end]);
            }
            assert_eq!(reader.read(&part[..part.len() - 1]), Err(Malformed));
        }
        let end = writer.finish(9, &[Statistics::default()]).unwrap();
        assert_eq!(Reader::default().read(&end), Ok(vec![]));
        assert_eq!(reader.read(&[]), Ok(vec![]));
    }
}
