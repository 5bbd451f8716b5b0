//! What a correct disk would not have returned, told so that a person can follow it.
//!
//! Role: a [`Violation`] names the sector, the law that it breaks, what it holds and what it might hold.
//!
//! Absent on purpose: what is allowed (`sector.rs`).

use std::fmt;

use crate::sector::Bytes;
use crate::stamp::{self, Finding, UNIT};

/// Values that are told of those that are allowed.
const TOLD: usize = 12;

/// Which law a sector breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forbidden {
    /// Bytes of another guest address.
    Foreign,
    /// A value that was replaced, or that nobody may see any more; also backing bytes.
    Stale,
    /// Zeroes where data must be.
    Zeroes,
    /// Bytes that no guest wrote: tables, the file's tail, or halves of units.
    Garbage,
    /// Each part is allowed, the whole is not.
    Torn,
}

/// A sector that a correct disk does not return.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Guest address of the sector.
    pub at: u64,
    /// Which law it breaks.
    pub forbidden: Forbidden,
    /// What is there.
    pub found: String,
    /// What may be there; of very many values, some.
    pub allowed: Vec<String>,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Violation { at, forbidden, found, allowed } = self;
        write!(f, "sector {at:#x} is {forbidden:?}: it holds {found}; allowed: {}", allowed.join(" | "))
    }
}

impl std::error::Error for Violation {}

/// Says what is wrong with `found`, which begins `inside` bytes into the sector at `at`.
pub(crate) fn violation(at: u64, inside: usize, found: &[u8], allowed: &[&Bytes]) -> Violation {
    let range = inside..inside + found.len();
    let unit = UNIT as usize;
    let bad = range.clone().step_by(unit).map(|start| start..(start + unit).min(range.end)).find(|piece| {
        let here = &found[piece.start - inside..piece.end - inside];
        !allowed.iter().any(|allowed| allowed[piece.clone()] == *here)
    });
    let forbidden = match bad.map(|piece| finding(at, piece.start, &found[piece.start - inside..])) {
        None => Forbidden::Torn,
        Some(Finding::Foreign { .. }) => Forbidden::Foreign,
        Some(Finding::Own { .. }) => Forbidden::Stale,
        Some(Finding::Zeroes) => Forbidden::Zeroes,
        Some(Finding::Garbage) => Forbidden::Garbage,
    };
    let mut told: Vec<String> = allowed.iter().take(TOLD).map(|bytes| describe(at, 0, &bytes[..])).collect();
    if allowed.len() > TOLD {
        told.push(format!("one of {} more", allowed.len() - TOLD));
    }
    let allowed = told;
    Violation { at, forbidden, found: describe(at, inside, found), allowed }
}

fn finding(at: u64, inside: usize, bytes: &[u8]) -> Finding {
    stamp::find(bytes, at + inside as u64)
}

/// Tells a part of a sector in runs.
fn describe(at: u64, inside: usize, bytes: &[u8]) -> String {
    let mut runs: Vec<(Finding, usize)> = Vec::new();
    let skip = inside.next_multiple_of(UNIT as usize) - inside;
    for start in (skip..bytes.len()).step_by(UNIT as usize) {
        let here = finding(at, inside + start, &bytes[start..]);
        let same = |last: &Finding| match (*last, here) {
            (Finding::Foreign { sequence: one, .. }, Finding::Foreign { sequence: other, .. }) => {
                one == other
            }
            (last, here) => last == here,
        };
        if !runs.last().is_some_and(|(last, _)| same(last)) {
            runs.push((here, inside + start));
        }
    }
    let mut told: Vec<String> = runs.iter().take(6).map(|(run, from)| format!("{run} from {from}")).collect();
    if runs.len() > told.len() {
        told.push(format!("and {} runs more", runs.len() - told.len()));
    }
    told.join(", ")
}
