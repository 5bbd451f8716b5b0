//! Which slice goes: CLOCK behind a probation queue.
//!
//! Role: new slices wait in a short queue, first in first out. What leaves it enters the clock with its visits
//! forgotten, so that the burst of hits that comes with every newly read slice counts for nothing: a scan passes
//! through and goes, while what is asked for again later has been visited when the hand comes by, and stays.
//!
//! Invariant: each slice is in one queue, and none of them is evicted.
//!
//! Absent on purpose: work on a hit beyond one flag (it is the slice's own), and memory of what is gone.

use std::collections::VecDeque;
use std::sync::Arc;

use super::Slice;

/// The probation queue holds at most one in so many of all slices.
const PROBATION_SHARE: usize = 8;

/// The queues of the policy, oldest first.
#[derive(Default)]
pub(super) struct Clock {
    probation: VecDeque<Arc<Slice>>,
    clock: VecDeque<Arc<Slice>>,
}

impl Clock {
    /// Takes a new slice in.
    pub(super) fn admit(&mut self, slice: Arc<Slice>) {
        self.probation.push_back(slice);
        while self.probation.len() > 1 + self.len() / PROBATION_SHARE {
            let Some(grown_up) = self.probation.pop_front() else { break };
            grown_up.forget_visit();
            self.clock.push_back(grown_up);
        }
    }

    /// Takes the slice out that is missed least, and marks it evicted. `None` when every slice is pinned.
    pub(super) fn evict(&mut self) -> Option<Arc<Slice>> {
        // Twice round: the first time may only take visits away.
        for _ in 0..2 * self.clock.len() {
            let slice = self.clock.pop_front()?;
            if !slice.forget_visit() && slice.try_evict() {
                return Some(slice);
            }
            self.clock.push_back(slice);
        }
        let unpinned = self.probation.iter().position(|slice| slice.try_evict())?;
        self.probation.remove(unpinned)
    }

    /// All slices.
    pub(super) fn slices(&self) -> impl Iterator<Item = &Arc<Slice>> {
        self.probation.iter().chain(&self.clock)
    }

    /// How many of them are pinned now.
    pub(super) fn pinned(&self) -> usize {
        self.slices().filter(|slice| slice.is_pinned()).count()
    }

    fn len(&self) -> usize {
        self.probation.len() + self.clock.len()
    }
}
