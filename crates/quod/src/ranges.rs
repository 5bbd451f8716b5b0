//! Locks on ranges of numbers: guest clusters, L1 entries.
//!
//! Role: whoever allocates for a range holds it; who wants a part of it waits. The guard goes with the operations
//! that it protects (rule D13), so a range opens up only when the kernel is done with it.
//!
//! Invariant: no two guards of one set overlap.
//!
//! Absent on purpose: fairness, and readers: nobody who only reads comes here.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::{Arc, PoisonError};

use crate::sync::{Event, Mutex, MutexGuard};

#[derive(Default)]
struct Shared {
    /// First to last of each range that is held.
    held: Mutex<BTreeMap<u64, u64>>,
    released: Event,
}

/// A set of ranges that do not overlap.
#[derive(Default)]
pub(crate) struct RangeLocks(Arc<Shared>);

/// A held range, until it is dropped.
pub(crate) struct RangeGuard {
    shared: Arc<Shared>,
    first: u64,
}

impl RangeLocks {
    /// Waits until no part of the range is held, then holds it. Cancel-safe: a dropped wait holds nothing.
    pub(crate) async fn hold(&self, range: RangeInclusive<u64>) -> RangeGuard {
        loop {
            let released = self.0.released.listen();
            if let Some(guard) = self.try_hold(&range) {
                return guard;
            }
            released.await;
        }
    }

    /// Whether nobody holds any.
    pub(crate) fn is_free(&self) -> bool {
        self.0.lock().is_empty()
    }

    fn try_hold(&self, range: &RangeInclusive<u64>) -> Option<RangeGuard> {
        let mut held = self.0.lock();
        // Held ranges are disjoint, so only the last one that begins at or before our end can reach into ours.
        let free = held.range(..=range.end()).next_back().is_none_or(|(_, last)| last < range.start());
        free.then(|| {
            held.insert(*range.start(), *range.end());
            RangeGuard { shared: Arc::clone(&self.0), first: *range.start() }
        })
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, u64>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for RangeGuard {
    fn drop(&mut self) {
        self.shared.lock().remove(&self.first);
        self.shared.released.notify(usize::MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_lite::future::{block_on, poll_once};

    #[test]
    fn ranges_that_overlap_wait_and_others_do_not() {
        let locks = RangeLocks::default();
        let held = block_on(locks.hold(10..=19));
        for free in [0..=9, 20..=20] {
            assert!(block_on(poll_once(locks.hold(free))).is_some());
        }
        for taken in [0..=10, 19..=30, 0..=100, 12..=13] {
            assert!(block_on(poll_once(locks.hold(taken))).is_none());
        }
        drop(held);
        assert!(block_on(poll_once(locks.hold(0..=100))).is_some());
    }

    #[test]
    fn a_waiter_is_woken_when_the_range_opens_up() {
        let locks = Arc::new(RangeLocks::default());
        let held = block_on(locks.hold(1..=1));
        let waiter = std::thread::spawn({
            let locks = Arc::clone(&locks);
            move || drop(block_on(locks.hold(0..=5)))
        });
        drop(held);
        waiter.join().unwrap();
    }
}
