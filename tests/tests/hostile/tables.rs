//! Tables of descriptors that a descriptor names.

use hairpin_bench::front_end::hostile::{INDIRECT, NEXT};
use hairpin_dataplane::ledger::DropReason::{BadAddress, TooManySegments, UnknownUnicast};
use hairpin_dataplane::port::vhost_user::features::Features;
use hairpin_dataplane::port::vhost_user::queue::RingKind;

use super::cases::{Case, Guest, Rings, run};
use super::descriptors::{case, cut};
use super::stage::drops;

const TABLES: Features = Features::INDIRECT_DESC;

/// A guest sends its frame by a table whose entry, the first or the second, is spoiled.
fn transmit_table(guest: &mut Guest, spoil: fn(&mut [u8; 32], Rings)) {
    let parts = cut(guest.sound(0), &[12]);
    let (table, ring) = (guest.spare(), guest.ring());
    let rings = match ring.kind() {
        RingKind::Split => Rings::Split,
        RingKind::Packed => Rings::Packed,
    };
    let mut bytes = [0; 32];
    for (entry, part) in bytes.chunks_exact_mut(16).zip(&parts) {
        entry[..8].copy_from_slice(&part.address.to_le_bytes());
        entry[8..12].copy_from_slice(&part.length.to_le_bytes());
    }
    if rings == Rings::Split {
        bytes[12] = NEXT as u8;
        bytes[14] = 1;
    }
    spoil(&mut bytes, rings);
    ring.memory().write(table, &bytes);
    ring.publish_first(table, 32, INDIRECT);
}

/// Where an entry of a table has its flags.
fn flags_at(rings: Rings) -> usize {
    if rings == Rings::Split { 12 } else { 14 }
}

/// A guest names a table of so many bytes.
fn name_table(guest: &mut Guest, bytes: u32) {
    let at = guest.spare();
    guest.ring().publish_first(at, bytes, INDIRECT);
}

#[test]
fn cve_2019_14835_tables_of_descriptors_that_are_none() {
    let of_tables =
        |what, commit, expected| Case { features: TABLES, ..case(what, commit, expected) };
    run(&[
        of_tables("sound", |guest| transmit_table(guest, |_, _| {}), drops(UnknownUnicast, 1)),
        of_tables(
            "a table in a table",
            |guest| {
                transmit_table(guest, |bytes, rings| bytes[flags_at(rings)] |= INDIRECT as u8);
            },
            drops(BadAddress, 1),
        ),
        of_tables(
            "a table in the second entry of a table",
            |guest| {
                transmit_table(guest, |bytes, rings| {
                    bytes[16 + flags_at(rings)] |= INDIRECT as u8;
                });
            },
            drops(BadAddress, 1),
        ),
        Case {
            rings: Rings::Split,
            ..of_tables(
                "a loop",
                |guest| transmit_table(guest, |bytes, _| bytes[14] = 0),
                drops(TooManySegments, 1),
            )
        },
        Case {
            rings: Rings::Split,
            ..of_tables(
                "a next one beyond its end",
                |guest| transmit_table(guest, |bytes, _| bytes[15] = 0xff),
                drops(BadAddress, 1),
            )
        },
        of_tables("half an entry", |guest| name_table(guest, 24), drops(BadAddress, 1)),
        of_tables("no entry", |guest| name_table(guest, 0), drops(BadAddress, 1)),
        of_tables("4 GiB of entries", |guest| name_table(guest, 0xffff_fff0), drops(BadAddress, 1)),
        of_tables(
            "in no memory",
            |guest| guest.ring().publish_first(u64::MAX - 15, 32, INDIRECT),
            drops(BadAddress, 1),
        ),
        case("never negotiated", |guest| transmit_table(guest, |_, _| {}), drops(BadAddress, 1)),
    ]);
}
