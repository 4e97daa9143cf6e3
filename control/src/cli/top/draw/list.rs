//! Ports and links, a line each: as many columns as there is room for.

use ratatui::Frame;
use ratatui::layout::{Constraint, Rect};
use ratatui::style::Style;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Paragraph, Row as TableRow, Table, TableState};

use super::units::short;
use super::{ALARM, NOTICE, SELECTED, TITLE, state_style};
use crate::cli::top::model::{Kind, Model, Row};
use crate::cli::top::screen::Screen;
use crate::cli::words;

/// A column.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Column {
    Name,
    State,
    Received,
    ReceivedBits,
    Sent,
    SentBits,
    Drops,
    History,
}

/// Columns with their widths, from the one that is left out last; the order on the screen
/// is that of [`Column`].
const WIDTHS: [(Column, u16); 6] = [
    (Column::State, 11),
    (Column::Received, 6),
    (Column::Sent, 6),
    (Column::Drops, 6),
    (Column::ReceivedBits, 7),
    (Column::SentBits, 7),
];
/// The widest and the narrowest name.
const NAME: (u16, u16) = (8, 20);
/// The narrowest history that is worth its room, and the widest.
const HISTORY: (u16, u16) = (5, 60);

/// The columns that fit, as they stand, with their widths.
fn columns(width: u16, longest_name: usize) -> Vec<(Column, u16)> {
    let name = (longest_name as u16).clamp(NAME.0, NAME.1).min(width);
    let mut columns = vec![(Column::Name, name)];
    let mut left = width - name;
    for (column, width) in WIDTHS {
        if left <= width {
            break;
        }
        columns.push((column, width));
        left -= width + 1;
    }
    if columns.len() > WIDTHS.len() && left > HISTORY.0 {
        columns.push((Column::History, (left - 1).min(HISTORY.1)));
    }
    columns.sort_by_key(|(column, _)| *column as u8);
    columns
}

fn title(column: Column) -> &'static str {
    match column {
        Column::Name => "NAME",
        Column::State => "STATE",
        Column::Received => "IN/s",
        Column::ReceivedBits => "bit/s",
        Column::Sent => "OUT/s",
        Column::SentBits => "bit/s",
        Column::Drops => "DROP/s",
        Column::History => "HISTORY",
    }
}

fn cell(column: Column, width: u16, row: &Row, model: &Model) -> Line<'static> {
    let rates = &row.rates;
    let number = |number: f64| Line::raw(short(number)).right_aligned();
    match column {
        Column::Name => {
            let mark = if row.kind == Kind::Link { "*" } else { "" };
            Line::from(vec![Span::raw(row.name.clone()), Span::raw(mark)])
        }
        Column::State => {
            let style = match row.warnings.is_empty() {
                true => state_style(row.state),
                false => NOTICE,
            };
            Line::styled(words::marked_state(row.state, &row.warnings), style)
        }
        Column::Received => number(rates.rx_frames),
        Column::ReceivedBits => number(rates.rx_bits),
        Column::Sent => number(rates.tx_frames),
        Column::SentBits => number(rates.tx_bits),
        Column::Drops => {
            let lost = rates.drops + rates.device_drops;
            let style = if lost > 0.0 { ALARM } else { Style::new() };
            number(lost).style(style)
        }
        Column::History => {
            let history = model.history(&row.name);
            Line::raw(history.map(|it| it.line(width.into())).unwrap_or_default())
        }
    }
}

/// Draws them.
pub fn draw(frame: &mut Frame<'_>, area: Rect, model: &Model, screen: &Screen) {
    let rows = screen.rows(model);
    if rows.is_empty() && !screen.filter.is_empty() {
        let said = format!("no port or link has {:?} in its name or state", screen.filter);
        return frame.render_widget(Paragraph::new(said), area);
    }
    // The mark of a link takes a column.
    let longest = rows.iter().map(|row| row.name.chars().count() + 1).max().unwrap_or(0);
    let columns = columns(area.width, longest);
    let titles = columns.iter().map(|&(column, _)| match column {
        Column::Name | Column::State | Column::History => Line::raw(title(column)),
        _ => Line::raw(title(column)).right_aligned(),
    });
    let line = |row: &&Row| {
        let cells = columns.iter().map(|&(column, width)| cell(column, width, row, model));
        TableRow::new(cells.collect::<Vec<_>>())
    };
    let widths = columns.iter().map(|&(_, width)| Constraint::Length(width));
    let table = Table::new(rows.iter().map(line), widths)
        .header(TableRow::new(titles.collect::<Vec<_>>()).style(TITLE))
        .column_spacing(1)
        .row_highlight_style(SELECTED);
    let mut state = TableState::default().with_selected(screen.position(&rows));
    frame.render_stateful_widget(table, area, &mut state);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_fit_and_the_least_needed_go_first() {
        for width in 0..200 {
            let columns = columns(width, 30);
            let taken: u16 = columns.iter().map(|(_, width)| width + 1).sum();
            assert!(taken <= width + 1, "{width}: {columns:?}");
        }
        let shown = |width| columns(width, 6).into_iter().map(|(it, _)| it).collect::<Vec<_>>();
        assert_eq!(shown(40)[..4], [Column::Name, Column::State, Column::Received, Column::Sent]);
        assert_eq!(shown(80).len(), 8);
        assert_eq!(shown(80).last(), Some(&Column::History));
    }
}
