//! Growth of the disk.
//!
//! Role: what lies past the old end must not show, whether in the old last cluster, by stray entries, or in a longer
//! backing file; once that is durable, the new size is written (D11).
//!
//! Crash states: the old size or the new one. Entries past the end are not reached under the old one.
//!
//! Absent on purpose: shrinking.

use std::sync::atomic::Ordering;

use quod_storage::{Held, Storage};

use crate::commit::{NewEntries, Top};
use crate::error::{Error, Result};
use crate::geometry::{MAX_IMAGE_SIZE, SECTOR};
use crate::image::{Image, Writing};
use crate::layer::LayerKind;
use crate::table::L2Entry;
use crate::units::GuestOffset;
use crate::zero::{Room, Wish};

impl<S: Storage> Image<S> {
    /// Makes the disk `size` bytes long; the new part reads as zeroes. Crash states: the old size or the new one (D11).
    ///
    /// # Errors
    /// `InvalidArgument` when `size` is smaller than the disk, no multiple of 512, or more than the image's geometry can
    /// address; otherwise as [`write`](Image::write).
    ///
    /// # Cancellation
    /// The size stays, and what was cleared past the end does not show.
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
            Writing::Raw { storage, .. } => self.blame(self.grow_raw(*storage, size, Held::new(turn)).await),
            Writing::Qed(top) => self.blame(self.grow_qed(top, size, Held::new(turn)).await),
        }
    }

    async fn grow_raw(&self, storage: &S, size: u64, held: Held) -> Result<()> {
        let grown = storage.set_len(size, held).await;
        grown.map_err(|source| Error::io(format!("the file cannot grow to {size} bytes"), source))?;
        self.flusher().wrote();
        if let LayerKind::Raw(length) = &self.layers()[0].kind {
            length.fetch_max(size, Ordering::AcqRel);
        }
        Ok(())
    }

    async fn grow_qed(&self, top: &Top<'_, S>, size: u64, held: Held) -> Result<()> {
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
        top.flusher.flush(top.storage, &held).await?;
        top.writer.need_check.set_image_size(top.storage, top.flusher, size, &held).await?;
        top.flusher.wrote();
        top.qed.set_image_size(size);
        Ok(())
    }

    /// Clears from a cluster past the old end on; returns how far. A stray entry may name a cluster that is another's, so
    /// it is the entry that goes, not what it names.
    async fn clear_past_end(&self, top: &Top<'_, S>, at: GuestOffset, len: u64) -> Result<u64> {
        let mapping = top.qed.lookup(top.storage, at, len).await?;
        let L2Entry::Data(_) = mapping.entry else {
            self.clear_qed(top, at.0, mapping.len, Wish::Zeroes, Room::GiveBack).await?;
            return Ok(mapping.len);
        };
        let claim = top.claim(at, mapping.len).await?;
        let clusters = top.qed.geometry.clusters_for(mapping.len);
        top.commit(at, clusters, NewEntries::Zeroes, &claim).await?;
        Ok(mapping.len)
    }
}
