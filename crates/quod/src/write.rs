//! Writes, readable from top to bottom.
//!
//! Role: a write over allocated clusters goes to their place; a first write takes fresh room, fills what must be
//! filled from the backing file, and commits its entries.
//!
//! Invariants: whoever allocates for a cluster holds it, and looks again once it does. Over a backing file the whole
//! cluster is written before its entry is (D5). What reads as zeroes below is left as a hole.
//!
//! Absent on purpose: the order of metadata (`commit.rs`), and freeing: what a failed write took is leaked (D1).

use std::ops::Range;
use std::sync::Arc;

use async_lock::SemaphoreGuardArc;
use quod_storage::{Buffer, Buffers, ExtentKind, Held, Storage};

use crate::check;
use crate::commit::{NewEntries, Top};
use crate::error::{Error, ErrorKind, Result};
use crate::image::{Image, Writing};
use crate::layer::LayerKind;
use crate::lookup::Mapping;
use crate::options::Fua;
use crate::probe::Change;
use crate::sync::atomic::Ordering;
use crate::table::L2Entry;
use crate::units::{FileOffset, GuestOffset};

/// One write carries at most this many bytes from a backing file.
const COPY_PIECE: u64 = 1 << 20;

/// What first writes put into their fresh room.
pub(crate) enum Content {
    Bytes(Buffer),
    /// So many zeroes.
    Zeroes(u64),
}

impl Content {
    pub(crate) fn len(&self) -> u64 {
        match self {
            Content::Bytes(bytes) => bytes.len() as u64,
            Content::Zeroes(len) => *len,
        }
    }
}

impl<S: Storage> Image<S> {
    /// Writes `from` at guest offset `at`, and returns it. Any alignment and length. With [`Fua::Yes`] the bytes, and
    /// everything it takes to find them, are durable when this returns.
    ///
    /// # Errors
    /// `InvalidArgument` past the end of the disk; `ReadOnly`; `NoSpace`: any part may have been written, and the
    /// request may be tried again; `Latched`; `Corrupt`; `Io`.
    ///
    /// # Cancellation
    /// Any part of the bytes may have been written, or be written a moment later; nothing else changes.
    pub async fn write(&self, at: u64, from: Buffer, fua: Fua) -> Result<Buffer> {
        let writing = self.writing(at, from.len() as u64)?;
        let mut rest = from;
        let mut done = rest.split_to(0);
        while !rest.is_empty() {
            let at = GuestOffset(at + done.len() as u64);
            let written = match &writing {
                Writing::Raw { storage, guard } => {
                    let _turn = self.admit(*storage, *guard, at.0, Change::Bytes(&rest)).await?;
                    self.write_file(*storage, FileOffset(at.0), rest.split_to(rest.len())).await?
                }
                Writing::Qed(top) => self.blame(self.write_some(top, at, &mut rest).await)?,
            };
            done.join(written);
        }
        self.complete(&writing, fua).await?;
        Ok(done)
    }

    /// Writes the longest run that can be written in one way, cut off `rest`.
    async fn write_some(&self, top: &Top<'_, S>, at: GuestOffset, rest: &mut Buffer) -> Result<Buffer> {
        loop {
            let mapping = top.qed.lookup(top.storage, at, rest.len() as u64).await?;
            if let L2Entry::Data(file_at) = mapping.entry {
                return self.write_file(top.storage, file_at, rest.split_to(mapping.len as usize)).await;
            }
            top.room_for_promises().await?;
            let len = mapping.len.min(top.qed.geometry.left_in_slice(at));
            let claim = top.claim(at, len).await?;
            // Whoever held the clusters before may have allocated them.
            if top.qed.lookup(top.storage, at, len).await? != (Mapping { len, ..mapping }) {
                continue;
            }
            let below = self.reads_below(mapping.entry);
            let content = Content::Bytes(rest.split_to(len as usize));
            match self.write_fresh(top, at, content, below, &claim).await? {
                Content::Bytes(bytes) => return Ok(bytes),
                Content::Zeroes(_) => unreachable!("bytes go in, bytes come out"),
            }
        }
    }

    /// Whether the rest of a cluster with that entry must be copied from the layers below.
    pub(crate) fn reads_below(&self, entry: L2Entry) -> bool {
        entry == L2Entry::Unallocated && self.layers().len() > 1
    }

    /// A first write to held clusters, within one slice. `below`: the rest of the clusters comes from the layers below;
    /// otherwise it reads as zeroes.
    pub(crate) async fn write_fresh(
        &self,
        top: &Top<'_, S>,
        at: GuestOffset,
        content: Content,
        below: bool,
        held: &Held,
    ) -> Result<Content> {
        let geometry = &top.qed.geometry;
        let end = at.plus(content.len());
        let first = geometry.cluster_start(geometry.guest_cluster(at));
        let clusters = geometry.clusters_for(end.0 - first.0);
        let last = first.0 + geometry.bytes_of(clusters);
        // Before the data: where there is no room for a table, no cluster is leaked.
        let slice = top.table_for(at, held).await?;
        let room = top.writer.end.allocate(top.storage, clusters, held).await?;
        let room_end = room.0 + geometry.bytes_of(clusters);
        top.writer.end.reach(top.storage, room.0..room_end, held, &top.qed.file_length).await?;
        // Nothing is filled in past the end of the disk.
        let last = last.min(top.qed.image_size()).max(end.0);
        let fill = if below { first.0..last } else { at.0..end.0 };
        match self.write_and_fill(top, Fresh::new(first, room, held), fill, at.0, content).await {
            Ok((content, bytes)) => {
                top.flusher.wrote();
                top.commit(&slice, first, clusters, NewEntries::Data { room, bytes }, held).await?;
                Ok(content)
            }
            Err(error) => {
                top.give_back(room, room_end - room.0, held).await;
                if error.kind() == ErrorKind::NoSpace {
                    top.writer.end.want(room.0..room_end);
                }
                Err(error)
            }
        }
    }

    /// Writes the content, and what the layers below have of the rest of `whole`; returns how many bytes that was. What lies
    /// side by side goes out as one vectored write, and what reads as zeroes stays a hole.
    async fn write_and_fill(
        &self,
        top: &Top<'_, S>,
        mut fresh: Fresh<'_>,
        whole: Range<u64>,
        at: u64,
        content: Content,
    ) -> Result<(Content, u64)> {
        let end = at + content.len();
        self.copy_up(top, &mut fresh, whole.start..at).await?;
        let zeroes = match content {
            Content::Bytes(bytes) => {
                fresh.gather(at, bytes);
                fresh.guests = Some(fresh.gathered.parts.len() - 1);
                None
            }
            // Fresh room reads as zeroes already (D2).
            Content::Zeroes(len) => {
                fresh.write_out(top).await?;
                Some(len)
            }
        };
        self.copy_up(top, &mut fresh, end..whole.end).await?;
        fresh.write_out(top).await?;
        let content = zeroes.map(Content::Zeroes).or(fresh.content.map(Content::Bytes));
        Ok((content.expect("bytes go in, bytes come out"), fresh.written))
    }

    /// Gathers what the layers below have of a range.
    async fn copy_up(&self, top: &Top<'_, S>, fresh: &mut Fresh<'_>, range: Range<u64>) -> Result<()> {
        let mut at = range.start;
        while at < range.end {
            let run = self.content(1, GuestOffset(at), range.end - at).await?;
            if run.kind == ExtentKind::Hole || fresh.copied == COPY_PIECE {
                fresh.write_out(top).await?;
            }
            if run.kind == ExtentKind::Hole {
                at += run.len;
                continue;
            }
            if fresh.copied == 0 {
                fresh.permit = Some(top.writer.copies.acquire_arc().await);
            }
            let piece = run.len.min(COPY_PIECE - fresh.copied);
            let bytes = self.fill(1, GuestOffset(at), Buffer::zeroed(piece as usize)).await?;
            fresh.gather(at, bytes);
            fresh.copied += piece;
            at += piece;
        }
        Ok(())
    }

    /// Writes data to its place in the top layer's file.
    async fn write_file(&self, storage: &S, at: FileOffset, from: Buffer) -> Result<Buffer> {
        let in_place = self.strays().begin(at.0..at.0 + from.len() as u64).await;
        let written = storage.write_at(at.0, Buffers::from(from).holding(in_place.held())).await;
        in_place.done();
        let failed = |source| Error::io(format!("data at {at} cannot be written"), source);
        let layer = &self.layers()[0];
        let from = written.map_err(|source| failed(source).in_image(&layer.name))?;
        if let LayerKind::Raw(length) = &layer.kind {
            // The last sector of the disk may be more than the file had of it.
            length.fetch_max(at.0 + from.len() as u64, Ordering::AcqRel);
        }
        Ok(from.into_single())
    }
}

/// Fresh room for consecutive clusters, and what is to be written there next.
struct Fresh<'a> {
    /// Guest offset of the first cluster.
    first: GuestOffset,
    /// Where it lies in the file.
    room: FileOffset,
    held: &'a Held,
    /// Guest offset of what is gathered, and which part of that is the guest's.
    start: u64,
    gathered: Buffers,
    guests: Option<usize>,
    /// Bytes from below that are among it, and the right to have so many in memory, which goes with their write.
    copied: u64,
    permit: Option<SemaphoreGuardArc>,
    /// The guest's bytes, once they are written; how many bytes were written in all.
    content: Option<Buffer>,
    written: u64,
}

impl<'a> Fresh<'a> {
    fn new(first: GuestOffset, room: FileOffset, held: &'a Held) -> Self {
        let gathered = Buffers::gather([]);
        let (guests, permit, content) = (None, None, None);
        Fresh { first, room, held, start: 0, gathered, guests, copied: 0, permit, content, written: 0 }
    }

    /// Adds what goes to a guest offset, right behind what is gathered.
    fn gather(&mut self, at: u64, bytes: Buffer) {
        if self.gathered.is_empty() {
            self.start = at;
        }
        assert_eq!(self.start + self.gathered.len() as u64, at, "side by side");
        self.gathered.parts.push(bytes);
    }

    /// Writes what is gathered.
    async fn write_out<S: Storage>(&mut self, top: &Top<'_, S>) -> Result<()> {
        if self.gathered.is_empty() {
            return Ok(());
        }
        let held = match self.permit.take() {
            Some(permit) => Held::new(Arc::new((self.held.clone(), permit))),
            None => self.held.clone(),
        };
        let gathered = std::mem::replace(&mut self.gathered, Buffers::gather([])).holding(held);
        self.copied = 0;
        self.written += gathered.len() as u64;
        let place = self.room.plus(self.start - self.first.0);
        let written = top.storage.write_at(place.0, gathered).await;
        let mut parts =
            written.map_err(|source| Error::io(format!("data at {place} cannot be written"), source))?.parts;
        if let Some(part) = self.guests.take() {
            self.content = Some(parts.swap_remove(part));
        }
        Ok(())
    }
}

impl<S: Storage> Top<'_, S> {
    /// Holds the clusters that a request allocates, with the right to update metadata. Goes with every operation that
    /// the request starts.
    ///
    /// # Errors
    /// `Corrupt` when fresh room would lie where an entry of a damaged image points; `Closed`; as
    /// [`commit`](Top::commit).
    pub(crate) async fn claim(&self, at: GuestOffset, len: u64) -> Result<Held> {
        self.vet().await?;
        self.claim_entries(at, len).await
    }

    /// As [`claim`](Top::claim), for who changes entries of a table that is there, and allocates nothing.
    ///
    /// # Errors
    /// `Closed`; as [`commit`](Top::commit).
    pub(crate) async fn claim_entries(&self, at: GuestOffset, len: u64) -> Result<Held> {
        let permit = self.writer.need_check.permit(self.storage, self.flusher).await?;
        let geometry = &self.qed.geometry;
        let (first, last) = (geometry.guest_cluster(at), geometry.guest_cluster(at.plus(len - 1)));
        let clusters = self.writer.clusters.hold(first.0..=last.0).await;
        let held = Held::new(Arc::new((permit, clusters)));
        self.settle_held(at, len, &held).await?;
        Ok(held)
    }

    /// Looks through all tables, once in an open, for entries that name room past the end of the file, before any is
    /// allocated (D2).
    ///
    /// # Errors
    /// `Corrupt` when there is one; `Io` when L1 cannot be read.
    pub(crate) async fn vet(&self) -> Result<()> {
        if self.writer.overhang.get().is_none() {
            let _turn = self.writer.vetting.take().await;
            if self.writer.overhang.get().is_none() {
                let found = check::overhang(self.storage, self.qed).await?;
                self.writer.overhang.get_or_init(|| found);
            }
        }
        match self.writer.overhang.get() {
            Some(Some(entry)) => Err(Error::new(
                ErrorKind::Corrupt,
                format!(
                    "nothing can be allocated: {entry}; was the file cut short? ({}; `quod check -r all` drops entries \
                     whose data is missing)",
                    check::SAVE
                ),
            )),
            _ => Ok(()),
        }
    }

    /// Gives the room of a failed first write back to the file system, which may be full. The clusters stay leaked (D1).
    async fn give_back(&self, room: FileOffset, len: u64, held: &Held) {
        if let Err(error) = self.storage.punch(room.0, len, held.clone()).await {
            // The write's own error is on its way to the caller; this one costs room, not data.
            tracing::warn!(%error, %room, "the room of a failed write stays taken");
        }
    }
}
