//! What stands below the ports: why frames are lost, what workers do, what happened.

use hairpin_proto::v1;
use ratatui::Frame;
use ratatui::layout::{Constraint, Rect};
use ratatui::style::Style;
use ratatui::text::Line;
use ratatui::widgets::{Row as TableRow, Table};

use super::units::short;
use super::{ALARM, NOTICE, TITLE};
use crate::cli::top::model::{Drops, Model, Worker};
use crate::cli::words;

/// Lines that ports have at least, before a pane has any.
const PORTS: u16 = 8;
/// Reasons that are shown at most.
const REASONS: u16 = 5;
/// Workers that are shown at most.
const WORKERS: u16 = 6;
/// Events that are shown at most.
const EVENTS: u16 = 5;
/// Columns of a bar.
const BAR: usize = 8;

/// A pane: each has its title above.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pane {
    /// Drops by reason, so many.
    Drops(u16),
    /// Workers, so many.
    Workers(u16),
    /// Events, so many.
    Events(u16),
}

/// The panes that there is something for, and room.
#[must_use]
pub fn that_fit(model: &Model, height: u16) -> Vec<Pane> {
    let few = |count: usize, most: u16| u16::try_from(count).unwrap_or(most).min(most);
    let wanted = [
        Pane::Drops(few(model.drops().len(), REASONS)),
        Pane::Workers(few(model.workers.len(), WORKERS)),
        Pane::Events(few(model.events.len(), EVENTS)),
    ];
    let mut left = height.saturating_sub(PORTS);
    let mut panes = Vec::new();
    for pane in wanted {
        let room = left.saturating_sub(2);
        let pane = match pane {
            Pane::Drops(lines) => Pane::Drops(lines.min(room)),
            Pane::Workers(lines) => Pane::Workers(lines.min(room)),
            Pane::Events(lines) => Pane::Events(lines.min(room)),
        };
        if pane.height() > 2 {
            left -= pane.height();
            panes.push(pane);
        }
    }
    panes
}

impl Pane {
    /// Its lines, with the title and an empty one above.
    #[must_use]
    pub fn height(self) -> u16 {
        match self {
            Pane::Drops(lines) | Pane::Workers(lines) | Pane::Events(lines) => lines + 2,
        }
    }

    /// Draws it.
    pub fn draw(self, frame: &mut Frame<'_>, area: Rect, model: &Model) {
        let area = Rect { y: area.y + 1, height: area.height.saturating_sub(1), ..area };
        match self {
            Pane::Drops(lines) => drops(frame, area, model, lines.into()),
            Pane::Workers(lines) => workers(frame, area, model, lines.into()),
            Pane::Events(lines) => events(frame, area, model, lines.into()),
        }
    }
}

fn events(frame: &mut Frame<'_>, area: Rect, model: &Model, lines: usize) {
    let row = |event: &v1::Event| {
        let style = match event.kind() {
            v1::EventKind::Quarantined | v1::EventKind::WorkerStalled => ALARM,
            v1::EventKind::Down
            | v1::EventKind::AddressMoved
            | v1::EventKind::LimitHit
            | v1::EventKind::WorkerOverloaded => NOTICE,
            _ => Style::new(),
        };
        let at = words::instant(event.at_ms);
        let time = at.split_once(' ').map_or("", |(_, time)| time).to_owned();
        let cells = [
            Line::raw(time),
            Line::raw(event.object.clone()),
            Line::raw(words::event_kind(event.kind())),
            Line::raw(event.cause.clone()),
        ];
        TableRow::new(cells).style(style)
    };
    let old = model.events.len().saturating_sub(lines);
    let titles = ["UTC", "EVENT OF", "WHAT", "WHY"].map(Line::raw);
    let widths =
        [Constraint::Length(8), Constraint::Length(16), Constraint::Length(17), Constraint::Min(0)];
    let table = Table::new(model.events.iter().skip(old).map(row), widths)
        .header(TableRow::new(titles).style(TITLE));
    frame.render_widget(table, area);
}

fn drops(frame: &mut Frame<'_>, area: Rect, model: &Model, lines: usize) {
    let row = |(drops, port): &(Drops, String)| {
        let style = if drops.rate > 0.0 { NOTICE } else { Style::new() };
        let cells = [
            Line::raw(drops.reason.clone()),
            Line::raw(short(drops.rate)).right_aligned(),
            Line::raw(short(drops.frames as f64)).right_aligned(),
            Line::raw(port.clone()),
        ];
        TableRow::new(cells).style(style)
    };
    let rows = model.drops();
    let titles = [
        Line::raw("DROP REASON"),
        Line::raw("/s").right_aligned(),
        Line::raw("SO FAR").right_aligned(),
        Line::raw("MOST AT"),
    ];
    let widths = [27, 6, 6, 20].map(Constraint::Length);
    let table = Table::new(rows.iter().take(lines).map(row), widths)
        .header(TableRow::new(titles).style(TITLE));
    frame.render_widget(table, area);
}

fn workers(frame: &mut Frame<'_>, area: Rect, model: &Model, lines: usize) {
    let row = |worker: &Worker| {
        let health = worker.told.health();
        let style = match health {
            v1::WorkerHealth::Breathing | v1::WorkerHealth::Unspecified => Style::new(),
            v1::WorkerHealth::Stalled | v1::WorkerHealth::Ended => ALARM,
        };
        let number = |number: f64| Line::raw(short(number)).right_aligned();
        let cells = [
            Line::raw(worker.told.index.to_string()).right_aligned(),
            Line::raw(worker.told.cpu.map_or("-".to_owned(), |cpu| cpu.to_string()))
                .right_aligned(),
            Line::raw(words::health(health)),
            Line::raw(format!("{:5.1} %", worker.told.load * 100.0)).right_aligned(),
            Line::raw(bar(worker.told.load)),
            number(worker.frames),
            number(worker.breaths),
            Line::raw(format!("{:.1}", worker.frames_per_breath)).right_aligned(),
            number(worker.sleeps),
        ];
        TableRow::new(cells).style(style)
    };
    // The busiest are those to be seen.
    let mut busiest: Vec<&Worker> = model.workers.iter().collect();
    busiest.sort_by(|a, b| b.told.load.total_cmp(&a.told.load));
    busiest.truncate(lines);
    busiest.sort_by_key(|worker| worker.told.index);
    let right = |title: &'static str| Line::raw(title).right_aligned();
    let titles = [
        right("WORKER"),
        right("CPU"),
        Line::raw("HEALTH"),
        right("LOAD"),
        Line::raw(""),
        right("FRAMES/s"),
        right("BREATHS/s"),
        right("FRAMES/BREATH"),
        right("SLEEPS/s"),
    ];
    let widths = [6, 4, 9, 7, BAR as u16, 8, 9, 13, 8].map(Constraint::Length);
    let table =
        Table::new(busiest.into_iter().map(row), widths).header(TableRow::new(titles).style(TITLE));
    frame.render_widget(table, area);
}

/// A share, 0 to 1, as a bar; what is there at all can be seen.
fn bar(share: f64) -> String {
    let full = (share.clamp(0.0, 1.0) * BAR as f64).ceil() as usize;
    format!("{}{}", "█".repeat(full), "·".repeat(BAR - full))
}
