//! Bytes to a server, in the clear or through TLS.
//!
//! Role: [`Wire`] is shared by all who send and the one thread that receives.
//!
//! Invariant: the TLS state is locked for computing only, never across a call that may block, so that receiving goes on
//! while sending waits for the server, and the other way round. Ciphertext leaves in the order in which it was made,
//! since only the sender, of whom there is one at a time, takes it out.
//!
//! Absent on purpose: messages; who sends holds the lock around whole ones (`link.rs`). Receiving (`receiver.rs`).

use std::io::{self, ErrorKind, IoSlice, Write};
use std::net::Shutdown;
use std::sync::Mutex;

use rustls::ClientConnection;

use crate::lock;
use crate::socket::{Deadline, Socket};

/// Plaintext is encrypted in pieces of at most this many bytes.
const PIECE: usize = 256 << 10;

/// A connection to a server.
#[derive(Debug)]
pub(crate) struct Wire {
    pub(crate) socket: Socket,
    pub(crate) tls: Option<Mutex<ClientConnection>>,
}

impl Wire {
    /// In the clear.
    pub(crate) fn clear(socket: Socket) -> Self {
        Wire { socket, tls: None }
    }

    /// Through TLS: does its handshake.
    ///
    /// # Errors
    /// The server or we refuse the other's certificate, or the connection fails.
    pub(crate) fn secure(socket: Socket, mut tls: ClientConnection, deadline: Deadline) -> io::Result<Self> {
        tls.set_buffer_limit(None);
        let mut received = [0; 4096];
        while tls.is_handshaking() {
            flush_tls(&socket, &mut tls, deadline)?;
            if !tls.is_handshaking() {
                break;
            }
            let read = socket.read_by(&mut received, deadline)?;
            if read == 0 {
                return Err(io::Error::new(ErrorKind::UnexpectedEof, "the server ends the TLS handshake"));
            }
            if let Err(error) = take_in(&mut tls, &received[..read]) {
                // The server is owed the reason; ours is what the caller hears.
                let _told: bool = flush_tls(&socket, &mut tls, deadline).is_ok();
                return Err(error);
            }
        }
        flush_tls(&socket, &mut tls, deadline)?;
        Ok(Wire { socket, tls: Some(Mutex::new(tls)) })
    }

    /// Takes the socket back, to put TLS on it.
    pub(crate) fn into_socket(self) -> Socket {
        self.socket
    }

    /// Sends all of the parts. One caller at a time.
    ///
    /// # Errors
    /// What the system says; then the connection is of no more use.
    pub(crate) fn send(&self, parts: &mut [IoSlice<'_>]) -> io::Result<()> {
        let Some(tls) = &self.tls else { return self.socket.write_all(parts) };
        let mut sealed = Vec::new();
        for part in parts.iter() {
            for piece in part.chunks(PIECE) {
                {
                    let mut tls = lock(tls);
                    tls.writer().write_all(piece)?;
                    drain(&mut tls, &mut sealed)?;
                }
                if sealed.len() >= PIECE {
                    self.socket.write_all(&mut [IoSlice::new(&sealed)])?;
                    sealed.clear();
                }
            }
        }
        self.socket.write_all(&mut [IoSlice::new(&sealed)])
    }

    /// Says that nothing more is sent. Nobody may be sending.
    ///
    /// # Errors
    /// What the system says.
    pub(crate) fn end_sending(&self) -> io::Result<()> {
        if let Some(tls) = &self.tls {
            let mut sealed = Vec::new();
            {
                let mut tls = lock(tls);
                tls.send_close_notify();
                drain(&mut tls, &mut sealed)?;
            }
            self.socket.write_all(&mut [IoSlice::new(&sealed)])?;
        }
        self.socket.shut_down(Shutdown::Write);
        Ok(())
    }
}

/// Encrypted bytes that wait to be sent.
fn drain(tls: &mut ClientConnection, into: &mut Vec<u8>) -> io::Result<()> {
    while tls.wants_write() {
        tls.write_tls(into)?;
    }
    Ok(())
}

fn flush_tls(socket: &Socket, tls: &mut ClientConnection, deadline: Deadline) -> io::Result<()> {
    let mut sealed = Vec::new();
    drain(tls, &mut sealed)?;
    socket.write_all_by(&sealed, deadline)
}

fn take_in(tls: &mut ClientConnection, mut sealed: &[u8]) -> io::Result<()> {
    while !sealed.is_empty() {
        if tls.read_tls(&mut sealed)? == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        tls.process_new_packets()
            .map_err(|error| io::Error::new(ErrorKind::InvalidData, format!("TLS: {error}")))?;
    }
    Ok(())
}
