//! What is answered: one reading for all who ask at about the same time.

use std::time::{Duration, Instant};

use hyper::body::Bytes;

use super::collect::Reading;
use super::exposition::Exposition;
use super::family::Family;
use crate::switch::Switch;

/// How old a reading may be that is told: who asks all the time must not take the engine's
/// lock all the time.
const AGE: Duration = Duration::from_millis(100);

/// Reads a switch when it is asked.
#[derive(Debug)]
pub struct Source {
    switch: Switch,
    page: Option<Page>,
}

#[derive(Debug)]
struct Page {
    read: Instant,
    families: Vec<Family>,
    /// Shared by all who are being answered with it.
    texts: [Option<Bytes>; 2],
}

impl Source {
    /// Reads this switch.
    #[must_use]
    pub fn new(switch: Switch) -> Source {
        Source { switch, page: None }
    }

    /// The metrics as text.
    pub fn text(&mut self, format: Exposition) -> Bytes {
        let fresh = self.page.take().filter(|page| page.read.elapsed() < AGE);
        let page = self.page.insert(fresh.unwrap_or_else(|| Page {
            read: Instant::now(),
            families: Reading::of(&self.switch).families(),
            texts: [None, None],
        }));
        let text = &mut page.texts[format as usize];
        text.get_or_insert_with(|| format.text(&page.families).into()).clone()
    }
}
