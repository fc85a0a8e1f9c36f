//! Which of the known words did the author mean?

/// So many words are looked at; names of a file's variables can be any number.
const CANDIDATES: usize = 200;

/// The word nearest to `word`, if it is near enough to be what was meant: one mistake in short words, two in longer
/// ones. Casing does not count. Looks at the first 200 words only.
pub fn nearest<'known>(word: &str, known: impl IntoIterator<Item = &'known str>) -> Option<&'known str> {
    let bytes = word.len();
    let word: Vec<char> = word.chars().take(64).flat_map(char::to_lowercase).collect();
    let allowed = match word.len() {
        0..=2 => return None,
        3..=4 => 1,
        _ => 2,
    };
    known
        .into_iter()
        .take(CANDIDATES)
        .filter(|candidate| candidate.len().abs_diff(bytes) <= 2 * allowed)
        .map(|candidate| {
            (distance(&word, &candidate.chars().flat_map(char::to_lowercase).collect::<Vec<_>>()), candidate)
        })
        .filter(|(distance, _)| *distance <= allowed)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// `` did you mean `…`? `` for [`nearest`].
pub(crate) fn did_you_mean<'known>(word: &str, known: impl IntoIterator<Item = &'known str>) -> Option<String> {
    nearest(word, known).map(|known| format!("did you mean `{known}`?"))
}

/// Insertions, deletions, replacements and swaps of neighbours that lead from one word to the other.
fn distance(from: &[char], to: &[char]) -> usize {
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=to.len()).collect();
    for (row, one) in from.iter().enumerate() {
        let mut line = vec![row + 1];
        for (column, other) in to.iter().enumerate() {
            let replaced = last[column] + usize::from(one != other);
            let mut best = replaced.min(last[column + 1] + 1).min(line[column] + 1);
            if row > 0 && column > 0 && *one == to[column - 1] && from[row - 1] == *other {
                best = best.min(before[column - 1] + 1);
            }
            line.push(best);
        }
        before = std::mem::replace(&mut last, line);
    }
    last[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_was_meant() {
        let known = ["ENTRYPOINT", "FROM", "RUN", "COPY", "CMD", "ENV"];
        let cases = [
            ("EMTRYPOINT", Some("ENTRYPOINT")),
            ("FRMO", Some("FROM")),
            ("form", Some("FROM")),
            ("RUM", Some("RUN")),
            ("COPPY", Some("COPY")),
            ("apt-get", None),
            ("&&", None),
            ("", None),
        ];
        for (word, expected) in cases {
            assert_eq!(nearest(word, known), expected, "{word}");
        }
    }
}
