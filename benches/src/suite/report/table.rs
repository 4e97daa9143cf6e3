//! The terminal's table: 80 columns.

use std::fmt::Write as _;

use crate::suite::record::{Better, Bound, Sample};
use crate::suite::report::numbers::{interval, number};
use crate::suite::report::run::{Run, conditions, spaced};

/// Columns of a terminal.
const COLUMNS: usize = 80;
/// Columns of a peer's name, and of what was varied.
const PEER: usize = 13;
const CONDITIONS: usize = 25;

/// Whether text is coloured.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ink {
    /// By the terminal's escapes.
    Colour,
    /// Not at all.
    Plain,
}

impl Ink {
    /// A heading.
    #[must_use]
    pub fn heading(self, text: &str) -> String {
        self.paint("1", text)
    }

    /// What a reader has to know before believing a figure.
    #[must_use]
    pub fn warning(self, text: &str) -> String {
        self.paint("33", text)
    }

    fn paint(self, code: &str, text: &str) -> String {
        match self {
            Self::Colour => format!("\x1b[{code}m{text}\x1b[0m"),
            Self::Plain => text.to_owned(),
        }
    }
}

/// A run, as a terminal shows it.
#[must_use]
pub fn text(run: &Run, ink: Ink) -> String {
    let header = &run.header;
    let mut text = String::new();
    line(&mut text, &ink.heading(&format!("hairpin-bench {}, {}", header.version, header.date)));
    let machine: Vec<String> =
        header.machine.iter().map(|(name, fact)| format!("{} {fact}", spaced(name))).collect();
    line(&mut text, &fold(&machine.join("; "), "  "));
    for figures in run.figures() {
        line(&mut text, "");
        line(&mut text, &ink.heading(&title(figures[0])));
        for sample in figures {
            line(&mut text, &row(sample, ink));
        }
    }
    if !run.ratios.is_empty() {
        line(&mut text, "");
        line(&mut text, &ink.heading("beside each other"));
    }
    for ratio in &run.ratios {
        let what = format!("{}, {}: {}", ratio.test, ratio.scenario, ratio.metric);
        let ends = interval(ratio.interval);
        let of = format!("{} : {} = {} {ends}", ratio.of, ratio.to, number(ratio.median));
        let conditions = conditions(&ratio.parameters);
        line(&mut text, &fold(&format!("{of}  {what}, {conditions}"), "  "));
    }
    let absent = absent(run);
    if !absent.is_empty() {
        line(&mut text, "");
        line(&mut text, &ink.heading("not measured"));
        absent.iter().for_each(|absent| line(&mut text, &ink.warning(&fold(absent, "  "))));
    }
    text
}

/// What was skipped or failed, and why.
#[must_use]
pub fn absent(run: &Run) -> Vec<String> {
    let skipped = run.header.peers.iter().filter_map(|peer| {
        peer.skipped.as_ref().map(|reason| format!("{}: skipped: {reason}", peer.name))
    });
    let notes = run.notes.iter().map(|note| format!("{}: {}", note.subject(), note.text));
    skipped.chain(notes).collect()
}

/// What figures of a group are of: test, scenario, metric, unit, which way they are good.
#[must_use]
pub fn title(sample: &Sample) -> String {
    let Sample { test, scenario, metric, unit, .. } = sample;
    let unit = if unit.is_empty() { String::new() } else { format!(" [{unit}]") };
    let better = match sample.better {
        Better::Higher => ", more is better",
        Better::Lower => ", less is better",
        Better::Neither => "",
    };
    format!("{}, {}: {}{unit}{better}", spaced(test), spaced(scenario), spaced(metric))
}

/// What a figure's reader has to know.
#[must_use]
pub fn mark(bound: Bound) -> &'static str {
    match bound {
        Bound::None => "",
        Bound::Generator => "generator-bound",
    }
}

fn row(sample: &Sample, ink: Ink) -> String {
    let peer = cut(&sample.peer, PEER);
    let conditions = cut(&conditions(&sample.parameters), CONDITIONS);
    // Of one or two values there is no interval.
    let spread = match sample.values.len() {
        count @ 1..=2 => format!("(of {count})"),
        _ => interval(sample.interval),
    };
    let figure = format!("{:>9} {spread}", number(sample.median));
    let mark = match mark(sample.bound) {
        "" => String::new(),
        _ => ink.warning("gen-bound"),
    };
    let row = format!("  {peer:<PEER$} {conditions:<CONDITIONS$} {figure:<28} {mark}");
    row.trim_end().to_owned()
}

fn line(text: &mut String, line: &str) {
    // Writing to a string cannot fail.
    let _ = writeln!(text, "{line}");
}

/// A text of so many columns at most.
fn cut(text: &str, columns: usize) -> String {
    if text.chars().count() <= columns {
        return text.to_owned();
    }
    let kept: String = text.chars().take(columns - 1).collect();
    format!("{kept}…")
}

/// Breaks a text at its spaces, each line behind `margin`.
#[must_use]
pub fn fold(text: &str, margin: &str) -> String {
    let (mut folded, mut column) = (String::new(), 0);
    for word in text.split_whitespace() {
        let width = word.chars().count();
        if column == 0 || column + 1 + width > COLUMNS {
            folded.push_str(if column == 0 { margin } else { "\n" });
            folded.push_str(if column == 0 { "" } else { margin });
            column = margin.chars().count() + width;
        } else {
            folded.push(' ');
            column += 1 + width;
        }
        folded.push_str(word);
    }
    folded
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::suite::report::example;

    #[test]
    fn a_run_fits_into_the_terminal() {
        let run = Run::parse(example::TEXT).unwrap();
        let text = text(&run, Ink::Plain);
        let widest = text.lines().map(|line| line.chars().count()).max();
        assert!(widest <= Some(COLUMNS), "{widest:?}:\n{text}");
        for expected in [
            "throughput, v2v: PDR [Mpps], more is better",
            "  hairpin       flows 1, size 64               15.8 [15.3, 16.1]       gen-bound",
            "  ovs-dpdk      load 50 %, size 64             44.0 [40.9, 47.5]",
            "  hairpin : ovs-dpdk = 1.31 [1.25, 1.36] throughput, v2v: PDR, flows 1, size 64",
            "  linux-bridge: skipped: no `ip` (Debian package iproute2) & no <root>",
            "  reset, ovs-dpdk: failed: ovs-vswitchd did not come back within 30 s",
        ] {
            assert!(text.lines().any(|line| line == expected), "{expected:?} in:\n{text}");
        }
        assert!(!text.contains('\x1b'));
    }

    #[test]
    fn a_note_says_what_it_is_about_as_far_as_it_was_written_down() {
        let header = example::TEXT.lines().next().unwrap_or_default();
        let note = |fields| format!("{header}\n{{\"record\": \"note\", {fields}}}");
        for (fields, expected) in [
            (r#""test": "loss", "peer": "a", "text": "x""#, "loss, a: x"),
            (r#""test": "loss", "scenario": "v2v", "peer": "a", "text": "x""#, "loss, v2v, a: x"),
            (r#""test": "", "scenario": "v2v", "peer": "a", "text": "x""#, "v2v, a: x"),
        ] {
            let run = Run::parse(&note(fields)).unwrap();
            assert_eq!(absent(&run).last().map(String::as_str), Some(expected));
        }
    }

    #[test]
    fn colour_is_only_where_it_is_asked_for() {
        let run = Run::parse(example::TEXT).unwrap();
        assert!(text(&run, Ink::Colour).contains("\x1b[33mgen-bound\x1b[0m"));
    }

    #[test]
    fn long_texts_are_broken_or_cut() {
        assert_eq!(cut("linux-bridge", 12), "linux-bridge");
        assert_eq!(cut("linux-bridge", 6), "linux…");
        let folded = fold(&"word ".repeat(40), "  ");
        assert!(folded.lines().all(|line| line.starts_with("  word") && line.len() <= COLUMNS));
    }
}
