//! What one event loop has done for one export.
//!
//! Role: a [`Scribe`] counts clients and requests as they come and go; who has the [`Tally`] reads it at any time, on any
//! thread.
//!
//! Invariants: a tally has one scribe, which stays on its thread: it counts by plain loads and stores, in cache lines that
//! no other thread writes to. Counters only grow, and an answer is counted before it is sent. Nothing reads a clock unless
//! latencies are wanted.
//!
//! Absent on purpose: sums over event loops (`observer.rs`), and what the engine counts.

use std::marker::PhantomData;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use quod_nbd::{Command, Request};

use super::latencies::Latencies;
use super::observer::{LookoutStats, RequestKind, RequestStats};
use super::stream::Sight;

/// Kinds of requests.
const KINDS: usize = RequestKind::ALL.len();

/// The counters. Two lines of a cache come together on some processors, hence the alignment.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct Tally {
    came: AtomicU64,
    left: AtomicU64,
    lookouts: AtomicU64,
    lookouts_in_vain: AtomicU64,
    requests: [Requests; KINDS],
    /// Where they are wanted.
    latencies: Option<Box<[Latencies; KINDS]>>,
}

/// Requests of one kind.
#[derive(Debug, Default)]
struct Requests {
    begun: AtomicU64,
    /// Whose client had left.
    given_up: AtomicU64,
    answered: AtomicU64,
    failed: AtomicU64,
    bytes: AtomicU64,
}

impl Tally {
    /// Nothing yet.
    pub(crate) fn new(with_latencies: bool) -> Arc<Self> {
        Arc::new(Tally { latencies: with_latencies.then(Box::default), ..Tally::default() })
    }

    /// Clients that use the export now.
    pub(crate) fn clients(&self) -> u64 {
        // In this order: who has left has come.
        let left = self.left.load(Ordering::Acquire);
        load(&self.came).saturating_sub(left)
    }

    /// Adds look-outs to a sum of such.
    pub(crate) fn add_lookouts_to(&self, sum: &mut LookoutStats) {
        // In this order: what was in vain has been begun.
        sum.in_vain += self.lookouts_in_vain.load(Ordering::Acquire);
        sum.all += load(&self.lookouts);
    }

    /// Adds requests of one kind to a sum of such.
    pub(crate) fn add_to(&self, sum: &mut RequestStats) {
        let requests = &self.requests[sum.kind as usize];
        let given_up = requests.given_up.load(Ordering::Acquire);
        let answered = requests.answered.load(Ordering::Acquire);
        sum.answered += answered;
        sum.in_flight += load(&requests.begun).saturating_sub(answered + given_up);
        sum.failed += load(&requests.failed);
        sum.bytes = sum.bytes.wrapping_add(load(&requests.bytes));
        if let Some(latencies) = &self.latencies {
            sum.latencies.get_or_insert_default().add(&latencies[sum.kind as usize].stats());
        }
    }
}

/// The one that counts in a tally.
#[derive(Debug)]
pub(crate) struct Scribe {
    tally: Arc<Tally>,
    /// It does not leave its thread.
    _stays: PhantomData<Rc<()>>,
}

/// A request that is not answered yet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Begun {
    kind: RequestKind,
    bytes: u64,
    at: Option<Instant>,
}

impl Scribe {
    /// The only one of that tally.
    pub(crate) fn of(tally: Arc<Tally>) -> Rc<Self> {
        Rc::new(Scribe { tally, _stays: PhantomData })
    }

    /// Counts a client for as long as the visit is kept.
    pub(crate) fn visit(self: &Rc<Self>) -> Visit {
        add(&self.tally.came, 1);
        Visit(Rc::clone(self))
    }

    /// Counts what looking out for a client has come to.
    pub(crate) fn note_lookout(&self, sight: Sight) {
        if sight != Sight::NotLooked {
            add(&self.tally.lookouts, 1);
        }
        if sight == Sight::Nothing {
            add(&self.tally.lookouts_in_vain, 1);
        }
    }

    /// Counts a request that was read whole.
    pub(crate) fn begin(&self, request: &Request) -> Begun {
        let kind = RequestKind::of(request.command);
        add(&self.tally.requests[kind as usize].begun, 1);
        let bytes = if kind.has_bytes() { request.length } else { 0 };
        Begun { kind, bytes, at: self.tally.latencies.as_ref().map(|_| Instant::now()) }
    }

    /// Counts it out: its client has left, and nobody is answered.
    pub(crate) fn give_up(&self, begun: Begun) {
        add(&self.tally.requests[begun.kind as usize].given_up, 1);
    }

    /// Counts its answer.
    pub(crate) fn end(&self, begun: Begun, is_well: bool) {
        let kind = begun.kind as usize;
        let requests = &self.tally.requests[kind];
        match is_well {
            true => add(&requests.bytes, begun.bytes),
            false => add(&requests.failed, 1),
        }
        if let (Some(latencies), Some(at)) = (&self.tally.latencies, begun.at) {
            latencies[kind].note(at.elapsed());
        }
        add(&requests.answered, 1);
    }
}

/// A client that uses the export, until this is dropped.
#[derive(Debug)]
pub(crate) struct Visit(Rc<Scribe>);

impl Drop for Visit {
    fn drop(&mut self) {
        add(&self.0.tally.left, 1);
    }
}

impl RequestKind {
    fn of(command: Command) -> Self {
        match command {
            Command::Read => RequestKind::Read,
            Command::Write => RequestKind::Write,
            Command::WriteZeroes => RequestKind::WriteZeroes,
            Command::Trim => RequestKind::Trim,
            Command::Flush => RequestKind::Flush,
            Command::Cache => RequestKind::Cache,
            Command::BlockStatus => RequestKind::BlockStatus,
            // The first ends the connection, and is no request to count.
            Command::Disconnect | Command::Unknown(_) => RequestKind::Unknown,
        }
    }
}

/// Adds to a counter that this thread alone changes. What was counted before is seen by who sees this. A client can make
/// bytes wrap, by discarding the largest of disks over and over.
pub(crate) fn add(counter: &AtomicU64, more: u64) {
    counter.store(counter.load(Ordering::Relaxed).wrapping_add(more), Ordering::Release);
}

/// What was counted so far.
pub(crate) fn load(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use quod_nbd::Cookie;

    fn request(command: Command, length: u64) -> Request {
        Request { flags: 0, command, cookie: Cookie(0), offset: 0, length }
    }

    fn stats(tally: &Tally, kind: RequestKind) -> RequestStats {
        let mut sum = RequestStats::of(kind);
        tally.add_to(&mut sum);
        sum
    }

    #[test]
    fn a_request_is_in_flight_until_it_is_answered() {
        let tally = Tally::new(false);
        let scribe = Scribe::of(Arc::clone(&tally));
        let (one, other) = (request(Command::Write, 512), request(Command::Write, 1024));
        let (one, other) = (scribe.begin(&one), scribe.begin(&other));
        assert_eq!(stats(&tally, RequestKind::Write).in_flight, 2);
        scribe.end(one, true);
        scribe.end(other, false);
        let wanted =
            RequestStats { answered: 2, failed: 1, bytes: 512, ..RequestStats::of(RequestKind::Write) };
        assert_eq!(stats(&tally, RequestKind::Write), wanted);
        assert_eq!(stats(&tally, RequestKind::Read), RequestStats::of(RequestKind::Read));
    }

    #[test]
    fn who_leaves_is_no_error() {
        let tally = Tally::new(true);
        let scribe = Scribe::of(Arc::clone(&tally));
        let begun = scribe.begin(&request(Command::Read, 512));
        scribe.give_up(begun);
        let read = stats(&tally, RequestKind::Read);
        assert_eq!((read.answered, read.in_flight, read.failed, read.bytes), (0, 0, 0, 0));
        assert_eq!(read.latencies.map(|latencies| latencies.count()), Some(0));
    }

    #[test]
    fn a_clock_is_read_only_where_latencies_are_wanted() {
        for wanted in [false, true] {
            let tally = Tally::new(wanted);
            let scribe = Scribe::of(Arc::clone(&tally));
            let begun = scribe.begin(&request(Command::Flush, 0));
            assert_eq!(begun.at.is_some(), wanted);
            scribe.end(begun, true);
            let counted = stats(&tally, RequestKind::Flush).latencies.map(|latencies| latencies.count());
            assert_eq!(counted, wanted.then_some(1));
        }
    }

    #[test]
    fn no_range_is_too_long_to_be_counted() {
        let tally = Tally::new(true);
        let scribe = Scribe::of(Arc::clone(&tally));
        for command in [Command::Trim, Command::Trim, Command::BlockStatus, Command::Unknown(99)] {
            scribe.end(scribe.begin(&request(command, u64::MAX)), true);
        }
        assert_eq!(stats(&tally, RequestKind::Trim).bytes, u64::MAX.wrapping_mul(2));
        for kind in [RequestKind::BlockStatus, RequestKind::Unknown] {
            assert_eq!((stats(&tally, kind).answered, stats(&tally, kind).bytes), (1, 0));
        }
    }

    #[test]
    fn lookouts_count_when_somebody_looked() {
        let tally = Tally::new(false);
        let scribe = Scribe::of(Arc::clone(&tally));
        for sight in [Sight::NotLooked, Sight::Something, Sight::Nothing, Sight::Something] {
            scribe.note_lookout(sight);
        }
        let mut sum = LookoutStats { all: 10, in_vain: 10 };
        tally.add_lookouts_to(&mut sum);
        assert_eq!(sum, LookoutStats { all: 13, in_vain: 11 });
    }

    #[test]
    fn a_client_counts_while_it_is_there() {
        let tally = Tally::new(false);
        let scribe = Scribe::of(Arc::clone(&tally));
        let visits = [scribe.visit(), scribe.visit()];
        assert_eq!(tally.clients(), 2);
        drop(visits);
        assert_eq!(tally.clients(), 0);
    }
}
