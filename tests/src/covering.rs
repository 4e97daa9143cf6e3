//! Few combinations of factors in which every pair of values occurs: a covering array of
//! strength two. What goes wrong by one value, or by two together, one of them shows.
//!
//! Factors are given by how many values each has, combinations by the values' numbers.

use std::collections::BTreeSet;

/// A factor's number, and its value's.
type Choice = (usize, usize);

/// All combinations, the last factor changing fastest.
#[must_use]
pub fn every(values: &[usize]) -> Vec<Vec<usize>> {
    let longer = |shorter: Vec<Vec<usize>>, &count: &usize| {
        let with = |start: &Vec<usize>, value| [start.as_slice(), &[value]].concat();
        shorter.iter().flat_map(|start| (0..count).map(move |value| with(start, value))).collect()
    };
    values.iter().fold(vec![Vec::new()], longer)
}

/// Some of [`every`], the same each time: each value of each factor meets each value of each
/// other factor, of which there has to be one.
///
/// Greedy: next is whichever has most pairs that are still missing. It looks at all
/// combinations for each that it takes, which is for hundreds of them, not for millions.
#[must_use]
pub fn pairwise(values: &[usize]) -> Vec<Vec<usize>> {
    let all = every(values);
    let mut missing: BTreeSet<[Choice; 2]> = all.iter().flat_map(|one| pairs(one)).collect();
    let mut taken = Vec::new();
    while !missing.is_empty() {
        let new = |one: &&Vec<usize>| pairs(one).filter(|pair| missing.contains(pair)).count();
        // The first of the best.
        let Some(best) = all.iter().rev().max_by_key(new) else { break };
        for pair in pairs(best) {
            missing.remove(&pair);
        }
        taken.push(best.clone());
    }
    taken
}

/// Which pairs of values a combination has, that of the lower factor first.
fn pairs(combination: &[usize]) -> impl Iterator<Item = [Choice; 2]> {
    let choices = combination.iter().copied().enumerate();
    choices.clone().flat_map(move |one| {
        choices.clone().filter(move |other| other.0 > one.0).map(move |other| [one, other])
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLES: [&[usize]; 7] =
        [&[1, 1], &[2, 2], &[3, 5], &[2, 2, 2], &[10, 2, 2, 2], &[3, 1, 4, 2], &[4, 4, 4, 4, 4]];

    #[test]
    fn every_combination_is_there_once() {
        for values in TABLES {
            let all = every(values);
            assert_eq!(all.len(), values.iter().product::<usize>(), "{values:?}");
            assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len(), "{values:?}");
        }
        assert_eq!(every(&[2, 2]), [[0, 0], [0, 1], [1, 0], [1, 1]]);
    }

    /// By other means than those it was made by.
    #[test]
    fn every_pair_of_values_is_in_some_combination() {
        for values in TABLES {
            let taken = pairwise(values);
            for (left, right) in every(&[values.len(); 2]).iter().map(|two| (two[0], two[1])) {
                if left == right {
                    continue;
                }
                for pair in every(&[values[left], values[right]]) {
                    let met = taken.iter().any(|one| [one[left], one[right]] == pair[..]);
                    assert!(met, "{values:?}: factors {left} and {right} as {pair:?}: {taken:?}");
                }
            }
            let within = |one: &Vec<usize>| one.iter().zip(values).all(|(one, count)| one < count);
            assert!(taken.iter().all(within), "{taken:?}");
        }
    }

    #[test]
    fn they_are_few() {
        assert_eq!(pairwise(&[10, 2, 2, 2]).len(), 20);
        assert_eq!(pairwise(&[2, 2, 2]).len(), 4);
        assert!(pairwise(&[4, 4, 4, 4, 4]).len() <= 32);
    }
}
