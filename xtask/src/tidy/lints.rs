//! Every crate is under the workspace's licence and its lints.
//!
//! The one exception: the crate with the unsafe code denies it where the others forbid it, so that one file can lift
//! the lint with its reasons. Everything else it must repeat, and this holds the copy to the original.

use anyhow::{Context, Result};
use toml::{Table, Value};

use super::Finding;
use super::crates::Crate;
use super::tree::{Tree, line_of};

const LICENCE: &str = "MIT OR Apache-2.0";
const UNSAFE_CRATE: &str = "quod-storage";

pub(super) fn check(tree: &Tree, crates: &[Crate]) -> Result<Vec<Finding>> {
    let root: Table = tree.text("Cargo.toml").context("the root has no Cargo.toml")?.parse()?;
    let workspace = root.get("workspace").context("the root's Cargo.toml has no [workspace]")?;
    let mut findings = Vec::new();
    for one in crates {
        findings.extend(check_licence(workspace, one));
        findings.extend(check_lints(tree, workspace, one));
    }
    Ok(findings)
}

fn check_licence(workspace: &Value, one: &Crate) -> Option<Finding> {
    let own = one.manifest.get("package").and_then(|package| package.get("license"));
    let is_inherited = own.is_some_and(is_inherited);
    let stated =
        if is_inherited { workspace.get("package").and_then(|package| package.get("license")) } else { own };
    (stated.and_then(Value::as_str) != Some(LICENCE)).then(|| {
        Finding::new(&one.manifest_path, 1, format!("the licence of `{}` is not {LICENCE}", one.name))
    })
}

fn check_lints(tree: &Tree, workspace: &Value, one: &Crate) -> Vec<Finding> {
    let own = one.manifest.get("lints");
    if own.is_some_and(is_inherited) {
        return Vec::new();
    }
    let line = line_of(tree.text(&one.manifest_path).unwrap_or_default(), "[lints");
    let mut findings = Vec::new();
    for (tool, lints) in workspace.get("lints").and_then(Value::as_table).into_iter().flatten() {
        for (lint, level) in lints.as_table().into_iter().flatten() {
            let is_exception = one.name == UNSAFE_CRATE && lint == "unsafe_code";
            let wanted = if is_exception { &Value::from("deny") } else { level };
            if own.and_then(|own| own.get(tool)?.get(lint)) != Some(wanted) {
                let sentence = format!(
                    "lint `{lint}` of {tool} is not {} here, as the workspace has it",
                    wanted.as_str().unwrap_or("set")
                );
                findings.push(Finding::new(&one.manifest_path, line, sentence));
            }
        }
    }
    findings
}

fn is_inherited(value: &Value) -> bool {
    value.get("workspace").and_then(Value::as_bool) == Some(true)
}

#[cfg(test)]
mod tests {
    use super::super::crates;
    use super::super::tests::told;
    use super::*;

    const ROOT: &str = "[workspace.package]\nlicense = \"MIT OR Apache-2.0\"\n\
        [workspace.lints.rust]\nunsafe_code = \"forbid\"\n[workspace.lints.clippy]\ntodo = \"deny\"\n";

    fn check_manifest(manifest: &str) -> Vec<String> {
        let tree = Tree::of([("Cargo.toml", ROOT), ("crates/x/Cargo.toml", manifest)]);
        told(&check(&tree, &crates::all(&tree).unwrap()).unwrap())
    }

    #[test]
    fn what_is_inherited_is_right() {
        let manifest = "[package]\nname = \"x\"\nlicense.workspace = true\n[lints]\nworkspace = true\n";
        assert!(check_manifest(manifest).is_empty());
    }

    #[test]
    fn a_missing_licence_and_missing_lints_are_told() {
        assert_eq!(
            check_manifest("[package]\nname = \"x\"\n[lints.rust]\nunsafe_code = \"deny\"\n"),
            [
                "crates/x/Cargo.toml:1: the licence of `x` is not MIT OR Apache-2.0",
                "crates/x/Cargo.toml:3: lint `todo` of clippy is not deny here, as the workspace has it",
                "crates/x/Cargo.toml:3: lint `unsafe_code` of rust is not forbid here, as the workspace has it",
            ]
        );
    }

    #[test]
    fn only_the_storage_crate_may_deny_unsafe_code_in_place_of_forbidding_it() {
        let manifest = "[package]\nname = \"quod-storage\"\nlicense = \"MIT OR Apache-2.0\"\n\
            [lints.rust]\nunsafe_code = \"deny\"\n[lints.clippy]\ntodo = \"deny\"\n";
        assert!(check_manifest(manifest).is_empty());
    }
}
