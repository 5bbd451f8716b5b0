//! No page and no code names a place on somebody's own machine.

use std::path::Path;

use super::Finding;
use super::tree::Tree;

/// Where people's own files lie: the first part of an absolute path.
const HOMES: &[&str] = &["home", "Users", "root"];

pub(super) fn check(tree: &Tree, root: &Path) -> Vec<Finding> {
    let mut places: Vec<String> = HOMES.iter().map(|home| format!("/{home}/")).collect();
    // The place of this very clone, where it is deep enough not to be a common word.
    places.extend(root.to_str().filter(|root| root.matches('/').count() > 1).map(|root| format!("{root}/")));
    let mut findings = Vec::new();
    for (path, text) in tree.files() {
        for (index, line) in text.lines().enumerate() {
            if let Some(place) = places.iter().find(|place| names(line, place)) {
                let sentence = format!("{place} is a place on somebody's own machine");
                findings.push(Finding::new(path, index + 1, sentence));
            }
        }
    }
    findings
}

/// Whether an absolute path in `line` begins with `place`.
fn names(line: &str, place: &str) -> bool {
    line.match_indices(place).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        before.is_none_or(|sign| !sign.is_alphanumeric() && !"._-/~}".contains(sign))
    })
}

#[cfg(test)]
mod tests {
    use super::super::tests::told;
    use super::*;

    fn check_line(line: &str) -> Vec<String> {
        told(&check(&Tree::of([("a.md", line)]), Path::new("/builds/quod")))
    }

    #[test]
    fn homes_and_the_place_of_the_clone_are_told() {
        let home = HOMES[0];
        assert_eq!(
            check_line(&format!("first\nsee /{home}/me/x")),
            [format!("a.md:2: /{home}/ is a place on somebody's own machine")]
        );
        assert_eq!(check_line("see `/builds/quod/x`").len(), 1);
    }

    #[test]
    fn a_path_that_merely_contains_such_a_word_is_fine() {
        assert!(
            check_line("https://example.org/root/x, ~/root/x, docs/home/x, /builds/quodlibet/x").is_empty()
        );
    }
}
