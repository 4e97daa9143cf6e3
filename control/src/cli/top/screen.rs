//! What of it is shown, in which order, and where the reader is.

use std::cmp::Ordering;

use super::model::{Model, Row};

/// What fills the screen.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Page {
    /// All ports and links, drops and workers.
    List,
    /// One port or link.
    Port {
        /// Its name.
        name: String,
        /// Lines that are above the screen.
        scrolled: u16,
    },
    /// The keys.
    Help,
}

/// By what ports are sorted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sort {
    /// By name, from the first.
    Name,
    /// By frames received, from the most.
    Received,
    /// By frames sent, from the most.
    Sent,
    /// By frames dropped, from the most.
    Drops,
    /// By state, those that are not up first.
    State,
}

impl Sort {
    /// In the order in which a key goes through them.
    pub const ALL: [Sort; 5] = [Sort::Name, Sort::Received, Sort::Sent, Sort::Drops, Sort::State];

    /// What it is called.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Sort::Name => "name",
            Sort::Received => "received",
            Sort::Sent => "sent",
            Sort::Drops => "drops",
            Sort::State => "state",
        }
    }

    fn compare(self, a: &Row, b: &Row) -> Ordering {
        let most = |read: fn(&Row) -> f64| read(b).total_cmp(&read(a));
        let ordered = match self {
            Sort::Name => Ordering::Equal,
            Sort::Received => most(|row| row.rates.rx_frames),
            Sort::Sent => most(|row| row.rates.tx_frames),
            Sort::Drops => most(|row| row.rates.drops + row.rates.device_drops),
            Sort::State => b.state.cmp(&a.state),
        };
        ordered.then_with(|| a.name.cmp(&b.name))
    }
}

/// Which way it is sorted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Order {
    /// As is usual for what it is sorted by.
    Usual,
    /// The other way.
    Reversed,
}

/// Where keys go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Typing {
    /// They are commands.
    Commands,
    /// They are the filter's text.
    Filter,
}

/// Where the reader is.
#[derive(Clone, Debug)]
pub struct Screen {
    /// What fills the screen.
    pub page: Page,
    /// By what ports are sorted.
    pub sort: Sort,
    /// Which way.
    pub order: Order,
    /// Only ports whose name or state has this in it are shown.
    pub filter: String,
    /// Where keys go.
    pub typing: Typing,
    /// The port at which the reader is, by name: it stays the same when others move.
    pub selected: Option<String>,
}

impl Default for Screen {
    fn default() -> Screen {
        Screen {
            page: Page::List,
            sort: Sort::Name,
            order: Order::Usual,
            filter: String::new(),
            typing: Typing::Commands,
            selected: None,
        }
    }
}

impl Screen {
    /// The rows that are shown, in their order.
    #[must_use]
    pub fn rows<'m>(&self, model: &'m Model) -> Vec<&'m Row> {
        let wanted = self.filter.to_lowercase();
        let matches = |row: &&Row| {
            let state = crate::cli::words::state(row.state);
            row.name.to_lowercase().contains(&wanted) || state.contains(&wanted)
        };
        let mut rows: Vec<&Row> = model.rows.iter().filter(matches).collect();
        rows.sort_by(|a, b| self.sort.compare(a, b));
        if self.order == Order::Reversed {
            rows.reverse();
        }
        rows
    }

    /// Where the reader is among these rows: at the first if nowhere.
    #[must_use]
    pub fn position(&self, rows: &[&Row]) -> usize {
        let selected = self.selected.as_ref();
        let at = selected.and_then(|name| rows.iter().position(|row| row.name == *name));
        at.unwrap_or(0)
    }

    /// Goes so many rows down, or up.
    pub fn step(&mut self, model: &Model, rows_down: isize) {
        if let Page::Port { scrolled, .. } = &mut self.page {
            let down =
                i16::try_from(rows_down).unwrap_or(if rows_down > 0 { i16::MAX } else { i16::MIN });
            *scrolled = scrolled.saturating_add_signed(down);
            return;
        }
        let rows = self.rows(model);
        let last = rows.len().saturating_sub(1);
        let at = self.position(&rows).saturating_add_signed(rows_down).min(last);
        self.selected = rows.get(at).map(|row| row.name.clone());
    }

    /// Opens the port at which the reader is.
    pub fn open(&mut self, model: &Model) {
        let rows = self.rows(model);
        if let Some(row) = rows.get(self.position(&rows)) {
            let name = row.name.clone();
            self.selected = Some(name.clone());
            self.page = Page::Port { name, scrolled: 0 };
        }
    }

    /// Sorts by what comes next.
    pub fn sort_by_next(&mut self) {
        let at = Sort::ALL.iter().position(|sort| *sort == self.sort).unwrap_or(0);
        (self.sort, self.order) = (Sort::ALL[(at + 1) % Sort::ALL.len()], Order::Usual);
    }

    /// Sorts the other way.
    pub fn reverse(&mut self) {
        self.order = match self.order {
            Order::Usual => Order::Reversed,
            Order::Reversed => Order::Usual,
        };
    }
}
