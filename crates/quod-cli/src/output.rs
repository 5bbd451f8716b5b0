//! Standard output and error.
//!
//! Role: one buffered writer for results, one form for complaints.
//!
//! Invariant: writing never panics. A reader that went away is told apart from every other failure.
//!
//! Absent on purpose: `println!`, colours, and deciding what is a result.

use std::fmt::Display;
use std::io::{self, BufWriter, ErrorKind, StdoutLock, Write};

use clap::ValueEnum;

use crate::open::system_sentence;

/// Exit code when the reader of standard output is gone: what a shell shows for a program that SIGPIPE ended.
pub(crate) const READER_GONE: u8 = 141;

/// How results are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum OutputFormat {
    /// For people.
    #[default]
    Human,
    /// For programs.
    Json,
}

/// Standard output for a verb's results. Its errors say that it was not the image that failed.
pub(crate) struct Results(BufWriter<StdoutLock<'static>>);

/// Opens standard output for a verb's results. Flush it at the end: what cannot be printed is a failure.
pub(crate) fn results() -> Results {
    Results(BufWriter::new(io::stdout().lock()))
}

impl Write for Results {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes).map_err(of_output)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush().map_err(of_output)
    }
}

fn of_output(error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("Could not write to standard output: {}", system_sentence(&error)))
}

/// Whether an error is nothing but a closed pipe on our own output.
pub(crate) fn reader_is_gone(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == ErrorKind::BrokenPipe)
}

/// Tells what went wrong on standard error.
pub(crate) fn complain(what: &(impl Display + ?Sized)) {
    warn_line(&format_args!("quod: {what:#}"));
}

/// Prints a line on standard error.
pub(crate) fn warn_line(line: &(impl Display + ?Sized)) {
    // With standard error gone nobody is left to tell; the exit code still says it.
    let _told: bool = writeln!(io::stderr().lock(), "{line:#}").is_ok();
}
