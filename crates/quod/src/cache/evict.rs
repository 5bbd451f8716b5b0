//! Which slice goes: a trial before the clock, and a memory of what failed it.
//!
//! Role: a slice comes into the `fresh` queue. There visits count for nothing: a newly read slice is hit in a burst
//! whether or not it will ever be asked for again. What leaves it has its visits forgotten and stands `trial`; who is
//! visited there goes to the `clock`, the others go, first in first out. A slice that comes back soon after it
//! failed was asked for at two different times, and goes straight to the clock. So a scan passes through a sixteenth
//! of the cache, and what is in the clock leaves it only for slices that have shown the same.
//!
//! Invariants: each slice is in one queue, and none of them is evicted; what failed is remembered by key alone, for
//! a quarter as many slices as there are. Both shares did best in the replays of `docs/performance/cache.md`, of an eighth to a
//! thirty-second, and of all to an eighth: longer queues and a longer memory give way to the crowd where popularity is uneven.
//!
//! Absent on purpose: work on a hit beyond one flag (it is the slice's own); what a slice takes: a packed one counts as others do.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use foldhash::fast::RandomState;

use super::Slice;
use super::slot::OwnedKey;

/// `fresh` and `trial` hold one in so many of all slices, each.
const QUEUE_SHARE: usize = 32;
/// Keys are remembered of one in so many as there are slices.
const GONE_SHARE: usize = 4;
/// The hand gives up after so many pinned slices, so that work under the lock is bounded when most are pinned. Where
/// it stopped it goes on at the next commit.
const MOST_PINNED: usize = 64;
/// For the same reason an eviction spares so many for their visits on trial, and so many in the clock, when most are visited.
const MOST_SPARED: usize = 4096;

/// The queues of the policy, oldest first.
#[derive(Default)]
pub(super) struct Clock {
    fresh: VecDeque<Arc<Slice>>,
    trial: VecDeque<Arc<Slice>>,
    clock: VecDeque<Arc<Slice>>,
    gone: Gone,
}

impl Clock {
    /// Takes a new slice in.
    pub(super) fn admit(&mut self, slice: Arc<Slice>) {
        if self.gone.forget(slice.owned_key()) {
            self.clock.push_back(slice);
            return;
        }
        self.fresh.push_back(slice);
        while self.fresh.len() > self.queue_length() {
            let Some(slice) = self.fresh.pop_front() else { break };
            slice.forget_visit();
            self.trial.push_back(slice);
        }
    }

    /// Takes the slice out that is missed least, and marks it evicted. `None` when every slice that was met is pinned.
    pub(super) fn evict(&mut self) -> Option<Arc<Slice>> {
        let gone = self.fail_trial().or_else(|| self.turn_hand()).or_else(|| self.take_unpinned());
        [&mut self.fresh, &mut self.trial, &mut self.clock].into_iter().for_each(give_back);
        self.gone.trim(self.len() / GONE_SHARE + 1);
        gone
    }

    /// Ends the trial of those who have stood it long enough. Pinned is visited.
    fn fail_trial(&mut self) -> Option<Arc<Slice>> {
        for _ in 0..MOST_SPARED {
            if self.trial.len() <= self.queue_length() {
                break;
            }
            let slice = self.trial.pop_front()?;
            if !slice.forget_visit() && slice.try_evict() {
                self.gone.remember(slice.owned_key());
                return Some(slice);
            }
            self.clock.push_back(slice);
        }
        None
    }

    /// Twice round at most: the first time may only take visits away.
    fn turn_hand(&mut self) -> Option<Arc<Slice>> {
        let mut pinned = 0;
        for looked_at in 0..2 * self.clock.len() {
            let slice = self.clock.pop_front()?;
            let is_spared = slice.forget_visit() && looked_at < MOST_SPARED;
            if !is_spared && slice.try_evict() {
                return Some(slice);
            }
            pinned += usize::from(slice.is_pinned());
            self.clock.push_back(slice);
            if pinned == MOST_PINNED {
                break;
            }
        }
        None
    }

    /// The clock has nothing to give: whoever is not pinned, however new.
    fn take_unpinned(&mut self) -> Option<Arc<Slice>> {
        while let Some(slice) = self.trial.pop_front().or_else(|| self.fresh.pop_front()) {
            if slice.try_evict() {
                return Some(slice);
            }
            self.clock.push_back(slice);
        }
        None
    }

    /// Takes out whatever belongs to an image that is gone, pinned or not.
    pub(super) fn remove_all_of(&mut self, image: usize) -> Vec<Arc<Slice>> {
        let mut gone = Vec::new();
        for queue in [&mut self.fresh, &mut self.trial, &mut self.clock] {
            let of_it = |slice: &Arc<Slice>| slice.owned_key().image == image;
            gone.extend(queue.iter().filter(|slice| of_it(slice)).cloned());
            queue.retain(|slice| !of_it(slice));
            give_back(queue);
        }
        self.gone.forget_all_of(image);
        gone
    }

    /// All slices.
    pub(super) fn slices(&self) -> impl Iterator<Item = &Arc<Slice>> {
        self.fresh.iter().chain(&self.trial).chain(&self.clock)
    }

    /// Whether it was resident not long ago, and is not.
    pub(super) fn remembers(&self, key: OwnedKey) -> bool {
        self.gone.keys.contains_key(&key)
    }

    fn queue_length(&self) -> usize {
        self.len() / QUEUE_SHARE
    }

    fn len(&self) -> usize {
        self.fresh.len() + self.trial.len() + self.clock.len()
    }
}

/// Keys of slices that went, for a while.
#[derive(Default)]
struct Gone {
    /// With the number of its going.
    keys: HashMap<OwnedKey, u64, RandomState>,
    /// Oldest first, with some that have come back since.
    order: VecDeque<(OwnedKey, u64)>,
    went: u64,
}

impl Gone {
    fn remember(&mut self, key: OwnedKey) {
        self.went += 1;
        self.keys.insert(key, self.went);
        self.order.push_back((key, self.went));
    }

    /// Forgets the oldest beyond so many.
    fn trim(&mut self, most: usize) {
        while self.order.len() > most {
            self.forget_oldest();
        }
        self.give_back();
    }

    fn give_back(&mut self) {
        give_back(&mut self.order);
        // A map doubles when half of it is taken, for those that were removed.
        if is_roomy(self.keys.capacity(), 2 * self.keys.len()) {
            self.keys.shrink_to(a_little_more(self.keys.len()));
        }
    }

    fn forget(&mut self, key: OwnedKey) -> bool {
        self.keys.remove(&key).is_some()
    }

    fn forget_all_of(&mut self, image: usize) {
        self.keys.retain(|key, _| key.image != image);
        self.order.retain(|(key, _)| key.image != image);
        self.give_back();
    }

    fn forget_oldest(&mut self) {
        if let Some((key, went)) = self.order.pop_front()
            && self.keys.get(&key) == Some(&went)
        {
            self.keys.remove(&key);
        }
    }
}

/// Gives memory back that was for many more: where many packed slices were, few others may take as much of the budget.
fn give_back<T>(queue: &mut VecDeque<T>) {
    if is_roomy(queue.capacity(), queue.len()) {
        queue.shrink_to(a_little_more(queue.len()));
    }
}

/// Whether there is more room than what grows by doubling has.
fn is_roomy(capacity: usize, len: usize) -> bool {
    capacity > 64 + 2 * len
}

fn a_little_more(len: usize) -> usize {
    len + len / 4
}
