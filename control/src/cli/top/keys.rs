//! What keys do.

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::model::Model;
use super::screen::{Page, Screen, Typing};

/// Rows of a page, roughly.
const PAGE: isize = 10;
/// More than there are rows.
const FAR: isize = isize::MAX;

/// Every key, with what it does.
pub const KEYS: [(&str, &str); 11] = [
    ("↑ ↓  k j", "up, down"),
    ("PgUp PgDn", "ten rows up, down"),
    ("Home End  g G", "to the first, the last"),
    ("Enter", "open a port: drops with meaning and remedy, VMM, history"),
    ("Esc", "back; in the list: no filter"),
    ("s", "sort by name, received, sent, drops, state"),
    ("n r t d", "sort by name, received, sent (transmitted), drops"),
    ("S", "the other way"),
    ("/", "show only those with this in their name or state; Enter ends it"),
    ("?", "this page"),
    ("q  Ctrl-C", "quit"),
];

/// What becomes of the program.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// It goes on.
    Stay,
    /// It ends.
    Quit,
}

/// Does what a key asks for.
pub fn press(screen: &mut Screen, model: &Model, key: KeyEvent) -> Outcome {
    if key.modifiers.contains(KeyModifiers::CONTROL) {
        return if key.code == KeyCode::Char('c') { Outcome::Quit } else { Outcome::Stay };
    }
    match screen.typing {
        Typing::Filter => type_filter(screen, key.code),
        Typing::Commands => return command(screen, model, key.code),
    }
    Outcome::Stay
}

fn type_filter(screen: &mut Screen, key: KeyCode) {
    match key {
        KeyCode::Enter => screen.typing = Typing::Commands,
        KeyCode::Esc => {
            screen.filter.clear();
            screen.typing = Typing::Commands;
        }
        KeyCode::Backspace => {
            screen.filter.pop();
        }
        // Names have 64 characters at most.
        KeyCode::Char(character) if screen.filter.len() < 64 => screen.filter.push(character),
        _ => {}
    }
}

fn command(screen: &mut Screen, model: &Model, key: KeyCode) -> Outcome {
    use super::screen::Sort;
    match key {
        KeyCode::Char('q') => return Outcome::Quit,
        KeyCode::Char('?' | 'h') | KeyCode::F(1) => screen.page = Page::Help,
        KeyCode::Esc | KeyCode::Left | KeyCode::Backspace => match screen.page {
            Page::List => screen.filter.clear(),
            Page::Port { .. } | Page::Help => screen.page = Page::List,
        },
        KeyCode::Enter | KeyCode::Right => match screen.page {
            Page::List => screen.open(model),
            Page::Help => screen.page = Page::List,
            Page::Port { .. } => {}
        },
        KeyCode::Up | KeyCode::Char('k') => screen.step(model, -1),
        KeyCode::Down | KeyCode::Char('j') => screen.step(model, 1),
        KeyCode::PageUp => screen.step(model, -PAGE),
        KeyCode::PageDown | KeyCode::Char(' ') => screen.step(model, PAGE),
        KeyCode::Home | KeyCode::Char('g') => screen.step(model, -FAR),
        KeyCode::End | KeyCode::Char('G') => screen.step(model, FAR),
        KeyCode::Char('/') => {
            screen.page = Page::List;
            screen.filter.clear();
            screen.typing = Typing::Filter;
        }
        KeyCode::Char('s') => screen.sort_by_next(),
        KeyCode::Char('S') => screen.reverse(),
        KeyCode::Char('n') => screen.sort = Sort::Name,
        KeyCode::Char('r') => screen.sort = Sort::Received,
        KeyCode::Char('t') => screen.sort = Sort::Sent,
        KeyCode::Char('d') => screen.sort = Sort::Drops,
        _ => {}
    }
    Outcome::Stay
}
