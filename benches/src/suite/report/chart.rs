//! Lines in SVG: a series for each peer, told apart by colour, dashes and markers.

use std::fmt::Write as _;

use crate::suite::report::axis::{Axis, Scale};
use crate::suite::report::numbers::tick;
use crate::suite::report::page::escape;

/// Units of the drawing: a page of 400 pixels shows it one to one, so that text stays readable.
pub const WIDTH: f64 = 360.0;
const HEIGHT: f64 = 250.0;
/// Where the axes cross, and where they end.
const LEFT: f64 = 66.0;
const RIGHT: f64 = 338.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 206.0;
/// Markers of a series, about: more would hide its line.
const MARKERS: usize = 12;
/// Dashes of the series; the first is drawn through.
const DASHES: [&str; 6] = ["", "7 4", "2 4", "9 3 2 3", "12 4", "4 2"];
/// Styles that there are: the stylesheet has a colour for each.
pub const STYLES: usize = DASHES.len();

/// What an axis shows, and how.
#[derive(Clone, Debug)]
pub struct Labelled {
    /// Its name and unit.
    pub label: String,
    /// How values are laid along it.
    pub scale: Scale,
}

/// A line.
#[derive(Clone, Debug)]
pub struct Series {
    /// What the legend says.
    pub name: String,
    /// Which colour, dashes and marker.
    pub style: usize,
    /// Its points.
    pub points: Vec<Point>,
}

/// A point, and how sure it is.
#[derive(Clone, Copy, Debug)]
pub struct Point {
    /// To the right.
    pub x: f64,
    /// Upwards.
    pub y: f64,
    /// Ends of y's interval.
    pub interval: Option<[f64; 2]>,
}

/// A plot.
#[derive(Clone, Debug)]
pub struct Chart {
    /// What it shows, for who cannot see it.
    pub title: String,
    /// To the right.
    pub x: Labelled,
    /// Upwards.
    pub y: Labelled,
    /// Its lines.
    pub series: Vec<Series>,
}

impl Chart {
    /// The plot and its legend.
    #[must_use]
    pub fn svg(&self) -> String {
        let points = || self.series.iter().flat_map(|series| &series.points);
        let xs: Vec<f64> = points().map(|point| point.x).collect();
        let ends = points().flat_map(|point| point.interval.into_iter().flatten());
        let ys: Vec<f64> = points().map(|point| point.y).chain(ends).collect();
        let (x, y) = (Axis::over(&xs, self.x.scale), Axis::over(&ys, self.y.scale));
        let mut svg = format!(
            "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{}\">\n",
            escape(&self.title)
        );
        self.draw_axes(&mut svg, &x, &y);
        for series in &self.series {
            draw(&mut svg, series, &x, &y);
        }
        svg.push_str("</svg>\n");
        svg.push_str(&legend(
            self.series.iter().map(|series| (series.name.as_str(), series.style)),
        ));
        svg
    }

    fn draw_axes(&self, svg: &mut String, x: &Axis, y: &Axis) {
        for (at, value) in x.ticks.iter().filter_map(|&value| Some((across(x, value)?, value))) {
            let label = tick(value);
            // Writing to a string cannot fail.
            let _ = writeln!(
                svg,
                "<path class=\"grid\" d=\"M{at:.1} {TOP}V{BOTTOM}\"/><text class=\"middle\" \
                 x=\"{at:.1}\" y=\"{:.1}\">{label}</text>",
                BOTTOM + 16.0
            );
        }
        for (at, value) in y.ticks.iter().filter_map(|&value| Some((up(y, value)?, value))) {
            let label = tick(value);
            let _ = writeln!(
                svg,
                "<path class=\"grid\" d=\"M{LEFT} {at:.1}H{RIGHT}\"/><text class=\"end\" \
                 x=\"{:.1}\" y=\"{:.1}\">{label}</text>",
                LEFT - 5.0,
                at + 4.0
            );
        }
        let (middle, centre) = (LEFT.midpoint(RIGHT), TOP.midpoint(BOTTOM));
        let _ = writeln!(
            svg,
            "<path class=\"axis\" d=\"M{LEFT} {TOP}V{BOTTOM}H{RIGHT}\"/>\
             <text class=\"middle\" x=\"{middle}\" y=\"{}\">{}</text>\
             <text class=\"middle\" transform=\"translate(13 {centre}) rotate(-90)\">{}</text>",
            HEIGHT - 8.0,
            escape(&self.x.label),
            escape(&self.y.label)
        );
    }
}

fn across(axis: &Axis, value: f64) -> Option<f64> {
    Some(LEFT + axis.place(value)? * (RIGHT - LEFT))
}

fn up(axis: &Axis, value: f64) -> Option<f64> {
    Some(BOTTOM - axis.place(value)? * (BOTTOM - TOP))
}

fn draw(svg: &mut String, series: &Series, x: &Axis, y: &Axis) {
    let style = series.style % STYLES;
    let (mut line, mut markers) = (String::new(), String::new());
    let between = series.points.len().div_ceil(MARKERS).max(1);
    for (index, point) in series.points.iter().enumerate() {
        // A zero has no place on a logarithmic axis.
        let (Some(at_x), Some(at_y)) = (across(x, point.x), up(y, point.y)) else { continue };
        let command = if line.is_empty() { 'M' } else { 'L' };
        let _ = write!(line, "{command}{at_x:.1} {at_y:.1}");
        let ends = point.interval.and_then(|[low, high]| Some((up(y, low)?, up(y, high)?)));
        if let Some((low, high)) = ends {
            let _ = write!(markers, "<path d=\"M{at_x:.1} {low:.1}V{high:.1}\"/>");
        }
        if index.is_multiple_of(between) {
            markers.push_str(&marker(style, at_x, at_y));
        }
    }
    let dashes = DASHES[style];
    let _ = writeln!(
        svg,
        "<g class=\"series s{style}\"><path class=\"line\" stroke-dasharray=\"{dashes}\" \
         d=\"{line}\"/>{markers}</g>"
    );
}

/// A marker with its middle at a point: each style has a shape of its own.
fn marker(style: usize, x: f64, y: f64) -> String {
    let shape = match style {
        0 => return format!("<circle class=\"marker\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3.4\"/>"),
        1 => "m-3.2 -3.2h6.4v6.4h-6.4z",
        2 => "m0 -4l4 7h-8z",
        3 => "m0 -4.4l4.4 4.4l-4.4 4.4l-4.4 -4.4z",
        4 => "m-3.4 -3.4l6.8 6.8m0 -6.8l-6.8 6.8",
        _ => "m0 4l4 -7h-8z",
    };
    format!("<path class=\"marker\" d=\"M{x:.1} {y:.1}{shape}\"/>")
}

/// Names of series, each beside its line.
pub fn legend<'n>(entries: impl Iterator<Item = (&'n str, usize)>) -> String {
    let mut legend = "<ul class=\"legend\">".to_owned();
    for (name, style) in entries {
        let style = style % STYLES;
        let _ = write!(
            legend,
            "<li><svg class=\"swatch\" viewBox=\"0 0 34 14\" aria-hidden=\"true\">\
             <g class=\"series s{style}\"><path class=\"line\" stroke-dasharray=\"{}\" \
             d=\"M1 7H33\"/>{}</g></svg>{}</li>",
            DASHES[style],
            marker(style, 17.0, 7.0),
            escape(name)
        );
    }
    legend.push_str("</ul>\n");
    legend
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markers_do_not_hide_a_line_of_many_points() {
        let points = (1..=1000).map(|x| Point { x: f64::from(x), y: 1.0, interval: None });
        let series = vec![Series { name: "a".to_owned(), style: 0, points: points.collect() }];
        let linear = || Labelled { label: String::new(), scale: Scale::Linear };
        let svg = Chart { title: String::new(), x: linear(), y: linear(), series }.svg();
        // One is the legend's.
        assert_eq!(svg.matches("<circle").count(), MARKERS + 1);
        assert_eq!(svg.split("class=\"line\"").nth(1).unwrap().matches('L').count(), 999);
    }

    #[test]
    fn points_without_a_place_are_left_out() {
        let point = |x, y| Point { x, y, interval: None };
        let points = vec![point(1.0, 1.0), point(10.0, 0.001), point(100.0, 0.0)];
        let log = |label: &str| Labelled { label: label.to_owned(), scale: Scale::Logarithmic };
        let series = vec![Series { name: "a < b".to_owned(), style: 0, points }];
        let chart = Chart { title: "a".to_owned(), x: log("latency, µs"), y: log("CCDF"), series };
        let svg = chart.svg();
        let in_plot = svg.split("</svg>").next().unwrap_or_default();
        assert_eq!(in_plot.matches("<circle").count(), 2);
        assert!(svg.contains("a &lt; b") && !svg.contains("NaN") && !svg.contains("inf"));
    }
}
