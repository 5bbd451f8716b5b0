//! The bytes of one client, by readiness.
//!
//! Role: [`Stream`] is all that the connection code asks of a transport: what can be had without waiting, and
//! waiting. Data go straight between the kernel and the buffers of requests.
//!
//! Invariant: `try_*` never block, and a closed peer never raises a signal.
//!
//! Absent on purpose: buffering, and any protocol. TCP and TLS are further implementations.

use std::io::{self, IoSlice, IoSliceMut, Read};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;

use compio::runtime::fd::PollFd;
use rustix::net::{SendAncillaryBuffer, SendFlags, sendmsg};

/// A two-way stream of bytes that tells when it is ready.
pub(crate) trait Stream {
    /// Fills a prefix of `into` with what has arrived; 0 is the end of the stream.
    ///
    /// # Errors
    /// `WouldBlock` when nothing has arrived.
    fn try_read(&self, into: &mut [IoSliceMut<'_>]) -> io::Result<usize>;

    /// Takes over a prefix of `from`.
    ///
    /// # Errors
    /// `WouldBlock` when there is no room; `BrokenPipe` when the peer is gone.
    fn try_write(&self, from: &[IoSlice<'_>]) -> io::Result<usize>;

    /// Sends on what a successful [`try_write`](Stream::try_write) took over and still holds.
    ///
    /// # Errors
    /// `WouldBlock` when there is no room for all of it.
    fn try_flush(&self) -> io::Result<()>;

    /// Waits until [`try_read`](Stream::try_read) is worth trying. May be dropped at any time.
    async fn readable(&self) -> io::Result<()>;

    /// Waits until [`try_write`](Stream::try_write) or [`try_flush`](Stream::try_flush) is worth trying. May be dropped at any time.
    async fn writable(&self) -> io::Result<()>;
}

/// A Unix socket on this thread's event loop.
#[derive(Debug)]
pub(crate) struct Socket(PollFd<UnixStream>);

impl Socket {
    /// Puts `stream` on the event loop of this thread.
    ///
    /// # Errors
    /// What the system says.
    pub(crate) fn new(stream: UnixStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        Ok(Socket(PollFd::new(stream)?))
    }
}

impl Stream for Socket {
    fn try_read(&self, into: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        let mut stream: &UnixStream = &self.0;
        loop {
            let read = match &mut *into {
                [single] => stream.read(single),
                several => stream.read_vectored(several),
            };
            match read {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => return read,
            }
        }
    }

    fn try_write(&self, from: &[IoSlice<'_>]) -> io::Result<usize> {
        // Not writev: that would raise SIGPIPE where the process has not ignored it.
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        loop {
            match sendmsg(&self.0, from, &mut SendAncillaryBuffer::default(), flags) {
                Err(rustix::io::Errno::INTR) => {}
                sent => return Ok(sent?),
            }
        }
    }

    fn try_flush(&self) -> io::Result<()> {
        Ok(())
    }

    async fn readable(&self) -> io::Result<()> {
        self.0.read_ready().await
    }

    async fn writable(&self) -> io::Result<()> {
        self.0.write_ready().await
    }
}

impl Socket {
    /// Ends both directions now, also where somebody still waits on the socket.
    fn close(&self) {
        if let Err(error) = self.0.shutdown(Shutdown::Both) {
            // The peer was quicker.
            tracing::trace!(%error, "the socket was closed already");
        }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        // An operation of the event loop may keep the descriptor open for a while; the peer learns it now.
        self.close();
    }
}
