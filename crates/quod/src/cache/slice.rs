//! A slice of a table in memory: what is known of it, in a line, and how a reader sees it.
//!
//! Role: a [`Header`] is the line of a slice, and [`Slice`] what one says at a moment. A reader takes no reference: it reads
//! words, and then looks whether the line has led the same *life* all the while. If not, it has seen nothing.
//!
//! Invariants: in one life nothing of a line changes but the count of pins, two flags, and the link to the next slice of its
//! list. No life of a pool is led twice; 0 is none. A slice that is pinned leads a life but for moments, in which its entries are
//! unpacked, or it leaves the directory with its image.
//!
//! Absent on purpose: who may write an entry (`pinned.rs`), and which entries the file has (`updates.rs`).

use std::fmt;
use std::ops::Range;

use zerocopy::little_endian::U64;

use super::arena::{Arena, Frame, LINE_WORDS, Line, Side};
use super::entries::{self, NO_LINE, Shape, line_named, named};
use crate::geometry::ENTRY;
use crate::sync::Word;
use crate::sync::atomic::{Ordering, fence};
use crate::table;
use crate::units::FileOffset;

/// Which tables a slice is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TableLevel {
    /// The one L1 table.
    L1,
    /// An L2 table.
    L2,
}

/// Which slice: the `index`th of all slices of its level, in the order of the guest offsets they cover.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SliceKey {
    /// Level of the table.
    pub level: TableLevel,
    /// Guest offset divided by what a slice covers.
    pub index: u64,
}

/// A slice of one of the images of a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct OwnedKey {
    pub(super) image: u32,
    pub(super) key: SliceKey,
}

impl OwnedKey {
    /// Image and level, below 2 to the 32nd.
    #[inline]
    fn owner(self) -> u64 {
        u64::from(self.image) << 1 | u64::from(self.key.level == TableLevel::L1)
    }

    fn of(owner: u64, index: u64) -> Self {
        let level = if owner & 1 == 1 { TableLevel::L1 } else { TableLevel::L2 };
        OwnedKey { image: (owner >> 1) as u32, key: SliceKey { level, index } }
    }
}

// Words of a line that is a slice's.
/// Which life it leads; 0 while nobody is to see it.
const LIFE: usize = 0;
/// How many have it pinned, and two flags.
const STATE: usize = 1;
/// Image and level, and below them the next slice of the list.
const OWNER: usize = 2;
const INDEX: usize = 3;
/// Where its first entry lies in the file.
const AT: usize = 4;
/// How its entries are kept, how many there are, and in which frame, or from which line on.
const SHAPE: usize = 5;
/// The first entry of a run, or the second frame of what is wide; what each next one is larger by.
const FIRST: usize = 6;
const STRIDE: usize = 7;

const NEXT_BITS: usize = 32;
const NEXT: u64 = (1 << NEXT_BITS) - 1;

/// Its image is gone: the last one who has it pinned gives its memory back.
pub(super) const ORPHANED: u64 = 1 << 63;
/// The pool has a queue of entries of it that are on their way to the file.
pub(super) const UPDATED: u64 = 1 << 62;
const PINS: u64 = UPDATED - 1;

// Kinds of shapes.
const EVEN: u64 = 0;
const RUNS: u64 = 1;
const NARROW: u64 = 2;
const WIDE: u64 = 3;
const KIND_BITS: u32 = 2;
/// Where the frame or line is named.
const PLACE: u32 = 32;

/// The line of a slice, or what was one.
#[derive(Clone, Copy)]
pub(super) struct Header<'a> {
    arena: &'a Arena,
    pub(super) line: Line,
    words: &'a [Word; LINE_WORDS],
    side: &'a Side,
}

/// What a reader has to find again when it has read.
#[derive(Clone, Copy)]
pub(super) struct Life {
    era: u64,
    life: u64,
}

impl<'a> Header<'a> {
    /// That of a line that a link has led to.
    #[inline]
    pub(super) fn of(arena: &'a Arena, line: Line) -> Option<Self> {
        let (words, side) = arena.line(line)?;
        Some(Header { arena, line, words, side })
    }

    /// That of a line that somebody has.
    pub(super) fn there(arena: &'a Arena, line: Line) -> Self {
        Header::of(arena, line).expect("a line that was taken")
    }

    #[inline]
    fn word(&self, which: usize) -> u64 {
        self.words[which].load(Ordering::Relaxed)
    }

    fn put(&self, which: usize, word: u64) {
        self.words[which].store(word, Ordering::Relaxed);
    }

    /// The life that it leads now; `None` when it is nobody's.
    #[inline]
    pub(super) fn life(&self) -> Option<Life> {
        let era = self.side.era()?;
        let life = self.words[LIFE].load(Ordering::Acquire);
        (life != 0).then_some(Life { era, life })
    }

    /// Whether all that was read since then is of that life.
    #[inline]
    pub(super) fn leads(&self, life: Life) -> bool {
        fence(Ordering::Acquire);
        // Who reads an entry there that says so, since the line is none any more, sees its era as well.
        self.words[LIFE].load(Ordering::Acquire) == life.life && self.side.is_era(life.era)
    }

    /// Whether it is that of this key.
    #[inline]
    pub(super) fn is_of(&self, OwnedKey { image, key }: OwnedKey) -> bool {
        let owner = OwnedKey { image, key }.owner();
        self.word(OWNER) >> NEXT_BITS == owner && self.word(INDEX) == key.index
    }

    pub(super) fn owned_key(&self) -> OwnedKey {
        OwnedKey::of(self.word(OWNER) >> NEXT_BITS, self.word(INDEX))
    }

    /// What follows it in its list of the directory.
    #[inline]
    pub(super) fn next(&self) -> Option<Line> {
        line_named(self.word(OWNER) & NEXT)
    }

    /// Has another follow it. Under the lock.
    pub(super) fn set_next(&self, next: Option<Line>) {
        // Who takes it for a word of another slice sees that the line is another's.
        let next = next.map_or(NO_LINE, named);
        self.words[OWNER].store(self.word(OWNER) & !NEXT | next, Ordering::Release);
    }

    /// How its entries are kept, and how many there are.
    #[inline]
    pub(super) fn shape(&self) -> (Shape, usize) {
        shape_of(self.words, self.word(SHAPE))
    }

    /// What readers see of an entry.
    #[inline(always)]
    fn entry(&self, place: usize) -> Option<u64> {
        let shape = self.word(SHAPE);
        // The two that most are kept as, without a look at the words of the others.
        match shape & ((1 << KIND_BITS) - 1) {
            NARROW if place < (shape as u32 >> KIND_BITS) as usize => {
                entries::narrow_entry(self.arena, Frame((shape >> PLACE) as u32), place)
            }
            EVEN if place < (shape as u32 >> KIND_BITS) as usize => {
                Some(self.word(FIRST).wrapping_add(self.word(STRIDE).wrapping_mul(place as u64)))
            }
            _ => Header::entry_otherwise(self.arena, self.words, shape, place),
        }
    }

    /// By what is passed in registers.
    #[inline(never)]
    fn entry_otherwise(arena: &Arena, words: &[Word; LINE_WORDS], shape: u64, place: usize) -> Option<u64> {
        let (shape, count) = shape_of(words, shape);
        entries::entry(arena, shape, count, place)
    }

    /// Has it have so many entries, which are kept so.
    fn put_shape(&self, shape: Shape, count: usize) {
        let (kind, place) = match shape {
            Shape::Even { .. } => (EVEN, 0),
            Shape::Runs(Line(line)) => (RUNS, line),
            Shape::Narrow(Frame(frame)) => (NARROW, frame),
            Shape::Wide(Frame(frame), _) => (WIDE, frame),
        };
        let (first, stride) = match shape {
            Shape::Even { first, stride } => (first, stride),
            Shape::Wide(_, Some(Frame(more))) => (u64::from(more) + 1, 0),
            Shape::Runs(_) | Shape::Narrow(_) | Shape::Wide(_, None) => (0, 0),
        };
        self.put(SHAPE, u64::from(place) << PLACE | (count as u64) << KIND_BITS | kind);
        self.put(FIRST, first);
        self.put(STRIDE, stride);
    }

    /// Where its first entry lies in the file.
    #[inline]
    pub(super) fn at(&self) -> FileOffset {
        FileOffset(self.word(AT))
    }

    /// Makes it that of a slice which nobody sees yet.
    pub(super) fn write(&self, owned: OwnedKey, at: FileOffset, shape: Shape, count: usize) {
        // Who reads a word of these sees that the line leads no more the life that it led.
        fence(Ordering::Release);
        self.put(STATE, 0);
        self.put(OWNER, owned.owner() << NEXT_BITS);
        self.put(INDEX, owned.key.index);
        self.put(AT, at.0);
        self.put_shape(shape, count);
    }

    /// Lets who finds it see it.
    pub(super) fn begin(&self, life: u64) {
        self.words[LIFE].store(life, Ordering::Release);
    }

    /// Lets nobody see it who does not see it now.
    pub(super) fn end(&self) {
        self.words[LIFE].store(0, Ordering::Release);
    }

    pub(super) fn is_shown(&self) -> bool {
        self.word(LIFE) != 0
    }

    /// Has its entries, the same, be kept in another way from now on, in another life: who looks at it now has come late.
    pub(super) fn reshape(&self, shape: Shape, life: u64) {
        self.end();
        fence(Ordering::Release);
        self.put_shape(shape, self.shape().1);
        self.begin(life);
    }

    /// One more has it pinned. Under the lock, or by one who has it pinned.
    pub(super) fn pin(&self) {
        self.words[STATE].fetch_add(1, Ordering::Relaxed);
    }

    /// One less; how many are left, and whether its memory is to be given back now.
    pub(super) fn unpin(&self) -> (u64, bool) {
        let before = self.words[STATE].fetch_sub(1, Ordering::AcqRel);
        ((before & PINS) - 1, before & !UPDATED == ORPHANED | 1)
    }

    /// How many have it pinned.
    pub(super) fn pins(&self) -> u64 {
        self.words[STATE].load(Ordering::Acquire) & PINS
    }

    /// Sets a flag. Under the lock.
    pub(super) fn set(&self, flag: u64) {
        self.words[STATE].fetch_or(flag, Ordering::AcqRel);
    }

    /// Its image is gone; whether its memory is to be given back now, since nobody has it pinned. Under the lock.
    pub(super) fn orphan(&self) -> bool {
        self.words[STATE].fetch_or(ORPHANED, Ordering::AcqRel) & PINS == 0
    }

    pub(super) fn is(&self, flag: u64) -> bool {
        self.words[STATE].load(Ordering::Acquire) & flag != 0
    }

    #[inline]
    pub(super) fn visit(&self) {
        self.arena.visit(self.line, self.side);
    }
}

/// How the entries of the slice of a line are kept, and how many there are, whose word for that is this one.
#[inline]
fn shape_of(words: &[Word; LINE_WORDS], shape: u64) -> (Shape, usize) {
    let word = |which: usize| words[which].load(Ordering::Relaxed);
    let place = (shape >> PLACE) as u32;
    let kept = match shape & ((1 << KIND_BITS) - 1) {
        EVEN => Shape::Even { first: word(FIRST), stride: word(STRIDE) },
        RUNS => Shape::Runs(Line(place)),
        NARROW => Shape::Narrow(Frame(place)),
        _ => Shape::Wide(Frame(place), word(FIRST).checked_sub(1).map(|more| Frame(more as u32))),
    };
    (kept, (shape as u32 >> KIND_BITS) as usize)
}

/// A slice of a table, as a reader sees it.
#[derive(Clone, Copy)]
pub struct Slice<'a> {
    key: SliceKey,
    entries: Entries<'a>,
}

#[derive(Clone, Copy)]
enum Entries<'a> {
    Shown(Header<'a>),
    /// As they were read, from one of them on; nobody else sees them.
    Read {
        at: FileOffset,
        first: usize,
        entries: &'a [U64],
    },
}

impl<'a> Slice<'a> {
    /// The slice of a line.
    #[inline]
    pub(super) fn shown(key: SliceKey, header: Header<'a>) -> Self {
        Slice { key, entries: Entries::Shown(header) }
    }

    /// The slice that lies at `at` in the file, of which entries from `first` on were read. There are no others.
    ///
    /// # Panics
    /// When the bytes are not whole entries.
    pub(crate) fn read(key: SliceKey, at: FileOffset, first: usize, bytes: &'a [u8]) -> Self {
        Slice { key, entries: Entries::Read { at, first, entries: table::in_place(bytes) } }
    }

    /// Which slice it is.
    #[inline]
    pub fn key(&self) -> SliceKey {
        self.key
    }

    /// Where its first entry lies in the file; for a reader that comes late, anywhere.
    pub fn at(&self) -> FileOffset {
        match self.entries {
            Entries::Shown(header) => header.at(),
            Entries::Read { at, .. } => at,
        }
    }

    /// Where an entry lies in the file; for a reader that comes late, anywhere.
    pub(crate) fn entry_at(&self, index: usize) -> FileOffset {
        FileOffset(self.at().0.wrapping_add((index as u64).wrapping_mul(ENTRY)))
    }

    /// Number of entries; for a reader that comes late, as many as a slice has at most.
    #[inline]
    pub fn len(&self) -> usize {
        match self.entries {
            Entries::Shown(header) => header.shape().1.min(2 * header.arena.frame_words()),
            Entries::Read { first, entries, .. } => first + entries.len(),
        }
    }

    /// Whether it has no entries; none that came from a table.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The value of an entry; 0 where there are not so many. So it may be for a reader that comes late, too, who then finds that
    /// it did.
    ///
    /// # Panics
    /// When others were read of a slice that is not in the cache.
    #[inline(always)]
    pub fn entry(&self, index: usize) -> u64 {
        let entry = match self.entries {
            Entries::Shown(header) => header.entry(index),
            Entries::Read { first, entries, .. } => return entries[index - first].get(),
        };
        entry.unwrap_or_default()
    }

    /// The values of some entries, of which there are so many; for a reader that comes late, others or none.
    pub(super) fn copy(&self, places: Range<usize>) -> Vec<u64> {
        match self.entries {
            Entries::Shown(header) => {
                entries::copy(header.arena, header.shape().0, places).unwrap_or_default()
            }
            Entries::Read { .. } => places.map(|place| self.entry(place)).collect(),
        }
    }

    /// Whether its entries are kept in less memory than they take, and cannot change.
    pub(super) fn is_packed(&self) -> bool {
        match self.entries {
            Entries::Shown(header) => !matches!(header.shape().0, Shape::Wide(..)),
            Entries::Read { .. } => false,
        }
    }
}

impl fmt::Debug for Slice<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Slice({:?} at {})", self.key, self.at())
    }
}
