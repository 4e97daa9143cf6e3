//! Who wakes whom: no wake-up is lost, and none is made for nothing.

use super::*;

const WISHES: [Wishes; 2] = [Wishes::Flags, Wishes::EventIndex];

/// Runs a check on each kind of ring, at every place and wrap counter of small ones, the
/// split index near all its ends.
fn everywhere(
    mut on_split: impl FnMut(Bed<SplitDriver>),
    mut on_packed: impl FnMut(Bed<PackedDriver>),
) {
    for wishes in WISHES {
        for size in [1, 2, 4, 8] {
            for around in [0_u16, 0x8000] {
                for step in 0..2 * size {
                    let index = around.wrapping_sub(size).wrapping_add(step);
                    on_split(split_at(size, Order::Any, index, wishes));
                }
            }
        }
        for size in [1, 2, 3, 8] {
            for place in (0..size).flat_map(|index| [index, index | 0x8000]) {
                on_packed(packed_at(size, Order::Any, place, wishes));
            }
        }
    }
}

/// Opens an end of each kind of ring for [`everywhere`].
macro_rules! everywhere {
    ($check:ident, $end:ident) => {
        everywhere(
            |bed| {
                let end = split::$end::open(&bed.terms).unwrap();
                $check(bed, end);
            },
            |bed| {
                let end = packed::$end::open(&bed.terms).unwrap();
                $check(bed, end);
            },
        )
    };
}

/// The two steps of a driver that is going to sleep, before which of the device's two
/// (publishing, ringing) each is made: all orders that there are.
const ORDERS: [[usize; 2]; 6] = [[0, 0], [0, 1], [0, 2], [1, 1], [1, 2], [2, 2]];

fn one_of_both_sees_the_other<D: Negotiated>(mut bed: Bed<D>, mut source: impl Source) {
    source.doorbell(Moment::Idle);
    for round in 0..3 * usize::from(bed.terms.layout.size) {
        for [ask_at, look_at] in ORDERS {
            bed.driver.refuse_calls();
            bed.send(&[readable(BUFFERS, 60)]);
            assert_eq!(take(&mut source, 64).len(), 1);
            let (mut asleep, mut rung) = (false, false);
            for step in 0..3 {
                if ask_at == step {
                    bed.driver.want_calls();
                }
                if look_at == step {
                    asleep = !bed.driver.has_returned();
                }
                match step {
                    0 => {
                        source.give_back();
                        source.flush();
                    }
                    1 => rung = source.doorbell(Moment::Idle) == Doorbell::Wanted,
                    _ => {}
                }
            }
            assert!(rung || !asleep, "round {round}: asks at {ask_at}, looks at {look_at}");
            assert_eq!(source.doorbell(Moment::Idle), Doorbell::Silent, "a second call");
            assert_eq!(bed.collected().len(), 1);
        }
    }
}

#[test]
fn a_driver_that_goes_to_sleep_is_called_or_sees_what_came_back() {
    everywhere!(one_of_both_sees_the_other, Source);
}

fn is_called_once<D: Negotiated>(mut bed: Bed<D>, mut sink: impl Sink) {
    sink.doorbell(Moment::Idle);
    for round in 0..3 * bed.terms.layout.size {
        bed.driver.want_calls();
        assert_eq!(sink.doorbell(Moment::Idle), Doorbell::Silent, "nothing was published");
        while bed.driver.add(&[writable(BUFFERS, 100)]).is_some() {}
        bed.driver.publish();
        let frames = 1 + round % bed.terms.layout.size;
        (0..frames).for_each(|_| offer(&mut sink, &[7; 60]).unwrap());
        sink.publish();
        let moment = if round % 2 == 0 { Moment::Busy } else { Moment::Idle };
        assert_eq!(sink.doorbell(moment), Doorbell::Wanted, "round {round}");
        assert_eq!(sink.doorbell(Moment::Idle), Doorbell::Silent, "a second call");
        assert_eq!(bed.collected().len(), usize::from(frames));
    }
}

#[test]
fn a_driver_that_sleeps_is_called_once_for_a_burst() {
    everywhere!(is_called_once, Sink);
}

fn is_left_alone<D: Negotiated>(mut bed: Bed<D>, mut source: impl Source) {
    source.doorbell(Moment::Idle);
    bed.driver.refuse_calls();
    for _ in 0..100 {
        bed.send(&[readable(BUFFERS, 60)]);
        take(&mut source, 64);
        source.give_back();
        source.flush();
        for moment in [Moment::Busy, Moment::Idle] {
            assert_eq!(source.doorbell(moment), Doorbell::Silent);
        }
        assert_eq!(bed.collected().len(), 1);
    }
}

#[test]
fn a_driver_that_polls_is_left_alone() {
    everywhere!(is_left_alone, Source);
}

/// By event index a driver may sleep until several entries have come back.
#[test]
fn a_split_driver_is_called_with_the_entry_that_it_named() {
    for index in [0_u16, 65530, 32765] {
        let mut bed = split_at(16, Order::Any, index, Wishes::EventIndex);
        let mut source = split::Source::open(&bed.terms).unwrap();
        source.doorbell(Moment::Idle);
        let event = DRIVER_AREA + 4 + 2 * 16;
        bed.write(event, &index.wrapping_add(5).to_le_bytes());
        for entry in 0..10 {
            bed.send(&[readable(BUFFERS, 60)]);
            take(&mut source, 64);
            source.give_back();
            source.flush();
            let expected = if entry == 5 { Doorbell::Wanted } else { Doorbell::Silent };
            assert_eq!(source.doorbell(Moment::Idle), expected, "{index}: entry {entry}");
            bed.collected();
        }
    }
}

/// What was published while the driver polled must not be taken for what it waits for, however
/// long it polled: indexes have 16 bits.
#[test]
fn a_driver_that_polled_for_a_long_time_is_called_when_it_sleeps() {
    fn check<D: Negotiated>(mut bed: Bed<D>, mut source: impl Source) {
        bed.driver.refuse_calls();
        source.doorbell(Moment::Idle);
        let mut carry = |bed: &mut Bed<D>, count: usize| {
            (0..count).for_each(|_| _ = bed.driver.add(&[readable(BUFFERS, 60)]));
            bed.driver.publish();
            take(&mut source, 64);
            source.give_back();
            source.flush();
            let rung = source.doorbell(Moment::Busy);
            assert_eq!(bed.collected().len(), count);
            rung
        };
        for _ in 0..16384 {
            carry(&mut bed, 4);
        }
        bed.driver.want_calls();
        assert_eq!(carry(&mut bed, 4), Doorbell::Wanted);
    }
    let bed = split_at(64, Order::Any, 7, Wishes::EventIndex);
    let source = split::Source::open(&bed.terms).unwrap();
    check(bed, source);
    let bed = packed_at(63, Order::Any, 7, Wishes::EventIndex);
    let source = packed::Source::open(&bed.terms).unwrap();
    check(bed, source);
}

fn carry_one<D: Negotiated>(bed: &mut Bed<D>, source: &mut impl Source) {
    assert_eq!(take(source, 64).len(), 1);
    source.give_back();
    source.flush();
    assert_eq!(bed.collected().len(), 1);
}

fn kicks_reach_the_device<D: Negotiated>(mut bed: Bed<D>, mut source: impl Source) {
    for round in 0..3 * bed.terms.layout.size {
        bed.send(&[readable(BUFFERS, 60)]);
        assert!(!bed.driver.kick_due(), "round {round}: a kick that was refused");
        assert!(source.has_frames());
        assert!(source.want_kicks(), "round {round}: frames wait");
        source.refuse_kicks();
        carry_one(&mut bed, &mut source);
        assert!(!source.has_frames());
        assert!(!source.want_kicks(), "round {round}: nothing waits");
        assert!(!source.has_frames());
        bed.send(&[readable(BUFFERS, 60)]);
        assert!(bed.driver.kick_due(), "round {round}: a kick that was asked for");
        source.refuse_kicks();
        carry_one(&mut bed, &mut source);
    }
}

#[test]
fn a_device_that_sleeps_is_kicked_or_sees_what_waits() {
    everywhere!(kicks_reach_the_device, Source);
}

#[test]
fn a_device_that_polls_is_not_kicked() {
    fn check<D: Negotiated>(mut bed: Bed<D>, mut source: impl Source) {
        source.want_kicks();
        source.refuse_kicks();
        for _ in 0..100 {
            bed.send(&[readable(BUFFERS, 60)]);
            assert!(!bed.driver.kick_due());
            take(&mut source, 64);
            source.give_back();
            source.flush();
            bed.collected();
        }
    }
    for wishes in WISHES {
        let bed = split_at(8, Order::Any, 0, wishes);
        let source = split::Source::open(&bed.terms).unwrap();
        check(bed, source);
        let bed = packed_at(8, Order::Any, 0x8000, wishes);
        let source = packed::Source::open(&bed.terms).unwrap();
        check(bed, source);
    }
}

/// A successor does not know whether its predecessor rang for what it published.
#[test]
fn a_successor_rings_for_its_predecessor_and_goes_on() {
    fn check<D: Negotiated, S: Source>(bed: &mut Bed<D>, open: impl Fn(&Terms) -> S) {
        let parts = [readable(BUFFERS, 12), readable(BUFFERS, 60)];
        let mut position = bed.terms.position;
        for round in 0..40 {
            bed.driver.want_calls();
            let mut source = open(&Terms { position, ..bed.terms.clone() });
            bed.driver.add_indirect(&parts, TABLES).unwrap();
            bed.send(&parts);
            bed.driver.add_indirect(&parts, TABLES).unwrap();
            bed.driver.publish();
            assert_eq!(take(&mut source, 2).len(), 2);
            source.give_back();
            assert_eq!(take(&mut source, 1).len(), 1);
            // The last is not given back, and nobody rang.
            position = source.position();
            drop(source);
            let mut source = open(&Terms { position, ..bed.terms.clone() });
            assert_eq!(source.doorbell(Moment::Idle), Doorbell::Wanted, "round {round}");
            assert_eq!(source.doorbell(Moment::Idle), Doorbell::Silent, "round {round}");
            bed.driver.want_calls();
            assert_eq!(take(&mut source, 64).len(), 1);
            source.give_back();
            position = source.position();
            assert_eq!(bed.collected().len(), 3);
        }
    }
    for wishes in WISHES {
        let mut bed = split_at(8, Order::Any, 65500, wishes);
        check(&mut bed, |terms| split::Source::open(terms).unwrap());
        let mut bed = packed_at(7, Order::Any, 3, wishes);
        check(&mut bed, |terms| packed::Source::open(terms).unwrap());
    }
}

/// Found by the fuzzer of packed rings: one that took a ring over at its first place took it
/// for a new one, and its driver, for one that nobody had to be called for.
#[test]
fn a_successor_rings_for_its_predecessor_at_every_place() {
    fn check<D: Negotiated, S: Source>(mut bed: Bed<D>, open: impl Fn(&Terms) -> S) {
        let mut position = bed.terms.position;
        for round in 0..3 * bed.terms.layout.size {
            let mut source = open(&Terms { position, ..bed.terms.clone() });
            source.doorbell(Moment::Idle);
            bed.driver.want_calls();
            bed.send(&[readable(BUFFERS, 60)]);
            assert_eq!(take(&mut source, 64).len(), 1);
            source.give_back();
            position = source.position();
            let mut source = open(&Terms { position, ..bed.terms.clone() });
            assert_eq!(source.doorbell(Moment::Idle), Doorbell::Wanted, "round {round}");
            assert_eq!(bed.collected().len(), 1);
        }
    }
    everywhere(
        |bed| check(bed, |terms| split::Source::open(terms).unwrap()),
        |bed| check(bed, |terms| packed::Source::open(terms).unwrap()),
    );
}

#[test]
fn a_successor_fills_the_buffers_that_its_predecessor_found() {
    fn check<D: Negotiated, S: Sink>(bed: &mut Bed<D>, open: impl Fn(&Terms) -> S) {
        let parts = [writable(BUFFERS, 12), writable(BUFFERS + 0x100, 88)];
        let mut position = bed.terms.position;
        for round in 0..40 {
            let mut sink = open(&Terms { position, ..bed.terms.clone() });
            bed.driver.add_indirect(&parts, TABLES).unwrap();
            bed.driver.add(&parts).unwrap();
            bed.driver.add_indirect(&parts, TABLES + 64).unwrap();
            bed.driver.publish();
            offer(&mut sink, &[round; 80]).unwrap();
            sink.publish();
            // Filled, not published: the successor fills it again.
            offer(&mut sink, &[0xff; 80]).unwrap();
            position = sink.position();
            let mut sink = open(&Terms { position, ..bed.terms.clone() });
            offer(&mut sink, &[round; 100]).unwrap();
            sink.publish();
            position = sink.position();
            let lengths: Vec<u32> = bed.collected().iter().map(|buffer| buffer.1).collect();
            assert_eq!(lengths, [92, 100, 12]);
        }
    }
    for wishes in WISHES {
        let mut bed = split_at(8, Order::Any, 65500, wishes);
        check(&mut bed, |terms| split::Sink::open(terms).unwrap());
        let mut bed = packed_at(7, Order::Any, 3, wishes);
        check(&mut bed, |terms| packed::Sink::open(terms).unwrap());
    }
}
