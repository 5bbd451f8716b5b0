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

use quod_storage::{Buffer, Buffers, ExtentKind, Held, Storage};

use crate::check;
use crate::commit::{NewEntries, Top};
use crate::error::{Error, ErrorKind, Result};
use crate::image::{Image, Writing};
use crate::layer::LayerKind;
use crate::options::Fua;
use crate::probe::Change;
use crate::sync::atomic::Ordering;
use crate::table::L2Entry;
use crate::units::{FileOffset, GuestOffset};

/// Copies from a backing file go in pieces of at most this many bytes.
const COPY_PIECE: u64 = 1 << 20;

/// Up to so many bytes around a write go out with it, in one vectored write; more is copied apart, without its holes.
const SMALL_FILL: u64 = 128 << 10;

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
            let len = mapping.len.min(top.qed.geometry.left_in_slice(at));
            let claim = top.claim(at, len).await?;
            // Whoever held the clusters before may have allocated them.
            if top.qed.lookup(top.storage, at, len).await? != (crate::lookup::Mapping { len, ..mapping }) {
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
        let room = top.writer.end.allocate(top.storage, clusters, held).await?;
        let room_end = room.0 + geometry.bytes_of(clusters);
        top.writer.end.reach(top.storage, room.0..room_end, held, &top.qed.file_length).await?;
        let fresh = Fresh { first, room, held };
        let written = if below {
            // Nothing is filled in past the end of the disk.
            let tail = end.0..last.min(top.qed.image_size()).max(end.0);
            self.write_and_fill(top, &fresh, first.0..at.0, content, tail).await
        } else {
            fresh.write(top, at.0, content).await
        };
        let content = match written {
            Ok(content) => content,
            Err(error) => {
                top.give_back(room, room_end - room.0, held).await;
                if error.kind() == ErrorKind::NoSpace {
                    top.writer.end.want(room.0..room_end);
                }
                return Err(error);
            }
        };
        top.flusher.wrote();
        top.commit(first, clusters, NewEntries::Data(room), held).await?;
        Ok(content)
    }

    /// Writes the content and the backing bytes before and behind it: as one write where that is small.
    async fn write_and_fill(
        &self,
        top: &Top<'_, S>,
        fresh: &Fresh<'_>,
        head: Range<u64>,
        content: Content,
        tail: Range<u64>,
    ) -> Result<Content> {
        let small = (head.end - head.start) + (tail.end - tail.start) <= SMALL_FILL;
        let Content::Bytes(bytes) = content else {
            self.copy_up(top, fresh, head).await?;
            self.copy_up(top, fresh, tail).await?;
            return Ok(content);
        };
        if !small {
            let content = fresh.write(top, head.end, Content::Bytes(bytes)).await?;
            self.copy_up(top, fresh, head).await?;
            self.copy_up(top, fresh, tail).await?;
            return Ok(content);
        }
        let held = self.copying(top, fresh).await;
        let before = self.below(head.clone()).await?;
        let after = self.below(tail).await?;
        let start = if before.is_some() { head.start } else { head.end };
        let had_before = before.is_some();
        let parts = before.into_iter().chain([bytes]).chain(after);
        let buffers = Buffers::gather(parts).holding(held);
        let mut written = top.write_data(fresh.place(start), buffers).await?;
        Ok(Content::Bytes(written.parts.remove(usize::from(had_before))))
    }

    /// Copies a range from the layers below into fresh room, piece by piece; what reads as zeroes stays a hole.
    async fn copy_up(&self, top: &Top<'_, S>, fresh: &Fresh<'_>, range: Range<u64>) -> Result<()> {
        let mut at = range.start;
        while at < range.end {
            let run = self.content(1, GuestOffset(at), range.end - at).await?;
            if run.kind == ExtentKind::Hole {
                at += run.len;
                continue;
            }
            let piece = run.len.min(COPY_PIECE);
            let held = self.copying(top, fresh).await;
            let bytes = self.fill(1, GuestOffset(at), Buffer::zeroed(piece as usize)).await?;
            let buffers = Buffers::from(bytes).holding(held);
            top.write_data(fresh.place(at), buffers).await?;
            at += piece;
        }
        Ok(())
    }

    /// Waits for the right to have one copy from below in memory. It goes with the write of that copy.
    async fn copying(&self, top: &Top<'_, S>, fresh: &Fresh<'_>) -> Held {
        let permit = top.writer.copies.acquire_arc().await;
        Held::new(Arc::new((fresh.held.clone(), permit)))
    }

    /// The bytes of a small range as the layers below have them; `None` where they are zeroes.
    async fn below(&self, range: Range<u64>) -> Result<Option<Buffer>> {
        let (at, len) = (GuestOffset(range.start), range.end - range.start);
        if self.known_zeroes(1, at, len).await? == len {
            return Ok(None);
        }
        self.fill(1, at, Buffer::zeroed(len as usize)).await.map(Some)
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

/// Fresh room for consecutive clusters.
pub(crate) struct Fresh<'a> {
    /// Guest offset of the first cluster.
    first: GuestOffset,
    /// Where it lies in the file.
    room: FileOffset,
    held: &'a Held,
}

impl Fresh<'_> {
    fn place(&self, guest: u64) -> FileOffset {
        self.room.plus(guest - self.first.0)
    }

    async fn write<S: Storage>(&self, top: &Top<'_, S>, at: u64, content: Content) -> Result<Content> {
        match content {
            Content::Bytes(bytes) => {
                let buffers = Buffers::from(bytes).holding(self.held.clone());
                Ok(Content::Bytes(top.write_data(self.place(at), buffers).await?.into_single()))
            }
            // Fresh room reads as zeroes already (D2).
            zeroes => Ok(zeroes),
        }
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

    async fn write_data(&self, at: FileOffset, from: Buffers) -> Result<Buffers> {
        let written = self.storage.write_at(at.0, from).await;
        written.map_err(|source| Error::io(format!("data at {at} cannot be written"), source))
    }
}
