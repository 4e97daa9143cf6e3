//! How rates went, as far back as is shown.

use std::collections::VecDeque;

/// Looks that are kept, a rate each: as many as the widest terminal has columns for.
const LOOKS: usize = 240;
/// Heights of a column, from nothing to full.
const BARS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// Frames a second, by look.
#[derive(Clone, Debug, Default)]
pub struct History {
    looks: VecDeque<(f64, f64)>,
}

impl History {
    /// Adds a look: frames received and sent a second.
    pub fn push(&mut self, rx: f64, tx: f64) {
        if self.looks.len() == LOOKS {
            self.looks.pop_front();
        }
        self.looks.push_back((rx, tx));
    }

    /// What was received, the last looks, oldest first.
    #[must_use]
    pub fn received(&self, most: usize) -> Vec<u64> {
        self.last(most).map(|(rx, _)| rx as u64).collect()
    }

    /// What was sent, likewise.
    #[must_use]
    pub fn sent(&self, most: usize) -> Vec<u64> {
        self.last(most).map(|(_, tx)| tx as u64).collect()
    }

    fn last(&self, most: usize) -> impl Iterator<Item = (f64, f64)> + '_ {
        self.looks.iter().copied().skip(self.looks.len().saturating_sub(most))
    }

    /// Both together in one line of so many columns, the newest at the right, its
    /// greatest at full height; anything above nothing can be seen.
    #[must_use]
    pub fn line(&self, columns: usize) -> String {
        let sums: Vec<f64> = self.last(columns).map(|(rx, tx)| rx + tx).collect();
        let greatest = sums.iter().copied().fold(0.0, f64::max);
        let bar = |sum: &f64| match *sum > 0.0 {
            false => BARS[0],
            true => BARS[((sum / greatest * 8.0).ceil() as usize).clamp(1, 8)],
        };
        let bars: String = sums.iter().map(bar).collect();
        format!("{bars:>columns$}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_ends_with_the_newest_and_shows_what_is_little() {
        let mut history = History::default();
        assert_eq!(history.line(4), "    ");
        for rate in [1.0, 800.0, 0.0, 400.0] {
            history.push(rate / 2.0, rate / 2.0);
        }
        assert_eq!(history.line(6), "  ▁█ ▄");
        assert_eq!(history.line(2), " █");
        assert_eq!((history.received(2), history.sent(9)), (vec![0, 200], vec![0, 400, 0, 200]));
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let mut history = History::default();
        (0..1000).for_each(|look| history.push(f64::from(look), 0.0));
        assert_eq!(history.received(usize::MAX).len(), LOOKS);
        assert_eq!(history.received(1), [999]);
    }
}
