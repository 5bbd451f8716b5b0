//! Holds what an open image keeps in memory against its file.
//!
//! Role: [`Image::validate`], for tests that bring an image into every state they can think of: model checkers, the
//! simulator, storms of dropped requests. Each part asserts its own invariants; here is what lies between the parts.
//!
//! Invariant: it changes nothing, neither in the file nor in the cache.
//!
//! Absent on purpose: moments at which requests run. What is on its way then is right in more ways than can be told apart.

use quod_storage::{Buffer, Storage};

use crate::cache::{Pinned, SliceKey, TableLevel, Updates};
use crate::check;
use crate::error::{Error, Result};
use crate::geometry::{ENTRY, SLICE_ENTRIES_BITS};
use crate::image::Image;
use crate::layer::{Layer, LayerKind, Qed, QedWriter};
use crate::table::{decode_l1, entries};
use crate::units::{ClusterCount, FileOffset, GuestOffset};

impl<S: Storage> Image<S> {
    /// Holds everything that is in memory against the file, and the file against the format: for tests, at a quiet moment.
    /// Quiet is: no future of a request of this image is there, and the storage works on nothing for one that was dropped.
    /// The image was sound when it was opened. It may be closed or latched by now, and requests may have failed.
    ///
    /// An image that is not open for writing has only its cache looked at, since others may write to its file.
    ///
    /// # Errors
    /// `Io` when a table cannot be read.
    ///
    /// # Panics
    /// When an invariant is broken, with a sentence that names it.
    ///
    /// # Cancellation
    /// Nothing is left behind.
    pub async fn validate(&self) -> Result<()> {
        for (depth, layer) in self.layers().iter().enumerate() {
            let LayerKind::Qed(qed) = &layer.kind else { continue };
            qed.cache.validate();
            assert_eq!(qed.cache.loads(), 0, "a slice is being loaded, and no request is there to do it");
            if self.is_writable() {
                for (slice, _) in qed.cache.resident() {
                    let place = qed.validate_place(self.storage(depth), &slice).await;
                    layer.blame(place)?;
                    layer.blame(slice.validate(self.storage(depth)).await)?;
                }
            }
        }
        assert!(self.strays().is_empty(), "a write in place is listed as under way, and none is");
        match (self.layers().first(), self.writer()) {
            (Some(Layer { name, kind: LayerKind::Qed(qed), .. }), Some(writer)) => {
                writer.validate_pins(qed);
                let scanned = check::scan_open(self.storage(0), name).await;
                let (front, report, end) = self.blame(scanned)?;
                assert_eq!(report.corruptions, 0, "the file is not sound: {:?}", report.findings);
                writer.need_check.validate(front.header.needs_check());
                writer.end.validate(front.file_length, end);
                let may_name = qed.valid().file_length;
                assert!(end <= may_name, "entries name {end:#x}, and may not past {may_name:#x}");
                // A growth that was dropped may have brought its size to the header.
                assert!(
                    front.header.image_size() >= qed.image_size(),
                    "the header has a smaller size than memory"
                );
            }
            _ => assert!(self.writer().is_none(), "only a QED image has metadata to write"),
        }
        Ok(())
    }
}

impl Qed {
    /// A slice lies where L1, as requests see it, says that its table is.
    async fn validate_place<S: Storage>(&self, storage: &S, slice: &Pinned) -> Result<()> {
        let SliceKey { level, index } = slice.key();
        let first = self.geometry.bytes_of(ClusterCount(index << SLICE_ENTRIES_BITS));
        let table = match level {
            TableLevel::L1 => Some(self.l1_table.plus(index * (ENTRY << SLICE_ENTRIES_BITS))),
            TableLevel::L2 => {
                let at = GuestOffset(first);
                let place = self.geometry.l1_slice(at);
                let key = SliceKey { level: TableLevel::L1, index: place.index };
                let seen = self.cache.resident().into_iter().find(|(slice, _)| slice.key() == key);
                let raw = match seen {
                    Some((slice, _)) => slice.entry(place.entry),
                    None => {
                        read_entry(storage, self.l1_table.plus(ENTRY * self.geometry.l1_index(at))).await?
                    }
                };
                decode_l1(raw).map(|table| table.plus(self.geometry.l2_slice(at).in_table))
            }
        };
        assert_eq!(
            table,
            Some(slice.at()),
            "where L1 has the table of {slice:?}, and where the slice is from"
        );
        Ok(())
    }
}

impl Pinned {
    /// What the file is taken to have it has, but for entries that a failed or dropped write may have brought there.
    async fn validate<S: Storage>(&self, storage: &S) -> Result<()> {
        let bytes = Buffer::zeroed(self.len() * ENTRY as usize);
        let read = storage.read_at(self.at().0, bytes.into()).await;
        let bytes = read.map_err(|source| unreadable(self.at(), source))?.into_single();
        for ((index, in_file), taken) in entries(&bytes).enumerate().zip(self.in_file(0..self.len())) {
            assert!(
                in_file == taken || self.waiting(|updates| updates.may_have_brought(index, in_file)),
                "entry {index} of {self:?} is taken for {taken:#x}, and the file has {in_file:#x}"
            );
        }
        Ok(())
    }
}

impl QedWriter {
    /// Nothing is held or pinned but for what the file is owed.
    fn validate_pins(&self, qed: &Qed) {
        assert!(self.clusters.is_free() && self.tables.is_free(), "a range is held, and no request is there");
        assert!(self.need_check.is_free(), "a permit to update metadata is out, and no request is there");
        let kept = qed.cache.kept.all();
        for (slice, is_pinned) in qed.cache.resident() {
            let known = kept.iter().any(|known| known.is(&slice));
            assert_eq!(known, slice.waiting(Updates::owes), "whether {slice:?} is kept");
            assert!(known || !is_pinned, "{slice:?} is pinned, and no request is there to use it");
            assert!(
                known || slice.waiting(Updates::is_empty),
                "{slice:?} has updates that nobody will write"
            );
        }
        assert_eq!(kept.iter().filter(|slice| slice.is_orphaned()).count(), 0, "kept, and its image is gone");
        self.pending.validate(kept.iter().map(|slice| slice.waiting(Updates::promised)));
    }
}

async fn read_entry<S: Storage>(storage: &S, at: FileOffset) -> Result<u64> {
    let read = storage.read_at(at.0, Buffer::zeroed(ENTRY as usize).into()).await;
    let bytes = read.map_err(|source| unreadable(at, source))?.into_single();
    Ok(entries(&bytes).next().unwrap_or_default())
}

fn unreadable(at: FileOffset, source: std::io::Error) -> Error {
    Error::io(format!("the table at {at} cannot be read"), source)
}
