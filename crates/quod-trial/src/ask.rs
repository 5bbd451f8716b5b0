//! What guests ask for: requests of every kind, alignment and length, over a few hot places.
//!
//! Role: [`Asks`] makes requests for one guest's disk, by seed.
//!
//! Invariant: the same seed makes the same requests of the same case, whatever becomes of them.
//!
//! Absent on purpose: carrying them out (`guest.rs`).

use fastrand::Rng;
use quod::{Fua, Room};

use crate::case::Case;

/// One request, of `len` bytes from guest offset `at` where it has a range.
#[derive(Clone, Copy, Debug)]
#[expect(missing_docs, reason = "fields are named as in the engine's calls, and told above")]
pub enum Ask {
    /// A write of stamped bytes.
    Write { at: u64, len: u64, fua: Fua },
    /// A write of zeroes.
    Zero { at: u64, len: u64, room: Room, fua: Fua },
    /// A discard.
    Discard { at: u64, len: u64, fua: Fua },
    /// A read, which is judged.
    Read { at: u64, len: u64 },
    /// A question for block status.
    Status { at: u64, len: u64 },
    /// A flush.
    Flush,
    /// What time asks for.
    Maintain,
    /// Growth by so many bytes.
    Grow { by: u64 },
}

impl Ask {
    /// Where its range ends on the disk; 0 for requests that have none.
    pub(crate) fn end(self) -> u64 {
        match self {
            Ask::Write { at, len, .. }
            | Ask::Zero { at, len, .. }
            | Ask::Discard { at, len, .. }
            | Ask::Read { at, len }
            | Ask::Status { at, len } => at + len,
            Ask::Flush | Ask::Maintain | Ask::Grow { .. } => 0,
        }
    }
}

/// Makes requests.
#[derive(Debug)]
pub struct Asks {
    dice: Rng,
    size: u64,
    cluster: u64,
    hot: Vec<u64>,
    /// Of a hundred requests, about so many grow the disk, and so many ask for maintenance.
    grows: u32,
    maintains: u32,
}

impl Asks {
    /// For a disk that is `size` bytes long by now.
    pub fn new(case: &Case, size: u64, seed: u64) -> Self {
        let mut dice = Rng::with_seed(seed ^ 0x3095);
        let cluster = u64::from(case.cluster_size);
        let table = cluster * u64::from(case.table_size) / 8 * cluster;
        let last = (size - 1) / cluster;
        let mut hot = vec![dice.u64(..=last), dice.u64(..=last)];
        // The end of the disk, a border between tables, the end of a shorter backing file.
        let borders = [last, table / cluster, case.backing.map_or(0, |(_, length)| length / cluster), 0];
        hot.extend(borders.iter().filter(|&&cluster| cluster <= last && dice.bool()));
        let grows = if dice.u32(..3) == 0 { 1 } else { 0 };
        Asks { dice, size, cluster, hot, grows, maintains: 3 }
    }

    /// With so many growths and maintenances in a hundred, for disks whose life is about them.
    #[must_use]
    pub fn with(self, grows: u32, maintains: u32) -> Self {
        Asks { grows, maintains, ..self }
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

    /// Now and then the whole disk, many slices of tables long.
    fn or_all(&mut self, at: u64, len: u64) -> (u64, u64) {
        if self.dice.u32(..60) == 0 { (0, self.size) } else { (at, len) }
    }

    fn next(&mut self) -> Ask {
        let (at, len) = self.range();
        let fua = if self.dice.u32(..8) == 0 { Fua::Yes } else { Fua::No };
        let kind = self.dice.u32(..100);
        if kind < self.grows {
            let by = 512 * self.dice.u64(1..200);
            // From here on the new end is as good a place as any; whoever asks before it is there, asks in vain.
            self.size += by;
            self.hot.push((self.size - 1) / self.cluster);
            return Ask::Grow { by };
        }
        if kind < self.grows + self.maintains {
            return Ask::Maintain;
        }
        match self.dice.u32(..96) {
            0..40 => Ask::Write { at, len, fua },
            40..50 => {
                let room = if self.dice.bool() { Room::GiveBack } else { Room::Keep };
                let (at, len) = self.or_all(at, len);
                Ask::Zero { at, len, room, fua }
            }
            50..57 => {
                let (at, len) = self.or_all(at, len);
                Ask::Discard { at, len, fua }
            }
            57..82 => Ask::Read { at, len },
            82..85 => Ask::Status { at, len },
            _ => Ask::Flush,
        }
    }

    /// So many requests.
    pub fn take(&mut self, count: usize) -> Vec<Ask> {
        (0..count).map(|_| self.next()).collect()
    }
}
