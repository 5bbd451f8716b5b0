//! The entries of a slice in memory: each for itself, or as the few runs that they are.
//!
//! Role: [`Entries`] holds what a table has. A disk that was filled in order, or that is empty in large parts, has tables
//! whose neighbouring entries rise evenly or are alike: as *packed* runs a slice takes a seventeenth of the memory, a third at
//! most, so that the budget holds so many times as many. Any value is kept as it is, also one that means nothing.
//!
//! Invariants: packed entries do not change. Who wants to change one has them unpacked first (`TableCache::unpack`), once and
//! for as long as the slice lives; readers may see the runs or the entries meanwhile, which are the same.
//!
//! Absent on purpose: packing again what has changed: a slice that is loaded anew is packed if it can be.

use std::ops::Range;

use smallvec::SmallVec;
use zerocopy::little_endian::U64;

use crate::geometry::SLICE_BYTES;
use crate::sync::OnceLock;
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::sync::bytes_of;
use crate::table;

/// Packed are entries of which a run has so many at least, in the mean: what is packed takes a third of the memory at most.
const ENTRIES_A_RUN: usize = 32;

/// So many runs may have fewer entries before it is found that they are too many: scattered entries are given up soon.
const SHORT_RUNS: usize = 4;

/// So many entries of a run that goes on are looked at together.
const BLOCK: usize = 16;

/// Bytes that an allocator adds to a piece of memory, about.
const TO_A_PIECE: usize = 16;

/// The entries of a slice.
pub(super) enum Entries {
    Each(Box<[AtomicU64]>),
    Packed(Box<Packed>),
}

/// Entries in runs.
pub(super) struct Packed {
    runs: Runs,
    count: usize,
    /// Each entry for itself, once one is to change.
    each: OnceLock<Box<[AtomicU64]>>,
}

/// In the order of their places, and without a gap.
type Runs = SmallVec<[Run; 1]>;

/// Entries that rise by the same amount from one to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Run {
    /// Place of the first one.
    start: usize,
    first: u64,
    /// Modulo 2 to the 64th, as all sums here: whatever the file says.
    stride: u64,
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
        self.first.wrapping_add(((place - self.start) as u64).wrapping_mul(self.stride))
    }
}

/// Whether each is so much more than the one before: without a branch for each, so that several are looked at at a time.
fn rise_by(stride: u64, entries: &[U64]) -> bool {
    let off = |two: &[U64]| two[1].get().wrapping_sub(two[0].get()) ^ stride;
    entries.windows(2).fold(0, |all, two| all | off(two)) == 0
}

impl Packed {
    /// The entries as runs, if those are few.
    fn of(bytes: &[u8]) -> Option<Self> {
        let entries = table::in_place(bytes);
        let count = entries.len();
        // Of a slice that is not packed in the end no memory is asked for.
        let mut runs = SmallVec::<[Run; SLICE_BYTES as usize / 8 / ENTRIES_A_RUN]>::new();
        let mut start = 0;
        while start < count {
            if runs.len() >= (count / ENTRIES_A_RUN).min(start / ENTRIES_A_RUN + SHORT_RUNS) {
                return None;
            }
            let (run, end) = Run::longest(entries, start);
            runs.push(run);
            start = end;
        }
        Some(Packed { runs: Runs::from_slice(&runs), count, each: OnceLock::new() })
    }

    #[inline]
    fn entry(&self, place: usize) -> u64 {
        if let Some(each) = self.each.get() {
            return each[place].load(Ordering::Acquire);
        }
        assert!(place < self.count, "there are {} entries", self.count);
        let after = self.runs.partition_point(|run| run.start <= place);
        self.runs[after - 1].entry(place)
    }

    fn unpacked(&self) -> Box<[AtomicU64]> {
        let mut each = Vec::with_capacity(self.count);
        let ends = self.runs.iter().skip(1).map(|run| run.start).chain([self.count]);
        for (run, end) in self.runs.iter().zip(ends) {
            each.extend((run.start..end).map(|place| AtomicU64::new(run.entry(place))));
        }
        each.into_boxed_slice()
    }

    fn bytes(&self) -> usize {
        let runs = if self.runs.spilled() { self.runs.capacity() * size_of::<Run>() + TO_A_PIECE } else { 0 };
        let each = self.each.get().map_or(0, |each| size_of_val(&**each) + TO_A_PIECE);
        size_of::<Packed>() + TO_A_PIECE + runs + each
    }
}

impl Entries {
    /// Takes them out of the bytes of a table: whole entries.
    ///
    /// # Panics
    /// When they are not.
    pub(super) fn of(bytes: &[u8]) -> Self {
        match Packed::of(bytes) {
            Some(packed) => Entries::Packed(Box::new(packed)),
            None => Entries::Each(table::entries(bytes).map(AtomicU64::new).collect()),
        }
    }

    /// As [`of`](Entries::of), in the memory of these where that goes.
    pub(super) fn renew(&mut self, bytes: &[u8]) {
        match (Packed::of(bytes), &mut *self) {
            (Some(packed), Entries::Packed(memory)) => **memory = packed,
            (None, Entries::Each(memory)) if size_of_val(&**memory) == bytes.len() => fill(memory, bytes),
            (Some(packed), Entries::Each(_)) => *self = Entries::Packed(Box::new(packed)),
            (None, _) => *self = Entries::Each(table::entries(bytes).map(AtomicU64::new).collect()),
        }
    }

    /// The memory of these for the bytes of a table of that length, which are the entries at once; [`pack`](Entries::pack) is to
    /// follow. `None` where it cannot be had so: then there is [`renew`](Entries::renew).
    pub(super) fn room(&mut self, length: usize) -> Option<&mut [u8]> {
        match self {
            Entries::Each(memory) => bytes_of(memory).filter(|bytes| bytes.len() == length),
            Entries::Packed(_) => None,
        }
    }

    /// Keeps as runs what was read into the [`room`](Entries::room), if those are few.
    pub(super) fn pack(&mut self) {
        if let Entries::Each(memory) = self
            && let Some(packed) = bytes_of(memory).and_then(|bytes| Packed::of(bytes))
        {
            *self = Entries::Packed(Box::new(packed));
        }
    }

    /// How many there are.
    #[inline]
    pub(super) fn len(&self) -> usize {
        match self {
            Entries::Each(each) => each.len(),
            Entries::Packed(packed) => packed.count,
        }
    }

    /// What readers see of one.
    ///
    /// # Panics
    /// When there are not so many.
    #[inline]
    pub(super) fn entry(&self, place: usize) -> u64 {
        match self {
            Entries::Each(each) => each[place].load(Ordering::Acquire),
            Entries::Packed(packed) => packed.entry(place),
        }
    }

    /// What readers see of some.
    ///
    /// # Panics
    /// When there are not so many.
    pub(super) fn copy(&self, places: Range<usize>) -> Vec<u64> {
        match self.each() {
            Some(each) => each[places].iter().map(|entry| entry.load(Ordering::Acquire)).collect(),
            None => places.map(|place| self.entry(place)).collect(),
        }
    }

    /// Each for itself, unless they are packed.
    pub(super) fn each(&self) -> Option<&[AtomicU64]> {
        match self {
            Entries::Each(each) => Some(each),
            Entries::Packed(packed) => packed.each.get().map(|each| &**each),
        }
    }

    /// Those that are packed each for itself, for [`unpack`](Entries::unpack).
    pub(super) fn unpacked(&self) -> Option<Box<[AtomicU64]>> {
        match self {
            Entries::Packed(packed) if packed.each.get().is_none() => Some(packed.unpacked()),
            Entries::Packed(_) | Entries::Each(_) => None,
        }
    }

    /// Has these entries change from now on, which are the same; tells how many more bytes they take. `None` when others came
    /// first.
    pub(super) fn unpack(&self, each: Box<[AtomicU64]>) -> Option<usize> {
        let Entries::Packed(packed) = self else { return None };
        let bytes = size_of_val(&*each) + TO_A_PIECE;
        packed.each.set(each).is_ok().then_some(bytes)
    }

    /// Bytes of memory that they take, beside these of their own.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Entries::Each(each) => size_of_val(&**each) + TO_A_PIECE,
            Entries::Packed(packed) => packed.bytes(),
        }
    }
}

/// A function of its own, so that the compiler knows the memories as two, and copies by the fastest way there is. A slice that
/// went is far from the processor: a loop over its entries takes three times as long.
#[inline(never)]
fn fill(places: &mut [AtomicU64], bytes: &[u8]) {
    for (place, entry) in places.iter_mut().zip(table::entries(bytes)) {
        *place = AtomicU64::new(entry);
    }
}

#[cfg(test)]
#[cfg(not(any(quod_loom, quod_shuttle)))]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    const CLUSTER: u64 = 1 << 16;

    fn bytes(entries: &[u64]) -> Vec<u8> {
        entries.iter().flat_map(|entry| entry.to_le_bytes()).collect()
    }

    fn all_of(entries: &Entries) -> Vec<u64> {
        let one_by_one: Vec<_> = (0..entries.len()).map(|place| entries.entry(place)).collect();
        assert_eq!(entries.copy(0..entries.len()), one_by_one);
        one_by_one
    }

    /// Entries that rise by clusters.
    fn rising(first: u64, count: u64) -> impl Iterator<Item = u64> {
        (0..count).map(move |i| first + i * CLUSTER)
    }

    /// Any two neighbours are as far apart as no others.
    fn scattered(count: u64) -> Vec<u64> {
        (0..count).map(|i| i * i * i * CLUSTER).collect()
    }

    fn runs_of(entries: &[u64]) -> Option<usize> {
        Packed::of(&bytes(entries)).map(|packed| packed.runs.len())
    }

    #[test]
    fn tables_that_are_empty_or_were_filled_in_order_are_packed() {
        assert_eq!(runs_of(&[0; 512]), Some(1));
        assert_eq!(runs_of(&[1; 512]), Some(1));
        assert_eq!(runs_of(&rising(CLUSTER, 512).collect::<Vec<_>>()), Some(1));
        let half: Vec<_> = rising(7 * CLUSTER, 256).chain([0; 256]).collect();
        assert_eq!(runs_of(&half), Some(2));
        assert_eq!(runs_of(&[]), Some(0));
    }

    #[test]
    fn a_few_scattered_entries_among_others_are_runs_too() {
        for before in [0, 1, 100, 505] {
            let mut entries = [0; 512];
            entries[before..before + 5].copy_from_slice(&scattered(8)[3..]);
            assert!(matches!(runs_of(&entries), Some(4..=5)), "after {before}");
        }
    }

    #[test]
    fn where_many_come_first_they_are_given_up_soon() {
        let mut entries = [0; 512];
        entries[..8].copy_from_slice(&scattered(11)[3..]);
        assert_eq!(runs_of(&entries), None);
    }

    #[test]
    fn scattered_tables_are_not() {
        assert_eq!(runs_of(&scattered(512)), None);
        let pieces = |pieces: u64| -> Vec<u64> {
            (0..pieces).flat_map(|i| rising((i * i * i) << 30, 512 / pieces)).collect()
        };
        assert_eq!(runs_of(&pieces(16)), Some(16));
        assert_eq!(runs_of(&pieces(32)), None);
        // Of few entries a run is no less than they are.
        assert_eq!(runs_of(&[0; ENTRIES_A_RUN - 1]), None);
    }

    #[test]
    fn what_is_packed_takes_a_third_of_the_memory_at_most() {
        let each = Entries::of(&bytes(&scattered(512))).bytes();
        let pieces: Vec<_> = (0..16).flat_map(|i: u64| rising((i * i * i) << 30, 32)).collect();
        assert!(Entries::of(&bytes(&pieces)).bytes() * 3 <= each);
        assert!(Entries::of(&bytes(&[0; 512])).bytes() * 40 <= each);
    }

    #[test]
    fn entries_each_for_itself_take_no_more_than_they_are() {
        assert_eq!(size_of::<Entries>(), size_of::<Box<[AtomicU64]>>());
    }

    #[test]
    fn there_are_no_more_than_there_are() {
        for entries in [[0; 64].to_vec(), scattered(64)] {
            let entries = Entries::of(&bytes(&entries));
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| entries.entry(64)))
                .expect_err("the 65th");
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
        fn all_values_are_kept_packed_and_unpacked_and_in_old_memory(old in some_entries(), new in some_entries()) {
            let mut entries = Entries::of(&bytes(&old));
            prop_assert_eq!(&all_of(&entries), &old);
            let packed = entries.bytes();
            let [more, second] = [entries.unpacked(), entries.unpacked()]
                .map(|each| each.and_then(|each| entries.unpack(each)));
            prop_assert_eq!(entries.bytes(), packed + more.unwrap_or_default());
            prop_assert!(second.is_none() && entries.unpacked().is_none());
            prop_assert_eq!(&all_of(&entries), &old);
            prop_assert_eq!(entries.each().map(<[_]>::len), Some(old.len()));
            entries.renew(&bytes(&new));
            prop_assert_eq!(&all_of(&entries), &new);
            prop_assert_eq!(entries.bytes(), Entries::of(&bytes(&new)).bytes());
        }

        #[cfg(target_endian = "little")]
        #[test]
        fn all_values_are_kept_that_are_read_into_old_memory(old in some_entries(), new in some_entries()) {
            let mut entries = Entries::of(&bytes(&old));
            let fits = entries.each().is_some_and(|each| each.len() == new.len());
            let room = entries.room(8 * new.len());
            prop_assert_eq!(room.is_some(), fits);
            if let Some(room) = room {
                room.copy_from_slice(&bytes(&new));
            }
            let then = if fits { &new } else { &old };
            prop_assert_eq!(&all_of(&entries), then);
            entries.pack();
            prop_assert_eq!(&all_of(&entries), then);
            prop_assert_eq!(entries.bytes(), Entries::of(&bytes(then)).bytes());
        }
    }
}
