//! The clients of one event loop, from when it is handed them to their end.
//!
//! Role: gives each client a task that leads it through handshake and transmission, and waits for them.
//!
//! Invariant: a client that fails, lies, stalls or panics a task ends its own connection and nothing else.
//!
//! Absent on purpose: who is accepted, and by which loop (`entrance.rs`); what is said to a client.

use std::future::pending;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use async_channel::Receiver;
use compio::runtime::{JoinHandle, spawn};
use compio::time::timeout;
use futures_lite::future::or;

use super::closing::Closing;
use super::crowd::Crowd;
use super::entrance::Newcomer;
use super::export::Export;
use super::exports::{Exports, Offer};
use super::fault::Fault;
use super::handshake::negotiation::Outcome;
use super::handshake::{greet, shake};
use super::options::ServerOptions;
use super::session::Session;
use super::stream::Socket;
use super::stream::inbox::Inbox;
use super::stream::tls::{Encryption, Tls};
use super::stream::transport::{TlsStream, Transport};
use super::transmission::Connection;
use super::transmission::budget::{Pool, Share};

/// How often the images' upkeep is done.
const UPKEEP: Duration = Duration::from_secs(5);

/// The clients of an event loop, and what they share.
pub(crate) struct Clients {
    /// Which of the loops it is.
    at: usize,
    crowd: Arc<Crowd>,
    closing: Arc<Closing>,
    exports: Exports,
    tls: Option<Tls>,
    pool: Rc<Pool>,
    handshake_timeout: Duration,
}

impl Clients {
    /// Those of the loop `at` of a server, nobody yet.
    pub(crate) fn new(
        at: usize,
        options: &ServerOptions,
        offers: Vec<Offer>,
        crowd: Arc<Crowd>,
        closing: Arc<Closing>,
    ) -> Rc<Self> {
        Rc::new(Clients {
            at,
            crowd,
            closing,
            exports: Exports::new(at, offers),
            tls: options.tls.clone(),
            pool: Pool::new(options.memory / options.threads, options.stall_timeout),
            handshake_timeout: options.handshake_timeout,
        })
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

    /// Takes in who is handed to this loop, until nobody is any more.
    pub(crate) async fn take_in(self: Rc<Self>, newcomers: Receiver<Newcomer>) {
        while let Ok(newcomer) = newcomers.recv().await {
            self.welcome(newcomer);
        }
    }

    /// Gives a client its task.
    fn welcome(self: &Rc<Self>, newcomer: Newcomer) {
        let Newcomer { number, stream, place } = newcomer;
        let clients = Rc::clone(self);
        spawn(async move {
            let _place = place;
            // A task within the task: what panics in there ends here.
            match spawn(converse(clients, stream)).await {
                Ok(Ok(())) => tracing::debug!(client = number, "a client left"),
                Ok(Err(fault)) => tracing::debug!(client = number, %fault, "a client was disconnected"),
                Err(error) => tracing::error!(client = number, %error, "a connection failed as none should"),
            }
        })
        .detach();
    }

    /// Waits until all clients of this loop are gone, at most for `limit`; tells how many are not.
    pub(crate) async fn drain(&self, limit: Duration) -> usize {
        match timeout(limit, self.crowd.gone_from(self.at)).await {
            Ok(()) => 0,
            Err(_elapsed) => {
                let clients = self.crowd.with(self.at);
                tracing::warn!(clients, "requests did not finish in time: connections are cut");
                clients
            }
        }
    }

    /// Does the images' upkeep until the server closes. One that takes long holds up no other.
    pub(crate) async fn keep_up(self: Rc<Self>) {
        let tasks = self.exports.iter().map(|export| {
            let (export, closing) = (Rc::clone(export), Arc::clone(&self.closing));
            spawn(async move {
                let mut well = true;
                loop {
                    let closed = async {
                        closing.wait().await;
                        true
                    };
                    let due = async {
                        // Nothing wakes the server for an image that nobody changes.
                        export.maintenance_wanted().await;
                        // What has failed is due again at once, and is left some time.
                        let early =
                            async { if well { export.maintenance_due().await } else { pending().await } };
                        _ = timeout(UPKEEP, early).await;
                        false
                    };
                    if or(closed, due).await {
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
    clients.crowd.note_use();
    let _visit = export.scribe.visit();
    let share = Share::of(&clients.pool);
    Connection::new(stream, export, session, share, Arc::clone(&clients.closing)).serve(inbox).await
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
