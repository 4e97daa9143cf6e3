//! One port or link in full.

use hairpin_dataplane::ledger::DropReason;
use hairpin_proto::v1;
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Paragraph, Sparkline, Wrap};

use super::units::{bits, short};
use super::{ALARM, NOTICE, TITLE, state_style};
use crate::cli::top::history::History;
use crate::cli::top::model::{Drops, Model, Row};
use crate::cli::{vmm, words};

/// Lines of the history: a title and a graph for either direction.
const HISTORY: u16 = 6;
/// The least height at which there is a history.
const HIGH: u16 = 16;

/// Draws it; says how many lines are above the screen, which are never all.
pub fn draw(frame: &mut Frame<'_>, area: Rect, model: &Model, name: &str, scrolled: u16) -> u16 {
    let Some(row) = model.rows.iter().find(|row| row.name == name) else {
        let said = format!("there is no port or link {name:?} any more; Esc goes back");
        frame.render_widget(Paragraph::new(said).wrap(Wrap { trim: false }), area);
        return 0;
    };
    let high = if area.height >= HIGH { HISTORY } else { 0 };
    let rows = [Constraint::Length(high), Constraint::Min(0)];
    let [above, below] = Layout::vertical(rows).areas(area);
    if high > 0 {
        history(frame, above, model, row);
    }
    let lines = lines(model, row);
    let height = folded(&lines, below.width.into());
    let scrolled = scrolled.min(height.saturating_sub(below.height / 2));
    let text = Paragraph::new(lines).wrap(Wrap { trim: false }).scroll((scrolled, 0));
    frame.render_widget(text, below);
    scrolled
}

/// How many lines they are on a screen of so many columns, words kept together.
fn folded(lines: &[Line<'_>], columns: usize) -> u16 {
    let rows = |line: &Line<'_>| {
        let (mut rows, mut column) = (1, 0);
        for word in line.to_string().split(' ').map(|word| word.chars().count()) {
            if column > 0 && column + word > columns {
                (rows, column) = (rows + 1, 0);
            }
            column += word + 1;
        }
        rows
    };
    u16::try_from(lines.iter().map(rows).sum::<usize>()).unwrap_or(u16::MAX)
}

fn history(frame: &mut Frame<'_>, area: Rect, model: &Model, row: &Row) {
    let columns = usize::from(area.width);
    let history = model.history(&row.name);
    let of = |read: fn(&History, usize) -> Vec<u64>| {
        history.map(|history| read(history, columns)).unwrap_or_default()
    };
    let (received, sent) = (of(History::received), of(History::sent));
    let title = |what: &str, frames: f64, rate: f64, looks: &[u64]| {
        let most = looks.iter().copied().max().unwrap_or(0) as f64;
        let now = format!("{what} {}/s {}", short(frames), bits(rate));
        Line::styled(format!("{now}, at most {}/s", short(most)), TITLE)
    };
    let rates = &row.rates;
    let lines = [1, 2, 1, 2].map(Constraint::Length);
    let [in_title, in_graph, out_title, out_graph] = Layout::vertical(lines).areas(area);
    frame.render_widget(title("in", rates.rx_frames, rates.rx_bits, &received), in_title);
    frame.render_widget(Sparkline::default().data(&received), in_graph);
    frame.render_widget(title("out", rates.tx_frames, rates.tx_bits, &sent), out_title);
    frame.render_widget(Sparkline::default().data(&sent), out_graph);
}

fn lines(model: &Model, row: &Row) -> Vec<Line<'static>> {
    let mut lines = vec![Line::from(vec![
        Span::styled(row.name.clone(), TITLE),
        Span::raw("  "),
        Span::styled(words::state(row.state), state_style(row.state)),
    ])];
    let show = model.last();
    let port = show.and_then(|show| show.ports.iter().find(|port| port.name == row.name));
    let link = show.and_then(|show| show.links.iter().find(|link| link.name == row.name));
    let (facts, last_error) = match (port, link) {
        (Some(port), _) => (about_port(port), &*port.last_error),
        (None, Some(link)) => (about_link(link), &*link.last_error),
        (None, None) => (Vec::new(), ""),
    };
    if !last_error.is_empty() {
        lines.push(Line::styled(format!("last error  {last_error}"), ALARM));
    }
    let warnings = row.warnings.iter();
    lines.extend(warnings.map(|warning| Line::styled(format!("! {warning}"), NOTICE)));
    lines.extend(drops(model, row));
    lines.push(Line::default());
    let fact = |(key, value): (&str, String)| Line::raw(format!("{key:11} {value}"));
    lines.extend(facts.into_iter().map(fact));
    lines.extend(
        port.and_then(|port| port.vmm.as_ref())
            .iter()
            .flat_map(|vmm| vmm::rows(vmm).into_iter().map(fact).collect::<Vec<_>>()),
    );
    lines.extend(counters(model, row));
    lines
}

fn about_port(port: &v1::Port) -> Vec<(&'static str, String)> {
    let addresses = match port.macs.is_empty() {
        true => format!("learned, {} at most", port.learn_limit),
        false => port.macs.join(" "),
    };
    vec![
        ("device", words::device_in_full(port.device.as_ref())),
        (words::home_kind(port), words::or_dash(words::home_name(port))),
        ("mode", words::mode(port.mode()).unwrap_or("-").to_owned()),
        ("vlan", words::vlan(port.vlan.as_ref())),
        ("mac", addresses),
        ("mtu", port.mtu.to_string()),
        ("reopened", port.reopened.to_string()),
    ]
}

fn about_link(link: &v1::Link) -> Vec<(&'static str, String)> {
    vec![
        ("device", words::device_in_full(link.device.as_ref())),
        ("role", words::role(link.role()).to_owned()),
        ("channels", words::joined(&link.channels)),
        ("mtu", link.mtu.to_string()),
    ]
}

fn counters(model: &Model, row: &Row) -> Vec<Line<'static>> {
    let Some(counters) = model.counters(&row.name) else { return Vec::new() };
    let lines = [
        ("received", counters.rx_frames, counters.rx_bytes),
        ("sent", counters.tx_frames, counters.tx_bytes),
    ];
    let line = |(what, frames, bytes): (&str, u64, u64)| {
        Line::raw(format!("{what:11} {frames} frames, {bytes} bytes"))
    };
    let segments = Line::raw(format!("{:11} {}", "segments", counters.segments));
    lines.map(line).into_iter().chain([segments]).collect()
}

/// What was lost here, why, and what to do about it.
fn drops(model: &Model, row: &Row) -> Vec<Line<'static>> {
    let mut lines = Vec::new();
    let mut drops: Vec<&Drops> = row.drops.iter().collect();
    drops.sort_by(|a, b| b.rate.total_cmp(&a.rate).then_with(|| b.frames.cmp(&a.frames)));
    for Drops { reason, frames, rate } in drops {
        let style = if *rate > 0.0 { NOTICE } else { TITLE };
        lines.push(Line::default());
        let head = format!("{reason}  {frames} frames, {}/s", short(*rate));
        lines.push(Line::styled(head, style));
        if let Some(reason) = DropReason::from_name(reason) {
            lines.push(Line::raw(format!("  {} {}", reason.meaning(), reason.remedy())));
        }
    }
    let lost = model.counters(&row.name).map_or(0, |counters| counters.device_drops);
    if lost > 0 {
        lines.push(Line::default());
        lines.push(Line::styled(format!("device drops  {lost} frames"), TITLE));
        let meaning = "  The device lost them by itself; the switch never saw them.";
        lines.push(Line::raw(meaning));
    }
    if lines.is_empty() {
        lines.extend([Line::default(), Line::raw("no frame was lost here")]);
    }
    lines
}
