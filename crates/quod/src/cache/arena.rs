//! The memory of slices: words that any thread may read at any time, whatever they hold by then.
//!
//! Role: an [`Arena`] is made of *frames*, each of which holds the narrow entries of a slice, half of the wide ones, or *lines* of
//! eight words: what is known of a slice (`slice.rs`), and runs (`entries.rs`). A [`Ledger`] says who has which.
//!
//! Invariants: memory that was taken from the system stays where it is until the arena goes. A word of a frame or line that
//! somebody has is written by who has it; the lock of the pool orders one owner before the next. While a frame holds lines its
//! *era* is odd, and it is another one each time: so a reader that comes late sees that a line is no line any more.
//!
//! Absent on purpose: memory given back to the system, and a count of readers: both would cost a hit more than it costs now.

use crate::sync::OnceLock;
use crate::sync::atomic::{AtomicU64, Ordering, fence};
use crate::sync::{Word, zeroed_lines};

/// Words of a line: as many bytes as a processor fetches at a time.
pub(super) const LINE_WORDS: usize = 8;

/// Most lines of a frame, a bit each.
const MOST_LINES: u32 = 64;

/// Memory is taken from the system in so many parts, about, until it has the size that was asked for.
const PARTS: u32 = 128;

/// Lines that are planned for at most, which are 32 GiB: a part of more would be much to ask for at once.
const MOST_PLANNED: usize = 1 << 29;

/// Parts beyond that size, each twice as large as the one before: for slices that are all pinned, and for more than that.
const MORE_PARTS: usize = 29;

/// Memory for the entries of a slice: the first of the lines that it is as long as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Frame(pub(super) u32);

/// Eight words of a frame that holds lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Line(pub(super) u32);

/// Some frames, as lines, and what is known of each.
struct Part {
    lines: Box<[[Word; LINE_WORDS]]>,
    sides: Box<[Side]>,
}

/// What is known of a frame, in no words of its own.
#[derive(Default)]
pub(super) struct Side {
    /// Odd while it holds lines.
    era: AtomicU64,
    /// A bit for each line whose slice was visited.
    visited: AtomicU64,
}

/// All frames.
pub(super) struct Arena {
    parts: Box<[OnceLock<Part>]>,
    /// log2 of the lines of a part, and the bits of a place in it.
    part_bits: u32,
    part_mask: u32,
    /// log2 of the lines of a frame, and the bits of a place in it.
    frame_bits: u32,
    frame_mask: u32,
    /// Lines that `parts` have room for.
    planned: u32,
    more: [OnceLock<Part>; MORE_PARTS],
}

impl Arena {
    /// Frames of so many words, a power of two; about so many of them.
    pub(super) fn new(frame_words: usize, planned: usize) -> Self {
        assert!(frame_words.is_power_of_two() && frame_words >= LINE_WORDS, "a frame is some lines");
        let frame_bits = (frame_words / LINE_WORDS).ilog2();
        let planned = planned.min(MOST_PLANNED >> frame_bits) as u32;
        let part_bits = planned.div_ceil(PARTS).next_power_of_two().max(16).ilog2() + frame_bits;
        let planned = planned << frame_bits;
        Arena {
            parts: (0..planned.div_ceil(1 << part_bits)).map(|_| OnceLock::new()).collect(),
            part_bits,
            part_mask: (1 << part_bits) - 1,
            frame_bits,
            frame_mask: (1 << frame_bits) - 1,
            planned,
            more: std::array::from_fn(|_| OnceLock::new()),
        }
    }

    #[inline]
    pub(super) fn frame_words(&self) -> usize {
        LINE_WORDS << self.frame_bits
    }

    /// Lines that a frame holds.
    fn lines(&self) -> u32 {
        MOST_LINES.min(1 << self.frame_bits)
    }

    /// Bytes that a frame takes, with what is known of it.
    pub(super) fn frame_bytes(&self) -> usize {
        size_of::<Side>() + size_of::<u64>() + size_of::<Frame>() + self.frame_words() * size_of::<Word>()
    }

    /// Bytes that a line takes.
    pub(super) fn line_bytes(&self) -> usize {
        self.frame_bytes() / self.lines() as usize
    }

    /// Bytes that it takes without a frame, beside its own.
    pub(super) fn bytes(&self) -> usize {
        size_of_val(&*self.parts)
    }

    /// The part that a line lies in, and where there, if it was planned; else one that has no such place, or none.
    #[inline]
    fn near(&self, line: u32) -> Option<(&Part, usize)> {
        let part = self.parts.get((line >> self.part_bits) as usize)?.get()?;
        Some((part, (line & self.part_mask) as usize))
    }

    /// As [`near`](Arena::near), of a line that was not planned.
    #[cold]
    fn far(&self, line: u32) -> Option<(&Part, usize)> {
        let (part, place) = self.further_part(line.checked_sub(self.planned)?);
        Some((part.get()?, place))
    }

    /// The part of a line that was not planned, one of so many.
    fn further_part(&self, line: u32) -> (&OnceLock<Part>, usize) {
        let which = (line >> self.part_bits) + 1;
        let first = ((1 << which.ilog2()) - 1) << self.part_bits;
        // A `u32` counts no more lines, of parts of sixteen frames at least.
        (&self.more[which.ilog2() as usize], (line - first) as usize)
    }

    /// Takes the memory from the system that this frame lies in. Under the lock.
    fn take_memory_of(&self, Frame(frame): Frame) {
        let whole = 1 << self.part_bits;
        let (part, lines) = match frame.checked_sub(self.planned) {
            None => {
                let left = (self.planned - (frame & !self.part_mask)) as usize;
                (&self.parts[(frame >> self.part_bits) as usize], left.min(whole))
            }
            Some(further) => {
                let (part, place) = self.further_part(further);
                (part, further as usize - place + whole)
            }
        };
        part.get_or_init(|| Part {
            lines: zeroed_lines(lines),
            sides: (0..lines >> self.frame_bits).map(|_| Side::default()).collect(),
        });
    }

    /// The words of a frame; none of one that there never was.
    pub(super) fn frame<'a>(&'a self, Frame(frame): Frame) -> &'a [Word] {
        let lines = |(part, place): (&'a Part, usize)| part.lines.get(place..place + (1 << self.frame_bits));
        let words = self.near(frame).and_then(lines).or_else(|| self.far(frame).and_then(lines));
        words.unwrap_or_default().as_flattened()
    }

    /// A word of a frame, which has so many; `None` where there never was one.
    #[inline]
    pub(super) fn word<'a>(&'a self, Frame(frame): Frame, word: usize) -> Option<&'a Word> {
        let line = |(part, place): (&'a Part, usize)| part.lines.get(place + word / LINE_WORDS);
        let line = self.near(frame).and_then(line).or_else(|| self.far(frame).and_then(line));
        Some(&line?[word % LINE_WORDS])
    }

    /// The words of a line, whatever they are by now, and what is known of its frame; `None` where there never was one.
    #[inline]
    pub(super) fn line<'a>(&'a self, Line(line): Line) -> Option<(&'a [Word; LINE_WORDS], &'a Side)> {
        let both = |(part, place): (&'a Part, usize)| {
            Some((part.lines.get(place)?, part.sides.get(place >> self.frame_bits)?))
        };
        self.near(line).and_then(both).or_else(|| self.far(line).and_then(both))
    }

    fn frame_of(&self, Line(line): Line) -> Frame {
        Frame(line & !self.frame_mask)
    }

    /// The bit of a line among those of its frame.
    #[inline]
    fn bit(&self, Line(line): Line) -> u64 {
        1 << (line & self.frame_mask)
    }

    /// Notes that the slice was looked at. Whoever comes late does so for another, which does no harm.
    #[inline]
    pub(super) fn visit(&self, line: Line, side: &Side) {
        // Looked at first, so that what many look at stays shared between processors.
        if side.visited.load(Ordering::Relaxed) & self.bit(line) == 0 {
            side.visited.fetch_or(self.bit(line), Ordering::Relaxed);
        }
    }

    /// Whether it was visited.
    pub(super) fn was_visited(&self, line: Line) -> bool {
        self.line(line).is_some_and(|(_, side)| side.visited.load(Ordering::Relaxed) & self.bit(line) != 0)
    }

    /// Tells whether it was visited since the last time.
    pub(super) fn forget_visit(&self, line: Line) -> bool {
        let Some((_, side)) = self.line(line) else { return false };
        let bit = self.bit(line);
        side.visited.load(Ordering::Relaxed) & bit != 0
            && side.visited.fetch_and(!bit, Ordering::Relaxed) & bit != 0
    }
}

impl Side {
    /// The era of lines; `None` where there are none.
    #[inline]
    pub(super) fn era(&self) -> Option<u64> {
        let era = self.era.load(Ordering::Acquire);
        (era & 1 == 1).then_some(era)
    }

    /// Whether it is still that one. After a fence.
    #[inline]
    pub(super) fn is_era(&self, era: u64) -> bool {
        self.era.load(Ordering::Relaxed) == era
    }

    /// Under the lock. Who sees it sees what was done before.
    fn next_era(&self) {
        self.era.store(self.era.load(Ordering::Relaxed) + 1, Ordering::Release);
    }
}

/// Who has which frames and lines. Under the lock.
#[derive(Default)]
pub(super) struct Ledger {
    /// Frames that nobody has.
    free: Vec<Frame>,
    /// How many there are, with and without an owner.
    frames: u32,
    /// For each frame.
    lines: Vec<Lines>,
    /// Frames with lines that nobody has.
    open: Vec<Frame>,
    free_lines: usize,
}

/// Whether a frame holds lines, and which of them nobody has.
#[derive(Clone, Copy, Default)]
struct Lines {
    /// A bit for each.
    free: u64,
    /// Where it is among those that are open, when any are free.
    place: u32,
    are_there: bool,
}

impl Ledger {
    /// Frames that somebody has, or that hold lines.
    pub(super) fn used(&self) -> usize {
        self.frames as usize - self.free.len()
    }

    /// How many more frames it takes to have so many of these and lines.
    pub(super) fn frames_for(&self, arena: &Arena, frames: usize, lines: usize) -> usize {
        frames + lines.saturating_sub(self.free_lines).div_ceil(arena.lines() as usize)
    }

    /// A frame that nobody else has.
    pub(super) fn take_frame(&mut self, arena: &Arena) -> Frame {
        if let Some(frame) = self.free.pop() {
            return frame;
        }
        // Lines are counted by 32 bits, which is 256 GiB of slices.
        assert!(self.frames < u32::MAX >> arena.frame_bits, "no more slices can be told apart");
        let frame = Frame(self.frames << arena.frame_bits);
        arena.take_memory_of(frame);
        self.frames += 1;
        self.lines.push(Lines::default());
        frame
    }

    pub(super) fn give_frame(&mut self, frame: Frame) {
        self.free.push(frame);
    }

    /// A line that nobody else has; its first word is 0.
    pub(super) fn take_line(&mut self, arena: &Arena) -> Line {
        if self.open.is_empty() {
            self.open_frame(arena);
        }
        let frame = *self.open.last().expect("one has just been opened");
        let free = &mut self.of(arena, frame).free;
        let place = free.trailing_zeros();
        *free &= *free - 1;
        if *free == 0 {
            self.open.pop();
        }
        self.free_lines -= 1;
        Line(frame.0 + place)
    }

    fn open_frame(&mut self, arena: &Arena) {
        let frame = self.take_frame(arena);
        let lines = arena.lines();
        // Who reads one of these words sees that the lines that were there before are none any more.
        fence(Ordering::Release);
        for line in frame.0..frame.0 + lines {
            let (words, _) = arena.line(Line(line)).expect("the frame is there");
            words[0].store(0, Ordering::Relaxed);
        }
        // Only then: who sees the era finds no line that leads a life of another.
        arena.line(Line(frame.0)).expect("the frame is there").1.next_era();
        let of_it = self.of(arena, frame);
        (of_it.free, of_it.are_there) = (u64::MAX >> (MOST_LINES - lines), true);
        self.free_lines += lines as usize;
        self.open(arena, frame);
    }

    fn open(&mut self, arena: &Arena, frame: Frame) {
        self.of(arena, frame).place = self.open.len() as u32;
        self.open.push(frame);
    }

    fn of(&mut self, arena: &Arena, Frame(frame): Frame) -> &mut Lines {
        &mut self.lines[(frame >> arena.frame_bits) as usize]
    }

    /// Takes a line back, whose first word is 0.
    pub(super) fn give_line(&mut self, arena: &Arena, line: Line) {
        let (words, side) = arena.line(line).expect("a line that was taken");
        debug_assert_eq!(words[0].load(Ordering::Relaxed), 0, "who finds it may take it for a slice");
        let frame = arena.frame_of(line);
        if self.of(arena, frame).free == 0 {
            self.open(arena, frame);
        }
        self.free_lines += 1;
        let (free_lines, lines) = (self.free_lines, arena.lines());
        let of_it = self.of(arena, frame);
        of_it.free |= arena.bit(line);
        // One that is empty is kept, for those that come.
        if of_it.free.count_ones() == lines && free_lines > lines as usize {
            let place = of_it.place;
            *of_it = Lines::default();
            self.free_lines -= lines as usize;
            self.open.swap_remove(place as usize);
            if let Some(moved) = self.open.get(place as usize).copied() {
                self.of(arena, moved).place = place;
            }
            side.next_era();
            self.give_frame(frame);
        }
    }

    /// Holds it against what slices and rooms have of frames and of lines.
    ///
    /// # Panics
    /// When there is more or less.
    pub(super) fn validate(&self, arena: &Arena, frames: usize, lines: usize) {
        let with_lines = self.lines.iter().filter(|lines| lines.are_there).count();
        assert_eq!(self.used(), frames + with_lines, "frames that somebody has");
        assert_eq!(with_lines * arena.lines() as usize, lines + self.free_lines, "lines that somebody has");
    }
}
