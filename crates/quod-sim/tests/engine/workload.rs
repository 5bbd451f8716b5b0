//! What guests ask for: requests of every kind, alignment and length, over a few hot places.

use fastrand::Rng;
use quod::{Fua, Room};

use crate::setup::Case;

/// One request.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Ask {
    Write { at: u64, len: u64, fua: Fua },
    Zero { at: u64, len: u64, room: Room, fua: Fua },
    Discard { at: u64, len: u64, fua: Fua },
    Read { at: u64, len: u64 },
    Status { at: u64, len: u64 },
    Flush,
    Maintain,
    Grow { by: u64 },
}

/// Makes requests for one guest's disk.
pub(crate) struct Workload {
    dice: Rng,
    size: u64,
    cluster: u64,
    hot: Vec<u64>,
    may_grow: bool,
}

impl Workload {
    pub(crate) fn new(case: &Case, size: u64, seed: u64) -> Self {
        let mut dice = Rng::with_seed(seed ^ 0x3095);
        let cluster = u64::from(case.cluster_size);
        let table = cluster * u64::from(case.table_size) / 8 * cluster;
        let last = (size - 1) / cluster;
        let mut hot = vec![dice.u64(..=last), dice.u64(..=last)];
        // The end of the disk, a border between tables, the end of a shorter backing file.
        let borders = [last, table / cluster, case.backing.map_or(0, |(_, length)| length / cluster), 0];
        hot.extend(borders.iter().filter(|&&cluster| cluster <= last && dice.bool()));
        Workload { may_grow: dice.u32(..3) == 0, dice, size, cluster, hot }
    }

    fn range(&mut self) -> (u64, u64) {
        let hot = self.hot[self.dice.usize(..self.hot.len())];
        let start = (hot * self.cluster).saturating_sub(self.dice.u64(..2) * self.cluster);
        let (at, len) = match self.dice.u32(..6) {
            0 => (start + self.dice.u64(..self.cluster), self.dice.u64(1..1200)),
            1 => (start, self.cluster * self.dice.u64(1..4)),
            2 => (start + 512 * self.dice.u64(..self.cluster / 512), self.cluster * self.dice.u64(1..3)),
            _ => {
                let sector = 512 * self.dice.u64(..self.cluster / 512);
                (start + sector, 512 * self.dice.u64(1..9))
            }
        };
        let at = at.min(self.size - 1);
        (at, len.min(self.size - at))
    }

    pub(crate) fn next(&mut self) -> Ask {
        let (at, len) = self.range();
        let fua = if self.dice.u32(..8) == 0 { Fua::Yes } else { Fua::No };
        match self.dice.u32(..100) {
            0..40 => Ask::Write { at, len, fua },
            40..50 => {
                let room = if self.dice.bool() { Room::GiveBack } else { Room::Keep };
                Ask::Zero { at, len, room, fua }
            }
            50..57 => Ask::Discard { at, len, fua },
            57..82 => Ask::Read { at, len },
            82..85 => Ask::Status { at, len },
            85..96 => Ask::Flush,
            96..99 => Ask::Maintain,
            _ if self.may_grow => Ask::Grow { by: 512 * self.dice.u64(1..200) },
            _ => Ask::Flush,
        }
    }

    pub(crate) fn take(&mut self, count: usize) -> Vec<Ask> {
        (0..count).map(|_| self.next()).collect()
    }
}
