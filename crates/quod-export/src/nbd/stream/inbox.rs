//! What has arrived from a client and is not yet used.
//!
//! Role: takes many small messages out of one read; brings large payloads to their buffers without a second copy,
//! together with the beginning of what follows them.
//!
//! Invariant: bytes leave in the order of their arrival, each once, also when a waiting future is dropped.
//!
//! Absent on purpose: any meaning of the bytes, and going back to little memory: who has sent much will again.

use std::io::{self, IoSliceMut};

use super::Stream;
use crate::nbd::fault::Fault;

/// Bytes read ahead at most: a batch of small writes with their payloads.
const CAPACITY: usize = 64 << 10;

/// Bytes read ahead from a client that has not sent more at a time yet: most sit idle.
const FIRST_CAPACITY: usize = 4 << 10;

/// From this length of a payload on, little is read ahead behind it, since what follows will be long as well and
/// should not be copied.
const LONG: usize = 32 << 10;

/// What is read ahead behind a long payload: the next header and some more, in bytes.
const AHEAD_OF_LONG: usize = 4 << 10;

/// What one read brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Arrival {
    /// Some bytes.
    Bytes,
    /// Nothing yet.
    Nothing,
    /// Nothing ever more.
    End,
}

impl Arrival {
    fn of(read: io::Result<usize>) -> io::Result<(Self, usize)> {
        match read {
            Ok(0) => Ok((Arrival::End, 0)),
            Ok(len) => Ok((Arrival::Bytes, len)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok((Arrival::Nothing, 0)),
            Err(error) => Err(error),
        }
    }
}

/// The read side of a connection.
pub(crate) struct Inbox {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
}

impl Inbox {
    pub(crate) fn new() -> Self {
        Inbox { bytes: vec![0; FIRST_CAPACITY], start: 0, end: 0 }
    }

    /// Whether nothing waits to be used.
    pub(crate) fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Takes the next `N` bytes if they are all there.
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let taken = *self.bytes[self.start..self.end].first_chunk()?;
        self.start += N;
        Some(taken)
    }

    /// Takes in what has arrived, without waiting.
    ///
    /// # Errors
    /// When the stream fails.
    fn fill(&mut self, stream: &impl Stream) -> io::Result<Arrival> {
        self.close_up();
        let room = IoSliceMut::new(&mut self.bytes[self.end..]);
        let (arrival, len) = Arrival::of(stream.try_read(&mut [room]))?;
        self.end += len;
        self.grow_if_full();
        Ok(arrival)
    }

    /// Moves a prefix of what follows to `into`, without waiting; returns how much.
    ///
    /// # Errors
    /// When the stream fails.
    fn fill_payload(&mut self, stream: &impl Stream, into: &mut [u8]) -> io::Result<(Arrival, usize)> {
        let here = into.len().min(self.end - self.start);
        if here > 0 {
            into[..here].copy_from_slice(&self.bytes[self.start..self.start + here]);
            self.start += here;
            return Ok((Arrival::Bytes, here));
        }
        self.close_up();
        let ahead = if into.len() < LONG { self.bytes.len() } else { AHEAD_OF_LONG };
        let wanted = into.len();
        let mut vectors = [IoSliceMut::new(into), IoSliceMut::new(&mut self.bytes[..ahead])];
        let (arrival, len) = Arrival::of(stream.try_read(&mut vectors))?;
        self.end = len.saturating_sub(wanted);
        self.grow_if_full();
        Ok((arrival, len.min(wanted)))
    }

    /// Takes the next `N` bytes, waiting by `wait`. `None`: the client ended the stream before the first of them.
    ///
    /// # Errors
    /// When the stream fails or ends in the middle, and what `wait` says.
    pub(crate) async fn expect<const N: usize>(
        &mut self,
        stream: &impl Stream,
        mut wait: impl AsyncFnMut() -> Result<(), Fault>,
    ) -> Result<Option<[u8; N]>, Fault> {
        loop {
            if let Some(taken) = self.take() {
                return Ok(Some(taken));
            }
            match self.fill(stream)? {
                Arrival::Bytes => {}
                Arrival::Nothing => wait().await?,
                Arrival::End if self.is_empty() => return Ok(None),
                Arrival::End => return Err(Fault::Truncated),
            }
        }
    }

    /// Fills `into` with what follows, waiting by `wait`.
    ///
    /// # Errors
    /// When the stream fails or ends before that, and what `wait` says.
    pub(crate) async fn expect_payload(
        &mut self,
        stream: &impl Stream,
        into: &mut [u8],
        mut wait: impl AsyncFnMut() -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        let mut filled = 0;
        while filled < into.len() {
            let (arrival, len) = self.fill_payload(stream, &mut into[filled..])?;
            filled += len;
            match arrival {
                Arrival::Bytes => {}
                Arrival::Nothing => wait().await?,
                Arrival::End => return Err(Fault::Truncated),
            }
        }
        Ok(())
    }

    /// Throws the next `len` bytes away, waiting by `wait`.
    ///
    /// # Errors
    /// When the stream fails or ends before that, and what `wait` says.
    pub(crate) async fn skip(
        &mut self,
        stream: &impl Stream,
        mut len: usize,
        mut wait: impl AsyncFnMut() -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        loop {
            let here = len.min(self.end - self.start);
            self.start += here;
            len -= here;
            if len == 0 {
                return Ok(());
            }
            match self.fill(stream)? {
                Arrival::Bytes => {}
                Arrival::Nothing => wait().await?,
                Arrival::End => return Err(Fault::Truncated),
            }
        }
    }

    /// Makes room for a client that sends more at a time than there is room for.
    fn grow_if_full(&mut self) {
        if self.end == self.bytes.len() && self.bytes.len() < CAPACITY {
            self.bytes.resize(CAPACITY, 0);
        }
    }

    /// Moves what is unused to the front, so that there is room behind it.
    fn close_up(&mut self) {
        self.bytes.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
    }
}
