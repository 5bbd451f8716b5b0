//! Guest offset to L1 to cache to [`Mapping`]: a plan that I/O then runs without a lock.
//!
//! Role: tells where a run of guest bytes lies in one QED file. A hit reads one slice's atomics; a miss loads the
//! slice, once for all who wait for it, or takes entries from the file where they can be read at once.
//!
//! Invariant: a mapping names only bytes inside the file and past the header. It stays good while the image is open,
//! since a cluster keeps its guest offset (D1).
//!
//! Absent on purpose: the backing chain (`backing.rs`), and runs that cross a slice, but for holes.

use std::sync::PoisonError;

use quod_storage::{Buffer, Buffers, ExtentKind, Storage};
use smallvec::{SmallVec, smallvec};

use crate::cache::{Begin, BeginRead, Pinned, Slice, SliceKey, TableLevel};
use crate::error::{Error, ErrorKind, Result};
use crate::geometry::{ENTRY, SLICE_BYTES};
use crate::layer::Qed;
use crate::sync::atomic::Ordering;
use crate::sync::{Mutex, MutexGuard};
use crate::table::{L2Entry, decode_l1};
use crate::units::{ClusterCount, FileOffset, GuestOffset};

/// Buffers that are kept: more slices are seldom read at a time.
const MOST_SPARE: usize = 8;

/// Bytes of as many entries as most requests need.
const FEW_ENTRIES: usize = 64;

/// Where a run of guest bytes lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mapping {
    /// For [`L2Entry::Data`], of the run's first byte, which may lie within a cluster.
    pub(crate) entry: L2Entry,
    /// Bytes of the run.
    pub(crate) len: u64,
}

/// Memory that slices are read into where that has to be waited for, kept for the next: fresh memory has to be cleared.
#[derive(Default)]
pub(crate) struct Spares(Mutex<Vec<Buffer>>);

impl Spares {
    fn take(&self) -> Buffer {
        self.lock().pop().unwrap_or_else(|| Buffer::zeroed(SLICE_BYTES as usize))
    }

    fn put(&self, buffer: Buffer) {
        let mut kept = self.lock();
        if kept.len() < MOST_SPARE {
            kept.push(buffer);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Buffer>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Qed {
    /// Maps up to `len` bytes from `at`; both lie within the image.
    ///
    /// # Errors
    /// `Corrupt` for an entry that names what it must not; `Io` when a table cannot be read.
    pub(crate) async fn lookup<S: Storage>(&self, storage: &S, at: GuestOffset, len: u64) -> Result<Mapping> {
        let mapping = self.lookup_in(storage, at, len).await;
        match mapping {
            // Beside a writer, the file may have grown since it was opened.
            Err(error) if error.kind() == ErrorKind::Corrupt && !self.alone && self.grew(storage).await? => {
                self.lookup_in(storage, at, len).await
            }
            mapping => mapping,
        }
    }

    /// As [`lookup`](Qed::lookup), where the slice is in the cache and is sound.
    pub(crate) fn lookup_here(&self, at: GuestOffset, len: u64) -> Option<Mapping> {
        self.find(at, len)?.ok()
    }

    /// As [`lookup`](Qed::lookup), where nothing has to be waited for: the slice is in the cache, or can be read at once. `None`
    /// also where something is not sound, which [`lookup`](Qed::lookup) tells.
    #[inline]
    pub(crate) fn lookup_now<S: Storage>(&self, storage: &S, at: GuestOffset, len: u64) -> Option<Mapping> {
        match self.find(at, len) {
            Some(found) => found.ok(),
            // Longer ranges may lie in a table that is a hole of the file: that takes another question.
            None if len <= self.geometry.left_in_slice(at) => self.load_now(storage, at, len),
            None => None,
        }
    }

    fn load_now<S: Storage>(&self, storage: &S, at: GuestOffset, len: u64) -> Option<Mapping> {
        let (l1, l2) = (self.geometry.l1_slice(at), self.geometry.l2_slice(at));
        let l1_key = SliceKey { level: TableLevel::L1, index: l1.index };
        let entry = self.cache.peek(l1_key, |slice| slice.entry(l1.entry))?;
        let Some(table) = decode_l1(entry) else { return Some(self.no_table(at, len)) };
        if !self.valid().holds(table, self.geometry.table_clusters()) {
            return None;
        }
        let key = SliceKey { level: TableLevel::L2, index: l2.index };
        let place = table.plus(l2.in_table);
        let map = |came: Result<(), Pinned>, read: &Slice<'_>| match came {
            Ok(()) => self.map(read, at, len).ok(),
            Err(first) => first.look(|slice| self.map(slice, at, len)).ok(),
        };
        match self.cache.begin_read(key) {
            BeginRead::Resident(slice) => slice.look(|slice| self.map(slice, at, len)).ok(),
            BeginRead::Busy => None,
            BeginRead::Load(load) => {
                let mut bytes = [0; SLICE_BYTES as usize];
                storage.read_now(place.0, &mut bytes)?.ok()?;
                map(load.commit_read(place, &bytes), &Slice::read(key, place, 0, &bytes))
            }
            BeginRead::Bypass(bypass) => {
                let entries = self.geometry.clusters_for(self.geometry.in_cluster(at) + len).0;
                let mut bytes: SmallVec<[u8; FEW_ENTRIES]> = smallvec![0; (entries * ENTRY) as usize];
                storage.read_now(place.plus(l2.entry as u64 * ENTRY).0, &mut bytes)?.ok()?;
                map(bypass.end(), &Slice::read(key, place, l2.entry, &bytes))
            }
        }
    }

    /// What L1 says where it has no table.
    fn no_table(&self, at: GuestOffset, len: u64) -> Mapping {
        Mapping { entry: L2Entry::Unallocated, len: len.min(self.geometry.left_in_table(at)) }
    }

    fn find(&self, at: GuestOffset, len: u64) -> Option<Result<Mapping>> {
        let key = SliceKey { level: TableLevel::L2, index: self.geometry.l2_slice(at).index };
        self.cache.find(key, |slice| self.map(slice, at, len))
    }

    /// As [`lookup`](Qed::lookup), with runs over many slices where a table is a hole of the file: a table of a gibibyte
    /// with three entries is looked through in a few steps.
    ///
    /// # Errors
    /// As [`lookup`](Qed::lookup).
    pub(crate) async fn survey<S: Storage>(&self, storage: &S, at: GuestOffset, len: u64) -> Result<Mapping> {
        let place = self.geometry.l2_slice(at);
        let key = SliceKey { level: TableLevel::L2, index: place.index };
        let is_here = || self.cache.find(key, |_| ()).is_some();
        // A table that cannot be had is the lookup's to tell.
        if len > self.geometry.left_in_slice(at)
            && !is_here()
            && let Ok(Some(table)) = self.table(storage, at).await
        {
            let left = self.geometry.table_bytes() - place.in_table;
            // Entries that the file is owed are not seen in it. Asked before the look: what goes out in between, that sees.
            let last = SliceKey { index: place.index + left / SLICE_BYTES - 1, ..key };
            let owed = self.cache.kept.first_among(key..=last);
            let before = owed.map_or(u64::MAX, |slice| slice.key().index - place.index);
            let extent = storage.extent(table.0 + place.in_table, left).await;
            let extent = extent.map_err(|source| {
                Error::io(format!("cannot tell holes from data in the table at {table}"), source)
            })?;
            let slices = (extent.len / SLICE_BYTES).min(before);
            if extent.kind == ExtentKind::Hole && slices > 0 {
                let len = len.min(self.geometry.left_in_slices(at, slices));
                return Ok(Mapping { entry: L2Entry::Unallocated, len });
            }
        }
        self.lookup(storage, at, len).await
    }

    async fn grew<S: Storage>(&self, storage: &S) -> Result<bool> {
        let length =
            storage.length().await.map_err(|source| Error::io("the file's length cannot be read", source))?;
        Ok(self.file_length.fetch_max(length, Ordering::AcqRel) < length)
    }

    async fn lookup_in<S: Storage>(&self, storage: &S, at: GuestOffset, len: u64) -> Result<Mapping> {
        if let Some(mapping) = self.find(at, len) {
            return mapping;
        }
        match self.l2_slice(storage, at).await? {
            Some(slice) => slice.look(|slice| self.map(slice, at, len)),
            None => Ok(self.no_table(at, len)),
        }
    }

    /// The slice of L2 that holds the entry of `at`, pinned; `None` where L1 has no table.
    ///
    /// # Errors
    /// As [`lookup`](Qed::lookup).
    pub(crate) async fn l2_slice<S: Storage>(&self, storage: &S, at: GuestOffset) -> Result<Option<Pinned>> {
        let place = self.geometry.l2_slice(at);
        let key = SliceKey { level: TableLevel::L2, index: place.index };
        if let Some(slice) = self.cache.pin(key) {
            return Ok(Some(slice));
        }
        let Some(table) = self.table(storage, at).await? else { return Ok(None) };
        self.slice(storage, key, table.plus(place.in_table)).await.map(Some)
    }

    /// Where the L2 table lies that covers `at`; `None` where L1 has none.
    async fn table<S: Storage>(&self, storage: &S, at: GuestOffset) -> Result<Option<FileOffset>> {
        let entry = self.geometry.l1_slice(at).entry;
        let raw = self.l1_slice(storage, at).await?.entry(entry);
        let Some(table) = decode_l1(raw) else { return Ok(None) };
        if !self.valid().holds(table, self.geometry.table_clusters()) {
            let index = self.geometry.l1_index(at);
            return Err(Error::corrupt(format!(
                "Invalid argument: L1 entry {index} ({at}) names no table: {raw:#x}"
            )));
        }
        Ok(Some(table))
    }

    /// The slice of L1 that holds the entry of `at`, pinned.
    ///
    /// # Errors
    /// `Io` when it cannot be read.
    pub(crate) async fn l1_slice<S: Storage>(&self, storage: &S, at: GuestOffset) -> Result<Pinned> {
        let place = self.geometry.l1_slice(at);
        let key = SliceKey { level: TableLevel::L1, index: place.index };
        match self.cache.pin(key) {
            Some(slice) => Ok(slice),
            None => self.slice(storage, key, self.l1_table.plus(place.in_table)).await,
        }
    }

    /// A slice that lies in the file at `at`: from the cache, or read by whoever comes first.
    async fn slice<S: Storage>(&self, storage: &S, key: SliceKey, at: FileOffset) -> Result<Pinned> {
        loop {
            match self.cache.begin_load(key) {
                Begin::Resident(slice) => return Ok(slice),
                Begin::Wait(loaded) => loaded.await,
                Begin::Load(load) => {
                    let mut bytes = self.spares.take();
                    let read = match storage.read_now(at.0, &mut bytes) {
                        Some(read) => read.map(|()| bytes),
                        None => storage.read_at(at.0, bytes.into()).await.map(Buffers::into_single),
                    };
                    let bytes = read
                        .map_err(|source| Error::io(format!("the table at {at} cannot be read"), source))?;
                    let slice = load.commit(at, &bytes);
                    self.spares.put(bytes);
                    return Ok(slice);
                }
            }
        }
    }

    /// Reads the run that begins at `at` off a slice.
    fn map(&self, slice: &Slice<'_>, at: GuestOffset, len: u64) -> Result<Mapping> {
        let geometry = &self.geometry;
        let index = geometry.l2_slice(at).entry;
        let inside = geometry.in_cluster(at);
        let len = len.min(geometry.left_in_slice(at));
        let first = L2Entry::decode(slice.entry(index));
        let clusters = geometry.clusters_for(inside + len).0 as usize;
        let valid = self.valid();
        let follows = |i: usize| match (first, L2Entry::decode(slice.entry(index + i))) {
            (L2Entry::Data(start), L2Entry::Data(next)) => {
                start.0.checked_add(geometry.bytes_of(ClusterCount(i as u64))) == Some(next.0)
                    && valid.holds(next, ClusterCount(1))
            }
            (one, other) => one == other,
        };
        let run = (1..clusters).take_while(|&i| follows(i)).count() + 1;
        let len = len.min(geometry.bytes_of(ClusterCount(run as u64)) - inside);
        match first {
            L2Entry::Data(start) if !valid.holds(start, ClusterCount(1)) => {
                let table_entry = slice.entry_at(index);
                Err(Error::corrupt(format!(
                    "Invalid argument: the L2 entry at {table_entry} ({at}) names {start}"
                )))
            }
            L2Entry::Data(start) => Ok(Mapping { entry: L2Entry::Data(start.plus(inside)), len }),
            entry => Ok(Mapping { entry, len }),
        }
    }
}
