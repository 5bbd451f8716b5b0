//! Clients that write wherever they like until their server is gone.
//!
//! Role: stamped writes, zero writes, trims, flushes and reads on several connections, each told to the model before it
//! is sent and when its reply has come. What is read is judged at once.
//!
//! Invariant: a request that the model takes for completed has been answered, by a server that was alive then.

use std::collections::HashMap;
use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard};

use fastrand::Rng;
use quod_nbd::{CMD_FLAG_FUA, Command, Errno};
use quod_sim::{Model, Request, SECTOR, stamp};

use crate::common::wire::{Answer, Ask, Wire};

/// Requests that a connection has in flight.
const DEPTH: usize = 16;

/// What the clients of a round share.
pub(crate) struct Load {
    pub(crate) model: Mutex<Model>,
    /// Of the last write that was begun, over all rounds.
    pub(crate) sequence: AtomicU64,
    /// Writes of any kind that were answered.
    pub(crate) completed: AtomicUsize,
    /// Where no earlier round has been.
    pub(crate) fresh: Range<u64>,
}

/// A write with bytes that was not answered.
pub(crate) struct Unanswered {
    pub(crate) at: u64,
    pub(crate) len: u64,
    pub(crate) sequence: u64,
}

/// A request in flight.
struct Pending {
    request: Request,
    command: Command,
    fua: bool,
    at: u64,
    len: u64,
    sequence: u64,
}

impl Load {
    fn model(&self) -> MutexGuard<'_, Model> {
        self.model.lock().expect("nobody has failed")
    }

    /// Sends requests until the server is gone; gives the writes that it left unanswered.
    pub(crate) fn run(&self, mut wire: Wire, mut rng: Rng) -> Vec<Unanswered> {
        let mut in_flight = HashMap::new();
        let mut unanswered = Vec::new();
        let mut is_gone = false;
        loop {
            while !is_gone && in_flight.len() < DEPTH {
                let (pending, payload) = self.begin(&mut rng);
                let ask = Ask { payload: &payload, ..Ask::of(pending.command, pending.at, pending.len) };
                match wire.send(&ask.with(if pending.fua { CMD_FLAG_FUA } else { 0 })) {
                    Ok(cookie) => drop(in_flight.insert(cookie, pending)),
                    Err(_gone) => {
                        is_gone = true;
                        unanswered.push(pending);
                    }
                }
            }
            // Also when nothing can be sent any more: what was answered before is still to be read.
            match wire.receive() {
                Ok((cookie, answer)) => {
                    self.end(in_flight.remove(&cookie).expect("it was sent"), answer);
                }
                Err(_gone) => break,
            }
        }
        unanswered.extend(in_flight.into_values());
        let writes = unanswered.into_iter().filter(|pending| pending.command == Command::Write);
        writes.map(|Pending { at, len, sequence, .. }| Unanswered { at, len, sequence }).collect()
    }

    /// Draws a request and tells the model.
    fn begin(&self, rng: &mut Rng) -> (Pending, Vec<u8>) {
        let command = match rng.u8(..100) {
            0..60 => Command::Write,
            60..72 => Command::WriteZeroes,
            72..80 => Command::Trim,
            80..97 => Command::Read,
            _ => Command::Flush,
        };
        let fua = command != Command::Flush && rng.u8(..40) == 0;
        let (at, len) = if command == Command::Flush { (0, 0) } else { self.range(rng) };
        let sequence = self.sequence.fetch_add(1, Ordering::Relaxed) + 1;
        let payload = match command {
            Command::Write => stamp::bytes(at, len as usize, sequence),
            _ => Vec::new(),
        };
        let mut model = self.model();
        let request = match command {
            Command::Write => model.begin_write(at, &payload),
            Command::WriteZeroes => model.begin_zero(at, len),
            Command::Trim => model.begin_discard(at, len),
            Command::Read => model.begin_read(at, len),
            _ => model.begin_flush(),
        };
        (Pending { request, command, fua, at, len, sequence }, payload)
    }

    /// Mostly short, in sectors, and where nobody has been; now and then long, odd, or anywhere.
    fn range(&self, rng: &mut Rng) -> (u64, u64) {
        let within = if rng.u8(..3) == 0 { 0..self.fresh.end } else { self.fresh.clone() };
        let unit = if rng.u8(..10) == 0 { 1 } else { SECTOR };
        let most = if rng.u8(..20) == 0 { 512 } else { 32 };
        let at = rng.u64(within.start / unit..within.end / unit) * unit;
        let len = rng.u64(1..=most * SECTOR / unit) * unit;
        (at, len.min(within.end - at))
    }

    fn end(&self, Pending { request, command, fua, at, .. }: Pending, answer: Answer) {
        let mut model = self.model();
        let bytes = match answer {
            Ok(bytes) => bytes,
            // Told to stop, and killed while it did.
            Err(Errno::Shutdown) => return model.give_up(request),
            Err(errno) => panic!("{command:?} at {at:#x}: {errno:?}"),
        };
        match command {
            Command::Read => {
                let judged = model.read(request, &bytes);
                drop(model);
                return judged.unwrap_or_else(|violation| panic!("under load: {violation}"));
            }
            _ if fua => model.succeed_durably(request),
            _ => model.succeed(request),
        }
        drop(model);
        if command != Command::Flush {
            self.completed.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// The connections of a load.
pub(crate) fn connect(socket: &Path, connections: usize) -> Vec<Wire> {
    (0..connections).map(|_| Wire::connect(socket)).collect()
}
