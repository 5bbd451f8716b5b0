//! Imports between our crates point downward, and only where this page allows them.

use super::Finding;
use super::crates::{Crate, DependencyKind};

/// Each crate, and the crates of ours below it. `quod-sim` stands aside: it is built from what it tests.
const LAYERS: &[(&str, &[&str])] = &[
    ("quod-storage", &[]),
    ("quod-nbd", &[]),
    ("quod-language", &[]),
    ("quod", &["quod-storage"]),
    ("quod-export", &["quod-nbd", "quod", "quod-storage"]),
    ("quod-remote", &["quod-nbd", "quod-storage"]),
    ("quod-cli", &["quod-language", "quod-export", "quod-remote", "quod-nbd", "quod", "quod-storage"]),
    ("quod-sim", &["quod-storage"]),
    ("quod-trial", &["quod-sim", "quod", "quod-storage"]),
    (
        "quod-fuzz",
        &[
            "quod-trial",
            "quod-language",
            "quod-sim",
            "quod-export",
            "quod-remote",
            "quod-nbd",
            "quod",
            "quod-storage",
        ],
    ),
    ("xtask", &["quod", "quod-storage"]),
];

/// What tests of any crate may use as well.
const FOR_TESTS: &str = "quod-sim";

pub(super) fn check(crates: &[Crate]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for one in crates {
        let Some((_, below)) = LAYERS.iter().find(|(name, _)| *name == one.name) else {
            let sentence =
                format!("crate `{}` has no place in the layers that tidy knows; give it one", one.name);
            findings.push(Finding::new(&one.manifest_path, 1, sentence));
            continue;
        };
        for dependency in &one.dependencies {
            let is_ours = LAYERS.iter().any(|(name, _)| *name == dependency.package);
            let is_for_tests = dependency.kind == DependencyKind::Dev && dependency.package == FOR_TESTS;
            if is_ours && !is_for_tests && !below.contains(&dependency.package.as_str()) {
                let sentence =
                    format!("`{}` may not depend on `{}`: it is not below", one.name, dependency.package);
                findings.push(Finding::new(&one.manifest_path, dependency.line, sentence));
            }
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::super::tests::told;
    use super::super::{crates, tree::Tree};
    use super::*;

    fn check_manifest(name: &str, sections: &str) -> Vec<String> {
        let manifest = format!("[package]\nname = \"{name}\"\n{sections}");
        told(&check(&crates::all(&Tree::of([("crates/x/Cargo.toml", &manifest)])).unwrap()))
    }

    #[test]
    fn downward_is_allowed() {
        assert!(
            check_manifest("quod-cli", "[dependencies]\nquod.workspace = true\nanyhow = \"1\"\n").is_empty()
        );
    }

    #[test]
    fn upward_and_sideways_are_not() {
        assert_eq!(
            check_manifest("quod-storage", "[dependencies]\nquod.workspace = true\n"),
            ["crates/x/Cargo.toml:4: `quod-storage` may not depend on `quod`: it is not below"]
        );
        assert_eq!(check_manifest("quod", "[dev-dependencies]\nquod-export.workspace = true\n").len(), 1);
    }

    #[test]
    fn the_simulator_is_for_tests_alone() {
        assert!(check_manifest("quod", "[dev-dependencies]\nquod-sim.workspace = true\n").is_empty());
        assert_eq!(check_manifest("quod", "[dependencies]\nquod-sim.workspace = true\n").len(), 1);
    }

    #[test]
    fn a_crate_without_a_layer_is_told() {
        assert_eq!(check_manifest("quod-extra", "").len(), 1);
    }
}
