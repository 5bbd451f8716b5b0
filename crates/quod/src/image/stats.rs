//! What an image counts.
//!
//! Role: [`Image::stats`] gathers what the parts of the engine have counted where they hold their locks anyway.
//!
//! Invariant: reads and writes in place count nothing here; what allocates, writes tables or flushes does so under locks, or
//! beside memory, that it wants in any case.
//!
//! Absent on purpose: a clock. How long requests take is measured by who makes them.

use quod_storage::Storage;

use crate::cache::Stats;
use crate::image::Image;

/// What an open image did so far, and what it holds now: the image itself, not its backing files. Numbers are taken one
/// after another, so under load they are of moments close to each other. Those of what was done only grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ImageStats {
    /// Its table cache; all zeroes for a raw image.
    pub cache: Stats,
    /// Clusters that were taken at the end of the file, for data and for tables. Those of writes that failed count.
    pub clusters_allocated: u64,
    /// Bytes of the file, as far as they are certain.
    pub file_length: u64,
    /// Bytes by which it is longer now than when the image was opened.
    pub file_growth: u64,
    /// Entries of tables that were written to the file.
    pub entries_written: u64,
    /// Writes that brought them: of a slice of a table, or of a part of one.
    pub slices_written: u64,
    /// Flushes, and requests with [`Fua::Yes`](crate::Fua::Yes), that were asked for.
    pub flushes_asked: u64,
    /// Flushes of the file that were begun: for those, which share them, and for the engine's own order.
    pub flushes_begun: u64,
    /// Whether NEED_CHECK may be set in the file, by this image while it is open for writing.
    pub needs_check: bool,
    /// Entries that readers see and the file is owed, under [`CommitPolicy::Grouped`](crate::CommitPolicy::Grouped).
    pub entries_pending: u64,
    /// Bytes of data that were written for them.
    pub bytes_pending: u64,
    /// Whether a failure has closed the image for writing.
    pub is_latched: bool,
}

impl<S: Storage> Image<S> {
    /// What the image did so far, and what it holds now. Cheap, though not for every request.
    pub fn stats(&self) -> ImageStats {
        let (flushes_asked, flushes_begun) = self.flusher().counts();
        let mut stats = ImageStats {
            cache: self.cache_stats(),
            file_length: self.layers()[0].file_length(),
            flushes_asked,
            flushes_begun,
            is_latched: self.flusher().is_latched(),
            ..ImageStats::default()
        };
        if let Some(writer) = self.writer() {
            let growth = writer.end.growth();
            stats.clusters_allocated = growth.clusters.0;
            stats.file_length = growth.length;
            stats.file_growth = growth.grown;
            let (pending, written) = writer.pending.amounts();
            stats.entries_written = written.entries;
            stats.slices_written = written.slices;
            stats.entries_pending = pending.entries;
            stats.bytes_pending = pending.bytes;
            stats.needs_check = writer.need_check.is_touched();
        }
        stats
    }
}
