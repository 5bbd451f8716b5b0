//! A handle on a simulated file, and the future of an operation on it.
//!
//! Role: [`SimStorage`] hands each operation to the simulated kernel and waits for the answer.
//!
//! Invariant: the operation is submitted at the first poll of its future, once; dropping the future afterwards
//! changes nothing in the kernel. Of a flush whose future was dropped, nobody would learn that it failed: the next
//! flush of the file fails in its stead.
//!
//! Absent on purpose: effects (`kernel.rs`, `journal.rs`). Without an [`Executor`](crate::Executor) or
//! [`World::settle`] nothing proceeds, unless [`Faults::none`](crate::Faults::none) is in force.

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use quod_storage::{Alignment, Buffers, Extent, Held, Storage};

use crate::fault::Kind;
use crate::job::{Delivery, Job};
use crate::slot::{Answer, Reply, Slot};
use crate::world::World;

impl Delivery {
    /// Hands the answer over and lets go of what the operation held. No lock of the world is held here.
    pub(crate) fn deliver(self, world: &World) {
        let failed = self.answer.is_err();
        let (waker, abandoned) = self.slot.fill(self.answer);
        if abandoned && failed && self.kind == Kind::Flush {
            world.flush_failed_unseen(self.file);
        }
        drop(self.held);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// A handle on one simulated file. Clones are the same file.
#[derive(Clone)]
pub struct SimStorage {
    pub(crate) world: World,
    pub(crate) file: usize,
}

impl fmt::Debug for SimStorage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SimStorage({})", self.file)
    }
}

/// An operation: submitted at the first poll, then awaited.
struct Operation {
    storage: SimStorage,
    kind: Kind,
    job: Option<Job>,
    slot: Arc<Slot>,
}

impl Future for Operation {
    type Output = Answer;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Answer> {
        if let Some(job) = self.job.take() {
            let slot = Arc::clone(&self.slot);
            self.storage.world.submit(self.storage.file, job, slot);
        }
        self.slot.poll(cx)
    }
}

impl Drop for Operation {
    fn drop(&mut self) {
        let unseen = self.slot.abandon();
        if self.kind == Kind::Flush && matches!(unseen, Some(Err(_))) {
            self.storage.world.flush_failed_unseen(self.storage.file);
        }
    }
}

impl SimStorage {
    fn run(&self, job: Job) -> Operation {
        Operation { storage: self.clone(), kind: job.kind(), job: Some(job), slot: Arc::default() }
    }
}

fn buffers(reply: Reply) -> Buffers {
    match reply {
        Reply::Buffers(buffers) => buffers,
        _ => unreachable!("reads and writes give their buffers back"),
    }
}

impl Storage for SimStorage {
    async fn read_at(&self, at: u64, into: Buffers) -> io::Result<Buffers> {
        self.run(Job::Read { at, into }).await.map(buffers)
    }

    fn read_now(&self, at: u64, into: &mut [u8]) -> Option<io::Result<()>> {
        self.world.read_now(self.file, at, into)
    }

    async fn write_at(&self, at: u64, from: Buffers) -> io::Result<Buffers> {
        if at.checked_add(from.len() as u64).is_none_or(|end| end > i64::MAX as u64) {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.run(Job::Write { at, from }).await.map(buffers)
    }

    async fn flush(&self, held: Held) -> io::Result<()> {
        self.run(Job::Flush { held }).await.map(drop)
    }

    async fn set_len(&self, len: u64, held: Held) -> io::Result<()> {
        if len > i64::MAX as u64 {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.run(Job::SetLen { len, held }).await.map(drop)
    }

    async fn punch(&self, at: u64, len: u64, held: Held) -> io::Result<()> {
        self.run(Job::Zero { at, len, keep: false, held }).await.map(drop)
    }

    async fn write_zeroes(&self, at: u64, len: u64, held: Held) -> io::Result<()> {
        self.run(Job::Zero { at, len, keep: true, held }).await.map(drop)
    }

    async fn extent(&self, at: u64, len: u64) -> io::Result<Extent> {
        match self.run(Job::Extent { at, len }).await? {
            Reply::Extent(extent) => Ok(extent),
            _ => unreachable!("asked for an extent"),
        }
    }

    async fn length(&self) -> io::Result<u64> {
        match self.run(Job::Length).await? {
            Reply::Length(len) => Ok(len),
            _ => unreachable!("asked for the length"),
        }
    }

    fn alignment(&self) -> Alignment {
        Alignment::ANY
    }
}
