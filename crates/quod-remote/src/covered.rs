//! Which parts of a range have arrived.
//!
//! Invariant: ranges are sorted, disjoint, never neighbours, and at most [`MOST`]: a server that sends every other byte
//! takes no memory beyond that.

use std::ops::Range;

use crate::error::Nonsense;

/// More gaps than this at once are no server's way to read.
const MOST: usize = 4096;

/// The parts that have arrived.
#[derive(Debug, Default)]
pub(crate) struct Covered(Vec<Range<u64>>);

impl Covered {
    /// Adds a part that is not empty.
    ///
    /// # Errors
    /// A byte of it was there before, or there are too many gaps.
    pub(crate) fn add(&mut self, new: Range<u64>) -> Result<(), Nonsense> {
        let after = self.0.partition_point(|old| old.end <= new.start);
        if self.0.get(after).is_some_and(|old| old.start < new.end) {
            return Err(Nonsense::Overlap);
        }
        let joins_before = after > 0 && self.0[after - 1].end == new.start;
        let joins_after = self.0.get(after).is_some_and(|old| old.start == new.end);
        match (joins_before, joins_after) {
            (true, true) => self.0[after - 1].end = self.0.remove(after).end,
            (true, false) => self.0[after - 1].end = new.end,
            (false, true) => self.0[after].start = new.start,
            (false, false) if self.0.len() == MOST => return Err(Nonsense::TooManyPieces),
            (false, false) => self.0.insert(after, new),
        }
        Ok(())
    }

    /// Whether it is the whole range of that length.
    pub(crate) fn is_exactly(&self, len: u64) -> bool {
        self.0.first().is_some_and(|all| *all == (0..len))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_in_any_order_make_the_whole_and_none_is_taken_twice() {
        let mut covered = Covered::default();
        for part in [4..6, 0..2, 8..9, 2..4] {
            assert_eq!(covered.add(part), Ok(()));
        }
        for part in [0..1, 3..5, 5..7, 8..9] {
            assert_eq!(covered.add(part), Err(Nonsense::Overlap));
        }
        assert!(!covered.is_exactly(9));
        assert_eq!(covered.add(6..8), Ok(()));
        assert!(covered.is_exactly(9) && !covered.is_exactly(10));
    }

    #[test]
    fn gaps_are_bounded() {
        let mut covered = Covered::default();
        for part in 0..MOST as u64 {
            assert_eq!(covered.add(2 * part..2 * part + 1), Ok(()));
        }
        assert_eq!(covered.add(1 << 40..1 << 41), Err(Nonsense::TooManyPieces));
        assert_eq!(covered.add(1..2), Ok(()));
    }
}
