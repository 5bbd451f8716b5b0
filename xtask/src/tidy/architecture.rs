//! ARCHITECTURE.md is short, names every crate and every file of the libraries, and names nothing that is not there.
//!
//! A path is a word in backquotes with a `/` in it or one of our extensions at its end. It is taken from the root or
//! from the directory that the nearest heading above it names.

use std::collections::BTreeSet;

use super::Finding;
use super::crates::Crate;
use super::tree::{Tree, join};

const PAGE: &str = "ARCHITECTURE.md";
const MOST_LINES: usize = 249;
const EXTENSIONS: &[&str] = &[".rs", ".md", ".toml"];

/// Every file below must be named, by itself or by its directory in a row of the map.
const MAPPED: &[&str] =
    &["crates/quod/src/", "crates/quod-export/src/", "crates/quod-sim/src/", "crates/quod-storage/src/"];

pub(super) fn check(tree: &Tree, crates: &[Crate]) -> Vec<Finding> {
    let Some(page) = tree.text(PAGE) else {
        return vec![Finding::new(PAGE, 1, "there is no such page")];
    };
    let mut findings = Vec::new();
    let length = page.lines().count();
    if length > MOST_LINES {
        findings.push(Finding::new(PAGE, length, format!("{length} lines: keep it under 250")));
    }

    let mut named = BTreeSet::new();
    let mut covered = Vec::new();
    let mut heading = String::new();
    for (index, line) in page.lines().enumerate() {
        let paths: Vec<&str> = backquoted(line).filter(|word| is_path(word)).collect();
        if line.starts_with('#') {
            heading = paths.first().map_or(String::new(), |path| (*path).to_owned());
        }
        for path in paths {
            match resolve(tree, &heading, path) {
                Some(resolved) => {
                    if path.ends_with('/') && line.starts_with('|') {
                        covered.push(format!("{}/", resolved.trim_end_matches('/')));
                    }
                    named.insert(resolved);
                }
                None => findings.push(Finding::new(PAGE, index + 1, format!("`{path}` does not exist"))),
            }
        }
    }

    let directories = crates.iter().map(|one| one.directory.as_str());
    let is_mapped = |path: &str| MAPPED.iter().any(|root| path.starts_with(root)) && path.ends_with(".rs");
    let modules = tree.files().map(|(path, _)| path).filter(|path| is_mapped(path));
    let is_covered = |path: &str| named.contains(path) || covered.iter().any(|root| path.starts_with(root));
    for path in directories.chain(modules).filter(|path| !is_covered(path)) {
        findings.push(Finding::new(PAGE, 1, format!("`{path}` is missing from the code map")));
    }
    findings
}

fn backquoted(line: &str) -> impl Iterator<Item = &str> {
    line.split('`').skip(1).step_by(2)
}

fn is_path(word: &str) -> bool {
    let is_plain = word.chars().all(|sign| sign.is_ascii_alphanumeric() || "/._-".contains(sign));
    let is_absolute = word.starts_with('/');
    is_plain
        && !is_absolute
        && (word.contains('/') || EXTENSIONS.iter().any(|extension| word.ends_with(extension)))
}

fn resolve(tree: &Tree, heading: &str, path: &str) -> Option<String> {
    [heading, ""]
        .into_iter()
        .filter(|from| tree.has(&format!("{}/{path}", from.trim_end_matches('/'))) || tree.has(path))
        .filter_map(|from| join(from, path))
        .find(|path| tree.has(path))
}

#[cfg(test)]
mod tests {
    use super::super::crates;
    use super::super::tests::told;
    use super::*;

    fn check_page(page: &str) -> Vec<String> {
        let tree = Tree::of([
            (PAGE, page),
            ("crates/quod/Cargo.toml", "[package]\nname = \"quod\"\n"),
            ("crates/quod/src/lib.rs", ""),
            ("crates/quod/src/cache/slot.rs", ""),
        ]);
        told(&check(&tree, &crates::all(&tree).unwrap()))
    }

    const COMPLETE: &str = "## Map\n### `crates/quod`\n`src/lib.rs`, `src/cache/slot.rs`\n";

    #[test]
    fn a_complete_page_is_right() {
        assert!(check_page(COMPLETE).is_empty(), "{:?}", check_page(COMPLETE));
        assert!(
            check_page("`crates/quod/` `crates/quod/src/lib.rs` `crates/quod/src/cache/slot.rs`").is_empty()
        );
    }

    #[test]
    fn words_that_are_no_paths_are_left_alone() {
        let page =
            format!("{COMPLETE}`cargo xtask tidy` `a::b` `Storage` `/proc/locks` and/or `nbd+unix://`\n");
        assert!(check_page(&page).is_empty());
    }

    #[test]
    fn a_path_that_is_not_there_is_told_with_its_line() {
        let page = format!("{COMPLETE}`src/gone.rs` and `docs/gone.md`\n");
        assert_eq!(
            check_page(&page),
            [
                "ARCHITECTURE.md:4: `src/gone.rs` does not exist",
                "ARCHITECTURE.md:4: `docs/gone.md` does not exist",
            ]
        );
    }

    #[test]
    fn a_directory_in_the_map_stands_for_its_files_and_a_heading_does_not() {
        let page = "### `crates/quod/`\n| `src/lib.rs` | public |\n";
        assert_eq!(
            check_page(page),
            ["ARCHITECTURE.md:1: `crates/quod/src/cache/slot.rs` is missing from the code map"]
        );
        assert!(check_page(&format!("{page}| `src/cache/` | the cache |\n")).is_empty());
    }

    #[test]
    fn a_crate_and_a_module_must_be_named() {
        assert_eq!(
            check_page("`crates/quod/src/lib.rs`"),
            [
                "ARCHITECTURE.md:1: `crates/quod` is missing from the code map",
                "ARCHITECTURE.md:1: `crates/quod/src/cache/slot.rs` is missing from the code map",
            ]
        );
    }

    #[test]
    fn the_page_stays_short() {
        assert_eq!(check_page(&format!("{COMPLETE}{}", "\n".repeat(MOST_LINES))).len(), 1);
    }
}
