//! The transmission phase of one connection.
//!
//! Role: reads requests, many at a time, and starts each at once, but for reads of a client with many replies on their way,
//! which wait for those; what the engine has ready is answered in the same
//! breath, what waits goes on as a task of its own. Replies leave in the order in which requests finish.
//!
//! Invariant: a request is read only once there is a permit for it and its bytes, so a client that does not take its
//! replies is pushed back. Every request that was read whole is answered before the connection ends, unless the
//! client is gone; then those that wait are given up, and the connection ends when nothing works for it any more.
//!
//! Absent on purpose: what requests do (`perform.rs`), how bytes move (`inbox.rs`, `outbox.rs`).

pub(crate) mod budget;
pub(crate) mod outbox;
pub(crate) mod patience;
pub(crate) mod reply;

use std::cell::Cell;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use compio::runtime::spawn;
use futures_lite::future::{or, try_zip, yield_now};
use quod_nbd::{COMPACT_REQUEST_LEN, Command, EXTENDED_REQUEST_LEN, Errno, MAX_PAYLOAD, Mode, Request};
use quod_storage::Buffer;
use tracing::Instrument;

use self::budget::{Permit, Share};
use self::outbox::Outbox;
use self::patience::Patience;
use super::closing::Closing;
use super::export::Export;
use super::export::answer::Refusal;
use super::export::perform::Errand;
use super::export::plan::Plan;
use super::fault::Fault;
use super::session::Session;
use super::stream::inbox::Inbox;
use super::stream::{Sight, Stream};

/// Replies of this many bytes are sent before the next request is looked at, so that the client can begin with them.
const SEND_AT: usize = 64 << 10;

/// Other connections get their turn after requests of about this many bytes, each counted with [`REQUEST_COST`].
const TURN: usize = 2 << 20;

/// What a request counts beside its bytes.
const REQUEST_COST: usize = 32 << 10;

/// After so many requests since the last wait for one, or fewer, the next is looked out for. Who sends more at a time gains by
/// being left to send.
const FEW: u32 = 4;

/// One client in its transmission phase.
pub(crate) struct Connection<S> {
    stream: S,
    export: Rc<Export>,
    session: Session,
    share: Rc<Share>,
    outbox: Rc<Outbox>,
    closing: Arc<Closing>,
}

impl<S: Stream> Connection<S> {
    pub(crate) fn new(
        stream: S,
        export: Rc<Export>,
        session: Session,
        share: Rc<Share>,
        closing: Arc<Closing>,
    ) -> Self {
        let outbox = Outbox::new(Rc::clone(&share), Rc::clone(&export.recycler), Rc::clone(&export.scribe));
        Connection { stream, export, session, share, outbox, closing }
    }

    /// Serves the client until it leaves; `inbox` may hold its first requests already.
    ///
    /// # Errors
    /// Why the client did not leave in peace. Requests in flight were answered, if there was still somebody to answer.
    pub(crate) async fn serve(self, mut inbox: Inbox) -> Result<(), Fault> {
        let requests = async {
            let end = self.receive(&mut inbox).await;
            if let Err(failed @ Fault::Io(_)) = end {
                return Err(failed);
            }
            self.outbox.finish();
            Ok(end)
        };
        match try_zip(requests, self.outbox.send_all(&self.stream)).await {
            Ok((end, ())) => end,
            Err(gone) => {
                self.outbox.abandon().await;
                Err(gone)
            }
        }
    }

    /// Reads requests and starts them, until the last.
    async fn receive(&self, inbox: &mut Inbox) -> Result<(), Fault> {
        let mut closing = pin!(self.closing.wait());
        let mut turn = 0;
        let begun = Cell::new(0);
        loop {
            let idle = async || {
                self.outbox.send_now(&self.stream)?;
                let is_few = begun.replace(0) <= FEW;
                let more = async {
                    if !is_few || !self.look_out().await? {
                        self.stream.readable().await?;
                    }
                    Ok(())
                };
                or(more, async {
                    closing.as_mut().await;
                    Err(Fault::Closing)
                })
                .await
            };
            let Some(request) = self.next(inbox, idle).await? else { return Ok(()) };
            begun.set(begun.get() + 1);
            if self.closing.is_said() {
                return Err(Fault::Closing);
            }
            if request.command == Command::Disconnect {
                return Ok(());
            }
            self.accept(request, inbox).await?;
            turn += REQUEST_COST + request.length.min(MAX_PAYLOAD.into()) as usize;
            if self.outbox.len() >= SEND_AT {
                self.outbox.send_now(&self.stream)?;
            }
            if turn >= TURN {
                turn = 0;
                yield_now().await;
            }
        }
    }

    /// Looks out for the next request; whether it has come.
    async fn look_out(&self) -> Result<bool, Fault> {
        let sight = self.stream.look_out().await?;
        self.export.scribe.note_lookout(sight);
        Ok(sight == Sight::Something)
    }

    /// Takes the next header; `None` when the client has closed its end instead.
    async fn next(
        &self,
        inbox: &mut Inbox,
        wait: impl AsyncFnMut() -> Result<(), Fault>,
    ) -> Result<Option<Request>, Fault> {
        let mode = self.session.mode;
        let request = match mode {
            Mode::Simple | Mode::Structured => {
                let header = inbox.expect::<COMPACT_REQUEST_LEN>(&self.stream, wait).await?;
                header.map(|header| Request::decode(mode, &header))
            }
            Mode::Extended => {
                let header = inbox.expect::<EXTENDED_REQUEST_LEN>(&self.stream, wait).await?;
                header.map(|header| Request::decode(mode, &header))
            }
        };
        Ok(request.transpose()?)
    }

    /// Takes a request in, with its payload, and starts or refuses it.
    async fn accept(&self, request: Request, inbox: &mut Inbox) -> Result<(), Fault> {
        let length = match request.payload_len(self.session.mode) {
            length if length > MAX_PAYLOAD.into() => return Err(Fault::TooLong { length }),
            length => length as usize,
        };
        match self.export.plan(&request, &self.session) {
            Ok(plan @ Plan::Write(_)) => {
                let permit = self.admit(plan.memory(&request)).await?;
                let payload = self.payload(length, inbox).await?;
                self.start(request, plan, permit, Some(payload));
            }
            Ok(plan @ Plan::Selection) => {
                let permit = self.admit(plan.memory(&request)).await?;
                let payload = self.payload(length, inbox).await?;
                match self.export.plan_selection(&request, &payload, self.session.contexts) {
                    Ok(plan) => self.start(request, plan, permit, None),
                    Err(refusal) => self.refuse(request, refusal, permit),
                }
            }
            Ok(plan) => {
                let permit = self.admit(plan.memory(&request)).await?;
                self.start(request, plan, permit, None);
            }
            Err(refusal) => {
                let permit = self.admit(0).await?;
                let mut patience = Patience::new(&self.share, length);
                let wait = async || self.more_of_a_request(&mut patience).await;
                inbox.skip(&self.stream, length, wait).await?;
                self.refuse(request, refusal, permit);
            }
        }
        Ok(())
    }

    /// Takes a payload in.
    async fn payload(&self, length: usize, inbox: &mut Inbox) -> Result<Buffer, Fault> {
        let mut payload = self.export.recycler.take(length);
        let mut patience = Patience::new(&self.share, length);
        let wait = async || self.more_of_a_request(&mut patience).await;
        inbox.expect_payload(&self.stream, &mut payload, wait).await?;
        Ok(payload)
    }

    /// Waits until there is room for a request of so many bytes.
    async fn admit(&self, bytes: usize) -> Result<Permit, Fault> {
        if let Some(permit) = self.share.try_admit(bytes) {
            return Ok(permit);
        }
        self.outbox.send_now(&self.stream)?;
        or(async { Ok(self.share.admit(bytes).await) }, async {
            self.closing.wait().await;
            Err(Fault::Closing)
        })
        .await
    }

    /// Waits for the rest of a payload.
    async fn more_of_a_request(&self, patience: &mut Patience<'_>) -> Result<(), Fault> {
        self.outbox.send_now(&self.stream)?;
        patience.wait(self.stream.readable(), || self.closing.is_said()).await
    }

    fn refuse(&self, request: Request, refusal: Refusal, permit: Permit) {
        let Request { command, flags, offset, length, .. } = request;
        tracing::debug!(?refusal, ?command, flags, offset, length, "refused a request");
        self.outbox.ticket(&request, self.session.mode, permit).answer(Err(refusal));
    }

    /// Begins a request, and answers it too if nothing makes it wait.
    fn start(&self, request: Request, plan: Plan, permit: Permit, payload: Option<Buffer>) {
        let ticket = self.outbox.ticket(&request, self.session.mode, permit);
        let Request { command, offset, length, .. } = request;
        let span = tracing::trace_span!("request", export = self.export.name(), ?command, offset, length);
        let errand = Errand { request, is_given_up: self.outbox.is_given_up() };
        let mut work = Box::pin(Rc::clone(&self.export).perform(plan, errand, payload));
        if matches!(plan, Plan::Read(_)) && self.outbox.is_full() {
            let (outbox, work) = (Rc::clone(&self.outbox), work.instrument(span));
            spawn(async move {
                outbox.room().await;
                ticket.answer_and_send(match outbox.is_given_up().get() {
                    true => Err(Refusal::new(Errno::Shutdown, "nobody waits for this any more")),
                    false => work.await,
                });
            })
            .detach();
            return;
        }
        // The task below asks again with a waker of its own.
        let first = span.in_scope(|| work.as_mut().poll(&mut Context::from_waker(Waker::noop())));
        match first {
            Poll::Ready(outcome) => ticket.answer(outcome),
            Poll::Pending => {
                let work = work.instrument(span);
                spawn(async move { ticket.answer_and_send(work.await) }).detach();
            }
        }
    }
}
