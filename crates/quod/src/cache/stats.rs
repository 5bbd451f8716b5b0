//! Counters of the table cache, striped so that no two threads share a cache line.
//!
//! Role: counts what happens; sums up when asked. A thread owns a stripe for as long as it runs, and adds to it by a
//! plain load and store; threads past the last stripe of their own share one, and add atomically.
//!
//! Invariant: counters only grow, and a sum is never ahead of what happened. A stripe has one owner at a time, and the
//! next one sees all that the last one counted.
//!
//! Absent on purpose: rates, time, and an order between counters: a sum taken under load is a little behind.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crossbeam_utils::CachePadded;

/// Stripes that a thread can own, and the one for all the others.
const STRIPES: usize = 32;
const SHARED: usize = STRIPES - 1;

/// What a table cache did so far, and what it holds now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Look-ups that found their slice, to read it or to pin it.
    pub hits: u64,
    /// Look-ups that read entries from the file.
    pub misses: u64,
    /// Those of them that did not take their slice in: they read the entries that they needed.
    pub bypasses: u64,
    /// Waits for another's read of the same slice.
    pub loads_shared: u64,
    /// Slices, of this image or another in the pool, that had to go for one of this image.
    pub evictions: u64,
    /// Slices that are kept now, since the file is owed entries of theirs.
    pub kept: u64,
    /// Bytes that slices of this image take now, with what the cache of one image takes.
    pub bytes: u64,
}

#[derive(Default)]
struct Stripe {
    hits: AtomicU64,
    misses: AtomicU64,
    bypasses: AtomicU64,
    loads_shared: AtomicU64,
    evictions: AtomicU64,
}

#[derive(Default)]
pub(super) struct Counters {
    stripes: [CachePadded<Stripe>; STRIPES],
}

impl Counters {
    #[inline]
    pub(super) fn hit(&self) {
        self.add(|stripe| &stripe.hits);
    }

    pub(super) fn miss(&self) {
        self.add(|stripe| &stripe.misses);
    }

    pub(super) fn bypass(&self) {
        self.add(|stripe| &stripe.bypasses);
    }

    pub(super) fn load_shared(&self) {
        self.add(|stripe| &stripe.loads_shared);
    }

    pub(super) fn evict(&self) {
        self.add(|stripe| &stripe.evictions);
    }

    /// The sum over all threads; what is held now is the cache's to add.
    pub(super) fn sum(&self) -> Stats {
        let sum = |counter: fn(&Stripe) -> &AtomicU64| {
            self.stripes.iter().map(|stripe| counter(stripe).load(Ordering::Relaxed)).sum()
        };
        Stats {
            hits: sum(|stripe| &stripe.hits),
            misses: sum(|stripe| &stripe.misses),
            bypasses: sum(|stripe| &stripe.bypasses),
            loads_shared: sum(|stripe| &stripe.loads_shared),
            evictions: sum(|stripe| &stripe.evictions),
            kept: 0,
            bytes: 0,
        }
    }

    #[inline]
    fn add(&self, counter: impl FnOnce(&Stripe) -> &AtomicU64) {
        // A thread that is ending has given its stripe back.
        let own = OWN.try_with(|own| own.0).unwrap_or(SHARED);
        let counter = counter(&self.stripes[own]);
        if own == SHARED {
            counter.fetch_add(1, Ordering::Relaxed);
        } else {
            counter.store(counter.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        }
    }
}

/// A bit for each stripe that has an owner, for all caches alike.
static OWNED: AtomicU32 = AtomicU32::new(1 << SHARED);

/// Ownership of a stripe, or a place at the shared one.
struct Own(usize);

thread_local!(static OWN: Own = Own::take());

impl Own {
    fn take() -> Self {
        let with_first_free = |owned: u32| (owned != u32::MAX).then(|| owned | 1 << owned.trailing_ones());
        let before = OWNED.fetch_update(Ordering::Acquire, Ordering::Relaxed, with_first_free);
        Own(before.map_or(SHARED, |owned| owned.trailing_ones() as usize))
    }
}

/// Whether this thread has a stripe to itself.
#[cfg(test)]
#[cfg(not(any(quod_loom, quod_shuttle)))]
pub(super) fn has_own_stripe() -> bool {
    OWN.with(|own| own.0 != SHARED)
}

impl Drop for Own {
    fn drop(&mut self) {
        if self.0 != SHARED {
            OWNED.fetch_and(!(1 << self.0), Ordering::Release);
        }
    }
}
