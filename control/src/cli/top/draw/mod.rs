//! The screen as it is drawn: a head, a body, a foot.
//!
//! * [`list`] — ports and links. [`panes`] — what is below them, as far as there is room.
//! * [`port`] — one port or link. [`units`] — numbers in a few columns.

pub mod list;
pub mod panes;
pub mod port;
pub mod units;

use std::time::Instant;

use hairpin_proto::v1;
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::Paragraph;

use super::keys::KEYS;
use super::model::{Connection, Model};
use super::screen::{Order, Page, Screen, Typing};
use units::{bits, short};

/// What is not as it should be.
pub const ALARM: Style = Style::new().fg(Color::Red).add_modifier(Modifier::BOLD);
/// What is to be noticed.
pub const NOTICE: Style = Style::new().fg(Color::Yellow);
/// Titles.
pub const TITLE: Style = Style::new().add_modifier(Modifier::BOLD);
/// What is there to be read if somebody looks for it.
pub const FAINT: Style = Style::new().add_modifier(Modifier::DIM);
/// Where the reader is.
pub const SELECTED: Style = Style::new().add_modifier(Modifier::REVERSED);

/// How a state is drawn.
#[must_use]
pub fn state_style(state: v1::State) -> Style {
    match state {
        v1::State::Up => Style::new().fg(Color::Green),
        v1::State::Down | v1::State::Waiting => NOTICE,
        v1::State::Quarantined => ALARM,
        v1::State::Unspecified => Style::new(),
    }
}

/// Draws all of it.
pub fn draw(frame: &mut Frame<'_>, model: &Model, screen: &mut Screen, now: Instant) {
    let rows = [Constraint::Length(2), Constraint::Min(0), Constraint::Length(1)];
    let [head, body, foot] = Layout::vertical(rows).areas(frame.area());
    frame.render_widget(Paragraph::new(head_lines(model, now)), head);
    match screen.page.clone() {
        Page::List => list_and_panes(frame, body, model, screen),
        Page::Port { name, scrolled } => {
            let scrolled = port::draw(frame, body, model, &name, scrolled);
            screen.page = Page::Port { name, scrolled };
        }
        Page::Help => frame.render_widget(Paragraph::new(help_lines()), body),
    }
    frame.render_widget(Paragraph::new(foot_line(screen)), foot);
}

fn list_and_panes(frame: &mut Frame<'_>, area: Rect, model: &Model, screen: &Screen) {
    let panes = panes::that_fit(model, area.height);
    let heights = panes.iter().map(|pane| Constraint::Length(pane.height()));
    let all: Vec<Constraint> = std::iter::once(Constraint::Min(0)).chain(heights).collect();
    let areas = Layout::vertical(all).split(area);
    list::draw(frame, areas[0], model, screen);
    for (pane, area) in panes.iter().zip(&areas[1..]) {
        pane.draw(frame, *area, model);
    }
}

/// Who it is, and how fast frames pass; or that nobody answers.
fn head_lines(model: &Model, now: Instant) -> Vec<Line<'static>> {
    let who = match model.last() {
        None => Line::styled("hairpin", TITLE),
        Some(show) => {
            let up = units::span(show.uptime_ms / 1000);
            let not_up = model.rows.iter().filter(|row| row.state != v1::State::Up).count();
            let about = format!("  up {up}  revision {}  ", show.revision);
            let ports = format!("{} ports, {} links", show.ports.len(), show.links.len());
            let mut spans = vec![
                Span::styled(format!("hairpin {}", show.name), TITLE),
                Span::raw(about),
                Span::raw(ports),
            ];
            if not_up > 0 {
                spans.push(Span::styled(format!(", {not_up} not up"), NOTICE));
            }
            Line::from(spans)
        }
    };
    let how = match &model.connection {
        Connection::Waiting { since, why } => {
            let seconds = now.saturating_duration_since(*since).as_secs();
            Line::styled(format!("waits for the switch since {seconds} s: {why}"), ALARM)
        }
        Connection::Live => {
            let sum = model.sum();
            let drops = if sum.drops > 0.0 { NOTICE } else { Style::new() };
            Line::from(vec![
                Span::raw(format!("in {}/s {}  ", short(sum.rx_frames), bits(sum.rx_bits))),
                Span::raw(format!("out {}/s {}  ", short(sum.tx_frames), bits(sum.tx_bits))),
                Span::styled(format!("dropped {}/s", short(sum.drops)), drops),
            ])
        }
    };
    vec![who, how]
}

fn foot_line(screen: &Screen) -> Line<'static> {
    match (&screen.page, screen.typing) {
        (_, Typing::Filter) => Line::from(vec![
            Span::styled(format!("/{}", screen.filter), TITLE),
            Span::styled("█", FAINT),
        ]),
        (Page::List, Typing::Commands) => {
            let order = if screen.order == Order::Reversed { " reversed" } else { "" };
            let mut foot = format!("? help  q quit  / filter  sorted by {}", screen.sort.word());
            foot += order;
            if !screen.filter.is_empty() {
                foot += &format!("  only {:?}", screen.filter);
            }
            Line::styled(foot, FAINT)
        }
        (Page::Port { .. }, Typing::Commands) => {
            Line::styled("Esc back  ↑ ↓ scroll  ? help  q quit", FAINT)
        }
        (Page::Help, Typing::Commands) => Line::styled("Esc back  q quit", FAINT),
    }
}

fn help_lines() -> Vec<Line<'static>> {
    let key = |&(key, does): &(&'static str, &'static str)| {
        Line::from(vec![Span::styled(format!("{key:15}"), TITLE), Span::raw(does)])
    };
    KEYS.iter().map(key).collect()
}
