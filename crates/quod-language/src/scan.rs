//! Words and options of a line of the io language.
//!
//! Role: splits a line at its spaces, and sorts short options from the rest the way getopt does.
//!
//! Invariant: pure; any text gives words, options or a [`Refusal`].
//!
//! Absent on purpose: quoting. The language has none.

use std::fmt;

/// Why a line is not run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// There is no such command.
    Unknown(String),
    /// Too few or too many words.
    Count {
        /// The command.
        name: &'static str,
        /// Words after the name.
        given: usize,
        /// How many it takes, in words.
        expected: String,
    },
    /// An option that the command has not.
    BadOption(&'static str, char),
    /// An option that lacks its value.
    NoValue(&'static str, char),
    /// The words do not fit the usage.
    Usage,
    /// Told in a sentence, as a result is.
    Sentence(String),
    /// Told in a sentence on standard error, by our name.
    Complaint(String),
}

impl Refusal {
    pub(crate) fn sentence<T>(text: impl Into<String>) -> Result<T, Refusal> {
        Err(Refusal::Sentence(text.into()))
    }

    pub(crate) fn complaint<T>(text: impl Into<String>) -> Result<T, Refusal> {
        Err(Refusal::Complaint(text.into()))
    }

    /// Whether the command's usage line helps.
    pub fn shows_usage(&self) -> bool {
        matches!(self, Refusal::Usage | Refusal::BadOption(..) | Refusal::NoValue(..))
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::Unknown(name) => write!(f, "command \"{name}\" not found"),
            Refusal::Count { name, given, expected } => {
                write!(f, "bad argument count {given} to {name}, expected {expected} arguments")
            }
            Refusal::BadOption(name, option) => write!(f, "{name}: invalid option -- '{option}'"),
            Refusal::NoValue(name, option) => write!(f, "{name}: option requires an argument -- '{option}'"),
            Refusal::Usage => Ok(()),
            Refusal::Sentence(text) | Refusal::Complaint(text) => f.write_str(text),
        }
    }
}

/// The words of a line.
pub(crate) fn words(line: &str) -> Vec<&str> {
    line.split(' ').filter(|word| !word.is_empty()).collect()
}

/// Options and the other words, each in the order they came in.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Scanned<'a> {
    pub(crate) options: Vec<(char, &'a str)>,
    pub(crate) rest: Vec<&'a str>,
}

impl<'a> Scanned<'a> {
    /// Sorts words. `known` lists the options; a colon behind one means that it takes a value.
    pub(crate) fn of(name: &'static str, known: &str, words: &[&'a str]) -> Result<Self, Refusal> {
        let mut scanned = Scanned::default();
        let mut words = words.iter().copied();
        while let Some(word) = words.next() {
            if word == "--" {
                scanned.rest.extend(words);
                break;
            }
            let Some(mut letters) = word.strip_prefix('-').filter(|letters| !letters.is_empty()) else {
                scanned.rest.push(word);
                continue;
            };
            while let Some(letter) = letters.chars().next() {
                letters = &letters[letter.len_utf8()..];
                let Some(after) = known.split_once(letter).filter(|_| letter != ':').map(|(_, after)| after)
                else {
                    return Err(Refusal::BadOption(name, letter));
                };
                let value = match after.starts_with(':') {
                    false => "",
                    true if letters.is_empty() => words.next().ok_or(Refusal::NoValue(name, letter))?,
                    true => std::mem::take(&mut letters),
                };
                scanned.options.push((letter, value));
            }
        }
        Ok(scanned)
    }

    pub(crate) fn has(&self, option: char) -> bool {
        self.options.iter().any(|&(letter, _)| letter == option)
    }

    /// The last value of an option.
    pub(crate) fn value(&self, option: char) -> Option<&'a str> {
        self.options.iter().rev().find(|&&(letter, _)| letter == option).map(|&(_, value)| value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scan<'a>(line: &'a str) -> Result<Scanned<'a>, Refusal> {
        Scanned::of("read", "qvP:s:", &words(line))
    }

    #[test]
    fn options_may_stand_anywhere_before_two_dashes() {
        let scanned = scan("0 -qv  1 -P 5 -s0x10 -- -q").expect("all are options");
        assert_eq!(scanned.options, [('q', ""), ('v', ""), ('P', "5"), ('s', "0x10")]);
        assert_eq!(scanned.rest, ["0", "1", "-q"]);
        assert_eq!(scan("-qP0 -").expect("a dash alone is a word").options, [('q', ""), ('P', "0")]);
        assert_eq!(scan("-P 1 -P 2").expect("both are options").value('P'), Some("2"));
    }

    #[test]
    fn what_is_no_option_is_refused() {
        assert_eq!(scan("-Z 0"), Err(Refusal::BadOption("read", 'Z')));
        assert_eq!(scan("-: 0"), Err(Refusal::BadOption("read", ':')));
        assert_eq!(scan("-é"), Err(Refusal::BadOption("read", 'é')));
        assert_eq!(scan("0 1 -P"), Err(Refusal::NoValue("read", 'P')));
    }
}
