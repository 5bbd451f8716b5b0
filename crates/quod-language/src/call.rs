//! A line as a call of a command.
//!
//! Role: looks the command up, counts its words, and has them parsed.
//!
//! Invariant: pure and total; any text gives a call, nothing, or a [`Refusal`]. No number that passes is past 2^63 - 1,
//! and no buffer that it asks for past 2 GiB.
//!
//! Absent on purpose: the open image. What only it can tell is checked where commands are run.

use super::catalogue::find;
use super::command::Command;
use super::scan::{Refusal, words};
use super::spec::Spec;

/// A line that names a command.
pub struct Call<'a> {
    /// The command.
    pub spec: &'static Spec,
    words: Vec<&'a str>,
}

impl<'a> Call<'a> {
    /// Looks up the command of a line; an empty line has none.
    ///
    /// # Errors
    /// [`Refusal::Unknown`].
    pub fn look_up(line: &'a str) -> Result<Option<Self>, Refusal> {
        let mut words = words(line);
        if words.is_empty() {
            return Ok(None);
        }
        let name = words.remove(0);
        match find(name) {
            Some(spec) => Ok(Some(Call { spec, words })),
            None => Err(Refusal::Unknown(name.to_owned())),
        }
    }

    /// Whether there are as many words as the command takes.
    ///
    /// # Errors
    /// [`Refusal::Count`].
    pub fn check_count(&self) -> Result<(), Refusal> {
        let (fewest, most) = self.spec.words;
        let given = self.words.len();
        if (fewest..=most).contains(&given) {
            return Ok(());
        }
        let expected = match (fewest, most) {
            (fewest, usize::MAX) => format!("at least {fewest}"),
            (fewest, most) if fewest == most => fewest.to_string(),
            (fewest, most) => format!("between {fewest} and {most}"),
        };
        Err(Refusal::Count { name: self.spec.name, given, expected })
    }

    /// What the words ask for. No number in it is past 2^63 - 1.
    ///
    /// # Errors
    /// The words do not fit the command.
    pub fn command(&self) -> Result<Command, Refusal> {
        (self.spec.parse)(self.spec, &self.words)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::{Open, Range, Read, Style, Way, What, Write};

    fn parse(line: &str) -> Result<Option<Command>, Refusal> {
        let Some(call) = Call::look_up(line)? else { return Ok(None) };
        call.check_count()?;
        call.command().map(Some)
    }

    fn refusal(line: &str) -> String {
        parse(line).expect_err("the line is wrong").to_string()
    }

    #[test]
    fn a_read_is_what_its_words_say() {
        let read = Read {
            range: Range { at: 1024, len: 4096 },
            style: Style { quiet: true, machine: false },
            way: Way::Now,
            verify: Some((Range { at: 1024 + 512, len: 16 }, 0xab)),
            dump: true,
            vm_state: false,
            word: "read",
        };
        assert_eq!(parse("r -vq -P 0xab -s 512 -l 0x10 1k 4k"), Ok(Some(Command::Read(read))));
    }

    #[test]
    fn a_write_is_what_its_words_say() {
        let write = Write {
            range: Range { at: 0, len: 65536 },
            style: Style::default(),
            way: Way::Aside,
            what: What::Zeroes { unmap: true },
            fua: true,
            unsupported: false,
            word: "aio_write",
        };
        assert_eq!(parse("aio_write -zuf 0 64k"), Ok(Some(Command::Write(write))));
    }

    #[test]
    fn an_image_is_opened_by_its_options() {
        let open =
            Open { path: "a.qed".into(), format: Some("qed".into()), read_only: true, force_share: true };
        assert_eq!(parse("open -rU -o driver=qed a.qed"), Ok(Some(Command::Open(open.clone()))));
        assert_eq!(parse("open -r -U -o driver=qed,file.filename=a.qed"), Ok(Some(Command::Open(open))));
    }

    #[test]
    fn refusals_are_the_sentences_of_the_reference() {
        let cases = [
            ("foo", "command \"foo\" not found"),
            ("read 0", "bad argument count 1 to read, expected at least 2 arguments"),
            ("flush x", "bad argument count 1 to flush, expected 0 arguments"),
            ("alloc", "bad argument count 0 to alloc, expected between 1 and 2 arguments"),
            ("read -Z 0 1", "read: invalid option -- 'Z'"),
            ("read 0 -P", "read: option requires an argument -- 'P'"),
            ("read -P 300 0 1", "300 is not a valid pattern byte"),
            ("read 0 3G", "length cannot exceed 2147483136, given 3G"),
            ("write -z 0 3G", "length cannot exceed 2147483136 without -n, given 3G"),
            ("write -u 0 1", "-u requires -z to be specified"),
            ("write -n 0 1", "-n requires -z to be specified"),
            ("write -z -P 1 0 1", "Only one of -z, -P, and -s can be specified at the same time"),
            ("write -f -b 0 1k", "-f and -b or -c cannot be specified at the same time"),
            ("write -zb 0 1k", "-b and -z cannot be specified at the same time"),
            ("write -c 0 1", "1 is not a sector-aligned value for 'count'"),
            ("read -P 0 -s 4k -l 1 0 4k", "pattern verification range exceeds end of read data"),
            ("readv 0 1G 1G", "The total number of bytes exceed the maximum size 2147483136"),
            ("aio_write -z 0 1k 1k", "-z supports only a single length parameter"),
            ("truncate -m full 1G", "Unsupported preallocation mode 'full'"),
            ("truncate -m foo 1G", "Invalid preallocation mode 'foo'"),
        ];
        for (line, sentence) in cases {
            assert_eq!(refusal(line), sentence, "{line}");
        }
    }

    #[test]
    fn no_line_panics() {
        let pieces = [
            "read",
            "write",
            "aio_write",
            "open",
            "truncate",
            "-P",
            "-z",
            "-s",
            "--",
            "-",
            "8E",
            "0x",
            "é",
            "\0",
            "-o",
            "driver=",
            "=",
            ",",
            "18446744073709551616",
            "-1",
            "1.9E",
            "-l",
            "0",
        ];
        for first in pieces {
            for second in pieces {
                for third in pieces {
                    let _outcome = parse(&format!("{first} {second} {third} 0 1"));
                    let _outcome = parse(&format!("read -P 1 {first} {second} {third} 7"));
                }
            }
        }
    }
}
