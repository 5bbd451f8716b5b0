//! Storage in memory whose operations end when the test lets them, whether or not anybody still waits for them: what
//! a kernel does behind an io_uring.
//!
//! An operation takes effect when it is released, and keeps its buffers and its [`Held`] until then.

use std::collections::{BTreeMap, BTreeSet};
use std::future::poll_fn;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};

use futures_lite::future::block_on;
use quod_storage::{
    Access, Alignment, Buffers, Existing, Extent, FileId, Held, Memory, MemoryOpener, Opener, Storage,
};

/// What kind of operation waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Read,
    Write,
    Flush,
    SetLen,
    Clear,
}

/// An operation in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Waiting {
    pub(crate) id: u64,
    pub(crate) kind: Kind,
    pub(crate) at: u64,
    pub(crate) len: u64,
}

type Outcome = io::Result<Option<Buffers>>;

struct Flight {
    told: Waiting,
    run: Box<dyn FnOnce() -> Outcome + Send>,
}

#[derive(Default)]
struct State {
    next: u64,
    open: bool,
    flights: BTreeMap<u64, Flight>,
    outcomes: BTreeMap<u64, Outcome>,
    wakers: BTreeMap<u64, Waker>,
    /// Operations whose future is gone: nobody will ask for their outcome.
    abandoned: BTreeSet<u64>,
}

/// Holds back every operation of the files behind it, until it is opened.
#[derive(Clone, Default)]
pub(crate) struct Gate(Arc<Mutex<State>>);

impl Gate {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets operations end at once from now on, and those that wait.
    pub(crate) fn open(&self) {
        self.lock().open = true;
        self.release_all();
    }

    /// Holds operations back from now on.
    pub(crate) fn shut(&self) {
        self.lock().open = false;
    }

    /// What is in flight, oldest first.
    pub(crate) fn waiting(&self) -> Vec<Waiting> {
        self.lock().flights.values().map(|flight| flight.told).collect()
    }

    /// The only operation in flight, which is of that kind.
    #[track_caller]
    pub(crate) fn only(&self, kind: Kind) -> Waiting {
        let waiting = self.waiting();
        assert_eq!(waiting.iter().map(|op| op.kind).collect::<Vec<_>>(), [kind], "{waiting:?}");
        waiting[0]
    }

    /// Lets one operation end.
    pub(crate) fn release(&self, id: u64) {
        let flight = self.lock().flights.remove(&id).expect("an operation in flight");
        let outcome = (flight.run)();
        self.end(id, outcome);
    }

    /// Lets one operation fail without effect.
    pub(crate) fn fail(&self, id: u64, kind: io::ErrorKind) {
        let flight = self.lock().flights.remove(&id).expect("an operation in flight");
        drop(flight);
        self.end(id, Err(kind.into()));
    }

    fn end(&self, id: u64, outcome: Outcome) {
        let waker = {
            let mut state = self.lock();
            if state.abandoned.remove(&id) {
                // What the operation protected goes with its outcome, but not under the lock.
                drop(state);
                drop(outcome);
                return;
            }
            state.outcomes.insert(id, outcome);
            state.wakers.remove(&id)
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Lets everything end that is in flight now; tells whether there was anything.
    pub(crate) fn release_all(&self) -> bool {
        let waiting = self.waiting();
        waiting.iter().for_each(|op| self.release(op.id));
        !waiting.is_empty()
    }

    async fn pass(
        &self,
        kind: Kind,
        (at, len): (u64, u64),
        run: impl FnOnce() -> Outcome + Send + 'static,
    ) -> Outcome {
        let id = {
            let mut state = self.lock();
            if state.open {
                drop(state);
                return run();
            }
            state.next += 1;
            let told = Waiting { id: state.next, kind, at, len };
            state.flights.insert(told.id, Flight { told, run: Box::new(run) });
            told.id
        };
        let _caller = Caller { gate: self, id };
        poll_fn(|context| {
            let mut state = self.lock();
            match state.outcomes.remove(&id) {
                Some(outcome) => Poll::Ready(outcome),
                None => {
                    state.wakers.insert(id, context.waker().clone());
                    Poll::Pending
                }
            }
        })
        .await
    }
}

/// Whoever waits for an operation.
struct Caller<'a> {
    gate: &'a Gate,
    id: u64,
}

impl Drop for Caller<'_> {
    fn drop(&mut self) {
        let mut state = self.gate.lock();
        state.wakers.remove(&self.id);
        if state.flights.contains_key(&self.id) {
            state.abandoned.insert(self.id);
        }
        let outcome = state.outcomes.remove(&self.id);
        drop(state);
        drop(outcome);
    }
}

/// A file behind a gate.
#[derive(Clone)]
pub(crate) struct Gated {
    inner: Memory,
    gate: Gate,
}

fn buffers(outcome: Outcome) -> io::Result<Buffers> {
    outcome.map(|buffers| buffers.expect("reads and writes give their buffers back"))
}

impl Storage for Gated {
    async fn read_at(&self, at: u64, into: Buffers) -> io::Result<Buffers> {
        let (inner, len) = (self.inner.clone(), into.len() as u64);
        buffers(
            self.gate.pass(Kind::Read, (at, len), move || block_on(inner.read_at(at, into)).map(Some)).await,
        )
    }

    async fn write_at(&self, at: u64, from: Buffers) -> io::Result<Buffers> {
        let (inner, len) = (self.inner.clone(), from.len() as u64);
        buffers(
            self.gate
                .pass(Kind::Write, (at, len), move || block_on(inner.write_at(at, from)).map(Some))
                .await,
        )
    }

    async fn flush(&self, held: Held) -> io::Result<()> {
        let inner = self.inner.clone();
        let run = move || block_on(inner.flush(held)).map(|()| None);
        self.gate.pass(Kind::Flush, (0, 0), run).await.map(drop)
    }

    async fn set_len(&self, len: u64, held: Held) -> io::Result<()> {
        let inner = self.inner.clone();
        let run = move || block_on(inner.set_len(len, held)).map(|()| None);
        self.gate.pass(Kind::SetLen, (0, len), run).await.map(drop)
    }

    async fn punch(&self, at: u64, len: u64, held: Held) -> io::Result<()> {
        let inner = self.inner.clone();
        let run = move || block_on(inner.punch(at, len, held)).map(|()| None);
        self.gate.pass(Kind::Clear, (at, len), run).await.map(drop)
    }

    async fn write_zeroes(&self, at: u64, len: u64, held: Held) -> io::Result<()> {
        self.punch(at, len, held).await
    }

    async fn extent(&self, at: u64, len: u64) -> io::Result<Extent> {
        self.inner.extent(at, len).await
    }

    async fn length(&self) -> io::Result<u64> {
        self.inner.length().await
    }

    fn alignment(&self) -> Alignment {
        self.inner.alignment()
    }
}

/// Named files in memory behind one gate. The gate begins open.
#[derive(Clone)]
pub(crate) struct GateOpener {
    /// The same files without the gate.
    pub(crate) plain: MemoryOpener,
    pub(crate) gate: Gate,
}

impl GateOpener {
    pub(crate) fn new() -> Self {
        let gate = Gate::default();
        gate.open();
        GateOpener { plain: MemoryOpener::new(), gate }
    }
}

impl Opener for GateOpener {
    type Storage = Gated;

    async fn open(&self, name: &Path, access: Access) -> io::Result<Gated> {
        Ok(Gated { inner: self.plain.open(name, access).await?, gate: self.gate.clone() })
    }

    async fn create(&self, name: &Path, existing: Existing) -> io::Result<Gated> {
        Ok(Gated { inner: self.plain.create(name, existing).await?, gate: self.gate.clone() })
    }

    async fn identify(&self, name: &Path) -> io::Result<FileId> {
        self.plain.identify(name).await
    }
}
