//! One simulated file: what is on the medium, what readers see, and what lies between.
//!
//! Role: every change since the last flush that covered it is kept as an [`Effect`], in the order in which readers
//! saw it. A crash throws dice over the effects: present, absent, torn at sectors, moved among the others.
//!
//! Invariant: `durable` with the whole journal applied is `live`. An effect that a successful flush covered is in
//! every post-crash image, and nothing that it replaced comes back over it. An effect that a failed flush covered
//! stays uncertain for ever.
//!
//! Absent on purpose: operations, their delays and their failures (`kernel.rs`).

use std::sync::Arc;

use fastrand::Rng;

use crate::SECTOR;
use crate::odds::{Odds, Survival};
use crate::sparse::Sparse;

/// What an operation, or part of one, does to the bytes.
#[derive(Clone)]
pub(crate) enum Change {
    /// Whole sectors at a sector boundary; the file is at least `end` long then.
    Write { at: u64, data: Arc<[u8]>, end: u64 },
    /// Zeroes in whole sectors, within the length.
    Punch { at: u64, len: u64 },
    /// A new length; not torn.
    SetLen(u64),
}

impl Change {
    /// Whether the order of the two matters.
    fn meets(&self, other: &Change) -> bool {
        let range = |change: &Change| match change {
            Change::Write { at, data, .. } => *at..at + data.len() as u64,
            Change::Punch { at, len } => *at..at + len,
            Change::SetLen(_) => 0..u64::MAX,
        };
        let (one, other) = (range(self), range(other));
        one.start < other.end && other.start < one.end
    }
}

/// What is known of an effect's durability.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// No flush covered it yet.
    Open,
    /// A successful flush covered it.
    Durable,
    /// A failed flush covered it, before any that succeeded.
    Limbo,
}

#[derive(Clone)]
struct Effect {
    operation: u64,
    change: Change,
    completed: Option<u64>,
    fate: Fate,
}

/// A file with its journal.
#[derive(Clone, Default)]
pub(crate) struct File {
    durable: Sparse,
    pub(crate) live: Sparse,
    journal: Vec<Effect>,
}

impl File {
    /// A file whose bytes are all durable.
    pub(crate) fn settled(bytes: Sparse) -> Self {
        File { durable: bytes.clone(), live: bytes, journal: Vec::new() }
    }

    /// Whether no change has been made since all was durable.
    pub(crate) fn is_settled(&self) -> bool {
        self.journal.is_empty()
    }

    fn push(&mut self, operation: u64, change: Change) {
        apply(&change, &mut self.live, None);
        self.journal.push(Effect { operation, change, completed: None, fate: Fate::Open });
    }

    /// Writes bytes. A part of a sector takes the rest of it along, as a page cache does.
    pub(crate) fn write(&mut self, operation: u64, at: u64, bytes: &[u8]) {
        self.write_sectors(operation, at, bytes, at + bytes.len() as u64);
    }

    fn write_sectors(&mut self, operation: u64, at: u64, bytes: &[u8], end: u64) {
        if bytes.is_empty() {
            return;
        }
        let start = at - at % SECTOR;
        let stop = (at + bytes.len() as u64).next_multiple_of(SECTOR);
        let mut data = vec![0; (stop - start) as usize];
        self.live.read(start, &mut data);
        let inside = (at - start) as usize;
        data[inside..inside + bytes.len()].copy_from_slice(bytes);
        // What came along of the last sector is as much there as what was written.
        let end = if end == 0 { 0 } else { end.max(self.live.len().min(stop)) };
        self.push(operation, Change::Write { at: start, data: data.into(), end });
    }

    /// Zeroes a range within the length; with `keep` its room stays.
    pub(crate) fn zero(&mut self, operation: u64, at: u64, len: u64, keep: bool) {
        let end = at.saturating_add(len).min(self.live.len());
        let len = end.saturating_sub(at);
        let (first, last) = (at.next_multiple_of(SECTOR), end - end % SECTOR);
        if keep || first >= last {
            return self.write_sectors(operation, at, &vec![0; len as usize], 0);
        }
        self.write_sectors(operation, at, &vec![0; (first - at) as usize], 0);
        self.push(operation, Change::Punch { at: first, len: last - first });
        self.write_sectors(operation, last, &vec![0; (end - last) as usize], 0);
    }

    /// Sets the length.
    pub(crate) fn set_len(&mut self, operation: u64, len: u64) {
        self.push(operation, Change::SetLen(len));
    }

    /// The operation is over: a flush that begins from now on covers it.
    pub(crate) fn complete(&mut self, operation: u64, now: u64) {
        for effect in self.journal.iter_mut().filter(|effect| effect.operation == operation) {
            effect.completed = Some(now);
        }
    }

    /// A flush that began at `began` is over.
    pub(crate) fn flushed(&mut self, began: u64, success: bool) {
        let covered = |effect: &&mut Effect| {
            effect.fate == Fate::Open && effect.completed.is_some_and(|completed| completed < began)
        };
        for effect in self.journal.iter_mut().filter(covered) {
            effect.fate = if success { Fate::Durable } else { Fate::Limbo };
        }
        let settled = self.journal.iter().take_while(|effect| effect.fate == Fate::Durable).count();
        for effect in self.journal.drain(..settled) {
            apply(&effect.change, &mut self.durable, None);
        }
    }

    /// How many effects a crash may undo.
    pub(crate) fn uncertain(&self) -> usize {
        self.journal.iter().filter(|effect| effect.fate != Fate::Durable).count()
    }

    /// What the medium holds after a crash now, by the dice.
    pub(crate) fn crash(&self, dice: &mut Rng) -> Sparse {
        let odds = Odds::throw(dice, self.journal.len());
        let mut image = self.durable.clone();
        for index in self.order(&odds, dice) {
            let effect = &self.journal[index];
            let durable = effect.fate == Fate::Durable;
            let survival = if durable { Survival::Whole } else { odds.survival(index, dice) };
            match survival {
                Survival::Whole => apply(&effect.change, &mut image, None),
                Survival::Torn => apply(&effect.change, &mut image, Some((dice, 500))),
                Survival::Lost => {
                    // The length of a file may reach the medium without the bytes.
                    if odds.shuffle && dice.u32(..4) == 0 {
                        apply(&effect.change, &mut image, Some((dice, 0)));
                    }
                }
            }
        }
        image
    }

    /// The order in which the effects reach the medium. Durable ones keep theirs; what is open lands anywhere, and what is
    /// in limbo no later than it was seen, but neither on top of what replaced it and is durable.
    fn order(&self, odds: &Odds, dice: &mut Rng) -> Vec<usize> {
        let count = self.journal.len();
        let mut keyed: Vec<(usize, usize)> = (0..count).map(|index| (index * 2 + 1, index)).collect();
        if odds.shuffle {
            for (key, index) in &mut keyed {
                match self.journal[*index].fate {
                    Fate::Durable => {}
                    Fate::Open => *key = dice.usize(..=self.replaced_by(*index)) * 2,
                    Fate::Limbo => *key = dice.usize(..=*index) * 2,
                }
            }
            dice.shuffle(&mut keyed);
        }
        keyed.sort_by_key(|(key, index)| (*key, if key % 2 == 1 { *index } else { 0 }));
        keyed.into_iter().map(|(_, index)| index).collect()
    }

    /// The first durable effect that readers saw on top of this one; the end of the journal where there is none.
    fn replaced_by(&self, index: usize) -> usize {
        let change = &self.journal[index].change;
        let replaces = |later: &Effect| later.fate == Fate::Durable && later.change.meets(change);
        let after = &self.journal[index + 1..];
        after.iter().position(replaces).map_or(self.journal.len(), |next| index + 1 + next)
    }
}

/// Applies a change; with `tear` each sector reaches the medium only by its odds in a thousand.
fn apply(change: &Change, image: &mut Sparse, mut tear: Option<(&mut Rng, u32)>) {
    let torn = tear.is_some();
    let mut lands = || tear.as_mut().is_none_or(|(dice, odds)| dice.u32(..1000) < *odds);
    match change {
        Change::Write { at, data, end } => {
            let mut len = image.len();
            for (sector, bytes) in (*at..).step_by(SECTOR as usize).zip(data.chunks(SECTOR as usize)) {
                if lands() {
                    image.write(sector, bytes);
                    len = len.max((sector + SECTOR).min(*end));
                }
            }
            let whole_length = tear.is_none_or(|(dice, _)| dice.bool());
            image.set_len(if whole_length { len.max(*end) } else { len });
        }
        Change::Punch { at, len } => {
            let end = (at + len).min(image.len());
            if !torn {
                return image.punch(*at, end.saturating_sub(*at));
            }
            for sector in (*at..end).step_by(SECTOR as usize) {
                if lands() {
                    image.punch(sector, SECTOR);
                }
            }
        }
        Change::SetLen(len) => {
            if lands() {
                image.set_len(*len);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_something_durable_has_replaced_never_comes_back_with_the_rest_of_its_sector() {
        let mut file = File::settled(Sparse::default());
        file.write(1, 0, &[1; 37]);
        file.write(2, 0, &[2; SECTOR as usize]);
        file.complete(2, 1);
        file.flushed(2, true);
        for seed in 0..200 {
            let mut sector = [0; SECTOR as usize];
            file.crash(&mut Rng::with_seed(seed)).read(0, &mut sector);
            assert_eq!(sector, [2; SECTOR as usize], "seed {seed}");
        }
    }
}
