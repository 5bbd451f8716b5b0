//! Walking two images side by side.
//!
//! Role: finds the first difference.
//!
//! Invariant: two buffers of [`PIECE`] bytes are all the memory it takes; a shorter image reads as zeroes past its end.
//! Nothing is read where both are known to be zero.
//!
//! Absent on purpose: telling more than the first difference.

use std::io::Write;
use std::ops::Range;

use quod::BlockKind;
use quod_storage::Buffer;

use super::report::Report;
use super::side::{Failure, Side};
use crate::runs::{Run, Runs};

/// Bytes that are read of an image at a time.
const PIECE: u64 = 1 << 20;

/// Differences are told by the sector.
const SECTOR: u64 = 512;

/// What came out.
pub(super) enum Verdict {
    Identical,
    Content(u64),
    Status(u64),
    Size,
}

/// Compares two images.
///
/// # Errors
/// One of them cannot be read.
pub(super) async fn compare(
    first: &Side<'_>,
    second: &Side<'_>,
    strict: bool,
    report: &mut Report<impl Write>,
) -> Result<Verdict, Failure> {
    let sizes = [first.disk.size(), second.disk.size()];
    let common = sizes[0].min(sizes[1]);
    let whole = sizes[0].max(sizes[1]);
    report.at(0, whole)?;
    if strict && sizes[0] != sizes[1] {
        return Ok(Verdict::Size);
    }
    let mut both = [Runs::of(&first.disk, 0, common), Runs::of(&second.disk, 0, common)];
    let [ahead, behind] = &mut both;
    let (mut one, mut other) = (first.next(ahead).await?, second.next(behind).await?);
    let mut at = 0;
    while let (Some(left), Some(right)) = (&one, &other) {
        if strict && !left.is_like(right) {
            return Ok(Verdict::Status(at));
        }
        let end = left.end().min(right.end());
        if let Some(mismatch) =
            compare_runs([(first, left), (second, right)], at..end, (whole, report)).await?
        {
            return Ok(Verdict::Content(mismatch));
        }
        at = end;
        if left.end() == at {
            one = first.next(ahead).await?;
        }
        if right.end() == at {
            other = second.next(behind).await?;
        }
    }
    if common < whole {
        report.warn("Warning: Image size mismatch!")?;
        let longer = if sizes[0] > sizes[1] { first } else { second };
        if let Some(mismatch) = find_data(longer, common, (whole, report)).await? {
            return Ok(Verdict::Content(mismatch));
        }
    }
    report.at(whole, whole)?;
    Ok(Verdict::Identical)
}

/// Compares a range that is one run in both images; tells the first sector that differs.
async fn compare_runs(
    sides: [(&Side<'_>, &Run); 2],
    range: Range<u64>,
    (whole, report): (u64, &mut Report<impl Write>),
) -> Result<Option<u64>, Failure> {
    let [(first, left), (second, right)] = sides;
    if !left.may_hold_data() && !right.may_hold_data() {
        report.at(range.end, whole)?;
        return Ok(None);
    }
    let mut at = range.start;
    while at < range.end {
        let len = (range.end - at).min(PIECE) as usize;
        let one = first.read(left, at, Buffer::zeroed(len)).await?;
        let other = second.read(right, at, Buffer::zeroed(len)).await?;
        if one[..] != other[..] {
            let place = one.iter().zip(other.iter()).take_while(|(a, b)| a == b).count() as u64;
            return Ok(Some(sector_of(at + place)));
        }
        at += len as u64;
        report.at(at, whole)?;
    }
    Ok(None)
}

/// Finds the first sector from `start` on that is not zero.
async fn find_data(
    side: &Side<'_>,
    start: u64,
    (whole, report): (u64, &mut Report<impl Write>),
) -> Result<Option<u64>, Failure> {
    let mut runs = Runs::of(&side.disk, start, side.disk.size());
    while let Some(run) = side.next(&mut runs).await? {
        let nothing = Run { kind: BlockKind::Unallocated, ..run };
        let sides = [(side, &run), (side, &nothing)];
        if let Some(mismatch) = compare_runs(sides, run.start..run.end(), (whole, &mut *report)).await? {
            return Ok(Some(mismatch));
        }
    }
    Ok(None)
}

fn sector_of(at: u64) -> u64 {
    at - at % SECTOR
}
