//! Which slice goes: a trial before the clock, and a memory of what failed it.
//!
//! Role: a slice comes into the `fresh` queue. There visits count for nothing: a newly read slice is hit in a burst
//! whether or not it will ever be asked for again. What leaves it has its visits forgotten and stands `trial`; who is
//! visited there goes to the `clock`, the others go, first in first out. A slice that comes back soon after it
//! failed was asked for at two different times, and goes straight to the clock. So a scan passes through a sixteenth
//! of the cache, and what is in the clock leaves it only for slices that have shown the same.
//!
//! Where nearly all go without having been asked for again, none comes in that is only read: it would take the place of one that
//! is as good, and cost more than its entry does. It is remembered as if it had failed, and comes in when it is asked for again.
//! What is asked for again at once, as fresh slices are, tells that slices had better come in again. What is found is the same,
//! but for the sixteenth that would be passing through.
//!
//! Invariants: each slice is in one queue, and is resident; what failed is remembered by a part of a hash, for
//! a quarter as many slices as there are. Both shares did best in the replays of `docs/performance/cache.md`, of an eighth to a
//! thirty-second, and of all to an eighth: longer queues and a longer memory give way to the crowd where popularity is uneven.
//!
//! Absent on purpose: work on a hit beyond one flag (`arena.rs` has it); what a slice takes: a packed one counts as others do.

use std::collections::{HashMap, VecDeque};
use std::hash::BuildHasher;

use foldhash::fast::FixedState;

use super::arena::{Arena, Line};
use super::slice::{Header, OwnedKey};

/// `fresh` and `trial` hold one in so many of all slices, each.
const QUEUE_SHARE: usize = 32;
/// Keys are remembered of one in so many as there are slices.
const GONE_SHARE: usize = 4;
/// The hand gives up after so many pinned slices, so that work under the lock is bounded when most are pinned. Where
/// it stopped it goes on at the next commit.
const MOST_PINNED: usize = 64;
/// For the same reason an eviction spares so many for their visits on trial, and so many in the clock, when most are visited.
const MOST_SPARED: usize = 4096;
/// So many slices that nobody asked for again while they were fresh, and no other comes where one must go for it.
const LONELY: u32 = 64;
/// More are not counted.
const MOST_LONELY: u32 = 2 * LONELY;
/// One that somebody asked for again takes as many from the count.
const COMPANY: u32 = 16;

/// The queues of the policy, oldest first.
#[derive(Default)]
pub(super) struct Clock {
    fresh: VecDeque<Line>,
    trial: VecDeque<Line>,
    clock: VecDeque<Line>,
    gone: Gone,
    /// Slices that nobody asked for again while they were fresh, less some for each of the others.
    lonely: u32,
}

impl Clock {
    /// Takes a new slice in, or one that comes back.
    pub(super) fn admit(&mut self, arena: &Arena, slice: Header<'_>, comes_back: bool) {
        if self.gone.forget(slice.owned_key()) || comes_back {
            self.clock.push_back(slice.line);
            return;
        }
        self.fresh.push_back(slice.line);
        while self.fresh.len() > self.queue_length()
            && let Some(was_visited) = self.begin_trial(arena)
        {
            self.note(was_visited);
        }
    }

    /// Has the next one stand its trial; whether it was visited before.
    fn begin_trial(&mut self, arena: &Arena) -> Option<bool> {
        let line = self.fresh.pop_front()?;
        self.trial.push_back(line);
        Some(arena.forget_visit(line))
    }

    /// Whether a slice that is asked for, and is not here, had better not come where another must go for it.
    pub(super) fn bypasses(&mut self, key: OwnedKey) -> bool {
        if self.lonely < LONELY {
            return false;
        }
        let Some(age) = self.gone.age(key) else { return true };
        // It would be fresh still, had it come, and this a visit.
        if age as usize <= self.queue_length() {
            self.note(true);
            self.gone.forget(key);
        }
        false
    }

    /// Remembers one that did not come as if it had failed, so that it comes when it is asked for again soon.
    pub(super) fn bypass(&mut self, arena: &Arena, key: OwnedKey) {
        self.note(false);
        self.gone.remember(key);
        self.trim_gone();
        // As many are fresh for as long as if it had come, and what they are says nothing of those that come later.
        self.begin_trial(arena);
    }

    /// As if no slice had been asked for again for a long time.
    #[cfg(test)]
    pub(super) fn be_lonely(&mut self) {
        self.lonely = MOST_LONELY;
    }

    /// Notes whether a slice was asked for again while it was fresh. Where few fit, none is fresh for long enough to tell.
    fn note(&mut self, was_visited: bool) {
        if self.queue_length() == 0 {
            return;
        }
        self.lonely = match was_visited {
            true => self.lonely.saturating_sub(COMPANY),
            false => (self.lonely + 1).min(MOST_LONELY),
        };
    }

    /// Takes the slice out that is missed least. `None` when every slice that was met is pinned.
    pub(super) fn evict<'a>(&mut self, arena: &'a Arena) -> Option<Header<'a>> {
        let gone =
            self.fail_trial(arena).or_else(|| self.turn_hand(arena)).or_else(|| self.take_unpinned(arena));
        [&mut self.fresh, &mut self.trial, &mut self.clock].into_iter().for_each(give_back);
        self.trim_gone();
        gone
    }

    fn trim_gone(&mut self) {
        self.gone.trim(self.len() / GONE_SHARE + 1);
    }

    /// Ends the trial of those who have stood it long enough. Pinned is visited.
    fn fail_trial<'a>(&mut self, arena: &'a Arena) -> Option<Header<'a>> {
        for _ in 0..MOST_SPARED {
            if self.trial.len() <= self.queue_length() {
                break;
            }
            let line = self.trial.pop_front()?;
            if !arena.forget_visit(line)
                && let Some(slice) = unpinned(arena, line)
            {
                self.gone.remember(slice.owned_key());
                return Some(slice);
            }
            self.clock.push_back(line);
        }
        None
    }

    /// Twice round at most: the first time may only take visits away.
    fn turn_hand<'a>(&mut self, arena: &'a Arena) -> Option<Header<'a>> {
        let mut pinned = 0;
        for looked_at in 0..2 * self.clock.len() {
            let line = self.clock.pop_front()?;
            let is_spared = arena.forget_visit(line) && looked_at < MOST_SPARED;
            if !is_spared {
                if let Some(slice) = unpinned(arena, line) {
                    return Some(slice);
                }
                pinned += 1;
            }
            self.clock.push_back(line);
            if pinned == MOST_PINNED {
                break;
            }
        }
        None
    }

    /// The clock has nothing to give: whoever is not pinned, however new.
    fn take_unpinned<'a>(&mut self, arena: &'a Arena) -> Option<Header<'a>> {
        while let Some(line) = self.trial.pop_front().or_else(|| self.fresh.pop_front()) {
            if let Some(slice) = unpinned(arena, line) {
                return Some(slice);
            }
            self.clock.push_back(line);
        }
        None
    }

    /// Takes out whatever belongs to an image that is gone, pinned or not.
    pub(super) fn remove_all_of(&mut self, arena: &Arena, image: u32) -> Vec<Line> {
        let mut gone = Vec::new();
        for queue in [&mut self.fresh, &mut self.trial, &mut self.clock] {
            let of_it = |line: &Line| Header::there(arena, *line).owned_key().image == image;
            gone.extend(queue.iter().filter(|line| of_it(line)));
            queue.retain(|line| !of_it(line));
            give_back(queue);
        }
        // Whoever has its number next has nothing of it.
        self.gone.forget_all();
        gone
    }

    /// All slices.
    pub(super) fn slices(&self) -> impl Iterator<Item = Line> + '_ {
        self.fresh.iter().chain(&self.trial).chain(&self.clock).copied()
    }

    /// Whether it was resident not long ago, and is not.
    pub(super) fn remembers(&self, key: OwnedKey) -> bool {
        self.gone.remembers(key)
    }

    fn queue_length(&self) -> usize {
        self.len() / QUEUE_SHARE
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.fresh.len() + self.trial.len() + self.clock.len()
    }
}

/// The slice of that line, unless somebody has it pinned. Nobody pins it meanwhile, under the lock.
fn unpinned(arena: &Arena, line: Line) -> Option<Header<'_>> {
    let slice = Header::there(arena, line);
    (slice.pins() == 0).then_some(slice)
}

/// Slices that went, for a while, by 32 bits of each: near the processor, where their keys would not be. Two that have them in common
/// are taken for one, which puts a slice in a queue that is not its own.
#[derive(Default)]
struct Gone {
    /// With the number of its going.
    tags: HashMap<u32, u32, FixedState>,
    /// Oldest first, with some that have come back since.
    order: VecDeque<(u32, u32)>,
    went: u32,
    hasher: FixedState,
}

impl Gone {
    fn tag(&self, key: OwnedKey) -> u32 {
        self.hasher.hash_one(key) as u32
    }

    fn remember(&mut self, key: OwnedKey) {
        self.went = self.went.wrapping_add(1);
        let tag = self.tag(key);
        self.tags.insert(tag, self.went);
        self.order.push_back((tag, self.went));
    }

    fn remembers(&self, key: OwnedKey) -> bool {
        self.age(key).is_some()
    }

    /// How many have gone since it went, if it is remembered.
    fn age(&self, key: OwnedKey) -> Option<u32> {
        self.tags.get(&self.tag(key)).map(|went| self.went.wrapping_sub(*went))
    }

    /// Forgets the oldest beyond so many.
    fn trim(&mut self, most: usize) {
        while self.order.len() > most {
            self.forget_oldest();
        }
        give_back(&mut self.order);
        // A map doubles when half of it is taken, for those that were removed.
        if is_roomy(self.tags.capacity(), 2 * self.tags.len()) {
            self.tags.shrink_to(a_little_more(self.tags.len()));
        }
    }

    fn forget(&mut self, key: OwnedKey) -> bool {
        let tag = self.tag(key);
        self.tags.remove(&tag).is_some()
    }

    fn forget_all(&mut self) {
        self.tags.clear();
        self.order.clear();
        self.trim(0);
    }

    fn forget_oldest(&mut self) {
        if let Some((tag, went)) = self.order.pop_front()
            && self.tags.get(&tag) == Some(&went)
        {
            self.tags.remove(&tag);
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
