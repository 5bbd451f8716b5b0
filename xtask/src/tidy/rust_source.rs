//! A Rust file as a flat list of tokens with their lines.
//!
//! Role: lets rules look at code without being fooled by comments and strings.
//!
//! Invariant: comments are no tokens, and neither are doc comments, which the lexer turns into attributes.

use std::collections::BTreeSet;
use std::str::FromStr;

use anyhow::{Result, anyhow};
use proc_macro2::{Delimiter, Group, TokenStream, TokenTree};

use super::tree::Tree;

/// A token: its text, and the line that it begins on, from 1. Brackets are tokens of their own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Token {
    pub(super) text: String,
    pub(super) line: usize,
}

/// A Rust file of the tree.
pub(super) struct RustSource<'t> {
    pub(super) path: &'t str,
    pub(super) text: &'t str,
    pub(super) tokens: Vec<Token>,
    /// Lines with code on them.
    pub(super) lines_of_code: usize,
}

/// Every Rust file.
pub(super) fn all(tree: &Tree) -> Result<Vec<RustSource<'_>>> {
    tree.files()
        .filter(|(path, _)| path.ends_with(".rs"))
        .map(|(path, text)| RustSource::lex(path, text))
        .collect()
}

impl<'t> RustSource<'t> {
    pub(super) fn lex(path: &'t str, text: &'t str) -> Result<Self> {
        let stream = TokenStream::from_str(text)
            .map_err(|error| anyhow!("{path}:{}: is not Rust: {error}", error.span().start().line))?;
        let mut lexed = Lexed::default();
        lexed.take(stream);
        Ok(RustSource { path, text, tokens: lexed.tokens, lines_of_code: lexed.lines.len() })
    }

    /// Lines on which `words` begin, one token after another.
    pub(super) fn lines_with<'a>(&'a self, words: &'a [&str]) -> impl Iterator<Item = usize> + 'a {
        self.tokens
            .windows(words.len())
            .filter(move |window| window.iter().zip(words).all(|(token, word)| token.text == *word))
            .map(|window| window[0].line)
    }

    /// Whether the code says `word` anywhere.
    pub(super) fn says(&self, word: &str) -> bool {
        self.tokens.iter().any(|token| token.text == word)
    }
}

#[derive(Default)]
struct Lexed {
    tokens: Vec<Token>,
    lines: BTreeSet<usize>,
}

impl Lexed {
    fn take(&mut self, stream: TokenStream) {
        let trees: Vec<TokenTree> = stream.into_iter().collect();
        let mut rest = trees.as_slice();
        while let Some((first, after)) = rest.split_first() {
            rest = match doc_comment_length(rest) {
                Some(length) => &rest[length..],
                None => {
                    self.take_tree(first);
                    after
                }
            };
        }
    }

    fn take_tree(&mut self, tree: &TokenTree) {
        let span = tree.span();
        match tree {
            TokenTree::Group(group) => {
                let (open, close) = brackets(group);
                self.push(open, group.span_open().start().line);
                self.take(group.stream());
                self.push(close, group.span_close().start().line);
            }
            other => {
                self.push(&other.to_string(), span.start().line);
                self.lines.extend(span.start().line..=span.end().line);
            }
        }
    }

    fn push(&mut self, text: &str, line: usize) {
        if !text.is_empty() {
            self.tokens.push(Token { text: text.to_owned(), line });
            self.lines.insert(line);
        }
    }
}

fn brackets(group: &Group) -> (&'static str, &'static str) {
    match group.delimiter() {
        Delimiter::Parenthesis => ("(", ")"),
        Delimiter::Brace => ("{", "}"),
        Delimiter::Bracket => ("[", "]"),
        Delimiter::None => ("", ""),
    }
}

/// How many trees make up the `#[doc = …]` or `#![doc = …]` that `trees` begins with.
fn doc_comment_length(trees: &[TokenTree]) -> Option<usize> {
    let is = |tree: &TokenTree, sign| matches!(tree, TokenTree::Punct(punct) if punct.as_char() == sign);
    if !is(trees.first()?, '#') {
        return None;
    }
    let before_group = if is(trees.get(1)?, '!') { 2 } else { 1 };
    let TokenTree::Group(group) = trees.get(before_group)? else { return None };
    let mut inside = group.stream().into_iter();
    let is_doc = matches!(inside.next()?, TokenTree::Ident(ident) if ident == "doc");
    (is_doc && is(&inside.next()?, '=')).then_some(before_group + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLE: &str = r##"//! Says unsafe and todo!() in its header.

/// Says unsafe here.
fn one() {
    // unsafe
    let text = "unsafe
        todo!()";
    r#"dbg!(1)"#.len();
}
"##;

    #[test]
    fn comments_and_strings_are_not_code() {
        let source = RustSource::lex("a.rs", SAMPLE).unwrap();
        assert!(!source.says("unsafe"));
        assert!(source.says("text"));
        assert_eq!(source.lines_with(&["todo", "!"]).count(), 0);
    }

    #[test]
    fn lines_of_code_leave_out_comments_and_blanks_but_not_long_strings() {
        let source = RustSource::lex("a.rs", SAMPLE).unwrap();
        assert_eq!(source.lines_of_code, 5);
    }

    #[test]
    fn a_sequence_is_found_on_the_line_where_it_begins() {
        let source = RustSource::lex("a.rs", "fn a() {\n    dbg!(1);\n}\n").unwrap();
        assert_eq!(source.lines_with(&["dbg", "!"]).collect::<Vec<_>>(), [2]);
    }
}
