//! The caches that are compared, behind one face.

use std::fs::File;
use std::hint::black_box;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use anyhow::Result;
use lru::LruCache;
use quod::cache::{BeginRead, SliceKey, SlicePool, TableCache, TableLevel};
use quod::units::FileOffset;
pub(crate) use reference::REFERENCE_TABLES;
use reference::ReferenceCache;
use sieve_cache::SieveCache;

#[path = "../../../../crates/quod/benches/cache/reference.rs"]
mod reference;

/// Bytes of an entry.
const ENTRY: u64 = 8;
/// Bytes of the file that misses read: more than a processor keeps.
const FILE: u64 = 256 << 20;

/// Clusters of the file that entries name, and bytes of each.
const CLUSTERS: u64 = 1 << 27;
const CLUSTER: u64 = 64 << 10;

/// A file in memory, for misses.
pub(crate) struct Reads(File);

impl Reads {
    pub(crate) fn make(directory: &Path) -> Result<Self> {
        let mut file = tempfile::tempfile_in(directory)?;
        (0..FILE >> 20).try_for_each(|part| file.write_all(&scattered(part << 17, 1 << 17)))?;
        Ok(Reads(file))
    }

    /// The unit of that number.
    fn read(&self, image: u32, number: u64, into: &mut [u8]) {
        self.read_of(image, number, into.len(), into);
    }

    /// The first entry of a unit of so many bytes.
    fn read_first_entry(&self, image: u32, number: u64, unit: usize) {
        let mut entry = [0; ENTRY as usize];
        self.read_of(image, number, unit, &mut entry);
        black_box(entry);
    }

    fn read_of(&self, image: u32, number: u64, unit: usize, into: &mut [u8]) {
        let at = (number + u64::from(image) * 1021) % (FILE / unit as u64) * unit as u64;
        self.0.read_exact_at(into, at).expect("the file is as long");
    }
}

/// Bytes of so many entries from there on, of clusters of which no three rise evenly: ours keeps none of their slices as runs.
fn scattered(from: u64, count: u64) -> Vec<u8> {
    (from..from + count).flat_map(|entry| (entry * entry % CLUSTERS * CLUSTER).to_le_bytes()).collect()
}

fn entries(bytes: &[u8]) -> impl Iterator<Item = u64> {
    bytes.as_chunks::<{ ENTRY as usize }>().0.iter().map(|entry| u64::from_le_bytes(*entry))
}

/// A cache that looks up units of so many entries.
pub(crate) trait Contender {
    fn entries(&self) -> u64;
    /// Whether it was there. It is now.
    fn look_up(&mut self, image: u32, number: u64) -> bool;
}

/// Whether a miss reads more than was asked for.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Ahead {
    Nothing,
    Next,
}

/// Ours.
pub(crate) struct Ours<'a> {
    reads: &'a Reads,
    caches: Vec<TableCache>,
    ahead: Ahead,
    buffer: Vec<u8>,
}

impl<'a> Ours<'a> {
    /// For `fit` slices of so many entries, whatever images they are of.
    pub(crate) fn new(reads: &'a Reads, images: u32, entries: u64, fit: u64) -> Self {
        let pool = Ours::pool(entries, fit, images);
        let caches = (0..images).map(|_| TableCache::new(&pool)).collect();
        Ours { reads, caches, ahead: Ahead::Nothing, buffer: vec![0; (entries * ENTRY) as usize] }
    }

    /// As many in all, in equal parts for the images.
    pub(crate) fn split(reads: &'a Reads, images: u32, entries: u64, fit: u64) -> Self {
        let each = fit / u64::from(images);
        let caches = (0..images).map(|_| TableCache::new(&Ours::pool(entries, each, 1))).collect();
        Ours { caches, ..Ours::new(reads, 1, entries, fit) }
    }

    pub(crate) fn reading_ahead(self, ahead: Ahead) -> Self {
        Ours { ahead, ..self }
    }

    /// Bytes of memory that a slice takes.
    pub(crate) fn slice_bytes(entries: u64) -> u64 {
        let cache = TableCache::new(&SlicePool::with_slices_of((entries * ENTRY) as usize, 1 << 20));
        let empty = cache.stats().bytes;
        cache.commit(key(0), FileOffset(0), &scattered(0, entries));
        cache.stats().bytes - empty
    }

    /// What a pool takes without slices is not what is compared.
    fn pool(entries: u64, fit: u64, images: u32) -> Arc<SlicePool> {
        let for_slices = (fit * Ours::slice_bytes(entries)) as usize;
        let mut budget = for_slices;
        loop {
            let empty = SlicePool::with_slices_of((entries * ENTRY) as usize, budget);
            let caches: Vec<_> = (0..images).map(|_| TableCache::new(&empty)).collect();
            let wanted = empty.bytes() + for_slices;
            drop(caches);
            if wanted <= budget {
                return empty;
            }
            budget = wanted;
        }
    }

    fn load(&mut self, image: u32, number: u64) {
        match self.caches[image as usize].begin_read(key(number)) {
            BeginRead::Load(load) => {
                self.reads.read(image, number, &mut self.buffer);
                load.commit(FileOffset(0), &self.buffer);
            }
            BeginRead::Bypass(bypass) => {
                self.reads.read_first_entry(image, number, self.buffer.len());
                drop(bypass.end());
            }
            BeginRead::Resident(_) | BeginRead::Busy => {}
        }
    }
}

fn key(index: u64) -> SliceKey {
    SliceKey { level: TableLevel::L2, index }
}

impl Contender for Ours<'_> {
    fn entries(&self) -> u64 {
        self.buffer.len() as u64 / ENTRY
    }

    fn look_up(&mut self, image: u32, number: u64) -> bool {
        let cache = &self.caches[image as usize];
        if cache.find(key(number), |slice| black_box(slice.entry(0))).is_some() {
            return true;
        }
        let in_sequence =
            self.ahead == Ahead::Next && number > 0 && cache.find(key(number - 1), |_| ()).is_some();
        self.load(image, number);
        if in_sequence {
            self.load(image, number + 1);
        }
        false
    }
}

/// The reference's algorithm, with its whole tables.
pub(crate) struct Reference<'a> {
    reads: &'a Reads,
    cache: ReferenceCache<Box<[u64]>>,
    buffer: Vec<u8>,
}

impl<'a> Reference<'a> {
    /// For `fit` tables of so many entries.
    pub(crate) fn new(reads: &'a Reads, entries: u64, fit: u64) -> Self {
        Reference {
            reads,
            cache: ReferenceCache::new(fit as usize),
            buffer: vec![0; (entries * ENTRY) as usize],
        }
    }
}

fn whole_key(image: u32, number: u64) -> u64 {
    u64::from(image) << 48 | number
}

impl Contender for Reference<'_> {
    fn entries(&self) -> u64 {
        self.buffer.len() as u64 / ENTRY
    }

    fn look_up(&mut self, image: u32, number: u64) -> bool {
        let key = whole_key(image, number);
        if self.cache.find(key).map(|table| black_box(table[0])).is_some() {
            return true;
        }
        self.reads.read(image, number, &mut self.buffer);
        self.cache.commit(key, entries(&self.buffer).collect());
        false
    }
}

/// Policies of other people's caches.
#[derive(Clone, Copy)]
pub(crate) enum Policy {
    Lru,
    Sieve,
    ClockPro,
    TinyLfu,
}

impl Policy {
    pub(crate) const ALL: [Policy; 4] = [Policy::Lru, Policy::Sieve, Policy::ClockPro, Policy::TinyLfu];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Policy::Lru => "LRU (`lru`)",
            Policy::Sieve => "SIEVE (`sieve-cache`)",
            Policy::ClockPro => "S3-FIFO with Clock-PRO (`quick_cache`)",
            Policy::TinyLfu => "W-TinyLFU (`mini-moka`)",
        }
    }
}

type Table = Arc<[u64]>;

/// What each of them does.
trait Foreign {
    fn first_entry(&mut self, key: u64) -> Option<u64>;
    fn keep(&mut self, key: u64, table: Table);
}

impl Foreign for LruCache<u64, Table> {
    fn first_entry(&mut self, key: u64) -> Option<u64> {
        self.get(&key).map(|table| table[0])
    }

    fn keep(&mut self, key: u64, table: Table) {
        self.put(key, table);
    }
}

impl Foreign for SieveCache<u64, Table> {
    fn first_entry(&mut self, key: u64) -> Option<u64> {
        self.get(&key).map(|table| table[0])
    }

    fn keep(&mut self, key: u64, table: Table) {
        self.insert(key, table);
    }
}

impl Foreign for quick_cache::sync::Cache<u64, Table> {
    fn first_entry(&mut self, key: u64) -> Option<u64> {
        self.get(&key).map(|table| table[0])
    }

    fn keep(&mut self, key: u64, table: Table) {
        self.insert(key, table);
    }
}

impl Foreign for mini_moka::unsync::Cache<u64, Table> {
    fn first_entry(&mut self, key: u64) -> Option<u64> {
        self.get(&key).map(|table| table[0])
    }

    fn keep(&mut self, key: u64, table: Table) {
        self.insert(key, table);
    }
}

/// One of them, with slices of our size.
pub(crate) struct Others<'a> {
    reads: &'a Reads,
    cache: Box<dyn Foreign>,
    buffer: Vec<u8>,
}

impl<'a> Others<'a> {
    /// For `fit` slices of so many entries.
    pub(crate) fn new(reads: &'a Reads, policy: Policy, entries: u64, fit: u64) -> Self {
        let places = fit as usize;
        let cache: Box<dyn Foreign> = match policy {
            Policy::Lru => Box::new(LruCache::new(places.try_into().expect("a slice fits"))),
            Policy::Sieve => Box::new(SieveCache::new(places).expect("a slice fits")),
            Policy::ClockPro => Box::new(quick_cache::sync::Cache::new(places)),
            Policy::TinyLfu => Box::new(mini_moka::unsync::Cache::new(fit)),
        };
        Others { reads, cache, buffer: vec![0; (entries * ENTRY) as usize] }
    }
}

impl Contender for Others<'_> {
    fn entries(&self) -> u64 {
        self.buffer.len() as u64 / ENTRY
    }

    fn look_up(&mut self, image: u32, number: u64) -> bool {
        let key = whole_key(image, number);
        if black_box(self.cache.first_entry(key)).is_some() {
            return true;
        }
        self.reads.read(image, number, &mut self.buffer);
        self.cache.keep(key, entries(&self.buffer).collect());
        false
    }
}
