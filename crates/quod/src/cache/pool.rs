//! Slices of the tables of any number of images, within one budget.
//!
//! Role: [`SlicePool`] is what table caches share: the memory of slices, the directory, and the policy's queues. A slice that an
//! image needs makes room at the cost of whichever slice is missed least, be it another image's.
//!
//! Invariants: a resident slice is in the directory and in exactly one queue of the policy; one that is gone is in neither, and
//! has no memory, unless its image was closed and somebody has it pinned still. Bytes exceed the budget only while the slices that
//! eviction meets are pinned, and from the update of a slice to the next commit. No two images have one number, and whoever
//! gets that of one that is gone finds nothing of it.
//! [`SlicePool::validate`] holds the structure against them.
//!
//! Absent on purpose: I/O, and whatever concerns one image (`mod.rs`). And memory given back to the system before the pool goes:
//! readers take no reference, so nobody knows when the last one has looked at it.

use std::collections::HashMap;
use std::fmt;
use std::hash::BuildHasher;
use std::sync::Arc;

use foldhash::fast::RandomState;
use smallvec::SmallVec;

use super::arena::{Arena, Frame, Ledger, Line};
use super::directory::Directory;
use super::entries::{self, Run, Shape};
use super::evict::{Clock, Coming};
use super::miss::Loading;
use super::slice::{Header, ORPHANED, OwnedKey, UPDATED};
use super::updates::Updates;
use super::{Pinned, TableCache};
use crate::geometry::{ENTRY, SLICE_BYTES};
use crate::sync::atomic::AtomicUsize;
use crate::sync::{Mutex, MutexGuard};
use crate::table;
use crate::units::FileOffset;

/// The directory has room for one slice in so many bytes. Narrow ones take twice as much; of those that are runs there may be
/// many times as many, since the lists that they then share cost less than so large a directory would.
const BYTES_A_PLACE: usize = SLICE_BYTES as usize / 4;

/// Bytes that a slice takes in the queues of the policy and in their memory, about.
const QUEUED: usize = 24;

/// Bytes that entries of a slice on their way to the file take, about, whenever there were any.
const UPDATES: usize = size_of::<Updates>() + 48;

/// Memory for slices, shared by the table caches of one image's chain or of many images.
pub struct SlicePool {
    pub(super) arena: Arena,
    pub(super) directory: Directory,
    pub(super) structure: Mutex<Structure>,
    pub(super) budget: usize,
    /// Images that may have slices kept here now.
    pub(super) keepers: AtomicUsize,
}

/// Everything that changes when a slice comes or goes. Hits never come here, and no I/O runs under its lock.
#[derive(Default)]
pub(super) struct Structure {
    pub(super) loading: HashMap<OwnedKey, Loading, RandomState>,
    pub(super) clock: Clock,
    ledger: Ledger,
    /// Rooms in which no slice has come yet.
    reserved: usize,
    /// Slices whose image is gone, and that somebody has pinned.
    orphans: usize,
    /// Of slices that are pinned, or were: made when somebody updates one.
    updates: HashMap<Line, Arc<Updates>, RandomState>,
    /// Lives that slices led.
    lives: u64,
    /// What slices of each image take, with its cache; `None` where a number is free.
    images: Vec<Option<usize>>,
    /// How many images there are.
    caches: usize,
    /// The budget is exceeded: what eviction met was pinned, or a slice has been updated since.
    is_over: bool,
}

/// Memory for a slice that is to come, which nobody looks at.
#[derive(Clone, Copy, Debug)]
pub(super) struct Room {
    line: Line,
    frame: Frame,
    more: Option<Frame>,
    coming: Coming,
}

/// What is to be shown in a room.
pub(super) struct Content {
    owned: OwnedKey,
    at: FileOffset,
    count: usize,
    kept: Kept,
}

/// How it is to be kept.
enum Kept {
    /// So, without more memory.
    As(Shape),
    Runs(Box<[Run]>),
}

/// Slices that went; to be told of outside the lock.
pub(super) type Evicted = SmallVec<[OwnedKey; 2]>;

impl Structure {
    /// What slices of an image take, with its cache.
    pub(super) fn bytes_of(&self, image: u32) -> usize {
        self.images[image as usize].expect("who asks has a cache here")
    }

    fn count_in(&mut self, image: u32, bytes: usize) {
        let all = &mut self.images[image as usize];
        *all = all.map(|all| all + bytes);
    }

    /// A life that no slice led.
    fn next_life(&mut self) -> u64 {
        self.lives += 1;
        self.lives
    }

    fn count_out(&mut self, image: u32, bytes: usize) {
        let all = &mut self.images[image as usize];
        *all = all.map(|all| all - bytes);
    }
}

impl SlicePool {
    /// Makes an empty pool. `budget` is what slices, the directory and the cache of each image may take together, in bytes.
    /// Memory for slices is taken when they come, and stays with the pool for as long as it lives; slices that are all pinned may
    /// take more. The directory is made at once: a thirtieth of the budget at most, or less than 8 KiB.
    pub fn new(budget: usize) -> Arc<Self> {
        Arc::new(SlicePool::with_budget(SLICE_BYTES as usize, budget, seed()))
    }

    /// As [`new`](SlicePool::new), for slices of a size that is a power of two: for comparisons. Each run of
    /// one does the same.
    #[doc(hidden)]
    pub fn with_slices_of(bytes: usize, budget: usize) -> Arc<Self> {
        Arc::new(SlicePool::with_budget(bytes, budget, 0))
    }

    pub(super) fn with_budget(slice_bytes: usize, budget: usize, seed: u64) -> Self {
        let directory = Directory::new((budget / BYTES_A_PLACE) as u64, seed);
        let frames = budget.saturating_sub(directory.bytes()) / (slice_bytes / 2);
        SlicePool {
            arena: Arena::new(slice_bytes / 2 / ENTRY as usize, frames),
            directory,
            structure: Mutex::new(Structure { clock: Clock::new(seed), ..Structure::default() }),
            budget,
            keepers: AtomicUsize::new(0),
        }
    }

    /// Bytes that slices may take, with all that finds them.
    pub fn budget(&self) -> usize {
        self.budget
    }

    /// Bytes that all of it takes now.
    pub fn bytes(&self) -> usize {
        self.bytes_with(&self.lock(), 0, 0, 0)
    }

    /// Bytes that all of it would take with so many more frames, lines and slices.
    pub(super) fn bytes_with(
        &self,
        structure: &Structure,
        frames: usize,
        lines: usize,
        slices: usize,
    ) -> usize {
        let ledger = &structure.ledger;
        let frames = ledger.used() + ledger.frames_for(&self.arena, frames, lines);
        let caches = structure.caches * size_of::<TableCache>();
        self.own_bytes()
            + caches
            + frames * self.arena.frame_bytes()
            + (structure.clock.len() + structure.reserved + slices) * QUEUED
            + structure.updates.len() * UPDATES
    }

    /// Bytes that it takes when it is empty.
    fn own_bytes(&self) -> usize {
        size_of::<SlicePool>() + self.directory.bytes() + self.arena.bytes()
    }

    /// Counts one more image in; its number, which no other has meanwhile.
    pub(super) fn enter(&self) -> u32 {
        let mut structure = self.lock();
        let free = structure.images.iter().position(Option::is_none);
        let image = free.unwrap_or_else(|| {
            structure.images.push(None);
            structure.images.len() - 1
        });
        structure.images[image] = Some(size_of::<TableCache>());
        structure.caches += 1;
        self.make_room(&mut structure, 0, 0, 0);
        // A number has 31 bits.
        u32::try_from(image).expect("so many images are not open")
    }

    /// Lets all slices of an image go that has no cache here any more. Who has one pinned keeps a copy that nobody finds.
    pub(super) fn leave(&self, image: u32) {
        // Poisoned: whoever asks next panics, and nobody is misled by what is left here.
        let Ok(mut structure) = self.structure.lock() else { return };
        for line in structure.clock.remove_all_of(&self.arena, image) {
            let slice = Header::there(&self.arena, line);
            self.directory.remove(&self.arena, slice);
            if slice.orphan() {
                self.give_back(&mut structure, slice);
            } else {
                structure.orphans += 1;
                slice.begin(structure.next_life());
            }
        }
        // Loads whose future was leaked; the next image of that number would wait for them.
        let leaked: Vec<_> = structure.loading.extract_if(|key, _| key.image == image).collect();
        let rooms = leaked.iter().filter_map(|(_, loading)| loading.room);
        rooms.for_each(|room| self.vacate(&mut structure, room));
        structure.images[image as usize] = None;
        structure.caches -= 1;
        drop(structure);
        // A slice that is let go may ask for the lock.
        drop(leaked);
    }

    /// Whether a slice is to be read without coming in: another would have to go for it, and it would be asked for once.
    pub(super) fn bypasses(&self, structure: &Structure, coming: Coming) -> bool {
        coming == Coming::New
            && self.bytes_with(structure, 1, 1, 1) > self.budget
            // Over the budget somebody has to load, since only that makes room.
            && !structure.is_over
            && structure.clock.bypasses()
    }

    /// Takes memory for a slice that is to come, and makes room for it first. Enough for most: narrow entries.
    pub(super) fn reserve(&self, structure: &mut Structure, coming: Coming) -> (Room, Evicted) {
        let evicted = self.make_room(structure, 1, 1, 1);
        let (line, frame) =
            (structure.ledger.take_line(&self.arena), structure.ledger.take_frame(&self.arena));
        structure.reserved += 1;
        (Room { line, frame, more: None, coming }, evicted)
    }

    /// Gives memory back in which no slice came.
    pub(super) fn vacate(&self, structure: &mut Structure, Room { line, frame, more, .. }: Room) {
        structure.reserved -= 1;
        structure.ledger.give_line(&self.arena, line);
        [Some(frame), more].into_iter().flatten().for_each(|frame| structure.ledger.give_frame(frame));
    }

    /// Puts the entries of a slice where they are to be, while nobody looks. Not under the lock.
    ///
    /// # Panics
    /// When the bytes are not whole entries, or more than a slice has.
    pub(super) fn fill(
        &self,
        room: &mut Room,
        owned: OwnedKey,
        at: FileOffset,
        bytes: &[u8],
    ) -> (Content, Evicted) {
        let entries = table::in_place(bytes);
        let count = entries.len();
        let frame = self.arena.frame(room.frame);
        assert!(count <= 2 * frame.len(), "a slice of {count} entries");
        let mut evicted = Evicted::new();
        let kept = if let Some(runs) = entries::runs_of(entries) {
            match runs.as_slice() {
                [] => Kept::As(Shape::Even { first: 0, stride: 0 }),
                [run] => Kept::As(Shape::Even { first: run.first, stride: run.stride }),
                runs => Kept::Runs(runs.into()),
            }
        } else if entries::fill_narrow(frame, entries) {
            Kept::As(Shape::Narrow(room.frame))
        } else {
            let (those, others) = entries.split_at(count.min(frame.len()));
            entries::fill_wide(frame, those);
            if !others.is_empty() {
                let mut structure = self.lock();
                evicted = self.make_room(&mut structure, 1, 0, 0);
                let more = structure.ledger.take_frame(&self.arena);
                drop(structure);
                entries::fill_wide(self.arena.frame(more), others);
                room.more = Some(more);
            }
            Kept::As(Shape::Wide(room.frame, room.more))
        };
        (Content { owned, at, count, kept }, evicted)
    }

    /// Shows a slice that is not here in the memory that was taken for it.
    pub(super) fn admit(
        &self,
        structure: &mut Structure,
        room: Room,
        content: Content,
    ) -> (Header<'_>, Evicted) {
        let Content { owned, at, count, kept } = content;
        let arena = &self.arena;
        let slice = Header::there(arena, room.line);
        let mut evicted = Evicted::new();
        let shape = match kept {
            Kept::As(shape) => shape,
            Kept::Runs(runs) => {
                evicted = self.make_room(structure, 0, entries::lines_for(&runs), 0);
                Shape::Runs(entries::write_runs(arena, &mut structure.ledger, &runs))
            }
        };
        if let Shape::Even { .. } | Shape::Runs(_) = shape {
            structure.ledger.give_frame(room.frame);
        }
        slice.write(owned, at, shape, count);
        arena.forget_visit(room.line);
        self.directory.insert(arena, slice, structure.next_life());
        structure.reserved -= 1;
        structure.clock.admit(arena, slice, room.coming);
        structure.count_in(owned.image, self.bytes_of(slice));
        (slice, evicted)
    }

    /// Makes the entries of a slice wide, which is pinned.
    pub(super) fn unpack(&self, structure: &mut Structure, slice: Header<'_>) -> Evicted {
        let (shape, count) = slice.shape();
        let owned = slice.owned_key();
        let frames = count.div_ceil(self.arena.frame_words()).max(1);
        let evicted = self.make_room(structure, frames, 0, 0);
        structure.count_out(owned.image, self.bytes_of(slice));
        let frame = structure.ledger.take_frame(&self.arena);
        let more = (frames > 1).then(|| structure.ledger.take_frame(&self.arena));
        let words = [Some(frame), more].into_iter().flatten().flat_map(|frame| self.arena.frame(frame));
        entries::fill(words, (0..count).map_while(|place| entries::entry(&self.arena, shape, count, place)));
        slice.reshape(Shape::Wide(frame, more), structure.next_life());
        self.give_shape_back(structure, shape);
        structure.count_in(owned.image, self.bytes_of(slice));
        evicted
    }

    /// Bytes that a slice takes.
    pub(super) fn bytes_of(&self, slice: Header<'_>) -> usize {
        let (frames, lines) = self.frames_and_lines(slice);
        frames * self.arena.frame_bytes() + lines * self.arena.line_bytes() + QUEUED
    }

    /// Frames and lines that it has.
    fn frames_and_lines(&self, slice: Header<'_>) -> (usize, usize) {
        match slice.shape().0 {
            Shape::Even { .. } => (0, 1),
            Shape::Runs(first) => (0, 1 + entries::run_lines(&self.arena, first).count()),
            Shape::Narrow(_) | Shape::Wide(_, None) => (1, 1),
            Shape::Wide(_, Some(_)) => (2, 1),
        }
    }

    /// Evicts until the budget holds with so many more frames, lines and slices, or what it meets is pinned.
    fn make_room(&self, structure: &mut Structure, frames: usize, lines: usize, slices: usize) -> Evicted {
        let mut evicted = Evicted::new();
        while self.bytes_with(structure, frames, lines, slices) > self.budget {
            let Some(slice) = structure.clock.evict(&self.arena) else { break };
            let key = slice.owned_key();
            self.directory.remove(&self.arena, slice);
            structure.count_out(key.image, self.bytes_of(slice));
            self.give_back(structure, slice);
            evicted.push(key);
        }
        structure.is_over = self.bytes_with(structure, frames, lines, slices) > self.budget;
        evicted
    }

    /// Gives the memory of a slice back that leads no life any more, and that nobody has pinned.
    fn give_back(&self, structure: &mut Structure, slice: Header<'_>) {
        if slice.is(UPDATED) {
            structure.updates.remove(&slice.line);
        }
        self.give_shape_back(structure, slice.shape().0);
        structure.ledger.give_line(&self.arena, slice.line);
    }

    fn give_shape_back(&self, structure: &mut Structure, shape: Shape) {
        let ledger = &mut structure.ledger;
        match shape {
            Shape::Even { .. } => {}
            Shape::Runs(first) => {
                let lines: SmallVec<[Line; 16]> = entries::run_lines(&self.arena, first).collect();
                lines.into_iter().for_each(|line| ledger.give_line(&self.arena, line));
            }
            Shape::Narrow(frame) => ledger.give_frame(frame),
            Shape::Wide(frame, more) => {
                [Some(frame), more].into_iter().flatten().for_each(|frame| ledger.give_frame(frame));
            }
        }
    }

    /// Gives the memory of a slice back whose image is gone.
    pub(super) fn bury(&self, line: Line) {
        let Ok(mut structure) = self.structure.lock() else { return };
        let slice = Header::there(&self.arena, line);
        slice.end();
        structure.orphans -= 1;
        self.give_back(&mut structure, slice);
    }

    /// The queue of entries of a slice that are on their way to the file, when there was ever one.
    pub(super) fn updates_if_any(&self, slice: &Pinned) -> Option<Arc<Updates>> {
        let header = slice.header();
        if header.is(UPDATED) { self.lock().updates.get(&header.line).cloned() } else { None }
    }

    /// As [`updates_if_any`](SlicePool::updates_if_any), made now if need be.
    pub(super) fn updates_of(&self, slice: &Pinned) -> Arc<Updates> {
        let mut structure = self.lock();
        let header = slice.header();
        header.set(UPDATED);
        let updates = Arc::clone(structure.updates.entry(header.line).or_default());
        // Who makes room next makes it for this, too.
        structure.is_over |= self.bytes_with(&structure, 0, 0, 0) > self.budget;
        updates
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
        let (mut frames, mut lines, mut remembered) = (0, 0, 0);
        let mut held: Vec<_> =
            structure.images.iter().map(|image| image.map(|_| size_of::<TableCache>())).collect();
        for line in structure.clock.slices() {
            let slice = Header::there(&self.arena, line);
            let key = slice.owned_key();
            assert!(slice.is_shown() && !slice.is(ORPHANED), "{key:?} is queued and gone");
            let found = self.directory.look_up(&self.arena, key).map(|found| found.line);
            assert_eq!(found, Some(line), "{key:?} is queued, and the directory has another or none");
            remembered += usize::from(structure.clock.remembers(key));
            let held = held[key.image as usize].as_mut();
            *held.expect("the image of a slice has a cache") += self.bytes_of(slice);
            let its = self.frames_and_lines(slice);
            (frames, lines) = (frames + its.0, lines + its.1);
        }
        // By a part of a hash, which some have in common.
        assert!(
            remembered <= 1 + (structure.clock.len() >> 10),
            "{remembered} are here, and remembered as gone"
        );
        // Those of what is on its way or nobody's are not known.
        if (structure.reserved, structure.orphans) == (0, 0) {
            structure.ledger.validate(&self.arena, frames, lines);
        }
        let found = self.directory.lengths(&self.arena).sum();
        assert_eq!(structure.clock.len(), found, "slices in the queues and in the directory");
        assert_eq!(held, structure.images, "bytes held and bytes counted, for each image");
        assert_eq!(held.iter().flatten().count(), structure.caches, "images, and how many are counted");
        let bytes = self.bytes_with(&structure, 0, 0, 0);
        assert!(
            bytes <= self.budget || structure.is_over || structure.clock.len() == 0,
            "whoever made room last left unpinned slices over the budget"
        );
        for (key, loading) in &structure.loading {
            let first = loading.first.as_ref();
            assert!(first.is_none_or(|first| first.owned_key() == *key), "{key:?} went early");
        }
    }
}

/// What nobody can guess. Each run of a model is to be the same.
fn seed() -> u64 {
    if cfg!(any(quod_loom, quod_shuttle)) { 0 } else { std::hash::RandomState::new().hash_one(0) }
}

impl fmt::Debug for SlicePool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SlicePool").field("budget", &self.budget).finish_non_exhaustive()
    }
}
