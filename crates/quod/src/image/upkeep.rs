//! Bringing an image to rest: what time asks for, and the close.
//!
//! Role: [`maintain`](Image::maintain) settles what waits and what has been idle; [`close`](Image::close) settles all.
//!
//! Invariant: the file is cut, and NEED_CHECK cleared, behind the closed gate alone (D14).
//!
//! Absent on purpose: a clock. When it is called is the caller's.

use quod_storage::{Held, Storage};

use crate::commit::Top;
use crate::error::{Error, ErrorKind, Result};
use crate::image::{Image, Writing};
use crate::layer::{LayerKind, QedWriter};
use crate::sync::atomic::Ordering;

/// What becomes of the gate for metadata updates when an image has settled down.
#[derive(Clone, Copy, PartialEq, Eq)]
enum After {
    Open,
    Shut,
}

impl<S: Storage> Image<S> {
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
        let idle = writer.need_check.is_idle() && self.is_unsettled(writer);
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
    /// [`PendingBounds`](crate::PendingBounds), or half of the slices of the table cache that it may have kept. Never, where
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

    /// Completes when there is something that [`maintain`](Image::maintain) has yet to do, now or once the image has been idle.
    /// Who waits for it, some seconds, and then maintains, does nothing at all for an image that nobody changes.
    ///
    /// # Cancellation
    /// Nothing is left behind.
    pub async fn maintenance_wanted(&self) {
        let Some(writer) = &self.shared.writer else { return std::future::pending().await };
        let need_check = &writer.need_check;
        let unsettled = || self.is_unsettled(writer) || self.owes() || writer.overhang.get().is_none();
        // Who has a permit may yet leave something behind; once it has none, that can be seen.
        need_check.moved_or(|| !need_check.is_free() || unsettled()).await;
    }

    /// Whether the file is not yet what a close would leave.
    fn is_unsettled(&self, writer: &QedWriter) -> bool {
        writer.need_check.is_touched() || writer.end.has_a_tail()
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
}
