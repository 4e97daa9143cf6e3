//! A driver's receive queue, over either kind of ring.

use super::window::{AHEAD, Window};
use super::{
    CHAIN_DESCRIPTORS, Doorbell, LayoutError, Moment, NetHeader, Position, Refusal, RingFault,
    Terms,
};
use crate::sys::memory::Body;

/// Descriptors that are looked at to see how much room there is: a chain of the longest
/// kind has room behind them.
const ROOM_DESCRIPTORS: usize = CHAIN_DESCRIPTORS;

/// What the two kinds of rings do each in their own way.
pub trait Buffers: Sized {
    /// Opens the queue, and tells the driver that it need not kick.
    ///
    /// # Errors
    /// [`LayoutError`].
    fn open(terms: &Terms) -> Result<Self, LayoutError>;

    /// Finds buffers, each of one descriptor or a chain of them, until this many
    /// descriptors lie ahead or there are no more.
    ///
    /// # Errors
    /// [`RingFault`].
    fn find(&mut self, window: &mut Window, wanted: usize) -> Result<(), RingFault>;

    /// Shows the driver the frames that the window's buffers were filled with.
    fn publish(&mut self, window: &mut Window);

    /// Whether the driver wants to hear of what was published.
    fn doorbell(&mut self, moment: Moment) -> Doorbell;

    /// Where it stands. Buffers found ahead count as not taken.
    fn position(&self) -> Position;
}

/// The driver's receive queue.
#[derive(Debug)]
pub struct Sink<R> {
    ring: R,
    window: Window,
    fault: Option<RingFault>,
}

impl<R: Buffers> Sink<R> {
    /// Opens the queue, and tells the driver that it need not kick.
    ///
    /// # Errors
    /// [`LayoutError`].
    pub fn open(terms: &Terms) -> Result<Sink<R>, LayoutError> {
        let window = Window::new(&terms.memory, terms.merge);
        Ok(Sink { ring: R::open(terms)?, window, fault: None })
    }

    /// Finds buffers until this many descriptors lie ahead.
    #[inline(always)]
    fn find_ahead(&mut self, wanted: usize) {
        if self.fault.is_none() {
            self.fault = self.ring.find(&mut self.window, wanted).err();
        }
    }

    /// Looks for more buffers than usual, and says what is wrong with the ring if
    /// there are none.
    #[cold]
    fn offer_again(
        &mut self,
        net: NetHeader,
        header: &[u8],
        body: Body<'_>,
    ) -> Result<(), Refusal> {
        self.find_ahead(CHAIN_DESCRIPTORS);
        match (self.window.fill(net, header, body), self.fault) {
            (Err(Refusal::NoBuffer), Some(fault)) => Err(Refusal::Broken(fault)),
            (fate, _) => fate,
        }
    }
}

impl<R: Buffers> super::Sink for Sink<R> {
    #[inline]
    fn offer(&mut self, net: NetHeader, header: &[u8], body: Body<'_>) -> Result<(), Refusal> {
        match self.window.fill(net, header, body) {
            Err(Refusal::NoBuffer) => self.offer_again(net, header, body),
            fate => fate,
        }
    }

    #[inline]
    fn publish(&mut self) {
        self.ring.publish(&mut self.window);
    }

    #[inline]
    fn look_ahead(&mut self) {
        self.find_ahead(AHEAD);
    }

    #[inline]
    fn prefetch(&self, ahead: usize, length: usize) {
        self.window.prefetch(ahead, length);
    }

    fn room(&mut self, wanted: usize, length: usize) -> usize {
        self.find_ahead(ROOM_DESCRIPTORS);
        self.window.room(wanted, length)
    }

    #[inline]
    fn recycle(&mut self, length: u32) -> Result<(), Refusal> {
        self.window.skip(length)
    }

    #[inline]
    fn doorbell(&mut self, moment: Moment) -> Doorbell {
        self.ring.doorbell(moment)
    }

    fn fault(&self) -> Option<RingFault> {
        self.fault
    }

    fn position(&self) -> Position {
        self.ring.position()
    }
}
