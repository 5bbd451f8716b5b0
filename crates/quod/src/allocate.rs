//! Fresh room at the end of the file.
//!
//! Role: hands out clusters past every length that the file has had since it was opened (D2), and keeps the length
//! ahead of what entries name (D3).
//!
//! Invariants: no cluster is handed out twice while the image is open (D1). What the file's length is lies between
//! `at_least` and `at_most`, also while it is being changed, and when that failed or its future was dropped.
//!
//! Absent on purpose: a free list. What a failed or cancelled request leaves behind is leaked until a check.

use std::ops::Range;
use std::sync::{Arc, PoisonError};

use quod_storage::{Held, Storage};

use crate::error::{Error, ErrorKind, Result};
use crate::geometry::{Geometry, MAX_FILE_LENGTH};
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::sync::{Mutex, MutexGuard};
use crate::turn::{Turn, TurnGuard};
use crate::units::{ClusterCount, FileOffset};

/// How far the file may grow ahead of what is handed out, in bytes (D2).
const AHEAD: u64 = 1 << 20;

/// The end of one image file.
pub(crate) struct FileEnd {
    geometry: Geometry,
    ahead: u64,
    state: Mutex<State>,
    /// For changes of the length.
    turn: Turn,
    /// How long the file was in the beginning.
    length_before: u64,
}

/// What became of a file's end so far.
#[derive(Clone, Copy)]
pub(crate) struct Growth {
    /// That were handed out.
    pub(crate) clusters: ClusterCount,
    /// Bytes that the file has for certain.
    pub(crate) length: u64,
    /// How many of them it did not have in the beginning.
    pub(crate) grown: u64,
}

struct State {
    /// Where the next cluster will lie.
    next: u64,
    /// Clusters that were handed out, also for what failed later.
    handed_out: u64,
    /// The file has so many bytes for certain: what entries may rely on.
    at_least: u64,
    /// The file may have so many bytes: what a cut has to take away.
    at_most: u64,
    /// End of the last cluster that an entry names, or that lay in the file when it was opened.
    referenced: u64,
    /// Where a write found no room on the file system.
    wanting: Option<Range<u64>>,
}

impl FileEnd {
    /// Begins at the end of a file of whole clusters. It may grow ahead only where a crash leaves room behind the last entry
    /// in any case.
    pub(crate) fn new(geometry: Geometry, length: u64, may_grow_ahead: bool) -> Self {
        let ahead = if may_grow_ahead { geometry.whole_clusters(AHEAD) } else { 0 };
        FileEnd {
            geometry,
            ahead,
            state: Mutex::new(State {
                next: length,
                handed_out: 0,
                at_least: length,
                at_most: length,
                referenced: length,
                wanting: None,
            }),
            turn: Turn::default(),
            length_before: length,
        }
    }

    /// What became of it so far.
    pub(crate) fn growth(&self) -> Growth {
        let State { handed_out, at_least, .. } = *self.state();
        let grown = at_least.saturating_sub(self.length_before);
        Growth { clusters: ClusterCount(handed_out), length: at_least, grown }
    }

    /// Hands out clusters that lie one after another. Once a write found no room, only when there is room again: what
    /// a failed write had is leaked (D1), and a guest that tries again for hours must not make the file longer with
    /// every try.
    ///
    /// # Errors
    /// `NoSpace` when there is still no room, or the file would become longer than a file can be; what the system says.
    pub(crate) async fn allocate<S: Storage>(
        &self,
        storage: &S,
        clusters: ClusterCount,
        held: &Held,
    ) -> Result<FileOffset> {
        if self.state().wanting.is_some() {
            self.look_for_room(storage, clusters, held).await?;
        }
        let mut state = self.state();
        let at = state.next;
        let end =
            clusters.0.checked_mul(self.geometry.cluster_size()).and_then(|bytes| at.checked_add(bytes));
        match end.filter(|&end| end <= MAX_FILE_LENGTH) {
            Some(end) => {
                state.next = end;
                state.handed_out += clusters.0;
                Ok(FileOffset(at))
            }
            None => Err(Error::new(
                ErrorKind::NoSpace,
                format!("no file can be long enough for a cluster at {at:#x}"),
            )),
        }
    }

    /// Takes room for up to so many clusters where a write failed before, to see whether there is any, and gives it back.
    async fn look_for_room<S: Storage>(
        &self,
        storage: &S,
        clusters: ClusterCount,
        held: &Held,
    ) -> Result<()> {
        let turn = self.turn.take().await;
        // Whoever had the turn before may have found some.
        let Some(room) = self.state().wanting.clone() else { return Ok(()) };
        let whole = room.end - room.start;
        let len = whole.min(clusters.0.saturating_mul(self.geometry.cluster_size()));
        // A cut may have come between.
        self.lengthen_in_turn(storage, room.start + len, held, &turn).await?;
        let protected = Held::new(Arc::new((held.clone(), turn.clone())));
        let taken = storage.write_zeroes(room.start, len, protected.clone()).await;
        if let Err(error) = storage.punch(room.start, len, protected).await {
            tracing::warn!(%error, "room that was tried stays taken");
        }
        taken.map_err(|source| Error::io(format!("still no room for {len} bytes"), source))?;
        // Only now: until it was given back, it would have been in others' way.
        let rest = room.start + len..room.end;
        self.state().wanting = (!rest.is_empty()).then_some(rest);
        Ok(())
    }

    /// Notes that a write of fresh room found none on the file system.
    pub(crate) fn want(&self, room: Range<u64>) {
        self.state().wanting = Some(room);
    }

    /// Takes back what the file could not be made long enough for, unless something was handed out behind it.
    fn take_back(&self, room: &Range<u64>) {
        let mut state = self.state();
        if state.next == room.end {
            state.next = room.start;
        }
    }

    /// Makes the file long enough for what was handed out, and then lets entries name it: `within` is how far they may.
    /// Not the room ahead: an entry of a damaged image that names it must not become a good one.
    ///
    /// # Errors
    /// What the system says; the room was never in the file, and may be handed out again.
    pub(crate) async fn reach<S: Storage>(
        &self,
        storage: &S,
        room: Range<u64>,
        held: &Held,
        within: &AtomicU64,
    ) -> Result<()> {
        let reached = self.lengthen(storage, room.end, held).await;
        match &reached {
            Ok(()) => _ = within.fetch_max(room.end, Ordering::AcqRel),
            Err(_) => self.take_back(&room),
        }
        reached
    }

    async fn lengthen<S: Storage>(&self, storage: &S, end: u64, held: &Held) -> Result<()> {
        if self.state().at_least >= end {
            return Ok(());
        }
        let turn = self.turn.take().await;
        self.lengthen_in_turn(storage, end, held, &turn).await
    }

    async fn lengthen_in_turn<S: Storage>(
        &self,
        storage: &S,
        end: u64,
        held: &Held,
        turn: &TurnGuard,
    ) -> Result<()> {
        let target = {
            let mut state = self.state();
            if state.at_least >= end {
                return Ok(());
            }
            let target = state.next.max(end).saturating_add(self.ahead).min(MAX_FILE_LENGTH);
            state.at_most = state.at_most.max(target);
            target
        };
        let protected = Held::new(Arc::new((held.clone(), turn.clone())));
        let mut length = target;
        let mut grown = storage.set_len(length, protected.clone()).await;
        if grown.is_err() && target > end {
            // What is needed may still fit.
            length = end;
            grown = storage.set_len(length, protected).await;
        }
        grown.map_err(|source| Error::io(format!("the image cannot grow to {length} bytes"), source))?;
        self.is_long(length);
        Ok(())
    }

    /// Notes that an entry names what ends at `end`.
    pub(crate) fn note_referenced(&self, end: u64) {
        let mut state = self.state();
        state.referenced = state.referenced.max(end);
    }

    /// Whether the file may be longer than what is referenced.
    pub(crate) fn has_a_tail(&self) -> bool {
        let state = self.state();
        state.at_most > state.referenced
    }

    /// Cuts the file back to what is referenced; tells whether there was anything to cut. Nobody may be allocating. Room
    /// that was handed out is not handed out again (D1, D2).
    ///
    /// # Errors
    /// What the system says.
    pub(crate) async fn cut<S: Storage>(&self, storage: &S, held: &Held) -> Result<bool> {
        let turn = self.turn.take().await;
        let referenced = {
            let mut state = self.state();
            if state.at_most == state.referenced {
                return Ok(false);
            }
            state.at_least = state.at_least.min(state.referenced);
            state.referenced
        };
        let protected = Held::new(Arc::new((held.clone(), turn.clone())));
        let cut = storage.set_len(referenced, protected).await;
        cut.map_err(|source| Error::io(format!("the image cannot be cut to {referenced} bytes"), source))?;
        self.is_long(referenced);
        Ok(true)
    }

    /// A change of the length has succeeded.
    fn is_long(&self, length: u64) {
        let mut state = self.state();
        (state.at_least, state.at_most) = (length, length);
    }

    /// Holds the end against the file: its length, and where what its entries name ends.
    ///
    /// # Panics
    /// When an invariant is broken.
    pub(crate) fn validate(&self, length: u64, named_end: u64) {
        let State { next, at_least, at_most, referenced, .. } = *self.state();
        assert!(
            (at_least..=at_most).contains(&length),
            "{length:#x} bytes, not {at_least:#x} to {at_most:#x}"
        );
        assert!(
            at_least <= next.saturating_add(1 << 20),
            "{at_least:#x} bytes, and {next:#x} handed out (D2)"
        );
        assert!(named_end <= referenced, "entries name {named_end:#x}, noted is {referenced:#x}");
        assert!(referenced <= next, "{next:#x} would be handed out, and entries may name {referenced:#x}");
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
