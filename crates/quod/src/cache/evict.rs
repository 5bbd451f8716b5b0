//! Which slice goes: a trial before the clock, and a memory of what failed it.
//!
//! Role: a slice comes into the `fresh` queue. There visits count for nothing: a newly read slice is hit in a burst
//! whether or not it will ever be asked for again. What leaves it has its visits forgotten and stands `trial`; who is
//! visited there goes to the `clock`, the others go, first in first out. A slice that comes back soon after it
//! failed was asked for at two different times, and goes straight to the clock. So a scan passes through a sixteenth
//! of the cache, and what is in the clock leaves it only for slices that have shown the same.
//!
//! Where nearly all slices go without having been asked for again, and those that are here were, a slice that is only read
//! does not come in: it would take the place of one that is better, and costs more than its entry does. It is remembered for as
//! long as it would have been here and then remembered, and comes in when it is asked for again meanwhile: fresh, where it would
//! still be that, which also tells that slices had better come in again. So what would have been found is missed once more.
//! Once for every so many that did not come in, the hand looks at one of the clock; where nobody has asked for that since the last
//! time, whoever comes next goes straight to the clock. So a set that was popular once stays through a scan, and not for good.
//!
//! Invariants: each slice is in one queue, and is resident; what failed, or did not come in, is remembered by a part of a hash:
//! what failed for a quarter as many slices as there are. Both shares did best in the replays of `docs/performance/cache.md`, of
//! an eighth to a thirty-second, and of all to an eighth: longer queues and a longer memory give way to the crowd where popularity
//! is uneven.
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
/// Where [`Clock::asked_once`] has come to this, slices do not come in.
const BYPASS_FROM: u32 = 64;
/// More are not counted, so that what comes later weighs.
const MOST_ASKED_ONCE: u32 = 2 * BYPASS_FROM;
/// What a slice that was asked for again takes from the count.
const ASKED_AGAIN: u32 = 16;
/// Where slices do not come in, for so many of those the hand looks at one that is here.
const PASSED_BY: u32 = 128;
/// More than so many are not forgotten at once, since that is done under the lock.
const MOST_FORGOTTEN: usize = 4;

/// The queues of the policy, oldest first.
#[derive(Default)]
pub(super) struct Clock {
    fresh: VecDeque<Line>,
    trial: VecDeque<Line>,
    clock: VecDeque<Line>,
    gone: Gone,
    /// Slices, of all images, that nobody asked for again while they were fresh, less some for each that somebody did.
    asked_once: u32,
    /// Slices that did not come in since the hand last looked.
    passed_by: u32,
}

/// What is known of a slice that is to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Coming {
    New,
    /// It would be fresh still, had it come when it was asked for.
    Again,
    /// It failed not long ago, or would have.
    Back,
    /// It is new, and the one under the hand is asked for by nobody.
    Instead,
}

impl Clock {
    /// Without slices. The seed says by what those are remembered that went.
    pub(super) fn new(seed: u64) -> Self {
        Clock { gone: Gone::new(seed), ..Clock::default() }
    }

    /// What is known of a slice that is not here. Asked before room is made for it: who goes for it may make it forgotten.
    pub(super) fn coming(&self, arena: &Arena, key: OwnedKey) -> Coming {
        match self.gone.find(key) {
            None if self.next_is_idle(arena) => Coming::Instead,
            None => Coming::New,
            Some(Going { age, bypassed: true }) if age < self.queue_length() => Coming::Again,
            Some(_) => Coming::Back,
        }
    }

    /// Whether it is known that it went, or did not come in.
    pub(super) fn remembers(&self, key: OwnedKey) -> bool {
        self.gone.find(key).is_some()
    }

    /// Takes a slice in.
    pub(super) fn admit(&mut self, arena: &Arena, slice: Header<'_>, coming: Coming) {
        self.gone.forget(slice.owned_key());
        match coming {
            Coming::Back => return self.clock.push_back(slice.line),
            Coming::Instead => {
                self.passed_by = 0;
                return self.clock.push_back(slice.line);
            }
            Coming::Again => self.note(true),
            Coming::New => {}
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

    /// Whether a new slice had better not come in where another must go for it.
    pub(super) fn bypasses(&self) -> bool {
        self.asked_once >= BYPASS_FROM
            // Where more have not been asked for twice, one of those goes for it. The last to come was one more.
            && self.fresh.len() + self.trial.len() <= 2 * self.queue_length() + 1
    }

    /// Remembers a slice that did not come in.
    pub(super) fn bypass(&mut self, arena: &Arena, key: OwnedKey) {
        self.note(false);
        self.gone.remember(key, true);
        self.trim_gone();
        self.look_at_next(arena);
        // Others are fresh for as long as if it had come.
        if self.begin_trial(arena) == Some(true) {
            self.note(true);
        }
    }

    /// Whether the hand is to look at one, and nobody has asked for that since it was there last.
    fn next_is_idle(&self, arena: &Arena) -> bool {
        let is_idle = |line: &Line| !arena.was_visited(*line) && unpinned(arena, *line).is_some();
        self.passed_by >= PASSED_BY && self.clock.front().is_some_and(is_idle)
    }

    /// The hand goes on from one that is not idle.
    fn look_at_next(&mut self, arena: &Arena) {
        self.passed_by += 1;
        if self.passed_by >= PASSED_BY
            && !self.next_is_idle(arena)
            && let Some(line) = self.clock.pop_front()
        {
            arena.forget_visit(line);
            self.clock.push_back(line);
            self.passed_by = 0;
        }
    }

    /// As if slices had been asked for once for a long time, but for those that are here.
    #[cfg(test)]
    pub(super) fn bypass_from_now(&mut self) {
        self.asked_once = MOST_ASKED_ONCE;
        self.clock.extend(self.trial.drain(..).chain(self.fresh.drain(..)));
    }

    /// Notes whether a slice was asked for again while it was fresh. Where few fit, none is fresh for long enough to tell.
    fn note(&mut self, was_asked_again: bool) {
        self.asked_once = match was_asked_again {
            _ if self.queue_length() == 0 => 0,
            true => self.asked_once.saturating_sub(ASKED_AGAIN),
            false => (self.asked_once + 1).min(MOST_ASKED_ONCE),
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

    /// Forgets the oldest. Where slices do not come in, as many more are remembered as would be fresh or on trial.
    fn trim_gone(&mut self) {
        let more = if self.asked_once >= BYPASS_FROM { 2 * self.queue_length() } else { 0 };
        self.gone.trim(self.len() / GONE_SHARE + 1 + more);
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
                self.gone.remember(slice.owned_key(), false);
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

/// Slices that went, or did not come in, for a while, by 32 bits of each: near the processor, where their keys would not be. Two
/// that have them in common are taken for one, which puts a slice in a queue that is not its own.
#[derive(Default)]
struct Gone {
    /// With the number of its going, and a bit for one that did not come in.
    tags: HashMap<u32, u32, FixedState>,
    /// Oldest first, with some that have come back since.
    order: VecDeque<(u32, u32)>,
    went: u32,
    hasher: FixedState,
}

/// How a slice went.
struct Going {
    /// So many went since.
    age: usize,
    /// It did not come in.
    bypassed: bool,
}

impl Gone {
    fn new(seed: u64) -> Self {
        let hasher = FixedState::with_seed(seed);
        Gone { tags: HashMap::with_hasher(hasher.clone()), hasher, ..Gone::default() }
    }

    fn tag(&self, key: OwnedKey) -> u32 {
        self.hasher.hash_one(key) as u32
    }

    fn remember(&mut self, key: OwnedKey, bypassed: bool) {
        self.went = self.went.wrapping_add(1);
        let (tag, went) = (self.tag(key), self.went << 1 | u32::from(bypassed));
        self.tags.insert(tag, went);
        self.order.push_back((tag, went));
    }

    fn find(&self, key: OwnedKey) -> Option<Going> {
        let went = *self.tags.get(&self.tag(key))?;
        // Numbers have 31 bits.
        let age = (self.went << 1).wrapping_sub(went & !1) >> 1;
        Some(Going { age: age as usize, bypassed: went & 1 == 1 })
    }

    /// Forgets the oldest beyond so many, a few at a time.
    fn trim(&mut self, most: usize) {
        for _ in 0..self.order.len().saturating_sub(most).min(MOST_FORGOTTEN) {
            self.forget_oldest();
        }
        give_back(&mut self.order);
        // A map doubles when half of it is taken, for those that were removed.
        if is_roomy(self.tags.capacity(), 2 * self.tags.len()) {
            self.tags.shrink_to(a_little_more(self.tags.len()));
        }
    }

    fn forget(&mut self, key: OwnedKey) {
        self.tags.remove(&self.tag(key));
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
