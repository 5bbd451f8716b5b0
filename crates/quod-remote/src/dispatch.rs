//! The receiving thread of a connection.
//!
//! Role: takes every reply to the request that it answers, until the connection ends.
//!
//! Invariant: when it ends, however it does, everybody who waits is told, and nobody can begin to wait any more.
//!
//! Absent on purpose: what replies hold (`reply.rs`).

use std::io::ErrorKind;

use quod_nbd::{Cookie, ReplyHead, SIMPLE_REPLY_LEN};

use crate::error::Nonsense;
use crate::link::{Link, Pending};
use crate::lock;
use crate::receiver::Receiver;
use crate::reply::Broken;

impl Link {
    /// Takes replies to those who wait, until the connection ends.
    pub(crate) fn receive(&self, mut receiver: Receiver) {
        let _tells_everybody = TellEverybody(self);
        loop {
            if let Err(why) = self.receive_one(&mut receiver) {
                return self.close(&why);
            }
        }
    }

    fn receive_one(&self, receiver: &mut Receiver) -> Result<(), Broken> {
        let mut head = [0; 32];
        let (beginning, rest) = head.split_first_chunk_mut::<SIMPLE_REPLY_LEN>().expect("it is longer");
        receiver.read_exact(&self.wire, beginning)?;
        let len = ReplyHead::len_of(self.mode, beginning).map_err(Nonsense::from)?;
        receiver.read_exact(&self.wire, &mut rest[..len - SIMPLE_REPLY_LEN])?;
        let head = ReplyHead::decode(&head[..len]).map_err(Nonsense::from)?;
        let Cookie(cookie) = match &head {
            ReplyHead::Simple { cookie, .. } => *cookie,
            ReplyHead::Chunk(chunk) => chunk.cookie,
        };
        let pending = lock(&self.in_flight).pending.remove(&cookie);
        let mut pending = Returned { link: self, cookie, pending };
        let Some(one) = &mut pending.pending else { return Err(Nonsense::UnknownCookie(cookie).into()) };
        let from = (&self.wire, receiver);
        let is_last = match &head {
            ReplyHead::Simple { result, .. } => {
                one.reply.simple(*result, self.mode, from)?;
                true
            }
            ReplyHead::Chunk(chunk) => {
                one.reply.chunk(chunk, self.mode, from)?;
                chunk.is_last()
            }
        };
        if is_last && let Some(Pending { reply, slot, is_flush, held }) = pending.pending.take() {
            // A reply that makes no sense has an end as well: that of the connection.
            let outcome = reply.finish().map_err(Broken::from);
            drop(held);
            match outcome {
                Ok(outcome) => self.answer(&slot, is_flush, outcome),
                Err(why) => {
                    self.close(&why);
                    self.answer(&slot, is_flush, Err(self.why_closed()));
                    return Err(why);
                }
            }
        }
        Ok(())
    }
}

/// A request that is looked at; it goes back to the others, unless it was taken out.
struct Returned<'a> {
    link: &'a Link,
    cookie: u64,
    pending: Option<Pending>,
}

impl Drop for Returned<'_> {
    fn drop(&mut self) {
        if let Some(pending) = self.pending.take() {
            lock(&self.link.in_flight).pending.insert(self.cookie, pending);
        }
    }
}

/// Tells all who wait that the connection is over, when the receiving thread ends.
struct TellEverybody<'a>(&'a Link);

impl Drop for TellEverybody<'_> {
    fn drop(&mut self) {
        let TellEverybody(link) = self;
        let pending = {
            let mut in_flight = lock(&link.in_flight);
            let sentence = || format!("{}: the connection ended", link.name).into();
            in_flight.closed.get_or_insert_with(|| (ErrorKind::ConnectionAborted, sentence()));
            std::mem::take(&mut in_flight.pending)
        };
        link.hang_up();
        for Pending { slot, is_flush, held, reply } in pending.into_values() {
            drop((held, reply));
            link.answer(&slot, is_flush, Err(link.why_closed()));
        }
    }
}
