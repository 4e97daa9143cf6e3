//! Axes: which values they span, and where their ticks are.

/// How far apart values lie before an axis goes by powers of ten.
const DECADES_FROM: f64 = 100.0;

/// How values are laid along an axis.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scale {
    /// Equal steps.
    Linear,
    /// Equal factors.
    Logarithmic,
}

/// An axis from `low` to `high`.
#[derive(Clone, PartialEq, Debug)]
pub struct Axis {
    /// How values are laid along it.
    pub scale: Scale,
    /// Where it begins; above 0 if it is logarithmic.
    pub low: f64,
    /// Where it ends, above `low`.
    pub high: f64,
    /// Values that are labelled.
    pub ticks: Vec<f64>,
}

impl Scale {
    /// Logarithmic for values that are all above 0 and far apart.
    #[must_use]
    pub fn of(values: &[f64]) -> Self {
        let low = values.iter().copied().fold(f64::INFINITY, f64::min);
        let high = values.iter().copied().fold(0.0, f64::max);
        match low > 0.0 && high >= low * DECADES_FROM {
            true => Self::Logarithmic,
            false => Self::Linear,
        }
    }
}

impl Axis {
    /// An axis that has all of `values` (those above 0, if it is logarithmic). A linear one
    /// begins at 0, or lengths would lie.
    #[must_use]
    pub fn over(values: &[f64], scale: Scale) -> Self {
        let kept = |value: &f64| value.is_finite() && (scale == Scale::Linear || *value > 0.0);
        let values: Vec<f64> = values.iter().copied().filter(kept).collect();
        let low = values.iter().copied().fold(f64::INFINITY, f64::min);
        let high = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        match scale {
            _ if values.is_empty() => Self::linear(0.0, 1.0),
            Scale::Linear => Self::linear(low.min(0.0), high.max(0.0)),
            Scale::Logarithmic => Self::logarithmic(low, high),
        }
    }

    fn linear(low: f64, high: f64) -> Self {
        let span = if high > low { high - low } else { 1.0 };
        let rough = span / 4.0;
        let power = 10_f64.powf(rough.log10().floor());
        let steps = [1.0, 2.0, 2.5, 5.0, 10.0].map(|step| step * power);
        let step = steps.into_iter().find(|step| *step >= rough * 0.999).unwrap_or(10.0 * power);
        let first = (low / step).floor() as i64;
        let last = ((low + span) / step).ceil() as i64;
        let ticks: Vec<f64> = (first..=last).map(|tick| tick as f64 * step).collect();
        let (low, high) = (first as f64 * step, last as f64 * step);
        Self { scale: Scale::Linear, low, high, ticks }
    }

    fn logarithmic(low: f64, high: f64) -> Self {
        let first = low.log10().floor() as i32;
        let last = (high.log10().ceil() as i32).max(first + 1);
        // At most some six labels fit.
        let step = ((last - first) as usize).div_ceil(6);
        let ticks = (first..=last).step_by(step).map(|power| 10_f64.powi(power)).collect();
        let (low, high) = (10_f64.powi(first), 10_f64.powi(last));
        Self { scale: Scale::Logarithmic, low, high, ticks }
    }

    /// Where a value lies: 0 at the beginning, 1 at the end; `None` if it has no place.
    #[must_use]
    pub fn place(&self, value: f64) -> Option<f64> {
        let share = match self.scale {
            Scale::Linear => (value - self.low) / (self.high - self.low),
            Scale::Logarithmic if value <= 0.0 => return None,
            Scale::Logarithmic => (value / self.low).ln() / (self.high / self.low).ln(),
        };
        share.is_finite().then(|| share.clamp(0.0, 1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_hold_all_values() {
        let axis = Axis::over(&[2.0, 17.3], Scale::Linear);
        assert_eq!((axis.low, axis.high), (0.0, 20.0));
        assert_eq!(axis.ticks, [0.0, 5.0, 10.0, 15.0, 20.0]);
        let axis = Axis::over(&[0.003, 0.0, 1.0], Scale::Logarithmic);
        assert_eq!(axis.ticks.len(), 4);
        assert_eq!((axis.low, axis.high), (0.001, 1.0));
        for empty in [Axis::over(&[], Scale::Logarithmic), Axis::over(&[0.0], Scale::Linear)] {
            assert_eq!((empty.low, empty.high), (0.0, 1.0));
        }
    }

    #[test]
    fn values_have_their_place() {
        let axis = Axis::over(&[1.0, 100.0], Scale::Logarithmic);
        let tenth = axis.place(10.0).unwrap();
        assert!((tenth - 0.5).abs() < 1e-9);
        assert_eq!(axis.place(0.0), None);
        assert_eq!(Axis::over(&[10.0], Scale::Linear).place(5.0), Some(0.5));
    }

    #[test]
    fn far_values_go_by_powers_of_ten() {
        assert_eq!(Scale::of(&[1.0, 100.0]), Scale::Logarithmic);
        assert_eq!(Scale::of(&[1.0, 50.0]), Scale::Linear);
        assert_eq!(Scale::of(&[0.0, 1000.0]), Scale::Linear);
    }
}
