//! The model disk: what a correct disk may return.
//!
//! Role: told of every request's beginning and end, of flushes and crashes, [`Model`] judges what reads return, sector
//! by sector, by the promises of `docs/spec/durability-rules.md`.
//!
//! Invariant: a value is allowed now when it was written by a request that is under way, failed or was dropped, or by
//! the last that completed (each of those, when they ran side by side); after a crash, when it was so at or after the
//! beginning of the last successful flush. A discard leaves the old value or zeroes. What a read of an idle sector,
//! or a recovery, has shown stays. A value is that of a whole sector, but for reads beside writes where there is a page cache.
//!
//! Absent on purpose: the engine, files and clusters.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use crate::SECTOR;
use crate::sector::{Bytes, Op, Ops, Running, Sector, What};
use crate::violation::{Violation, violation};

/// Names a request that has begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Request(u64);

/// The set of values that each sector of a disk may hold.
#[derive(Clone, Default)]
pub struct Model {
    size: u64,
    /// A read may show bytes of old and new where a sector is written beside it.
    mixes: bool,
    initial: Arc<[u8]>,
    /// Bytes of `initial` that the disk shows: never more than its smallest size.
    shown: u64,
    sectors: BTreeMap<u64, Sector>,
    ops: Ops,
    /// When the last flush that succeeded began.
    flushed: u64,
    clock: u64,
    next: u64,
}

impl fmt::Debug for Model {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Model({} bytes, {} sectors touched)", self.size, self.sectors.len())
    }
}

/// Addresses of the sectors that a range touches.
fn sectors(at: u64, len: u64) -> impl Iterator<Item = u64> {
    (at - at % SECTOR..at + len).step_by(SECTOR as usize)
}

/// Requests that change bytes, and have not ended.
fn running(ops: &Ops) -> Running<'_> {
    ops.iter().filter(|(_, op)| op.end.is_none() && op.writes()).map(|(number, op)| (*number, op)).collect()
}

impl Model {
    /// Makes a disk of `size` bytes that shows `backing`, and zeroes past its end.
    pub fn new(size: u64, backing: Vec<u8>) -> Self {
        Model { size, shown: size, initial: backing.into(), ..Model::default() }
    }

    /// As a disk below which is a page cache of the system's, which copies to a reader while it copies from a writer: a read
    /// that runs beside writes may show bytes of each.
    #[must_use]
    pub fn on_page_cache(self) -> Self {
        Model { mixes: true, ..self }
    }

    /// Size of the disk in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The disk is larger now; what is new reads as zeroes.
    pub fn grow(&mut self, size: u64) {
        self.size = self.size.max(size);
    }

    /// Moves on whenever a request begins or ends.
    pub fn moment(&self) -> u64 {
        self.clock
    }

    /// Whether anything was ever written to the range, or given up on it.
    pub fn was_touched(&self, at: u64, len: u64) -> bool {
        self.sectors.range(at - at % SECTOR..at + len).next().is_some()
    }

    /// Sectors of which nothing is known any more, so that anything is allowed there until a recovery has shown them: too
    /// many parts of each were written side by side.
    pub fn lost(&self) -> usize {
        self.sectors.values().filter(|sector| sector.is_lost()).count()
    }

    /// After a crash the disk has this size: what a larger one held is gone.
    pub fn recover_size(&mut self, size: u64) {
        self.size = size;
        self.shown = self.shown.min(size);
        self.sectors.split_off(&size);
    }

    fn initial(&self, at: u64) -> Bytes {
        let mut bytes = [0; SECTOR as usize];
        let shown = self.initial.len().min(self.shown as usize);
        let start = shown.min(at as usize);
        let end = shown.min((at + SECTOR) as usize);
        bytes[..end - start].copy_from_slice(&self.initial[start..end]);
        bytes
    }

    fn sector(&mut self, at: u64) -> &mut Sector {
        let initial = self.initial(at);
        self.sectors.entry(at).or_insert_with(|| Sector::holding(at, initial))
    }

    fn begin(&mut self, at: u64, len: u64, what: What) -> Request {
        self.clock += 1;
        self.next += 1;
        let (number, begin) = (self.next, self.clock);
        let op = Op { what, at, len, begin, end: None, loose: false };
        let writes = op.writes();
        self.ops.insert(number, op);
        if writes {
            for sector in sectors(at, len) {
                self.sector(sector);
            }
            let running = running(&self.ops);
            for (_, sector) in self.sectors.range_mut(at - at % SECTOR..at + len) {
                sector.begin(number, &self.ops[&number], &running);
            }
        }
        Request(number)
    }

    /// A write begins.
    pub fn begin_write(&mut self, at: u64, bytes: &[u8]) -> Request {
        self.begin(at, bytes.len() as u64, What::Write(bytes.into()))
    }

    /// A write of zeroes begins.
    pub fn begin_zero(&mut self, at: u64, len: u64) -> Request {
        self.begin(at, len, What::Zero)
    }

    /// A discard begins.
    pub fn begin_discard(&mut self, at: u64, len: u64) -> Request {
        self.begin(at, len, What::Discard)
    }

    /// A flush begins.
    pub fn begin_flush(&mut self) -> Request {
        self.begin(0, 0, What::Flush)
    }

    /// A read begins.
    pub fn begin_read(&mut self, at: u64, len: u64) -> Request {
        self.begin(at, len, What::Read)
    }

    fn end(&mut self, request: Request, loose: bool) -> Option<(u64, u64, u64)> {
        self.clock += 1;
        let op = self.ops.get_mut(&request.0)?;
        op.end = Some(self.clock);
        op.loose = loose;
        Some((op.at, op.len, op.begin))
    }

    /// The request has succeeded. Reads end with [`read`](Model::read).
    pub fn succeed(&mut self, request: Request) {
        self.completed(request, false);
    }

    /// The request has succeeded with FUA: it is durable.
    pub fn succeed_durably(&mut self, request: Request) {
        self.completed(request, true);
    }

    fn completed(&mut self, request: Request, durable: bool) {
        let Some((at, len, begin)) = self.end(request, false) else { return };
        let oldest = self.oldest_read();
        if matches!(self.ops.get(&request.0), Some(Op { what: What::Flush, .. })) {
            self.flushed = self.flushed.max(begin);
            for sector in self.sectors.values_mut() {
                sector.flushed(begin);
                sector.forget(oldest);
            }
            return;
        }
        for (_, sector) in self.sectors.range_mut(at - at % SECTOR..at + len) {
            sector.complete(request.0, &self.ops, self.clock, durable);
            sector.forget(oldest);
        }
    }

    fn oldest_read(&self) -> u64 {
        let reads = self.ops.values().filter(|op| matches!(op.what, What::Read) && op.end.is_none());
        reads.map(|op| op.begin).min().unwrap_or(u64::MAX)
    }

    /// The request has failed, or its future was dropped: it may have been done in part, and may still be.
    pub fn give_up(&mut self, request: Request) {
        let Some((at, len, _)) = self.end(request, true) else { return };
        for (_, sector) in self.sectors.range_mut(at - at % SECTOR..at + len) {
            sector.loosen(self.clock);
        }
    }

    /// Nothing is in flight any more, neither here nor below: requests that were given up have come to rest.
    pub fn settle(&mut self) {
        self.clock += 1;
        for op in self.ops.values_mut().filter(|op| op.loose) {
            op.loose = false;
            // It may have landed just now, after any flush.
            for (_, sector) in self.sectors.range_mut(op.at - op.at % SECTOR..op.at + op.len) {
                sector.loosen(self.clock);
            }
        }
    }

    /// The process is dead and the kernel at rest: whatever was under way has been done in part.
    pub fn kill(&mut self) {
        let open: Vec<u64> = self.ops.iter().filter(|(_, op)| op.end.is_none()).map(|(n, _)| *n).collect();
        for number in open {
            self.give_up(Request(number));
        }
        self.settle();
    }

    /// What no flush has covered may be gone, and what a later write hid may show again; what is there may yet be lost in a
    /// crash. Nothing is in flight.
    pub fn lose_unflushed(&mut self) {
        self.sectors.values_mut().for_each(Sector::lose_unflushed);
    }

    /// The machine lost its power.
    pub fn crash(&mut self) {
        self.ops.clear();
        for sector in self.sectors.values_mut() {
            sector.crash();
        }
    }

    /// A read has returned `bytes`.
    ///
    /// # Errors
    /// The first sector that a correct disk would not have returned.
    pub fn read(&mut self, request: Request, bytes: &[u8]) -> Result<(), Violation> {
        let Some((at, _, since)) = self.end(request, false) else { return Ok(()) };
        self.ops.remove(&request.0);
        self.judge(at, bytes, since, false)
    }

    /// A read right after a recovery, with nothing else under way, has returned `bytes`: they stay.
    ///
    /// # Errors
    /// The first sector that a correct disk would not have returned.
    pub fn recovered(&mut self, at: u64, bytes: &[u8]) -> Result<(), Violation> {
        self.clock += 1;
        self.judge(at, bytes, self.clock, true)
    }

    fn judge(&mut self, at: u64, bytes: &[u8], since: u64, recovered: bool) -> Result<(), Violation> {
        let running = running(&self.ops);
        let whole = Op { what: What::Read, at, len: bytes.len() as u64, begin: 0, end: None, loose: false };
        for sector_at in sectors(at, bytes.len() as u64) {
            let range = whole.range_in(sector_at);
            let start = (sector_at + range.start as u64 - at) as usize;
            let here = &bytes[start..start + range.len()];
            let Some(sector) = self.sectors.get_mut(&sector_at) else {
                let initial = self.initial(sector_at);
                if initial[range.clone()] == *here {
                    continue;
                }
                return Err(violation(sector_at, range.start, here, &[&initial]));
            };
            let is_quiet = sector.quiet(since, &running, &self.ops);
            let is_mixed = || self.mixes && !is_quiet && sector.allows_mixed(since, &range, here);
            if !sector.allows(since, &range, here) && !is_mixed() {
                let allowed: Vec<_> = sector.allowed(since).collect();
                return Err(violation(sector_at, range.start, here, &allowed));
            }
            if recovered {
                sector.recover(range, here, self.clock);
            } else if is_quiet {
                // What a read shows of what a flush has covered is what the flush has covered.
                let for_good = sector.quiet(self.flushed, &running, &self.ops);
                sector.saw(range, here, self.clock, for_good);
            }
        }
        Ok(())
    }
}
