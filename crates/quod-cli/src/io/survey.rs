//! Commands about the shape of the image.
//!
//! Role: `map` and `alloc`, which tell what the image itself has, and `truncate`, which grows it.
//!
//! Absent on purpose: what lies below the image; `quod map` tells that.

use std::io::Write;

use quod::{ErrorKind, Format};
use quod_language::Range;

use super::transfer::Fault;
use super::trouble::Trouble;
use crate::place::AnyDisk;
use crate::runs::Runs;
use crate::sizes::Amount;

const SECTOR: u64 = 512;

/// Lists what the image itself has and what it has not.
pub(super) fn map(disk: &AnyDisk, out: &mut impl Write) -> Result<(), Trouble> {
    let mut joined: Option<(Range, bool)> = None;
    let mut runs = Runs::of(disk, 0, disk.size());
    loop {
        let next = quod::block_on(runs.next());
        match (next, &mut joined) {
            (Ok(Some(run)), Some((range, here))) if *here == run.is_allocated_here() => range.len += run.len,
            (Ok(Some(run)), joined) => {
                let fresh = (Range { at: run.start, len: run.len }, run.is_allocated_here());
                print_range(joined.replace(fresh), out)?;
            }
            (Ok(None), _) => return print_range(joined, out),
            (Err(error), _) => {
                print_range(joined, out)?;
                let word = Fault::from(error);
                let why = format!("Failed to get allocation status: {} ({})", word.word, word.detail);
                return Err(Trouble::Complaint(why));
            }
        }
    }
}

fn print_range(range: Option<(Range, bool)>, out: &mut impl Write) -> Result<(), Trouble> {
    let Some((Range { at, len }, here)) = range else { return Ok(()) };
    let what = if here { "    allocated" } else { "not allocated" };
    let (amount, place) = (Amount::bytes(len), Amount::bytes(at));
    Ok(writeln!(out, "{amount} ({len:#x}) bytes {what} at offset {place} ({at:#x})")?)
}

/// Counts the bytes of a range that the image itself has.
pub(super) fn alloc(disk: &AnyDisk, range: Range, out: &mut impl Write) -> Result<(), Trouble> {
    let end = range.at.saturating_add(range.len).min(disk.size());
    let mut runs = Runs::of(disk, range.at, end);
    let mut here = 0;
    while let Some(run) =
        quod::block_on(runs.next()).map_err(|error| Trouble::Request("is_allocated", error.into()))?
    {
        here += if run.is_allocated_here() { run.len } else { 0 };
    }
    let looked_at = end.saturating_sub(range.at);
    Ok(writeln!(out, "{here}/{looked_at} bytes allocated at offset {}", Amount::bytes(range.at))?)
}

/// Grows the disk. A raw one ends with a whole sector.
pub(super) fn truncate(disk: &AnyDisk, size: u64) -> Result<(), Trouble> {
    if size < disk.size() {
        return Err(Trouble::Complaint("Shrinking images is currently not supported".to_owned()));
    }
    let size = if disk.format() == Format::Raw { size.next_multiple_of(SECTOR) } else { size };
    let grown = quod::block_on(disk.grow(size));
    grown.map_err(|error| {
        Trouble::Complaint(match error.kind() {
            ErrorKind::InvalidArgument => format!("Invalid image size specified: {error}"),
            _ => error.to_string(),
        })
    })
}
