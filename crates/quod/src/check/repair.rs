//! Repair: what a writable open of a dirty image does first.
//!
//! Role: entries cleared, flushed; then the tail cut, flushed; then the bit cleared, flushed (D12). A first pass only
//! reads: which tables may be written to is known once every entry has been seen.
//!
//! Crash states: every prefix of these steps. The bit stays until all else is durable, so the next open does it again.
//!
//! Absent on purpose: choosing between two references to one cluster. Then the bit and the tail stay as they are.

use quod_storage::{Held, Storage};

use super::scan::{Mending, Scan, Scanned};
use crate::error::{Error, Result};
use crate::front::{Front, clear_autoclear, flush, write_header};

/// Repairs what can be repaired.
pub(super) async fn repair<S: Storage>(storage: &S, front: &mut Front) -> Result<Scanned> {
    let mut scanned = Scan::new(storage, front, Mending::No).run().await?;
    if scanned.report.corruptions > 0 {
        clear_autoclear(storage, front).await?;
        scanned = Scan::new(storage, front, Mending::AllBut(scanned.twice)).run().await?;
    }
    flush(storage).await?;
    if scanned.report.remaining_corruptions() > 0 {
        return Ok(scanned);
    }
    if front.file_length != scanned.referenced_end {
        clear_autoclear(storage, front).await?;
        let cut = storage.set_len(scanned.referenced_end, Held::NOTHING).await;
        cut.map_err(|source| Error::io("the unreferenced end of the file cannot be cut", source))?;
        flush(storage).await?;
        front.file_length = scanned.referenced_end;
        let cluster = front.header.geometry().cluster_size();
        let report = &mut scanned.report;
        report.leaks_fixed = (report.image_end - scanned.referenced_end) / cluster;
        report.image_end = scanned.referenced_end;
    }
    if front.header.needs_check() {
        clear_autoclear(storage, front).await?;
        front.header.set_needs_check(false);
        write_header(storage, front).await?;
        flush(storage).await?;
    }
    Ok(scanned)
}
