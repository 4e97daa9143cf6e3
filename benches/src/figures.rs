//! Figures as the tables show them, and as JSON has them.

use serde_json::{Value, json};

use crate::gauge::Placement;
use crate::statistics::{Ratio, Spread, median};

/// What stands where there is no figure.
pub const NONE: &str = "–";

/// Labels of turns and windows, in the order of the tables.
pub const PLACEMENTS: [Placement; 3] = [Placement::Near, Placement::Far, Placement::Mixed];

/// A median with its quartiles in brackets, of `values` with so many decimals.
#[must_use]
pub fn spread(values: &[f64], decimals: usize) -> String {
    Spread::of(values).map_or_else(
        || NONE.to_owned(),
        |Spread { low, median, high }| {
            format!("{median:.decimals$} ({low:.decimals$}–{high:.decimals$})")
        },
    )
}

/// A ratio in bold with its 95 % interval, with so many decimals.
#[must_use]
pub fn interval(ratio: Option<Ratio>, decimals: usize) -> String {
    ratio.map_or_else(
        || NONE.to_owned(),
        |Ratio { low, value, high }| {
            format!("**{value:.decimals$}** [{low:.decimals$}, {high:.decimals$}]")
        },
    )
}

/// Every turn's figure, and their median; null for that if there was no turn.
#[must_use]
pub fn turns_json(turns: &[f64]) -> Value {
    json!({ "median": median(turns), "turns": turns })
}

/// A ratio with the ends of its interval; null if there is none.
#[must_use]
pub fn ratio_json(ratio: Option<Ratio>) -> Value {
    ratio.map_or(
        Value::Null,
        |Ratio { low, value, high }| json!({ "low": low, "value": value, "high": high }),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_have_their_decimals_and_a_dash_stands_for_none() {
        let values = [4.0, 1.0, 3.0, 2.0];
        assert_eq!(spread(&values, 2), "2.50 (1.75–3.25)");
        assert_eq!(spread(&[1000.4], 0), "1000 (1000–1000)");
        let ratio = Ratio { low: 0.5, value: 1.25, high: 2.0 };
        assert_eq!(interval(Some(ratio), 3), "**1.250** [0.500, 2.000]");
        assert_eq!((spread(&[], 2), interval(None, 2)), (NONE.to_owned(), NONE.to_owned()));
    }

    #[test]
    fn what_is_not_there_is_null() {
        assert_eq!(turns_json(&[1.0, 3.0]), json!({ "median": 2.0, "turns": [1.0, 3.0] }));
        assert_eq!(turns_json(&[]), json!({ "median": null, "turns": [] }));
        let ratio = Ratio { low: 0.5, value: 1.25, high: 2.0 };
        assert_eq!(ratio_json(Some(ratio)), json!({ "low": 0.5, "value": 1.25, "high": 2.0 }));
        assert_eq!(ratio_json(None), Value::Null);
    }
}
