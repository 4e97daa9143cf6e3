//! "Did you mean …?"

/// Characters of the longest word that is compared: names have 64 at most, and comparing takes
/// time by the product of the lengths.
const LONGEST: usize = 67;

/// The candidate that a slip of the pen or two makes of `word`, if there is one.
#[must_use]
pub fn nearest<'c>(word: &str, candidates: impl IntoIterator<Item = &'c str>) -> Option<&'c str> {
    let bound = match word.chars().count() {
        length if length > LONGEST => return None,
        0..=2 => 1,
        3..=8 => 2,
        _ => 3,
    };
    candidates
        .into_iter()
        .map(|candidate| (distance(word, candidate), candidate))
        .filter(|&(distance, candidate)| distance <= bound && distance < candidate.chars().count())
        .min()
        .map(|(_, candidate)| candidate)
}

/// ` (did you mean X?)`, or nothing.
#[must_use]
pub fn hint<'c>(word: &str, candidates: impl IntoIterator<Item = &'c str>) -> String {
    nearest(word, candidates).map_or_else(String::new, |found| format!(" (did you mean {found}?)"))
}

/// Insertions, deletions and replacements that make `b` of `a` (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, &y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_recognised_and_a_stranger_is_not() {
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(nearest("vm7", ["vm1", "uplink"]), Some("vm1"));
        assert_eq!(nearest("chanel", ["channel", "mode"]), Some("channel"));
        assert_eq!(nearest("database", ["vm1", "uplink"]), None);
        assert_eq!(nearest("x", ["y"]), None);
        let long = "x".repeat(68);
        assert_eq!(nearest(&long, [long.as_str()]), None, "nobody means that");
    }
}
