// SPDX-License-Identifier: Apache-2.0
//! Which known name a person may have meant.

/// The known name closest to `name` by single-letter edits, if it is close enough to be a likely slip: at most a third
/// of its letters differ. Case, `_` and `-` do not count.
pub fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let wanted = plain(name);
    known
        .into_iter()
        .map(|candidate| {
            let candidate_plain = plain(candidate);
            let longest = wanted.len().max(candidate_plain.len());
            (edits(&wanted, &candidate_plain), longest, candidate)
        })
        .filter(|(edits, longest, _)| edits * 3 <= *longest)
        .min_by_key(|(edits, _, _)| *edits)
        .map(|(_, _, candidate)| candidate)
}

fn plain(name: &str) -> Vec<char> {
    name.chars()
        .filter(|letter| !matches!(letter, '_' | '-'))
        .flat_map(char::to_lowercase)
        .collect()
}

/// Insertions, deletions, replacements and swaps of neighbours that turn `a` into `b`.
fn edits(a: &[char], b: &[char]) -> usize {
    let width = b.len() + 1;
    let mut cost = vec![0; (a.len() + 1) * width];
    for i in 0..=a.len() {
        for j in 0..=b.len() {
            cost[i * width + j] = if i == 0 || j == 0 {
                i + j
            } else {
                let replaced = cost[(i - 1) * width + j - 1] + usize::from(a[i - 1] != b[j - 1]);
                let one = (cost[(i - 1) * width + j] + 1)
                    .min(cost[i * width + j - 1] + 1)
                    .min(replaced);
                let swapped = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
                if swapped {
                    one.min(cost[(i - 2) * width + j - 2] + 1)
                } else {
                    one
                }
            };
        }
    }
    cost[cost.len() - 1]
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: [&str; 4] = ["slot_name", "publication", "host", "port"];

    #[test]
    fn a_slip_finds_the_name_that_was_meant() {
        assert_eq!(nearest("slotname", KNOWN), Some("slot_name"));
        assert_eq!(nearest("publicatoin", KNOWN), Some("publication"));
        assert_eq!(nearest("Host", KNOWN), Some("host"));
    }

    #[test]
    fn a_name_unlike_all_others_finds_none() {
        assert_eq!(nearest("colour", KNOWN), None);
        assert_eq!(nearest("", KNOWN), None);
    }
}
