//! Where the kernel and the future of an operation meet.
//!
//! Role: a [`Slot`] holds an operation's answer until its future takes it, or the waker until there is one.
//!
//! Invariant: an answer is taken once; who fills a slot learns whether its future is gone.
//!
//! Absent on purpose: wakes, which come after every lock is let go (`disk.rs`).

use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use quod_storage::{Buffers, Extent};

/// What comes back.
pub(crate) enum Reply {
    Buffers(Buffers),
    Done,
    Extent(Extent),
    Length(u64),
}

pub(crate) type Answer = io::Result<Reply>;

/// Where an answer is left for the future that asked.
#[derive(Default)]
pub(crate) struct Slot(Mutex<Waiting>);

#[derive(Default)]
struct Waiting {
    answer: Option<Answer>,
    waker: Option<Waker>,
    /// The future is gone.
    abandoned: bool,
}

impl Slot {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the answer; without one, remembers whom to wake.
    pub(crate) fn poll(&self, cx: &mut Context<'_>) -> Poll<Answer> {
        let mut waiting = self.lock();
        if let Some(answer) = waiting.answer.take() {
            return Poll::Ready(answer);
        }
        waiting.waker = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Leaves the answer. Returns whom to wake, and whether nobody waits any more.
    pub(crate) fn fill(&self, answer: Answer) -> (Option<Waker>, bool) {
        let mut waiting = self.lock();
        waiting.answer = Some(answer);
        (waiting.waker.take(), waiting.abandoned)
    }

    /// The future is gone. Returns an answer that it has not seen.
    pub(crate) fn abandon(&self) -> Option<Answer> {
        let mut waiting = self.lock();
        waiting.abandoned = true;
        waiting.answer.take()
    }
}
