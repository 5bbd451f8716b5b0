//! What a caller chooses when it makes, opens or changes an image.
//!
//! Role: plain values with the defaults that the format page and the contract of the cache give.
//!
//! Absent on purpose: judging them. `create.rs` and `chain.rs` do that, where they are put to use.

use std::ffi::OsString;
use std::sync::Arc;

use quod_storage::{Access, Existing};

use crate::cache::SlicePool;

/// What a table cache may take unless told otherwise, in bytes: 12.5 MiB.
pub const DEFAULT_CACHE_BYTES: usize = 50 * 256 * 1024;

/// Image formats that the engine itself reads and writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// QEMU Enhanced Disk.
    Qed,
    /// The bytes of the disk, and nothing else.
    Raw,
}

/// Whether the backing file that a header names may be opened: the name is the image author's, not the caller's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum BackingPolicy {
    /// No: an image that has a backing file is not opened.
    #[default]
    Deny,
    /// Yes, as a path that the [`Opener`](quod_storage::Opener) knows.
    Local,
}

/// When the table entries of first writes reach the file (`docs/spec/durability-rules.md`, D4 to D7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommitPolicy {
    /// Before the request completes: a process that is killed loses nothing that has completed.
    Through,
    /// Together, after one flush of their data: at the guest's flush, at a bound on what is pending, or with
    /// [`maintain`](crate::Image::maintain). A process that is killed loses what was not flushed, as by a crash.
    Grouped,
}

/// How much may wait for the file under [`CommitPolicy::Grouped`]. At half of it maintenance is due
/// ([`maintenance_due`](crate::Image::maintenance_due)); a first write that comes when all of it is used up brings it to
/// the file first. So it is with the slices of the table cache that it keeps: they may take a quarter of its budget, which
/// images that share it divide.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PendingBounds {
    /// Table entries.
    pub entries: u64,
    /// Bytes of data that were written for them.
    pub bytes: u64,
}

impl Default for PendingBounds {
    /// 4,096 entries, 64 MiB.
    fn default() -> Self {
        PendingBounds { entries: 4096, bytes: 64 << 20 }
    }
}

/// What bounds the memory that slices of tables take.
#[derive(Clone, Debug)]
pub enum CacheBudget {
    /// So many bytes, for the images of this chain alone.
    Own(usize),
    /// What a pool has, for this chain and whichever others share it.
    Shared(Arc<SlicePool>),
}

impl CacheBudget {
    pub(crate) fn pool(&self) -> Arc<SlicePool> {
        match self {
            CacheBudget::Own(bytes) => SlicePool::new(*bytes),
            CacheBudget::Shared(pool) => Arc::clone(pool),
        }
    }
}

impl Default for CacheBudget {
    /// [`DEFAULT_CACHE_BYTES`] of its own.
    fn default() -> Self {
        CacheBudget::Own(DEFAULT_CACHE_BYTES)
    }
}

/// How to open an image.
#[derive(Clone, Debug)]
pub struct OpenOptions {
    /// Format of the image itself; that of a backing file follows from the header that names it. `None`: told by the first
    /// bytes. A disk that is found to be raw that way must stay so, and refuses writes that would make it look like
    /// another format: its guest could have the caller open any file.
    pub format: Option<Format>,
    /// Reading or writing, and which other users it goes with.
    pub access: Access,
    /// Whether backing files may be opened.
    pub backing: BackingPolicy,
    /// Where slices of tables are kept, for the image and those below it.
    pub cache: CacheBudget,
    /// `None`: `Grouped` over a backing file, `Through` without one.
    pub commit: Option<CommitPolicy>,
    /// How much of it may wait.
    pub pending: PendingBounds,
}

impl OpenOptions {
    /// QED, no backing file, the default cache, the commit policy by the backing file.
    pub fn new(access: Access) -> Self {
        let (format, backing) = (Some(Format::Qed), BackingPolicy::Deny);
        let (cache, pending) = (CacheBudget::default(), PendingBounds::default());
        OpenOptions { format, access, backing, cache, commit: None, pending }
    }
}

/// The backing file of a new image.
#[derive(Clone, Debug)]
pub struct NewBacking {
    /// As the header is to name it: absolute, or relative to the directory of the new image.
    pub name: OsString,
    /// A raw one is marked so, and is never probed.
    pub format: Format,
}

/// What a new image is to be.
#[derive(Clone, Debug)]
pub struct CreateOptions {
    /// Virtual size in bytes; rounded up to a multiple of 512.
    pub size: u64,
    /// Bytes of a cluster: a power of two from 4 KiB to 64 MiB.
    pub cluster_size: u32,
    /// Clusters of a table: 1, 2, 4, 8 or 16.
    pub table_size: u32,
    /// What unallocated clusters read from.
    pub backing: Option<NewBacking>,
    /// What becomes of a file of that name that is not empty.
    pub existing: Existing,
}

impl CreateOptions {
    /// A disk of `size` bytes in the default geometry: clusters of 64 KiB, tables of 4 clusters. A file
    /// that is there already and not empty is kept.
    pub fn new(size: u64) -> Self {
        CreateOptions { size, cluster_size: 64 << 10, table_size: 4, backing: None, existing: Existing::Keep }
    }
}

/// Whether a write is durable when it completes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fua {
    /// After the next flush.
    No,
    /// At once ("force unit access").
    Yes,
}

/// What a zero write does with the room of allocated clusters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    /// Gives it back to the file system where that can be done.
    GiveBack,
    /// Keeps it, so that later writes there cannot run out of room.
    Keep,
}
