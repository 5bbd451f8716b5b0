//! The reference's own algorithm: a list under a mutex, as many tables as fit 50 places, first in, first out.
//!
//! Role: what our cache is held against, in time and in hit ratio. Made from the description in
//! `docs/spec/table-cache.md`: a look-up walks the list and takes a reference, a commit puts its table at the end and makes
//! room from the front, sparing what is in use.
//!
//! Absent on purpose: anything that would make it better.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Tables that the reference keeps.
pub(crate) const REFERENCE_TABLES: usize = 50;

struct Entry<T> {
    key: u64,
    table: Arc<T>,
}

/// Tables by key, oldest first.
pub(crate) struct ReferenceCache<T> {
    tables: Mutex<VecDeque<Entry<T>>>,
    most: usize,
}

impl<T> ReferenceCache<T> {
    /// Makes an empty cache for `most` tables.
    pub(crate) fn new(most: usize) -> Self {
        ReferenceCache { tables: Mutex::new(VecDeque::new()), most }
    }

    /// Takes a reference to a table that is here.
    pub(crate) fn find(&self, key: u64) -> Option<Arc<T>> {
        self.lock().iter().find(|entry| entry.key == key).map(|entry| Arc::clone(&entry.table))
    }

    /// Keeps a table, unless there is one: that one is returned then. Evicts the oldest that nobody refers to; when all
    /// are in use the list grows.
    pub(crate) fn commit(&self, key: u64, table: T) -> Arc<T> {
        let mut tables = self.lock();
        if let Some(first) = tables.iter().find(|entry| entry.key == key) {
            return Arc::clone(&first.table);
        }
        while tables.len() >= self.most {
            let Some(oldest) = tables.iter().position(|entry| Arc::strong_count(&entry.table) == 1) else {
                break;
            };
            tables.remove(oldest);
        }
        let table = Arc::new(table);
        tables.push_back(Entry { key, table: Arc::clone(&table) });
        table
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Entry<T>>> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
