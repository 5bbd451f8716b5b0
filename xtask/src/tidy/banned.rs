//! What our code never says: unsafe outside its one file, unfinished work, ignored tests, debugging leftovers.

use super::{Finding, RustSource};

const UNSAFE_FILE: &str = "crates/quod-storage/src/buffer.rs";

/// Tokens in a row, and why they are banned.
const BANNED: &[(&[&str], &str)] = &[
    (&["todo", "!"], "`todo!` is unfinished work"),
    (&["unimplemented", "!"], "`unimplemented!` is unfinished work"),
    (&["dbg", "!"], "`dbg!` is left over from debugging"),
    (&["#", "[", "ignore"], "an ignored test proves nothing"),
];

pub(super) fn check(sources: &[RustSource<'_>]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for source in sources {
        for (words, why) in BANNED {
            findings.extend(source.lines_with(words).map(|line| Finding::new(source.path, line, *why)));
        }
        if source.path != UNSAFE_FILE {
            let sentence = format!("unsafe code lives in {UNSAFE_FILE} alone");
            let lines = source.lines_with(&["unsafe"]).chain(source.lines_with(&["unsafe_code"]));
            findings.extend(lines.map(|line| Finding::new(source.path, line, sentence.clone())));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::super::tests::told;
    use super::*;

    fn check_file(path: &str, text: &str) -> Vec<String> {
        told(&check(&[RustSource::lex(path, text).unwrap()]))
    }

    #[test]
    fn each_banned_word_is_found_where_it_is_code() {
        let text = "fn f() {\n    todo!()\n}\nfn g() { unimplemented!(); dbg!(1); }\n#[ignore = \"slow\"]\nfn t() {}\n";
        assert_eq!(
            check_file("a.rs", text),
            [
                "a.rs:2: `todo!` is unfinished work",
                "a.rs:4: `unimplemented!` is unfinished work",
                "a.rs:4: `dbg!` is left over from debugging",
                "a.rs:5: an ignored test proves nothing",
            ]
        );
    }

    #[test]
    fn unsafe_code_is_for_one_file() {
        let text = "fn f() { unsafe { g() } }";
        assert_eq!(check_file("crates/quod/src/read.rs", text).len(), 1);
        assert_eq!(check_file("crates/quod/src/read.rs", "#![allow(unsafe_code)]").len(), 1);
        assert!(check_file(UNSAFE_FILE, text).is_empty());
    }

    #[test]
    fn words_that_only_contain_a_banned_one_are_fine() {
        assert!(check_file("a.rs", "fn todo() { ignore(); not_unsafe(); }").is_empty());
    }
}
