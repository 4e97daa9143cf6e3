//! Families as text, in the two formats that scrapers read: OpenMetrics 1.0 and the text
//! format of Prometheus, version 0.0.4.

use std::fmt::Write;

use super::family::{Family, Kind, Sample, Value};

/// A format of text.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Exposition {
    /// OpenMetrics 1.0.
    OpenMetrics,
    /// The text format of Prometheus.
    Prometheus,
}

impl Exposition {
    /// Its media type.
    #[must_use]
    pub fn content_type(self) -> &'static str {
        match self {
            Exposition::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Exposition::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
        }
    }

    /// The format that a client likes best, by its `Accept` header (RFC 9110, 12.5.1):
    /// OpenMetrics if it is named there and nothing else is liked better.
    #[must_use]
    pub fn preferred(accept: &str) -> Exposition {
        let (mut open, mut text) = (0.0_f32, 0.0_f32);
        for range in accept.split(',') {
            let mut parts = range.split(';').map(str::trim);
            let media = parts.next().unwrap_or("").to_ascii_lowercase();
            let (mut quality, mut version) = (1.0_f32, None);
            for (key, value) in parts.filter_map(|parameter| parameter.split_once('=')) {
                match key.trim() {
                    "q" => quality = value.trim().parse().unwrap_or(0.0),
                    "version" => version = Some(value.trim().trim_matches('"')),
                    _ => {}
                }
            }
            match &*media {
                "application/openmetrics-text" if version.is_none_or(|it| it == "1.0.0") => {
                    open = quality.max(open);
                }
                "text/plain" | "text/*" | "*/*" => text = quality.max(text),
                _ => {}
            }
        }
        match open > 0.0 && open >= text {
            true => Exposition::OpenMetrics,
            false => Exposition::Prometheus,
        }
    }

    /// The families as text.
    #[must_use]
    pub fn text(self, families: &[Family]) -> String {
        let mut text = String::new();
        for family in families.iter().filter(|family| !family.samples.is_empty()) {
            self.head(&mut text, family);
            for sample in &family.samples {
                line(&mut text, family, sample);
            }
        }
        if self == Exposition::OpenMetrics {
            text += "# EOF\n";
        }
        text
    }

    fn head(self, text: &mut String, family: &Family) {
        let Family { name, kind, unit, help, .. } = family;
        let suffix = kind.suffix();
        // Writing to a text does not fail.
        let _ = match self {
            Exposition::OpenMetrics => {
                let kind = match kind {
                    Kind::Counter => "counter",
                    Kind::Gauge => "gauge",
                    Kind::Info => "info",
                };
                let unit = match *unit {
                    "" => String::new(),
                    unit => format!("# UNIT {name} {unit}\n"),
                };
                write!(text, "# TYPE {name} {kind}\n{unit}# HELP {name} {}\n", escaped(help))
            }
            Exposition::Prometheus => {
                let kind = if *kind == Kind::Counter { "counter" } else { "gauge" };
                let help = help.replace('\\', "\\\\").replace('\n', "\\n");
                write!(text, "# HELP {name}{suffix} {help}\n# TYPE {name}{suffix} {kind}\n")
            }
        };
    }
}

/// A sample's line, which both formats have alike.
fn line(text: &mut String, family: &Family, sample: &Sample) {
    *text += family.name;
    *text += family.kind.suffix();
    let mut between = '{';
    for (label, value) in &sample.labels {
        let _ = write!(text, "{between}{label}=\"{}\"", escaped(value));
        between = ',';
    }
    if !sample.labels.is_empty() {
        text.push('}');
    }
    let _ = match sample.value {
        Value::Whole(number) => writeln!(text, " {number}"),
        Value::Real(number) => writeln!(text, " {number}"),
    };
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn families() -> Vec<Family> {
        let info = Sample::whole(&[("version", "0.1.0")], 1);
        let frames = Sample::whole(&[("port", "a\"\\\n"), ("kind", "port")], 7);
        vec![
            Family { name: "h", kind: Kind::Info, unit: "", help: "Who.", samples: vec![info] },
            Family {
                name: "h_frames",
                kind: Kind::Counter,
                unit: "frames",
                help: "Frames.",
                samples: vec![frames],
            },
            Family {
                name: "h_seconds",
                kind: Kind::Gauge,
                unit: "seconds",
                help: "Time.",
                samples: vec![Sample::real(&[], 0.5)],
            },
            Family { name: "h_none", kind: Kind::Gauge, unit: "", help: "-", samples: vec![] },
        ]
    }

    #[test]
    fn openmetrics_names_units_and_says_where_it_ends() {
        let expected = "\
# TYPE h info
# HELP h Who.
h_info{version=\"0.1.0\"} 1
# TYPE h_frames counter
# UNIT h_frames frames
# HELP h_frames Frames.
h_frames_total{port=\"a\\\"\\\\\\n\",kind=\"port\"} 7
# TYPE h_seconds gauge
# UNIT h_seconds seconds
# HELP h_seconds Time.
h_seconds 0.5
# EOF
";
        assert_eq!(Exposition::OpenMetrics.text(&families()), expected);
    }

    #[test]
    fn prometheus_knows_families_by_the_names_of_their_samples() {
        let expected = "\
# HELP h_info Who.
# TYPE h_info gauge
h_info{version=\"0.1.0\"} 1
# HELP h_frames_total Frames.
# TYPE h_frames_total counter
h_frames_total{port=\"a\\\"\\\\\\n\",kind=\"port\"} 7
# HELP h_seconds Time.
# TYPE h_seconds gauge
h_seconds 0.5
";
        assert_eq!(Exposition::Prometheus.text(&families()), expected);
    }

    #[test]
    fn a_client_gets_the_format_it_likes() {
        let prometheus = "application/openmetrics-text;version=1.0.0,\
                          application/openmetrics-text;version=0.0.1;q=0.75,\
                          text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        let open = [prometheus, "application/openmetrics-text", "*/*,application/openmetrics-text"];
        for accept in open {
            assert_eq!(Exposition::preferred(accept), Exposition::OpenMetrics, "{accept}");
        }
        let text =
            ["", "*/*", "text/plain", "application/openmetrics-text;version=0.0.1", "q=1;;,"];
        for accept in text.into_iter().chain(["application/openmetrics-text;q=0.2,text/*"]) {
            assert_eq!(Exposition::preferred(accept), Exposition::Prometheus, "{accept}");
        }
    }
}
