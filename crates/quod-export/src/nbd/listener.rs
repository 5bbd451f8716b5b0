//! The sockets that clients come in by.
//!
//! Role: listens on a Unix path or a TCP address, takes over sockets that somebody else made, and accepts.
//!
//! Invariant: a name in the file system goes when the listener does, if it was made here; an inherited socket's name is
//! its maker's. Whatever is accepted is closed on exec and never blocks.
//!
//! Absent on purpose: what is said to a client, and how many may come (`clients.rs`).

use std::ffi::OsStr;
use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use compio::runtime::fd::PollFd;
use compio::time::sleep;
use rustix::io::ioctl_fionbio;
use rustix::net::sockopt::{
    set_socket_keepalive, set_tcp_keepcnt, set_tcp_keepidle, set_tcp_keepintvl, set_tcp_nodelay,
    socket_acceptconn, socket_type,
};
use rustix::net::{Shutdown, SocketAddrUnix, SocketFlags, SocketType, accept_with, getsockname, shutdown};

use super::socket::{BindError, BoundSocket};

/// How long a TCP client may be silent before the kernel asks whether its machine is still there.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(60);
/// How often it asks then.
const KEEPALIVE_EVERY: Duration = Duration::from_secs(10);
/// How often in vain before the connection is given up.
const KEEPALIVE_TRIES: u32 = 6;
/// How long to wait before accepting again when the system has run out of something.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Where a server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Address {
    /// A Unix socket of this name.
    Unix(PathBuf),
    /// A Unix socket whose name is in no file system, or that has none.
    UnixElsewhere,
    /// An IP address and a port.
    Tcp(SocketAddr),
}

impl Address {
    /// Whether only this machine can reach it.
    pub fn is_local(&self) -> bool {
        match self {
            Address::Unix(_) | Address::UnixElsewhere => true,
            Address::Tcp(address) => address.ip().to_canonical().is_loopback(),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Unix(path) => path.display().fmt(f),
            Address::UnixElsewhere => f.write_str("an inherited Unix socket"),
            Address::Tcp(address) => address.fmt(f),
        }
    }
}

/// A socket that listens.
#[derive(Debug)]
pub(crate) struct Listener {
    socket: OwnedFd,
    address: Address,
    /// Whether its port goes with it.
    is_ours: bool,
    /// Takes the name away when dropped.
    _name: Option<BoundSocket>,
}

impl Listener {
    /// Listens on a Unix socket at `path`; the socket of a dead server is replaced.
    ///
    /// # Errors
    /// When the name is taken or the system says no.
    pub(crate) fn unix(path: &Path) -> Result<Self, BindError> {
        let (socket, name) = BoundSocket::bind(path)?;
        Ok(Listener { socket, address: Address::Unix(path.to_owned()), is_ours: true, _name: Some(name) })
    }

    /// Listens on a TCP address; port 0 is any that is free.
    ///
    /// # Errors
    /// When the system says no.
    pub(crate) fn tcp(address: SocketAddr) -> Result<Self, BindError> {
        let told = |source| BindError::Tcp { address, source };
        // Sets SO_REUSEADDR: connections of an earlier server may be on their way out for a minute.
        let listener = TcpListener::bind(address).map_err(told)?;
        listener.set_nonblocking(true).map_err(told)?;
        let address = Address::Tcp(listener.local_addr().map_err(told)?);
        Ok(Listener { socket: listener.into(), address, is_ours: true, _name: None })
    }

    /// Takes over a socket that listens already.
    ///
    /// # Errors
    /// When it does not listen, is no socket for streams, or is neither of Unix nor of IP.
    pub(crate) fn adopt(socket: OwnedFd) -> io::Result<Self> {
        let wrong = |why: &str| io::Error::new(io::ErrorKind::InvalidInput, why);
        if socket_type(&socket)? != SocketType::STREAM {
            return Err(wrong("it is not a socket for streams"));
        }
        if !socket_acceptconn(&socket)? {
            return Err(wrong("it does not listen"));
        }
        let name = getsockname(&socket)?;
        let address = if let Ok(unix) = SocketAddrUnix::try_from(name.clone()) {
            match unix.path_bytes().filter(|path| !path.is_empty()) {
                Some(path) => Address::Unix(PathBuf::from(OsStr::from_bytes(path))),
                None => Address::UnixElsewhere,
            }
        } else {
            Address::Tcp(SocketAddr::try_from(name).map_err(|_other| wrong("it is neither Unix nor TCP"))?)
        };
        ioctl_fionbio(&socket, true)?;
        Ok(Listener { socket, address, is_ours: false, _name: None })
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> &Address {
        &self.address
    }

    /// Puts the socket on this thread's event loop.
    ///
    /// # Errors
    /// What the system says.
    pub(crate) fn watch(&self) -> io::Result<Door> {
        let socket = PollFd::new(self.socket.try_clone()?)?;
        Ok(Door { socket, is_tcp: matches!(self.address, Address::Tcp(_)) })
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        // The kernel may keep it open for waits that its ring has yet to give up, and with it the port.
        if self.is_ours {
            let _gone: bool = shutdown(&self.socket, Shutdown::Both).is_err();
        }
    }
}

/// A listening socket on an event loop.
#[derive(Debug)]
pub(crate) struct Door {
    socket: PollFd<OwnedFd>,
    is_tcp: bool,
}

impl Door {
    /// The next client's socket.
    ///
    /// # Errors
    /// `WouldBlock` when nobody is there; otherwise what the system says.
    pub(crate) fn accept(&self) -> io::Result<OwnedFd> {
        let stream = accept_with(&self.socket, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK)?;
        if self.is_tcp
            && let Err(error) = tune(&stream)
        {
            // The client is gone, or it is served all the same.
            tracing::debug!(%error, "a connection cannot be tuned");
        }
        Ok(stream)
    }

    /// Waits until [`accept`](Door::accept), which has failed so, is worth another try. May be dropped at any time.
    pub(crate) async fn wait_after(&self, failed: io::Error) {
        match failed.kind() {
            io::ErrorKind::WouldBlock => {
                if let Err(error) = self.socket.accept_ready().await {
                    tracing::warn!(%error, "waiting for clients failed; it goes on in a moment");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
            io::ErrorKind::ConnectionAborted => {}
            _ => {
                tracing::warn!(error = %failed, "cannot accept a client; trying again in a moment");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Sends answers at once, and notices in two minutes that an idle client's machine is gone.
fn tune(stream: &OwnedFd) -> rustix::io::Result<()> {
    set_tcp_nodelay(stream, true)?;
    set_tcp_keepidle(stream, KEEPALIVE_AFTER)?;
    set_tcp_keepintvl(stream, KEEPALIVE_EVERY)?;
    set_tcp_keepcnt(stream, KEEPALIVE_TRIES)?;
    set_socket_keepalive(stream, true)
}
