//! How images are served.
//!
//! Role: [`ExportOptions`] belong to one export, [`ServerOptions`] to the server and all of its clients.
//!
//! Absent on purpose: what belongs to one request or one connection; those bounds are constants of `budget.rs`.

use std::num::NonZero;
use std::time::Duration;

use super::stream::tls::Tls;

/// What to call an export, and what its clients may do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ExportOptions {
    /// The export's name. Clients may also ask for the empty name, the default export: the first of a server. At most
    /// 4,096 bytes: the protocol knows no longer name.
    pub name: String,
    /// A line for people who list the exports. What is past 4,096 bytes is not told.
    pub description: String,
    /// Refuses writes even where the image would take them.
    pub read_only: bool,
}

/// How many clients a server takes, how they speak, and how much they may take of its time and memory.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ServerOptions {
    /// Threads that serve, each with an event loop, with the connections spread over them. A client that wants more than one
    /// of them opens more than one connection.
    pub threads: NonZero<usize>,
    /// TLS, if there is to be any.
    pub tls: Option<Tls>,
    /// Ends when no client is connected any more, once one has used an export.
    pub once: bool,
    /// Clients that are served at a time, if that is bounded; others wait until they are accepted. 0 is no bound.
    pub shared: usize,
    /// Clients that may be connected at a time; more are let go at once. Also bounded by the limit of open files.
    pub max_connections: usize,
    /// How long a client may take for its handshake.
    pub handshake_timeout: Duration,
    /// How long a client may move no byte while it is in the way: while it holds memory that others wait for, or keeps
    /// its connection from ending. What it moves then must also come at 4 MB a second, once this time has passed.
    pub stall_timeout: Duration,
    /// How long requests in flight may take to finish once the server shuts down.
    pub drain_timeout: Duration,
    /// Bytes that all clients together may have in flight, in requests and replies; beside it each has 256 KiB of its
    /// own. Each thread has an equal part of them, and at least 64 MiB.
    pub memory: usize,
    /// Measures how long each request takes, which costs it two looks at the clock.
    pub latencies: bool,
}

impl Default for ServerOptions {
    fn default() -> Self {
        ServerOptions {
            threads: NonZero::<usize>::MIN,
            tls: None,
            once: false,
            shared: 0,
            max_connections: 1024,
            handshake_timeout: Duration::from_secs(10),
            stall_timeout: Duration::from_secs(10),
            drain_timeout: Duration::from_secs(30),
            memory: 256 << 20,
            latencies: false,
        }
    }
}
