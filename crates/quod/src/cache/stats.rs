//! Counters of the table cache, striped so that no two threads share a cache line.
//!
//! Role: counts what happens; sums up when asked.
//!
//! Invariant: counters only grow, and a sum is never ahead of what happened.
//!
//! Absent on purpose: rates, time, and an order between counters: a sum taken under load is a little behind.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

use crossbeam_utils::CachePadded;

const STRIPES: usize = 16;

/// What a table cache did so far, and what it holds now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Look-ups that found their slice.
    pub hits: u64,
    /// Look-ups that went on to read their slice from the file.
    pub misses: u64,
    /// Look-ups that waited for another's read of the same slice.
    pub loads_shared: u64,
    /// Slices that had to go.
    pub evictions: u64,
    /// Slices that are pinned now.
    pub pinned: u64,
    /// Bytes that slices and the directory take now.
    pub bytes: u64,
}

#[derive(Default)]
struct Stripe {
    hits: AtomicU64,
    misses: AtomicU64,
    loads_shared: AtomicU64,
    evictions: AtomicU64,
}

#[derive(Default)]
pub(super) struct Counters {
    stripes: [CachePadded<Stripe>; STRIPES],
}

impl Counters {
    pub(super) fn hit(&self) {
        self.stripe().hits.fetch_add(1, Relaxed);
    }

    pub(super) fn miss(&self) {
        self.stripe().misses.fetch_add(1, Relaxed);
    }

    pub(super) fn load_shared(&self) {
        self.stripe().loads_shared.fetch_add(1, Relaxed);
    }

    pub(super) fn evict(&self) {
        self.stripe().evictions.fetch_add(1, Relaxed);
    }

    /// The sum over all threads; what is held now is the cache's to add.
    pub(super) fn sum(&self) -> Stats {
        let sum = |counter: fn(&Stripe) -> &AtomicU64| {
            self.stripes.iter().map(|stripe| counter(stripe).load(Relaxed)).sum()
        };
        Stats {
            hits: sum(|stripe| &stripe.hits),
            misses: sum(|stripe| &stripe.misses),
            loads_shared: sum(|stripe| &stripe.loads_shared),
            evictions: sum(|stripe| &stripe.evictions),
            pinned: 0,
            bytes: 0,
        }
    }

    fn stripe(&self) -> &Stripe {
        &self.stripes[own_stripe()]
    }
}

/// Threads take the stripes in turn.
fn own_stripe() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local!(static OWN: Cell<usize> = const { Cell::new(usize::MAX) });
    OWN.with(|own| {
        if own.get() == usize::MAX {
            own.set(NEXT.fetch_add(1, Relaxed) % STRIPES);
        }
        own.get()
    })
}
