//! One image of a chain, as requests see it: shared state without a storage handle.
//!
//! Role: what a QED or raw image is while it is open. The storage handles lie beside it ([`Image`](crate::Image)),
//! so that everything here is `Send + Sync` whatever they are.
//!
//! Absent on purpose: I/O.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};

use async_lock::Semaphore;

use crate::allocate::FileEnd;
use crate::cache::{SlicePool, TableCache};
use crate::error::{Error, Result};
use crate::geometry::{Geometry, SECTOR};
use crate::header::Header;
use crate::lookup::Spares;
use crate::need_check::NeedCheck;
use crate::options::CommitPolicy;
use crate::pending::Pending;
use crate::ranges::RangeLocks;
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::sync::{Mutex, MutexGuard, OnceLock};
use crate::table::ValidRange;
use crate::turn::Turn;
use crate::units::FileOffset;

/// One image of a chain.
pub(crate) struct Layer {
    pub(crate) name: PathBuf,
    pub(crate) kind: LayerKind,
    pub(crate) data: KnownData,
}

/// What format it has.
pub(crate) enum LayerKind {
    Qed(Box<Qed>),
    /// Length of the file in bytes; the last sector may be a part of one.
    Raw(AtomicU64),
}

/// An open QED image.
pub(crate) struct Qed {
    pub(crate) geometry: Geometry,
    pub(crate) l1_table: FileOffset,
    pub(crate) cache: TableCache,
    image_size: AtomicU64,
    /// How far into the file entries may name: its length, but for room that it has grown ahead by. Grows only.
    pub(crate) file_length: AtomicU64,
    /// Nobody but this open makes the file longer.
    pub(crate) alone: bool,
    pub(crate) spares: Spares,
}

/// The run of a backing file's data that was met last. Asking for the end of a run anew for every cluster costs two system
/// calls, and on tmpfs a walk through the whole run. A hole that is taken for data would be read as zeroes: it costs a
/// copy, and no more.
#[derive(Default)]
pub(crate) struct KnownData {
    run: Mutex<Range<u64>>,
}

impl KnownData {
    /// How many bytes from `at` on are known to be data.
    pub(crate) fn len_from(&self, at: u64) -> u64 {
        let run = self.lock();
        if run.contains(&at) { run.end - at } else { 0 }
    }

    /// Remembers a run; with the one before where they meet.
    pub(crate) fn remember(&self, met: Range<u64>) {
        let mut run = self.lock();
        let apart = met.start > run.end || run.start > met.end;
        *run = if apart { met } else { run.start.min(met.start)..run.end.max(met.end) };
    }

    fn lock(&self) -> MutexGuard<'_, Range<u64>> {
        self.run.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What it takes to write to a QED image.
pub(crate) struct QedWriter {
    pub(crate) need_check: NeedCheck,
    pub(crate) end: FileEnd,
    /// What was found when the tables were looked through for an entry that names room past the end of the file: a sentence
    /// about it, or that there is none.
    pub(crate) overhang: OnceLock<Option<String>>,
    /// Held by whoever looks for such entries.
    pub(crate) vetting: Turn,
    /// L1 entries from this one on may be left over from before this open: the disk has not reached them.
    pub(crate) tables_cleared: AtomicU64,
    /// Guest clusters that are being allocated.
    pub(crate) clusters: RangeLocks,
    /// L1 entries that are being linked, or promised.
    pub(crate) tables: RangeLocks,
    pub(crate) policy: CommitPolicy,
    /// What readers see and the file is owed.
    pub(crate) pending: Pending,
    /// Bounds what copies from the backing file take: a permit stands for 1 MiB.
    pub(crate) copies: Arc<Semaphore>,
}

impl Qed {
    pub(crate) fn new(header: &Header, file_length: u64, alone: bool, pool: &Arc<SlicePool>) -> Self {
        Qed {
            geometry: header.geometry(),
            l1_table: header.l1_table(),
            cache: TableCache::new(pool),
            image_size: AtomicU64::new(header.image_size()),
            file_length: AtomicU64::new(file_length),
            alone,
            spares: Spares::default(),
        }
    }

    /// Virtual size in bytes.
    pub(crate) fn image_size(&self) -> u64 {
        self.image_size.load(Ordering::Acquire)
    }

    pub(crate) fn set_image_size(&self, bytes: u64) {
        self.image_size.store(bytes, Ordering::Release);
    }

    /// What entries may name now.
    pub(crate) fn valid(&self) -> ValidRange {
        ValidRange { geometry: self.geometry, file_length: self.file_length.load(Ordering::Acquire) }
    }
}

impl Layer {
    pub(crate) fn new(name: &Path, kind: LayerKind) -> Self {
        Layer { name: name.to_owned(), kind, data: KnownData::default() }
    }

    /// Bytes that a guest sees of this layer.
    pub(crate) fn size(&self) -> u64 {
        match &self.kind {
            LayerKind::Qed(qed) => qed.image_size(),
            LayerKind::Raw(length) => length.load(Ordering::Acquire).next_multiple_of(SECTOR),
        }
    }

    /// Bytes that the file is known to have.
    pub(crate) fn file_length(&self) -> u64 {
        match &self.kind {
            LayerKind::Qed(qed) => qed.valid().file_length,
            LayerKind::Raw(length) => length.load(Ordering::Acquire),
        }
    }

    /// Names this image in an error that came out of it.
    pub(crate) fn blame<T>(&self, outcome: Result<T>) -> Result<T> {
        outcome.map_err(|error: Error| error.in_image(&self.name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_is_known_within_the_run_that_was_met_last() {
        let data = KnownData::default();
        assert_eq!(data.len_from(0), 0);
        data.remember(100..200);
        assert_eq!([99, 100, 150, 199, 200].map(|at| data.len_from(at)), [0, 100, 50, 1, 0]);
        // What comes next makes it longer, at either end.
        data.remember(200..300);
        data.remember(50..100);
        assert_eq!([49, 50, 299, 300].map(|at| data.len_from(at)), [0, 250, 1, 0]);
        data.remember(60..70);
        assert_eq!(data.len_from(50), 250);
        // Nothing is known of a gap.
        for apart in [301..400, 10..20] {
            data.remember(apart.clone());
            assert_eq!([apart.start, 50, 300].map(|at| data.len_from(at)), [apart.end - apart.start, 0, 0]);
        }
    }
}
