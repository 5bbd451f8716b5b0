//! The guest-visible disk: open, create, close, and what every request checks first.
//!
//! Role: an [`Image`] is a chain of layers with storage handles beside them. Request paths are
//! in `read.rs`, `write.rs`, `zero.rs`.
//!
//! Invariants: only layer 0 is written to. After [`close`](Image::close) every request fails.
//!
//! Absent on purpose: a runtime, threads, a clock, and background work: [`maintain`](Image::maintain) is the caller's
//! to call.

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

/// What becomes of the gate for metadata updates when an image has settled down.
#[derive(Clone, Copy, PartialEq, Eq)]
enum After {
    Open,
    Shut,
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

    /// Does what time asks for; call it at once and then every five seconds or so. The first call looks through the tables,
    /// which otherwise the first allocation does, and tells when the image is damaged. Later ones bring to the file what is
    /// pending under [`CommitPolicy::Grouped`](crate::CommitPolicy::Grouped), and what failed and cancelled requests have
    /// left behind; and when no metadata was updated since the last call, everything is flushed, the file is cut back to what
    /// is referenced, and NEED_CHECK is cleared, so that a crash finds nothing to repair. Nothing depends on it being called.
    ///
    /// # Errors
    /// As [`flush`](Image::flush); once `Corrupt`, when nothing can be allocated in a damaged image.
    ///
    /// # Cancellation
    /// May leave NEED_CHECK set.
    pub async fn maintain(&self) -> Result<()> {
        self.check_open()?;
        let Some(writer) = &self.shared.writer else { return Ok(()) };
        let unsettled = writer.need_check.is_touched() || writer.end.has_a_tail();
        let idle = writer.need_check.is_idle() && unsettled;
        if !idle && !self.owes() && writer.overhang.get().is_some() {
            return Ok(());
        }
        match self.writing(0, 0)? {
            Writing::Qed(top) if writer.overhang.get().is_none() => self.blame(top.vet().await),
            Writing::Qed(top) if idle => self.blame(self.settle_down(&top, After::Open).await),
            Writing::Qed(top) => self.blame(top.settle_all().await),
            Writing::Raw { .. } => Ok(()),
        }
    }

    /// Completes when so much waits for the file that [`maintain`](Image::maintain) is due before its time: half of
    /// [`PendingBounds`](crate::PendingBounds), or slices that take an eighth of the table cache's budget. Never, where
    /// nothing is kept waiting. When `maintain` fails, it may be due again at once: leave it some time.
    ///
    /// # Cancellation
    /// Nothing is left behind.
    pub async fn maintenance_due(&self) {
        match (&self.layers()[0].kind, &self.shared.writer) {
            (LayerKind::Qed(qed), Some(writer)) => writer.pending.half_full(|| qed.cache.kept.len()).await,
            _ => std::future::pending().await,
        }
    }

    /// Whether what is pending is at its bounds: the next first write brings it to the file before it begins, and waits for
    /// a flush. May be otherwise a moment later.
    pub fn first_writes_wait(&self) -> bool {
        match (&self.layers()[0].kind, &self.shared.writer) {
            (LayerKind::Qed(qed), Some(writer)) => writer.pending.is_full(qed.cache.kept.len()),
            _ => false,
        }
    }

    /// Ends the use of the image: waits for updates of metadata, flushes, cuts the file back to what is referenced, and
    /// clears NEED_CHECK (D14). Requests that come later fail, and so do those under way that have yet to allocate; reads
    /// and writes in place that still run may go on to their end, without being covered.
    ///
    /// # Errors
    /// As [`flush`](Image::flush). The image is closed all the same; without a backing file NEED_CHECK tells the next user. `Closed` when an
    /// earlier close failed, was dropped, or still runs; after one that succeeded it does nothing.
    ///
    /// # Cancellation
    /// Leaves the image closed, as by a crash after what was done.
    pub async fn close(&self) -> Result<()> {
        if self.shared.closed.swap(true, Ordering::AcqRel) {
            return match self.shared.in_order.load(Ordering::Acquire) {
                true => Ok(()),
                false => self.blame(Err(Error::new(
                    ErrorKind::Closed,
                    "an earlier close of the image has not come to a good end",
                ))),
            };
        }
        let outcome = if self.shared.writable { self.close_written().await } else { Ok(()) };
        self.shared.in_order.store(outcome.is_ok(), Ordering::Release);
        outcome
    }

    async fn close_written(&self) -> Result<()> {
        self.strays().landed(&(0..u64::MAX)).await;
        let outcome = match self.way_to_write() {
            Writing::Raw { storage, .. } => self.flusher().flush(storage, &Held::NOTHING).await,
            Writing::Qed(top) => {
                let settled = self.settle_down(&top, After::Shut).await;
                top.writer.need_check.shut_gate();
                match settled {
                    // What found no room keeps nothing else from the disk.
                    Err(error) if error.kind() == ErrorKind::NoSpace => {
                        top.flusher.flush(top.storage, &Held::NOTHING).await.and(Err(error))
                    }
                    settled => settled,
                }
            }
        };
        self.blame(outcome)
    }

    /// What waits goes out; then, behind the closed gate, all is made durable, the file is cut back to what is referenced
    /// (nobody would cut it after a crash once the bit is clear), and the bit is cleared.
    async fn settle_down(&self, top: &Top<'_, S>, after: After) -> Result<()> {
        let gate = loop {
            top.settle_all().await?;
            let gate = top.writer.need_check.close_gate().await;
            // Whoever was waited for may have left something behind.
            if top.qed.cache.kept.is_empty() {
                break Held::new(gate);
            }
            if after == After::Open {
                // Not idle any more.
                return Ok(());
            }
        };
        if after == After::Shut {
            top.writer.need_check.shut_gate();
        }
        top.flusher.flush(top.storage, &gate).await?;
        if top.writer.end.cut(top.storage, &gate).await? {
            top.flusher.wrote();
            top.flusher.flush(top.storage, &gate).await?;
        }
        top.writer.need_check.clear(top.storage, top.flusher, &gate).await
    }

    /// Whether entries wait for the file that outlive their request.
    fn owes(&self) -> bool {
        match &self.layers()[0].kind {
            LayerKind::Qed(qed) => !qed.cache.kept.is_empty(),
            LayerKind::Raw(_) => false,
        }
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
        self.blame(match (fua, writing) {
            (Fua::No, _) => Ok(()),
            (Fua::Yes, Writing::Raw { storage, .. }) => self.flusher().flush(*storage, &Held::NOTHING).await,
            (Fua::Yes, Writing::Qed(top)) => top.make_durable(&Held::NOTHING).await,
        })
    }
}

impl<S> std::fmt::Debug for Image<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Image({})", self.shared.layers[0].name.display())
    }
}
