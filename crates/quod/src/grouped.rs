//! Commit policy `grouped`: entries are promised to readers, and go to the file many at a time.
//!
//! Role: a first write that has its data in the file promises the entry, and is done. A batch then brings all that is
//! promised to the file, in the order of rule D7: tables that L1 has no link to yet, with their entries; a flush, which
//! covers those and all data; entries of the tables that L1 leads to, and the new links. A guest's flush is a batch and one
//! flush more.
//!
//! Crash states, for a cluster that a request allocates:
//! * over a backing file: no entry (the guest sees the backing file), or an entry and the data (D5). An entry goes out only
//!   after a flush that began when its data was complete: it knows the number of that flush;
//! * no backing file: as under `through` (D4);
//! * a new L2 table: unreferenced; or linked, with what its slices had by the flush before (D6). Until a link was tried, its
//!   table's entries are reached by nobody, and go out without waiting for their data.
//!
//! Invariants: only the batch whose turn it is writes tables. It composes a slice from what the file has and what may go
//! out, never from the visible entries. Each step can be repeated: what a failed or dropped batch leaves stays promised, and
//! the next one begins anew, once the storage has let go of the turn. A slice that finds no room keeps no other waiting,
//! but for a link to it.
//!
//! Absent on purpose: leftovers. A promised entry is visible, so nothing comes up later that was not seen.

use std::ops::RangeInclusive;
use std::sync::Arc;

use quod_storage::{Held, Storage};

use crate::cache::{Amount, EntryRun, Pinned, Promise, SliceKey, TableLevel, Updates};
use crate::commit::Top;
use crate::error::{Error, ErrorKind, Result};
use crate::geometry::SLICE_ENTRIES_BITS;
use crate::options::CommitPolicy;
use crate::turn::TurnGuard;
use crate::units::FlushNumber;

impl<S: Storage> Top<'_, S> {
    /// Waits until there is room for more promises. Before anything is held: a batch takes the right to update metadata.
    ///
    /// # Errors
    /// As [`drain`](Top::drain): nothing was begun.
    pub(crate) async fn room_for_promises(&self) -> Result<()> {
        let is_full = || self.writer.pending.is_full(self.qed.cache.kept.len());
        if self.writer.policy == CommitPolicy::Through || !is_full() {
            return Ok(());
        }
        let turn = self.writer.pending.turn.take().await;
        // The batch before may have made room.
        if !is_full() {
            return Ok(());
        }
        match self.batch(turn).await {
            // Some of it did.
            Err(error) if error.kind() == ErrorKind::NoSpace && !is_full() => Ok(()),
            outcome => outcome,
        }
    }

    /// Shows readers entries whose data is in the file, and owes them to the file. `bytes` were written for them.
    pub(crate) fn promise(&self, slice: &Pinned, run: EntryRun, after: FlushNumber, bytes: u64) {
        let (pending, kept) = (&self.writer.pending, &self.qed.cache.kept);
        self.qed.cache.unpack(slice);
        // Counted first: a batch may have it in the file in the next moment.
        pending.add(Amount { entries: run.count as u64, bytes });
        kept.promise(slice, run, Promise { after, bytes });
        pending.tell_if_due(kept.len());
    }

    /// Brings everything to the file that is promised when this is called. Who wait together share one batch.
    ///
    /// # Errors
    /// `NoSpace`: what is promised stays so, and goes out with a later batch; `Latched`, `Closed`, `Io`.
    pub(crate) async fn drain(&self) -> Result<()> {
        let pending = &self.writer.pending;
        let Some(wanted) = pending.wanted() else { return Ok(()) };
        let turn = pending.turn.take().await;
        if pending.is_done(wanted) || pending.wanted().is_none() {
            return Ok(());
        }
        self.batch(turn).await
    }

    async fn batch(&self, turn: TurnGuard) -> Result<()> {
        let pending = &self.writer.pending;
        let permit = self.writer.need_check.permit(self.storage, self.flusher).await?;
        let held = Held::new(Arc::new((turn, permit)));
        let number = pending.begin();
        let mut short = None;
        self.write_unlinked(&held, &mut short).await?;
        let slices = self.qed.cache.kept.all();
        let waits_for = slices.iter().map(|slice| slice.waiting(Updates::waits_for)).max();
        if waits_for > Some(self.flusher.done()) {
            self.flusher.flush(self.storage, &held).await?;
        }
        // Links first: in the order of keys.
        for slice in slices {
            fits(self.write_slice(&slice, self.flusher.done(), &held).await, &mut short)?;
        }
        if let Some(error) = short {
            return Err(error);
        }
        pending.end(number);
        Ok(())
    }

    /// Writes entries of tables that L1 has no link to, in the file. A link then waits for a flush that covers them; where
    /// they found no room, for another batch.
    async fn write_unlinked(&self, held: &Held, short: &mut Option<Error>) -> Result<()> {
        let kept = &self.qed.cache.kept;
        for l1 in kept.among(keys(TableLevel::L1, 0..=u64::MAX)) {
            let first = l1.key().index << SLICE_ENTRIES_BITS;
            for (place, _) in l1.waiting(Updates::unattempted) {
                let slices = self.qed.geometry.slices_of_table(first + place as u64);
                let mut is_whole = true;
                for slice in kept.among(keys(TableLevel::L2, slices)) {
                    is_whole &= fits(self.write_slice(&slice, FlushNumber::ALL, held).await, short)?;
                }
                let after = if is_whole { self.flusher.owed() } else { FlushNumber::ALL };
                l1.waiting(|updates| updates.wait_for(place, after));
            }
        }
        Ok(())
    }
}

/// Whether what was to be written has found room; remembers the first error of what has not.
fn fits(outcome: Result<()>, short: &mut Option<Error>) -> Result<bool> {
    match outcome {
        Err(error) if error.kind() == ErrorKind::NoSpace => {
            short.get_or_insert(error);
            Ok(false)
        }
        other => other.map(|()| true),
    }
}

fn keys(level: TableLevel, indices: RangeInclusive<u64>) -> RangeInclusive<SliceKey> {
    SliceKey { level, index: *indices.start() }..=SliceKey { level, index: *indices.end() }
}
