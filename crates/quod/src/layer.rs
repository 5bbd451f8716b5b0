//! One image of a chain, as requests see it: shared state without a storage handle.
//!
//! Role: what a QED or raw image is while it is open. The storage handles lie beside it ([`Image`](crate::Image)),
//! so that everything here is `Send + Sync` whatever they are.
//!
//! Absent on purpose: I/O.

use std::path::PathBuf;
use std::sync::Arc;

use async_lock::Semaphore;

use crate::allocate::FileEnd;
use crate::cache::{Capacity, TableCache};
use crate::error::{Error, Result};
use crate::geometry::{Geometry, SECTOR};
use crate::header::Header;
use crate::need_check::NeedCheck;
use crate::options::CommitPolicy;
use crate::pending::Pending;
use crate::ranges::RangeLocks;
use crate::sync::OnceLock;
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::table::ValidRange;
use crate::turn::Turn;
use crate::units::FileOffset;

/// One image of a chain.
pub(crate) struct Layer {
    pub(crate) name: PathBuf,
    pub(crate) kind: LayerKind,
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
    pub(crate) fn new(header: &Header, file_length: u64, alone: bool, cache_bytes: usize) -> Self {
        let geometry = header.geometry();
        let (l1_slices, l2_slices) = (geometry.l1_slices(), geometry.l2_slices());
        Qed {
            geometry,
            l1_table: header.l1_table(),
            cache: TableCache::new(Capacity { l1_slices, l2_slices, budget: cache_bytes }),
            image_size: AtomicU64::new(header.image_size()),
            file_length: AtomicU64::new(file_length),
            alone,
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
    /// Bytes that a guest sees of this layer.
    pub(crate) fn size(&self) -> u64 {
        match &self.kind {
            LayerKind::Qed(qed) => qed.image_size(),
            LayerKind::Raw(length) => length.load(Ordering::Acquire).next_multiple_of(SECTOR),
        }
    }

    /// Names this image in an error that came out of it.
    pub(crate) fn blame<T>(&self, outcome: Result<T>) -> Result<T> {
        outcome.map_err(|error: Error| error.in_image(&self.name))
    }
}
