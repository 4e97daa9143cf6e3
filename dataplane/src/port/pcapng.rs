//! The pcapng capture format (draft-ietf-opsawg-pcapng), as much as is written
//! here: one section, Ethernet interfaces, enhanced packet blocks with a direction
//! and a comment, and the interfaces' statistics at the end. Little endian; time in
//! nanoseconds.

use std::io::{self, Write};

const SECTION_HEADER: u32 = 0x0a0d_0d0a;
const INTERFACE_DESCRIPTION: u32 = 1;
const INTERFACE_STATISTICS: u32 = 5;
const ENHANCED_PACKET: u32 = 6;

const BYTE_ORDER_MAGIC: u32 = 0x1a2b_3c4d;
const SECTION_LENGTH_UNKNOWN: u64 = u64::MAX;
const LINKTYPE_ETHERNET: u16 = 1;

const OPTION_END: u16 = 0;
const OPTION_COMMENT: u16 = 1;
const SHB_USERAPPL: u16 = 4;
const IF_NAME: u16 = 2;
const IF_TSRESOL: u16 = 9;
const EPB_FLAGS: u16 = 2;
const ISB_IFRECV: u16 = 4;
const ISB_IFDROP: u16 = 5;
/// Ten to the minus ninth of a second.
const NANOSECONDS: u8 = 9;

/// Which way a frame went, seen from the switch.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Direction {
    /// From the device into the switch.
    #[default]
    Inbound,
    /// From the switch to the device.
    Outbound,
}

/// One captured frame.
#[derive(Clone, Copy, Debug)]
pub struct Packet<'p> {
    /// The place of its interface among those of the capture.
    pub interface: u32,
    /// Nanoseconds since 1970-01-01 UTC.
    pub time_ns: u64,
    /// Which way it went.
    pub direction: Direction,
    /// Its length in bytes when it passed.
    pub length: u32,
    /// Its first bytes, or all.
    pub bytes: &'p [u8],
    /// What is to be said of it, if anything.
    pub comment: Option<&'p str>,
}

/// What became of an interface's frames.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Statistics {
    /// Frames that passed.
    pub passed: u64,
    /// Of these, how many are missing from the capture.
    pub missing: u64,
}

/// A capture being written.
#[derive(Debug)]
pub struct Writer<W> {
    out: W,
    block: Vec<u8>,
}

impl<W: Write> Writer<W> {
    /// Begins a capture of these interfaces, frames of which are kept up to
    /// `snapshot_bytes`.
    ///
    /// # Errors
    /// Those of writing.
    pub fn new(out: W, interfaces: &[&str], snapshot_bytes: u32) -> io::Result<Writer<W>> {
        let mut writer = Writer::resume(out);
        writer.block.extend(BYTE_ORDER_MAGIC.to_le_bytes());
        writer.block.extend([1, 0, 0, 0]);
        writer.block.extend(SECTION_LENGTH_UNKNOWN.to_le_bytes());
        writer.option(SHB_USERAPPL, b"hairpin");
        writer.finish_options(SECTION_HEADER)?;
        for interface in interfaces {
            writer.block.extend(u32::from(LINKTYPE_ETHERNET).to_le_bytes());
            writer.block.extend(snapshot_bytes.to_le_bytes());
            writer.option(IF_NAME, interface.as_bytes());
            writer.option(IF_TSRESOL, &[NANOSECONDS]);
            writer.finish_options(INTERFACE_DESCRIPTION)?;
        }
        Ok(writer)
    }

    /// Goes on with a capture that somebody else began.
    pub fn resume(out: W) -> Writer<W> {
        Writer { out, block: Vec::new() }
    }

    /// What is written to: whole blocks.
    pub fn out(&mut self) -> &mut W {
        &mut self.out
    }

    /// Adds a frame.
    ///
    /// # Errors
    /// Those of writing.
    pub fn packet(&mut self, packet: &Packet<'_>) -> io::Result<()> {
        let captured = packet.bytes.len() as u32;
        self.begin_with_time(packet.interface, packet.time_ns);
        self.block.extend(captured.to_le_bytes());
        self.block.extend(packet.length.to_le_bytes());
        self.padded(packet.bytes);
        if let Some(comment) = packet.comment {
            self.option(OPTION_COMMENT, comment.as_bytes());
        }
        let flags: u32 = match packet.direction {
            Direction::Inbound => 0b01,
            Direction::Outbound => 0b10,
        };
        self.option(EPB_FLAGS, &flags.to_le_bytes());
        self.finish_options(ENHANCED_PACKET)
    }

    /// Ends the capture with what became of each interface's frames; gives what was
    /// written to back.
    ///
    /// # Errors
    /// Those of writing.
    pub fn finish(mut self, time_ns: u64, statistics: &[Statistics]) -> io::Result<W> {
        for (interface, Statistics { passed, missing }) in (0..).zip(statistics) {
            self.begin_with_time(interface, time_ns);
            self.option(ISB_IFRECV, &passed.to_le_bytes());
            self.option(ISB_IFDROP, &missing.to_le_bytes());
            self.finish_options(INTERFACE_STATISTICS)?;
        }
        self.out.flush()?;
        Ok(self.out)
    }

    /// Hands what was written so far on.
    ///
    /// # Errors
    /// Those of writing.
    pub fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }

    /// The interface and the time, high half first.
    fn begin_with_time(&mut self, interface: u32, time_ns: u64) {
        self.block.extend(interface.to_le_bytes());
        self.block.extend(((time_ns >> 32) as u32).to_le_bytes());
        self.block.extend((time_ns as u32).to_le_bytes());
    }

    fn option(&mut self, code: u16, value: &[u8]) {
        let value = &value[..value.len().min(usize::from(u16::MAX))];
        self.block.extend(code.to_le_bytes());
        self.block.extend((value.len() as u16).to_le_bytes());
        self.padded(value);
    }

    fn padded(&mut self, bytes: &[u8]) {
        self.block.extend(bytes);
        self.block.resize(self.block.len().next_multiple_of(4), 0);
    }

    /// Ends the options and writes the block between its two lengths.
    fn finish_options(&mut self, kind: u32) -> io::Result<()> {
        self.option(OPTION_END, &[]);
        let length = (self.block.len() as u32 + 12).to_le_bytes();
        self.out.write_all(&kind.to_le_bytes())?;
        self.out.write_all(&length)?;
        self.out.write_all(&self.block)?;
        self.out.write_all(&length)?;
        self.block.clear();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_as_the_format_lays_them_out() {
        let mut writer = Writer::new(Vec::new(), &["vm1", "up0"], 9000).unwrap();
        let time_ns = 0x0102_0304_0506_0708;
        let bytes = b"abcde";
        let direction = Direction::Outbound;
        let (interface, length, comment) = (1, 60, Some("lost"));
        let packet = Packet { interface, time_ns, direction, length, bytes, comment };
        writer.packet(&packet).unwrap();
        let began = std::mem::take(writer.out());
        let statistics = [Statistics::default(), Statistics { passed: 7, missing: 2 }];
        let ended = Writer::resume(Vec::new()).finish(9, &statistics).unwrap();
        let written = [began, ended].concat();
        let expected: &[&[u8]] = &[
            // Section header: 28 bytes and one option of 4 + 8, and the end of options.
            &[0x0a, 0x0d, 0x0d, 0x0a, 44, 0, 0, 0, 0x4d, 0x3c, 0x2b, 0x1a, 1, 0, 0, 0],
            &[0xff; 8],
            &[4, 0, 7, 0],
            b"hairpin\0",
            &[0, 0, 0, 0, 44, 0, 0, 0],
            // Interface descriptions.
            &[1, 0, 0, 0, 40, 0, 0, 0, 1, 0, 0, 0, 0x28, 0x23, 0, 0],
            &[2, 0, 3, 0],
            b"vm1\0",
            &[9, 0, 1, 0, 9, 0, 0, 0, 0, 0, 0, 0, 40, 0, 0, 0],
            &[1, 0, 0, 0, 40, 0, 0, 0, 1, 0, 0, 0, 0x28, 0x23, 0, 0],
            &[2, 0, 3, 0],
            b"up0\0",
            &[9, 0, 1, 0, 9, 0, 0, 0, 0, 0, 0, 0, 40, 0, 0, 0],
            // Enhanced packet.
            &[6, 0, 0, 0, 60, 0, 0, 0, 1, 0, 0, 0, 4, 3, 2, 1, 8, 7, 6, 5, 5, 0, 0, 0, 60, 0, 0, 0],
            b"abcde\0\0\0",
            &[1, 0, 4, 0],
            b"lost",
            &[2, 0, 4, 0, 2, 0, 0, 0, 0, 0, 0, 0, 60, 0, 0, 0],
            // Interface statistics.
            &[5, 0, 0, 0, 52, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0],
            &[4, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 5, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            &[0, 0, 0, 0, 52, 0, 0, 0],
            &[5, 0, 0, 0, 52, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0],
            &[4, 0, 8, 0, 7, 0, 0, 0, 0, 0, 0, 0, 5, 0, 8, 0, 2, 0, 0, 0, 0, 0, 0, 0],
            &[0, 0, 0, 0, 52, 0, 0, 0],
        ];
        assert_eq!(written, expected.concat());
    }
}
