//! Bytes from a server, in the clear or through TLS.
//!
//! Role: fills what it is asked to fill, through buffers of its own.
//!
//! Invariant: without a buffer for plaintext, not one byte is taken from the server that was not asked for: what comes
//! before TLS is never read as if it had come through it.
//!
//! Absent on purpose: messages.

use std::io::{self, ErrorKind, Read};

use crate::lock;
use crate::socket::Deadline;
use crate::wire::Wire;

/// Bytes that are received at a time.
const RECEIVE: usize = 64 << 10;

/// Bytes that have arrived and were not asked for yet.
#[derive(Default)]
struct Window {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
}

impl Window {
    fn of(len: usize) -> Self {
        Window { bytes: vec![0; len], start: 0, end: 0 }
    }

    fn is_empty(&self) -> bool {
        self.start == self.end
    }

    fn rest(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }
}

/// The receiving end of a [`Wire`].
pub(crate) struct Receiver {
    plain: Window,
    sealed: Window,
    deadline: Option<Deadline>,
}

impl Receiver {
    /// Takes exactly what it is asked for, by the deadline.
    pub(crate) fn exact(deadline: Deadline) -> Self {
        Receiver { plain: Window::default(), sealed: Window::of(RECEIVE), deadline: Some(deadline) }
    }

    /// Takes what there is, and waits as long as it takes.
    pub(crate) fn ahead(self) -> Self {
        Receiver { plain: Window::of(RECEIVE), deadline: None, ..self }
    }

    /// Fills all of `bytes`.
    ///
    /// # Errors
    /// `UnexpectedEof` when the server closes; what the system says.
    pub(crate) fn read_exact(&mut self, wire: &Wire, mut bytes: &mut [u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            // What is large goes straight to its place.
            if self.plain.is_empty() && bytes.len() >= self.plain.bytes.len() {
                let read = some(receive(wire, &mut self.sealed, self.deadline, bytes)?)?;
                bytes = &mut bytes[read..];
                continue;
            }
            if self.plain.is_empty() {
                let read = receive(wire, &mut self.sealed, self.deadline, &mut self.plain.bytes)?;
                (self.plain.start, self.plain.end) = (0, some(read)?);
            }
            let len = bytes.len().min(self.plain.rest().len());
            bytes[..len].copy_from_slice(&self.plain.rest()[..len]);
            self.plain.start += len;
            bytes = &mut bytes[len..];
        }
        Ok(())
    }
}

fn some(read: usize) -> io::Result<usize> {
    if read == 0 { Err(ErrorKind::UnexpectedEof.into()) } else { Ok(read) }
}

/// Receives some plaintext; 0 is the end.
fn receive(
    wire: &Wire,
    sealed: &mut Window,
    deadline: Option<Deadline>,
    bytes: &mut [u8],
) -> io::Result<usize> {
    let read = |into: &mut [u8]| match deadline {
        Some(deadline) => wire.socket.read_by(into, deadline),
        None => wire.socket.read(into),
    };
    let Some(tls) = &wire.tls else { return read(bytes) };
    loop {
        {
            let mut tls = lock(tls);
            // A piece at a time: TLS takes no more in while plaintext waits inside.
            loop {
                match tls.reader().read(bytes) {
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                    done => return done,
                }
                if sealed.is_empty() {
                    break;
                }
                let taken = tls.read_tls(&mut sealed.rest())?;
                sealed.start += some(taken)?;
                let told = tls.process_new_packets();
                told.map_err(|error| io::Error::new(ErrorKind::InvalidData, format!("TLS: {error}")))?;
            }
        }
        (sealed.start, sealed.end) = (0, some(read(&mut sealed.bytes)?)?);
    }
}
