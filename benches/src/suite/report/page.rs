//! The browser's page: one file, nothing from elsewhere, no script.

use std::fmt::Write as _;

use crate::suite::record::{Bound, Curve, Quantity, Sample};
use crate::suite::report::axis::Scale;
use crate::suite::report::bars::{self, Bar};
use crate::suite::report::chart::{Chart, Labelled, Point, Series};
use crate::suite::report::numbers::{interval, number};
use crate::suite::report::run::{Run, conditions, parted, spaced};
use crate::suite::report::table::{absent, mark, title};

const STYLE: &str = include_str!("style.css");
/// What a mark means.
const GENERATOR_BOUND: &str =
    "⚠ generator-bound: near what the generator itself can do, the peer may be capable of more.";

/// The page of a run.
#[must_use]
pub fn html(run: &Run) -> String {
    let peers = run.peers();
    let mut page = String::new();
    push(
        &mut page,
        format!(
            "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <title>hairpin-bench, {}</title>\n<link rel=\"icon\" href=\"data:,\">\n\
             <style>\n{STYLE}</style>\n</head>\n<body>\n\
             <svg width=\"0\" height=\"0\" style=\"position:absolute\" aria-hidden=\"true\">\
             <defs>{}</defs></svg>",
            escape(&run.header.date),
            bars::patterns()
        ),
    );
    push(&mut page, facts(run));
    push(&mut page, not_measured(run));
    push(&mut page, plots(run, &peers));
    push(&mut page, figures(run, &peers));
    push(&mut page, ratios(run));
    push(&mut page, tables(run));
    page.push_str("</body>\n</html>\n");
    page
}

fn push(page: &mut String, part: String) {
    if !part.is_empty() {
        page.push_str(&part);
        page.push('\n');
    }
}

/// Text as HTML has it.
#[must_use]
pub fn escape(text: &str) -> String {
    let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    text.replace('"', "&quot;")
}

/// What ran, where, with whom.
fn facts(run: &Run) -> String {
    let header = &run.header;
    let mut rows = vec![
        ("date".to_owned(), header.date.clone()),
        ("command".to_owned(), header.command.clone()),
        ("hairpin-bench".to_owned(), header.version.clone()),
    ];
    rows.extend(header.revision.iter().map(|revision| ("revision".to_owned(), revision.clone())));
    rows.extend(header.machine.iter().map(|(name, fact)| (spaced(name), fact.clone())));
    for peer in header.peers.iter().filter(|peer| peer.skipped.is_none()) {
        let version = peer.version.clone().unwrap_or_else(|| "version not known".to_owned());
        rows.push((format!("peer {}", peer.name), version));
    }
    let rows: String = rows
        .iter()
        .map(|(name, fact)| {
            format!("<tr><th scope=\"row\">{}</th><td>{}</td></tr>", escape(name), escape(fact))
        })
        .collect();
    format!("<h1>Virtual switches beside each other</h1>\n<table class=\"facts\">{rows}</table>")
}

fn not_measured(run: &Run) -> String {
    let absent: String =
        absent(run).iter().map(|absent| format!("<li>{}</li>", escape(absent))).collect();
    match absent.is_empty() {
        true => String::new(),
        false => format!("<h2>Not measured</h2>\n<ul class=\"absent\">{absent}</ul>"),
    }
}

/// A peer's style, the same in all plots.
fn style(peers: &[&str], peer: &str) -> usize {
    peers.iter().position(|name| *name == peer).unwrap_or_default()
}

fn labelled(quantity: &Quantity, scale: Scale) -> Labelled {
    let Quantity { name, unit } = quantity;
    let unit = if unit.is_empty() { String::new() } else { format!(", {unit}") };
    let remark = if scale == Scale::Logarithmic { " (log)" } else { "" };
    Labelled { label: format!("{}{unit}{remark}", spaced(name)), scale }
}

/// Curves: latency and loss.
fn plots(run: &Run, peers: &[&str]) -> String {
    let plots: String = run.plots().iter().map(|curves| curve_plot(curves, peers)).collect();
    match plots.is_empty() {
        true => String::new(),
        false => format!("<h2>Curves</h2>\n<div class=\"cards\">\n{plots}</div>"),
    }
}

fn curve_plot(curves: &[&Curve], peers: &[&str]) -> String {
    let first = curves[0];
    let along = |axis: usize| -> Vec<f64> {
        curves.iter().flat_map(|curve| &curve.points).map(|point| point[axis]).collect()
    };
    // A share that is exceeded is told apart in its small values, a zero at its end or not.
    let tail = first.y.name.to_lowercase().contains("ccdf");
    let scale = |values: Vec<f64>| if tail { Scale::Logarithmic } else { Scale::of(&values) };
    let series = curves.iter().map(|curve| Series {
        name: curve.peer.clone(),
        style: style(peers, &curve.peer),
        points: curve.points.iter().map(|&[x, y]| Point { x, y, interval: None }).collect(),
    });
    let what = format!("{}, {}", spaced(&first.test), spaced(&first.scenario));
    let title = format!("{what}: {} over {}", spaced(&first.y.name), spaced(&first.x.name));
    let chart = Chart {
        x: labelled(&first.x, scale(along(0))),
        y: labelled(&first.y, scale(along(1))),
        series: series.collect(),
        title,
    };
    figure(&chart.title, &conditions(&first.parameters), &chart.svg(), "")
}

/// A card: its title, conditions, drawing, and what there is to know.
fn figure(title: &str, conditions: &str, drawing: &str, warning: &str) -> String {
    let mut card = format!("<figure>\n<h3>{}</h3>\n", escape(title));
    if !conditions.is_empty() {
        // Writing to a string cannot fail.
        let _ = writeln!(card, "<p class=\"quiet\">{}</p>", escape(conditions));
    }
    card.push_str(drawing);
    if !warning.is_empty() {
        let _ = writeln!(card, "<p class=\"warn\">{}</p>", escape(warning));
    }
    card.push_str("</figure>\n");
    card
}

/// Figures: bars, and lines where the frame's size was varied.
fn figures(run: &Run, peers: &[&str]) -> String {
    let cards: String = run
        .figures()
        .iter()
        .map(|group| size_plot(group, peers) + &bar_plot(group, peers))
        .collect();
    match cards.is_empty() {
        true => String::new(),
        false => format!("<h2>Figures</h2>\n<div class=\"cards\">\n{cards}</div>"),
    }
}

fn warning(group: &[&Sample]) -> &'static str {
    match group.iter().any(|sample| sample.bound == Bound::Generator) {
        true => GENERATOR_BOUND,
        false => "",
    }
}

fn bar_plot(group: &[&Sample], peers: &[&str]) -> String {
    let (common, own) = parted(group);
    let mut bars: Vec<(usize, Bar)> = Vec::new();
    for (sample, own_parameters) in group.iter().zip(&own) {
        let conditions = conditions(own_parameters);
        let separator = if conditions.is_empty() { "" } else { ", " };
        let bar = Bar {
            name: format!("{}{separator}{conditions}", sample.peer),
            style: style(peers, &sample.peer),
            value: sample.median,
            interval: sample.interval,
            mark: mark(sample.bound),
        };
        // Peers under equal conditions stand beside each other.
        let first = own.iter().position(|other| other == own_parameters).unwrap_or_default();
        bars.push((first, bar));
    }
    bars.sort_by_key(|(first, _)| *first);
    let bars: Vec<Bar> = bars.into_iter().map(|(_, bar)| bar).collect();
    let first = group[0];
    let title = title(first);
    let quantity = Quantity { name: first.metric.clone(), unit: first.unit.clone() };
    let drawing = bars::svg(&title, &labelled(&quantity, Scale::Linear).label, &bars);
    figure(&title, &conditions(&common), &drawing, warning(group))
}

/// The parameter that is a frame's size, and it in bytes.
fn size(sample: &Sample) -> Option<(&str, f64)> {
    sample.parameters.iter().find_map(|(name, value)| {
        let is_size = name.contains("size") || name.contains("bytes");
        Some((name.as_str(), value.parse().ok()?)).filter(|_| is_size)
    })
}

fn size_plot(group: &[&Sample], peers: &[&str]) -> String {
    let (common, own) = parted(group);
    let mut series: Vec<Series> = Vec::new();
    for (sample, own) in group.iter().zip(own) {
        let Some((name, bytes)) = size(sample).filter(|(name, _)| own.contains_key(*name)) else {
            continue;
        };
        let mut rest = own.clone();
        rest.remove(name);
        let rest = conditions(&rest);
        let separator = if rest.is_empty() { "" } else { ", " };
        let of = format!("{}{separator}{rest}", sample.peer);
        let point = Point { x: bytes, y: sample.median, interval: Some(sample.interval) };
        match series.iter_mut().find(|series| series.name == of) {
            Some(series) => series.points.push(point),
            None => {
                let style = style(peers, &sample.peer);
                series.push(Series { name: of, style, points: vec![point] });
            }
        }
    }
    if series.iter().all(|series| series.points.len() < 2) {
        return String::new();
    }
    series.iter_mut().for_each(|series| series.points.sort_by(|a, b| a.x.total_cmp(&b.x)));
    let first = group[0];
    let quantity = Quantity { name: first.metric.clone(), unit: first.unit.clone() };
    let chart = Chart {
        title: format!("{}, by frame size", title(first)),
        x: Labelled { label: "frame size, bytes".to_owned(), scale: Scale::Linear },
        y: labelled(&quantity, Scale::Linear),
        series,
    };
    figure(&chart.title, &conditions(&common), &chart.svg(), warning(group))
}

fn ratios(run: &Run) -> String {
    if run.ratios.is_empty() {
        return String::new();
    }
    let rows = run.ratios.iter().map(|ratio| {
        let what = format!("{}, {}: {}", ratio.test, ratio.scenario, ratio.metric);
        row(&[
            &format!("{} : {}", ratio.of, ratio.to),
            &spaced(&what),
            &conditions(&ratio.parameters),
            &format!("{} {}", number(ratio.median), interval(ratio.interval)),
        ])
    });
    let rows: String = rows.collect();
    let head = head(&["peers", "what", "conditions", "ratio of medians [95 %]"]);
    format!("<h2>Beside each other</h2>\n<table>{head}{rows}</table>")
}

/// The figures behind the plots.
fn tables(run: &Run) -> String {
    let mut tables = String::new();
    for group in run.figures() {
        let rows = group.iter().map(|sample| {
            row(&[
                &sample.peer,
                &conditions(&sample.parameters),
                mark(sample.bound),
                &format!("{} {}", number(sample.median), interval(sample.interval)),
            ])
        });
        let rows: String = rows.collect();
        let head = head(&["peer", "conditions", "mark", "median [95 %]"]);
        let caption = escape(&title(group[0]));
        // Writing to a string cannot fail.
        let _ = writeln!(tables, "<table><caption>{caption}</caption>{head}{rows}</table>");
    }
    match tables.is_empty() {
        true => tables,
        false => format!("<h2>Tables</h2>\n{tables}"),
    }
}

/// A row of cells, the last one a figure.
fn row(cells: &[&str]) -> String {
    let last = cells.len() - 1;
    let cells = cells.iter().enumerate().map(|(index, cell)| match index == last {
        true => format!("<td class=\"number\">{}</td>", escape(cell)),
        false => format!("<td>{}</td>", escape(cell)),
    });
    format!("<tr>{}</tr>", cells.collect::<String>())
}

fn head(cells: &[&str]) -> String {
    row(cells).replace("<td", "<th scope=\"col\"").replace("</td>", "</th>")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::suite::report::example;

    #[test]
    fn the_page_has_every_kind_of_record_and_needs_nothing_else() {
        let page = html(&Run::parse(example::TEXT).unwrap());
        for expected in [
            "latency, v2v: CCDF over latency",
            "loss, v2v: loss over offered load",
            "throughput, v2v: PDR [Mpps], more is better, by frame size",
            "no `ip` (Debian package iproute2) &amp; no &lt;root&gt;",
            "hairpin : ovs-dpdk",
            "AMD EPYC",
            "generator-bound",
        ] {
            assert!(page.contains(expected), "{expected:?}");
        }
        assert_eq!(page.matches("<figure>").count(), 5);
        for foreign in ["http", "<script", "url(//", "@import", "NaN"] {
            assert!(!page.contains(foreign), "{foreign:?}");
        }
    }

    #[test]
    fn a_run_without_figures_has_a_page() {
        let page = html(&Run::default());
        assert!(page.ends_with("</html>\n") && !page.contains("<figure"));
    }
}
