//! What a connection's bytes go through: a socket, or TLS over it.
//!
//! Invariant: what TLS holds back in either direction is bounded by [`HELD_BACK`]; what was taken over to be sent is
//! sent by `try_flush`, as [`Stream`] says.
//!
//! Absent on purpose: when to switch (`negotiation.rs`).

use std::cell::RefCell;
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::sync::Arc;

use rustls::{ServerConfig, ServerConnection};

use super::{Sight, Socket, Stream};

/// Bytes to be sent that TLS takes over at a time.
const HELD_BACK: usize = 256 << 10;

/// One client's bytes.
pub(crate) enum Transport {
    /// As they are.
    Clear(Socket),
    /// Encrypted.
    Encrypted(Box<TlsStream>),
}

/// TLS over a socket, server's side.
pub(crate) struct TlsStream {
    socket: Socket,
    connection: RefCell<ServerConnection>,
}

impl TlsStream {
    /// Leads the TLS handshake. Dropped, it leaves the socket in the middle: close it.
    ///
    /// # Errors
    /// When the socket fails or ends, or the peer does not agree; it is told why as far as it listens.
    pub(crate) async fn accept(socket: Socket, config: Arc<ServerConfig>) -> io::Result<Self> {
        let mut connection = ServerConnection::new(config).map_err(io::Error::other)?;
        connection.set_buffer_limit(Some(HELD_BACK));
        let stream = TlsStream { socket, connection: connection.into() };
        loop {
            match stream.try_flush() {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => stream.socket.writable().await?,
                flushed => flushed?,
            }
            if !stream.connection.borrow().is_handshaking() {
                return Ok(stream);
            }
            match stream.take_in() {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => stream.socket.readable().await?,
                taken => drop(taken?),
            }
        }
    }

    /// Takes in what has arrived on the socket; returns how many bytes that were.
    fn take_in(&self) -> io::Result<usize> {
        let connection = &mut *self.connection.borrow_mut();
        let taken = connection.read_tls(&mut Raw(&self.socket))?;
        if let Err(error) = connection.process_new_packets() {
            // The alert that tells the peer why.
            if let Err(deaf) = connection.write_tls(&mut Raw(&self.socket)) {
                tracing::trace!(%deaf, "a TLS alert could not be sent");
            }
            return Err(io::Error::new(io::ErrorKind::InvalidData, error));
        }
        Ok(taken)
    }
}

impl Stream for TlsStream {
    fn try_read(&self, into: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        loop {
            let read = self.connection.borrow_mut().reader().read_vectored(into);
            match read {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                // It went away without a farewell, as many do.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(0),
                read => return read,
            }
            self.take_in()?;
        }
    }

    fn try_write(&self, from: &[IoSlice<'_>]) -> io::Result<usize> {
        self.try_flush()?;
        let taken = self.connection.borrow_mut().writer().write_vectored(from)?;
        match self.try_flush() {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
            _ => Ok(taken),
        }
    }

    fn try_flush(&self) -> io::Result<()> {
        let connection = &mut *self.connection.borrow_mut();
        while connection.wants_write() {
            if connection.write_tls(&mut Raw(&self.socket))? == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
        }
        Ok(())
    }

    async fn look_out(&self) -> io::Result<Sight> {
        self.socket.look_out().await
    }

    async fn readable(&self) -> io::Result<()> {
        self.socket.readable().await
    }

    async fn writable(&self) -> io::Result<()> {
        self.socket.writable().await
    }
}

impl Drop for TlsStream {
    fn drop(&mut self) {
        self.connection.borrow_mut().send_close_notify();
        if let Err(error) = self.try_flush() {
            tracing::trace!(%error, "the farewell of TLS could not be sent");
        }
    }
}

/// A socket as rustls sees one.
struct Raw<'a>(&'a Socket);

impl Read for Raw<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.0.try_read(&mut [IoSliceMut::new(into)])
    }
}

impl Write for Raw<'_> {
    fn write(&mut self, from: &[u8]) -> io::Result<usize> {
        self.0.try_write(&[IoSlice::new(from)])
    }

    fn write_vectored(&mut self, from: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.try_write(from)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Stream for Transport {
    fn try_read(&self, into: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        match self {
            Transport::Clear(socket) => socket.try_read(into),
            Transport::Encrypted(tls) => tls.try_read(into),
        }
    }

    fn try_write(&self, from: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Transport::Clear(socket) => socket.try_write(from),
            Transport::Encrypted(tls) => tls.try_write(from),
        }
    }

    fn try_flush(&self) -> io::Result<()> {
        match self {
            Transport::Clear(socket) => socket.try_flush(),
            Transport::Encrypted(tls) => tls.try_flush(),
        }
    }

    async fn look_out(&self) -> io::Result<Sight> {
        match self {
            Transport::Clear(socket) => socket.look_out().await,
            Transport::Encrypted(tls) => tls.look_out().await,
        }
    }

    async fn readable(&self) -> io::Result<()> {
        match self {
            Transport::Clear(socket) => socket.readable().await,
            Transport::Encrypted(tls) => tls.readable().await,
        }
    }

    async fn writable(&self) -> io::Result<()> {
        match self {
            Transport::Clear(socket) => socket.writable().await,
            Transport::Encrypted(tls) => tls.writable().await,
        }
    }
}
