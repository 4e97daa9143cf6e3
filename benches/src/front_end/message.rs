//! Requests by name, and as bytes, whatever they are.

use hairpin_dataplane::port::vhost_user::message::{Addresses, Code, RegionSpec};

/// The version, in a header's flags.
pub const VERSION: u32 = 1;
/// The flag of a reply.
pub const REPLY: u32 = 1 << 2;
/// The flag of a request that is to be acknowledged.
pub const NEED_REPLY: u32 = 1 << 3;
/// The bit of a kick, call or error message that no descriptor comes with it.
pub const NO_DESCRIPTOR: u64 = 1 << 8;

/// `GET_FEATURES`.
pub const GET_FEATURES: Code = Code(1);
/// `SET_FEATURES`.
pub const SET_FEATURES: Code = Code(2);
/// `SET_OWNER`.
pub const SET_OWNER: Code = Code(3);
/// `SET_MEM_TABLE`.
pub const SET_MEM_TABLE: Code = Code(5);
/// `SET_VRING_NUM`.
pub const SET_VRING_NUM: Code = Code(8);
/// `SET_VRING_ADDR`.
pub const SET_VRING_ADDR: Code = Code(9);
/// `SET_VRING_BASE`.
pub const SET_VRING_BASE: Code = Code(10);
/// `GET_VRING_BASE`.
pub const GET_VRING_BASE: Code = Code(11);
/// `SET_VRING_KICK`.
pub const SET_VRING_KICK: Code = Code(12);
/// `SET_VRING_CALL`.
pub const SET_VRING_CALL: Code = Code(13);
/// `SET_VRING_ERR`.
pub const SET_VRING_ERR: Code = Code(14);
/// `GET_PROTOCOL_FEATURES`.
pub const GET_PROTOCOL_FEATURES: Code = Code(15);
/// `SET_PROTOCOL_FEATURES`.
pub const SET_PROTOCOL_FEATURES: Code = Code(16);
/// `GET_QUEUE_NUM`.
pub const GET_QUEUE_NUM: Code = Code(17);
/// `SET_VRING_ENABLE`.
pub const SET_VRING_ENABLE: Code = Code(18);
/// `NET_SET_MTU`.
pub const NET_SET_MTU: Code = Code(20);
/// `RESET_DEVICE`.
pub const RESET_DEVICE: Code = Code(34);
/// `ADD_MEM_REG`.
pub const ADD_MEM_REG: Code = Code(37);
/// `REM_MEM_REG`.
pub const REM_MEM_REG: Code = Code(38);
/// The greatest request of the specification.
pub const LAST: Code = Code(44);

/// A message: header and payload.
#[must_use]
pub fn encode(code: Code, flags: u32, words: &[u64]) -> Vec<u8> {
    let header = [code.0, flags, 8 * words.len() as u32];
    let header = header.into_iter().flat_map(u32::to_ne_bytes);
    header.chain(words.iter().flat_map(|word| word.to_ne_bytes())).collect()
}

/// A ring and a number, in one word.
#[must_use]
pub fn state(ring: u32, value: u32) -> u64 {
    let ([a, b, c, d], [e, f, g, h]) = (ring.to_ne_bytes(), value.to_ne_bytes());
    u64::from_ne_bytes([a, b, c, d, e, f, g, h])
}

/// The payload of `SET_VRING_ADDR`.
#[must_use]
pub fn addresses(ring: u32, at: Addresses) -> [u64; 5] {
    [state(ring, 0), at.descriptors, at.device, at.driver, 0]
}

/// The payload of `SET_MEM_TABLE`.
#[must_use]
pub fn table(regions: &[RegionSpec]) -> Vec<u64> {
    let head = state(regions.len() as u32, 0);
    [head].into_iter().chain(regions.iter().flat_map(|spec| region(*spec))).collect()
}

/// The payload of `ADD_MEM_REG` and `REM_MEM_REG`.
#[must_use]
pub fn single_region(spec: RegionSpec) -> Vec<u64> {
    [0].into_iter().chain(region(spec)).collect()
}

fn region(spec: RegionSpec) -> [u64; 4] {
    [spec.guest, spec.bytes, spec.user, spec.offset]
}
