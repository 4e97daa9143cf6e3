//! What the tests of ports share: frames, and bringing them to a transmitter.

use super::Departure;
use crate::frame::{BATCH_FRAMES, Batch, HEADER_BYTES};
use crate::ledger::DropReason;
use crate::sys::memory::{Mapping, Memory, Region, RegionHint};
use crate::wire::offload::Offload;
use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use std::os::fd::AsFd;
use std::sync::Arc;

/// Bytes that differ with the seed and with the place.
pub(super) fn pattern(seed: usize, length: usize) -> Vec<u8> {
    (0..length).map(|at| (seed * 31 + at * 7 + at / 251) as u8).collect()
}

/// An Ethernet frame of `length` bytes from 02-…-`source` to 02-…-`destination`,
/// of an EtherType for experiments.
pub(super) fn ethernet(destination: u8, source: u8, length: usize) -> Vec<u8> {
    let mut frame = pattern(usize::from(source), length);
    frame[..6].copy_from_slice(&[2, 0, 0, 0, 0, destination]);
    frame[6..12].copy_from_slice(&[2, 0, 0, 0, 0, source]);
    frame[12..14].copy_from_slice(&[0x88, 0xb5]);
    frame
}

/// A frame of a batch, put together.
pub(super) fn whole(batch: &Batch, index: usize) -> Vec<u8> {
    let view = batch.view(index);
    let mut frame = view.header.to_vec();
    frame.resize(view.length(), 0);
    assert_eq!(view.body.read(&mut frame[view.header.len()..]), view.body.length());
    frame
}

/// All frames of a batch, put together.
pub(super) fn frames(batch: &Batch) -> Vec<Vec<u8>> {
    (0..batch.count()).map(|index| whole(batch, index)).collect()
}

/// Brings a frame to a transmitter whose sender cut its memory short after the frame's first
/// bytes were read; says what became of it, and whether its memory is known to be cut.
pub(super) fn depart_cut_short(
    frame: &[u8],
    transmit: impl FnOnce(&mut [Departure<'_>]),
) -> (Result<(), DropReason>, bool) {
    const PAGE: u64 = 4096;
    let file = memfd_create("guest", MemfdFlags::CLOEXEC).unwrap();
    ftruncate(&file, 2 * PAGE).unwrap();
    let mapping = Mapping::shared(file.as_fd(), 0, 2 * PAGE as usize).unwrap();
    let region = Region::new(0, mapping.watched().unwrap()).unwrap();
    let memory = Arc::new(Memory::new(vec![region]));
    let (mut batch, mut hint) = (Batch::new(), RegionHint::default());
    // In two pages, the first bytes in the first of them.
    let piece = (PAGE - HEADER_BYTES as u64 - 10, frame.len() as u32);
    memory.place(&mut hint, piece.0, piece.1).unwrap().write(frame);
    batch.begin(&memory);
    batch.push(&mut hint, &[piece], Offload::NONE);
    ftruncate(&file, PAGE).unwrap();
    let mut departures = [batch.view(0).into()];
    transmit(&mut departures);
    (departures[0].fate, memory.is_poisoned())
}

/// Brings frames to a transmitter as the worker does: first bytes private, the
/// rest in somebody's memory, in two pieces. Says what became of each.
pub(super) fn depart(
    frames: &[Vec<u8>],
    offload: Offload,
    transmit: impl FnOnce(&mut [Departure<'_>]),
) -> Vec<Result<(), DropReason>> {
    assert!(frames.len() <= BATCH_FRAMES);
    let bytes: usize = frames.iter().map(|frame| frame.len() + 128).sum();
    let memory = Arc::new(Memory::arena(bytes + 4096).unwrap());
    let mut batch = Batch::new();
    let mut hint = RegionHint::default();
    batch.begin(&memory);
    let mut at = 0;
    for frame in frames {
        let cut = frame.len() * 2 / 3;
        let second = at + cut as u64 + 64;
        memory.place(&mut hint, at, cut as u32).unwrap().write(frame);
        let rest = (frame.len() - cut) as u32;
        memory.place(&mut hint, second, rest).unwrap().write(&frame[cut..]);
        batch.push(&mut hint, &[(at, cut as u32), (second, rest)], offload);
        at = second + u64::from(rest);
    }
    assert_eq!(batch.count(), frames.len());
    let mut departures: Vec<Departure<'_>> =
        (0..batch.count()).map(|index| batch.view(index).into()).collect();
    transmit(&mut departures);
    departures.iter().map(|departure| departure.fate).collect()
}
