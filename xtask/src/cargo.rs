//! The cargo that all chores start, and where it puts what it builds.
//!
//! Invariant: it is the one that runs the chore, toolchain and target directory included.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Cargo, in that tree.
pub(crate) fn cargo(root: &Path) -> Command {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
    let mut command = Command::new(program);
    command.current_dir(root);
    command
}

/// Where cargo puts what it builds.
pub(crate) fn target_directory(root: &Path) -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from)
}
