//! Metric families: what is told, before it is text.

/// Samples of one kind.
#[derive(Clone, PartialEq, Debug)]
pub struct Family {
    /// Its name, without what a kind appends.
    pub name: &'static str,
    /// What kind of numbers they are.
    pub kind: Kind,
    /// What they count or measure, the name's last word; empty if nothing.
    pub unit: &'static str,
    /// What they are, in a sentence.
    pub help: &'static str,
    /// The samples.
    pub samples: Vec<Sample>,
}

/// What kind of numbers a family has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// They only grow, from 0.
    Counter,
    /// They come and go.
    Gauge,
    /// They are 1: what they tell is in the labels.
    Info,
}

impl Kind {
    /// What the name of a sample has behind that of its family.
    #[must_use]
    pub fn suffix(self) -> &'static str {
        match self {
            Kind::Counter => "_total",
            Kind::Gauge => "",
            Kind::Info => "_info",
        }
    }
}

/// A number and what it is of.
#[derive(Clone, PartialEq, Debug)]
pub struct Sample {
    /// Labels and their values.
    pub labels: Vec<(&'static str, String)>,
    /// The number.
    pub value: Value,
}

/// A number.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Value {
    /// A whole one.
    Whole(u64),
    /// A finite one.
    Real(f64),
}

impl Sample {
    /// A whole number with these labels.
    #[must_use]
    pub fn whole(labels: &[(&'static str, &str)], value: u64) -> Sample {
        Sample::new(labels, Value::Whole(value))
    }

    /// A finite number with these labels.
    #[must_use]
    pub fn real(labels: &[(&'static str, &str)], value: f64) -> Sample {
        Sample::new(labels, Value::Real(value))
    }

    fn new(labels: &[(&'static str, &str)], value: Value) -> Sample {
        let labels = labels.iter().map(|&(label, value)| (label, value.to_owned())).collect();
        Sample { labels, value }
    }
}
