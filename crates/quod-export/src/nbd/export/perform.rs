//! Carrying requests out: calls of the engine, on the event loop where they are quick and on threads where not.
//!
//! Invariant: FUA and flush answer only once the engine has. A flush covers every write that was answered on any
//! connection, since the engine's covers every write that completed. No request keeps a thread for longer than
//! [`STRETCH`] bytes of it take, or [`CACHE_STRETCH`], and none takes one when its client is gone. An engine's error is
//! logged where it becomes a number.
//!
//! Absent on purpose: checking ranges and rights; [`Export::plan`] did.

use std::cell::Cell;
use std::rc::Rc;

use quod::{ErrorKind, Fua, block_on};
use quod_nbd::{Errno, Request};
use quod_storage::Buffer;

use super::Export;
use super::answer::{Answer, Outcome, Refusal};
use super::plan::{Fragments, Plan};
use super::status;
use crate::nbd::exports::Disk;

/// Bytes that are cleared or discarded before other requests get the thread.
const STRETCH: u64 = 1 << 30;

/// Bytes that a CACHE brings near at most: it is a hint, and must not sweep the page cache.
const MOST_CACHED: u64 = 64 << 20;

/// Bytes of it that are brought near before other requests get the thread.
const CACHE_STRETCH: u64 = 1 << 20;

/// Reads up to this length are answered in one piece: looking for holes costs more than they save.
const ONE_PIECE: u32 = 4096;

/// A request, and whether somebody still waits for it.
pub(crate) struct Errand {
    pub(crate) request: Request,
    pub(crate) is_given_up: Rc<Cell<bool>>,
}

impl Export {
    /// Carries `plan` out for the request of `errand`; `payload` are the bytes of a write.
    ///
    /// Dropped, it may leave the operation running.
    pub(crate) async fn perform(
        self: Rc<Self>,
        plan: Plan,
        errand: Errand,
        payload: Option<Buffer>,
    ) -> Outcome {
        let request = errand.request;
        let no_payload = Refusal::new(Errno::Inval, "a payload is missing");
        match plan {
            Plan::Nothing => Ok(Answer::Done),
            Plan::Read(Fragments::Allowed) if request.length > ONE_PIECE.into() => {
                self.read_pieces(&errand).await
            }
            Plan::Read(_) => self.read(&errand).await,
            Plan::Write(fua) => self.write(&errand, payload.ok_or(no_payload)?, fua).await,
            Plan::WriteZeroes(room, fua) => {
                self.in_stretches(&errand, STRETCH, move |image, at, len, last| {
                    block_on(image.write_zeroes(at, len, room, if last { fua } else { Fua::No }))
                })
                .await
            }
            Plan::Trim(fua) => {
                self.in_stretches(&errand, STRETCH, move |image, at, len, last| {
                    block_on(image.discard(at, len, if last { fua } else { Fua::No }))
                })
                .await
            }
            Plan::Flush if self.read_only => Ok(Answer::Done),
            Plan::Flush => {
                self.on_thread(&errand, |image| block_on(image.flush())).await?;
                Ok(Answer::Done)
            }
            Plan::Cache => {
                let length = request.length.min(MOST_CACHED);
                let beginning = Errand { request: Request { length, ..request }, ..errand };
                self.in_stretches(&beginning, CACHE_STRETCH, |image, at, len, _last| {
                    // Read and forgotten.
                    block_on(image.read(at, Buffer::zeroed(len as usize))).map(drop)
                })
                .await
            }
            Plan::Status { length, contexts, extents } => {
                let at = request.offset;
                let told = self.on_thread(&errand, move |image| {
                    block_on(status::extents(&image, at, length, contexts, extents))
                });
                Ok(Answer::Status(told.await?))
            }
            Plan::Selection => Err(no_payload),
        }
    }

    async fn read(&self, errand: &Errand) -> Outcome {
        let (request, length) = (&errand.request, errand.request.length as u32);
        let (at, into) = (request.offset, self.recycler.take(length as usize));
        let read = match self.reads.on_loop(length) {
            true => {
                let read = self.reads.watch(length, self.image.read(at, into)).await;
                read.map_err(|error| self.report(request, &error))
            }
            false => self.on_thread(errand, move |image| block_on(image.read(at, into))).await,
        };
        read.map(Answer::Bytes)
    }

    async fn read_pieces(&self, errand: &Errand) -> Outcome {
        let request = &errand.request;
        let (at, length) = (request.offset, request.length as u32);
        let read = match self.reads.on_loop(length) {
            true => {
                let read = status::read_pieces(&self.image, at, length.into(), |len| self.recycler.take(len));
                self.reads.watch(length, read).await.map_err(|error| self.report(request, &error))
            }
            false => {
                self.on_thread(errand, move |image| {
                    block_on(status::read_pieces(&image, at, length.into(), Buffer::zeroed))
                })
                .await
            }
        };
        read.map(Answer::Pieces)
    }

    async fn write(&self, errand: &Errand, from: Buffer, fua: Fua) -> Outcome {
        let request = &errand.request;
        let (at, length) = (request.offset, request.length as u32);
        let is_quick = fua == Fua::No && !self.image.first_writes_wait();
        let written = if is_quick && self.writes.on_loop(length) {
            let write = self.writes.watch(length, self.image.write(at, from, fua)).await;
            write.map_err(|error| self.report(request, &error))
        } else {
            self.on_thread(errand, move |image| block_on(image.write(at, from, fua))).await
        };
        self.recycler.put(written?);
        Ok(Answer::Done)
    }

    /// Does a long range in parts of `stretch` bytes, so that other requests get threads in between; tells `step` which
    /// part is the last.
    async fn in_stretches(
        &self,
        errand: &Errand,
        stretch: u64,
        step: impl Fn(Disk, u64, u64, bool) -> quod::Result<()> + Copy + Send + 'static,
    ) -> Outcome {
        let (mut at, end) = (errand.request.offset, errand.request.offset + errand.request.length);
        loop {
            let len = (end - at).min(stretch);
            let last = at + len == end;
            self.on_thread(errand, move |image| step(image, at, len, last)).await?;
            if last {
                return Ok(Answer::Done);
            }
            at += len;
        }
    }

    /// Lets the engine do what time asks for. A failure is logged; tells whether there was none.
    pub(crate) async fn maintain(&self) -> bool {
        let image = self.image.clone();
        match self.offload.run(|| true, move || block_on(image.maintain())).await {
            Ok(Ok(())) => true,
            Ok(Err(error)) => {
                tracing::warn!(%error, "maintenance of the image failed");
                false
            }
            Err(_crowded) => false,
        }
    }

    /// Waits until there is something that [`maintain`](Export::maintain) has to do, now or later.
    pub(crate) async fn maintenance_wanted(&self) {
        self.image.maintenance_wanted().await;
    }

    /// Waits until that is due before its time.
    pub(crate) async fn maintenance_due(&self) {
        self.image.maintenance_due().await;
    }

    async fn on_thread<T: Send + 'static>(
        &self,
        errand: &Errand,
        job: impl FnOnce(Disk) -> quod::Result<T> + Send + 'static,
    ) -> Result<T, Refusal> {
        let image = self.image.clone();
        let is_wanted = || !errand.is_given_up.get();
        let done = self.offload.run(is_wanted, move || job(image)).await?;
        done.map_err(|error| self.report(&errand.request, &error))
    }

    /// Logs why a request failed and translates it. The client hears what happened, but no name of a file.
    fn report(&self, request: &Request, error: &quod::Error) -> Refusal {
        let Request { command, offset, length, .. } = request;
        if let Some(suppressed) = self.failures.borrow_mut().entry(error.kind()).or_default().admit() {
            tracing::warn!(%error, ?command, offset, length, suppressed, "a request failed");
        }
        let errno = errno_of(error);
        let message = match error.io_error() {
            Some(system) => format!("{}: {system}", error.message()),
            None => error.message().to_owned(),
        };
        Refusal { errno, message: message.into() }
    }
}

/// The number of those that the protocol has that comes nearest.
fn errno_of(error: &quod::Error) -> Errno {
    use std::io::ErrorKind as System;
    match (error.kind(), error.io_error().map(std::io::Error::kind)) {
        (ErrorKind::NoSpace, _) => Errno::NoSpc,
        (ErrorKind::InvalidArgument, _) => Errno::Inval,
        (ErrorKind::ReadOnly, _) | (_, Some(System::ReadOnlyFilesystem | System::PermissionDenied)) => {
            Errno::Perm
        }
        (_, Some(System::OutOfMemory)) => Errno::NoMem,
        _ => Errno::Io,
    }
}
