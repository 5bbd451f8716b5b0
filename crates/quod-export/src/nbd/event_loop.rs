//! One event loop of a server, on a thread of its own.
//!
//! Role: sets the loop up, serves the clients that it is handed, and drains at the end. The first does the images' upkeep.
//!
//! Invariants: one that ends, also by a panic, ends the server. When it has ended in order, the kernel does no work for it any
//! more.
//!
//! Absent on purpose: sharing between loops: that is in images, `crowd.rs` and `closing.rs`.

use std::io;
use std::rc::Rc;
use std::sync::Arc;

use async_channel::Receiver;
use compio::driver::ProactorBuilder;
use compio::runtime::spawn;
use futures_lite::future::or;
use quod_storage::{ring_is_idle, run_event_loop};

use super::clients::Clients;
use super::closing::Closing;
use super::crowd::Crowd;
use super::entrance::Newcomer;
use super::export::offload::THREADS;
use super::exports::Offer;
use super::options::ServerOptions;
use super::transmission::budget::MAX_REQUESTS;

/// Tasks of a connection that have no request: two lead it.
const TASKS_BESIDE: usize = 3;

/// Tasks that another thread may wake at a time, at most, however many connections are allowed.
const MOST_WOKEN: usize = 1 << 20;

/// What an event loop begins with.
pub(crate) struct EventLoop {
    /// Which of the loops it is.
    pub(crate) at: usize,
    pub(crate) newcomers: Receiver<Newcomer>,
    pub(crate) options: ServerOptions,
    pub(crate) offers: Vec<Offer>,
    pub(crate) crowd: Arc<Crowd>,
    pub(crate) closing: Arc<Closing>,
}

impl EventLoop {
    /// Serves until the server closes, which it does when `lead` is over. Tells how many connections were cut.
    ///
    /// # Errors
    /// When the loop cannot be set up, and what `lead` says.
    pub(crate) fn run(self, lead: impl AsyncFnOnce(Rc<Clients>) -> io::Result<()>) -> io::Result<usize> {
        let EventLoop { at, newcomers, options, offers, crowd, closing } = self;
        let ends = Ends(Arc::clone(&closing));
        let mut driver = ProactorBuilder::new();
        // Twice what is ever wanted: a thread between two jobs still counts, and at the limit the loop would spin.
        driver.thread_pool_limit(2 * THREADS * offers.len().max(1));
        let tasks = crowd.most().saturating_mul(MAX_REQUESTS + TASKS_BESIDE);
        run_event_loop(tasks.clamp(MAX_REQUESTS, MOST_WOKEN), driver, async {
            let clients = Clients::new(at, &options, offers, crowd, Arc::clone(&closing));
            let _taking_in = spawn(Rc::clone(&clients).take_in(newcomers));
            let upkeep = (at == 0).then(|| spawn(Rc::clone(&clients).keep_up()));
            let closed = async {
                closing.wait().await;
                Ok(())
            };
            let led = or(lead(Rc::clone(&clients)), closed).await;
            drop(ends);
            let cut = clients.drain(options.drain_timeout).await;
            if let Some(upkeep) = upkeep
                && upkeep.await.is_err()
            {
                tracing::error!("the upkeep of the images failed in a way that it should not");
            }
            ring_is_idle().await;
            led.map(|()| cut)
        })?
    }
}

/// Says that the server closes when it is dropped.
struct Ends(Arc<Closing>);

impl Drop for Ends {
    fn drop(&mut self) {
        self.0.say();
    }
}
