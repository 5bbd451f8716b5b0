//! The server: serves an image until told to stop, and ends in order.
//!
//! Role: sets the event loop up, has clients accepted and the image's upkeep done, and drains at the end.
//!
//! Invariant: when [`Server::serve`] returns, no task of it is left, and the socket's name is gone.
//!
//! Absent on purpose: signals, and closing the image; both are the caller's.

use std::io;
use std::path::Path;
use std::rc::Rc;

use compio::driver::ProactorBuilder;
use compio::runtime::fd::PollFd;
use compio::runtime::{Runtime, spawn};
use quod::Image;
use quod_storage::FileStorage;

use super::clients::Clients;
use super::offload::THREADS;
use super::options::ExportOptions;
use super::socket::{BindError, BoundSocket};

/// An NBD server with its socket, ready to serve. The socket's name goes when this is dropped.
#[derive(Debug)]
pub struct Server {
    socket: BoundSocket,
    options: ExportOptions,
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
    /// Listens on a Unix socket at `path`, of mode 0600. Clients may connect from now on; they are answered once
    /// [`serve`](Server::serve) runs. The socket of a dead server is replaced.
    ///
    /// # Errors
    /// [`BindError::InUse`] when a server listens there, [`BindError::NotASocket`] when something else has the name,
    /// [`BindError::Io`] when the system says no.
    pub fn bind(options: ExportOptions, path: &Path) -> Result<Self, BindError> {
        Ok(Server { socket: BoundSocket::bind(path)?, options })
    }

    /// Where it listens.
    pub fn path(&self) -> &Path {
        self.socket.path()
    }

    /// Serves `image` on this thread until `shutdown` is ready; then accepts and reads nothing more, answers the
    /// requests in flight, waits at most the drain timeout for that, and takes the socket's name away. Every five
    /// seconds the image's upkeep is done.
    ///
    /// `shutdown` may be woken from any thread. The image stays open: flush and close it afterwards. A request that
    /// was cut by the drain timeout may still be running in the engine then; closing waits for it.
    ///
    /// # Errors
    /// When the event loop cannot be set up. Clients cause none.
    ///
    /// # Panics
    /// When the system's event queue fails.
    pub fn serve(self, image: Image<FileStorage>, shutdown: impl Future<Output = ()>) -> io::Result<Summary> {
        let mut driver = ProactorBuilder::new();
        // Twice what is ever wanted: a thread between two jobs still counts, and at the limit the loop would spin.
        driver.thread_pool_limit(2 * THREADS);
        let runtime = Runtime::builder().with_proactor(driver).build()?;
        runtime.block_on(async {
            let clients = Clients::new(&self.options, image);
            let listener = PollFd::new(self.socket.listener().try_clone()?)?;
            let upkeep = spawn(Rc::clone(&clients).keep_up());
            let accepting = spawn(Rc::clone(&clients).prepare_and_accept(listener));
            shutdown.await;
            drop((accepting, self.socket));
            clients.closing().say();
            let cut = clients.drain(self.options.drain_timeout).await;
            if upkeep.await.is_err() {
                tracing::error!("the upkeep of the image failed in a way that it should not");
            }
            Ok(Summary { accepted: clients.accepted(), refused: clients.refused(), cut })
        })
    }
}
