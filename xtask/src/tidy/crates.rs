//! The crates of the tree, out of their `Cargo.toml`.
//!
//! Invariant: every directory with a `[package]` is a crate, whether or not the workspace lists it.

use anyhow::{Context, Result};
use toml::Table;

use super::tree::{Tree, directory, line_of};

/// When a dependency is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DependencyKind {
    /// `[dependencies]` and `[build-dependencies]`, for all targets or some.
    Normal,
    /// `[dev-dependencies]`.
    Dev,
}

/// A dependency of a crate, as declared.
#[derive(Debug)]
pub(super) struct Dependency {
    /// The name that the code uses.
    pub(super) name: String,
    /// The package of the registry or workspace.
    pub(super) package: String,
    pub(super) kind: DependencyKind,
    /// In the crate's `Cargo.toml`.
    pub(super) line: usize,
}

/// A crate.
#[derive(Debug)]
pub(super) struct Crate {
    pub(super) name: String,
    /// Its directory; empty for the root.
    pub(super) directory: String,
    /// Its `Cargo.toml`.
    pub(super) manifest_path: String,
    pub(super) manifest: Table,
    pub(super) dependencies: Vec<Dependency>,
}

impl Crate {
    /// Whether `path` lies in the crate's directory.
    pub(super) fn owns(&self, path: &str) -> bool {
        self.directory.is_empty()
            || path.strip_prefix(&self.directory).is_some_and(|rest| rest.starts_with('/'))
    }
}

/// Every crate, those deeper in the tree first.
pub(super) fn all(tree: &Tree) -> Result<Vec<Crate>> {
    let mut crates = Vec::new();
    for (path, text) in tree.files() {
        if path == "Cargo.toml" || path.ends_with("/Cargo.toml") {
            crates.extend(read(path, text)?);
        }
    }
    crates.sort_by_key(|one| std::cmp::Reverse(one.directory.matches('/').count()));
    Ok(crates)
}

/// The crate that the file belongs to. `crates` is what [`all`] gave.
pub(super) fn owner<'c>(crates: &'c [Crate], path: &str) -> Option<&'c Crate> {
    crates.iter().find(|one| one.owns(path))
}

fn read(path: &str, text: &str) -> Result<Option<Crate>> {
    let manifest: Table = text.parse().with_context(|| format!("{path} is not TOML"))?;
    let Some(package) = manifest.get("package") else { return Ok(None) };
    let name = package.get("name").and_then(|name| name.as_str());
    let name = name.with_context(|| format!("{path}: the package has no name"))?.to_owned();
    let dependencies = dependencies(&manifest, text);
    Ok(Some(Crate {
        name,
        directory: directory(path).to_owned(),
        manifest_path: path.to_owned(),
        manifest,
        dependencies,
    }))
}

fn dependencies(manifest: &Table, text: &str) -> Vec<Dependency> {
    let mut found = Vec::new();
    let targets = manifest.get("target").and_then(|targets| targets.as_table());
    let per_target = targets.into_iter().flat_map(Table::values).filter_map(|target| target.as_table());
    for place in std::iter::once(manifest).chain(per_target) {
        for (section, kind) in [
            ("dependencies", DependencyKind::Normal),
            ("build-dependencies", DependencyKind::Normal),
            ("dev-dependencies", DependencyKind::Dev),
        ] {
            for (name, value) in
                place.get(section).and_then(|section| section.as_table()).into_iter().flatten()
            {
                let package = value.get("package").and_then(|package| package.as_str()).unwrap_or(name);
                found.push(Dependency {
                    name: name.clone(),
                    package: package.to_owned(),
                    kind,
                    line: line_of_key(text, section, name),
                });
            }
        }
    }
    found
}

/// The line on which `name` is a key, after the heading of its section.
fn line_of_key(text: &str, section: &str, name: &str) -> usize {
    let heading = line_of(text, section);
    let is_key = |line: &str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['.', ' ', '=']));
    text.lines().skip(heading).position(is_key).map_or(heading, |index| heading + index + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dependencies_of_every_section_are_found_with_their_lines() {
        let text = "[package]\nname = \"a\"\n[dependencies]\nb.workspace = true\n[dev-dependencies]\nc = \"1\"\n\
            [target.'cfg(loom)'.dependencies]\nd = { version = \"1\", package = \"e\" }\n";
        let crates = all(&Tree::of([("crates/a/Cargo.toml", text)])).unwrap();
        let told: Vec<_> = crates[0]
            .dependencies
            .iter()
            .map(|one| format!("{} {} {:?} {}", one.name, one.package, one.kind, one.line))
            .collect();
        assert_eq!(told, ["b b Normal 4", "c c Dev 6", "d e Normal 8"]);
    }

    #[test]
    fn a_file_belongs_to_the_deepest_crate_around_it() {
        let manifest = |name: &str| format!("[package]\nname = \"{name}\"\n");
        let tree =
            Tree::of([("a/Cargo.toml", &manifest("outer")), ("a/fuzz/Cargo.toml", &manifest("inner"))]);
        let crates = all(&tree).unwrap();
        assert_eq!(owner(&crates, "a/fuzz/src/lib.rs").unwrap().name, "inner");
        assert_eq!(owner(&crates, "a/src/lib.rs").unwrap().name, "outer");
        assert!(owner(&crates, "ab/src/lib.rs").is_none());
    }
}
