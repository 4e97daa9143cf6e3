//! What a driver that means harm writes into its rings: words where rings have words, of
//! values that are nearly right.

use hairpin_dataplane::sys::virtqueue::Layout;

use super::input::Input;

/// `VIRTQ_DESC_F_NEXT`, `_WRITE`, `_INDIRECT`.
const FLAGS: u16 = 0b111;
/// `VIRTQ_DESC_F_AVAIL` and `_USED`.
const LAP: u16 = 1 << 7 | 1 << 15;

/// Where a driver's lies may point.
#[derive(Clone, Debug)]
pub struct Grounds {
    /// Addresses that are nearly right, as buffers are addressed.
    pub addresses: Vec<u64>,
    /// Where the ring lies, as buffers are addressed.
    pub layout: Layout,
}

/// Bytes to be written at an address, as buffers are addressed.
pub type Forgery = (u64, Vec<u8>);

const LENGTHS: [u64; 12] = [60, 72, 12, 11, 0, 1, 16, 256, 1500, 4096, 0x1_0000, 0xffff_ffff];

impl Grounds {
    /// The next thing to be written.
    pub fn draw(&self, input: &mut Input<'_>) -> Forgery {
        let Layout { size, descriptors, driver, device } = self.layout;
        let entry = u64::from(input.byte()) % u64::from(size.max(1));
        match input.below(8) {
            0..=2 => (descriptors.wrapping_add(16 * entry), self.descriptor(input)),
            // Heads and the index of an available ring, and of its event.
            3 => (driver.wrapping_add(4 + 2 * entry), word16(input, size)),
            4 => (driver.wrapping_add(2), word16(input, size)),
            5 => (driver.wrapping_add(4 + 2 * u64::from(size)), word16(input, size)),
            // Event suppression, or flags; and what is the device's to write.
            6 => (driver.wrapping_add(u64::from(input.byte() & 2)), word16(input, size)),
            _ => {
                let at = u64::from(input.byte()) * 2 % (6 + 8 * u64::from(size));
                (device.wrapping_add(at), word16(input, size))
            }
        }
    }

    /// A descriptor of either kind of ring, or of a table.
    fn descriptor(&self, input: &mut Input<'_>) -> Vec<u8> {
        let address = input.value(&self.addresses);
        let length = input.value(&LENGTHS) as u32;
        let choice = input.byte();
        let flags = u16::from(choice) & FLAGS;
        let lap = match choice >> 4 & 3 {
            0 => 1 << 7,
            1 => 1 << 15,
            2 => 0,
            _ => LAP,
        };
        let other = input.byte().into();
        // Packed: id and flags. Split: flags and next.
        let (low, high): (u16, u16) =
            if choice & 0x80 == 0 { (other, flags | lap) } else { (flags, other) };
        let mut bytes = address.to_le_bytes().to_vec();
        bytes.extend(length.to_le_bytes());
        bytes.extend(low.to_le_bytes());
        bytes.extend(high.to_le_bytes());
        bytes
    }

    /// A table of up to 8 descriptors.
    pub fn table(&self, input: &mut Input<'_>) -> Forgery {
        let at = input.value(&self.addresses);
        let count = 1 + input.below(8);
        (at, (0..count).flat_map(|_| self.descriptor(input)).collect())
    }
}

fn word16(input: &mut Input<'_>, size: u16) -> Vec<u8> {
    let likely =
        [0, 1, 2, 3, size - size.min(1), size, size.wrapping_add(1), 0x7fff, 0x8000, 0xffff];
    input.value(&likely.map(u64::from)).to_le_bytes()[..2].to_vec()
}
