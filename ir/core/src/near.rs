//! Names that were probably meant: "did you mean" of every message that refuses one.

/// The item of `all` closest to `name` by edit distance, if it is close enough to be meant.
pub fn closest<'a>(name: &str, all: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let lower = name.to_lowercase();
    all.into_iter()
        .map(|c| (distance(&lower, &c.to_lowercase()), c))
        .filter(|(d, _)| *d <= 2.max(name.chars().count() / 2))
        .min_by_key(|(d, c)| (*d, c.len(), c.to_string()))
        .map(|(_, c)| c)
}

/// `did you mean "x"?`, and what there is: the notes of a diagnostic that refuses a name. `what` is a plural: `targets`.
pub fn notes<'a>(name: &str, what: &str, all: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    let all: Vec<&str> = all.into_iter().collect();
    let mut out: Vec<String> = closest(name, all.iter().copied()).map(|c| format!("did you mean {c:?}?")).into_iter().collect();
    out.push(if all.is_empty() { format!("there are no {what}") } else { format!("{what}: {}", all.join(", ")) });
    out
}

/// Edit distance; a name that contains the other counts as one edit, so that `FancyAttention` finds `Attention`.
fn distance(a: &str, b: &str) -> usize {
    if a != b && b.len() >= 4 && a.contains(b) {
        return 1;
    }
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut corner = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let cost = (corner + usize::from(x != *y)).min(row[j] + 1).min(row[j + 1] + 1);
            corner = row[j + 1];
            row[j + 1] = cost;
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_names_are_found_and_far_ones_are_not() {
        let all = ["softmax", "relu", "layer_norm"];
        assert_eq!(closest("Sofmax", all), Some("softmax"));
        assert_eq!(closest("RELU", all), Some("relu"));
        assert_eq!(closest("zzzzzz", all), None);
        assert_eq!(notes("relo", "ops", all)[0], "did you mean \"relu\"?");
        assert_eq!(notes("zzzzzz", "ops", all), ["ops: softmax, relu, layer_norm"]);
    }
}
