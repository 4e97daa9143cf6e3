//! What the driver does once it is not honest any more.

use hairpin_dataplane::frame::Batch;
use hairpin_dataplane::sys::virtqueue::driver::Negotiated;

use super::bed::{Bed, Conduct, write};
use crate::fuzz::input::Input;

impl<D: Negotiated> Bed<D> {
    /// Writes a word, or a descriptor, where a ring has one.
    pub(super) fn forge(&mut self, input: &mut Input<'_>) {
        self.conduct = Conduct::Hostile;
        let (address, bytes) = self.grounds[input.below(2)].draw(input);
        write(&self.memory, address, &bytes);
    }

    /// Writes a table of descriptors somewhere.
    pub(super) fn forge_table(&mut self, input: &mut Input<'_>) {
        self.conduct = Conduct::Hostile;
        let (address, bytes) = self.grounds[0].table(input);
        write(&self.memory, address, &bytes);
    }

    /// Writes anything anywhere.
    pub(super) fn scribble(&mut self, input: &mut Input<'_>) {
        self.conduct = Conduct::Hostile;
        let (address, count) = (input.word32(), input.below(64));
        let bytes = input.bytes(count);
        write(&self.memory, u64::from(address & 0x7_ffff), bytes);
    }
}

/// What was found lies in memory: its first and last bytes are there to be read.
pub(super) fn look_at(batch: &Batch) {
    for index in 0..batch.count() {
        let view = batch.view(index);
        assert!(view.header.len() <= view.length());
        let length: usize = view.body.places().map(|place| place.length()).sum();
        assert_eq!(length, view.body.length());
        for place in view.body.places() {
            place.read(&mut [0; 8]);
            place.split(place.length() - 1).1.read(&mut [0]);
        }
    }
}
