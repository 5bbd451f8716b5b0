//! Reads, writes and flushes of a file through the event loop of the thread that asks: io_uring, by compio.
//!
//! Invariant: the kernel has the buffers until it is done with them, and what they hold as long, also when the future is
//! dropped. [`ring_is_idle`] tells when it has none any more.
//!
//! Absent on purpose: files and buffers that are registered with the ring, which compio has no operations for.

use std::cell::Cell;
use std::io;
use std::rc::Rc;
use std::sync::Arc;

use compio::BufResult;
use compio::buf::IntoInner;
use compio::driver::op::{ReadAt, ReadVectoredAt, Sync, WriteAt, WriteVectoredAt};
use compio::driver::{DriverType, OpCode};
use compio::runtime::{Runtime, submit};
use event_listener::{Event, listener};

use crate::Buffers;
use crate::buffer::Rest;
use crate::lock::Locked;

/// The operations of this thread that the kernel has yet to end.
#[derive(Default)]
struct UnderWay {
    count: Cell<usize>,
    ended: Event,
}

thread_local! {
    static UNDER_WAY: Rc<UnderWay> = Rc::default();
}

/// One of them.
pub(crate) struct Counted(Rc<UnderWay>);

impl Counted {
    fn new() -> Self {
        let all = UNDER_WAY.with(Rc::clone);
        all.count.set(all.count.get() + 1);
        Counted(all)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.count.set(self.0.count.get() - 1);
        self.0.ended.notify(usize::MAX);
    }
}

/// Waits until all that was asked of files on this thread's event loop is over, also what nobody awaits any more. To be
/// awaited before the loop ends: the kernel does not wait for it, and would go on in memory that is no longer there.
pub async fn ring_is_idle() {
    let all = UNDER_WAY.with(Rc::clone);
    while all.count.get() > 0 {
        listener!(all.ended => ended);
        ended.await;
    }
}

/// Whether the kernel has nothing to do for this thread.
pub(crate) fn is_quiet() -> bool {
    UNDER_WAY.with(|all| all.count.get() == 0)
}

/// Runs `work` as if an operation were under way.
#[cfg(test)]
pub(crate) fn while_busy(work: impl FnOnce()) {
    let _counted = Counted::new();
    work();
}

/// Whether this thread runs an event loop on io_uring.
pub(crate) fn is_here() -> bool {
    Runtime::try_with_current(|runtime| runtime.driver_type() == DriverType::IoUring).unwrap_or(false)
}

/// Fills `into` from `at`. A `block` that the end of the file lies in reads as zeroes behind it.
pub(crate) async fn read(file: &Arc<Locked>, at: u64, into: Buffers, block: u64) -> io::Result<Buffers> {
    let mut rest = Rest { buffers: into, done: 0, _counted: Counted::new() };
    while !rest.is_empty() {
        let (fd, from) = (Arc::clone(file), at + rest.done as u64);
        let outcome;
        (outcome, rest) = match rest.buffers.parts.len() {
            1 => ask(ReadAt::new(fd, from, rest)).await,
            _ => ask(ReadVectoredAt::new(fd, from, rest)).await,
        };
        match outcome {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(read) => rest.done = rest.buffers.clear_block(at, rest.done + read, block),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(rest.buffers)
}

/// Writes `from` at `at`.
pub(crate) async fn write(file: &Arc<Locked>, at: u64, from: Buffers) -> io::Result<Buffers> {
    let mut rest = Rest { buffers: from, done: 0, _counted: Counted::new() };
    while !rest.is_empty() {
        let (fd, to) = (Arc::clone(file), at + rest.done as u64);
        let outcome;
        (outcome, rest) = match rest.buffers.parts.len() {
            1 => ask(WriteAt::new(fd, to, rest)).await,
            _ => ask(WriteVectoredAt::new(fd, to, rest)).await,
        };
        match outcome {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => rest.done += written,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(rest.buffers)
}

/// Not asked again when it is interrupted: whether what it covered is still dirty is then unknown.
pub(crate) async fn flush(file: Arc<Locked>) -> io::Result<()> {
    let _counted = Counted::new();
    let BufResult(outcome, _) = submit(Sync::new(file, true)).await;
    outcome.map(drop)
}

async fn ask<T: OpCode + IntoInner<Inner = Rest> + 'static>(op: T) -> (io::Result<usize>, Rest) {
    let BufResult(outcome, op) = submit(op).await;
    (outcome, op.into_inner())
}
