//! Cases that a guest commits by its transmit queue, as tables: each at a port of its own,
//! by split rings and by packed ones.

use hairpin_bench::front_end::hostile::RawRing;
use hairpin_bench::front_end::station::Station;
use hairpin_bench::front_end::{Chains, FrontEnd, Layout};
use hairpin_dataplane::port::vhost_user::features::Features;
use hairpin_dataplane::sys::virtqueue::driver::Buffer;

use super::stage::{Expected, NOBODY, Stage, mac};

/// The first pair's ring to receive by, and to transmit by.
pub const RECEIVE: usize = 0;
pub const TRANSMIT: usize = 1;
/// Bytes of a frame that nothing is wrong with.
pub const FRAME_BYTES: usize = 60;

/// By which rings a case can be committed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rings {
    Both,
    Split,
    Packed,
}

impl Rings {
    fn layouts(self) -> &'static [Layout] {
        const BOTH: [Layout; 2] = [Layout::SPLIT, Layout::PACKED];
        match self {
            Rings::Both => &BOTH,
            Rings::Split => &BOTH[..1],
            Rings::Packed => &BOTH[1..],
        }
    }
}

/// Something that a guest does, and what is to become of it.
pub struct Case {
    /// In words.
    pub what: &'static str,
    pub rings: Rings,
    /// What the driver has accepted beside the usual.
    pub features: Features,
    pub commit: fn(&mut Guest),
    pub expected: Expected,
}

/// A guest at a case's port.
pub struct Guest {
    pub front: FrontEnd,
    pub station: Station,
}

impl Guest {
    /// A frame to nobody that nothing is wrong with, in this transmit buffer.
    pub fn sound(&mut self, buffer: u16) -> Buffer {
        let frame = self.station.frame(u64::from(buffer), FRAME_BYTES);
        self.front.hostile().lay_complete(buffer, &frame)
    }

    /// Sends a chain, whatever it names.
    #[track_caller]
    pub fn transmit(&mut self, chain: &[Buffer]) {
        let mut hostile = self.front.hostile();
        hostile.offer(TRANSMIT, chain).expect("room in the ring");
        hostile.publish(TRANSMIT);
    }

    /// The transmit ring as bytes.
    pub fn ring(&mut self) -> RawRing {
        self.front.hostile().ring(TRANSMIT)
    }

    /// Memory that nothing else lies in.
    pub fn spare(&mut self) -> u64 {
        self.front.hostile().spare()
    }
}

/// Commits each case at a port of its own, while two others exchange frames.
#[track_caller]
pub fn run(cases: &[Case]) {
    run_with(cases, |layout| layout);
}

/// The same with other layouts.
#[track_caller]
pub fn run_with(cases: &[Case], change: fn(Layout) -> Layout) {
    let each = |case: &Case| case.rings.layouts().len();
    let stage = Stage::start(cases.iter().map(each).sum(), 1);
    let mut number = 0;
    for case in cases {
        for layout in case.rings.layouts() {
            let layout = change(layout.with(case.features, Chains::Whole));
            let what = format!("{}, {}", case.what, layout.name);
            let front = stage.guest(number, layout);
            let station = Station { own: mac(number), peer: NOBODY };
            let mut guest = Guest { front, station };
            (case.commit)(&mut guest);
            stage.expect(number, &what, &case.expected);
            number += 1;
        }
    }
    stage.end();
}
