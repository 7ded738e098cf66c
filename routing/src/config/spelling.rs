//! "Did you mean ...?": the nearest of the words that would have been right.

/// The nearest of `candidates` to `word`, whatever their case, if it is near enough to be a slip of the hand: at most a third
/// of the word away. Words of one letter are no guess, since each of them is one letter from any other.
pub(crate) fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // A word longer than any name is no slip, and its distance to 10,000 names would take long.
    let allowed = (word.chars().count().min(64) / 3).max(1);
    let folded = word.to_lowercase();
    candidates
        .into_iter()
        .filter(|candidate| *candidate != word && candidate.len().abs_diff(word.len()) <= 4 * allowed)
        .filter(|candidate| (2..=256).contains(&word.len()) && candidate.len() > 1)
        .map(|candidate| (distance(&folded, &candidate.to_lowercase()), candidate))
        .filter(|(distance, _)| *distance <= allowed)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Edits between two words: a letter more, less or other, or two neighbours swapped (optimal string alignment).
fn distance(left: &str, right: &str) -> usize {
    let (left, right): (Vec<char>, Vec<char>) = (left.chars().collect(), right.chars().collect());
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=right.len()).collect();
    for (row, &a) in left.iter().enumerate() {
        let mut next = vec![row + 1];
        for (column, &b) in right.iter().enumerate() {
            let mut best =
                (last[column] + usize::from(a != b)).min(last[column + 1] + 1).min(next[column] + 1);
            if row > 0 && column > 0 && a == right[column - 1] && left[row - 1] == b {
                best = best.min(before[column - 1] + 1);
            }
            next.push(best);
        }
        before = std::mem::replace(&mut last, next);
    }
    last[right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_finds_its_word_and_another_word_does_not() {
        let keys = ["listen", "to", "source_labels", "source_subnets", "a"];
        let cases = [
            ("lisen", Some("listen")),
            ("lsiten", Some("listen")),
            ("source_label", Some("source_labels")),
            ("ot", Some("to")),
            ("LISTEN", Some("listen")),
            ("Source_Label", Some("source_labels")),
            ("colour", None),
            ("t", None),
            ("l", None),
            ("", None),
        ];
        for (word, wanted) in cases {
            assert_eq!(nearest(word, keys), wanted, "{word}");
        }
    }
}
