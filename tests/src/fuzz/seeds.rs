//! Inputs that say something, from which fuzzing begins. They are kept in
//! `tests/fuzz/seeds`, where `cargo run -p hairpin-tests --example fuzz_seeds` writes them:
//! a test sees that what lies there is what is written here.

use super::vmm::{
    ADD_MEM_REG, GET_VRING_BASE, REM_MEM_REG, RESET_DEVICE, SET_FEATURES, SET_MEM_TABLE,
    SET_VRING_BASE, SET_VRING_CALL, SET_VRING_ENABLE, SET_VRING_KICK,
};

/// A seed: its target, its name, and the input.
pub type Seed = (&'static str, String, Vec<u8>);

/// All seeds.
#[must_use]
pub fn all() -> Vec<Seed> {
    let mut seeds = Vec::new();
    for (name, bytes) in ring_inputs() {
        for target in ["split_ring", "packed_ring"] {
            seeds.push((target, name.clone(), bytes.clone()));
        }
    }
    let named = |target| move |(name, bytes): (&str, Vec<u8>)| (target, name.to_owned(), bytes);
    seeds.extend(message_inputs().into_iter().map(named("messages")));
    seeds.extend(switch_inputs().into_iter().map(named("switch")));
    seeds
}

/// Features of a ring: all bits 0 is out of order, mergeable, with tables and event index.
const IN_ORDER: u8 = 1;
const SINGLE: u8 = 2;
const NO_TABLES: u8 = 4;
const FLAGS: u8 = 8;

// Operations on rings, with what they take.
const RECEIVE: &[u8] = &[2];
const RELAY: &[u8] = &[3];
const COLLECT: &[u8] = &[6];
const SLEEP_DEVICE: &[u8] = &[7, 0];
const SLEEP_DRIVER: &[u8] = &[8, 0];
const RING_IDLE: &[u8] = &[9, 1];
const FLUSH: &[u8] = &[10];
const REOPEN_BOTH: &[u8] = &[11, 0, 11, 1];
const HEADERS_IGNORED: &[u8] = &[12, 1, 0];

/// A chain of so many bytes; shape: pieces but one, 4 in a table, 8 not shown yet, and in
/// the upper half which virtio-net header.
fn send(bytes: u8, shape: u8) -> [u8; 5] {
    [0, bytes, 0b010_0101, 0b10, shape]
}

/// Buffers; shape: quarters of a first piece, 4 in tables.
fn offer(count: u8, bytes: u8, shape: u8) -> [u8; 4] {
    [5, count - 1, bytes, shape]
}

/// A ring's features, size and beginning, then the same again and again.
fn ring(features: u8, size: u8, start: u16, rounds: usize, operations: &[&[u8]]) -> Vec<u8> {
    let [low, high] = start.to_le_bytes();
    let mut bytes = vec![features, size, low, high];
    bytes.extend(operations.concat().repeat(rounds));
    bytes
}

fn ring_inputs() -> Vec<(String, Vec<u8>)> {
    let chains: &[&[u8]] = &[
        &send(72, 0),
        &send(250, 3),
        &send(200, 7),
        &send(5, 0),
        &send(90, 0x12),
        &send(72, 0x20),
        &send(72, 8),
    ];
    let laps = [chains, &[RECEIVE, FLUSH, COLLECT]].concat();
    let sleeps: &[&[u8]] = &[
        SLEEP_DRIVER,
        SLEEP_DEVICE,
        &send(72, 0),
        RECEIVE,
        FLUSH,
        RING_IDLE,
        COLLECT,
        REOPEN_BOTH,
    ];
    let relays: &[&[u8]] =
        &[&offer(6, 255, 1), &offer(12, 100, 4), &send(250, 1), &send(72, 0x10), RELAY, COLLECT];
    let merged: &[&[u8]] = &[&offer(16, 20, 2), &send(250, 2), RELAY, &[4, 1, 60, 9], COLLECT];
    let ignored: &[&[u8]] = &[HEADERS_IGNORED, &send(72, 0x20), &send(250, 3), RECEIVE];
    let mut inputs = Vec::new();
    for (at, start) in [("begin", 0x8000_u16), ("end", 0xfffa)] {
        for (kind, features) in [("any", 0), ("in-order", IN_ORDER | FLAGS | NO_TABLES)] {
            inputs.push((format!("laps-{kind}-{at}"), ring(features, 6, start, 6, &laps)));
            inputs.push((format!("sleeps-{kind}-{at}"), ring(features, 2, start, 9, sleeps)));
            inputs.push((format!("relays-{kind}-{at}"), ring(features, 4, start, 4, relays)));
        }
    }
    inputs.push(("merged".to_owned(), ring(0, 6, 0x8000, 4, merged)));
    inputs.push(("single".to_owned(), ring(SINGLE, 6, 0x8000, 4, merged)));
    inputs.push(("ignored".to_owned(), ring(0, 5, 3, 4, ignored)));
    inputs.extend(hostile_ring_inputs());
    inputs
}

/// A descriptor of a ring; address and length by their numbers, flags, and what a split
/// ring has as `next`, a packed one as id.
fn forge(ring: u8, entry: u8, [address, length, flags, other]: [u8; 4]) -> Vec<u8> {
    vec![13, ring, entry, 0, address, length, flags, other]
}

fn hostile_ring_inputs() -> Vec<(String, Vec<u8>)> {
    let split = |flags: u8| 0x80 | flags;
    // Available index 1, of either ring; then what the device does with it.
    let index: &[u8] = &[13, 0, 0, 4, 1, 13, 1, 0, 4, 1];
    let serve: &[u8] = &[RELAY, &[4, 0, 60, 1], FLUSH, RING_IDLE, RECEIVE].concat();
    let case = |name: &str, forgeries: Vec<Vec<u8>>| {
        let bytes = [forgeries.concat(), index.to_vec(), serve.to_vec()].concat();
        (format!("hostile-{name}"), ring(0, 3, 0x8000, 3, &[&bytes]))
    };
    vec![
        case("loop", vec![forge(0, 0, [0, 0, split(1), 0]), forge(0, 1, [0, 0, 1, 0])]),
        case("long", (0..8).map(|entry| forge(0, entry, [1, 0, 1, entry])).collect()),
        case("outside", vec![forge(0, 0, [7, 10, split(0), 0]), forge(0, 0, [12, 11, 0, 0])]),
        case("write", vec![forge(0, 0, [0, 0, split(2), 0]), forge(1, 0, [1, 7, split(2), 0])]),
        case(
            "table",
            vec![
                vec![14, 2, 3, 0, 0, 0x81, 1, 4, 0, 0x80, 2, 9, 9, 0x84, 1, 1, 1, 0x82, 3],
                forge(0, 0, [2, 7, split(4), 0]),
                forge(0, 0, [2, 7, 4, 0]),
            ],
        ),
        case("rings", vec![forge(0, 0, [10, 7, split(0), 0]), forge(1, 0, [11, 8, split(2), 0])]),
        case("scribble", vec![vec![15, 0, 0x10, 0, 0, 8, 0, 0, 9, 0, 1, 2, 3, 4]]),
    ]
}

// Operations of front ends, with what they take.
const BREAK_RING_1: &[u8] = &[10, 1, 0];
const HEAR: &[u8] = &[11];
const HANG_UP: &[u8] = &[12];
const SERVE: &[u8] = &[15, 1];

/// Features by their number, entries by theirs, so many rings.
fn up(features: u8, size: u8, rings: u8) -> [u8; 4] {
    [8, features, size, rings]
}

/// A message, asking to be acknowledged, in one piece.
fn message(code: u8, descriptors: &[u8], words: &[&[u8]]) -> Vec<u8> {
    let mut bytes = vec![0, code, 0, descriptors.len() as u8];
    bytes.extend(descriptors);
    bytes.extend([0, 0]);
    bytes.extend(words.concat());
    bytes
}

/// A region's words: guest address, size, user address, offset.
const REGION: [&[u8]; 4] = [&[160], &[192], &[176], &[0]];

fn message_inputs() -> Vec<(&'static str, Vec<u8>)> {
    let all = |parts: &[&[u8]]| [&[1_u8][..], &parts.concat()].concat();
    let stop = |ring: u8| message(GET_VRING_BASE, &[], &[&[ring]]);
    let base = message(SET_VRING_BASE, &[], &[&[64, 7]]);
    let table = message(SET_MEM_TABLE, &[0], &[&[1], REGION[0], REGION[1], REGION[2], REGION[3]]);
    let [guest, size, user, offset] = REGION;
    let region = [&[0][..], guest, size, user, offset];
    let (add, remove) = (message(ADD_MEM_REG, &[0], &region), message(REM_MEM_REG, &[], &region));
    let kick = message(SET_VRING_KICK, &[1], &[&[1]]);
    let pipe = message(SET_VRING_CALL, &[4], &[&[1]]);
    let disable = message(SET_VRING_ENABLE, &[], &[&[64, 0]]);
    let features = message(SET_FEATURES, &[], &[&[209]]);
    let asked: Vec<u8> = [1, 15, 17, 36].iter().flat_map(|code| message(*code, &[], &[])).collect();
    let flood = [0, 2, 0, 0xff, 4, 0, 0, 1];
    let crumbs = [0, SET_VRING_KICK, 0, 1, 1, 0, 1, 1];
    let nonsense = [&[13, 16, 4][..], b"GET / HTTP/1.1\r\n"].concat();
    vec![
        ("up-split", all(&[&up(0, 0, 4), &asked, SERVE, HEAR, &stop(0), &stop(1), HEAR])),
        ("up-packed", all(&[&up(1, 1, 4), SERVE, &disable, &kick, &stop(1), &base, &kick, HEAR])),
        ("memory", all(&[&up(2, 0, 4), &table, SERVE, &remove, &add, SERVE, &table, HEAR])),
        ("features", all(&[&up(3, 0, 2), &features, SERVE, &up(4, 0, 2), &features, HEAR])),
        ("stuck", all(&[&up(0, 0, 2), &[9, 5], &table, &[9, 2], &stop(1), &[9, 7], HANG_UP])),
        ("broken", all(&[&up(0, 0, 2), BREAK_RING_1, &stop(1), &kick, SERVE, HANG_UP])),
        ("descriptors", all(&[&up(0, 0, 2), &flood, &crumbs, &pipe, HEAR])),
        ("short", all(&[&up(0, 0, 2), &[14, 1], SERVE, &table, &[14, 0], SERVE, HEAR])),
        ("reset", all(&[&up(0, 0, 2), &message(RESET_DEVICE, &[], &[]), &up(1, 0, 2), HEAR])),
        ("nonsense", all(&[&up(0, 0, 2), &nonsense, HANG_UP, &up(0, 0, 2)])),
    ]
}

fn switch_inputs() -> Vec<(&'static str, Vec<u8>)> {
    let up = |features: u8, rings: u8, size: u8| vec![3, features, rings, size];
    let send = |to: u8, how: u8| vec![4, 0, to, to, 1, how, 0, 0];
    let room: Vec<u8> = (0..6).flat_map(|slot| [6, 0, 16 + slot, slot % 4]).collect();
    let traffic: Vec<u8> = [send(0, 200), send(1, 200), send(2, 65), send(3, 0), room].concat();
    let traffic = traffic.repeat(3);
    let jump = [7, 1, 0, 4, 7];
    let lie = [7, 1, 0, 0, 8, 10, 0x80, 0];
    let stop = [12, 1];
    let again = [13];
    let of = |parts: &[&[u8]]| parts.concat();
    vec![
        ("split", of(&[&up(0, 4, 0), &traffic, &stop, &again])),
        ("packed", of(&[&up(1, 4, 3), &traffic, &again, &up(1, 4, 3), &traffic])),
        ("all-features", of(&[&up(3, 4, 0), &traffic, &up(4, 4, 0), &traffic])),
        ("index", of(&[&up(0, 4, 1), &traffic, &jump, &[14], &traffic])),
        ("address", of(&[&up(2, 4, 1), &lie, &jump, &traffic, &[14], &again])),
        ("short", of(&[&up(0, 4, 0), &traffic, &[11, 3], &traffic, &[11, 0], &traffic])),
    ]
}
