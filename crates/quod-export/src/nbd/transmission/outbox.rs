//! Replies on their way to a client.
//!
//! Role: replies queue here in the order in which requests finish, and leave many in one call. A [`Ticket`] is the
//! duty to answer one request; each is counted.
//!
//! Invariant: each request is answered once, also when the task that works on it panics; a reply holds its
//! [`Permit`] until it has left, so what queues here is bounded by the permits of the connection.
//!
//! Absent on purpose: deciding what to answer.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::rc::Rc;

use event_listener::{Event, listener};
use quod_nbd::{Errno, Mode, Request};
use smallvec::SmallVec;

use super::budget::{Permit, Share};
use super::patience::Patience;
use super::reply::{Asked, Message};
use crate::nbd::export::answer::{Outcome, Refusal};
use crate::nbd::export::recycle::Recycler;
use crate::nbd::fault::Fault;
use crate::nbd::stream::Stream;
use crate::nbd::tally::{Begun, Scribe};

/// Parts of messages that are offered to the stream at a time; the system takes 1,024.
const MAX_PARTS: usize = 256;

/// Bytes of replies that wait before reads wait with them: what is read earlier leaves the processor's caches before it is
/// sent.
const ENOUGH: usize = 512 << 10;

/// Reads that go on when there is room again: some may have to wait for the disk.
const RELEASED: usize = 8;

struct Queued {
    message: Message,
    /// Of the reply, with its last message.
    permit: Option<Permit>,
}

impl Queued {
    fn len(&self) -> usize {
        self.message.head.len() + self.message.data.as_ref().map_or(0, |data| data.len())
    }
}

#[derive(Default)]
struct Queue {
    messages: VecDeque<Queued>,
    /// Bytes of the first message that have left already.
    gone: usize,
    /// Bytes of all messages together.
    len: usize,
    /// Bytes that have left, ever.
    sent: u64,
}

/// What is left after sending as much as the stream takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Left {
    Nothing,
    Something,
}

/// The write side of a connection.
pub(crate) struct Outbox {
    queue: RefCell<Queue>,
    unanswered: Cell<usize>,
    /// The sender waits for the stream: no use trying.
    full: Cell<bool>,
    /// No further request will come.
    last: Cell<bool>,
    /// The client is gone: what is pushed is forgotten.
    abandoned: Rc<Cell<bool>>,
    changed: Event,
    /// Replies have left.
    drained: Event,
    share: Rc<Share>,
    recycler: Rc<Recycler>,
    scribe: Rc<Scribe>,
}

impl Outbox {
    pub(crate) fn new(share: Rc<Share>, recycler: Rc<Recycler>, scribe: Rc<Scribe>) -> Rc<Self> {
        Rc::new(Outbox {
            queue: RefCell::default(),
            unanswered: Cell::new(0),
            full: Cell::new(false),
            last: Cell::new(false),
            abandoned: Rc::default(),
            changed: Event::new(),
            drained: Event::new(),
            share,
            recycler,
            scribe,
        })
    }

    /// Takes on the duty to answer a request.
    pub(crate) fn ticket(self: &Rc<Self>, request: &Request, mode: Mode, permit: Permit) -> Ticket {
        self.unanswered.set(self.unanswered.get() + 1);
        let duty = Duty { asked: Asked::by(request, mode), begun: self.scribe.begin(request), permit };
        Ticket { outbox: Rc::clone(self), duty: Some(duty) }
    }

    /// Says that no further request will come: [`send_all`](Outbox::send_all) ends once all are answered.
    pub(crate) fn finish(&self) {
        self.last.set(true);
        self.changed.notify(1);
    }

    /// Forgets what waits, since the client is gone, and waits until nothing works for it any more.
    pub(crate) async fn abandon(&self) {
        self.abandoned.set(true);
        self.queue.take();
        self.drained.notify(usize::MAX);
        while self.unanswered.get() > 0 {
            listener!(self.changed => changed);
            changed.await;
        }
    }

    /// Tells, now and later, whether nobody will take another answer.
    pub(crate) fn is_given_up(&self) -> Rc<Cell<bool>> {
        Rc::clone(&self.abandoned)
    }

    /// Bytes that wait.
    pub(crate) fn len(&self) -> usize {
        self.queue.borrow().len
    }

    /// Whether so much waits that reading more for this client would gain nothing.
    pub(crate) fn is_full(&self) -> bool {
        self.len() >= ENOUGH
    }

    /// Waits until that is not so.
    pub(crate) async fn room(&self) {
        while self.is_full() {
            listener!(self.drained => drained);
            drained.await;
        }
    }

    /// Sends what the stream takes, without waiting.
    ///
    /// # Errors
    /// When the stream fails.
    pub(crate) fn send_now(&self, stream: &impl Stream) -> io::Result<()> {
        if !self.full.get() && self.try_send(stream)? == Left::Something {
            // The sender has to wait for room now.
            self.changed.notify(1);
        }
        Ok(())
    }

    /// Sends replies until the last.
    ///
    /// # Errors
    /// When the stream fails or the client does not read and is in the way.
    pub(crate) async fn send_all(&self, stream: &impl Stream) -> Result<(), Fault> {
        let (mut patience, mut enough) = (Patience::new(&self.share, 0), 0);
        loop {
            listener!(self.changed => changed);
            match self.try_send(stream)? {
                Left::Nothing if self.last.get() && self.unanswered.get() == 0 => return Ok(()),
                Left::Nothing => changed.await,
                Left::Something => {
                    let (sent, waiting) = (self.queue.borrow().sent, self.len());
                    if sent >= enough {
                        // What waits now is a lot of its own.
                        (patience, enough) = (Patience::new(&self.share, waiting), sent + waiting as u64);
                    }
                    self.full.set(true);
                    patience.wait(stream.writable(), || self.last.get()).await?;
                    self.full.set(false);
                }
            }
        }
    }

    fn try_send(&self, stream: &impl Stream) -> io::Result<Left> {
        let left = self.send_queued(stream);
        if !self.is_full() {
            self.drained.notify(RELEASED);
        }
        left
    }

    fn send_queued(&self, stream: &impl Stream) -> io::Result<Left> {
        let mut queue = self.queue.borrow_mut();
        while !queue.messages.is_empty() {
            match queue.send(stream) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(len) => queue.strike(len, &self.recycler),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Left::Something),
                Err(error) => return Err(error),
            }
        }
        match stream.try_flush() {
            Ok(()) => Ok(Left::Nothing),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(Left::Something),
            Err(error) => Err(error),
        }
    }

    fn push(&self, duty: Duty, outcome: Outcome) {
        let Duty { asked, begun, permit } = duty;
        self.unanswered.set(self.unanswered.get() - 1);
        if self.abandoned.get() {
            self.scribe.give_up(begun);
            return;
        }
        self.scribe.end(begun, outcome.is_ok());
        let mut queue = self.queue.borrow_mut();
        asked.tell(outcome, |message| {
            let queued = Queued { message, permit: None };
            queue.len += queued.len();
            queue.messages.push_back(queued);
        });
        if let Some(last) = queue.messages.back_mut() {
            last.permit = Some(permit);
        }
    }
}

impl Queue {
    /// Offers messages to the stream; returns how many bytes it took.
    fn send(&self, stream: &impl Stream) -> io::Result<usize> {
        let mut slices = SmallVec::<[IoSlice<'_>; MAX_PARTS]>::new();
        for Queued { message, .. } in self.messages.iter().take(MAX_PARTS / 2) {
            slices.push(IoSlice::new(&message.head));
            slices.extend(message.data.iter().map(|data| IoSlice::new(data)));
        }
        let mut rest = &mut slices[..];
        IoSlice::advance_slices(&mut rest, self.gone);
        stream.try_write(rest)
    }

    /// Forgets the first `len` bytes.
    fn strike(&mut self, len: usize, recycler: &Recycler) {
        self.gone += len;
        self.len -= len;
        self.sent += len as u64;
        while let Some(first) = self.messages.front()
            && first.len() <= self.gone
        {
            self.gone -= first.len();
            let Some(Queued { message, permit }) = self.messages.pop_front() else { return };
            if let Some(data) = message.data {
                recycler.put(data);
            }
            drop(permit);
        }
    }
}

/// The duty to answer one request. Dropped without an answer, which only a panic does, it answers with an I/O error.
pub(crate) struct Ticket {
    outbox: Rc<Outbox>,
    /// Until it is done.
    duty: Option<Duty>,
}

struct Duty {
    asked: Asked,
    begun: Begun,
    permit: Permit,
}

impl Ticket {
    /// Queues the answer; somebody else sends it.
    pub(crate) fn answer(mut self, outcome: Outcome) {
        if let Some(duty) = self.duty.take() {
            self.outbox.push(duty, outcome);
        }
    }

    /// Queues the answer and wakes the sender.
    pub(crate) fn answer_and_send(self, outcome: Outcome) {
        let outbox = Rc::clone(&self.outbox);
        self.answer(outcome);
        outbox.changed.notify(1);
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if let Some(duty) = self.duty.take() {
            let refusal = Refusal::new(Errno::Io, "the request failed in a way that none should");
            self.outbox.push(duty, Err(refusal));
            self.outbox.changed.notify(1);
        }
    }
}
