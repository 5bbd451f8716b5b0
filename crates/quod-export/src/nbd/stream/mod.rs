//! The bytes of one client, by readiness.
//!
//! Role: [`Stream`] is all that the connection code asks of a transport: what can be had without waiting, and
//! waiting. Data go straight between the kernel and the buffers of requests.
//!
//! Invariant: `try_*` never block, and a closed peer never raises a signal.
//!
//! Absent on purpose: buffering, and any protocol. TLS over a socket is another implementation (`transport.rs`).

pub(crate) mod inbox;
mod lookout;
pub(crate) mod tls;
pub(crate) mod transport;
mod watch;

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::OwnedFd;

use compio::runtime::fd::PollFd;
use lookout::Lookout;
pub(crate) use lookout::Sight;
use rustix::event::{self, Timespec};
use rustix::io::{Errno, read, readv};
use rustix::net::{SendAncillaryBuffer, SendFlags, Shutdown, sendmsg, shutdown};

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

    /// Looks a little while, without sleep, whether [`try_read`](Stream::try_read) is worth trying. May be dropped at any time.
    async fn look_out(&self) -> io::Result<Sight>;

    /// Waits until [`try_read`](Stream::try_read) is worth trying. May be dropped at any time.
    async fn readable(&self) -> io::Result<()>;

    /// Waits until [`try_write`](Stream::try_write) or [`try_flush`](Stream::try_flush) is worth trying. May be dropped at any time.
    async fn writable(&self) -> io::Result<()>;
}

/// A Unix or TCP socket on this thread's event loop.
#[derive(Debug)]
pub(crate) struct Socket {
    stream: PollFd<OwnedFd>,
    lookout: Lookout,
}

impl Socket {
    /// Puts `stream`, which does not block, on the event loop of this thread.
    ///
    /// # Errors
    /// What the system says.
    pub(crate) fn new(stream: OwnedFd) -> io::Result<Self> {
        Ok(Socket { stream: PollFd::new(stream)?, lookout: Lookout::default() })
    }
}

impl Stream for Socket {
    fn try_read(&self, into: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        loop {
            let read = match &mut *into {
                [single] => read(&self.stream, &mut **single),
                several => readv(&self.stream, several),
            };
            match read {
                Err(Errno::INTR) => {}
                read => return Ok(read?),
            }
        }
    }

    fn try_write(&self, from: &[IoSlice<'_>]) -> io::Result<usize> {
        // Not writev: that would raise SIGPIPE where the process has not ignored it.
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        loop {
            match sendmsg(&self.stream, from, &mut SendAncillaryBuffer::default(), flags) {
                Err(Errno::INTR) => {}
                sent => return Ok(sent?),
            }
        }
    }

    fn try_flush(&self) -> io::Result<()> {
        Ok(())
    }

    async fn look_out(&self) -> io::Result<Sight> {
        self.lookout.look(|| self.has_arrived()).await
    }

    async fn readable(&self) -> io::Result<()> {
        self.lookout.note_wait();
        self.stream.read_ready().await
    }

    async fn writable(&self) -> io::Result<()> {
        self.stream.write_ready().await
    }
}

impl Socket {
    /// Whether there is something to read, or the end of it, or a failure.
    fn has_arrived(&self) -> io::Result<bool> {
        let mut asked = [event::PollFd::new(&self.stream, event::PollFlags::IN)];
        match event::poll(&mut asked, Some(&Timespec::default())) {
            Err(Errno::INTR) => Ok(false),
            ready => Ok(ready? > 0),
        }
    }

    /// Ends both directions now, also where somebody still waits on the socket.
    fn close(&self) {
        if let Err(error) = shutdown(&self.stream, Shutdown::Both) {
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

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::Shutdown;
    use std::os::unix::net::UnixStream;

    use compio::runtime::Runtime;
    use futures_lite::future::poll_once;

    use super::{IoSliceMut, Sight, Socket, Stream};

    /// A socket on the event loop, and its peer.
    fn pair() -> (Socket, UnixStream) {
        let (here, there) = UnixStream::pair().expect("a pair");
        here.set_nonblocking(true).expect("a socket");
        (Socket::new(here.into()).expect("it is polled"), there)
    }

    #[test]
    fn what_can_be_read_has_arrived() {
        let runtime = Runtime::new().expect("an event loop");
        runtime.enter(|| {
            let has_arrived = |socket: &Socket| socket.has_arrived().expect("a socket");
            let (socket, mut there) = pair();
            assert!(!has_arrived(&socket), "nothing yet");
            there.write_all(&[7]).expect("it is open");
            assert!(has_arrived(&socket), "a byte");
            assert_eq!(socket.try_read(&mut [IoSliceMut::new(&mut [0; 2])]).expect("a byte"), 1);
            assert!(!has_arrived(&socket), "it was taken");
            there.shutdown(Shutdown::Write).expect("it is open");
            assert!(has_arrived(&socket), "the end");
            let (socket, there) = pair();
            drop(there);
            assert!(has_arrived(&socket), "nobody is there");
        });
    }

    #[test]
    fn who_waits_without_a_look_out_is_company_too() {
        let runtime = Runtime::new().expect("an event loop");
        runtime.block_on(async {
            let [(one, _one), (other, _other)] = [pair(), pair()];
            for _ in 0..100 {
                assert!(poll_once(other.readable()).await.is_none(), "nothing yet");
                assert_eq!(one.look_out().await.expect("a socket"), Sight::NotLooked);
            }
        });
    }
}
