//! What a server counts, told to Prometheus over HTTP.
//!
//! Role: `tell` answers on an event loop of its own, so that no client of a disk waits while a page is written. `http`
//! leads one client, `page` is what it gets.
//!
//! Invariant: `CLIENTS` are answered at a time, each for `DEADLINE` at most, and one request each; others wait with
//! the kernel. Whoever they are, those of the disks notice nothing. Nothing wakes up but for a client.
//!
//! Absent on purpose: counting, anything that a client could change, and TLS.

mod http;
mod page;

use std::io;
use std::rc::Rc;
use std::time::Duration;

use compio::driver::ProactorBuilder;
use compio::runtime::spawn;
use compio::time::timeout;
use quod_storage::run_event_loop;

use crate::nbd::Observer;
use crate::nbd::closing::Closing;
use crate::nbd::listener::{Door, Listener};
use page::Page;

/// Where on the server the page is.
pub const PATH: &str = "/metrics";

/// Clients that are answered at a time.
const CLIENTS: usize = 16;

/// How long a client may take to ask and to take its answer.
const DEADLINE: Duration = Duration::from_secs(5);

/// Tells what the observer sees to who comes by `listener`, until the server closes.
///
/// # Errors
/// When the event loop cannot be set up.
pub(crate) fn tell(listener: &Listener, observer: Observer, closing: &Closing) -> io::Result<()> {
    run_event_loop(CLIENTS, ProactorBuilder::new(), async {
        let page = Rc::new(Page::of(observer));
        // Each has a door of its own: of those who wait at the same one, only the last would hear.
        let desk = |_| Ok(spawn(receive(listener.watch()?, Rc::clone(&page))));
        let desks = (0..CLIENTS).map(desk).collect::<io::Result<Vec<_>>>()?;
        closing.wait().await;
        // Ends them wherever they are.
        drop(desks);
        Ok(())
    })?
}

/// Answers one client after another.
async fn receive(door: Door, page: Rc<Page>) {
    loop {
        let stream = match door.accept() {
            Ok(stream) => stream,
            Err(error) => {
                door.wait_after(error).await;
                continue;
            }
        };
        let page = Rc::clone(&page);
        // A task within the task: what panics in there ends there.
        let answer = spawn(async move { timeout(DEADLINE, http::answer(stream, page)).await });
        match answer.await {
            Ok(Ok(Ok(()))) => {}
            Ok(Ok(Err(error))) => tracing::debug!(%error, "a client of the metrics was not answered"),
            Ok(Err(_elapsed)) => tracing::debug!("a client of the metrics took too long"),
            Err(error) => tracing::error!(%error, "telling the metrics failed as it never should"),
        }
    }
}
