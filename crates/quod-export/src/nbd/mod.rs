//! The NBD server: images to any number of clients over Unix sockets and TCP.
//!
//! Role: [`Server`] binds sockets and serves; the protocol by itself is `quod-nbd`. Inside, `server` starts an `event_loop`
//! a thread, `entrance` accepts clients and hands them out by what `crowd` counts, `clients` has those of a loop, `handshake` and `transmission` lead each client over its `stream`. In the
//! handshake, `negotiation` answers options, with what `exports` finds, and leaves a `session`. Then requests come
//! through `inbox`, `plan` decides about them, `perform` does them, replies leave through `outbox`; `budget` bounds it
//! all. A `tally` counts it for each event loop, with `latencies`, and an `observer` sees them all.
//!
//! Invariant: a connection stays on one event loop; it has a task, and one for each request that has to wait. What blocks
//! for long runs on a bounded pool of threads (`offload`).
//!
//! Absent on purpose: signals, files, and everything that an image format means.

mod clients;
pub(crate) mod closing;
mod crowd;
mod entrance;
mod event_loop;
mod export;
mod exports;
mod fault;
mod handshake;
mod latencies;
pub(crate) mod listener;
mod observer;
mod options;
mod server;
mod session;
mod socket;
pub(crate) mod stream;
mod tally;
mod transmission;
mod warnings;

pub use exports::{Disk, NameTaken};
pub use latencies::LatencyStats;
pub use listener::Address;
pub use observer::{ClientStats, ExportStats, LookoutStats, Observer, RequestKind, RequestStats};
pub use options::{ExportOptions, ServerOptions};
pub use server::{Server, Summary};
pub use socket::BindError;
pub use stream::tls::{Tls, TlsClients, TlsError, TlsMode};
