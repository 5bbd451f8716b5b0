//! The name of a Unix socket that clients connect to.
//!
//! Role: binds the name, and takes it away at the end.
//!
//! Invariant: nobody but the owner can connect at any time, whatever the umask: the mode is set on the socket before
//! it has a name, and it listens only afterwards. A name that a live server holds is never taken over; servers that
//! start at the same moment take turns by a lock on the directory.
//!
//! Absent on purpose: abstract names, which have no owner.

use std::fs::{self, File};
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use rustix::fs::{FlockOperation, Mode, fchmod, flock};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, connect, listen, socket_with,
};

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 1024;

/// How often the lock on the directory is asked for.
const LOCK_TRIES: u32 = 100;
/// How often a socket is looked at that seems to be in use: the kernel takes a moment to let go of one whose process
/// was killed with an io_uring open.
const ALIVE_TRIES: u32 = 50;
/// How long to wait in between.
const WAIT: Duration = Duration::from_millis(20);

/// Why a socket cannot be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BindError {
    /// A server answers there.
    #[error("{}: another server is listening on this socket", .0.display())]
    InUse(PathBuf),
    /// Something that is no socket has the name.
    #[error("{}: exists and is not a socket", .0.display())]
    NotASocket(PathBuf),
    /// The system said no to a TCP address.
    #[error("{address}: cannot listen on this address")]
    Tcp {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The system said no.
    #[error("{}: cannot listen on this socket", .path.display())]
    Io {
        /// The socket's name.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// The name of a listening socket. It goes when this is dropped.
#[derive(Debug)]
pub(crate) struct BoundSocket {
    path: PathBuf,
    /// Device and number of the name's file, to take away no other.
    id: (u64, u64),
}

impl BoundSocket {
    /// Listens at `path`. The socket of a dead server is replaced.
    ///
    /// # Errors
    /// When the name is taken or the system says no.
    pub(crate) fn bind(path: &Path) -> Result<(OwnedFd, Self), BindError> {
        let told = |source: io::Error| BindError::Io { path: path.to_owned(), source };
        let address = SocketAddrUnix::new(path).map_err(|errno| told(too_long(errno)))?;
        let _turn = lock_directory_of(path).map_err(told)?;
        match fs::symlink_metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(told(error)),
            Ok(file) if !file.file_type().is_socket() => return Err(BindError::NotASocket(path.to_owned())),
            Ok(_) if is_alive(&address).map_err(told)? => return Err(BindError::InUse(path.to_owned())),
            Ok(_) => fs::remove_file(path).map_err(told)?,
        }
        let socket = new_socket().map_err(told)?;
        fchmod(&socket, Mode::RUSR | Mode::WUSR).map_err(|errno| told(errno.into()))?;
        bind(&socket, &address).map_err(|errno| told(errno.into()))?;
        let file = fs::symlink_metadata(path).map_err(told)?;
        let bound = BoundSocket { path: path.to_owned(), id: (file.dev(), file.ino()) };
        listen(&socket, BACKLOG).map_err(|errno| told(errno.into()))?;
        Ok((socket, bound))
    }
}

impl Drop for BoundSocket {
    fn drop(&mut self) {
        let mine = fs::symlink_metadata(&self.path).is_ok_and(|file| (file.dev(), file.ino()) == self.id);
        if mine && let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!(%error, path = %self.path.display(), "the socket's name stays behind");
        }
    }
}

fn new_socket() -> Result<OwnedFd, io::Error> {
    // Non-blocking, so that a trial connection does not wait on a server with a full backlog.
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    Ok(socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?)
}

/// Whether a server listens there, and goes on doing so.
fn is_alive(address: &SocketAddrUnix) -> io::Result<bool> {
    for _ in 0..ALIVE_TRIES {
        if !answers(address)? {
            return Ok(false);
        }
        thread::sleep(WAIT);
    }
    Ok(true)
}

fn answers(address: &SocketAddrUnix) -> io::Result<bool> {
    match connect(&new_socket()?, address) {
        Ok(()) | Err(Errno::AGAIN) => Ok(true),
        Err(Errno::CONNREFUSED | Errno::NOENT) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

/// Keeps other servers from taking names in the directory; released when dropped. `None` where the directory cannot
/// be read or locked: then nobody else's lock matters either.
fn lock_directory_of(path: &Path) -> io::Result<Option<File>> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let Ok(directory) = File::open(directory) else { return Ok(None) };
    for _ in 0..LOCK_TRIES {
        match flock(&directory, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(Some(directory)),
            Err(Errno::WOULDBLOCK | Errno::INTR) => thread::sleep(WAIT),
            Err(_unsupported) => return Ok(None),
        }
    }
    Err(io::Error::new(io::ErrorKind::ResourceBusy, "the directory is locked by another process"))
}

fn too_long(errno: Errno) -> io::Error {
    match errno {
        Errno::NAMETOOLONG => {
            io::Error::new(io::ErrorKind::InvalidFilename, "the name is longer than 107 bytes")
        }
        errno => errno.into(),
    }
}
