//! Flushes that requests share, and the latch that closes when one fails.
//!
//! Role: [`Flusher::flush`] returns when a flush has succeeded that began after the call; requests that wait
//! together share one. Serves D8 (when a flush may be skipped) and D10 (what a failure does).
//!
//! Invariants: one flush is in flight at a time. Once latched, every flush and every write is refused for as long as
//! the image is open.
//!
//! Absent on purpose: retries. A failed flush promises nothing, and a later one does not mend it.

use std::sync::{Arc, PoisonError};

use quod_storage::{Held, Storage};

use crate::error::{Error, ErrorKind, Result};
use crate::sync::atomic::{AtomicBool, Ordering, fence};
use crate::sync::{Mutex, MutexGuard, OnceLock};
use crate::turn::Turn;
use crate::units::FlushNumber;

/// The flushes of one image.
#[derive(Default)]
pub(crate) struct Flusher {
    turn: Turn,
    flights: Mutex<Flights>,
    /// Something changed since the last flush began.
    unflushed: AtomicBool,
    latched: OnceLock<String>,
}

/// Flushes by number, in the order they began.
#[derive(Default)]
struct Flights {
    /// Requests that were to be durable when they were answered.
    asked: u64,
    begun: FlushNumber,
    /// The last one that succeeded; all before it are covered by it.
    done: FlushNumber,
}

impl Flusher {
    /// Notes a change that the next flush owes: one that is about to be reported as complete, and one that failed or whose
    /// future was dropped, as soon as it is over.
    pub(crate) fn wrote(&self) {
        // With its pair in `begin`: either the flush that begins now comes after the change, or this sees its mark taken
        // back. Looked at first, so that the line stays shared between cores.
        fence(Ordering::SeqCst);
        if !self.unflushed.load(Ordering::Relaxed) {
            self.unflushed.store(true, Ordering::Release);
        }
    }

    /// Makes durable all that completed before the call. Skipped when a successful flush of this open began after all
    /// of it (D8).
    ///
    /// # Errors
    /// The failed flush's error; from then on `Latched`.
    pub(crate) async fn flush<S: Storage>(&self, storage: &S, held: &Held) -> Result<()> {
        self.check()?;
        let Some(wanted) = self.wanted() else { return Ok(()) };
        let turn = self.turn.take().await;
        if self.flights().done >= wanted {
            return Ok(());
        }
        self.check()?;
        let number = self.begin();
        // The turn is kept here too: whoever comes next must find this flush's outcome noted.
        let protected = Held::new(Arc::new((held.clone(), turn.clone())));
        match storage.flush(protected).await {
            Ok(()) => {
                self.flights().done = number;
                Ok(())
            }
            Err(source) => Err(self.latch(Error::io("the flush failed", source).for_good())),
        }
    }

    /// Refuses when an earlier failure has closed the image for writing.
    ///
    /// # Errors
    /// `Latched`, with the first failure's sentence.
    pub(crate) fn check(&self) -> Result<()> {
        match self.latched.get() {
            None => Ok(()),
            Some(first) => {
                let way_out =
                    "reads go on; close the image, see to its storage, and check it before it is used again";
                Err(Error::new(
                    ErrorKind::Latched,
                    format!("writes are refused since an earlier failure: {first} ({way_out})"),
                ))
            }
        }
    }

    /// Closes the image for writing; returns the error that did it.
    pub(crate) fn latch(&self, error: Error) -> Error {
        tracing::error!(%error, "latched: no more writes");
        self.latched.get_or_init(|| error.to_string());
        error
    }

    /// What a failed metadata write does: latches, unless it was for want of room (D10).
    pub(crate) fn metadata_failed(&self, error: Error) -> Error {
        if error.kind() == ErrorKind::NoSpace { error } else { self.latch(error) }
    }

    /// Number of the flush that must succeed for a request that comes now; `None` when that has happened.
    fn wanted(&self) -> Option<FlushNumber> {
        let flights = self.flights();
        let covered = !self.unflushed.load(Ordering::Acquire) && flights.begun > FlushNumber::NONE;
        match (covered, flights.begun == flights.done) {
            (true, true) => None,
            (true, false) => Some(flights.begun),
            (false, _) => Some(flights.begun.next()),
        }
    }

    /// Number of the flush that will have covered all that is complete now, once it has succeeded. It may have already.
    pub(crate) fn owed(&self) -> FlushNumber {
        self.wanted().unwrap_or_else(|| self.done())
    }

    /// Notes a request that is to be durable when it is answered.
    pub(crate) fn note_asked(&self) {
        self.flights().asked += 1;
    }

    /// How many such requests there were, and how many flushes of the file were begun.
    pub(crate) fn counts(&self) -> (u64, u64) {
        let flights = self.flights();
        (flights.asked, flights.begun.0)
    }

    /// Whether an earlier failure has closed the image for writing.
    pub(crate) fn is_latched(&self) -> bool {
        self.latched.get().is_some()
    }

    /// Number of the last flush that succeeded.
    pub(crate) fn done(&self) -> FlushNumber {
        self.flights().done
    }

    fn begin(&self) -> FlushNumber {
        let mut flights = self.flights();
        flights.begun = flights.begun.next();
        self.unflushed.store(false, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        flights.begun
    }

    fn flights(&self) -> MutexGuard<'_, Flights> {
        self.flights.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
