//! The entries of a slice in memory: as the few runs that they are, as numbers of half the size, or as they are.
//!
//! Role: [`Shape`] says how they are kept, and [`entry`] reads one. A disk that was filled in order, or that is empty in large parts, has tables
//! whose neighbouring entries rise evenly or are alike: as *runs* a slice takes a fortieth of the memory, a seventh at most. All
//! others name clusters, in files of up to 8 TiB, and take half of it as *narrow* entries. So the budget holds two to forty times as
//! many as it would *wide* ones. Any value is kept as it is, also one that means nothing.
//!
//! Invariants: only wide entries change. Who wants to change one has them unpacked first (`TableCache::unpack`), once and
//! for as long as the slice is here; it leads another life from then on (`slice.rs`).
//!
//! Absent on purpose: packing again what has changed: a slice that is loaded anew is packed if it can be. And a panic over what
//! a reader sees that comes late: it finds words of others, and then that it came late.

use std::ops::Range;

use smallvec::SmallVec;
use zerocopy::little_endian::U64;

use super::arena::{Arena, Frame, Ledger, Line};
use crate::geometry::{MIN_CLUSTER_SIZE, SLICE_BYTES};
use crate::sync::Word;
use crate::sync::atomic::{Ordering, fence};

/// Runs are kept that have so many entries at least, in the mean: they take a seventh of the memory at most.
const ENTRIES_A_RUN: usize = 32;

/// So many runs may have fewer entries before it is found that they are too many: scattered entries are given up soon.
const SHORT_RUNS: usize = 4;

/// So many entries of a run that goes on are looked at together.
const BLOCK: usize = 16;

/// Runs of a line.
const RUNS_A_LINE: usize = 2;

// Words of a line of runs. The first is that of a slice's life, which it does not lead: for who comes late.
/// Which line follows, and above that where each run begins.
const NEXT: usize = 1;
const NEXT_BITS: u32 = 32;
const FIRST_RUN: usize = 2;

/// Bits that tell where a run begins; all set, there is none.
const START_BITS: u32 = 16;
const NO_START: u64 = (1 << START_BITS) - 1;

/// In the order of their places, and without a gap.
type Runs = SmallVec<[Run; SLICE_BYTES as usize / 8 / ENTRIES_A_RUN]>;

/// Entries that rise by the same amount from one to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    /// Place of the first one.
    start: usize,
    pub(super) first: u64,
    /// Modulo 2 to the 64th, as all sums here: whatever the file says.
    pub(super) stride: u64,
}

impl Run {
    /// The longest run from the entry at `start` on, and where it ends.
    fn longest(entries: &[U64], start: usize) -> (Self, usize) {
        let first = entries[start].get();
        let mut end = (start + 2).min(entries.len());
        let stride = entries[end - 1].get().wrapping_sub(first);
        let goes_on = |end| entries.get(end - 1..=end).is_some_and(|two| rise_by(stride, two));
        if goes_on(end) {
            while entries.get(end - 1..end + BLOCK).is_some_and(|block| rise_by(stride, block)) {
                end += BLOCK;
            }
        }
        while goes_on(end) {
            end += 1;
        }
        (Run { start, first, stride }, end)
    }

    #[inline]
    fn entry(&self, place: usize) -> u64 {
        self.first.wrapping_add((place.wrapping_sub(self.start) as u64).wrapping_mul(self.stride))
    }
}

/// Whether each is so much more than the one before: without a branch for each, so that several are looked at at a time.
fn rise_by(stride: u64, entries: &[U64]) -> bool {
    let off = |two: &[U64]| two[1].get().wrapping_sub(two[0].get()) ^ stride;
    entries.windows(2).fold(0, |all, two| all | off(two)) == 0
}

/// Entries as runs, if those are few.
pub(super) fn runs_of(entries: &[U64]) -> Option<Runs> {
    let count = entries.len();
    let mut runs = Runs::new();
    let mut start = 0;
    while start < count {
        if runs.len() >= (count / ENTRIES_A_RUN).min(start / ENTRIES_A_RUN + SHORT_RUNS) {
            return None;
        }
        let (run, end) = Run::longest(entries, start);
        runs.push(run);
        start = end;
    }
    // Where a run begins has so many bits.
    (count < NO_START as usize).then_some(runs)
}

/// Lines that so many runs take.
pub(super) fn lines_for(runs: &[Run]) -> usize {
    runs.len().div_ceil(RUNS_A_LINE)
}

/// Bits that entries may have which name clusters of a file of up to 8 TiB, or say that there are zeroes.
const NARROW: u64 = ((1 << 31) - 1) << CLUSTER_BITS | 1;

/// log2 of the smallest cluster.
const CLUSTER_BITS: u32 = MIN_CLUSTER_SIZE.ilog2();

#[inline]
fn narrow(entry: u64) -> u64 {
    entry >> CLUSTER_BITS | (entry & 1) << 31
}

#[inline]
fn widened(narrow: u64) -> u64 {
    (narrow & !(1 << 31)) << CLUSTER_BITS | narrow >> 31
}

/// Puts words into a frame that nobody looks at, but for who comes late.
pub(super) fn fill<'a>(places: impl IntoIterator<Item = &'a Word>, words: impl IntoIterator<Item = u64>) {
    // Who reads a word of these sees what was done before to tell that the frame is another's.
    fence(Ordering::Release);
    for (place, word) in places.into_iter().zip(words) {
        place.store(word, Ordering::Relaxed);
    }
}

/// Puts entries into a frame as they are.
pub(super) fn fill_wide(frame: &[Word], entries: &[U64]) {
    fill(frame, entries.iter().map(|entry| entry.get()));
}

/// Puts entries into a frame, two in a word, and tells whether they can be kept so. The frame has to have room for them.
pub(super) fn fill_narrow(frame: &[Word], entries: &[U64]) -> bool {
    // Where none says that there are zeroes it takes fewer steps, and it is most of what a miss does that is no read.
    let all = fill_pairs(frame, entries, |one, two| one >> CLUSTER_BITS | two << (32 - CLUSTER_BITS));
    let all = if all & 1 == 0 {
        all
    } else {
        fill_pairs(frame, entries, |one, two| narrow(one) | narrow(two) << 32)
    };
    all & !NARROW == 0
}

/// Bits that entries have; of all where they are narrow.
#[inline]
fn fill_pairs(frame: &[Word], entries: &[U64], pair: impl Fn(u64, u64) -> u64) -> u64 {
    const WORDS: usize = 8;
    let (blocks, rest) = entries.as_chunks::<{ 2 * WORDS }>();
    let (places, places_of_rest) = frame.split_at(WORDS * blocks.len());
    let mut all = 0;
    let mut pair = |one: U64, two: U64| {
        all |= one.get() | two.get();
        pair(one.get(), two.get())
    };
    // As in `fill`, in steps that are known to be whole.
    fence(Ordering::Release);
    for (places, block) in places.as_chunks::<WORDS>().0.iter().zip(blocks) {
        for (which, place) in places.iter().enumerate() {
            place.store(pair(block[2 * which], block[2 * which + 1]), Ordering::Relaxed);
        }
    }
    fill(places_of_rest, rest.chunks(2).map(|two| pair(two[0], two.get(1).copied().unwrap_or_default())));
    all
}

/// Puts runs into lines of their own; the first of them.
pub(super) fn write_runs(arena: &Arena, ledger: &mut Ledger, runs: &[Run]) -> Line {
    let mut next = NO_LINE;
    // From the last on: each names the one that follows.
    for runs in runs.chunks(RUNS_A_LINE).rev() {
        let line = ledger.take_line(arena);
        let (words, _) = arena.line(line).expect("a line that was taken");
        fence(Ordering::Release);
        let start = |which: usize| runs.get(which).map_or(NO_START, |run| run.start as u64);
        let starts = start(1) << START_BITS | start(0);
        words[NEXT].store(starts << NEXT_BITS | next, Ordering::Relaxed);
        for (run, words) in runs.iter().zip(words[FIRST_RUN..].chunks_exact(2)) {
            words[0].store(run.first, Ordering::Relaxed);
            words[1].store(run.stride, Ordering::Relaxed);
        }
        next = named(line);
    }
    line_named(next).expect("some runs")
}

/// Lines of runs, from the first on.
pub(super) fn run_lines(arena: &Arena, first: Line) -> impl Iterator<Item = Line> + '_ {
    std::iter::successors(Some(first), |line| {
        let next = arena.line(*line)?.0[NEXT].load(Ordering::Relaxed);
        line_named(next & ((1 << NEXT_BITS) - 1))
    })
}

/// How a word names no line.
pub(super) const NO_LINE: u64 = 0;

/// How a word names a line.
pub(super) fn named(Line(line): Line) -> u64 {
    u64::from(line) + 1
}

/// The line that a word names.
#[inline]
pub(super) fn line_named(word: u64) -> Option<Line> {
    word.checked_sub(1).map(|line| Line(line as u32))
}

/// How the entries of a slice are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    Even { first: u64, stride: u64 },
    Runs(Line),
    Narrow(Frame),
    Wide(Frame, Option<Frame>),
}

/// What readers see of an entry, one of so many.
#[inline]
pub(super) fn entry(arena: &Arena, shape: Shape, count: usize, place: usize) -> Option<u64> {
    // What comes late may say any count.
    let count = count.min(2 * arena.frame_words());
    if place >= count {
        return None;
    }
    match shape {
        Shape::Even { first, stride } => Some(Run { start: 0, first, stride }.entry(place)),
        Shape::Runs(first) => entry_of_runs(arena, first, count, place),
        Shape::Narrow(frame) => narrow_entry(arena, frame, place),
        Shape::Wide(frame, more) => Some(word_of_wide(arena, frame, more, place)?.load(Ordering::Acquire)),
    }
}

/// What readers see of an entry of a frame of narrow ones.
#[inline]
pub(super) fn narrow_entry(arena: &Arena, frame: Frame, place: usize) -> Option<u64> {
    let pair = arena.word(frame, place / 2)?.load(Ordering::Relaxed);
    Some(widened(pair >> (place % 2 * 32) & u64::from(u32::MAX)))
}

/// What readers see of some entries, of which there are so many.
pub(super) fn copy(arena: &Arena, shape: Shape, places: Range<usize>) -> Option<Vec<u64>> {
    let Shape::Wide(frame, more) = shape else {
        let count = places.end;
        return places.map(|place| entry(arena, shape, count, place)).collect();
    };
    let (one, two) = (arena.frame(frame), more.map_or_else(Default::default, |more| arena.frame(more)));
    let middle = one.len();
    let ones = one.get(places.start.min(middle)..places.end.min(middle))?;
    let twos = two.get(places.start.saturating_sub(middle)..places.end.saturating_sub(middle))?;
    Some(ones.iter().chain(twos).map(|word| word.load(Ordering::Acquire)).collect())
}

/// The word of a wide entry.
#[inline]
pub(super) fn word_of_wide(arena: &Arena, frame: Frame, more: Option<Frame>, place: usize) -> Option<&Word> {
    let words = arena.frame_words();
    if place < words { arena.word(frame, place) } else { arena.word(more?, place - words) }
}

fn entry_of_runs(arena: &Arena, first: Line, count: usize, place: usize) -> Option<u64> {
    let mut found = None;
    // Who comes late may be led round and round.
    for line in run_lines(arena, first).take(count / ENTRIES_A_RUN / RUNS_A_LINE + 1) {
        let (words, _) = arena.line(line)?;
        let mut starts = words[NEXT].load(Ordering::Relaxed) >> NEXT_BITS;
        for words in words[FIRST_RUN..].chunks_exact(2).take(RUNS_A_LINE) {
            let start = (starts & NO_START) as usize;
            starts >>= START_BITS;
            if start > place {
                return found;
            }
            let [first, stride] = [0, 1].map(|word| words[word].load(Ordering::Relaxed));
            found = Some(Run { start, first, stride }.entry(place));
        }
    }
    found
}

#[cfg(test)]
#[cfg(not(any(quod_loom, quod_shuttle)))]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::table;

    const CLUSTER: u64 = 1 << 16;

    fn bytes(entries: &[u64]) -> Vec<u8> {
        entries.iter().flat_map(|entry| entry.to_le_bytes()).collect()
    }

    /// What readers see of entries, in whatever way they are kept.
    fn as_kept(entries: &[u64]) -> Vec<u64> {
        let (arena, mut ledger) = (Arena::new(4096, 4), Ledger::default());
        let bytes = bytes(entries);
        let read = table::in_place(&bytes);
        let [frame, more] = [0, 1].map(|_| ledger.take_frame(&arena));
        let count = entries.len();
        let shape = match runs_of(read) {
            Some(runs) if runs.len() > 1 => {
                let first = write_runs(&arena, &mut ledger, &runs);
                assert_eq!(run_lines(&arena, first).count(), lines_for(&runs));
                Shape::Runs(first)
            }
            Some(runs) => {
                let (first, stride) = runs.first().map_or((0, 0), |run| (run.first, run.stride));
                Shape::Even { first, stride }
            }
            None if count <= 2 * arena.frame_words() && fill_narrow(arena.frame(frame), read) => {
                Shape::Narrow(frame)
            }
            None => {
                let (those, others) = read.split_at(count.min(arena.frame_words()));
                fill_wide(arena.frame(frame), those);
                fill_wide(arena.frame(more), others);
                Shape::Wide(frame, Some(more))
            }
        };
        assert_eq!(entry(&arena, shape, count, count), None, "no more than there are");
        (0..count).map(|place| entry(&arena, shape, count, place).expect("so many")).collect()
    }

    /// Entries that rise by clusters.
    fn rising(first: u64, count: u64) -> impl Iterator<Item = u64> {
        (0..count).map(move |i| first + i * CLUSTER)
    }

    /// Any two neighbours are as far apart as no others.
    fn scattered(count: u64) -> Vec<u64> {
        (0..count).map(|i| i * i * i * CLUSTER).collect()
    }

    fn runs_in(entries: &[u64]) -> Option<usize> {
        runs_of(table::in_place(&bytes(entries))).map(|runs| runs.len())
    }

    #[test]
    fn tables_that_are_empty_or_were_filled_in_order_are_packed() {
        assert_eq!(runs_in(&[0; 512]), Some(1));
        assert_eq!(runs_in(&[1; 512]), Some(1));
        assert_eq!(runs_in(&rising(CLUSTER, 512).collect::<Vec<_>>()), Some(1));
        let half: Vec<_> = rising(7 * CLUSTER, 256).chain([0; 256]).collect();
        assert_eq!(runs_in(&half), Some(2));
        assert_eq!(runs_in(&[]), Some(0));
    }

    #[test]
    fn a_few_scattered_entries_among_others_are_runs_too() {
        for before in [0, 1, 100, 505] {
            let mut entries = [0; 512];
            entries[before..before + 5].copy_from_slice(&scattered(8)[3..]);
            assert!(matches!(runs_in(&entries), Some(4..=5)), "after {before}");
        }
    }

    #[test]
    fn where_many_come_first_they_are_given_up_soon() {
        let mut entries = [0; 512];
        entries[..8].copy_from_slice(&scattered(11)[3..]);
        assert_eq!(runs_in(&entries), None);
    }

    #[test]
    fn scattered_tables_are_not() {
        assert_eq!(runs_in(&scattered(512)), None);
        let pieces = |pieces: u64| -> Vec<u64> {
            (0..pieces).flat_map(|i| rising((i * i * i) << 30, 512 / pieces)).collect()
        };
        assert_eq!(runs_in(&pieces(16)), Some(16));
        assert_eq!(runs_in(&pieces(32)), None);
        // Of few entries a run is no less than they are.
        assert_eq!(runs_in(&[0; ENTRIES_A_RUN - 1]), None);
    }

    fn are_narrow(entries: &[u64]) -> bool {
        let (arena, mut ledger) = (Arena::new(4096, 4), Ledger::default());
        fill_narrow(arena.frame(ledger.take_frame(&arena)), table::in_place(&bytes(entries)))
    }

    #[test]
    fn entries_of_larger_files_and_those_that_mean_nothing_are_not_narrow() {
        let largest = (1 << 43) - (1 << 12);
        assert!(are_narrow(&[0, 1, 1 << 12, largest]) && are_narrow(&[0, 1 << 12, largest]));
        for other in [2, 3, 1 << 11, largest + (1 << 12), 1 << 63, u64::MAX] {
            assert!(!are_narrow(&[0, other, 1 << 12]), "{other:#x}");
        }
    }

    /// Runs of any values, of which some are long and some are one entry.
    fn some_entries() -> impl Strategy<Value = Vec<u64>> {
        let value = || prop_oneof![Just(0), Just(1), any::<u64>(), (0..1u64 << 20).prop_map(|i| i * CLUSTER)];
        let stride = prop_oneof![Just(0), Just(CLUSTER), any::<u64>()];
        let run = (value(), stride, prop_oneof![1..4_usize, 1..300_usize]);
        let run = run.prop_map(|(first, stride, count)| -> Vec<u64> {
            std::iter::successors(Some(first), |last: &u64| Some(last.wrapping_add(stride)))
                .take(count)
                .collect()
        });
        vec(run, 0..24).prop_map(|runs| runs.concat())
    }

    proptest! {
        #[test]
        fn all_values_are_kept(entries in some_entries()) {
            prop_assert_eq!(as_kept(&entries), entries);
        }

        #[test]
        fn what_is_narrow_is_kept_so(entries in vec(prop_oneof![0..1_u64 << 31, Just(0)], 1..600), ones in any::<u64>()) {
            let one = |place: usize| ones >> (place % 64) & 1;
            let entries: Vec<_> = (0..).zip(entries).map(|(place, entry)| entry << 12 | one(place)).collect();
            prop_assert!(are_narrow(&entries));
            prop_assert_eq!(as_kept(&entries), entries);
        }
    }
}
