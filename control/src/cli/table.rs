//! Tables that fit a terminal of 80 columns.

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};

/// Columns of the narrowest terminal that output is made for.
const WIDTH: u16 = 80;

/// A table with these titles. Titles that begin with `#` are of numbers, which
/// stand at the right.
#[must_use]
pub fn table(titles: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_content_arrangement(ContentArrangement::Dynamic).set_width(WIDTH);
    table.set_header(titles.iter().map(|title| title.trim_start_matches('#')));
    table.add_rows(rows);
    for (column, title) in table.column_iter_mut().zip(titles) {
        column.set_padding((0, 1));
        if title.starts_with('#') {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    trimmed(&table.to_string())
}

/// Fields of one object, one per line.
#[must_use]
pub fn fields(fields: &[(&str, String)]) -> String {
    let widest = fields.iter().map(|(title, _)| title.len()).max().unwrap_or(0);
    let line = |(title, value): &(&str, String)| format!("{title:widest$}  {value}\n");
    fields.iter().map(line).collect()
}

/// Without blanks at the ends of lines.
fn trimmed(text: &str) -> String {
    text.lines().map(|line| format!("{}\n", line.trim_end())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wide_row_is_folded_into_80_columns() {
        let wide = vec!["vm1".to_owned(), "word ".repeat(40), "12".to_owned()];
        let text = table(&["NAME", "TEXT", "#COUNT"], [wide]);
        assert!(text.lines().all(|line| line.len() <= 80), "{text}");
        assert!(text.lines().count() > 2);
    }
}
