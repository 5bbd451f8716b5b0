//! Tables from end to end, piece by piece.
//!
//! Role: reads a table without its holes, for those who look at every entry.
//!
//! Invariant: memory for one piece, however large the table is.
//!
//! Absent on purpose: the cache, which a whole table would sweep.

use quod_storage::{Buffer, ExtentKind, Storage};

use crate::error::{Error, Result};
use crate::geometry::{ENTRY, Geometry};
use crate::table::entries;
use crate::units::FileOffset;

/// Tables are read in pieces of at most this many bytes; a piece begins at a multiple of it in its table.
const PIECE: u64 = 256 << 10;

/// The next piece of a table that is not a hole, from byte `at` of it on: its place, and its entries. `at` moves past it.
///
/// # Errors
/// It cannot be read.
pub(super) async fn next_piece<S: Storage>(
    storage: &S,
    geometry: Geometry,
    table: FileOffset,
    at: &mut u64,
) -> Result<Option<(FileOffset, Vec<u64>)>> {
    let failed = |source| Error::io(format!("the table at {table} cannot be read"), source);
    let end = geometry.table_bytes();
    while *at < end {
        let extent = storage.extent(table.0 + *at, end - *at).await.map_err(failed)?;
        if extent.kind == ExtentKind::Hole {
            // Holes need not end where entries do; what is read twice was all zeroes.
            *at = (*at + extent.len).min(end) / ENTRY * ENTRY;
            if extent.len < ENTRY {
                *at += ENTRY;
            }
            continue;
        }
        let len = (PIECE - *at % PIECE).min(end - *at);
        let place = table.plus(*at);
        let bytes = storage.read_at(place.0, Buffer::zeroed(len as usize).into()).await.map_err(failed)?;
        *at += len;
        return Ok(Some((place, entries(&bytes.into_single()).collect())));
    }
    Ok(None)
}
