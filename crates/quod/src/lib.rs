//! Copy-on-write virtual disks in the QED image format.
#![allow(clippy::todo, missing_docs, unused_variables)]

mod error;
use std::path::{Path, PathBuf};
use quod_storage::*;
pub use error::{Error, ErrorKind, Result};

/// Default: 12.5 MiB.
pub const DEFAULT_CACHE_BYTES: usize = 50 * 256 * 1024;

/// Image formats that the engine itself reads and writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format { Qed, Raw }

/// Whether the backing file that a header names may be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum BackingPolicy { #[default] Deny, Local }

#[derive(Clone, Debug)]
pub struct OpenOptions {
    pub format: Format,
    pub access: Access,
    pub backing: BackingPolicy,
    pub cache_bytes: usize,
}
impl OpenOptions {
    /// Qed, backing denied, default cache.
    pub fn new(access: Access) -> Self { OpenOptions { format: Format::Qed, access, backing: BackingPolicy::Deny, cache_bytes: DEFAULT_CACHE_BYTES } }
}

#[derive(Clone, Debug)]
pub struct NewBacking { pub name: String, pub format: Format }

#[derive(Clone, Debug)]
pub struct CreateOptions {
    /// Virtual size in bytes; rounded up to 512.
    pub size: u64,
    /// Bytes: 4 KiB to 64 MiB, power of two.
    pub cluster_size: u32,
    /// Clusters: 1 to 16, power of two.
    pub table_size: u32,
    pub backing: Option<NewBacking>,
}
impl CreateOptions { pub fn new(size: u64) -> Self { CreateOptions { size, cluster_size: 65536, table_size: 4, backing: None } } }

/// Whether a write is durable when it completes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fua { No, Yes }

/// What a zero write does with allocated room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room { GiveBack, Keep }

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockKind {
    /// Bytes at that offset of the layer's file.
    Data { file_offset: u64 },
    /// Raw layers: a hole of the file at that offset; reads as zeroes.
    Hole { file_offset: u64 },
    /// A zero marker in L2; reads as zeroes.
    Zero,
    /// In no layer: reads as zeroes.
    Unallocated,
}

/// A run of guest bytes of one kind out of one layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockStatus {
    /// bytes, never 0
    pub len: u64,
    pub kind: BlockKind,
    /// 0: the image itself; 1: its backing file; ...
    pub depth: usize,
}

/// An open image. Clones are the same image.
pub struct Image<S> { s: std::sync::Arc<S> }
impl<S> Clone for Image<S> { fn clone(&self) -> Self { Image { s: self.s.clone() } } }

impl<S: Storage> Image<S> {
    /// Writes a new, empty image; an existing file is emptied.
    pub async fn create<O: Opener<Storage = S>>(opener: &O, name: &Path, options: &CreateOptions) -> Result<()> { todo!() }
    /// Opens (with repair when dirty and writable).
    pub async fn open<O: Opener<Storage = S>>(opener: &O, name: &Path, options: &OpenOptions) -> Result<Self> { todo!() }
    /// Guest size in bytes.
    pub fn size(&self) -> u64 { todo!() }
    pub fn format(&self) -> Format { todo!() }
    pub fn is_writable(&self) -> bool { todo!() }
    /// Bytes for QED, None for raw.
    pub fn cluster_size(&self) -> Option<u64> { todo!() }
    pub async fn read(&self, at: u64, into: Buffer) -> Result<Buffer> { todo!() }
    /// Gives the buffer back.
    pub async fn write(&self, at: u64, from: Buffer, fua: Fua) -> Result<Buffer> { todo!() }
    pub async fn write_zeroes(&self, at: u64, len: u64, room: Room, fua: Fua) -> Result<()> { todo!() }
    pub async fn discard(&self, at: u64, len: u64, fua: Fua) -> Result<()> { todo!() }
    pub async fn flush(&self) -> Result<()> { todo!() }
    /// New size in bytes, at least the present one; a multiple of 512.
    pub async fn grow(&self, size: u64) -> Result<()> { todo!() }
    pub async fn block_status(&self, at: u64, len: u64) -> Result<BlockStatus> { todo!() }
    /// Call every five seconds: what has been idle since the last call is settled (NEED_CHECK cleared).
    pub async fn maintain(&self) -> Result<()> { todo!() }
    /// Drains, flushes, clears NEED_CHECK. Later requests fail with `Closed`.
    pub async fn close(&self) -> Result<()> { todo!() }
    pub fn cache_stats(&self) -> CacheStats { todo!() }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CacheStats { pub hits: u64, pub misses: u64, pub loads_shared: u64, pub evictions: u64, pub pinned: u64, pub bytes: u64 }

/// What a header says; nothing else is opened.
#[derive(Clone, Debug)]
pub struct ImageInfo {
    /// Virtual size in bytes.
    pub size: u64,
    pub cluster_size: u64,
    /// Clusters.
    pub table_size: u32,
    pub dirty: bool,
    pub backing: Option<BackingName>,
    /// bytes
    pub file_length: u64,
}
#[derive(Clone, Debug)]
pub struct BackingName {
    /// As the header has it.
    pub name: String,
    /// Resolved against the directory of the image that names it; None for protocol: and json: names
    pub path: Option<PathBuf>,
    /// BACKING_FORMAT_NO_PROBE is set.
    pub raw: bool,
}
/// Reads the header alone.
pub async fn inspect<O: Opener>(opener: &O, name: &Path, access: Access) -> Result<ImageInfo> { todo!() }
/// By magic: Qed, else Raw.
pub async fn probe<O: Opener>(opener: &O, name: &Path) -> Result<Format> { todo!() }

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repair { No, Yes }

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CheckReport {
    /// End of the file's whole clusters, bytes.
    pub image_end: u64,
    pub total_clusters: u64,
    pub allocated_clusters: u64,
    pub fragmented_clusters: u64,
    pub leaks: u64,
    pub corruptions: u64,
    pub corruptions_fixed: u64,
    pub leaks_fixed: u64,
    /// The first of what was found, in sentences with places; bounded.
    pub findings: Vec<String>,
}
/// Checks (and repairs as a writable open of a dirty image does).
pub async fn check<O: Opener>(opener: &O, name: &Path, access: Access, repair: Repair) -> Result<CheckReport> { todo!() }

/// Runs a future of the engine to its end on this thread.
pub fn block_on<F: Future>(future: F) -> F::Output { futures_lite::future::block_on(future) }
