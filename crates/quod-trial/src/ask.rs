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
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
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
    /// Guest offset and length, where it has a range.
    fn range(self) -> Option<(u64, u64)> {
        match self {
            Ask::Write { at, len, .. }
            | Ask::Zero { at, len, .. }
            | Ask::Discard { at, len, .. }
            | Ask::Read { at, len }
            | Ask::Status { at, len } => Some((at, len)),
            Ask::Flush | Ask::Maintain | Ask::Grow { .. } => None,
        }
    }

    /// Where its range ends on the disk; 0 for requests that have none.
    pub(crate) fn end(self) -> u64 {
        self.range().map_or(0, |(at, len)| at + len)
    }

    /// The same with FUA, where it may have that.
    fn durable(mut self) -> Self {
        if let Ask::Write { fua, .. } | Ask::Zero { fua, .. } | Ask::Discard { fua, .. } = &mut self {
            *fua = Fua::Yes;
        }
        self
    }
}

/// Makes requests.
#[derive(Debug)]
pub struct Asks {
    dice: Rng,
    size: u64,
    cluster: u64,
    hot: Vec<u64>,
    /// By so much the disk grows now and then: what a table maps.
    far: Option<u64>,
    /// The last request that had a range.
    last: Option<Ask>,
    pub(crate) mix: Mix,
}

/// How many of a hundred requests, about, are of a rare kind.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mix {
    /// Growths of the disk.
    pub(crate) grows: u32,
    /// Calls for maintenance.
    pub(crate) maintains: u32,
    /// Requests that come back to the range of the one before, or to what lies around it.
    pub(crate) returns: u32,
}

impl Asks {
    /// For a disk that is `size` bytes long by now.
    pub fn new(case: &Case, size: u64, seed: u64) -> Self {
        let mut dice = Rng::with_seed(seed ^ 0x3095);
        let cluster = u64::from(case.cluster_size);
        let last = (size - 1) / cluster;
        let mut hot = vec![dice.u64(..=last), dice.u64(..=last)];
        // The end of the disk, a border between tables, the end of a shorter backing file.
        let borders =
            [last, case.table_reach() / cluster, case.backing.map_or(0, |(_, length)| length / cluster), 0];
        hot.extend(borders.iter().filter(|&&cluster| cluster <= last && dice.bool()));
        let grows = if dice.u32(..3) == 0 { 1 } else { 0 };
        let far = case.far();
        Asks { dice, size, cluster, hot, far, last: None, mix: Mix { grows, maintains: 3, returns: 10 } }
    }

    /// A cluster, unless that is more than guests ask for at a time.
    fn long(&self) -> u64 {
        self.cluster.min(64 << 10)
    }

    fn range(&mut self) -> (u64, u64) {
        let hot = self.hot[self.dice.usize(..self.hot.len())];
        let start = (hot * self.cluster).saturating_sub(self.dice.u64(..2) * self.cluster);
        let (at, len) = match self.dice.u32(..6) {
            0 => (start + self.dice.u64(..self.cluster), self.dice.u64(1..1200)),
            1 => (start, self.long() * self.dice.u64(1..4)),
            2 => (start + 512 * self.dice.u64(..self.cluster / 512), self.long() * self.dice.u64(1..3)),
            _ => {
                let sector = 512 * self.dice.u64(..self.cluster / 512);
                (start + sector, 512 * self.dice.u64(1..9))
            }
        };
        let at = at.min(self.size - 1);
        (at, len.min(self.size - at))
    }

    /// With so many growths in a hundred.
    #[must_use]
    pub fn with_growths(mut self, grows: u32) -> Self {
        self.mix.grows = grows;
        self
    }

    /// The same range; whole clusters around it, and one more behind or on both sides; or a sector in it.
    fn near(&mut self, last: Ask) -> (u64, u64) {
        let Some((at, len)) = last.range() else { return self.range() };
        match self.dice.u32(..3) {
            0 => (at, len),
            1 => {
                let start = (at - at % self.long()).saturating_sub(self.dice.u64(..2) * self.long());
                let end = (at + len).next_multiple_of(self.long()) + self.long();
                (start, end.min(self.size) - start)
            }
            _ => {
                let sector = at + 512 * self.dice.u64(..len.div_ceil(512));
                (sector, 512.min(at + len - sector))
            }
        }
    }

    /// Now and then the whole disk, many slices of tables long.
    fn or_all(&mut self, at: u64, len: u64) -> (u64, u64) {
        if self.dice.u32(..60) == 0 { (0, self.size) } else { (at, len) }
    }

    fn next(&mut self) -> Ask {
        let Mix { grows, maintains, returns } = self.mix;
        let kind = self.dice.u32(..100);
        if kind < grows {
            let by = match self.far {
                Some(far) if self.dice.u32(..4) == 0 => far,
                _ => 512 * self.dice.u64(1..200),
            };
            // From here on the new end is as good a place as any; whoever asks before it is there, asks in vain.
            self.size += by;
            self.hot.push((self.size - 1) / self.cluster);
            return Ask::Grow { by };
        }
        if kind < grows + maintains {
            return Ask::Maintain;
        }
        let ((at, len), kinds) = match self.last.filter(|_| kind < grows + maintains + returns) {
            // Done already, and now to be made sure of.
            Some(last) if self.dice.u32(..3) == 0 => return last.durable(),
            // Zeroes over what may not have settled yet, more often than elsewhere.
            Some(last) => (self.near(last), 20..70),
            None => (self.range(), 0..96),
        };
        let fua = if self.dice.u32(..8) == 0 { Fua::Yes } else { Fua::No };
        let ask = match self.dice.u32(kinds) {
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
            // Over all slices, where there is room for few.
            82..85 => {
                if self.dice.bool() {
                    Ask::Status { at: 0, len: self.size }
                } else {
                    Ask::Status { at, len }
                }
            }
            _ => return Ask::Flush,
        };
        self.last = Some(ask);
        ask
    }

    /// So many requests: a write, time for the image to come to rest, a write of a part of a cluster, and something else.
    pub(crate) fn bursts(&mut self, count: usize) -> Vec<Ask> {
        let mut asks = Vec::with_capacity(count + 6);
        while asks.len() < count {
            let (at, len) = self.range();
            let somewhere = 512 * self.dice.u64(..self.size / 512);
            asks.push(Ask::Write { at, len, fua: Fua::No });
            asks.extend([Ask::Maintain; 3]);
            asks.push(Ask::Write { at: somewhere, len: 512, fua: Fua::No });
            asks.push(if self.dice.bool() { Ask::Flush } else { self.next() });
        }
        asks
    }

    /// So many requests.
    pub fn take(&mut self, count: usize) -> Vec<Ask> {
        (0..count).map(|_| self.next()).collect()
    }
}
