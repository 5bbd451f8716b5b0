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

/// A walk through one table.
pub(super) struct Pieces<'a, S> {
    storage: &'a S,
    table: FileOffset,
    /// Bytes of the table.
    end: u64,
    /// Where the walk is, in bytes from the start of the table.
    at: u64,
    /// How far there are data, as far as is known: a file system may take long to find the next hole.
    data_until: u64,
}

impl<'a, S: Storage> Pieces<'a, S> {
    pub(super) fn of(storage: &'a S, geometry: Geometry, table: FileOffset) -> Self {
        Pieces { storage, table, end: geometry.table_bytes(), at: 0, data_until: 0 }
    }

    /// The next piece that is not a hole: its place in the file, and its entries.
    ///
    /// # Errors
    /// It cannot be read.
    pub(super) async fn next(&mut self) -> Result<Option<(FileOffset, Vec<u64>)>> {
        let table = self.table;
        let failed = |source| Error::io(format!("the table at {table} cannot be read"), source);
        while self.at < self.end {
            if self.at >= self.data_until {
                let extent =
                    self.storage.extent(table.0 + self.at, self.end - self.at).await.map_err(failed)?;
                if extent.kind == ExtentKind::Hole {
                    // Holes need not end where entries do; what is read twice was all zeroes.
                    self.at = (self.at + extent.len).min(self.end) / ENTRY * ENTRY;
                    if extent.len < ENTRY {
                        self.at += ENTRY;
                    }
                    continue;
                }
                self.data_until = self.at + extent.len;
            }
            let len = (PIECE - self.at % PIECE).min(self.end - self.at);
            let place = table.plus(self.at);
            let read = self.storage.read_at(place.0, Buffer::zeroed(len as usize).into()).await;
            self.at += len;
            return Ok(Some((place, entries(&read.map_err(failed)?.into_single()).collect())));
        }
        Ok(None)
    }
}
