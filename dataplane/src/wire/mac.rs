//! MAC addresses, held as numbers: comparing and hashing one is one instruction.

use std::fmt;
use std::str::FromStr;

/// A 48-bit MAC address in the low bits of a `u64`, first octet most significant.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Mac(u64);

impl Mac {
    /// The all-ones address.
    pub const BROADCAST: Mac = Mac(0xffff_ffff_ffff);
    /// The address of no station.
    pub const ZERO: Mac = Mac(0);

    const GROUP_BIT: u64 = 0x0100_0000_0000;
    /// 01-80-C2-00-00-00, IEEE 802.1Q-2022 table 8-1 and following.
    const RESERVED: u64 = 0x0180_c200_0000;

    /// The address in wire order.
    #[inline]
    #[must_use]
    pub const fn new(octets: [u8; 6]) -> Mac {
        let [a, b, c, d, e, f] = octets;
        Mac(u64::from_be_bytes([0, 0, a, b, c, d, e, f]))
    }

    /// The six octets in wire order.
    #[inline]
    #[must_use]
    pub const fn octets(self) -> [u8; 6] {
        let [_, _, a, b, c, d, e, f] = self.0.to_be_bytes();
        [a, b, c, d, e, f]
    }

    /// The address as a number below 2^48.
    #[inline]
    #[must_use]
    pub const fn to_u64(self) -> u64 {
        self.0
    }

    /// The address from the low 48 bits of a number; the others are ignored.
    #[inline]
    #[must_use]
    pub const fn from_u64(number: u64) -> Mac {
        Mac(number & 0xffff_ffff_ffff)
    }

    /// Multicast or broadcast.
    #[inline]
    #[must_use]
    pub const fn is_group(self) -> bool {
        self.0 & Mac::GROUP_BIT != 0
    }

    /// For 01-80-C2-00-00-0x its last four bits, else nothing.
    #[inline]
    #[must_use]
    pub const fn reserved(self) -> Option<u8> {
        if self.0 & !0xf == Mac::RESERVED { Some((self.0 & 0xf) as u8) } else { None }
    }

    /// Whether a station may own this address: neither group nor zero.
    #[inline]
    #[must_use]
    pub const fn is_station(self) -> bool {
        !self.is_group() && self.0 != 0
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.octets();
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A text that is not a MAC address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a MAC address; write six octets such as 52:54:00:00:00:01")]
pub struct MacError(pub String);

impl FromStr for Mac {
    type Err = MacError;

    fn from_str(text: &str) -> Result<Mac, MacError> {
        let error = || MacError(text.to_owned());
        let mut octets = [0; 6];
        let mut parts = text.split([':', '-']);
        for octet in &mut octets {
            let part = parts.next().filter(|part| part.len() == 2).ok_or_else(error)?;
            if !part.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                return Err(error());
            }
            *octet = u8::from_str_radix(part, 16).map_err(|_| error())?;
        }
        if parts.next().is_some() { Err(error()) } else { Ok(Mac::new(octets)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_address_reads_as_it_is_written() {
        let mac: Mac = "52:54:00:Ab:00:01".parse().unwrap();
        assert_eq!(mac.octets(), [0x52, 0x54, 0, 0xab, 0, 1]);
        assert_eq!(mac.to_string(), "52:54:00:ab:00:01");
        for wrong in
            ["", "52:54:00:00:00", "52:54:00:00:00:01:02", "5:54:00:00:00:01", "+1:54:00:00:00:01"]
        {
            assert!(wrong.parse::<Mac>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn reserved_addresses_are_the_sixteen_of_the_standard() {
        assert_eq!(Mac::new([1, 0x80, 0xc2, 0, 0, 0xe]).reserved(), Some(0xe));
        assert_eq!(Mac::new([1, 0x80, 0xc2, 0, 0, 0x10]).reserved(), None);
        assert!(Mac::BROADCAST.is_group() && !Mac::ZERO.is_station());
    }

    /// Texts of which some are addresses and most are nearly so.
    fn any_text() -> impl Strategy<Value = String> {
        prop_oneof![
            any::<String>(),
            "[0-9a-fA-F:+-]{0,20}",
            "([0-9a-fA-F]{2}[:-]){5}[0-9a-fA-F]{2}",
            "([0-9a-fA-F+]{1,3}[:.-]){4,6}[0-9a-fA-Fg\u{e9}]{1,2}",
        ]
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(number: u64) {
            let mac = Mac::from_u64(number);
            prop_assert_eq!(mac.to_string().parse(), Ok(mac));
            prop_assert_eq!(Mac::new(mac.octets()), mac);
        }

        #[test]
        fn six_pairs_of_digits_are_an_address_and_nothing_else_is(text in any_text()) {
            let parts: Vec<&str> = text.split([':', '-']).collect();
            let digits = parts.concat();
            let is_pair = |part: &&str| {
                part.len() == 2 && part.chars().all(|digit| digit.is_ascii_hexdigit())
            };
            let expected = if parts.len() == 6 && parts.iter().all(is_pair) {
                Ok(Mac::from_u64(u64::from_str_radix(&digits, 16).unwrap()))
            } else {
                Err(MacError(text.clone()))
            };
            prop_assert_eq!(text.parse::<Mac>(), expected);
        }
    }
}
