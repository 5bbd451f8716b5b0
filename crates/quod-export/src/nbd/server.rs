//! The server: serves images until told to stop, and ends in order.
//!
//! Role: binds sockets, starts the event loops, one a thread, and lets the first accept clients for all of them.
//!
//! Invariant: when [`Server::serve`] returns, no task of it is left, and its sockets' names are gone.
//!
//! Absent on purpose: signals, and closing images; both are the caller's.

use std::future::pending;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::thread;

use compio::runtime::spawn;
use futures_lite::future::or;
use quod_nbd::MAX_STRING;

use super::clients::Clients;
use super::closing::Closing;
use super::crowd::Crowd;
use super::entrance::{Entrance, spare_files};
use super::event_loop::EventLoop;
use super::exports::{Disk, NameTaken, Offer};
use super::listener::{Address, Listener};
use super::observer::{ClientStats, Observer};
use super::options::{ExportOptions, ServerOptions};
use super::socket::BindError;
use super::tally::Tally;
use crate::metrics;

/// An NBD server: what it serves, and where. The names of its sockets go when this is dropped.
#[derive(Debug)]
pub struct Server {
    options: ServerOptions,
    listeners: Vec<Listener>,
    /// Where its counters are told.
    metrics: Option<Listener>,
    offers: Vec<Offer>,
    crowd: Arc<Crowd>,
}

/// How a server ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Summary {
    /// Clients that were accepted.
    pub accepted: u64,
    /// Clients that were let go at once since there were too many.
    pub refused: u64,
    /// Connections that were cut since their requests did not finish in time at the end.
    pub cut: usize,
}

impl Server {
    /// A server that listens nowhere and serves nothing yet.
    pub fn new(options: ServerOptions) -> Self {
        let crowd = Crowd::new(&options);
        Server { options, listeners: Vec::new(), metrics: None, offers: Vec::new(), crowd }
    }

    /// Listens on a Unix socket at `path`, of mode 0600. Clients may connect from now on; they are answered once
    /// [`serve`](Server::serve) runs. The socket of a dead server is replaced.
    ///
    /// # Errors
    /// [`BindError::InUse`] when a server listens there, [`BindError::NotASocket`] when something else has the name,
    /// [`BindError::Io`] when the system says no.
    pub fn bind_unix(&mut self, path: &Path) -> Result<(), BindError> {
        self.listeners.push(Listener::unix(path)?);
        Ok(())
    }

    /// Listens on a TCP address; port 0 is any that is free, and [`addresses`](Server::addresses) tells it. Whoever can
    /// reach the address is a client.
    ///
    /// # Errors
    /// [`BindError::Tcp`] when the system says no.
    pub fn bind_tcp(&mut self, address: SocketAddr) -> Result<(), BindError> {
        self.listeners.push(Listener::tcp(address)?);
        Ok(())
    }

    /// Takes over a Unix or TCP socket that listens already. Its name stays when the server ends.
    ///
    /// # Errors
    /// When it does not listen, or is another kind of socket.
    pub fn adopt(&mut self, socket: OwnedFd) -> io::Result<()> {
        self.listeners.push(Listener::adopt(socket)?);
        Ok(())
    }

    /// Tells its counters to Prometheus by HTTP at [`PATH`](crate::metrics::PATH) on a Unix socket, as
    /// [`bind_unix`](Server::bind_unix) does for disks. The last place that is given for this is the one.
    ///
    /// # Errors
    /// As `bind_unix`.
    pub fn bind_metrics_unix(&mut self, path: &Path) -> Result<(), BindError> {
        self.metrics = Some(Listener::unix(path)?);
        Ok(())
    }

    /// Tells them on a TCP address, to whoever can reach it.
    ///
    /// # Errors
    /// As [`bind_tcp`](Server::bind_tcp).
    pub fn bind_metrics_tcp(&mut self, address: SocketAddr) -> Result<(), BindError> {
        self.metrics = Some(Listener::tcp(address)?);
        Ok(())
    }

    /// Where it tells its counters, if it does.
    pub fn metrics_address(&self) -> Option<&Address> {
        self.metrics.as_ref().map(Listener::address)
    }

    /// What it does, for others to see: with the exports that it has by now.
    pub fn observer(&self) -> Observer {
        Observer::new(Arc::clone(&self.crowd), self.offers.clone())
    }

    /// Where it listens, in the order in which that was asked for.
    pub fn addresses(&self) -> impl Iterator<Item = &Address> {
        self.listeners.iter().map(Listener::address)
    }

    /// Offers `image` as one more export. The first is the default export: it also answers to the empty name, unless
    /// another one has just that name.
    ///
    /// # Errors
    /// When another export has the name.
    pub fn export(&mut self, image: Disk, mut options: ExportOptions) -> Result<(), NameTaken> {
        if self.offers.iter().any(|offer| offer.options.name == options.name) {
            return Err(NameTaken { name: options.name });
        }
        // libnbd gives up a server that tells more.
        let description = &mut options.description;
        description.truncate(description.floor_char_boundary(MAX_STRING));
        let tallies = (0..self.options.threads.get()).map(|_| Tally::new(self.options.latencies));
        self.offers.push(Offer { image, options, tallies: tallies.collect() });
        Ok(())
    }

    /// Serves on this thread, and on as many more as it was to, until `shutdown` is ready, or its clients have left and it was to serve but
    /// [`once`](ServerOptions::once); then accepts and reads nothing more, answers the requests in
    /// flight, waits at most the drain timeout for that, and takes the sockets' names away. An image's upkeep is done while
    /// there is any, after five seconds, or when the image asks for it.
    ///
    /// `shutdown` may be woken from any thread. The images stay open: flush and close them afterwards. A request that
    /// was cut by the drain timeout may still be running in the engine then; closing waits for it, and this waits for what the
    /// kernel still reads and writes for it.
    ///
    /// # Errors
    /// When an event loop cannot be set up. Clients cause none.
    ///
    /// # Panics
    /// When the system's event queue fails.
    pub fn serve(self, shutdown: impl Future<Output = ()>) -> io::Result<Summary> {
        let observer = self.observer();
        let Server { options, listeners, metrics: told_at, offers, crowd } = self;
        crowd.bound(spare_files());
        let closing = Arc::<Closing>::default();
        let (senders, receivers): (Vec<_>, Vec<_>) =
            (0..options.threads.get()).map(|_| async_channel::unbounded()).unzip();
        let entrance = Entrance::new(Arc::clone(&crowd), senders);
        let event_loop = |(at, newcomers)| EventLoop {
            at,
            newcomers,
            options: options.clone(),
            offers: offers.clone(),
            crowd: Arc::clone(&crowd),
            closing: Arc::clone(&closing),
        };
        let mut loops = receivers.into_iter().enumerate().map(event_loop);
        let first = loops.next().expect("there is one thread at least");
        let lead = async |clients: Rc<Clients>| {
            let doors: Vec<_> = listeners.iter().map(Listener::watch).collect::<io::Result<_>>()?;
            let accepting = async {
                clients.prepare().await;
                // Dropped with this future, and then accepting ends.
                let _accepting: Vec<_> =
                    doors.into_iter().map(|door| spawn(Rc::clone(&entrance).accept(door))).collect();
                match options.once {
                    true => crowd.last_left().await,
                    false => pending().await,
                }
            };
            or(shutdown, accepting).await;
            drop(listeners);
            Ok(())
        };
        thread::scope(|scope| {
            let start = |other: EventLoop| {
                let name = format!("quod-loop-{}", other.at);
                thread::Builder::new().name(name).spawn_scoped(scope, || other.run(async |_| pending().await))
            };
            let others: io::Result<Vec<_>> = loops.map(start).collect();
            let others = others.inspect_err(|_| closing.say())?;
            let telling = told_at.map(|listener| {
                let closing = &*closing;
                let tell = move || metrics::tell(&listener, observer, closing).inspect_err(|_| closing.say());
                thread::Builder::new().name("quod-metrics".to_owned()).spawn_scoped(scope, tell)
            });
            let telling = telling.transpose().inspect_err(|_| closing.say())?;
            let mut cut = first.run(lead);
            for other in others {
                let theirs = other.join().expect("what clients cause ends their connection");
                cut = cut.and_then(|ours| Ok(ours + theirs?));
            }
            if let Some(telling) = telling {
                // Disks were served all the same, and are to be closed.
                let failed = |_panic| Err(io::Error::other("telling the metrics failed as it never should"));
                cut = cut.and_then(|cut| telling.join().unwrap_or_else(failed).map(|()| cut));
            }
            let ClientStats { accepted, refused, .. } = crowd.stats();
            Ok(Summary { accepted, refused, cut: cut? })
        })
    }
}
