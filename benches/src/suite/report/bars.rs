//! Bars in SVG, one below the other, with their intervals.

use std::fmt::Write as _;

use crate::suite::report::axis::{Axis, Scale};
use crate::suite::report::chart::{STYLES, WIDTH};
use crate::suite::report::numbers::{interval, number, tick};
use crate::suite::report::page::escape;

/// Units of the drawing, as in `chart`.
const LEFT: f64 = 8.0;
const RIGHT: f64 = 338.0;
/// A line of text, a bar, and the gap behind it.
const TEXT: f64 = 16.0;
const BAR: f64 = 14.0;
const GAP: f64 = 6.0;
/// Characters of a name and a figure that stand beside each other; of one alone.
const BESIDE: usize = 46;
const ALONE: usize = 46;

/// A bar.
#[derive(Clone, Debug)]
pub struct Bar {
    /// Whose it is, and under which conditions.
    pub name: String,
    /// Which colour and pattern.
    pub style: usize,
    /// How long it is.
    pub value: f64,
    /// How sure that is.
    pub interval: [f64; 2],
    /// What a reader has to know of it: the page says it, here is a sign.
    pub mark: &'static str,
}

/// Bars from 0, each below its name and figure.
#[must_use]
pub fn svg(title: &str, label: &str, bars: &[Bar]) -> String {
    let ends = bars.iter().flat_map(|bar| [bar.value, bar.interval[0], bar.interval[1]]);
    let axis = Axis::over(&ends.collect::<Vec<f64>>(), Scale::Linear);
    let across = |value| LEFT + axis.place(value).unwrap_or_default() * (RIGHT - LEFT);
    let texts: Vec<[String; 2]> = bars.iter().map(texts).collect();
    let lengths = texts.iter().map(|[name, figure]| name.chars().count() + figure.chars().count());
    let lines = if lengths.max() > Some(BESIDE) { 2.0 } else { 1.0 };
    let row = lines * TEXT + BAR + GAP;
    let bottom = bars.len() as f64 * row + 4.0;
    let height = bottom + 40.0;
    let mut svg = format!(
        "<svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-label=\"{}\">\n",
        escape(title)
    );
    for &value in &axis.ticks {
        let (at, label) = (across(value), tick(value));
        // Writing to a string cannot fail.
        let _ = writeln!(
            svg,
            "<path class=\"grid\" d=\"M{at:.1} 0V{bottom}\"/>\
             <text class=\"middle\" x=\"{at:.1}\" y=\"{}\">{label}</text>",
            bottom + 15.0
        );
    }
    for (index, (bar, [name, figure])) in bars.iter().zip(texts).enumerate() {
        let first = index as f64 * row + TEXT - 3.0;
        let last = first + (lines - 1.0) * TEXT;
        // Writing to a string cannot fail.
        let _ = writeln!(
            svg,
            "<text x=\"{:.1}\" y=\"{first:.1}\">{}</text>\
             <text class=\"end\" x=\"{RIGHT}\" y=\"{last:.1}\">{}</text>",
            LEFT + 4.0,
            escape(&name),
            escape(&figure)
        );
        draw(&mut svg, bar, last + 5.0, across);
    }
    let _ = writeln!(
        svg,
        "<path class=\"axis\" d=\"M{:.1} 0V{bottom}\"/>\
         <text class=\"middle\" x=\"{}\" y=\"{}\">{}</text></svg>",
        across(0.0),
        LEFT.midpoint(RIGHT),
        bottom + 34.0,
        escape(label)
    );
    svg
}

/// A bar's name, and its figure.
fn texts(bar: &Bar) -> [String; 2] {
    let mark = if bar.mark.is_empty() { "" } else { " ⚠" };
    let cut: String = bar.name.chars().take(ALONE).collect();
    let dots = if cut.len() < bar.name.len() { "…" } else { "" };
    [format!("{cut}{dots}{mark}"), format!("{} {}", number(bar.value), interval(bar.interval))]
}

fn draw(svg: &mut String, bar: &Bar, top: f64, across: impl Fn(f64) -> f64) {
    let style = bar.style % STYLES;
    let (from, to) = (across(bar.value.min(0.0)), across(bar.value.max(0.0)));
    let [low, high] = bar.interval.map(across);
    let (middle, width) = (top + BAR / 2.0, to - from);
    let place = format!("x=\"{from:.1}\" y=\"{top:.1}\" width=\"{width:.1}\" height=\"{BAR}\"");
    // Writing to a string cannot fail.
    let _ = writeln!(
        svg,
        "<g class=\"series s{style}\"><rect class=\"bar\" {place}/>\
         <rect class=\"pattern\" fill=\"url(#p{style})\" {place}/></g>\
         <path class=\"whisker\" d=\"M{low:.1} {middle:.1}H{high:.1}M{low:.1} {:.1}v8\
         M{high:.1} {:.1}v8\"/>",
        middle - 4.0,
        middle - 4.0
    );
}

/// What tells bars apart beside their colour, once in a page: a hatching for each style, none for
/// the first.
#[must_use]
pub fn patterns() -> String {
    let lines = ["", "M0 8L8 0", "M0 4H8", "M0 0L8 8", "M4 0V8", "M0 0L8 8M0 8L8 0"];
    let patterns = lines.iter().enumerate().map(|(style, line)| {
        format!(
            "<pattern id=\"p{style}\" width=\"8\" height=\"8\" patternUnits=\"userSpaceOnUse\">\
             <path class=\"hatch\" d=\"{line}\"/></pattern>"
        )
    });
    patterns.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_is_as_long_as_its_value() {
        let bar = |value| Bar {
            name: "hairpin".to_owned(),
            style: 0,
            value,
            interval: [value, value],
            mark: "",
        };
        let svg = svg("a", "Mpps", &[bar(10.0), bar(5.0)]);
        assert_eq!(svg.matches("class=\"bar\"").count(), 2);
        assert!(svg.contains("width=\"330.0\"") && svg.contains("width=\"165.0\""), "{svg}");
    }
}
