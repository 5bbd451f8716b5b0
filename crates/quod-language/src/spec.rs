//! What there is to know about a command of the io language.
//!
//! Absent on purpose: the commands (`catalogue.rs`).

use super::command::Command;
use super::scan::Refusal;

/// Reads the words of a command.
pub(crate) type Parse = fn(&'static Spec, &[&str]) -> Result<Command, Refusal>;

/// A command of the language.
pub struct Spec {
    /// What it is called.
    pub name: &'static str,
    /// A shorter name, or empty.
    pub alias: &'static str,
    /// Fewest and most words after the name.
    pub(crate) words: (usize, usize),
    /// It is about an open image.
    pub needs_disk: bool,
    /// It is for images that are open for writing.
    pub writes: bool,
    /// As [`crate::scan::Scanned::of`] takes them.
    pub(crate) options: &'static str,
    pub(crate) usage: &'static str,
    pub(crate) summary: &'static str,
    /// More help: begins and ends with a line break, or is empty.
    pub details: &'static str,
    pub(crate) parse: Parse,
}

impl Spec {
    pub(crate) const fn on_disk(mut self) -> Self {
        self.needs_disk = true;
        self
    }

    pub(crate) const fn writing(mut self) -> Self {
        self.writes = true;
        self.on_disk()
    }

    pub(crate) const fn takes(mut self, options: &'static str) -> Self {
        self.options = options;
        self
    }

    pub(crate) const fn details(mut self, details: &'static str) -> Self {
        self.details = details;
        self
    }

    pub(crate) const fn helps(mut self, usage: &'static str, summary: &'static str) -> Self {
        self.usage = usage;
        self.summary = summary;
        self
    }

    /// Name, words and purpose in a line.
    pub fn usage_line(&self) -> String {
        let space = if self.usage.is_empty() { "" } else { " " };
        format!("{}{space}{} -- {}", self.name, self.usage, self.summary)
    }
}
