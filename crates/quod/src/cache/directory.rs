//! Finds a slice by its key: an array of slots, each the head of a list of the few slices that share it.
//!
//! Role: what a hit reads through atomics. A slice's slot follows from its key by one multiplication, which spreads
//! neighbours and strides alike; there are two to four times as many slots as slices are expected, so that a list is rarely
//! longer than one. The array is sized by the budget, never by the image, and a hit costs the same whatever the geometry.
//!
//! Invariant: lists change only under the cache's structure lock, so that `insert` and `remove` never meet each other.
//! A slice that has left still leads on to what followed it, so that a reader on its way through a list finds every
//! slice that stays. One that is just coming it may miss: whoever misses looks again under the lock.
//!
//! Absent on purpose: a tree over the dense indices, made on demand level by level. Safe code that may prune a tree
//! pays for every level what it pays for the slice itself (a hit cost 2 and 3 times this one at one and two
//! levels), and a lone slice costs it a whole node.

use std::sync::Arc;

use super::slot::{Link, OwnedKey};
use super::{Slice, TableLevel};
use crate::sync::ArcSwapOption;
use crate::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// log2 of the fewest and of the most slots. Past the most, which a budget of 1 GiB has, lists grow longer.
const SLOT_BITS: std::ops::RangeInclusive<u32> = 4..=21;

/// 2 to the 64th, divided by the golden ratio: multiples of it lie far apart.
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

/// Multiples of it lie far apart, too: the slices of one image lie elsewhere than those of the next.
const APART: u64 = 0xd134_2543_de82_ef95;

/// All resident slices, by key.
pub(super) struct Directory {
    slots: Box<[Link]>,
    slot_bits: u32,
    slices: AtomicUsize,
}

impl Directory {
    /// Makes room for so many slices at a time; there may be more.
    pub(super) fn new(slices: u64) -> Self {
        let bits = u64::BITS - slices.saturating_sub(1).leading_zeros() + 1;
        let slot_bits = bits.clamp(*SLOT_BITS.start(), *SLOT_BITS.end());
        Directory {
            slots: (0..1 << slot_bits).map(|_| ArcSwapOption::empty()).collect(),
            slot_bits,
            slices: AtomicUsize::new(0),
        }
    }

    #[inline]
    fn slot(&self, OwnedKey { image, key }: OwnedKey) -> &Link {
        let number = key.index << 1 | u64::from(key.level == TableLevel::L1);
        let slot = (number.wrapping_add((image as u64).wrapping_mul(APART))).wrapping_mul(SPREAD)
            >> (u64::BITS - self.slot_bits);
        &self.slots[slot as usize]
    }

    /// Shows the slice of that key to `look`, when it is resident.
    #[inline]
    pub(super) fn find<R>(&self, key: OwnedKey, look: impl FnOnce(&Arc<Slice>) -> R) -> Option<R> {
        let mut here = self.slot(key).load();
        loop {
            let slice = here.as_ref()?;
            if slice.owned_key() == key {
                return Some(look(slice));
            }
            let next = slice.next().load();
            here = next;
        }
    }

    /// Puts a slice in. Under the structure lock.
    ///
    /// # Panics
    /// When there is one of that key.
    pub(super) fn insert(&self, slice: Arc<Slice>) {
        let taken = self.find(slice.owned_key(), |_| ()).is_some();
        assert!(!taken, "a slice is evicted before another takes its place");
        let slot = self.slot(slice.owned_key());
        // A store costs a look at what every thread is reading, and most lists are empty.
        if let Some(next) = slot.load_full() {
            slice.next().store(Some(next));
        }
        slot.store(Some(slice));
        self.slices.fetch_add(1, Relaxed);
    }

    /// Takes a slice out. Under the structure lock. What it was linked to it stays linked to, for readers that are
    /// looking at it.
    ///
    /// # Panics
    /// When there is none of that key.
    pub(super) fn remove(&self, key: OwnedKey) {
        let mut before: Option<Arc<Slice>> = None;
        loop {
            let link = before.as_ref().map_or(self.slot(key), |slice| slice.next());
            let here = link.load();
            let here = here.as_ref().expect("only what is resident is removed");
            if here.owned_key() == key {
                link.store(here.next().load_full());
                self.slices.fetch_sub(1, Relaxed);
                return;
            }
            before = Some(Arc::clone(here));
        }
    }

    /// Slices that are resident.
    pub(super) fn len(&self) -> usize {
        self.slices.load(Relaxed)
    }

    #[cfg(test)]
    #[cfg(not(quod_shuttle))]
    pub(super) fn longest_list(&self) -> usize {
        let length =
            |slot: &Link| std::iter::successors(slot.load_full(), |slice| slice.next().load_full()).count();
        self.slots.iter().map(length).max().unwrap_or(0)
    }

    /// Bytes of the array.
    pub(super) fn bytes(&self) -> usize {
        self.slots.len() * size_of::<Link>()
    }
}
