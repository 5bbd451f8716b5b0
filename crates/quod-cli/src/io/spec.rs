//! What there is to know about a command of the io language.
//!
//! Absent on purpose: the commands (`catalogue.rs`).

use super::command::Command;
use super::scan::Refusal;

/// Reads the words of a command.
pub(super) type Parse = fn(&'static Spec, &[&str]) -> Result<Command, Refusal>;

/// A command of the language.
pub(super) struct Spec {
    pub(super) name: &'static str,
    /// A shorter name, or none.
    pub(super) alias: &'static str,
    /// Fewest and most words after the name.
    pub(super) words: (usize, usize),
    pub(super) needs_disk: bool,
    pub(super) writes: bool,
    /// As [`super::scan::Scanned::of`] takes them.
    pub(super) options: &'static str,
    pub(super) usage: &'static str,
    pub(super) summary: &'static str,
    pub(super) details: &'static str,
    pub(super) parse: Parse,
}

impl Spec {
    pub(super) const fn on_disk(mut self) -> Self {
        self.needs_disk = true;
        self
    }

    pub(super) const fn writing(mut self) -> Self {
        self.writes = true;
        self.on_disk()
    }

    pub(super) const fn takes(mut self, options: &'static str) -> Self {
        self.options = options;
        self
    }

    pub(super) const fn details(mut self, details: &'static str) -> Self {
        self.details = details;
        self
    }

    pub(super) const fn helps(mut self, usage: &'static str, summary: &'static str) -> Self {
        self.usage = usage;
        self.summary = summary;
        self
    }

    /// Name, words and purpose in a line.
    pub(super) fn usage_line(&self) -> String {
        let space = if self.usage.is_empty() { "" } else { " " };
        format!("{}{space}{} -- {}", self.name, self.usage, self.summary)
    }
}
