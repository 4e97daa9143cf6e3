//! Numbers as people read them: three digits that count.

/// A number with three digits that count, as `15.8`, `0.0123` or `1,230`; tiny and huge ones by
/// powers of ten.
#[must_use]
pub fn number(value: f64) -> String {
    let size = value.abs();
    if !value.is_finite() {
        return "–".to_owned();
    }
    if size == 0.0 {
        return "0".to_owned();
    }
    if !(1e-4..1e12).contains(&size) {
        return format!("{value:.2e}");
    }
    let digits_before = size.log10().floor() as i32 + 1;
    if digits_before > 3 {
        return thousands(value, digits_before - 3);
    }
    let decimals = (3 - digits_before) as usize;
    format!("{value:.decimals$}")
}

/// An interval, as `[15.2, 16.1]`.
#[must_use]
pub fn interval([low, high]: [f64; 2]) -> String {
    format!("[{}, {}]", number(low), number(high))
}

/// A change, as `+5.1 %`.
#[must_use]
pub fn percent(change: f64) -> String {
    format!("{:+.1} %", change * 100.0)
}

/// The label of a tick: no zeros behind the point that say nothing.
#[must_use]
pub fn tick(value: f64) -> String {
    if value != 0.0 && !(1e-3..1e6).contains(&value.abs()) {
        let text = format!("{value:.3e}");
        let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        return format!("{}e{exponent}", digits.trim_end_matches('0').trim_end_matches('.'));
    }
    let text = format!("{value:.6}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    match text.split_once('.') {
        None => thousands(value, 0),
        Some(_) => text.to_owned(),
    }
}

/// A whole number with commas, its last `zeros` digits rounded away.
fn thousands(value: f64, zeros: i32) -> String {
    let unit = 10_f64.powi(zeros);
    let digits = format!("{:.0}", (value.abs() / unit).round() * unit);
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    if value < 0.0 { format!("-{text}") } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_digits_count() {
        for (value, expected) in [
            (0.0, "0"),
            (15.8234, "15.8"),
            (1.0, "1.00"),
            (0.012_345, "0.0123"),
            (123.4, "123"),
            (1234.5, "1,230"),
            (-14_880_952.0, "-14,900,000"),
            (0.000_002, "2.00e-6"),
            (f64::NAN, "–"),
        ] {
            assert_eq!(number(value), expected);
        }
        assert_eq!(interval([1.0, 2.5]), "[1.00, 2.50]");
        assert_eq!(percent(-0.051), "-5.1 %");
    }

    #[test]
    fn ticks_are_short() {
        for (value, expected) in
            [(0.5, "0.5"), (20.0, "20"), (1500.0, "1,500"), (1e-5, "1e-5"), (1.5e7, "1.5e7")]
        {
            assert_eq!(tick(value), expected);
        }
    }
}
