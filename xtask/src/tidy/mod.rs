//! `cargo xtask tidy`: the project's rules, as far as a machine can hold them.
//!
//! Role: reads the tree once, asks each rule, prints every finding as `path:line: sentence`.
//!
//! Invariant: a rule is a function of the [`Tree`] alone, so its tests need no files.
//!
//! Absent on purpose: what rustc, clippy, rustfmt and rustdoc hold already.

mod architecture;
mod banned;
mod crates;
mod dead_files;
mod dependencies;
mod file_shape;
mod layers;
mod links;
mod lints;
mod local_paths;
mod rust_source;
mod tree;

use std::fmt;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;

use rust_source::RustSource;
use tree::Tree;

/// A place where a rule is broken.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Finding {
    path: String,
    line: usize,
    sentence: String,
}

impl Finding {
    fn new(path: &str, line: usize, sentence: impl Into<String>) -> Self {
        Finding { path: path.to_owned(), line, sentence: sentence.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path, self.line, self.sentence)
    }
}

/// Prints all findings; succeeds when there are none.
pub(crate) fn run(root: &Path) -> Result<ExitCode> {
    let tree = Tree::read(root)?;
    let findings = findings(&tree, root)?;
    for finding in &findings {
        println!("{finding}");
    }
    if findings.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!("tidy: {} findings", findings.len());
    Ok(ExitCode::FAILURE)
}

fn findings(tree: &Tree, root: &Path) -> Result<Vec<Finding>> {
    let crates = crates::all(tree)?;
    let sources = rust_source::all(tree)?;
    let mut findings: Vec<Finding> = [
        layers::check(&crates),
        lints::check(tree, &crates)?,
        dependencies::check(tree, &crates, &sources)?,
        dead_files::check(&crates, &sources),
        banned::check(&sources),
        file_shape::check(&sources),
        architecture::check(tree, &crates),
        links::check(tree),
        local_paths::check(tree, root),
    ]
    .concat();
    findings.sort();
    Ok(findings)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a rule's test says in one line: `path:line: sentence` of each finding.
    pub(super) fn told(findings: &[Finding]) -> Vec<String> {
        findings.iter().map(Finding::to_string).collect()
    }

    #[test]
    fn this_repository_is_read_without_an_error() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let tree = Tree::read(root).unwrap();
        assert!(crates::all(&tree).unwrap().iter().any(|one| one.name == "xtask"));
        assert!(rust_source::all(&tree).unwrap().iter().any(|one| one.path == "xtask/src/main.rs"));
    }

    #[test]
    fn a_finding_is_told_as_path_line_and_sentence() {
        assert_eq!(told(&[Finding::new("a/b.rs", 7, "is wrong")]), ["a/b.rs:7: is wrong"]);
    }
}
