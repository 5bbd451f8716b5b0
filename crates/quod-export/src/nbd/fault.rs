//! Why a connection ends before its client says so.
//!
//! Absent on purpose: failures of single requests; those are answered, and the connection goes on.

use std::io;

use quod_nbd::DecodeError;

/// What ended a connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Fault {
    /// The socket failed.
    #[error("the connection failed: {0}")]
    Io(#[from] io::Error),
    /// The client sent what is not the protocol.
    #[error("the client broke the protocol: {0}")]
    Protocol(#[from] DecodeError),
    /// The client closed the connection in the middle of a message.
    #[error("the client stopped in the middle of a message")]
    Truncated,
    /// A message is longer than will be read, even to be thrown away.
    #[error("a message of {length} bytes is longer than any that is accepted")]
    TooLong {
        /// Bytes announced.
        length: u64,
    },
    /// The client set flags that were not offered.
    #[error("the client set the flags {0:#x}, which were not offered")]
    UnknownFlags(u32),
    /// EXPORT_NAME named no export, or came where it may not; the protocol has no other answer to that.
    #[error(
        "the client asked for an export that does not exist, or in a way that this server has not agreed to"
    )]
    NoSuchExport,
    /// EXPORT_NAME came in the clear; the protocol has no other answer to that either.
    #[error("the client asked for an export without the TLS that is required")]
    TlsRequired,
    /// Bytes in the clear came behind the wish for TLS.
    #[error("the client sent bytes in the clear after it asked for TLS")]
    EarlyBytes,
    /// The client moved nothing, or next to nothing, while it kept memory that others wait for, or while its last
    /// replies waited.
    #[error("the client stalled and was in the way of others")]
    Stalled,
    /// The client took too long to choose the export.
    #[error("the handshake took too long")]
    HandshakeTooSlow,
    /// The server is shutting down.
    #[error("the server is shutting down")]
    Closing,
}
