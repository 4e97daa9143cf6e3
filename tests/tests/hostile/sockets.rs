//! Sockets: what is no message, messages that do not end, peers that do not read.

use std::io::{ErrorKind, Read as _};
use std::time::{Duration, Instant};

use hairpin_bench::front_end::message::*;
use hairpin_bench::front_end::{Connection, FrontEnd, Layout};
use hairpin_dataplane::port::vhost_user::features::ProtocolFeatures;
use hairpin_dataplane::port::vhost_user::message::{Code, REPLY_BYTES};

use super::stage::{Expected, PATIENCE, Stage};

fn header(code: u32, flags: u32, bytes: u32) -> Vec<u8> {
    [code, flags, bytes].into_iter().flat_map(u32::to_ne_bytes).collect()
}

#[test]
fn what_is_no_message_ends_the_connection_and_quarantines() {
    let expected_version = "protocol version 1 expected in bits 0 and 1";
    let cases = [
        (header(1, 0, 0), format!("GET_FEATURES: flags 0x0: {expected_version}")),
        (header(1, 2, 0), format!("GET_FEATURES: flags 0x2: {expected_version}")),
        (header(99, 3, 0), format!("request 99: flags 0x3: {expected_version}")),
        (header(1, 5, 0), "GET_FEATURES: flags 0x5: a reply, where nothing was asked".to_owned()),
        (header(2, 1, 4097), "SET_FEATURES: size 4097: a payload has at most 4096".to_owned()),
        (header(5, 1, u32::MAX), "SET_MEM_TABLE: size 4294967295: a payload".to_owned()),
        (vec![0xff; 64], format!("request 4294967295: flags 0xffffffff: {expected_version}")),
        (b"GET / HTTP/1.1\r\n\r\n".to_vec(), "flags".to_owned()),
    ];
    let stage = Stage::start(cases.len(), 1);
    for (number, (bytes, reason)) in cases.into_iter().enumerate() {
        let connection = stage.connection(number);
        connection.write(&bytes, &[]).unwrap();
        stage.expect(number, "no message", &Expected::Quarantined(reason));
        assert!(connection.is_closed_within(PATIENCE).unwrap());
    }
    stage.end();
}

#[test]
fn messages_of_a_wrong_size_are_refused_and_the_next_ones_understood() {
    let stage = Stage::start(1, 1);
    let mut refused = 0;
    let connection = stage.connection(0);
    connection.tell(SET_PROTOCOL_FEATURES, &[ProtocolFeatures::REPLY_ACK.bits()], &[]).unwrap();
    let codes = [SET_FEATURES, SET_OWNER, SET_VRING_NUM, SET_VRING_ADDR, SET_VRING_KICK];
    for code in codes {
        for words in [1, 2, 4, 6, 512] {
            let right = match code {
                SET_OWNER => 0,
                SET_VRING_ADDR => 5,
                _ => 1,
            };
            if words == right {
                continue;
            }
            let bytes = encode(code, VERSION | NEED_REPLY, &vec![0; words]);
            connection.write(&bytes, &[]).unwrap();
            assert_eq!(connection.hear(code).unwrap(), 1, "{code} of {words} words");
            refused += 1;
        }
    }
    let shown = stage.shown_refusing(0, refused);
    assert_eq!(shown["last_refusal"], "SET_VRING_KICK: size 4096: its payload has 8 bytes");
    drop(connection);
    drop(stage.guest(0, Layout::SPLIT));
    stage.end();
}

#[test]
fn rust_vmm_217_half_messages_and_silence_hold_up_nobody() {
    let stage = Stage::start(24, 1);
    let message = encode(SET_FEATURES, VERSION, &[0]);
    // At each of its bytes it stops.
    let silent: Vec<Connection> = (0..message.len())
        .map(|bytes| {
            let connection = stage.connection(bytes);
            connection.write(&message[..bytes], &[]).unwrap();
            connection
        })
        .collect();
    stage.await_lockstep(200);
    for (number, connection) in silent.iter().enumerate().skip(1) {
        assert!(!connection.is_closed_within(Duration::from_millis(1)).unwrap());
        assert_eq!(stage.shown(number)["connected"], true);
        // The rest of it, and it is whole.
        connection.write(&message[number..], &[]).unwrap();
        assert!(connection.get_features() != 0);
    }
    drop(silent);
    stage.end();
}

/// Asks for features, which anybody may at any time.
trait GetFeatures {
    fn get_features(&self) -> u64;
}

impl GetFeatures for Connection {
    fn get_features(&self) -> u64 {
        self.tell(GET_FEATURES, &[], &[]).unwrap();
        self.hear(GET_FEATURES).unwrap()
    }
}

#[test]
fn rust_vmm_217_a_whole_negotiation_byte_by_byte() {
    let stage = Stage::start(1, 1);
    let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    let socket = std::os::unix::net::UnixStream::connect(stage.socket(0)).unwrap();
    let relay = std::thread::spawn(move || relay_bytes(theirs, socket));
    // Descriptors do not pass by bytes: what needs none goes this way.
    let mut connection = Connection::new(ours).unwrap();
    connection.negotiate(Layout::SPLIT.accepted(), 1).unwrap();
    for ring in 0..2 {
        connection.set(SET_VRING_NUM, &[state(ring, 256)], &[]).unwrap();
        connection.set(SET_VRING_BASE, &[state(ring, 0)], &[]).unwrap();
        connection.set(SET_VRING_KICK, &[u64::from(ring) | NO_DESCRIPTOR], &[]).unwrap();
        connection.set(SET_VRING_ENABLE, &[state(ring, 1)], &[]).unwrap();
    }
    let shown = stage.shown(0);
    assert_eq!((&shown["connected"], &shown["refused_requests"]), (&true.into(), &0.into()));
    assert_eq!(shown["queues"][0]["transmit"]["size"], 256);
    drop(connection);
    relay.join().unwrap();
    stage.end();
}

/// Hands on byte by byte what comes from one side, and anything from the other.
fn relay_bytes(from: std::os::unix::net::UnixStream, to: std::os::unix::net::UnixStream) {
    use std::io::Write as _;
    let (mut back_from, mut back_to) = (to.try_clone().unwrap(), from.try_clone().unwrap());
    let back = std::thread::spawn(move || {
        // To the end of either side.
        let _ = std::io::copy(&mut back_from, &mut back_to);
    });
    let (mut from, mut to) = (from, to);
    let mut byte = [0];
    while from.read(&mut byte).is_ok_and(|read| read == 1) {
        to.write_all(&byte).unwrap();
        std::thread::yield_now();
    }
    to.shutdown(std::net::Shutdown::Both).unwrap();
    back.join().unwrap();
}

#[test]
fn rust_vmm_217_peers_that_never_read_their_replies_are_not_read_any_more() {
    let stage = Stage::start(1, 1);
    let connection = stage.connection(0);
    let message = encode(GET_FEATURES, VERSION, &[]);
    let flood = message.repeat(1000);
    connection.socket().set_nonblocking(true).unwrap();
    let (mut sent, mut full) = (0_usize, None);
    // Until the socket is full and stays so: the switch has stopped to read.
    while full.is_none_or(|since: Instant| since.elapsed() < Duration::from_millis(300)) {
        use std::io::Write as _;
        match (&mut connection.socket()).write(&flood[sent % message.len()..]) {
            Ok(bytes) => (sent, full) = (sent + bytes, None),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::WouldBlock);
                full.get_or_insert_with(Instant::now);
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        assert!(sent < 100 << 20, "it reads on, and where do the replies go?");
    }
    stage.await_lockstep(100);
    assert_eq!(stage.shown(0)["connected"], true);
    // Once it is read from, it answers everything that it has read whole.
    connection.socket().set_nonblocking(false).unwrap();
    let rest = (message.len() - sent % message.len()) % message.len();
    let replies = sent.div_ceil(message.len());
    for reply in 0..replies {
        if reply == replies / 2 && rest > 0 {
            connection.write(&message[message.len() - rest..], &[]).unwrap();
        }
        assert!(connection.hear(GET_FEATURES).unwrap() != 0);
    }
    assert!(replies * REPLY_BYTES > 4096);
    stage.end();
}

#[test]
fn floods_of_messages_hold_up_nobody_and_those_of_refused_ones_end() {
    const MESSAGES: usize = 200_000;
    // What changes nothing; what is refused; what is unknown.
    const CODES: [Code; 3] = [SET_OWNER, SET_VRING_NUM, Code(99)];
    let stage = Stage::start(CODES.len(), 1);
    let flood = |(number, code): (usize, Code)| {
        let connection = stage.connection(number);
        std::thread::spawn(move || {
            let words: &[u64] = if code == SET_OWNER { &[] } else { &[0] };
            let message = encode(code, VERSION, words).repeat(100);
            // To its end, or until it is not listened to any more.
            let all = (0..MESSAGES / 100).all(|_| connection.write(&message, &[]).is_ok());
            (connection, all)
        })
    };
    let flooding: Vec<_> = (0..).zip(CODES).map(flood).collect();
    while !flooding.iter().all(std::thread::JoinHandle::is_finished) {
        stage.await_lockstep(10);
    }
    let mut flooded = flooding.into_iter().map(|flooding| flooding.join().unwrap());
    let (connection, all) = flooded.next().unwrap();
    assert!(all && connection.get_features() != 0);
    assert_eq!(stage.shown(0)["refused_requests"], 0);
    for number in 1..CODES.len() {
        let reason = "messages within a second were refused".to_owned();
        stage.expect(number, "refused messages", &Expected::Quarantined(reason));
    }
    stage.end();
}

#[test]
fn a_vmm_that_was_sent_away_is_kept_out_and_the_next_one_waits() {
    let stage = Stage::start(1, 1);
    let begin = Instant::now();
    stage.connection(0).write(&[0xff; 12], &[]).unwrap();
    let reason = Expected::Quarantined("request 4294967295".to_owned());
    stage.expect(0, "no message", &reason);
    let front = FrontEnd::connect(&stage.socket(0), Layout::PACKED).unwrap();
    stage.await_up(0);
    assert!(begin.elapsed() > Duration::from_millis(900), "{:?}", begin.elapsed());
    // Another one waits until this one is gone.
    let next = stage.connection(0);
    next.tell(GET_FEATURES, &[], &[]).unwrap();
    assert!(!next.is_closed_within(Duration::from_millis(200)).unwrap());
    drop(front);
    assert!(next.hear(GET_FEATURES).unwrap() != 0);
    stage.end();
}
