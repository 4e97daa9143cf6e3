//! Sockets in pieces, in floods, and left alone.

#![allow(clippy::unwrap_used, reason = "a failure in the wiring is the message")]

use std::io::{IoSlice, Read as _, Write as _};
use std::os::fd::OwnedFd;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, sendmsg};

use super::*;
use crate::port::vhost_user::message::{Body, Code, PAYLOAD_BYTES_MAX};

fn pair() -> (UnixStream, Connection) {
    let (peer, ours) = UnixStream::pair().unwrap();
    (peer, Connection::new(ours).unwrap())
}

fn bytes(code: u32, payload: &[u8]) -> Vec<u8> {
    let words = [code, 1, payload.len() as u32];
    let head = words.into_iter().flat_map(u32::to_ne_bytes);
    head.chain(payload.iter().copied()).collect()
}

/// Sends bytes with copies of a pipe's writing end; the pipe ends when all are closed.
fn send_with(peer: &UnixStream, bytes: &[u8], count: usize) -> io::PipeReader {
    let (reader, writer) = io::pipe().unwrap();
    let copies: Vec<OwnedFd> =
        (0..count).map(|_| OwnedFd::from(writer.try_clone().unwrap())).collect();
    let fds: Vec<_> = copies.iter().map(AsFd::as_fd).collect();
    let mut space = vec![MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(253))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    assert!(fds.is_empty() || control.push(SendAncillaryMessage::ScmRights(&fds)));
    let sent = sendmsg(peer, &[IoSlice::new(bytes)], &mut control, SendFlags::empty()).unwrap();
    assert_eq!(sent, bytes.len());
    reader
}

#[track_caller]
fn message(connection: &mut Connection) -> Message {
    match connection.receive().unwrap() {
        Received::Message(message) => message,
        other => panic!("{other:?}"),
    }
}

/// Other tests start programs, which have copies of all descriptors for a moment.
#[track_caller]
fn assert_closed(mut reader: io::PipeReader) {
    let patience = Timespec { tv_sec: 5, tv_nsec: 0 };
    let mut end = [PollFd::new(&reader, PollFlags::IN)];
    assert_eq!(poll(&mut end, Some(&patience)).unwrap(), 1, "somebody has the other end open");
    assert_eq!(reader.read(&mut [0]).unwrap(), 0);
}

#[test]
fn messages_are_taken_one_at_a_time_each_with_its_own_descriptors() {
    let (peer, mut connection) = pair();
    let _first = send_with(&peer, &bytes(12, &[1; 8]), 1);
    let _second = send_with(&peer, &bytes(3, &[]), 0);
    let _third = send_with(&peer, &bytes(5, &[3; 72]), 2);
    let taken: Vec<_> = (0..3)
        .map(|_| message(&mut connection))
        .map(|message| (message.code.0, message.payload.len(), message.descriptors.len()))
        .collect();
    assert_eq!(taken, [(12, 8, 1), (3, 0, 0), (5, 72, 2)]);
    assert!(matches!(connection.receive(), Ok(Received::Nothing)));
}

#[test]
fn a_message_byte_by_byte_is_a_message() {
    let (mut peer, mut connection) = pair();
    let whole = bytes(12, &[1, 0, 0, 0, 0, 0, 0, 0]);
    let (last, first) = whole.split_last().unwrap();
    let _reader = send_with(&peer, &first[..1], 1);
    for byte in &first[1..] {
        assert!(matches!(connection.receive(), Ok(Received::Nothing)));
        peer.write_all(&[*byte]).unwrap();
    }
    assert!(matches!(connection.receive(), Ok(Received::Nothing)));
    peer.write_all(&[*last]).unwrap();
    let message = message(&mut connection);
    assert_eq!((message.payload.as_slice(), message.descriptors.len()), (&whole[12..], 1));
}

#[test]
fn half_a_message_holds_nothing_once_the_connection_is_dropped() {
    let (peer, mut connection) = pair();
    let reader = send_with(&peer, &bytes(12, &[1; 8])[..13], 8);
    assert!(matches!(connection.receive(), Ok(Received::Nothing)));
    drop(peer);
    assert!(matches!(connection.receive(), Ok(Received::Closed)));
    drop(connection);
    assert_closed(reader);
}

#[test]
fn descriptors_too_many_are_closed_at_once_and_counted() {
    let (peer, mut connection) = pair();
    let reader = send_with(&peer, &bytes(5, &[0; 8]), 253);
    let message = message(&mut connection);
    assert_eq!((message.descriptors.len(), message.surplus), (DESCRIPTORS_MAX, 245));
    drop(message);
    assert_closed(reader);
    let _none = send_with(&peer, &bytes(3, &[]), 0);
    let Ok(Received::Message(next)) = connection.receive() else { panic!() };
    assert_eq!((next.descriptors.len(), next.surplus), (0, 0));
}

#[test]
fn descriptors_with_every_byte_of_a_message_do_not_add_up() {
    let (peer, mut connection) = pair();
    let readers: Vec<_> =
        bytes(2, &[0; 8]).iter().map(|byte| send_with(&peer, &[*byte], 3)).collect();
    // The bound on system calls is reached first.
    assert!(matches!(connection.receive(), Ok(Received::Again)));
    let message = message(&mut connection);
    assert_eq!((message.descriptors.len(), message.surplus), (DESCRIPTORS_MAX, 52));
    drop(message);
    readers.into_iter().for_each(assert_closed);
}

#[test]
fn what_is_no_message_ends_the_connection() {
    let (mut peer, mut connection) = pair();
    peer.write_all(b"GET / HTTP/1.1\r\n").unwrap();
    assert!(matches!(connection.receive(), Err(ConnectionError::Header(_))));
    let (mut peer, mut connection) = pair();
    peer.write_all(&bytes(1, &vec![0; PAYLOAD_BYTES_MAX + 1])).unwrap();
    assert!(matches!(connection.receive(), Err(ConnectionError::Header(_))));
}

#[test]
fn the_longest_payload_is_taken() {
    let (mut peer, mut connection) = pair();
    peer.write_all(&bytes(99, &vec![7; PAYLOAD_BYTES_MAX])).unwrap();
    assert_eq!(message(&mut connection).payload, vec![7; PAYLOAD_BYTES_MAX]);
}

#[test]
fn a_peer_that_is_gone_is_noticed_and_signals_nothing() {
    let (peer, mut connection) = pair();
    drop(peer);
    assert!(matches!(connection.receive(), Ok(Received::Closed)));
    let reply = Reply { code: Code(1), body: Body::Value(0) };
    assert!(matches!(connection.send(&reply), Err(ConnectionError::Io(_))));
}

#[test]
fn replies_arrive_in_order() {
    let (mut peer, mut connection) = pair();
    let reply = |value| Reply { code: Code(1), body: Body::Value(value) };
    connection.send(&reply(1)).unwrap();
    connection.send(&reply(2)).unwrap();
    let mut got = [0; 40];
    peer.read_exact(&mut got).unwrap();
    assert_eq!(got, [reply(1).encode(), reply(2).encode()].concat()[..]);
    assert!(!connection.holds_output());
}

#[test]
fn a_peer_that_never_reads_is_given_up_and_one_that_reads_late_is_not() {
    let (mut peer, mut connection) = pair();
    let reply = Reply { code: Code(1), body: Body::Value(1) };
    let mut sent = 0_usize;
    while !connection.holds_output() {
        connection.send(&reply).unwrap();
        sent += 1;
    }
    let mut got = vec![0; sent * 20];
    let (first, rest) = got.split_at_mut(20);
    peer.read_exact(first).unwrap();
    // The socket's buffer is let go of whole buffers at a time.
    peer.read_exact(rest.split_at_mut((sent - 2) * 20).0).unwrap();
    connection.flush().unwrap();
    assert!(!connection.holds_output());
    let unread = (0..1_000_000).find_map(|_| connection.send(&reply).err()).unwrap();
    assert!(matches!(unread, ConnectionError::Unread));
    assert!(connection.output.len() <= OUTPUT_BYTES_MAX);
}
