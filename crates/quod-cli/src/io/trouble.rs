//! Commands that failed.
//!
//! Role: why, and how it is told.
//!
//! Absent on purpose: whether it changes the exit code; the session decides.

use std::io::{self, Write};

use quod_language::{Refusal, Spec};

use super::transfer::Fault;
use crate::output;

/// Why a command failed.
pub(super) enum Trouble {
    Refused(Option<&'static Spec>, Refusal),
    /// Told already.
    Told,
    /// Told on standard error as it is.
    Plain(String),
    /// Told on standard error by our name.
    Complaint(String),
    /// A request that failed, by the word for it.
    Request(&'static str, Fault),
    /// Our own output failed: the end.
    Output(anyhow::Error),
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Trouble::Output(error.into())
    }
}

/// What a command gives.
pub(super) type Done<T = ()> = Result<T, Trouble>;

/// Tells why a command failed.
///
/// # Errors
/// Our own output failed.
pub(super) fn tell(out: &mut impl Write, trouble: Trouble) -> anyhow::Result<()> {
    out.flush()?;
    match trouble {
        Trouble::Refused(spec, refusal) => {
            match &refusal {
                Refusal::Usage => {}
                Refusal::Sentence(line) => writeln!(out, "{line}")?,
                Refusal::Complaint(line) => output::complain(line),
                other => output::warn_line(other),
            }
            if let Some(spec) = spec.filter(|_| refusal.shows_usage()) {
                writeln!(out, "{}", spec.usage_line())?;
            }
        }
        Trouble::Told => {}
        Trouble::Plain(line) => output::warn_line(&line),
        Trouble::Complaint(line) => output::complain(&line),
        Trouble::Request(word, fault) => {
            writeln!(out, "{word} failed: {}", fault.word)?;
            out.flush()?;
            output::complain(&fault.detail);
        }
        Trouble::Output(error) => return Err(error),
    }
    Ok(())
}
