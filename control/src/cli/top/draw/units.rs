//! Numbers in a few columns.

/// What thousands are called.
const STEPS: [&str; 5] = ["", "k", "M", "G", "T"];

/// A number in five columns at most, with three digits that count.
#[must_use]
pub fn short(number: f64) -> String {
    let (mut number, mut step) = (number.max(0.0), 0);
    // What would be rounded up to a thousand is one of the next.
    while number >= 999.5 && step + 1 < STEPS.len() {
        number /= 1000.0;
        step += 1;
    }
    let digits = match number {
        whole if step == 0 && whole.fract() == 0.0 => 0,
        small if small < 9.995 && step > 0 => 2,
        medium if medium < 99.95 => 1,
        _ => 0,
    };
    format!("{number:.digits$}{}", STEPS[step])
}

/// Bits a second.
#[must_use]
pub fn bits(bits: f64) -> String {
    format!("{}bit/s", short(bits))
}

/// Seconds, as people say them.
#[must_use]
pub fn span(seconds: u64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{minutes} min"),
        7200..172_800 => format!("{hours} h {} min", minutes % 60),
        _ => format!("{days} d {} h", hours % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        let cases = [
            (0.0, "0"),
            (0.25, "0.2"),
            (7.0, "7"),
            (999.0, "999"),
            (999.6, "1.00k"),
            (1234.0, "1.23k"),
            (9_996.0, "10.0k"),
            (99_960.0, "100k"),
            (14_880_000.0, "14.9M"),
            (1e11, "100G"),
            (5e14, "500T"),
        ];
        for (number, text) in cases {
            assert_eq!(short(number), text);
        }
        assert_eq!(bits(12_300_000.0), "12.3Mbit/s");
    }

    #[test]
    fn spans_are_told_as_people_do() {
        let told = [5, 119, 120, 7_199, 7_260, 90_000, 200_000].map(span);
        let expected = ["5 s", "119 s", "2 min", "119 min", "2 h 1 min", "25 h 0 min", "2 d 7 h"];
        assert_eq!(told, expected);
    }
}
