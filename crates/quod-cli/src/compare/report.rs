//! What a comparison prints.
//!
//! Role: sentences and progress, as far as they are wanted.
//!
//! Absent on purpose: exit codes.

use std::io::{self, Write};

/// What is printed, and how much of it is wanted.
pub(super) struct Report<W> {
    out: W,
    quiet: bool,
    progress: bool,
    /// Percent.
    shown: Option<u64>,
}

impl<W: Write> Report<W> {
    pub(super) fn new(out: W, quiet: bool, progress: bool) -> Self {
        Report { out, quiet, progress: progress && !quiet, shown: None }
    }

    /// Tells how far it is, when that is wanted and news.
    pub(super) fn at(&mut self, done: u64, whole: u64) -> Result<(), io::Error> {
        let percent = if whole == 0 {
            100
        } else {
            u64::try_from(u128::from(done) * 100 / u128::from(whole)).unwrap_or(100)
        };
        if !self.progress || self.shown == Some(percent) {
            return Ok(());
        }
        self.shown = Some(percent);
        write!(self.out, "    ({percent}.00/100%)\r")?;
        self.out.flush()
    }

    pub(super) fn warn(&mut self, line: &str) -> Result<(), io::Error> {
        if self.quiet { Ok(()) } else { writeln!(self.out, "{line}") }
    }

    pub(super) fn say(&mut self, line: &str, code: u8) -> anyhow::Result<u8> {
        self.warn(line)?;
        Ok(code)
    }

    pub(super) fn finish(&mut self) -> io::Result<()> {
        if self.progress {
            writeln!(self.out)?;
        }
        self.out.flush()
    }
}
