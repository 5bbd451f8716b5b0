//! The NBD server: images to any number of clients over Unix sockets and TCP.
//!
//! Role: [`Server`] binds sockets and serves on the calling thread; the protocol by itself is `quod-nbd`. Inside,
//! `server` sets up, `clients` accepts, `handshake` and `transmission` lead each client over its `stream`. In the
//! handshake, `negotiation` answers options, with what `exports` finds, and leaves a `session`. Then requests come
//! through `inbox`, `plan` decides about them, `perform` does them, replies leave through `outbox`; `budget` bounds it
//! all.
//!
//! Invariant: one event loop on one thread; a task a connection, and one for each request that has to wait; what
//! blocks for long runs on a bounded pool of threads (`offload`).
//!
//! Absent on purpose: signals, files, and everything that an image format means.

mod clients;
mod closing;
mod export;
mod exports;
mod fault;
mod handshake;
mod listener;
mod options;
mod server;
mod session;
mod socket;
mod stream;
mod transmission;
mod warnings;

pub use exports::NameTaken;
pub use listener::Address;
pub use options::{ExportOptions, ServerOptions};
pub use server::{Server, Summary};
pub use socket::BindError;
pub use stream::tls::{Tls, TlsClients, TlsError, TlsMode};
