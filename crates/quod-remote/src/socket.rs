//! A stream socket to a server, by blocking calls.
//!
//! Role: connects over TCP or a Unix socket within a time, and moves bytes.
//!
//! Invariant: connecting and the handshake end by their [`Deadline`], however slowly a server sends.
//!
//! Absent on purpose: TLS (`wire.rs`), and a limit on how long a request may take.

use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::net::{Shutdown, TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::net::sockopt::{self, Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};

use crate::uri::Place;

/// A moment that something must be over by.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadline(Instant);

impl Deadline {
    pub(crate) fn within(time: Duration) -> Self {
        Deadline(Instant::now() + time)
    }

    /// What is left.
    ///
    /// # Errors
    /// `TimedOut` when nothing is.
    pub(crate) fn rest(self) -> io::Result<Duration> {
        let rest = self.0.saturating_duration_since(Instant::now());
        if rest.is_zero() { Err(slow()) } else { Ok(rest) }
    }
}

fn slow() -> io::Error {
    io::Error::new(ErrorKind::TimedOut, "the server takes too long to answer")
}

/// A connected socket; reading and writing may go on at the same time.
#[derive(Debug)]
pub(crate) enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Socket {
    /// Connects.
    ///
    /// # Errors
    /// What the system says; of many addresses, what it says of the last.
    pub(crate) fn connect(place: &Place, deadline: Deadline) -> io::Result<Self> {
        match place {
            Place::Unix(path) => Ok(Socket::Unix(connect_unix(path, deadline)?)),
            Place::Tcp { host, port } => {
                let mut last = io::Error::new(ErrorKind::NotFound, "the host has no address");
                for address in (host.as_str(), *port).to_socket_addrs()? {
                    match TcpStream::connect_timeout(&address, deadline.rest()?) {
                        Ok(stream) => {
                            // Requests are whole when they are sent; nothing is gained by holding them back.
                            stream.set_nodelay(true)?;
                            notice_absence(&stream)?;
                            return Ok(Socket::Tcp(stream));
                        }
                        Err(error) => last = error,
                    }
                }
                Err(last)
            }
        }
    }

    /// Reads what there is, by the deadline.
    ///
    /// # Errors
    /// `TimedOut`, or what the system says.
    pub(crate) fn read_by(&self, bytes: &mut [u8], deadline: Deadline) -> io::Result<usize> {
        self.set_timeouts(Some(deadline.rest()?))?;
        self.read(bytes).map_err(|error| if error.kind() == ErrorKind::WouldBlock { slow() } else { error })
    }

    /// Writes all of `bytes` by the deadline.
    ///
    /// # Errors
    /// `TimedOut`, or what the system says.
    pub(crate) fn write_all_by(&self, mut bytes: &[u8], deadline: Deadline) -> io::Result<()> {
        while !bytes.is_empty() {
            self.set_timeouts(Some(deadline.rest()?))?;
            match self.write_vectored(&[IoSlice::new(bytes)]) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(written) => bytes = &bytes[written..],
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Err(slow()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Limits how long one call may block.
    ///
    /// # Errors
    /// What the system says.
    pub(crate) fn set_timeouts(&self, time: Option<Duration>) -> io::Result<()> {
        match self {
            Socket::Tcp(stream) => {
                stream.set_read_timeout(time)?;
                stream.set_write_timeout(time)
            }
            Socket::Unix(stream) => {
                stream.set_read_timeout(time)?;
                stream.set_write_timeout(time)
            }
        }
    }

    /// Reads what there is; waits for it.
    ///
    /// # Errors
    /// What the system says.
    pub(crate) fn read(&self, bytes: &mut [u8]) -> io::Result<usize> {
        loop {
            let read = match self {
                Socket::Tcp(stream) => { stream }.read(bytes),
                Socket::Unix(stream) => { stream }.read(bytes),
            };
            match read {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                done => return done,
            }
        }
    }

    /// Writes all of the parts, one after another.
    ///
    /// # Errors
    /// What the system says; then some may be written.
    pub(crate) fn write_all(&self, mut parts: &mut [IoSlice<'_>]) -> io::Result<()> {
        IoSlice::advance_slices(&mut parts, 0);
        while !parts.is_empty() {
            match self.write_vectored(parts)? {
                0 => return Err(ErrorKind::WriteZero.into()),
                written => IoSlice::advance_slices(&mut parts, written),
            }
        }
        Ok(())
    }

    fn write_vectored(&self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        loop {
            let written = match self {
                Socket::Tcp(stream) => { stream }.write_vectored(parts),
                Socket::Unix(stream) => { stream }.write_vectored(parts),
            };
            match written {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                done => return done,
            }
        }
    }

    /// Ends one direction or both; who waits in a call gets an end of file or an error.
    pub(crate) fn shut_down(&self, how: Shutdown) {
        let shut = match self {
            Socket::Tcp(stream) => stream.shutdown(how),
            Socket::Unix(stream) => stream.shutdown(how),
        };
        // It fails only where the server was faster.
        let _was_open: bool = shut.is_ok();
    }
}

/// Makes a host that is gone without a word an error within some minutes, rather than never.
fn notice_absence(stream: &TcpStream) -> io::Result<()> {
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, Duration::from_secs(60))?;
    sockopt::set_tcp_keepintvl(stream, Duration::from_secs(10))?;
    Ok(sockopt::set_tcp_keepcnt(stream, 6)?)
}

/// The standard library's connect waits without end where a server does not accept.
fn connect_unix(path: &Path, deadline: Deadline) -> io::Result<UnixStream> {
    let address = SocketAddrUnix::new(path)?;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    set_socket_timeout(&socket, Timeout::Send, Some(deadline.rest()?))?;
    match connect(&socket, &address) {
        Err(rustix::io::Errno::AGAIN) => Err(slow()),
        Err(errno) => Err(errno.into()),
        Ok(()) => Ok(UnixStream::from(socket)),
    }
}
