//! Tables from end to end, piece by piece.
//!
//! Role: reads a table without its holes, for those who look at every entry.
//!
//! Invariant: memory for one piece, however large the table is.
//!
//! Absent on purpose: the cache, which a whole table would sweep.

use std::ops::Range;

use quod_storage::{Buffer, ExtentKind, Storage};

use crate::error::{Error, Result};
use crate::geometry::{ENTRY, Geometry};
use crate::table::entries;
use crate::units::FileOffset;

/// Tables are read in pieces of at most this many bytes; a piece begins at a multiple of it in its table.
const PIECE: u64 = 256 << 10;

/// How far is asked for data and holes at a time, in bytes.
const LOOK_AHEAD: u64 = 16 << 20;

/// Reads the tables of one file.
pub(super) struct Tables<'a, S> {
    storage: &'a S,
    geometry: Geometry,
    /// Where in the file there are data, as far as is known: a file system may take long to find the next hole, and tables
    /// lie close to each other.
    data: Range<u64>,
}

impl<'a, S: Storage> Tables<'a, S> {
    pub(super) fn of(storage: &'a S, geometry: Geometry) -> Self {
        Tables { storage, geometry, data: 0..0 }
    }

    /// The next piece of a table that is not a hole, from byte `at` of it on: its place in the file, and its entries. `at`
    /// moves past it.
    ///
    /// # Errors
    /// It cannot be read.
    pub(super) async fn next_piece(
        &mut self,
        table: FileOffset,
        at: &mut u64,
    ) -> Result<Option<(FileOffset, Vec<u64>)>> {
        let failed = |source| Error::io(format!("the table at {table} cannot be read"), source);
        let end = self.geometry.table_bytes();
        while *at < end {
            let place = table.plus(*at);
            if !self.data.contains(&place.0) {
                let ahead = (end - *at).max(LOOK_AHEAD);
                let extent = self.storage.extent(place.0, ahead).await.map_err(failed)?;
                if extent.kind == ExtentKind::Hole {
                    // Holes need not end where entries do; what is read twice was all zeroes.
                    *at = (*at + extent.len).min(end) / ENTRY * ENTRY;
                    if extent.len < ENTRY {
                        *at += ENTRY;
                    }
                    continue;
                }
                self.data = place.0..place.0 + extent.len;
            }
            let len = (PIECE - *at % PIECE).min(end - *at);
            let bytes = self.storage.read_at(place.0, Buffer::zeroed(len as usize).into()).await;
            let bytes = bytes.map_err(failed)?.into_single();
            *at += len;
            return Ok(Some((place, entries(&bytes).collect())));
        }
        Ok(None)
    }
}
