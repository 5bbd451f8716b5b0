//! The caches that are compared, behind one face.
//!
//! Role: each is asked for an entry of a slice or table, and takes one in, as its users do it: ours reads in place, the
//! others hand out a reference.

use std::sync::Arc;

use quod::cache::TableCache;

use crate::ours::{self, ENTRIES};
use crate::reference::{REFERENCE_TABLES, ReferenceCache};

/// A cache of tables or slices.
pub(crate) trait Contender: Sync {
    /// An entry of the table `key`, when it is here.
    fn find(&self, key: u64) -> Option<u64>;
    /// What a miss does after the read: takes the table in, and makes room for it.
    fn load(&self, key: u64);
}

/// Ours.
pub(crate) struct Ours(TableCache, Vec<u8>);

impl Ours {
    /// A cache for `slices` slices of these bytes in use.
    pub(crate) fn new(slices: usize, bytes: Vec<u8>) -> Self {
        Ours(ours::cache(slices, &bytes), bytes)
    }
}

impl Contender for Ours {
    fn find(&self, index: u64) -> Option<u64> {
        ours::find(&self.0, index)
    }

    fn load(&self, index: u64) {
        drop(ours::load(&self.0, index, &self.1));
    }
}

type Table = [u64; ENTRIES as usize];

fn table(key: u64) -> Table {
    std::array::from_fn(|entry| key + entry as u64)
}

/// The reference's algorithm, with tables as small as our slices, so that only the algorithms differ.
pub(crate) struct Reference(ReferenceCache<Table>);

impl Reference {
    /// As the reference has it.
    pub(crate) fn new() -> Self {
        Reference(ReferenceCache::new(REFERENCE_TABLES))
    }
}

impl Contender for Reference {
    fn find(&self, key: u64) -> Option<u64> {
        self.0.find(key).map(|table| table[key as usize % ENTRIES as usize])
    }

    fn load(&self, key: u64) {
        self.0.commit(key, table(key));
    }
}

/// quick_cache, the quickest general cache that was looked at.
pub(crate) struct Quick(quick_cache::sync::Cache<u64, Arc<Table>>);

impl Quick {
    /// A cache for `tables` tables.
    pub(crate) fn new(tables: usize) -> Self {
        Quick(quick_cache::sync::Cache::new(tables))
    }
}

impl Contender for Quick {
    fn find(&self, key: u64) -> Option<u64> {
        self.0.get(&key).map(|table| table[key as usize % ENTRIES as usize])
    }

    fn load(&self, key: u64) {
        self.0.insert(key, Arc::new(table(key)));
    }
}
