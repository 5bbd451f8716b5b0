//! Growth of the disk.
//!
//! Role: what lies past the old end must not show, whether in the old last cluster, by stray entries, or in a longer
//! backing file; once that is durable, the new size is written (D11).
//!
//! Crash states: the old size or the new one; of a raw disk perhaps one between. Entries past the end are not reached under
//! the old one. The size of a disk is changed in place: one whose future was dropped is a stray (`strays.rs`).
//!
//! Absent on purpose: shrinking.

use std::sync::Arc;

use quod_storage::{Held, Storage};

use crate::commit::{NewEntries, Top};
use crate::error::{Error, ErrorKind, Result};
use crate::geometry::{MAX_IMAGE_SIZE, SECTOR};
use crate::header::HEADER_BYTES;
use crate::image::{Image, Writing};
use crate::layer::LayerKind;
use crate::options::Room;
use crate::sync::atomic::Ordering;
use crate::table::L2Entry;
use crate::units::GuestOffset;
use crate::zero::Wish;

impl<S: Storage> Image<S> {
    /// Makes the disk `size` bytes long; the new part reads as zeroes. Crash states: the old size or the new one (D11); of a
    /// raw disk perhaps one between.
    ///
    /// # Errors
    /// `InvalidArgument` when `size` is smaller than the disk, no multiple of 512, or more than the image's geometry can
    /// address; otherwise as [`write`](Image::write).
    ///
    /// # Cancellation
    /// The disk keeps its size while it is open; opened again, it may have either one. What was cleared past the end does
    /// not show.
    pub async fn grow(&self, size: u64) -> Result<()> {
        let writing = self.writing(0, 0)?;
        let old = self.size();
        if size < old {
            return Err(self.invalid(&format!("the disk has {old} bytes and cannot shrink to {size}")));
        }
        if !size.is_multiple_of(SECTOR) {
            return Err(self.invalid(&format!("a disk of {size} bytes: it must be a multiple of {SECTOR}")));
        }
        let turn = self.growing().take().await;
        if size <= self.size() {
            // Nothing to do, or another grow was faster.
            return Ok(());
        }
        match &writing {
            Writing::Raw { storage, .. } => self.blame(self.grow_raw(*storage, size, &Held::new(turn)).await),
            Writing::Qed(top) => self.blame(self.grow_qed(top, size, &Held::new(turn)).await),
        }
    }

    /// Until the new size is noted, `held` keeps others out: to them the file would be as short as before, and a smaller
    /// growth would cut it.
    async fn grow_raw(&self, storage: &S, size: u64, held: &Held) -> Result<()> {
        let growth = self.strays().begin(self.size()..u64::MAX).await;
        let grown = storage.set_len(size, Held::new(Arc::new((held.clone(), growth.held())))).await;
        growth.done();
        grown.map_err(|source| Error::io(format!("the file cannot grow to {size} bytes"), source))?;
        if let LayerKind::Raw(length) = &self.layers()[0].kind {
            length.fetch_max(size, Ordering::AcqRel);
        }
        Ok(())
    }

    async fn grow_qed(&self, top: &Top<'_, S>, size: u64, held: &Held) -> Result<()> {
        let most = top.qed.geometry.max_image_size().min(MAX_IMAGE_SIZE.into());
        if u128::from(size) > most {
            return Err(
                self.invalid(&format!("a disk of {size} bytes: this image's tables reach {most} bytes"))
            );
        }
        let old = top.qed.image_size();
        let geometry = &top.qed.geometry;
        let last_end = geometry.bytes_of(geometry.clusters_for(old)).min(size);
        self.clear_qed(top, old, last_end - old, Wish::Zeroes, Room::GiveBack).await?;
        let mut at = GuestOffset(last_end);
        while at.0 < size {
            at = at.plus(self.clear_past_end(top, at, size - at.0).await?);
        }
        top.flusher.wrote();
        top.make_durable(held).await?;
        let growth = self.strays().begin(0..HEADER_BYTES as u64).await;
        let held = Held::new(Arc::new((held.clone(), growth.held())));
        let written = top.writer.need_check.set_image_size(top.storage, top.flusher, size, &held).await;
        growth.done();
        written?;
        top.qed.set_image_size(size);
        Ok(())
    }

    /// Clears from a cluster past the old end on; returns how far. Stray entries there may name what is another's, so it is
    /// the entries that go, not what they name.
    async fn clear_past_end(&self, top: &Top<'_, S>, at: GuestOffset, len: u64) -> Result<u64> {
        let geometry = &top.qed.geometry;
        let len = len.min(geometry.left_in_table(at));
        let table = geometry.l1_index(at);
        if geometry.table_start(table) == at && table >= top.writer.tables_cleared.load(Ordering::Acquire) {
            // A table that lies past the old end whole: nothing of the guest's is in it.
            top.unlink(at).await?;
            // From here on what L1 names there is ours, also when this growth fails and the next one comes by.
            top.writer.tables_cleared.store(table + 1, Ordering::Release);
        }
        match top.qed.survey(top.storage, at, len).await {
            Ok(mapping) if !matches!(mapping.entry, L2Entry::Data(_)) => {
                self.clear_qed(top, at.0, mapping.len, Wish::Zeroes, Room::GiveBack).await?;
                Ok(mapping.len)
            }
            Err(error) if error.kind() != ErrorKind::Corrupt => Err(error),
            Ok(_) | Err(_) => {
                let len = len.min(geometry.left_in_slice(at));
                top.room_for_promises().await?;
                let claim = top.claim_entries(at, len).await?;
                let slice = top.table_for(at, &claim).await?;
                top.commit(&slice, at, geometry.clusters_for(len), NewEntries::Zeroes, &claim).await?;
                Ok(len)
            }
        }
    }
}
