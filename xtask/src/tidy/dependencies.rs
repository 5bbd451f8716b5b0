//! Every dependency is used and has its reason in ARCHITECTURE.md; the workspace's list names no others.

use anyhow::{Context, Result};
use toml::{Table, Value};

use super::crates::{Crate, DependencyKind, owner};
use super::dead_files::children;
use super::tree::{Tree, line_of};
use super::{Finding, RustSource};

const PAGE: &str = "ARCHITECTURE.md";

pub(super) fn check(tree: &Tree, crates: &[Crate], sources: &[RustSource<'_>]) -> Result<Vec<Finding>> {
    let mut findings = check_list(tree, crates)?;
    let page = tree.text(PAGE).unwrap_or_default();
    for one in crates {
        let borrowed = borrowed(one, crates, sources);
        for dependency in &one.dependencies {
            let name = &dependency.name;
            let is_ours = crates.iter().any(|one| one.name == dependency.package);
            if !is_ours && !page.contains(&format!("`{name}`")) {
                let sentence = format!("{PAGE} does not say why we take `{name}`");
                findings.push(Finding::new(&one.manifest_path, dependency.line, sentence));
            }
            let is_used = sources.iter().any(|source| {
                let is_its_own = || owner(crates, source.path).is_some_and(|owner| owner.name == one.name);
                let is_its = || is_its_own() || borrowed.iter().any(|path| path == source.path);
                uses(source, &name.replace('-', "_"), dependency.kind) && is_its()
            });
            if !is_used {
                let sentence = format!("`{}` never uses its dependency `{name}`", one.name);
                findings.push(Finding::new(&one.manifest_path, dependency.line, sentence));
            }
        }
    }
    Ok(findings)
}

/// Files that the crate takes in by `#[path]`, wherever they lie.
fn borrowed(one: &Crate, crates: &[Crate], sources: &[RustSource<'_>]) -> Vec<String> {
    let own =
        |source: &&RustSource<'_>| owner(crates, source.path).is_some_and(|owner| owner.name == one.name);
    let reached = sources.iter().filter(own).flat_map(|source| children(source, false));
    reached.filter(|path| !one.owns(path)).collect()
}

/// Whether the code says `name`; for tests, the examples in its comments count as well.
fn uses(source: &RustSource<'_>, name: &str, kind: DependencyKind) -> bool {
    source.says(name) || (kind == DependencyKind::Dev && source.text.contains(name))
}

/// What the root lists for all must be some crate's dependency.
fn check_list(tree: &Tree, crates: &[Crate]) -> Result<Vec<Finding>> {
    let text = tree.text("Cargo.toml").context("the root has no Cargo.toml")?;
    let root: Table = text.parse().context("the root's Cargo.toml")?;
    let list =
        root.get("workspace").and_then(|workspace| workspace.get("dependencies")).and_then(Value::as_table);
    let is_taken =
        |name: &str| crates.iter().flat_map(|one| &one.dependencies).any(|taken| taken.name == name);
    let idle = list.into_iter().flat_map(Table::keys).filter(|name| !is_taken(name));
    Ok(idle
        .map(|name| {
            let line = line_of(text, &format!("{name} ="));
            Finding::new("Cargo.toml", line, format!("no crate depends on `{name}`"))
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::super::tests::told;
    use super::super::{crates, rust_source};
    use super::*;

    fn check_with(code: &str, page: &str) -> Vec<String> {
        let tree = Tree::of([
            (
                "Cargo.toml",
                "[workspace.dependencies]\nx = { path = \"crates/x\" }\nclap-ish = \"1\"\nold = \"1\"\n",
            ),
            ("ARCHITECTURE.md", page),
            ("crates/x/Cargo.toml", "[package]\nname = \"x\"\n[dependencies]\nclap-ish.workspace = true\n"),
            ("crates/x/src/lib.rs", code),
            ("crates/y/Cargo.toml", "[package]\nname = \"y\"\n[dependencies]\nx.workspace = true\n"),
            ("crates/y/src/lib.rs", "use x::thing;"),
            ("crates/z/Cargo.toml", "[package]\nname = \"z\"\n[dependencies]\nx.workspace = true\n"),
            ("crates/z/src/lib.rs", "#[path = \"../../y/src/lib.rs\"] mod y;"),
        ]);
        told(&check(&tree, &crates::all(&tree).unwrap(), &rust_source::all(&tree).unwrap()).unwrap())
    }

    #[test]
    fn what_is_listed_and_not_taken_is_told() {
        assert_eq!(
            check_with("use clap_ish::Parser;", "`clap-ish`: a command line"),
            ["Cargo.toml:4: no crate depends on `old`"]
        );
    }

    #[test]
    fn a_dependency_needs_a_use_and_a_reason() {
        assert_eq!(
            check_with("// use clap_ish::Parser;", ""),
            [
                "Cargo.toml:4: no crate depends on `old`",
                "crates/x/Cargo.toml:4: ARCHITECTURE.md does not say why we take `clap-ish`",
                "crates/x/Cargo.toml:4: `x` never uses its dependency `clap-ish`",
            ]
        );
    }
}
