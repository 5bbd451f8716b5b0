//! Zero writes and discards.
//!
//! Role: an allocated cluster is punched where it is; a whole unallocated one gets a zero marker where the layers below
//! have something else; a part of one is a first write of zeroes. A discard is a zero write that may do less.
//!
//! Invariant: entries of allocated clusters stay (D1).
//!
//! Absent on purpose: freeing clusters.

use quod_storage::{Held, Storage};

use crate::commit::{NewEntries, Top};
use crate::error::{Error, Result};
use crate::image::{Image, Writing};
use crate::lookup::Mapping;
use crate::options::{Fua, Room};
use crate::probe::Change;
use crate::table::L2Entry;
use crate::units::{ClusterCount, FileOffset, GuestOffset};
use crate::write::Content;

/// Whether the guest must read zeroes afterwards.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wish {
    Zeroes,
    Discard,
}

impl<S: Storage> Image<S> {
    /// Makes `len` guest bytes from `at` read as zeroes. Any alignment and length; costs no memory for the length.
    ///
    /// # Errors
    /// As [`write`](Image::write).
    ///
    /// # Cancellation
    /// Any part may have been done.
    pub async fn write_zeroes(&self, at: u64, len: u64, room: Room, fua: Fua) -> Result<()> {
        let writing = self.writing(at, len)?;
        self.clear(&writing, at, len, Wish::Zeroes, room).await?;
        self.complete(&writing, fua).await
    }

    /// Tells that `len` guest bytes from `at` are not needed any more: each sector then reads as before or as zeroes.
    ///
    /// # Errors
    /// As [`write`](Image::write).
    ///
    /// # Cancellation
    /// Any part may have been done.
    pub async fn discard(&self, at: u64, len: u64, fua: Fua) -> Result<()> {
        let writing = self.writing(at, len)?;
        self.clear(&writing, at, len, Wish::Discard, Room::GiveBack).await?;
        self.complete(&writing, fua).await
    }

    async fn clear(&self, writing: &Writing<'_, S>, at: u64, len: u64, wish: Wish, room: Room) -> Result<()> {
        match writing {
            Writing::Raw { storage, guard } => {
                let _turn = self.admit(*storage, *guard, at, Change::Zeroes(len)).await?;
                self.clear_file(*storage, FileOffset(at), len, room).await
            }
            Writing::Qed(top) => self.blame(self.clear_qed(top, at, len, wish, room).await),
        }
    }

    /// Clears a range run by run.
    pub(crate) async fn clear_qed(
        &self,
        top: &Top<'_, S>,
        at: u64,
        len: u64,
        wish: Wish,
        room: Room,
    ) -> Result<()> {
        let mut done = 0;
        while done < len {
            done += self.clear_some(top, GuestOffset(at + done), len - done, wish, room).await?;
        }
        Ok(())
    }

    /// Clears the longest run that can be cleared in one way; returns its length.
    async fn clear_some(
        &self,
        top: &Top<'_, S>,
        at: GuestOffset,
        len: u64,
        wish: Wish,
        room: Room,
    ) -> Result<u64> {
        loop {
            // Asked before the look: what is settled in between, the look sees.
            let has_leftovers = top.leftovers(at, len).is_some();
            let mapping = top.qed.survey(top.storage, at, len).await?;
            let below = match mapping.entry {
                L2Entry::Data(file_at) => {
                    self.clear_file(top.storage, file_at, mapping.len, room).await?;
                    return Ok(mapping.len);
                }
                // What a failed first write left behind must not come up after these zeroes.
                _ if has_leftovers => {
                    top.claim(at, len.min(top.qed.geometry.left_in_slice(at))).await?;
                    continue;
                }
                entry => self.reads_below(entry) && wish == Wish::Zeroes,
            };
            if !below {
                return Ok(mapping.len);
            }
            let zeroes = self.known_zeroes(1, at, mapping.len).await?;
            if zeroes > 0 {
                return Ok(zeroes);
            }
            let len = self.clear_unit(top, at, mapping.len);
            top.room_for_promises().await?;
            let claim = top.claim(at, len).await?;
            // Whoever held the clusters before may have allocated them.
            if top.qed.lookup(top.storage, at, len).await? == (Mapping { len, ..mapping }) {
                self.clear_unallocated(top, at, len, &claim).await?;
                return Ok(len);
            }
        }
    }

    /// How much of a range can be cleared in one way: a part of one cluster, or whole clusters of one slice.
    fn clear_unit(&self, top: &Top<'_, S>, at: GuestOffset, len: u64) -> u64 {
        let geometry = &top.qed.geometry;
        let inside = geometry.in_cluster(at);
        let whole = geometry.whole_clusters(len.min(geometry.left_in_slice(at)));
        if inside == 0 && whole > 0 { whole } else { len.min(geometry.cluster_size() - inside) }
    }

    /// Held clusters over a backing file: zero markers for whole ones, a first write of zeroes for a part of one.
    async fn clear_unallocated(
        &self,
        top: &Top<'_, S>,
        at: GuestOffset,
        len: u64,
        held: &Held,
    ) -> Result<()> {
        let geometry = &top.qed.geometry;
        // The last cluster of the disk may be a partial one: what the guest can see of it counts.
        let reaches_end = at.0 + len == top.qed.image_size();
        if geometry.in_cluster(at) == 0 && (geometry.in_cluster(at.plus(len)) == 0 || reaches_end) {
            let clusters = ClusterCount(geometry.clusters_for(len).0);
            let slice = top.table_for(at, held).await?;
            return top.commit(&slice, at, clusters, NewEntries::Zeroes, held).await;
        }
        self.write_fresh(top, at, Content::Zeroes(len), true, held).await?;
        Ok(())
    }

    /// Makes a range of the top layer's file read as zeroes.
    async fn clear_file(&self, storage: &S, at: FileOffset, len: u64, room: Room) -> Result<()> {
        let in_place = self.strays().begin(at.0..at.0 + len).await;
        let cleared = match room {
            Room::GiveBack => storage.punch(at.0, len, in_place.held()).await,
            Room::Keep => storage.write_zeroes(at.0, len, in_place.held()).await,
        };
        in_place.done();
        let failed = |source| Error::io(format!("{len} bytes at {at} cannot be cleared"), source);
        cleared.map_err(|source| failed(source).in_image(&self.layers()[0].name))
    }
}
