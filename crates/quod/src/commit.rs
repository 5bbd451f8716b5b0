//! Durability order: data, then L2, then L1; in this file and `grouped.rs` alone.
//!
//! Role: brings table entries into the file in the order that `docs/spec/durability-rules.md` asks for. Entries that fall
//! into one slice are written together, one write of a slice at a time. Under commit policy `through`, which is told here,
//! readers see them last; what is other under `grouped` is in `grouped.rs`.
//!
//! Crash states that `through` allows, for a cluster that a request allocates:
//! * no backing file: NEED_CHECK is durable; data and entry are each present or absent. Absent data reads as zeroes, as
//!   the guest had it before (D4);
//! * over a backing file: no entry (the guest sees the backing file), or an entry and the data (D5);
//! * a new L2 table: unreferenced, or linked and durable (D6). An entry in a table that is not linked is not reached.
//!
//! Invariant: a slice is composed of what the file has of it, and of what may go out (D7), by who holds its turn.
//!
//! Absent on purpose: undo. What a failed or cancelled write may have brought to the file stays queued, and goes out
//! again with the next write of its slice, with the next maintenance, or at the close.

use std::sync::Arc;

use quod_storage::{Buffer, Buffers, Held, Storage};

use crate::cache::{EntryRun, Kept, Pinned, SliceKey, TableLevel, Updates};
use crate::error::{Error, Result};
use crate::flush::Flusher;
use crate::geometry::{ENTRY, SECTOR};
use crate::layer::{Qed, QedWriter};
use crate::options::CommitPolicy;
use crate::table::{L2Entry, encode_entries};
use crate::units::{ClusterCount, FileOffset, FlushNumber, GuestOffset};

/// A QED image that is open for writing, through one storage handle.
pub(crate) struct Top<'a, S> {
    pub(crate) storage: &'a S,
    pub(crate) qed: &'a Qed,
    pub(crate) writer: &'a QedWriter,
    pub(crate) flusher: &'a Flusher,
    /// Whether unallocated clusters read from a backing file.
    pub(crate) over_backing: bool,
}

/// What a request wants in L2.
#[derive(Clone, Copy, Debug)]
pub(crate) enum NewEntries {
    /// Consecutive clusters of the file that hold the whole clusters' data.
    Data {
        /// Where the first one lies.
        room: FileOffset,
        /// So many bytes were written there.
        bytes: u64,
    },
    /// Zero markers.
    Zeroes,
}

impl<S: Storage> Top<'_, S> {
    /// The slice of L2 for `at`, pinned, to be handed to [`commit`](Top::commit). Where L1 has no table one is made, and
    /// linked, or its link promised (D6).
    ///
    /// # Errors
    /// As [`commit`](Top::commit).
    pub(crate) async fn table_for(&self, at: GuestOffset, held: &Held) -> Result<Pinned> {
        if let Some(slice) = self.qed.l2_slice(self.storage, at).await? {
            return Ok(slice);
        }
        let geometry = &self.qed.geometry;
        let index = geometry.l1_index(at);
        let turn = Arc::new(self.writer.tables.hold(index..=index).await);
        let held = Held::new(Arc::new((held.clone(), turn)));
        loop {
            let l1 = self.qed.l1_slice(self.storage, at).await?;
            if l1.waiting(Updates::unsettled) {
                self.settle(&l1, &held).await?;
                continue;
            }
            // Whoever held the entry before may have linked it, or others for a dropped request. This look comes last: a
            // link that is settled between a look and the question above would be seen by neither.
            if let Some(slice) = self.qed.l2_slice(self.storage, at).await? {
                return Ok(slice);
            }
            let table = self.new_table(&held).await?;
            let run = EntryRun { start: geometry.l1_slice(at).entry, count: 1, first: table.0, stride: 0 };
            match self.writer.policy {
                CommitPolicy::Through => {
                    self.flusher.flush(self.storage, &held).await?;
                    self.write_entries(&l1, run, &held).await?;
                }
                // A flush that begins from now on covers the length, and with it the zeroes that the table is made of.
                CommitPolicy::Grouped => self.promise(&l1, run, self.flusher.owed(), 0),
            }
        }
    }

    /// Fresh room for a table, which reads as zeroes: an empty one, once the length that covers it is durable.
    async fn new_table(&self, held: &Held) -> Result<FileOffset> {
        let geometry = &self.qed.geometry;
        let table = self.writer.end.allocate(self.storage, geometry.table_clusters(), held).await?;
        let end = table.0 + geometry.table_bytes();
        self.writer.end.reach(self.storage, table.0..end, held, &self.qed.file_length).await?;
        self.flusher.wrote();
        Ok(table)
    }

    /// Gives `clusters` clusters of the disk, from the one at `at` on, their entries. They lie in that slice, the
    /// caller holds them (`held`), and what the entries name holds the right bytes, lies inside the file (D3), and has been
    /// noted as written.
    ///
    /// # Errors
    /// `NoSpace`: the entries may go out later; `Latched`, `Corrupt`, `Io`.
    pub(crate) async fn commit(
        &self,
        slice: &Pinned,
        at: GuestOffset,
        clusters: ClusterCount,
        new: NewEntries,
        held: &Held,
    ) -> Result<()> {
        let start = self.qed.geometry.l2_slice(at).entry;
        let count = clusters.0 as usize;
        let (run, bytes, is_ordered) = match new {
            NewEntries::Data { room, bytes } => {
                let stride = self.qed.geometry.cluster_size();
                (EntryRun { start, count, first: room.0, stride }, bytes, self.over_backing)
            }
            NewEntries::Zeroes => (EntryRun { start, count, first: 1, stride: 0 }, 0, false),
        };
        match self.writer.policy {
            CommitPolicy::Through => {
                if is_ordered {
                    self.flusher.flush(self.storage, held).await?;
                }
                self.write_entries(slice, run, held).await
            }
            CommitPolicy::Grouped => {
                let after = if is_ordered { self.flusher.owed() } else { FlushNumber::NONE };
                self.promise(slice, run, after, bytes);
                Ok(())
            }
        }
    }

    /// Clears the L1 entry of a table that lies past the end of the disk whole, so that nobody has looked into it.
    ///
    /// # Errors
    /// As [`commit`](Top::commit).
    pub(crate) async fn unlink(&self, at: GuestOffset) -> Result<()> {
        let geometry = &self.qed.geometry;
        let (index, entry) = (geometry.l1_index(at), geometry.l1_slice(at).entry);
        let l1 = self.qed.l1_slice(self.storage, at).await?;
        // In this order: what is settled between the two is published by then.
        if !l1.waiting(Updates::unsettled) && l1.entry(entry) == L2Entry::Unallocated.encode() {
            return Ok(());
        }
        let permit = self.writer.need_check.permit(self.storage, self.flusher).await?;
        let turn = self.writer.tables.hold(index..=index).await;
        let run = EntryRun { start: entry, count: 1, first: L2Entry::Unallocated.encode(), stride: 0 };
        match self.writer.policy {
            CommitPolicy::Through => self.write_entries(&l1, run, &Held::new(Arc::new((permit, turn)))).await,
            CommitPolicy::Grouped => {
                self.promise(&l1, run, FlushNumber::NONE, 0);
                Ok(())
            }
        }
    }

    /// Writes a run of entries, with whatever else waits for the same slice, then publishes them.
    async fn write_entries(&self, slice: &Pinned, run: EntryRun, held: &Held) -> Result<()> {
        // Dropped last, also when this future is: only then is it known whether the entries stay.
        let remembered = Unsettled { kept: &self.qed.cache.kept, slice };
        self.qed.cache.unpack(slice);
        let mine = slice.enqueue(run);
        let turn = slice.take_turn().await;
        let outcome = if mine.is_settled() {
            Ok(())
        } else {
            self.write_waiting(slice, FlushNumber::NONE, &Held::new(Arc::new((held.clone(), turn.clone()))))
                .await
        };
        drop(mine);
        drop(remembered);
        outcome
    }

    /// Sends out again what an earlier write of the slice may or may not have brought to the file.
    async fn settle(&self, slice: &Pinned, held: &Held) -> Result<()> {
        self.write_slice(slice, FlushNumber::NONE, held).await
    }

    /// Writes what waits for the slice and needs no flush later than `flushed`.
    ///
    /// # Errors
    /// As [`commit`](Top::commit); what did not go out stays.
    pub(crate) async fn write_slice(&self, slice: &Pinned, flushed: FlushNumber, held: &Held) -> Result<()> {
        let turn = slice.take_turn().await;
        self.write_waiting(slice, flushed, &Held::new(Arc::new((held.clone(), turn)))).await
    }

    /// Sends out again what is left of failed and cancelled requests for held clusters of one slice, so that a lookup by
    /// the holder is the last word on them.
    ///
    /// # Errors
    /// As [`commit`](Top::commit); what did not go out stays.
    pub(crate) async fn settle_held(&self, at: GuestOffset, len: u64, held: &Held) -> Result<()> {
        match self.leftovers(at, len) {
            Some(slice) => self.settle(&slice, held).await,
            None => Ok(()),
        }
    }

    /// The slice that covers the range, when failed or cancelled requests have left entries for it behind.
    pub(crate) fn leftovers(&self, at: GuestOffset, len: u64) -> Option<Pinned> {
        if self.writer.policy == CommitPolicy::Grouped || self.qed.cache.kept.is_empty() {
            return None;
        }
        let geometry = &self.qed.geometry;
        let place = geometry.l2_slice(at);
        // Whoever leaves entries behind keeps their slice pinned, so it is here.
        let slice = self.qed.cache.pin(SliceKey { level: TableLevel::L2, index: place.index })?;
        let covered = geometry.in_cluster(at) + len.min(geometry.left_in_slice(at));
        let entries = place.entry..place.entry + geometry.clusters_for(covered).0 as usize;
        slice.waiting(|updates| updates.unsettled_in(&entries)).then_some(slice)
    }

    /// Makes durable all that completed before the call.
    ///
    /// # Errors
    /// As [`commit`](Top::commit).
    pub(crate) async fn make_durable(&self, held: &Held) -> Result<()> {
        self.drain().await?;
        self.flusher.flush(self.storage, held).await
    }

    /// Sends out all that the file is owed, be it promised, or left behind by failed and cancelled requests.
    ///
    /// # Errors
    /// As [`commit`](Top::commit); what did not go out stays.
    pub(crate) async fn settle_all(&self) -> Result<()> {
        if self.writer.policy == CommitPolicy::Grouped {
            return self.drain().await;
        }
        loop {
            let Some(slice) = self.qed.cache.kept.first() else { return Ok(()) };
            let permit = self.writer.need_check.permit(self.storage, self.flusher).await?;
            self.settle(&slice, &Held::new(permit)).await?;
        }
    }

    /// Under the slice's turn: all that waits and may go out goes to the file in one write, and readers see it.
    async fn write_waiting(&self, slice: &Pinned, flushed: FlushNumber, held: &Held) -> Result<()> {
        self.flusher.check()?;
        let kept = &self.qed.cache.kept;
        let attempt = slice.waiting(|updates| updates.attempt(flushed));
        if attempt.runs.is_empty() {
            kept.let_go(slice);
            return Ok(());
        }
        // Before the file may have the entries: one that comes late must not find its cluster cut off.
        attempt.runs.iter().for_each(|run| self.writer.end.note_referenced(self.end_of_named(slice, run)));
        let (first, bytes) = compose(slice, &attempt.runs);
        let at = slice.at().plus(first);
        let written = self.storage.write_at(at.0, Buffers::from(bytes).holding(held.clone())).await;
        written.map_err(|source| {
            self.flusher.metadata_failed(Error::io(format!("the table at {at} cannot be written"), source))
        })?;
        self.flusher.wrote();
        let entries = attempt.runs.iter().map(|run| run.count as u64).sum();
        self.writer.pending.take(entries, slice.settle(&attempt));
        kept.let_go(slice);
        Ok(())
    }

    /// Where what a run of the slice's entries names ends in the file.
    fn end_of_named(&self, slice: &Pinned, run: &EntryRun) -> u64 {
        let geometry = &self.qed.geometry;
        let last = run.entries().last().map_or(L2Entry::Unallocated, |(_, value)| L2Entry::decode(value));
        match (slice.key().level, last) {
            (TableLevel::L1, L2Entry::Data(table)) => table.0 + geometry.table_bytes(),
            (TableLevel::L2, L2Entry::Data(cluster)) => cluster.0 + geometry.cluster_size(),
            (_, L2Entry::Unallocated | L2Entry::Zero) => 0,
        }
    }
}

/// The smallest whole sectors of the slice that hold the runs: what the file has there, and the runs over it.
fn compose(slice: &Pinned, runs: &[EntryRun]) -> (u64, Buffer) {
    let unit = (SECTOR / ENTRY) as usize;
    let start = runs.iter().map(|run| run.start).min().unwrap_or(0) / unit * unit;
    let end = runs.iter().map(|run| run.start + run.count).max().unwrap_or(0).next_multiple_of(unit);
    let mut entries = slice.in_file(start..end);
    for (index, value) in runs.iter().flat_map(EntryRun::entries) {
        entries[index - start] = value;
    }
    let mut bytes = Buffer::zeroed(entries.len() * ENTRY as usize);
    encode_entries(entries.into_iter(), &mut bytes);
    (start as u64 * ENTRY, bytes)
}

/// Keeps a slice when a write of it is left unsettled, whether by an error or by a dropped future.
struct Unsettled<'a> {
    kept: &'a Kept,
    slice: &'a Pinned,
}

impl Drop for Unsettled<'_> {
    fn drop(&mut self) {
        self.kept.keep(self.slice);
    }
}
