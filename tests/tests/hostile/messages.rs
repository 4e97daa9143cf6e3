//! Requests that no VMM sends: sizes and ring numbers that cannot be, descriptors that are
//! missing or too many.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use hairpin_bench::front_end::message::*;
use hairpin_bench::front_end::{Connection, FrontEnd, FrontEndError, GuestMemory, Layout};
use hairpin_dataplane::port::vhost_user::features::Features;
use hairpin_dataplane::port::vhost_user::message::{Awaits, Code};
use rustix::event::{EventfdFlags, eventfd};

use super::stage::{Expected, PATIENCE, Stage};

/// Two pairs: rings 0 to 3.
const TWO_PAIRS: Layout = Layout { pairs: 2, ..Layout::SPLIT };
/// Ring numbers that two pairs do not have, among them those that a cut to 8 or 16 bits, or
/// a sign, would make another.
const NO_RINGS: [u32; 8] = [4, 255, 256, 65535, 0x1_0000, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff];

pub fn event() -> OwnedFd {
    eventfd(0, EventfdFlags::CLOEXEC).unwrap()
}

/// A guest that runs, whose VMM says something wrong now and then.
struct Vmm {
    stage: Stage,
    front: FrontEnd,
    refused: u64,
}

impl Vmm {
    fn start(layout: Layout) -> Vmm {
        let stage = Stage::start(1, layout.pairs);
        let front = stage.guest(0, layout);
        Vmm { stage, front, refused: 0 }
    }

    fn connection(&mut self) -> &mut Connection {
        self.front.connection()
    }

    /// A request is refused, counted, and said for this reason.
    #[track_caller]
    fn refuse(&mut self, code: Code, words: &[u64], fds: &[BorrowedFd<'_>], reason: &str) {
        let answer = self.connection().set(code, words, fds);
        assert!(matches!(answer, Err(FrontEndError::Refused(to)) if to == code), "{answer:?}");
        self.refused += 1;
        assert_eq!(self.stage.shown_refusing(0, self.refused)["last_refusal"], reason);
    }

    /// Nothing else has become of it: frames pass.
    #[track_caller]
    fn end(mut self) {
        self.stage.await_up(0);
        let station = self.stage.station(0);
        let frame = station.frame(1, 60);
        assert_eq!(self.front.send(&[&frame]), 1);
        let came = self.stage.helper().receive_within(PATIENCE).unwrap();
        assert_eq!(came.len(), 1);
        assert_eq!(came[0].bytes, frame);
        self.stage.expect(0, "all said", &Expected::Drops(Vec::new()));
        self.stage.end();
    }
}

#[test]
fn cve_2019_14818_ring_sizes_that_cannot_be_are_refused() {
    let mut vmm = Vmm::start(TWO_PAIRS);
    for size in [0, 32769, 65536, 65537, 0x8000_0000, u32::MAX] {
        let reason = format!("SET_VRING_NUM: ring 1, size {size}: a ring has 1 to 32768 entries");
        vmm.refuse(SET_VRING_NUM, &[state(1, size)], &[], &reason);
    }
    for size in [3, 100, 255, 32767] {
        let reason = format!(
            "ring 1 cannot run: ring size {size}: 1 to 32768, a power of two for split rings"
        );
        vmm.refuse(SET_VRING_NUM, &[state(1, size)], &[], &reason);
    }
    vmm.connection().set(SET_VRING_NUM, &[state(1, 256)], &[]).unwrap();
    vmm.end();
}

#[test]
fn cve_2019_14818_a_hundred_thousand_sizes_leave_nothing_behind() {
    let mut vmm = Vmm::start(Layout::SPLIT);
    let before = vmm.stage.descriptors();
    for round in 0..100_000_u32 {
        // Without answers, as fast as it is read: each has the ring halted and started.
        let size = 1 << (round % 9);
        vmm.connection().tell(SET_VRING_NUM, &[state(1, size)], &[]).unwrap();
    }
    vmm.connection().set(SET_VRING_NUM, &[state(1, 256)], &[]).unwrap();
    vmm.stage.expect_descriptors(before);
    vmm.end();
}

#[test]
fn cve_2020_10723_cve_2011_2512_rings_that_are_not_there_are_refused_in_every_message() {
    let mut vmm = Vmm::start(TWO_PAIRS);
    let none = |code: Code, ring| {
        format!("{code}: ring {ring}: this device has 2 queue pairs, rings 0 to 3")
    };
    for ring in NO_RINGS {
        for code in [SET_VRING_NUM, SET_VRING_BASE, SET_VRING_ENABLE] {
            vmm.refuse(code, &[state(ring, 1)], &[], &none(code, ring));
        }
        let words = [state(ring, 0), 0x7f00_0000_0000, 0x7f00_0000_1000, 0x7f00_0000_2000, 0];
        vmm.refuse(SET_VRING_ADDR, &words, &[], &none(SET_VRING_ADDR, ring));
        for code in [SET_VRING_KICK, SET_VRING_CALL, SET_VRING_ERR] {
            let (event, word) = (event(), u64::from(ring));
            let reason = match ring {
                4 | 255 => none(code, ring),
                // With it, it is ring 0 without a descriptor.
                256 => continue,
                _ => format!(
                    "{code}: ring {word:#x}: a number of 8 bits, and bit 8 if no descriptor comes"
                ),
            };
            vmm.refuse(code, &[word], &[event.as_fd()], &reason);
        }
    }
    vmm.end();
}

#[test]
fn cve_2020_10723_a_base_of_no_ring_cannot_be_told() {
    let stage = Stage::start(NO_RINGS.len(), 2);
    for (number, ring) in NO_RINGS.into_iter().enumerate() {
        let mut front = stage.guest(number, TWO_PAIRS);
        let answer = front.connection().get(GET_VRING_BASE, &[u64::from(ring)]);
        assert!(matches!(answer, Err(FrontEndError::Closed)), "{answer:?}");
        let reason = format!(
            "GET_VRING_BASE cannot be answered: GET_VRING_BASE: ring {ring}: this device has 2 \
             queue pairs, rings 0 to 3"
        );
        stage.expect(number, "a base of no ring", &Expected::Quarantined(reason));
    }
    stage.end();
}

#[test]
fn cve_2019_14818_messages_without_their_descriptors_are_refused() {
    let mut vmm = Vmm::start(Layout::PACKED);
    let lacking = |code: Code| format!("{code}: 0 descriptors came with it: it needs 1");
    for code in [SET_VRING_KICK, SET_VRING_CALL, SET_VRING_ERR] {
        vmm.refuse(code, &[0], &[], &lacking(code));
    }
    let spec = GuestMemory::new(4096).unwrap().whole();
    vmm.refuse(ADD_MEM_REG, &single_region(spec), &[], &lacking(ADD_MEM_REG));
    vmm.refuse(SET_MEM_TABLE, &table(&[spec]), &[], &lacking(SET_MEM_TABLE));
    let event = event();
    let reason = "SET_MEM_TABLE: 2 descriptors came with it: it needs 1";
    vmm.refuse(SET_MEM_TABLE, &table(&[spec]), &[event.as_fd(); 2], reason);
    vmm.end();
}

/// What a request has for its payload, where anything is right.
pub fn payload(code: Code) -> Vec<u64> {
    match code {
        SET_VRING_ADDR => vec![0, 0x7f00_0000_0000, 0x7f00_0000_1000, 0x7f00_0000_2000, 0],
        SET_MEM_TABLE => table(&[GuestMemory::new(4096).unwrap().whole()]),
        ADD_MEM_REG | REM_MEM_REG => single_region(GuestMemory::new(4096).unwrap().whole()),
        SET_VRING_NUM => vec![state(0, 256)],
        NET_SET_MTU => vec![1500],
        GET_FEATURES
        | SET_OWNER
        | Code(4)
        | GET_PROTOCOL_FEATURES
        | GET_QUEUE_NUM
        | RESET_DEVICE
        | Code(36) => Vec::new(),
        _ => vec![0],
    }
}

/// Whether a VMM waits for a reply to it that nobody here can give.
pub fn is_unanswerable(code: Code) -> bool {
    let known = [GET_FEATURES, GET_VRING_BASE, GET_PROTOCOL_FEATURES, GET_QUEUE_NUM, Code(36)];
    code.awaits() == Awaits::Reply && !known.contains(&code)
}

#[test]
fn cve_2022_0669_descriptors_of_any_number_with_any_message_are_closed() {
    const NUMBERS: [usize; 4] = [1, 8, 9, 253];
    let codes: Vec<Code> = (1..=LAST.0 + 2).map(Code).collect();
    let (odd, usual): (Vec<Code>, Vec<Code>) =
        codes.into_iter().partition(|code| is_unanswerable(*code));
    let stage = Stage::start(1 + odd.len(), 1);
    let event = event();
    let fds = [event.as_fd(); 253];
    let connection = stage.connection(0);
    // What it has all the time; some messages have it let go.
    let settled = || {
        for code in [SET_VRING_KICK, SET_VRING_CALL, SET_VRING_ERR] {
            connection.tell(code, &[0], &fds[..1]).unwrap();
        }
        connection.tell(GET_QUEUE_NUM, &[], &[]).unwrap();
        connection.hear_past_others(GET_QUEUE_NUM).unwrap();
    };
    settled();
    let before = stage.descriptors();
    let mut stray = 0;
    for code in usual {
        for number in NUMBERS {
            connection.tell(code, &payload(code), &fds[..number]).unwrap();
            settled();
            stage.expect_descriptors(before);
            stray += match code {
                SET_VRING_KICK | SET_VRING_CALL | SET_VRING_ERR | ADD_MEM_REG => number - 1,
                REM_MEM_REG => number.min(8) - 1 + number.saturating_sub(8),
                _ if code == SET_MEM_TABLE && number == 1 => 0,
                _ => number,
            };
        }
    }
    assert_eq!(stage.shown(0)["stray_descriptors"], stray);
    for (number, code) in (1..).zip(odd) {
        let connection = stage.connection(number);
        connection.tell(code, &[0], &fds).unwrap();
        let reason = format!("{code} cannot be answered: {code}: not offered here");
        stage.expect(number, "no answer", &Expected::Quarantined(reason));
        assert!(connection.is_closed_within(PATIENCE).unwrap());
    }
    stage.expect_descriptors(before);
    stage.end();
}

#[test]
fn vpp_536_features_accepted_again_and_again_are_those_accepted_last() {
    let mut vmm = Vmm::start(Layout::SPLIT);
    let usual = Layout::SPLIT.accepted();
    // Rings of one kind: what lies in their memory is none of the other's.
    let sets = [
        usual.with(Features::INDIRECT_DESC),
        Features::NONE,
        usual.with(Features::IN_ORDER),
        usual.with(Features::EVENT_IDX).with(Features::CSUM),
        usual,
    ];
    for features in sets {
        // Three times, with frames under way.
        for _ in 0..3 {
            vmm.front.hostile().ring(1).kick();
            vmm.connection().set(SET_FEATURES, &[features.bits()], &[]).unwrap();
        }
    }
    for strange in [1 << 17, 1 << 63, u64::MAX] {
        let never = Features::from_bits(strange).without(Features::OFFERED.without(Features::MQ));
        let reason = format!(
            "SET_FEATURES: {never}: never offered: have the front end ask first (GET_FEATURES)"
        );
        vmm.refuse(SET_FEATURES, &[strange], &[], &reason);
    }
    let refused = vmm.stage.shown(0)["refused_requests"].as_u64().unwrap();
    vmm.front.restart(Layout::PACKED).unwrap();
    assert_eq!(vmm.stage.shown(0)["refused_requests"], refused);
    vmm.end();
}

#[test]
fn descriptors_that_are_no_eventfds_are_refused_as_such() {
    let mut vmm = Vmm::start(Layout::SPLIT);
    let memory = GuestMemory::new(4096).unwrap();
    let kinds: [(&str, OwnedFd); 5] = [
        ("a memfd", memory.as_fd().try_clone_to_owned().unwrap()),
        ("a socket", UnixStream::pair().unwrap().0.into()),
        ("a pipe", std::io::pipe().unwrap().1.into()),
        ("a directory", File::open("/").unwrap().into()),
        (
            "an epoll",
            rustix::event::epoll::create(rustix::event::epoll::CreateFlags::CLOEXEC).unwrap(),
        ),
    ];
    for code in [SET_VRING_KICK, SET_VRING_CALL, SET_VRING_ERR] {
        for (_, fd) in &kinds {
            let reason = format!("{code}: ring 0: the descriptor cannot be used: not an eventfd");
            vmm.refuse(code, &[0], &[fd.as_fd()], &reason);
        }
    }
    vmm.end();
}
