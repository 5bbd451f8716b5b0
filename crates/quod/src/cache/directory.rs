//! Finds a slice by its key: an array of slots, each the head of a list of the few slices that share it.
//!
//! Role: what a hit reads, without a lock and without a write. A slice's slot follows from its key by one multiplication, which
//! spreads neighbours, and nearly all strides; there are two to four times as many slots as slices are expected, so that a list is
//! rarely longer than one. Each pool multiplies by a number of its own: who makes an image does not know which slices share one.
//! The array is sized by the budget, never by the image, and a hit costs the same whatever the geometry.
//!
//! Invariant: lists change only under the cache's structure lock. What is in a list leads a life (`slice.rs`); what has left
//! leads none, or another one. Who finds a line that does neither begins anew, and gives up after a few times: whoever misses
//! looks again under the lock, where every slice is found.
//!
//! Absent on purpose: a tree over the dense indices, made on demand level by level. Safe code that may prune a tree
//! pays for every level what it pays for the slice itself, and a lone slice costs it a whole node.

use super::TableLevel;
use super::arena::Arena;
use super::entries::{NO_LINE, line_named, named};
use super::slice::{Header, Life, OwnedKey, Slice};
use crate::sync::atomic::{AtomicU32, Ordering};

/// log2 of the fewest and of the most slots. Past the most, which a budget of 1 GiB has, lists grow longer.
const SLOT_BITS: std::ops::RangeInclusive<u32> = 4..=21;

/// 2 to the 64th, divided by the golden ratio.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// Multiples of it lie far apart, too: the slices of one image lie elsewhere than those of the next.
const APART: u64 = 0xd134_2543_de82_ef95;

/// A reader whose list changes under it begins anew so many times at most.
const TRIES: usize = 4;

/// All resident slices, by key.
pub(super) struct Directory {
    slots: Box<[AtomicU32]>,
    /// What keys are multiplied by.
    spread: u64,
    /// Bits of a spread key that do not say which slot.
    other_bits: u32,
}

/// What one who goes along a list comes to.
enum Walk<'a> {
    Found(Header<'a>, Life),
    Absent,
    /// What is no part of the list any more.
    Changed,
}

impl Directory {
    /// Makes room for so many slices at a time; there may be more. Which of them share a slot follows from the seed.
    pub(super) fn new(slices: u64, seed: u64) -> Self {
        let bits = u64::BITS - slices.saturating_sub(1).leading_zeros() + 1;
        let slot_bits = bits.clamp(*SLOT_BITS.start(), *SLOT_BITS.end());
        let slots = (0..1 << slot_bits).map(|_| AtomicU32::new(NO_LINE as u32)).collect();
        Directory { slots, spread: spread(seed), other_bits: u64::BITS - slot_bits }
    }

    #[inline]
    fn slot(&self, OwnedKey { image, key }: OwnedKey) -> &AtomicU32 {
        let number = key.index << 1 | u64::from(key.level == TableLevel::L1);
        let slot = (number.wrapping_add(u64::from(image).wrapping_mul(APART))).wrapping_mul(self.spread)
            >> self.other_bits;
        &self.slots[slot as usize]
    }

    /// Shows the slice of that key to `look`. `None` when it is not resident, or it or another of its list comes or goes just now:
    /// then the entries that `look` saw may have been any. Whether they were its is seen afterwards, once: `look` bears any words.
    #[inline]
    pub(super) fn find<R>(
        &self,
        arena: &Arena,
        key: OwnedKey,
        look: impl FnOnce(&Slice<'_>) -> R,
    ) -> Option<R> {
        let (header, life) = match self.walk(arena, key) {
            Walk::Found(header, life) => (header, life),
            Walk::Absent => return None,
            Walk::Changed => self.walk_again(arena, key)?,
        };
        let seen = look(&Slice::shown(key.key, header));
        header.leads(life).then(|| {
            header.visit();
            seen
        })
    }

    /// Goes along the list of a key.
    #[inline(always)]
    fn walk<'a>(&self, arena: &'a Arena, key: OwnedKey) -> Walk<'a> {
        let mut link = line_named(u64::from(self.slot(key).load(Ordering::Acquire)));
        while let Some(line) = link {
            let Some(header) = Header::of(arena, line) else { return Walk::Changed };
            let Some(life) = header.life() else { return Walk::Changed };
            if header.is_of(key) {
                return Walk::Found(header, life);
            }
            link = header.next();
            if !header.leads(life) {
                return Walk::Changed;
            }
        }
        Walk::Absent
    }

    /// As [`walk`](Directory::walk), after that had to be given up.
    #[cold]
    fn walk_again<'a>(&self, arena: &'a Arena, key: OwnedKey) -> Option<(Header<'a>, Life)> {
        for _ in 1..TRIES {
            match self.walk(arena, key) {
                Walk::Found(header, life) => return Some((header, life)),
                Walk::Absent => return None,
                Walk::Changed => {}
            }
        }
        None
    }

    /// The slice of that key, when it is resident. Under the structure lock.
    pub(super) fn look_up<'a>(&self, arena: &'a Arena, key: OwnedKey) -> Option<Header<'a>> {
        self.list(arena, key).find(|header| header.is_of(key))
    }

    /// What shares the slot of a key. Under the structure lock.
    fn list<'a>(&self, arena: &'a Arena, key: OwnedKey) -> impl Iterator<Item = Header<'a>> {
        chain(arena, self.slot(key))
    }

    /// Puts a slice in, which begins that life. Under the structure lock.
    ///
    /// # Panics
    /// When there is one of that key.
    pub(super) fn insert(&self, arena: &Arena, slice: Header<'_>, life: u64) {
        let key = slice.owned_key();
        assert!(self.look_up(arena, key).is_none(), "a slice is evicted before another takes its place");
        let slot = self.slot(key);
        slice.set_next(line_named(u64::from(slot.load(Ordering::Relaxed))));
        slice.begin(life);
        slot.store(named(slice.line) as u32, Ordering::Release);
    }

    /// Takes a slice out, and ends its life. Under the structure lock.
    ///
    /// # Panics
    /// When it is not in.
    pub(super) fn remove(&self, arena: &Arena, slice: Header<'_>) {
        let key = slice.owned_key();
        let before = self.list(arena, key).take_while(|header| header.line != slice.line).last();
        match before {
            Some(before) => {
                assert_eq!(before.next(), Some(slice.line), "only what is resident is removed");
                before.set_next(slice.next());
            }
            None => {
                let slot = self.slot(key);
                assert_eq!(
                    u64::from(slot.load(Ordering::Relaxed)),
                    named(slice.line),
                    "only what is resident is removed"
                );
                slot.store(slice.next().map_or(NO_LINE, named) as u32, Ordering::Release);
            }
        }
        slice.end();
    }

    /// How many slices share a slot, for each. Under the structure lock.
    pub(super) fn lengths<'a>(&'a self, arena: &'a Arena) -> impl Iterator<Item = usize> + 'a {
        self.slots.iter().map(|slot| chain(arena, slot).count())
    }

    #[cfg(test)]
    pub(super) fn is_in_first_slot(&self, key: OwnedKey) -> bool {
        std::ptr::eq(self.slot(key), &raw const self.slots[0])
    }

    /// Bytes of the array.
    pub(super) fn bytes(&self) -> usize {
        self.slots.len() * size_of::<AtomicU32>()
    }
}

/// 2 to the 64th times a number between 0 and 1 whose multiples lie far apart: as a continued fraction its parts are 1 and 2,
/// which of them by the seed. Of 0 it is the golden one.
fn spread(seed: u64) -> u64 {
    let part = |rest: u64, bit: u32| {
        let part = 1 + (seed >> bit & 1);
        (u128::MAX / (u128::from(part) << u64::BITS | u128::from(rest))) as u64
    };
    (0..u64::BITS).fold(GOLDEN, part) | 1
}

/// The list of a slot. Under the structure lock.
fn chain<'a>(arena: &'a Arena, slot: &AtomicU32) -> impl Iterator<Item = Header<'a>> + use<'a> {
    let there = |line| Header::there(arena, line);
    let first = line_named(u64::from(slot.load(Ordering::Relaxed))).map(there);
    std::iter::successors(first, move |header| header.next().map(there))
}
