//! Frames longer than a place, and longer than what the netdev takes.

use std::io;

use super::super::opening::open_by;
use super::*;
use crate::sys::xdp::{Binding, Socket};

const HEADER_BYTES: usize = 14;

/// The veth pair with this MTU at both ends.
fn lay_with(mtu: u32) {
    lay();
    for side in ["a0", "b0"] {
        ip(&format!("link set {side} mtu {mtu}"));
    }
}

/// What a kernel does that has no frames of several pieces.
fn bind_as_before_6_6(
    socket: &Socket,
    interface: u32,
    queue: u32,
    binding: Binding,
    pieces: Pieces,
) -> io::Result<()> {
    match pieces {
        Pieces::Several => Err(io::Error::from_raw_os_error(libc::EINVAL)),
        Pieces::One => socket.bind(interface, queue, binding, pieces),
    }
}

/// What is made of the MTU that the netdev has now.
fn usable(share: &Share) -> UsableMtu {
    share.usable_mtu(share.describe().unwrap().mtu)
}

#[test]
fn jumbo_frames_cross_both_ways_by_each_path() {
    in_own_network_alone(|| {
        lay_with(MTU_BYTES_MAX);
        let (guest, longest) = (guest(), MTU_BYTES_MAX as usize + HEADER_BYTES);
        for path in [DataPath::Copy, DataPath::Generic] {
            let mut device = open(&config(Mode::Only(path))).unwrap();
            assert_eq!((device.mtu, device.granted().pieces), (MTU_BYTES_MAX, Pieces::Several));
            // Around what a place holds, received and sent, once and twice.
            let lengths = [3839, 3840, 3841, 4095, 4096, 4097, 7680, 7681, 8192, 8193];
            assert_crosses(&mut device, &guest, &lengths);
            assert_crosses(&mut device, &guest, &[60, 9000 + HEADER_BYTES, longest, 1514]);
        }
    });
}

#[test]
fn every_place_comes_back_from_jumbo_frames_too() {
    in_own_network_alone(|| {
        lay_with(9000);
        let (mut device, guest) = (open(&config(Mode::Auto)).unwrap(), guest());
        for number in 0..2 * RECEIVE_FRAMES as usize {
            let frame = ethernet(0xa, number as u8, 60 + number * 37 % 8900);
            guest.send(&frame).unwrap();
            assert!(receive(&mut device) == [frame], "frame {number} from the guest");
            let frame = ethernet(0xb, number as u8, 60 + number * 41 % 8900);
            assert_eq!(transmit(&mut device, std::slice::from_ref(&frame)), [Ok(())]);
            assert!(arrive(&guest) == frame, "frame {number} to the guest");
        }
        assert_eq!(device.share().lost(), 0);
    });
}

#[test]
fn jumbo_bursts_beyond_the_budget_arrive_whole_and_in_order() {
    in_own_network_alone(|| {
        lay_with(9000);
        let (mut device, guest) = (open(&config(Mode::Auto)).unwrap(), guest());
        let burst: Vec<Vec<u8>> =
            (0..64).map(|seed| ethernet(0xb, seed, 5000 + 60 * usize::from(seed))).collect();
        for round in 0..10 {
            // Rung now and then only: what a breath of several batches comes to.
            for _ in 0..3 {
                let transmitter = &mut device.transmitters[0];
                assert_eq!(transmitter.room(64, 9014), 64);
                let fates =
                    depart(&burst, Offload::NONE, |departures| transmitter.transmit(departures));
                assert!(fates.iter().all(Result::is_ok), "{fates:?}");
            }
            device.transmitters[0].ring();
            for _ in 0..3 {
                for frame in &burst {
                    assert!(arrive(&guest) == *frame, "round {round}");
                }
            }
        }
    });
}

#[test]
fn a_larger_mtu_is_refused_with_the_remedy() {
    in_own_network_alone(|| {
        lay_with(MTU_BYTES_MAX + 1);
        let error = open(&config(Mode::Auto)).unwrap_err();
        assert!(matches!(&error, XdpError::MtuTooLarge { mtu: 9217, .. }), "{error}");
        assert!(error.to_string().contains("ip link set a0 mtu 9216"), "{error}");
    });
}

#[test]
fn a_frame_that_the_kernel_would_lose_is_named_as_the_mtu_is_by_now() {
    in_own_network_alone(|| {
        lay_with(1500);
        let (mut device, guest) = (open(&config(Mode::Auto)).unwrap(), guest());
        let share = device.share();
        let fits = |mtu: u32, device: &mut XdpDevice| {
            // The header and one tag, whatever it is.
            let longest = mtu as usize + HEADER_BYTES + 4;
            let burst = [longest + 1, longest, 60].map(|length| ethernet(0xb, 0xa, length));
            assert_eq!(transmit(device, &burst), [Err(DropReason::MtuExceeded), Ok(()), Ok(())]);
            assert_eq!(device.transmitters[0].fits(longest), Ok(()));
            assert_eq!(device.transmitters[0].fits(longest + 1), Err(DropReason::MtuExceeded));
            assert!([&burst[1], &burst[2]].iter().all(|frame| arrive(&guest) == **frame));
        };
        fits(1500, &mut device);
        for mtu in [1508, 1400, 9000, 1500] {
            for side in ["a0", "b0"] {
                ip(&format!("link set {side} mtu {mtu}"));
            }
            assert_eq!(usable(&share), UsableMtu { bytes: mtu, problem: None });
            fits(mtu, &mut device);
        }
        assert_eq!(share.lost(), 0);
        // More than can be used is said.
        ip("link set a0 mtu 10000");
        let UsableMtu { bytes, problem } = usable(&share);
        let problem = problem.unwrap();
        assert_eq!(bytes, MTU_BYTES_MAX);
        assert!(
            problem.contains("`a0`: its mtu is 10000, and xdp takes 9216 at most"),
            "{problem}"
        );
    });
}

#[test]
fn what_the_other_end_of_a_veth_does_not_take_is_counted_and_holds_up_nothing() {
    in_own_network_alone(|| {
        lay_with(1500);
        ip("link set b0 mtu 1400");
        let (mut device, guest) = (open(&config(Mode::Auto)).unwrap(), guest());
        let burst = [60, 1514, 61, 1514, 1514, 62].map(|length| ethernet(0xb, 0xa, length));
        assert!(transmit(&mut device, &burst).iter().all(Result::is_ok));
        for index in [0, 2, 5] {
            assert!(arrive(&guest) == burst[index]);
        }
        assert_eq!(device.share().lost(), 3);
    });
}

#[test]
fn an_older_kernel_s_frames_lie_in_one_piece_and_bound_the_mtu() {
    in_own_network_alone(|| {
        lay_with(MTU_ONE_PIECE_BYTES_MAX);
        let guest = guest();
        for path in [DataPath::Copy, DataPath::Generic] {
            let mut device =
                open_by(&config(Mode::Only(path)), &Caretaker::default(), bind_as_before_6_6)
                    .unwrap();
            let Granted { pieces, reason, .. } = device.granted();
            assert_eq!(*pieces, Pieces::One);
            let wanted = format!("{path} with one piece a frame, as it cannot bind");
            assert!(reason.starts_with(&wanted), "{reason}");
            let longest = MTU_ONE_PIECE_BYTES_MAX as usize + HEADER_BYTES;
            assert_crosses(&mut device, &guest, &[60, longest]);
            ip("link set a0 mtu 9000");
            let UsableMtu { bytes, problem } = usable(&device.share());
            assert_eq!(bytes, MTU_ONE_PIECE_BYTES_MAX);
            assert!(problem.unwrap().contains("takes 3814 at most here"));
            let long = ethernet(0xb, 0xa, longest + 5);
            assert_eq!(transmit(&mut device, &[long]), [Err(DropReason::MtuExceeded)]);
            drop(device);
            let error =
                open_by(&config(Mode::Only(path)), &Caretaker::default(), bind_as_before_6_6)
                    .unwrap_err();
            assert!(matches!(&error, XdpError::MtuTooLarge { mtu: 9000, .. }), "{error}");
            assert!(error.to_string().contains("ip link set a0 mtu 3814"), "{error}");
            ip(&format!("link set a0 mtu {MTU_ONE_PIECE_BYTES_MAX}"));
        }
    });
}
