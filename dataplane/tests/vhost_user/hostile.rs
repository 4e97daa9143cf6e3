//! Front ends that mean harm: each case that cost somebody else a daemon, by name.

use std::io::{IoSlice, Write as _};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;

use hairpin_dataplane::port::vhost_user::connection::{Connection, Received};
use hairpin_dataplane::port::vhost_user::session::Handled;
use proptest::prelude::*;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};

use super::wiring::*;

/// The messages that name a ring.
const RING_MESSAGES: [u32; 6] = [
    SET_VRING_NUM,
    SET_VRING_ADDR,
    SET_VRING_BASE,
    SET_VRING_KICK,
    SET_VRING_CALL,
    SET_VRING_ENABLE,
];

#[test]
fn cve_2020_10723_ring_numbers_past_the_pairs_are_refused_in_every_message() {
    let _alone = alone();
    let mut vmm = Vmm::running(MODERN, 4);
    // CVE-2011-2512: negative ones, too.
    for ring in [4_u64, 31, 255, 256, 65535, 0x1_0000, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff] {
        for code in RING_MESSAGES {
            let words = match code {
                SET_VRING_ADDR => vec![ring, USER, USER, USER, 0],
                _ => vec![ring],
            };
            let fd = (code == SET_VRING_KICK || code == SET_VRING_CALL).then(eventfd);
            // 256 is what says that there is no descriptor, for ring 0.
            if fd.is_none() || ring != 256 {
                vmm.set(code, &words, fd).unwrap_err();
            }
        }
        assert!(Vmm::new().send(GET_VRING_BASE, &[ring], None).is_err());
    }
    assert_eq!(vmm.host.running(), [0, 1, 2, 3]);
}

#[test]
fn cve_2019_14818_ring_sizes_that_cannot_be_are_refused() {
    let _alone = alone();
    let mut vmm = Vmm::running(MODERN, 1);
    for size in [0, 32769, 65536, 65537, u32::MAX] {
        vmm.state(SET_VRING_NUM, 0, size).unwrap_err();
        let error = format!("SET_VRING_NUM: ring 0, size {size}: a ring has 1 to 32768 entries");
        assert_eq!(vmm.error(), error);
        assert_eq!(vmm.host.start_of(0).terms.layout.size, 256);
    }
    vmm.state(SET_VRING_NUM, 0, 100).unwrap_err();
    assert!(vmm.error().starts_with("ring 0 cannot run: ring size 100"), "{}", vmm.error());
    vmm.state(SET_VRING_NUM, 0, 128).unwrap();
    assert_eq!(vmm.host.running(), [0]);
}

#[test]
fn cve_2019_14818_a_million_repetitions_leave_nothing_behind() {
    let _alone = alone();
    let mut vmm = Vmm::running(MODERN, 1);
    let before = open_descriptors();
    for round in 0..1_000_000_u32 {
        vmm.state(SET_VRING_NUM, 1, 1 << (round % 16)).unwrap();
    }
    for _ in 0..1000 {
        vmm.set(SET_VRING_KICK, &[0], Some(eventfd())).unwrap();
        vmm.set(SET_VRING_CALL, &[0], Some(eventfd())).unwrap();
        vmm.set(SET_VRING_ERR, &[0], Some(eventfd())).unwrap();
        vmm.lend(memfd(MEMORY_BYTES)).unwrap();
    }
    // The one for errors was not there before.
    assert_eq!((open_descriptors(), vmm.host.running()), (before + 2, vec![0]));
}

#[test]
fn cve_2018_1059_rings_across_the_end_of_memory_do_not_run() {
    let _alone = alone();
    let mut vmm = Vmm::running(MODERN, 1);
    let end = USER + MEMORY_BYTES;
    for descriptors in [USER - 16, end - 16, end, u64::MAX - 15, u64::MAX, 0] {
        let [ring, _, device, driver, log] = addresses(0);
        vmm.set(SET_VRING_ADDR, &[ring, descriptors, device, driver, log], None).unwrap_err();
        assert!(vmm.error().starts_with("ring 0 cannot run: "), "{}", vmm.error());
        assert!(vmm.host.running().is_empty());
    }
    vmm.set(SET_VRING_ADDR, &addresses(0), None).unwrap();
    assert_eq!(vmm.host.running(), [0]);
}

#[test]
fn cve_2020_10722_offsets_and_sizes_that_wrap_are_refused() {
    let _alone = alone();
    let mut vmm = Vmm::with_memory(MODERN);
    for [guest, bytes, user, offset] in [
        [GUEST, u64::MAX, USER, 1],
        [GUEST, MEMORY_BYTES, USER, u64::MAX - 0xfff],
        [u64::MAX - 0xfff, MEMORY_BYTES, USER, 0],
        [GUEST, MEMORY_BYTES, u64::MAX - 0xfff, 0],
        [GUEST, 0, USER, 0],
    ] {
        let table = [1, guest, bytes, user, offset];
        vmm.set(SET_MEM_TABLE, &table, Some(memfd(MEMORY_BYTES))).unwrap_err();
        assert_eq!(vmm.session.status().memory.regions, 0);
    }
}

#[test]
fn kicks_and_calls_that_could_block_are_refused() {
    let _alone = alone();
    let mut vmm = Vmm::running(MODERN, 1);
    let socket = || OwnedFd::from(UnixStream::pair().unwrap().0);
    for code in [SET_VRING_KICK, SET_VRING_CALL, SET_VRING_ERR] {
        for fd in [socket(), memfd(8), std::io::pipe().unwrap().1.into()] {
            vmm.set(code, &[0], Some(fd)).unwrap_err();
            assert!(vmm.error().contains("ring 0: the descriptor cannot be used: not an eventfd"));
        }
        vmm.set(code, &[0], None).unwrap_err();
    }
    assert_eq!(vmm.host.running(), [0]);
    assert!(vmm.host.start_of(0).kick.is_some());
}

#[test]
fn features_acked_again_and_again_are_those_acked_last() {
    let _alone = alone();
    let mut vmm = Vmm::running(MODERN, 2);
    for bits in [0, MODERN.bits(), 1 << 34 | MODERN.bits(), 0, MODERN.bits()] {
        vmm.set(SET_FEATURES, &[bits], None).unwrap();
        let expected = if bits == 0 { vec![] } else { vec![0, 1] };
        assert_eq!(vmm.host.running(), expected);
    }
}

/// What a hostile front end sends: a request with some payload and descriptors.
#[derive(Clone, Debug)]
struct Shot {
    code: u32,
    flags: u32,
    words: Vec<u64>,
    fds: Vec<u8>,
    chunk: usize,
}

fn any_word() -> impl Strategy<Value = u64> {
    prop_oneof![
        4 => 0..5_u64,
        2 => (0..4_u64, 0..0x200_u64).prop_map(|(ring, value)| ring | value << 32),
        2 => Just(USER),
        2 => Just(GUEST),
        2 => Just(MEMORY_BYTES),
        2 => Just(MODERN.bits()),
        1 => (0..4_u64).prop_map(|ring| USER + ring * 0x1_0000),
        1 => any::<u64>(),
    ]
}

fn any_shot() -> impl Strategy<Value = Shot> {
    let fds = prop_oneof![
        8 => proptest::collection::vec(0..5_u8, 0..3),
        1 => proptest::collection::vec(0..5_u8, 8..12),
        1 => Just(vec![0; 253]),
    ];
    let words = prop_oneof![
        3 => proptest::collection::vec(any_word(), 1..2),
        3 => proptest::collection::vec(any_word(), 5..6),
        1 => proptest::collection::vec(any_word(), 0..12),
        1 => Just(vec![1, GUEST, MEMORY_BYTES, USER, 0]),
        1 => Just(addresses(0).to_vec()),
    ];
    let flags = prop_oneof![1 => Just(1), 1 => Just(9)];
    (0..46_u32, flags, words, fds, prop_oneof![3 => Just(4096), 1 => 1..40_usize])
        .prop_map(|(code, flags, words, fds, chunk)| Shot { code, flags, words, fds, chunk })
}

fn descriptor(kind: u8) -> OwnedFd {
    match kind {
        0 => memfd(MEMORY_BYTES),
        1 => eventfd(),
        2 => std::io::pipe().unwrap().1.into(),
        3 => UnixStream::pair().unwrap().0.into(),
        _ => std::fs::File::open("/").unwrap().into(),
    }
}

/// Sends a shot in pieces; `false` if the peer has hung up.
fn fire(peer: &mut UnixStream, shot: &Shot) -> bool {
    let size = 8 * shot.words.len() as u32;
    let mut bytes: Vec<u8> =
        [shot.code, shot.flags, size].into_iter().flat_map(u32::to_ne_bytes).collect();
    bytes.extend(shot.words.iter().flat_map(|word| word.to_ne_bytes()));
    let (first, rest) = bytes.split_at(shot.chunk.min(bytes.len()));
    let one = shot.fds.first().map(|kind| descriptor(*kind));
    let many: Vec<OwnedFd> = match &one {
        Some(one) if shot.fds.len() > 200 => {
            shot.fds.iter().map(|_| one.try_clone().unwrap()).collect()
        }
        _ => shot.fds.iter().map(|kind| descriptor(*kind)).collect(),
    };
    let fds: Vec<_> = many.iter().map(AsFd::as_fd).collect();
    let mut space = vec![MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(253))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    assert!(fds.is_empty() || control.push(SendAncillaryMessage::ScmRights(&fds)));
    sendmsg(&*peer, &[IoSlice::new(first)], &mut control, SendFlags::NOSIGNAL).is_ok()
        && rest.chunks(shot.chunk).all(|chunk| peer.write_all(chunk).is_ok())
}

/// Reads and handles all that is there; `false` if the connection is to be closed.
fn answer(connection: &mut Connection, vmm: &mut Vmm) -> bool {
    loop {
        match connection.receive() {
            Ok(Received::Message(message)) => match vmm.session.handle(message) {
                Ok(Handled::Reply(reply)) => {
                    if connection.send(&reply).is_err() {
                        return false;
                    }
                }
                Ok(Handled::Silently) => {}
                Ok(Handled::Stuck) => panic!("nobody holds anything"),
                Err(_) => return false,
            },
            Ok(Received::Nothing) => return true,
            Ok(Received::Again) => {}
            Ok(Received::Closed) | Err(_) => return false,
        }
    }
}

/// A connection on which rings may run already.
fn connect(rings: u32) -> (UnixStream, Connection, Vmm) {
    let (peer, ours) = UnixStream::pair().unwrap();
    (peer, Connection::new(ours).unwrap(), Vmm::running(MODERN, rings))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn cve_2022_0669_any_messages_with_any_descriptors_leave_none_open(
        shots in proptest::collection::vec(any_shot(), 1..60),
        rings in 0..3_u32,
    ) {
        let _alone = alone();
        let before = open_descriptors();
        let (mut peer, mut connection, mut vmm) = connect(rings);
        for shot in &shots {
            let alive = fire(&mut peer, shot) && answer(&mut connection, &mut vmm);
            // Eventfds of rings at most: three each; nothing of the memory.
            prop_assert!(open_descriptors() <= before + 3 + 3 * 4);
            let status = vmm.session.status();
            prop_assert!(status.rings.len() == 4 && status.memory.regions <= 8);
            if !alive {
                vmm.session.end().unwrap();
                prop_assert!(vmm.host.running().is_empty());
                drop((peer, connection));
                (peer, connection, vmm) = connect(rings);
            }
        }
        drop((peer, connection, vmm));
        prop_assert_eq!(open_descriptors(), before);
    }
}

#[test]
fn a_front_end_that_floods_and_never_reads_is_given_up() {
    let _alone = alone();
    let (mut peer, mut connection, mut vmm) = connect(0);
    let shot = Shot { code: 1, flags: 1, words: vec![], fds: vec![], chunk: 4096 };
    let given_up = (0..100_000).any(|_| {
        assert!(fire(&mut peer, &shot));
        !answer(&mut connection, &mut vmm)
    });
    assert!(given_up);
}
