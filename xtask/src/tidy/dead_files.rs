//! Every Rust file is reached from the root of a crate: a file that no `mod` names is never compiled.

use std::collections::{BTreeMap, BTreeSet};

use toml::Value;

use super::crates::{Crate, owner};
use super::rust_source::Token;
use super::tree::{directory, join};
use super::{Finding, RustSource};

/// Directories whose files, and whose `main.rs` one level down, Cargo takes for roots.
const TARGETS: &[&str] = &["src/bin", "tests", "examples", "benches"];
const ROOTS: &[&str] = &["src/lib.rs", "src/main.rs", "build.rs"];

pub(super) fn check(crates: &[Crate], sources: &[RustSource<'_>]) -> Vec<Finding> {
    let by_path: BTreeMap<&str, &RustSource<'_>> =
        sources.iter().map(|source| (source.path, source)).collect();
    let mut reached = BTreeSet::new();
    let mut to_visit: Vec<(String, bool)> = sources
        .iter()
        .filter(|source| owner(crates, source.path).is_some_and(|owner| is_root(owner, source.path)))
        .map(|source| (source.path.to_owned(), true))
        .collect();
    while let Some((path, is_root)) = to_visit.pop() {
        let Some(source) = by_path.get(path.as_str()) else { continue };
        if reached.insert(path.clone()) {
            to_visit.extend(children(source, is_root).into_iter().map(|child| (child, false)));
        }
    }
    sources
        .iter()
        .filter(|source| !reached.contains(source.path))
        .map(|source| {
            Finding::new(source.path, 1, "no crate root reaches this file, so it is never compiled")
        })
        .collect()
}

fn is_root(owner: &Crate, path: &str) -> bool {
    let prefix = if owner.directory.is_empty() { String::new() } else { format!("{}/", owner.directory) };
    let Some(inside) = path.strip_prefix(&prefix) else { return false };
    let is_target = TARGETS.iter().any(|target| {
        inside.strip_prefix(target).and_then(|rest| rest.strip_prefix('/')).is_some_and(|rest| {
            !rest.contains('/') || (rest.ends_with("/main.rs") && rest.matches('/').count() == 1)
        })
    });
    ROOTS.contains(&inside) || is_target || declared_roots(owner).any(|root| root == inside)
}

/// The `path` of each `[lib]`, `[[bin]]`, `[[test]]`, `[[example]]` and `[[bench]]`.
fn declared_roots(owner: &Crate) -> impl Iterator<Item = &str> {
    ["lib", "bin", "test", "example", "bench"]
        .into_iter()
        .filter_map(|section| owner.manifest.get(section))
        .flat_map(|section| section.as_array().map_or(std::slice::from_ref(section), Vec::as_slice))
        .filter_map(|target| target.get("path").and_then(Value::as_str))
}

/// Every path that a `mod name;` of this file may stand for.
pub(super) fn children(source: &RustSource<'_>, is_root: bool) -> Vec<String> {
    let own = directory(source.path);
    let stem = source.path.strip_suffix(".rs").unwrap_or(source.path);
    let is_directory_of_its_own = is_root || source.path.ends_with("/mod.rs");
    let below = if is_directory_of_its_own { own } else { stem };
    let mut paths = Vec::new();
    for module in modules(&source.tokens) {
        let inline = module.inside.join("/");
        if let Some(path) = &module.path {
            let from = if inline.is_empty() { own.to_owned() } else { format!("{below}/{inline}") };
            paths.extend(join(&from, path));
        } else {
            let place = [below, &inline, &module.name].map(str::to_owned);
            let place: Vec<_> = place.into_iter().filter(|part| !part.is_empty()).collect();
            let place = place.join("/");
            paths.extend([format!("{place}.rs"), format!("{place}/mod.rs")]);
        }
    }
    paths
}

/// A `mod name;`.
struct Module {
    name: String,
    /// The inline modules around it.
    inside: Vec<String>,
    /// What a `#[path]` says.
    path: Option<String>,
}

fn modules(tokens: &[Token]) -> Vec<Module> {
    let mut found = Vec::new();
    let mut inside: Vec<(String, usize)> = Vec::new();
    let mut depth = 0;
    let mut path = None;
    let texts: Vec<&str> = tokens.iter().map(|token| token.text.as_str()).collect();
    for (index, text) in texts.iter().enumerate() {
        match (*text, &texts[index + 1..]) {
            ("mod", [name, ";", ..]) => found.push(Module {
                name: (*name).to_owned(),
                inside: inside.iter().map(|(name, _)| name.clone()).collect(),
                path: path.take(),
            }),
            ("mod", [name, "{", ..]) => inside.push(((*name).to_owned(), depth)),
            ("#", ["[", "path", "=", literal, "]", ..]) => path = Some(literal.trim_matches('"').to_owned()),
            ("{", _) => depth += 1,
            ("}", _) => {
                depth -= 1;
                inside.pop_if(|(_, opened_at)| *opened_at == depth);
            }
            _ => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::tests::told;
    use super::super::{crates, rust_source, tree::Tree};
    use super::*;

    fn dead<const N: usize>(files: [(&str, &str); N]) -> Vec<String> {
        let tree = Tree::of(files);
        told(&check(&crates::all(&tree).unwrap(), &rust_source::all(&tree).unwrap()))
    }

    const MANIFEST: (&str, &str) =
        ("c/Cargo.toml", "[package]\nname = \"c\"\n[[bench]]\nname = \"b\"\npath = \"b.rs\"\n");

    #[test]
    fn modules_are_followed_in_each_of_their_forms() {
        let files = [
            MANIFEST,
            ("c/src/lib.rs", "mod a; mod b { mod inner; } #[path = \"odd.rs\"] mod c; fn f() {} mod last;"),
            ("c/src/a/mod.rs", "mod x;"),
            ("c/src/a/x.rs", "mod y;"),
            ("c/src/a/x/y.rs", ""),
            ("c/src/b/inner.rs", ""),
            ("c/src/odd.rs", ""),
            ("c/src/last.rs", ""),
            ("c/tests/law.rs", "mod common;"),
            ("c/tests/common/mod.rs", ""),
            ("c/tests/big/main.rs", "mod part;"),
            ("c/tests/big/part.rs", ""),
            ("c/b.rs", ""),
        ];
        assert!(dead(files).is_empty(), "{:?}", dead(files));
    }

    #[test]
    fn a_file_that_no_module_names_is_dead() {
        let files = [MANIFEST, ("c/src/lib.rs", "// mod gone;"), ("c/src/gone.rs", ""), ("loose.rs", "")];
        assert_eq!(
            dead(files),
            [
                "c/src/gone.rs:1: no crate root reaches this file, so it is never compiled",
                "loose.rs:1: no crate root reaches this file, so it is never compiled",
            ]
        );
    }
}
