//! Slices of the tables of any number of images, within one budget.
//!
//! Role: [`SlicePool`] is what table caches share: the directory, the policy's queues, and the bytes that all of it takes. A
//! slice that an image needs makes room at the cost of whichever slice is missed least, be it another image's.
//!
//! Invariants: a resident slice is in the directory and in exactly one queue of the policy; an evicted slice is in neither
//! and can no longer be pinned; bytes exceed the budget only while the slices that eviction meets are pinned. No two
//! images have one number, and whoever gets that of one that is gone finds nothing of it. Memory that is kept for slices to
//! come was of slices that nobody refers to. [`SlicePool::validate`] holds the structure against them.
//!
//! Absent on purpose: I/O, and whatever concerns one image (`mod.rs`).

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use foldhash::fast::RandomState;
use smallvec::SmallVec;

use super::directory::Directory;
use super::evict::Clock;
use super::slot::OwnedKey;
use super::{Pinned, Slice, TableCache};
use crate::geometry::SLICE_BYTES;
use crate::sync::atomic::{AtomicUsize, Ordering};
use crate::sync::{Event, Mutex, MutexGuard};

/// What may be kept for entries that the file is owed is one part in so many of the budget.
const KEPT_SHARE: usize = 4;

/// The directory has room for one slice in so many bytes. Scattered ones take four times as much; of packed ones there may be
/// four times as many, since the lists that they then share cost less than so large a directory would.
const BYTES_A_PLACE: u64 = SLICE_BYTES / 4;

/// The memory of so many slices that went is kept for those that come.
const MOST_SPARE: usize = 2;

/// Memory for slices, shared by the table caches of one image's chain or of many images.
pub struct SlicePool {
    pub(super) directory: Directory,
    pub(super) structure: Mutex<Structure>,
    pub(super) budget: usize,
    /// Images that may have slices kept here now.
    keepers: AtomicUsize,
}

/// Everything that changes when a slice comes or goes. Hits never come here, and no I/O runs under its lock.
pub(super) struct Structure {
    pub(super) loading: HashMap<OwnedKey, Loading, RandomState>,
    pub(super) clock: Clock,
    /// Memory for slices to come, of slices that went and that nobody looks at any more.
    pub(super) spare: Vec<Arc<Slice>>,
    bytes: usize,
    /// What is each image's of that; `None` where a number is free.
    images: Vec<Option<usize>>,
    /// Whoever made room last left the budget exceeded, since what it met was pinned.
    all_pinned: bool,
}

/// A slice that is being read.
#[derive(Default)]
pub(super) struct Loading {
    /// Made by the first who waits: few loads are waited for.
    pub(super) ended: Option<Event>,
    /// What came in by another road meanwhile. It stays until the load has ended, since it may be newer than what the
    /// load has read.
    pub(super) first: Option<Pinned>,
}

/// Slices that went, with their memory unless that is kept; to be dropped outside the lock.
pub(super) type Evicted = SmallVec<[(OwnedKey, Option<Arc<Slice>>); 2]>;

impl Structure {
    /// What slices of an image take, with its cache.
    pub(super) fn bytes_of(&self, image: usize) -> usize {
        self.images[image].expect("who asks has a cache here")
    }

    fn count_in(&mut self, image: usize, bytes: usize) {
        self.bytes += bytes;
        self.images[image] = self.images[image].map(|all| all + bytes);
    }

    fn count_out(&mut self, image: usize, bytes: usize) {
        self.bytes -= bytes;
        self.images[image] = self.images[image].map(|all| all - bytes);
    }
}

impl SlicePool {
    /// Makes an empty pool. `budget` is what slices, the directory and the cache of each image may take together, in bytes.
    /// Beside it each image keeps up to 32 KiB that slices are read into, each load under way may have the memory of a slice that
    /// went, and the pool that of two more. The directory is made at once: a thirtieth of the budget at most, or less than 4 KiB.
    pub fn new(budget: usize) -> Arc<Self> {
        Arc::new(SlicePool::with_budget(budget))
    }

    pub(super) fn with_budget(budget: usize) -> Self {
        let directory = Directory::new(budget as u64 / BYTES_A_PLACE);
        let bytes = size_of::<SlicePool>() + directory.bytes();
        let structure = Structure {
            loading: HashMap::default(),
            clock: Clock::default(),
            spare: Vec::new(),
            bytes,
            images: Vec::new(),
            all_pinned: false,
        };
        SlicePool { directory, structure: Mutex::new(structure), budget, keepers: AtomicUsize::new(0) }
    }

    /// Bytes that slices may take, with all that finds them.
    pub fn budget(&self) -> usize {
        self.budget
    }

    /// Bytes that all of it takes now.
    pub fn bytes(&self) -> usize {
        self.lock().bytes
    }

    /// Counts one more image in; its number, which no other has meanwhile.
    pub(super) fn enter(&self) -> usize {
        let mut structure = self.lock();
        let free = structure.images.iter().position(Option::is_none);
        let image = free.unwrap_or_else(|| {
            structure.images.push(None);
            structure.images.len() - 1
        });
        structure.images[image] = Some(0);
        structure.count_in(image, size_of::<TableCache>());
        let gone = self.make_room(&mut structure);
        drop(structure);
        // Memory is given back outside the lock.
        drop(gone);
        image
    }

    /// Lets all slices of an image go that has no cache here any more. Who has one pinned keeps a copy that nobody finds.
    pub(super) fn leave(&self, image: usize) {
        // Poisoned: whoever asks next panics, and nobody is misled by what is left here.
        let Ok(mut structure) = self.structure.lock() else { return };
        let gone = structure.clock.remove_all_of(image);
        for slice in &gone {
            self.directory.remove(slice.owned_key());
        }
        // Loads whose future was leaked; the next image of that number would wait for them.
        let leaked: Vec<_> = structure.loading.extract_if(|key, _| key.image == image).collect();
        structure.bytes -= structure.bytes_of(image);
        structure.images[image] = None;
        drop(structure);
        // Memory is given back outside the lock.
        drop((gone, leaked));
    }

    /// Takes in a slice that is not here, and makes room.
    pub(super) fn admit(&self, structure: &mut Structure, slice: &Arc<Slice>) -> Evicted {
        self.directory.insert(Arc::clone(slice));
        structure.count_in(slice.owned_key().image, slice.bytes());
        structure.clock.admit(Arc::clone(slice));
        self.make_room(structure)
    }

    /// Has a slice that is resident so many bytes larger, and makes room.
    pub(super) fn grow(&self, structure: &mut Structure, slice: &Pinned, bytes: usize) -> Evicted {
        structure.count_in(slice.owned_key().image, bytes);
        self.make_room(structure)
    }

    /// Evicts until the budget holds or what it meets is pinned.
    fn make_room(&self, structure: &mut Structure) -> Evicted {
        let mut evicted = Evicted::new();
        while structure.bytes > self.budget {
            let Some(mut slice) = structure.clock.evict() else { break };
            let key = slice.owned_key();
            self.directory.remove(key);
            structure.count_out(key.image, slice.bytes());
            match Arc::get_mut(&mut slice) {
                Some(unseen) if structure.spare.len() < MOST_SPARE => {
                    unseen.unlink();
                    structure.spare.push(slice);
                    evicted.push((key, None));
                }
                Some(_) | None => evicted.push((key, Some(slice))),
            }
        }
        structure.all_pinned = structure.bytes > self.budget;
        evicted
    }

    /// A panic under the lock is a broken invariant: whoever comes after panics as well, rather than spread it.
    pub(super) fn lock(&self) -> MutexGuard<'_, Structure> {
        self.structure.lock().expect("no panic under the table cache's lock")
    }

    /// Holds the whole structure against the invariants of this module.
    ///
    /// # Panics
    /// When one is broken.
    pub(super) fn validate(&self) {
        let structure = self.lock();
        let mut slices = 0;
        let has_cache = |image: &Option<usize>| image.map(|_| size_of::<TableCache>());
        let mut held: Vec<_> = structure.images.iter().map(has_cache).collect();
        for slice in structure.clock.slices() {
            let key = slice.owned_key();
            assert!(!slice.is_evicted(), "{key:?} is queued and evicted");
            let same = self.directory.find(key, |found| Arc::ptr_eq(found, slice));
            assert_eq!(same, Some(true), "{key:?} is queued, and the directory has another or none");
            assert!(!structure.clock.remembers(key), "{key:?} is here, and remembered as gone");
            let held = held[key.image].as_mut();
            *held.expect("the image of a slice has a cache") += slice.bytes();
            slices += 1;
        }
        let unseen = |slice: &Arc<Slice>| slice.is_evicted() && Arc::strong_count(slice) == 1;
        assert!(structure.spare.len() <= MOST_SPARE, "much is kept for slices to come");
        assert!(structure.spare.iter().all(unseen), "somebody refers to memory for slices to come");
        assert_eq!(slices, self.directory.len(), "slices in the directory and in the queues");
        assert_eq!(held, structure.images, "bytes held and bytes counted, for each image");
        let held: usize = held.into_iter().flatten().sum();
        let own = size_of::<SlicePool>() + self.directory.bytes();
        assert_eq!(own + held, structure.bytes, "bytes held and bytes counted");
        assert!(
            structure.bytes <= self.budget || structure.all_pinned || slices == 0,
            "whoever made room last left unpinned slices over the budget"
        );
        for (key, loading) in &structure.loading {
            let first = loading.first.as_ref();
            assert!(
                first.is_none_or(|first| first.is_pinned() && first.owned_key() == *key),
                "{key:?} went early"
            );
        }
    }
}

impl fmt::Debug for SlicePool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SlicePool").field("budget", &self.budget).finish_non_exhaustive()
    }
}

/// The right of one image to have slices kept for entries that the file is owed. All that have it share a quarter of the
/// budget in equal parts, and each may keep one slice at least: what the file has of them takes as much again, beside the
/// budget.
#[derive(Debug)]
pub(crate) struct KeptShare(Arc<SlicePool>);

impl KeptShare {
    pub(crate) fn of(pool: &Arc<SlicePool>) -> Self {
        pool.keepers.fetch_add(1, Ordering::Relaxed);
        KeptShare(Arc::clone(pool))
    }

    /// How many slices that is now.
    pub(crate) fn slices(&self) -> usize {
        let keepers = self.0.keepers.load(Ordering::Relaxed);
        (self.0.budget / KEPT_SHARE / SLICE_BYTES as usize / keepers).max(1)
    }
}

impl Drop for KeptShare {
    fn drop(&mut self) {
        self.0.keepers.fetch_sub(1, Ordering::Relaxed);
    }
}
