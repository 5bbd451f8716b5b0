//! The files of the repository, read once.
//!
//! Invariant: paths are relative to the root, with `/` between their parts, and sorted.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

/// Directories that hold nothing of ours.
const NOT_OURS: &[&str] = &[".git", "target"];

/// Every file below the root with its text; what is not UTF-8 has none.
pub(super) struct Tree {
    files: BTreeMap<String, String>,
}

impl Tree {
    /// Reads everything below `root`.
    pub(super) fn read(root: &Path) -> Result<Self> {
        let mut tree = Tree { files: BTreeMap::new() };
        tree.add_directory(root, "")?;
        Ok(tree)
    }

    fn add_directory(&mut self, directory: &Path, prefix: &str) -> Result<()> {
        for entry in
            fs::read_dir(directory).with_context(|| format!("could not list {}", directory.display()))?
        {
            let entry = entry?;
            let name = entry.file_name();
            let name = name.to_str().with_context(|| format!("{:?} is not a name in UTF-8", entry.path()))?;
            let kind = entry.file_type()?;
            if kind.is_dir() && !NOT_OURS.contains(&name) {
                self.add_directory(&entry.path(), &format!("{prefix}{name}/"))?;
            } else if kind.is_file() {
                let bytes = fs::read(entry.path())
                    .with_context(|| format!("could not read {}", entry.path().display()))?;
                self.files.insert(format!("{prefix}{name}"), String::from_utf8(bytes).unwrap_or_default());
            }
        }
        Ok(())
    }

    /// Makes a tree out of paths and texts.
    #[cfg(test)]
    pub(super) fn of<const N: usize>(files: [(&str, &str); N]) -> Self {
        Tree { files: files.into_iter().map(|(path, text)| (path.to_owned(), text.to_owned())).collect() }
    }

    /// Every file: path and text.
    pub(super) fn files(&self) -> impl Iterator<Item = (&str, &str)> {
        self.files.iter().map(|(path, text)| (path.as_str(), text.as_str()))
    }

    /// The text of a file that is there.
    pub(super) fn text(&self, path: &str) -> Option<&str> {
        self.files.get(path).map(String::as_str)
    }

    /// Whether there is a file or a directory of that path; a `/` at its end is allowed for a directory.
    pub(super) fn has(&self, path: &str) -> bool {
        let directory = format!("{}/", path.trim_end_matches('/'));
        self.files.contains_key(path)
            || self
                .files
                .range(directory.clone()..)
                .next()
                .is_some_and(|(file, _)| file.starts_with(&directory))
    }
}

/// The directory of a path, without a `/` at its end; empty for the root.
pub(super) fn directory(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(directory, _)| directory)
}

/// `name` in `directory`, with `.` and `..` resolved; `None` when that leaves the tree.
pub(super) fn join(directory: &str, name: &str) -> Option<String> {
    let mut parts: Vec<&str> = directory.split('/').filter(|part| !part.is_empty()).collect();
    for part in name.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

/// The number of the first line that holds `needle`, from 1; 1 when none does.
pub(super) fn line_of(text: &str, needle: &str) -> usize {
    text.lines().position(|line| line.contains(needle)).map_or(1, |index| index + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_exist_by_what_is_in_them() {
        let tree = Tree::of([("a/b/c.rs", ""), ("a/bc.rs", "")]);
        for there in ["a", "a/", "a/b", "a/b/", "a/b/c.rs"] {
            assert!(tree.has(there), "{there}");
        }
        for absent in ["b", "a/b/c", "a/b/c.rs/", "a/bc"] {
            assert!(!tree.has(absent), "{absent}");
        }
    }

    #[test]
    fn joined_paths_never_leave_the_tree() {
        assert_eq!(join("a/b", "../c.rs").as_deref(), Some("a/c.rs"));
        assert_eq!(join("", "./c.rs").as_deref(), Some("c.rs"));
        assert_eq!(join("a", "../../c.rs"), None);
    }
}
