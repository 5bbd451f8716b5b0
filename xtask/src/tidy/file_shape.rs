//! A Rust file has a header, a name that says what is in it, and a length that a reader can hold.

use super::{Finding, RustSource};

const MOST_LINES: usize = 400;

/// Files that may be longer, each with its reason.
const LONG_FILES: &[(&str, &str)] = &[];

const EMPTY_NAMES: &[&str] = &["util", "utils", "helper", "helpers", "misc"];

pub(super) fn check(sources: &[RustSource<'_>]) -> Vec<Finding> {
    check_with(sources, LONG_FILES)
}

fn check_with(sources: &[RustSource<'_>], long_files: &[(&str, &str)]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for source in sources {
        let Finds { header, name, length } = look(source, long_files);
        findings.extend(
            [header, name, length].into_iter().flatten().map(|what| Finding::new(source.path, 1, what)),
        );
    }
    for (path, _) in long_files {
        if !sources.iter().any(|source| source.path == *path && source.lines_of_code > MOST_LINES) {
            findings.push(Finding::new(
                path,
                1,
                "is not over the bound: take it off tidy's list of long files",
            ));
        }
    }
    findings
}

struct Finds {
    header: Option<String>,
    name: Option<String>,
    length: Option<String>,
}

fn look(source: &RustSource<'_>, long_files: &[(&str, &str)]) -> Finds {
    let mut parts = source.path.rsplit('/').map(|part| part.trim_end_matches(".rs"));
    let is_allowed = long_files.iter().any(|(path, _)| *path == source.path);
    Finds {
        header: (!source.text.starts_with("//! "))
            .then(|| "begin with a `//!` header: role, invariant, deliberate absence".to_owned()),
        name: parts
            .find(|part| EMPTY_NAMES.contains(part))
            .map(|part| format!("`{part}` does not say what is in it")),
        length: (source.lines_of_code > MOST_LINES && !is_allowed).then(|| {
            format!(
                "{} lines of code, over {MOST_LINES}: more than one idea lives here",
                source.lines_of_code
            )
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::told;
    use super::*;

    fn check_file(path: &str, text: &str, long_files: &[(&str, &str)]) -> Vec<String> {
        told(&check_with(&[RustSource::lex(path, text).unwrap()], long_files))
    }

    fn of_lines(count: usize) -> String {
        format!("//! Header.\n{}", "fn f() {}\n// and a comment\n\n".repeat(count))
    }

    #[test]
    fn a_file_needs_a_header() {
        assert_eq!(check_file("a.rs", "use x;\n//! Late.\n", &[]).len(), 1);
        assert!(check_file("a.rs", "//! Role.\nuse x;\n", &[]).is_empty());
    }

    #[test]
    fn empty_names_are_told_for_files_and_directories() {
        for path in ["a/utils.rs", "a/helpers/mod.rs", "a/misc.rs"] {
            assert_eq!(check_file(path, "//! Role.\n", &[]).len(), 1, "{path}");
        }
    }

    #[test]
    fn only_lines_of_code_count_for_length() {
        assert!(check_file("a.rs", &of_lines(MOST_LINES), &[]).is_empty());
        assert_eq!(
            check_file("a.rs", &of_lines(MOST_LINES + 1), &[]),
            ["a.rs:1: 401 lines of code, over 400: more than one idea lives here"]
        );
    }

    #[test]
    fn the_list_of_long_files_allows_and_is_held_to_the_truth() {
        assert!(check_file("a.rs", &of_lines(MOST_LINES + 1), &[("a.rs", "a table")]).is_empty());
        assert_eq!(check_file("a.rs", &of_lines(1), &[("a.rs", "a table")]).len(), 1);
    }
}
