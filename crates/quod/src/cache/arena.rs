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
use crate::sync::{Word, zeroed_words};

/// Words of a line: what a processor fetches at a time.
pub(super) const LINE_WORDS: usize = 8;

/// Most lines of a frame, a bit each.
const MOST_LINES: usize = 64;

/// Memory is taken from the system in so many parts, about, until it has the size that was asked for.
const PARTS: usize = 128;

/// Frames that are planned for at most, which are 32 GiB of slices: a part of more would be much to ask for at once.
const MOST_PLANNED: usize = 1 << 24;

/// Parts beyond that size, each twice as large as the one before: for slices that are all pinned, and for more than that.
const MORE_PARTS: usize = 29;

/// Memory for the entries of a slice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Frame(pub(super) u32);

/// Eight words of a frame that holds lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Line(pub(super) u32);

/// Some frames, and what is known of each.
struct Part {
    words: Box<[Word]>,
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
    more: [OnceLock<Part>; MORE_PARTS],
    /// Frames that `parts` have room for.
    planned: usize,
    /// log2 of the frames of a part.
    part_bits: u32,
    frame_words: usize,
    line_bits: u32,
}

impl Arena {
    /// Frames of so many words, a power of two; about so many of them.
    pub(super) fn new(frame_words: usize, planned: usize) -> Self {
        assert!(frame_words.is_power_of_two() && frame_words >= LINE_WORDS, "a frame is some lines");
        let planned = planned.min(MOST_PLANNED);
        let part_bits = planned.div_ceil(PARTS).next_power_of_two().max(16).ilog2();
        Arena {
            parts: (0..planned.div_ceil(1 << part_bits)).map(|_| OnceLock::new()).collect(),
            more: std::array::from_fn(|_| OnceLock::new()),
            planned,
            part_bits,
            frame_words,
            line_bits: (frame_words / LINE_WORDS).min(MOST_LINES).ilog2(),
        }
    }

    pub(super) fn frame_words(&self) -> usize {
        self.frame_words
    }

    /// Bytes that a frame takes, with what is known of it.
    pub(super) fn frame_bytes(&self) -> usize {
        size_of::<Side>() + size_of::<u64>() + size_of::<Frame>() + self.frame_words * size_of::<Word>()
    }

    /// Bytes that a line takes.
    pub(super) fn line_bytes(&self) -> usize {
        self.frame_bytes() >> self.line_bits
    }

    /// Bytes that it takes without a frame, beside its own.
    pub(super) fn bytes(&self) -> usize {
        size_of_val(&*self.parts)
    }

    /// Which part a frame is in, and where there.
    #[inline]
    fn part(&self, Frame(frame): Frame) -> (&OnceLock<Part>, usize) {
        let frame = frame as usize;
        if frame < self.planned {
            return (&self.parts[frame >> self.part_bits], frame & ((1 << self.part_bits) - 1));
        }
        let beyond = frame - self.planned;
        let which = (beyond >> self.part_bits) + 1;
        let first = ((1 << which.ilog2()) - 1) << self.part_bits;
        // So many that a `u32` counts no more frames, of parts of sixteen at least.
        (&self.more[which.ilog2() as usize], beyond - first)
    }

    /// Takes the memory from the system that this frame lies in. Under the lock.
    fn take_memory_of(&self, frame: Frame) {
        let (part, place) = self.part(frame);
        part.get_or_init(|| {
            let first = frame.0 as usize - place;
            let frames = if first < self.planned {
                (self.planned - first).min(1 << self.part_bits)
            } else {
                first - self.planned + (1 << self.part_bits)
            };
            Part {
                words: zeroed_words(frames * self.frame_words),
                sides: (0..frames).map(|_| Side::default()).collect(),
            }
        });
    }

    /// The words of a frame; none of one that there never was.
    #[inline]
    pub(super) fn frame(&self, frame: Frame) -> &[Word] {
        let (part, place) = self.part(frame);
        let words = part.get().and_then(|part| part.words.get(place * self.frame_words..));
        words.and_then(|words| words.get(..self.frame_words)).unwrap_or_default()
    }

    /// The words of a line, whatever they are by now, and what is known of its frame; `None` where there never was one.
    #[inline]
    pub(super) fn line(&self, line: Line) -> Option<(&[Word; LINE_WORDS], &Side)> {
        let (part, frame) = self.part(self.frame_of(line));
        let part = part.get()?;
        let place = frame * self.frame_words + self.place_in_frame(line) * LINE_WORDS;
        Some((part.words.get(place..)?.first_chunk()?, part.sides.get(frame)?))
    }

    fn frame_of(&self, Line(line): Line) -> Frame {
        Frame(line >> self.line_bits)
    }

    fn place_in_frame(&self, Line(line): Line) -> usize {
        line as usize & ((1 << self.line_bits) - 1)
    }

    /// The bit of a line among those of its frame.
    #[inline]
    fn bit(&self, line: Line) -> u64 {
        1 << self.place_in_frame(line)
    }

    /// Notes that the slice was looked at. Whoever comes late does so for another, which does no harm.
    #[inline]
    pub(super) fn visit(&self, line: Line, side: &Side) {
        // Looked at first, so that what many look at stays shared between processors.
        if side.visited.load(Ordering::Relaxed) & self.bit(line) == 0 {
            side.visited.fetch_or(self.bit(line), Ordering::Relaxed);
        }
    }

    /// Tells whether it was visited since the last time.
    pub(super) fn forget_visit(&self, line: Line) -> bool {
        let (part, frame) = self.part(self.frame_of(line));
        let Some(side) = part.get().and_then(|part| part.sides.get(frame)) else { return false };
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
        frames + lines.saturating_sub(self.free_lines).div_ceil(1 << arena.line_bits)
    }

    /// A frame that nobody else has.
    pub(super) fn take_frame(&mut self, arena: &Arena) -> Frame {
        if let Some(frame) = self.free.pop() {
            return frame;
        }
        let frame = Frame(self.frames);
        // Lines are counted by 32 bits, which is 256 GiB of slices.
        assert!(self.frames < u32::MAX >> arena.line_bits, "no more slices can be told apart");
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
        let free = &mut self.lines[frame.0 as usize].free;
        let place = free.trailing_zeros();
        *free &= *free - 1;
        if *free == 0 {
            self.open.pop();
        }
        self.free_lines -= 1;
        Line((frame.0 << arena.line_bits) + place)
    }

    fn open_frame(&mut self, arena: &Arena) {
        let frame = self.take_frame(arena);
        let lines = 1 << arena.line_bits;
        // Who reads one of these words sees that the lines that were there before are none any more.
        fence(Ordering::Release);
        let first = Line(frame.0 << arena.line_bits);
        for line in first.0..first.0 + lines {
            let (words, _) = arena.line(Line(line)).expect("the frame is there");
            words[0].store(0, Ordering::Relaxed);
        }
        // Only then: who sees the era finds no line that leads a life of another.
        arena.line(first).expect("the frame is there").1.next_era();
        let of_it = &mut self.lines[frame.0 as usize];
        (of_it.free, of_it.are_there) = (u64::MAX >> (MOST_LINES as u32 - lines), true);
        self.free_lines += lines as usize;
        self.open(frame);
    }

    fn open(&mut self, frame: Frame) {
        self.lines[frame.0 as usize].place = self.open.len() as u32;
        self.open.push(frame);
    }

    /// Takes a line back, whose first word is 0.
    pub(super) fn give_line(&mut self, arena: &Arena, line: Line) {
        let (words, side) = arena.line(line).expect("a line that was taken");
        debug_assert_eq!(words[0].load(Ordering::Relaxed), 0, "who finds it may take it for a slice");
        let frame = arena.frame_of(line);
        if self.lines[frame.0 as usize].free == 0 {
            self.open(frame);
        }
        let of_it = &mut self.lines[frame.0 as usize];
        of_it.free |= arena.bit(line);
        self.free_lines += 1;
        let lines = 1 << arena.line_bits;
        // One that is empty is kept, for those that come.
        if of_it.free.count_ones() == lines && self.free_lines > lines as usize {
            let place = of_it.place;
            *of_it = Lines::default();
            self.free_lines -= lines as usize;
            self.open.swap_remove(place as usize);
            if let Some(moved) = self.open.get(place as usize) {
                self.lines[moved.0 as usize].place = place;
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
        assert_eq!(with_lines << arena.line_bits, lines + self.free_lines, "lines that somebody has");
    }
}
