//! A link from one page of ours to a file of ours leads somewhere, and so does a page that a comment in code names.

use super::Finding;
use super::tree::{Tree, directory, join};

/// Where a page that a comment names may lie.
const PAGES: &[&str] = &["", "docs"];

/// Pages of other projects that comments name.
const FOREIGN: &[&str] = &["doc/proto.md"];

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    [check_pages(tree), check_comments(tree)].concat()
}

fn check_pages(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (page, text) in tree.files().filter(|(path, _)| path.ends_with(".md")) {
        for (index, line) in text.lines().enumerate() {
            for target in targets(line).filter(|target| is_local(target)) {
                let file = target.split('#').next().unwrap_or_default();
                let is_there =
                    file.is_empty() || join(directory(page), file).is_some_and(|path| tree.has(&path));
                if !is_there {
                    findings.push(Finding::new(
                        page,
                        index + 1,
                        format!("the link to {target} leads nowhere"),
                    ));
                }
            }
        }
    }
    findings
}

fn check_comments(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in tree.files().filter(|(path, _)| path.ends_with(".rs")) {
        for (index, line) in text.lines().enumerate().filter(|(_, line)| line.trim_start().starts_with("//"))
        {
            let pages = line.split('`').skip(1).step_by(2).filter(|word| word.ends_with(".md"));
            for page in pages.filter(|page| !page.contains(' ') && !FOREIGN.contains(page)) {
                if !PAGES.iter().any(|from| join(from, page).is_some_and(|path| tree.has(&path))) {
                    findings.push(Finding::new(
                        path,
                        index + 1,
                        format!("there is no page {page}, nor docs/{page}"),
                    ));
                }
            }
        }
    }
    findings
}

/// What stands in the parentheses of each `[text](target)`.
fn targets(line: &str) -> impl Iterator<Item = &str> {
    line.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(target, _)| target)
}

fn is_local(target: &str) -> bool {
    !target.contains(':')
}

#[cfg(test)]
mod tests {
    use super::super::tests::told;
    use super::*;

    #[test]
    fn dead_links_are_told_and_live_ones_are_not() {
        let tree = Tree::of([
            ("README.md", "[a](docs/a.md#top) [web](https://example.org/x) [here](#here)\n[b](docs/b.md)\n"),
            ("docs/a.md", "[up](../README.md) [out](../../README.md)\n"),
        ]);
        assert_eq!(
            told(&check(&tree)),
            [
                "README.md:2: the link to docs/b.md leads nowhere",
                "docs/a.md:1: the link to ../../README.md leads nowhere",
            ]
        );
    }

    #[test]
    fn a_page_that_a_comment_names_is_there() {
        let tree = Tree::of([
            ("docs/spec/format.md", ""),
            (
                "a.rs",
                "//! See `spec/format.md` and\nfn f() {} // not `x.md` here\n/// `gone.md`, section 1.\n",
            ),
        ]);
        assert_eq!(told(&check(&tree)), ["a.rs:3: there is no page gone.md, nor docs/gone.md"]);
    }
}
