//! One connection in transmission: requests on their way, and who waits for them.
//!
//! Role: [`Link::ask`] sends a request from any thread; the receiving thread takes the replies to those
//! who wait (`dispatch.rs`).
//!
//! Invariant: every request that was taken on is answered once: by the server, or by the end of the connection. What a
//! request holds is let go when its reply is there, whether or not a future still waits for it. A flush that failed
//! with nobody to hear it fails the next one.
//!
//! Absent on purpose: reconnecting. What the server had not made durable would be lost without a word.

use std::collections::HashMap;
use std::io::{self, ErrorKind, IoSlice};
use std::net::Shutdown;
use std::sync::{Arc, Mutex};

use quod_nbd::{Agreed, CMD_FLAG_PAYLOAD_LEN, Command, Cookie, Mode, Request};
use quod_storage::Held;

use crate::lock;
use crate::reply::{Answer, Broken, Reply, Wanted};
use crate::slot::{Slot, Waiting};
use crate::wire::Wire;

pub(crate) type Outcome = io::Result<Answer>;

/// A request without its cookie.
pub(crate) struct Question<'a> {
    pub(crate) command: Command,
    /// `CMD_FLAG_*` bits.
    pub(crate) flags: u16,
    pub(crate) at: u64,
    pub(crate) len: u64,
    pub(crate) payload: &'a [&'a [u8]],
    pub(crate) wanted: Wanted,
    pub(crate) held: Held,
}

/// A request that waits for its reply.
pub(crate) struct Pending {
    pub(crate) reply: Reply,
    pub(crate) slot: Arc<Slot<Outcome>>,
    pub(crate) is_flush: bool,
    pub(crate) held: Held,
}

#[derive(Default)]
pub(crate) struct InFlight {
    pub(crate) pending: HashMap<u64, Pending>,
    next: u64,
    /// Why the connection is of no more use.
    pub(crate) closed: Option<(ErrorKind, Arc<str>)>,
}

/// A connection in transmission.
pub(crate) struct Link {
    pub(crate) wire: Wire,
    /// The export, for sentences.
    pub(crate) name: String,
    pub(crate) mode: Mode,
    /// Held while a whole message is sent.
    sending: Mutex<()>,
    pub(crate) in_flight: Mutex<InFlight>,
    /// A flush that failed and was not told.
    owed: Mutex<Option<io::Error>>,
}

impl Link {
    pub(crate) fn new(wire: Wire, name: String, agreed: &Agreed) -> Arc<Self> {
        Arc::new(Link {
            wire,
            name,
            mode: agreed.mode,
            sending: Mutex::default(),
            in_flight: Mutex::default(),
            owed: Mutex::default(),
        })
    }

    /// Sends a request, and waits for its reply.
    ///
    /// # Errors
    /// What the server answers, or why it does not.
    ///
    /// # Cancellation
    /// Once polled, the request is sent; dropped, it goes on and holds what it holds.
    pub(crate) async fn ask(self: &Arc<Self>, question: Question<'_>) -> Outcome {
        let is_flush = question.command == Command::Flush;
        let slot = self.send(question)?;
        let link = Arc::clone(self);
        let waiting = Waiting::on(slot, move |outcome: Outcome| link.unclaimed(is_flush, outcome));
        waiting.outcome().await
    }

    /// The failure of a flush that nobody heard of.
    pub(crate) fn take_owed(&self) -> Option<io::Error> {
        lock(&self.owed).take()
    }

    fn unclaimed(&self, is_flush: bool, outcome: Outcome) {
        if let (true, Err(error)) = (is_flush, outcome) {
            *lock(&self.owed) = Some(error);
        }
    }

    fn send(&self, question: Question<'_>) -> io::Result<Arc<Slot<Outcome>>> {
        let Question { command, flags, at, len, payload, wanted, held } = question;
        let slot = Slot::new();
        let cookie = {
            let mut in_flight = lock(&self.in_flight);
            if let Some((kind, why)) = &in_flight.closed {
                return Err(io::Error::new(*kind, why.to_string()));
            }
            let cookie = in_flight.next;
            in_flight.next += 1;
            let reply = Reply::to(at, len, wanted);
            let is_flush = command == Command::Flush;
            in_flight.pending.insert(cookie, Pending { reply, slot: Arc::clone(&slot), is_flush, held });
            cookie
        };
        let payload_flag =
            if self.mode == Mode::Extended && !payload.is_empty() { CMD_FLAG_PAYLOAD_LEN } else { 0 };
        let flags = flags | payload_flag;
        let request = Request { flags, command, cookie: Cookie(cookie), offset: at, length: len };
        if let Err(error) = self.send_message(&request, payload) {
            // The receiving thread tells everybody.
            self.close(&Broken::Io(error));
        }
        Ok(slot)
    }

    fn send_message(&self, request: &Request, payload: &[&[u8]]) -> io::Result<()> {
        let mut head = Vec::new();
        request.encode(self.mode, &mut head);
        let mut parts = vec![IoSlice::new(&head)];
        parts.extend(payload.iter().map(|part| IoSlice::new(part)));
        let _whole_message = lock(&self.sending);
        self.wire.send(&mut parts)
    }

    /// Says goodbye.
    ///
    /// # Errors
    /// What the system says; then the server learns it from the end of the connection.
    pub(crate) fn say_goodbye(&self, patience: std::time::Duration) -> io::Result<()> {
        self.wire.socket.set_timeouts(Some(patience))?;
        let cookie = Cookie(lock(&self.in_flight).next);
        let goodbye = Request { flags: 0, command: Command::Disconnect, cookie, offset: 0, length: 0 };
        self.send_message(&goodbye, &[])?;
        self.wire.end_sending()
    }

    /// Makes every call on the socket end.
    pub(crate) fn hang_up(&self) {
        self.wire.socket.shut_down(Shutdown::Both);
    }

    /// Notes why the connection is of no more use; the first reason counts.
    pub(crate) fn close(&self, why: &Broken) {
        let kind = match why {
            Broken::Io(error) if error.kind() != ErrorKind::UnexpectedEof => error.kind(),
            Broken::Io(_) => ErrorKind::ConnectionAborted,
            Broken::Nonsense(_) => ErrorKind::InvalidData,
        };
        let sentence = match why {
            Broken::Io(error) if error.kind() == ErrorKind::UnexpectedEof => {
                format!("{}: the server closed the connection", self.name)
            }
            why => format!("{}: {why}", self.name),
        };
        lock(&self.in_flight).closed.get_or_insert((kind, sentence.into()));
        self.hang_up();
    }

    pub(crate) fn answer(&self, slot: &Slot<Outcome>, is_flush: bool, outcome: Outcome) {
        if let Some(outcome) = slot.fill(outcome) {
            self.unclaimed(is_flush, outcome);
        }
    }

    pub(crate) fn why_closed(&self) -> io::Error {
        match &lock(&self.in_flight).closed {
            Some((kind, why)) => io::Error::new(*kind, why.to_string()),
            None => {
                io::Error::new(ErrorKind::ConnectionAborted, format!("{}: the connection ended", self.name))
            }
        }
    }
}
