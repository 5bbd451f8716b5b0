//! Carrying requests out: calls of the engine, on the event loop where they are quick and on threads where not.
//!
//! Invariant: FUA and flush answer only once the engine has. A flush covers every write that was answered on any
//! connection, since the engine's covers every write that completed. An engine's error is logged where it becomes a
//! number.
//!
//! Absent on purpose: checking ranges and rights; [`Export::plan`] did.

use std::rc::Rc;

use quod::{ErrorKind, Fua, Image, Room, block_on};
use quod_storage::{Buffer, FileStorage};

use super::export::{Export, Plan};
use super::outbox::Outcome;
use quod_nbd::{Errno, Request};

impl Export {
    /// Carries `plan` out for `request`; `payload` are the bytes of a write.
    ///
    /// Dropped, it may leave the operation running.
    pub(crate) async fn perform(
        self: Rc<Self>,
        plan: Plan,
        request: Request,
        payload: Option<Buffer>,
    ) -> Outcome {
        match plan {
            Plan::Nothing => Ok(None),
            Plan::Read => self.read(&request).await.map(Some),
            Plan::Write(fua) => self.write(&request, payload.ok_or(Errno::Inval)?, fua).await,
            Plan::WriteZeroes(room, fua) => self.write_zeroes(&request, room, fua).await,
            Plan::Trim(fua) => self.trim(&request, fua).await,
            Plan::Flush if self.read_only => Ok(None),
            Plan::Flush => self.flush(&request).await,
        }
    }

    async fn read(&self, request: &Request) -> Result<Buffer, Errno> {
        let length = request.length as u32;
        let (at, into) = (request.offset, self.recycler.take(request.length as usize));
        if self.reads.on_loop(length) {
            let read = self.reads.watch(length, self.image.read(at, into)).await;
            return read.map_err(|error| self.report(request, &error));
        }
        self.on_thread(request, move |image| block_on(image.read(at, into))).await
    }

    async fn write(&self, request: &Request, from: Buffer, fua: Fua) -> Outcome {
        let (at, length) = (request.offset, request.length as u32);
        let written = if fua == Fua::No && self.writes.on_loop(length) {
            let write = self.writes.watch(length, self.image.write(at, from, fua)).await;
            write.map_err(|error| self.report(request, &error))
        } else {
            self.on_thread(request, move |image| block_on(image.write(at, from, fua))).await
        };
        self.recycler.put(written?);
        Ok(None)
    }

    async fn write_zeroes(&self, request: &Request, room: Room, fua: Fua) -> Outcome {
        let (at, len) = (request.offset, request.length);
        self.on_thread(request, move |image| block_on(image.write_zeroes(at, len, room, fua))).await?;
        Ok(None)
    }

    async fn trim(&self, request: &Request, fua: Fua) -> Outcome {
        let (at, len) = (request.offset, request.length);
        self.on_thread(request, move |image| block_on(image.discard(at, len, fua))).await?;
        Ok(None)
    }

    async fn flush(&self, request: &Request) -> Outcome {
        self.on_thread(request, |image| block_on(image.flush())).await?;
        Ok(None)
    }

    /// Lets the engine settle what has been idle; failures are logged and tried again at the next call.
    pub(crate) async fn maintain(&self) {
        let image = self.image.clone();
        match self.offload.run(move || block_on(image.maintain())).await {
            Ok(Ok(())) | Err(_) => {}
            Ok(Err(error)) => tracing::warn!(%error, "maintenance of the image failed"),
        }
    }

    async fn on_thread<T: Send + 'static>(
        &self,
        request: &Request,
        job: impl FnOnce(Image<FileStorage>) -> quod::Result<T> + Send + 'static,
    ) -> Result<T, Errno> {
        let image = self.image.clone();
        self.offload.run(move || job(image)).await?.map_err(|error| self.report(request, &error))
    }

    /// Logs why a request failed and translates it.
    fn report(&self, request: &Request, error: &quod::Error) -> Errno {
        let Request { command, offset, length, .. } = request;
        if let Some(suppressed) = self.failures.borrow_mut().entry(error.kind()).or_default().admit() {
            tracing::warn!(%error, ?command, offset, length, suppressed, "a request failed");
        }
        match error.kind() {
            ErrorKind::NoSpace => Errno::NoSpc,
            ErrorKind::ReadOnly => Errno::Perm,
            ErrorKind::InvalidArgument => Errno::Inval,
            _ => Errno::Io,
        }
    }
}
