//! One sector of the model disk: every value that it may hold.
//!
//! Role: a [`Candidate`] is a value with the requests that made it. It leaves the present when a later completed
//! write hides it, and leaves the reach of a crash when a flush has covered that write.
//!
//! Invariant: what a correct disk may return now is a candidate that has not left; what it may return after a crash
//! is a candidate that is still within reach. Of a sector that is lost nothing is forbidden.
//!
//! Absent on purpose: addresses, clocks and errors (`model.rs`).

use std::collections::BTreeSet;
use std::collections::btree_map::{BTreeMap, Entry};
use std::ops::Range;
use std::sync::Arc;

use crate::SECTOR;

pub(crate) type Bytes = [u8; SECTOR as usize];

/// More candidates than this are merged by value, which forgives more.
const MANY: usize = 24;

/// More candidates than this made by one beginning are not followed: the sector is lost to the model.
const TOO_MANY: usize = 4096;

/// A request on the guest's disk.
#[derive(Clone)]
pub(crate) struct Op {
    pub(crate) what: What,
    pub(crate) at: u64,
    pub(crate) len: u64,
    pub(crate) begin: u64,
    pub(crate) end: Option<u64>,
    /// Ended without success: it may have done anything, and parts of it may still land.
    pub(crate) loose: bool,
}

#[derive(Clone)]
pub(crate) enum What {
    Write(Arc<[u8]>),
    Zero,
    /// May do nothing.
    Discard,
    Flush,
    Read,
}

pub(crate) type Ops = BTreeMap<u64, Op>;

/// Those of them that change bytes, and have not ended.
pub(crate) type Running<'a> = Vec<(u64, &'a Op)>;

impl Op {
    /// Whether it changes bytes.
    pub(crate) fn writes(&self) -> bool {
        matches!(self.what, What::Write(_) | What::Zero | What::Discard)
    }

    /// The part of the sector at `at` that it touches.
    pub(crate) fn range_in(&self, at: u64) -> Range<usize> {
        let start = self.at.clamp(at, at + SECTOR) - at;
        let end = (self.at + self.len).clamp(at, at + SECTOR) - at;
        start as usize..end as usize
    }

    /// Whether it changes bytes of the sector at `at`.
    fn changes(&self, at: u64) -> bool {
        self.writes() && !self.range_in(at).is_empty()
    }

    /// Whether it leaves nothing of what the sector at `at` held.
    fn covers(&self, at: u64) -> bool {
        self.range_in(at).len() == SECTOR as usize
    }

    fn overlay(&self, at: u64, bytes: &mut Bytes) {
        let range = self.range_in(at);
        match &self.what {
            What::Write(data) => {
                let start = (at + range.start as u64 - self.at) as usize;
                bytes[range.clone()].copy_from_slice(&data[start..start + range.len()]);
            }
            _ => bytes[range].fill(0),
        }
    }
}

#[derive(Clone)]
struct Candidate {
    bytes: Arc<Bytes>,
    /// By number, not in the order in which they landed.
    made_of: BTreeSet<u64>,
    /// When it ceased to be a present value.
    left: Option<u64>,
    /// A crash may bring it (back).
    reachable: bool,
}

impl Candidate {
    /// What tells candidates apart: the value, and the requests that made it.
    fn identity(&self) -> (BTreeSet<u64>, Arc<Bytes>) {
        (self.made_of.clone(), Arc::clone(&self.bytes))
    }
}

#[derive(Clone)]
pub(crate) struct Sector {
    at: u64,
    candidates: Vec<Candidate>,
    /// When a request on it last began or ended.
    changed: u64,
    /// That was the end of a durable discard of the whole sector: if it has cleared it, it has done so for good.
    cleared_for_good: bool,
    /// So many parts of it were written side by side that anything may be here, until a recovery has shown what is: there
    /// are no candidates, and none are followed.
    lost: bool,
}

impl Sector {
    pub(crate) fn holding(at: u64, bytes: Bytes) -> Self {
        let only =
            Candidate { bytes: Arc::new(bytes), made_of: BTreeSet::new(), left: None, reachable: true };
        Sector { at, candidates: vec![only], changed: 0, cleared_for_good: false, lost: false }
    }

    /// A request begins, and is among those that run: from now on its bytes may be seen, over any present value, and below
    /// those of the others.
    pub(crate) fn begin(&mut self, number: u64, op: &Op, running: &Running<'_>) {
        (self.changed, self.cleared_for_good) = (op.begin, false);
        if self.lost {
            return;
        }
        let Some(fresh) = self.landings(number, op, running) else {
            self.lost = true;
            self.candidates.clear();
            return;
        };
        let present = self.candidates.iter().filter(|c| c.left.is_none());
        let mut known: BTreeSet<_> = present.map(Candidate::identity).collect();
        self.candidates.extend(fresh.into_iter().filter(|candidate| known.insert(candidate.identity())));
        if self.candidates.len() > MANY {
            self.merge();
        }
    }

    /// What the request may make of the present values, alone and below requests that run beside it, which land on top of
    /// it in any order. `None` where that is more than can be followed.
    fn landings(&self, number: u64, op: &Op, running: &Running<'_>) -> Option<Vec<Candidate>> {
        // Also those that touch none of its bytes: they may lie over one that does.
        let runs_beside = |(other, beside): &&(u64, &Op)| *other != number && beside.changes(self.at);
        let beside: Vec<_> = running.iter().filter(runs_beside).collect();
        let present = self.candidates.iter().filter(|c| c.left.is_none());
        let mut fresh: Vec<Candidate> = present.map(|c| self.over(c, number, op)).collect();
        let mut known: BTreeSet<_> = fresh.iter().map(Candidate::identity).collect();
        let mut next = 0;
        while next < fresh.len() && fresh.len() < TOO_MANY {
            for (other, above) in &beside {
                let candidate = self.over(&fresh[next], *other, above);
                if known.insert(candidate.identity()) {
                    fresh.push(candidate);
                }
            }
            next += 1;
        }
        (next == fresh.len()).then_some(fresh)
    }

    fn over(&self, below: &Candidate, number: u64, op: &Op) -> Candidate {
        let mut bytes = *below.bytes;
        op.overlay(self.at, &mut bytes);
        let mut made_of = below.made_of.clone();
        if op.covers(self.at) {
            made_of.clear();
        }
        made_of.insert(number);
        Candidate { bytes: Arc::new(bytes), made_of, left: None, reachable: true }
    }

    /// A write or zero write has completed: values without it are gone, but for those in which it lies below a whole
    /// sector that was written beside it. With `durable` (FUA) a crash does not bring them back either. A discard may have
    /// done nothing.
    pub(crate) fn complete(&mut self, number: u64, ops: &Ops, now: u64, durable: bool) {
        (self.changed, self.cleared_for_good) = (now, false);
        let Some(op) = ops.get(&number) else { return };
        let at = self.at;
        let was_beside = |other: &Op| other.end.is_none_or(|end| end > op.begin);
        if matches!(op.what, What::Discard) {
            // Zeroes beside it are no work of its own: what they cover may come back.
            let others =
                |(other, beside): (&u64, &Op)| *other != number && was_beside(beside) && beside.changes(at);
            self.cleared_for_good = durable && op.covers(at) && !ops.iter().any(others);
            return;
        }
        let above = |made: &u64| ops.get(made).is_some_and(|made| was_beside(made) && made.covers(at));
        let stays = |candidate: &Candidate| {
            candidate.made_of.contains(&number) || candidate.made_of.iter().any(above)
        };
        for candidate in self.candidates.iter_mut().filter(|candidate| !stays(candidate)) {
            candidate.left.get_or_insert(now);
            candidate.reachable &= !durable;
        }
    }

    /// A request ended without success.
    pub(crate) fn loosen(&mut self, now: u64) {
        (self.changed, self.cleared_for_good) = (now, false);
    }

    /// A flush that began at `began` has succeeded: what had been hidden by then is out of reach.
    pub(crate) fn flushed(&mut self, began: u64) {
        for candidate in &mut self.candidates {
            candidate.reachable &= candidate.left.is_none_or(|left| left >= began);
        }
    }

    /// Forgets what neither a crash nor a read that began at `oldest_read` or later can return.
    pub(crate) fn forget(&mut self, oldest_read: u64) {
        self.candidates.retain(|c| c.reachable || c.left.is_none_or(|left| left > oldest_read));
    }

    /// Power is cut: everything within reach may be there.
    pub(crate) fn crash(&mut self) {
        self.cleared_for_good = false;
        self.candidates.retain(|candidate| candidate.reachable);
        for candidate in &mut self.candidates {
            candidate.left = None;
            candidate.made_of.clear();
        }
        self.merge();
    }

    /// Everything within the reach of a crash may be seen.
    pub(crate) fn lose_unflushed(&mut self) {
        for candidate in self.candidates.iter_mut().filter(|candidate| candidate.reachable) {
            candidate.left = None;
        }
    }

    /// Makes one of those with the same value.
    fn merge(&mut self) {
        let mut merged: BTreeMap<Arc<Bytes>, Candidate> = BTreeMap::new();
        for candidate in self.candidates.drain(..) {
            match merged.entry(Arc::clone(&candidate.bytes)) {
                Entry::Vacant(place) => _ = place.insert(candidate),
                Entry::Occupied(mut same) => {
                    let same = same.get_mut();
                    same.left = same.left.zip(candidate.left).map(|(one, other)| one.max(other));
                    same.reachable |= candidate.reachable;
                    same.made_of.extend(candidate.made_of);
                }
            }
        }
        self.candidates = merged.into_values().collect();
    }

    /// Whether a read that began at `since` may return `bytes` of `range`.
    pub(crate) fn allows(&self, since: u64, range: &Range<usize>, bytes: &[u8]) -> bool {
        self.lost || self.allowed(since).any(|allowed| allowed[range.clone()] == *bytes)
    }

    /// As [`allows`](Sector::allows), byte by byte.
    pub(crate) fn allows_mixed(&self, since: u64, range: &Range<usize>, bytes: &[u8]) -> bool {
        let allowed =
            |(place, byte): (usize, &u8)| self.allowed(since).any(|allowed| allowed[place] == *byte);
        range.clone().zip(bytes).all(allowed)
    }

    /// The values that a read which began at `since` may return.
    pub(crate) fn allowed(&self, since: u64) -> impl Iterator<Item = &Bytes> {
        let seen = move |c: &&Candidate| c.left.is_none_or(|left| left > since);
        self.candidates.iter().filter(seen).map(|candidate| &*candidate.bytes)
    }

    /// Whether nothing could change the sector since `since`.
    pub(crate) fn quiet(&self, since: u64, running: &Running<'_>, ops: &Ops) -> bool {
        let loose = |made: &u64| ops.get(made).is_some_and(|op| op.loose);
        self.changed < since
            && !running.iter().any(|(_, op)| op.changes(self.at))
            && !self.candidates.iter().any(|c| c.left.is_none() && c.made_of.iter().any(loose))
    }

    /// A read of a quiet sector saw `bytes` in `range`: present values that differ there never were. After a
    /// recovery (`for_good`) a crash does not bring them either.
    pub(crate) fn saw(&mut self, range: Range<usize>, bytes: &[u8], now: u64, for_good: bool) {
        let for_good = for_good || self.cleared_for_good && bytes.iter().all(|&byte| byte == 0);
        for candidate in &mut self.candidates {
            if candidate.bytes[range.clone()] != *bytes {
                candidate.left.get_or_insert(now);
                candidate.reachable &= !for_good;
            }
        }
    }

    /// A recovery has shown `bytes` in `range`: from there a sector that was lost is followed again.
    pub(crate) fn recover(&mut self, range: Range<usize>, bytes: &[u8], now: u64) {
        match Bytes::try_from(bytes) {
            Ok(bytes) if self.lost => *self = Sector::holding(self.at, bytes),
            _ => self.saw(range, bytes, now, true),
        }
    }

    /// Whether anything is allowed.
    pub(crate) fn is_lost(&self) -> bool {
        self.lost
    }
}
