//! Why a remote disk cannot be had, and why a request of it failed.
//!
//! Role: sentences for people, inside an `io::Error` whose kind programs branch on.
//!
//! Invariant: what a server sends is made fit for a terminal before it becomes part of a sentence.
//!
//! Absent on purpose: which server it was; the connection adds that.

use std::io;

use quod_nbd::{DecodeError, Errno};

/// What is wrong with the name of an export.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UriError {
    /// No URI at all.
    #[error("No valid URL specified: {0}")]
    NotAUri(#[source] url::ParseError),
    /// Another scheme.
    #[error("Unknown protocol '{0}'")]
    Scheme(String),
    /// `user@`.
    #[error("No valid URL specified: NBD knows no users")]
    User,
    /// `#fragment`.
    #[error("No valid URL specified: an export's name has no fragment; write %23 for a # in it")]
    Fragment,
    /// A Unix scheme without `socket=`.
    #[error("No valid URL specified: it names no socket; add ?socket=PATH")]
    NoSocket,
    /// A Unix scheme with a host or port.
    #[error("No valid URL specified: a host or port beside a Unix socket")]
    HostAndSocket,
    /// No host.
    #[error("No valid URL specified: it names no host")]
    NoHost,
    /// TLS without certificates.
    #[error("TLS needs to know whom to trust; add tls-certificates=DIR, a directory with ca-cert.pem")]
    NoCertificates,
    /// A parameter that is not known for this scheme.
    #[error("No valid URL specified: the parameter '{0}' is not known, or not for this scheme")]
    Parameter(String),
    /// A parameter without a value.
    #[error("No valid URL specified: the parameter '{0}' has no value")]
    EmptyParameter(String),
    /// A parameter that is given again.
    #[error("No valid URL specified: the parameter '{0}' is there twice")]
    Twice(String),
    /// Escapes that are not text.
    #[error("No valid URL specified: {0}")]
    NotUtf8(#[source] std::str::Utf8Error),
    /// `%00`.
    #[error("No valid URL specified: a zero byte in it")]
    Nul,
}

/// Why the replies of a server cannot be followed any more.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Nonsense {
    #[error("{0}")]
    Decode(#[from] DecodeError),
    #[error("a reply to request {0}, which nobody sent")]
    UnknownCookie(u64),
    #[error("a reply of a kind that the request does not have")]
    WrongKind,
    #[error("a piece of a reply that is longer than it can be: {0} bytes")]
    TooLong(u64),
    #[error("bytes from outside the range that was asked for")]
    OutOfRange,
    #[error("the same bytes twice")]
    Overlap,
    #[error("a reply in more pieces than makes sense")]
    TooManyPieces,
    #[error("a reply that ends before all of it was there")]
    Unfinished,
}

/// A request that the server answered with an error.
pub(crate) fn from_server(errno: Errno, message: &str) -> io::Error {
    let system: io::Error = match errno {
        Errno::Perm => rustix::io::Errno::PERM,
        Errno::Io => rustix::io::Errno::IO,
        Errno::NoMem => rustix::io::Errno::NOMEM,
        Errno::Inval => rustix::io::Errno::INVAL,
        Errno::NoSpc => rustix::io::Errno::NOSPC,
        Errno::Overflow => rustix::io::Errno::OVERFLOW,
        Errno::NotSup => rustix::io::Errno::OPNOTSUPP,
        Errno::Shutdown => rustix::io::Errno::SHUTDOWN,
    }
    .into();
    if message.is_empty() {
        return system;
    }
    let plain: String = message.chars().map(|char| if char.is_control() { ' ' } else { char }).collect();
    io::Error::new(system.kind(), format!("{system}; the server reports: {plain}"))
}
