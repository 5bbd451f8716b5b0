//! The clients of a server, from accepting them to their end.
//!
//! Role: gives each client a task that leads it through handshake and transmission; counts them and waits for them.
//!
//! Invariant: a client that fails, lies, stalls or panics a task ends its own connection and nothing else; accepting
//! goes on through want of descriptors and memory.
//!
//! Absent on purpose: what is said to a client.

use std::cell::Cell;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use compio::runtime::{JoinHandle, spawn};
use compio::time::{sleep, timeout};
use event_listener::{Event, listener};
use futures_lite::future::{or, yield_now};
use rustix::process::{Resource, getrlimit};

use super::closing::Closing;
use super::export::Export;
use super::exports::{Exports, Offer};
use super::fault::Fault;
use super::handshake::negotiation::Outcome;
use super::handshake::{greet, shake};
use super::listener::Door;
use super::options::ServerOptions;
use super::session::Session;
use super::stream::Socket;
use super::stream::inbox::Inbox;
use super::stream::tls::{Encryption, Tls};
use super::stream::transport::{TlsStream, Transport};
use super::transmission::Connection;
use super::transmission::budget::{Pool, Share};
use super::warnings::Warnings;

/// How often the images' upkeep is done.
const UPKEEP: Duration = Duration::from_secs(5);

/// How long to wait before accepting again when the system has run out of something.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Descriptors left for what is opened later and is not a connection; half of them all where there are few.
const OTHER_FILES: u64 = 64;

/// The clients of a server, and what they share.
pub(crate) struct Clients {
    exports: Exports,
    tls: Option<Tls>,
    pool: Rc<Pool>,
    closing: Rc<Closing>,
    handshake_timeout: Duration,
    /// More wait.
    shared: usize,
    /// More are let go.
    max_open: usize,
    open: Cell<usize>,
    left: Event,
    /// Whether a client has used an export.
    used: Cell<bool>,
    accepted: Cell<u64>,
    refused: Cell<u64>,
    /// Warnings about clients that were let go.
    crowded: Warnings,
}

impl Clients {
    pub(crate) fn new(options: &ServerOptions, offers: Vec<Offer>) -> Rc<Self> {
        Rc::new(Clients {
            exports: Exports::new(offers),
            tls: options.tls.clone(),
            pool: Pool::new(options.memory, options.stall_timeout),
            closing: Rc::default(),
            handshake_timeout: options.handshake_timeout,
            shared: if options.shared == 0 { usize::MAX } else { options.shared },
            max_open: options.max_connections.min(spare_files()),
            open: Cell::new(0),
            left: Event::new(),
            used: Cell::new(false),
            accepted: Cell::new(0),
            refused: Cell::new(0),
            crowded: Warnings::default(),
        })
    }

    /// The word to stop, to be said once.
    pub(crate) fn closing(&self) -> &Closing {
        &self.closing
    }

    /// How many were accepted.
    pub(crate) fn accepted(&self) -> u64 {
        self.accepted.get()
    }

    /// How many were let go at once.
    pub(crate) fn refused(&self) -> u64 {
        self.refused.get()
    }

    /// Does what would hold the first clients up.
    pub(crate) async fn prepare(&self) {
        // Looks through the tables, which on the event loop the first write would do.
        let tasks = self.exports.iter().map(|export| {
            let export = Rc::clone(export);
            spawn(async move { _ = export.maintain().await })
        });
        wait_for_upkeep(tasks.collect()).await;
    }

    /// Accepts clients for ever.
    pub(crate) async fn accept(self: Rc<Self>, door: Door) {
        loop {
            // A crowd at the door does not hold up those who are in.
            yield_now().await;
            self.room().await;
            match door.accept() {
                Ok(stream) if self.open.get() < self.max_open => self.welcome(stream),
                Ok(stream) => {
                    self.refused.set(self.refused.get() + 1);
                    if let Some(suppressed) = self.crowded.admit() {
                        tracing::warn!(open = self.max_open, suppressed, "too many clients: one was let go");
                    }
                    drop(stream);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if let Err(error) = door.ready().await {
                        tracing::warn!(%error, "waiting for clients failed; it goes on in a moment");
                        sleep(ACCEPT_PAUSE).await;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a client; trying again in a moment");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    /// Gives a client its task.
    fn welcome(self: &Rc<Self>, stream: OwnedFd) {
        let number = self.accepted.get() + 1;
        self.accepted.set(number);
        let open = Open::count(self);
        let clients = Rc::clone(self);
        spawn(async move {
            let _open = open;
            // A task within the task: what panics in there ends here.
            match spawn(converse(clients, stream)).await {
                Ok(Ok(())) => tracing::debug!(client = number, "a client left"),
                Ok(Err(fault)) => tracing::debug!(client = number, %fault, "a client was disconnected"),
                Err(error) => tracing::error!(client = number, %error, "a connection failed as none should"),
            }
        })
        .detach();
    }

    /// Waits until no client is connected, after one has used an export.
    pub(crate) async fn last_left(&self) {
        self.until_left(|| self.used.get() && self.open.get() == 0).await;
    }

    /// Waits until one more client may be served.
    async fn room(&self) {
        self.until_left(|| self.open.get() < self.shared).await;
    }

    /// Waits until something holds that can come to hold when a client leaves.
    async fn until_left(&self, holds: impl Fn() -> bool) {
        while !holds() {
            listener!(self.left => left);
            left.await;
        }
    }

    /// Waits until all clients are gone, at most for `limit`; tells how many are not.
    pub(crate) async fn drain(&self, limit: Duration) -> usize {
        match timeout(limit, self.until_left(|| self.open.get() == 0)).await {
            Ok(()) => 0,
            Err(_elapsed) => {
                tracing::warn!(
                    clients = self.open.get(),
                    "requests did not finish in time: connections are cut"
                );
                self.open.get()
            }
        }
    }

    /// Does the images' upkeep until the server closes. One that takes long holds up no other.
    pub(crate) async fn keep_up(self: Rc<Self>) {
        let tasks = self.exports.iter().map(|export| {
            let (export, closing) = (Rc::clone(export), Rc::clone(&self.closing));
            spawn(async move {
                let mut well = true;
                loop {
                    let closed = async {
                        closing.wait().await;
                        true
                    };
                    let due = async {
                        if !well {
                            // What has failed is due again at once, and is left some time.
                            std::future::pending::<()>().await;
                        }
                        export.maintenance_due().await;
                        false
                    };
                    if timeout(UPKEEP, or(closed, due)).await == Ok(true) {
                        return;
                    }
                    well = export.maintain().await;
                }
            })
        });
        wait_for_upkeep(tasks.collect()).await;
    }
}

/// Waits until the upkeep of all images is over.
async fn wait_for_upkeep(tasks: Vec<JoinHandle<()>>) {
    for task in tasks {
        if task.await.is_err() {
            tracing::error!("the upkeep of an image failed in a way that it should not");
        }
    }
}

/// Leads one client from greeting to end.
async fn converse(clients: Rc<Clients>, stream: OwnedFd) -> Result<(), Fault> {
    let mut inbox = Inbox::new();
    let agreed = or(agree(&clients, Socket::new(stream)?, &mut inbox), async {
        clients.closing.wait().await;
        Err(Fault::Closing)
    });
    let Ok(agreed) = timeout(clients.handshake_timeout, agreed).await else {
        return Err(Fault::HandshakeTooSlow);
    };
    let Some((stream, export, session)) = agreed? else { return Ok(()) };
    clients.used.set(true);
    let share = Share::of(&clients.pool);
    Connection::new(stream, export, session, share, Rc::clone(&clients.closing)).serve(inbox).await
}

/// Leads the handshake of a client, through TLS where it comes to that; `None` when it leaves.
async fn agree(
    clients: &Clients,
    socket: Socket,
    inbox: &mut Inbox,
) -> Result<Option<(Transport, Rc<Export>, Session)>, Fault> {
    let mut stream = Transport::Clear(socket);
    let Some(flags) = greet(&stream, inbox).await? else { return Ok(None) };
    let mut encryption = clients.tls.as_ref().map_or(Encryption::Unavailable, Tls::encryption);
    loop {
        stream =
            match (shake(&stream, inbox, &clients.exports, encryption, flags).await?, stream, &clients.tls) {
                (Outcome::Transmission(export, session), stream, _) => {
                    return Ok(Some((stream, export, session)));
                }
                (Outcome::StartTls, Transport::Clear(socket), Some(tls)) => {
                    let stream = TlsStream::accept(socket, Arc::clone(&tls.config)).await?;
                    Transport::Encrypted(stream.into())
                }
                // TLS within TLS, or where there is none, is never agreed on.
                (Outcome::StartTls | Outcome::Left, ..) => return Ok(None),
            };
        encryption = Encryption::Active;
    }
}

/// How many connections the limit of open files leaves room for.
fn spare_files() -> usize {
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    // The images of many exports, and their backing files.
    let taken = fs::read_dir("/proc/self/fd").map_or(0, Iterator::count) as u64;
    usize::try_from(spare_of(limit.saturating_sub(taken))).unwrap_or(usize::MAX)
}

/// How many of so many descriptors are for connections.
fn spare_of(left: u64) -> u64 {
    left - OTHER_FILES.min(left / 2)
}

/// A connection that counts as open.
struct Open(Rc<Clients>);

impl Open {
    fn count(clients: &Rc<Clients>) -> Self {
        clients.open.set(clients.open.get() + 1);
        Open(Rc::clone(clients))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.set(self.0.open.get() - 1);
        self.0.left.notify(usize::MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_low_limit_of_open_files_leaves_room_for_clients() {
        for (left, spare) in [(0, 0), (1, 1), (50, 25), (128, 64), (1000, 936)] {
            assert_eq!(spare_of(left), spare);
        }
    }
}
