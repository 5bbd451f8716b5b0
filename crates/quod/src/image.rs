//! The guest-visible disk: open, create, and what every request checks first.
//!
//! Role: an [`Image`] is a chain of layers with storage handles beside them. Request paths are
//! in `read.rs`, `write.rs`, `zero.rs`; maintenance and close in `image/upkeep.rs`, what is counted in `image/stats.rs`.
//!
//! Invariants: only layer 0 is written to. After [`close`](Image::close) every request fails.
//!
//! Absent on purpose: a runtime, threads, a clock, and background work: [`maintain`](Image::maintain) is the caller's
//! to call.

pub(crate) mod stats;
mod upkeep;

use std::path::Path;
use std::sync::Arc;

use quod_storage::{Access, Held, Opener, Storage};

use crate::cache::Stats;
use crate::chain::{self, Opened};
use crate::commit::Top;
use crate::create;
use crate::error::{Error, ErrorKind, Result};
use crate::flush::Flusher;
use crate::layer::{Layer, LayerKind, QedWriter};
use crate::options::{CreateOptions, Format, Fua, OpenOptions};
use crate::probe::{Change, Guard};
use crate::strays::Strays;
use crate::sync::atomic::{AtomicBool, Ordering};
use crate::turn::{Turn, TurnGuard};

/// An open image. Clones are the same image; it may be used from any number of tasks, and from any number of threads
/// where the storage may.
///
/// Close it with [`close`](Image::close): an image that is merely dropped is left as by a crash.
pub struct Image<S> {
    shared: Arc<Shared>,
    storages: Arc<[S]>,
}

/// What all handles of an image share. Owns no storage.
struct Shared {
    layers: Vec<Layer>,
    flusher: Arc<Flusher>,
    strays: Strays,
    /// For one grow at a time.
    growing: Turn,
    /// For a writable QED image.
    writer: Option<QedWriter>,
    /// For a writable raw one whose format nobody named.
    guard: Option<Guard>,
    writable: bool,
    closed: AtomicBool,
    /// The close has come to a good end.
    in_order: AtomicBool,
}

/// The way to write to the top layer.
pub(crate) enum Writing<'a, S> {
    Raw { storage: &'a S, guard: Option<&'a Guard> },
    Qed(Top<'a, S>),
}

impl<S> Clone for Image<S> {
    fn clone(&self) -> Self {
        Image { shared: Arc::clone(&self.shared), storages: Arc::clone(&self.storages) }
    }
}

impl<S: Storage> Image<S> {
    /// Makes a new, empty QED image, durably. An existing file of that name is emptied or kept, once its lock is had.
    ///
    /// # Errors
    /// `InvalidArgument` for a geometry or size that the format forbids; `Locked`; `Io`, with `AlreadyExists` from the system
    /// for a file that is kept.
    ///
    /// # Cancellation
    /// May leave a file that is no image yet.
    pub async fn create<O: Opener<Storage = S>>(
        opener: &O,
        name: &Path,
        options: &CreateOptions,
    ) -> Result<()> {
        create::create(opener, name, options).await.map_err(|error| error.in_image(name))
    }

    /// Opens an image and, where the options allow, its backing files. A dirty image is checked and repaired first
    /// when it is opened for writing (D12). Over [`FileOpener`](quod_storage::FileOpener) a locked image blocks the thread
    /// for a second before it is refused.
    ///
    /// # Errors
    /// `NotQed`, `InvalidHeader`, `UnsupportedFeature`; `BackingDenied`, `BackingUnavailable`, `BackingLoop`;
    /// `Locked`; `Corrupt` when a dirty image cannot be repaired; `Io`.
    ///
    /// # Cancellation
    /// A repair may have been done in part; the next open begins again.
    pub async fn open<O: Opener<Storage = S>>(
        opener: &O,
        name: &Path,
        options: &OpenOptions,
    ) -> Result<Self> {
        let Opened { layers, storages, writer, guard } = chain::open(opener, name, options).await?;
        let flusher = Arc::default();
        let shared = Shared {
            layers,
            strays: Strays::new(Arc::clone(&flusher)),
            flusher,
            growing: Turn::default(),
            writer,
            guard,
            writable: options.access == Access::Write,
            closed: AtomicBool::new(false),
            in_order: AtomicBool::new(false),
        };
        Ok(Image { shared: Arc::new(shared), storages: storages.into() })
    }

    /// Size of the disk in bytes.
    pub fn size(&self) -> u64 {
        self.layers()[0].size()
    }

    /// Format of the image itself.
    pub fn format(&self) -> Format {
        match self.layers()[0].kind {
            LayerKind::Qed(_) => Format::Qed,
            LayerKind::Raw(_) => Format::Raw,
        }
    }

    /// Whether it was opened for writing.
    pub fn is_writable(&self) -> bool {
        self.shared.writable
    }

    /// Bytes of a cluster; `None` for a raw image.
    pub fn cluster_size(&self) -> Option<u64> {
        match &self.layers()[0].kind {
            LayerKind::Qed(qed) => Some(qed.geometry.cluster_size()),
            LayerKind::Raw(_) => None,
        }
    }

    /// The names of the image and its backing files, top first, as they were opened.
    pub fn chain(&self) -> impl Iterator<Item = &Path> {
        self.layers().iter().map(|layer| layer.name.as_path())
    }

    /// What the table cache of the image itself did so far; all zeroes for a raw image.
    pub fn cache_stats(&self) -> Stats {
        match &self.layers()[0].kind {
            LayerKind::Qed(qed) => qed.cache.stats(),
            LayerKind::Raw(_) => Stats::default(),
        }
    }

    /// Makes every write durable that completed before the call. Requests that flush together share one flush.
    ///
    /// # Errors
    /// The flush failed, or an earlier one did (`Latched`): nothing is known about what was to become durable, and no
    /// more is written. `NoSpace`: entries that were pending found no room; they stay so, and a later flush may succeed.
    ///
    /// # Cancellation
    /// The flush may or may not take place.
    pub async fn flush(&self) -> Result<()> {
        self.check_open()?;
        if !self.shared.writable {
            return Ok(());
        }
        let writing = self.writing(0, 0)?;
        self.complete(&writing, Fua::Yes).await
    }

    pub(crate) fn layers(&self) -> &[Layer] {
        &self.shared.layers
    }

    pub(crate) fn storage(&self, depth: usize) -> &S {
        &self.storages[depth]
    }

    pub(crate) fn flusher(&self) -> &Flusher {
        &self.shared.flusher
    }

    pub(crate) fn strays(&self) -> &Strays {
        &self.shared.strays
    }

    pub(crate) fn writer(&self) -> Option<&QedWriter> {
        self.shared.writer.as_ref()
    }

    pub(crate) fn growing(&self) -> &Turn {
        &self.shared.growing
    }

    /// Names the image in an error about its own layer.
    pub(crate) fn blame<T>(&self, outcome: Result<T>) -> Result<T> {
        self.layers()[0].blame(outcome)
    }

    pub(crate) fn invalid(&self, sentence: &str) -> Error {
        Error::new(ErrorKind::InvalidArgument, sentence).in_image(&self.layers()[0].name)
    }

    pub(crate) fn check_open(&self) -> Result<()> {
        if self.shared.closed.load(Ordering::Acquire) {
            return self.blame(Err(Error::new(ErrorKind::Closed, "the image is closed")));
        }
        Ok(())
    }

    pub(crate) fn check_range(&self, at: u64, len: u64) -> Result<()> {
        let size = self.size();
        if at.checked_add(len).is_none_or(|end| end > size) {
            return Err(
                self.invalid(&format!("{len} bytes from {at} reach past the end of the disk, {size}"))
            );
        }
        Ok(())
    }

    /// What every request that writes begins with.
    pub(crate) fn writing(&self, at: u64, len: u64) -> Result<Writing<'_, S>> {
        self.check_open()?;
        if !self.shared.writable {
            return self.blame(Err(Error::new(ErrorKind::ReadOnly, "the image is open read-only")));
        }
        self.check_range(at, len)?;
        self.blame(self.flusher().check())?;
        Ok(self.way_to_write())
    }

    fn way_to_write(&self) -> Writing<'_, S> {
        match (&self.layers()[0].kind, &self.shared.writer) {
            (LayerKind::Qed(qed), Some(writer)) => Writing::Qed(Top {
                storage: self.storage(0),
                qed,
                writer,
                flusher: &self.shared.flusher,
                over_backing: self.layers().len() > 1,
            }),
            _ => Writing::Raw { storage: self.storage(0), guard: self.shared.guard.as_ref() },
        }
    }

    /// Lets a change of a raw disk through its guard, where it has one.
    pub(crate) async fn admit(
        &self,
        storage: &S,
        guard: Option<&Guard>,
        at: u64,
        change: Change<'_>,
    ) -> Result<Option<TurnGuard>> {
        match guard {
            None => Ok(None),
            Some(guard) => self.blame(guard.admit(storage, self.strays(), at, change).await),
        }
    }

    /// What every request that writes ends with.
    pub(crate) async fn complete(&self, writing: &Writing<'_, S>, fua: Fua) -> Result<()> {
        if fua == Fua::No {
            return Ok(());
        }
        self.flusher().note_asked();
        self.blame(match writing {
            Writing::Raw { storage, .. } => self.flusher().flush(*storage, &Held::NOTHING).await,
            Writing::Qed(top) => top.make_durable(&Held::NOTHING).await,
        })
    }
}

impl<S> std::fmt::Debug for Image<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Image({})", self.shared.layers[0].name.display())
    }
}
