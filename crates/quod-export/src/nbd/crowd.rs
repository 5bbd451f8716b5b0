//! Who is connected to a server, over all of its event loops.
//!
//! Role: [`Crowd`] counts clients, says whether one more may come, and gives it to the loop with the fewest. It remembers
//! how many came.
//!
//! Invariant: a client counts from before its loop hears of it until its [`Place`] is dropped. Who waits for clients to
//! leave hears of every one that does.
//!
//! Absent on purpose: sockets.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use event_listener::{Event, listener};

use super::observer::ClientStats;
use super::options::ServerOptions;

/// The clients of a server.
#[derive(Debug)]
pub(crate) struct Crowd {
    /// How many each loop has.
    loops: Vec<AtomicUsize>,
    left: Event,
    /// Whether a client has used an export.
    used: AtomicBool,
    /// More wait.
    shared: usize,
    /// More are let go.
    most: AtomicUsize,
    accepted: AtomicU64,
    refused: AtomicU64,
}

impl Crowd {
    /// Nobody yet.
    pub(crate) fn new(options: &ServerOptions) -> Arc<Self> {
        Arc::new(Crowd {
            loops: (0..options.threads.get()).map(|_| AtomicUsize::new(0)).collect(),
            left: Event::new(),
            used: AtomicBool::new(false),
            shared: if options.shared == 0 { usize::MAX } else { options.shared },
            most: AtomicUsize::new(options.max_connections),
            accepted: AtomicU64::new(0),
            refused: AtomicU64::new(0),
        })
    }

    /// Lets no more than `most` in, whatever the options say.
    pub(crate) fn bound(&self, most: usize) {
        self.most.fetch_min(most, Ordering::SeqCst);
    }

    /// Counts one more in; `None` when there are too many. One task asks.
    pub(crate) fn admit(self: &Arc<Self>) -> Option<Place> {
        if self.open() >= self.most() {
            self.refused.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        let (at, fewest) = self.loops.iter().enumerate().min_by_key(|(_, clients)| load(clients))?;
        fewest.fetch_add(1, Ordering::SeqCst);
        self.accepted.fetch_add(1, Ordering::Relaxed);
        Some(Place { crowd: Arc::clone(self), at })
    }

    /// How many there may be.
    pub(crate) fn most(&self) -> usize {
        load(&self.most)
    }

    /// How many came, and how many are here.
    pub(crate) fn stats(&self) -> ClientStats {
        ClientStats {
            connected: self.open() as u64,
            accepted: self.accepted.load(Ordering::Relaxed),
            refused: self.refused.load(Ordering::Relaxed),
        }
    }

    /// How many are connected.
    pub(crate) fn open(&self) -> usize {
        self.loops.iter().map(load).sum()
    }

    /// How many are with that loop.
    pub(crate) fn with(&self, at: usize) -> usize {
        load(&self.loops[at])
    }

    /// A client uses an export.
    pub(crate) fn note_use(&self) {
        self.used.store(true, Ordering::SeqCst);
    }

    /// Waits until one more client may be served.
    pub(crate) async fn room(&self) {
        self.until_left(|| self.open() < self.shared).await;
    }

    /// Waits until no client is connected, after one has used an export.
    pub(crate) async fn last_left(&self) {
        self.until_left(|| self.used.load(Ordering::SeqCst) && self.open() == 0).await;
    }

    /// Waits until that loop has none.
    pub(crate) async fn gone_from(&self, at: usize) {
        self.until_left(|| self.with(at) == 0).await;
    }

    /// Waits until something holds that can come to hold when a client leaves.
    async fn until_left(&self, holds: impl Fn() -> bool) {
        loop {
            listener!(self.left => left);
            if holds() {
                return;
            }
            left.await;
        }
    }
}

fn load(clients: &AtomicUsize) -> usize {
    clients.load(Ordering::SeqCst)
}

/// A client that counts.
#[derive(Debug)]
pub(crate) struct Place {
    crowd: Arc<Crowd>,
    at: usize,
}

impl Place {
    /// Which loop it is with.
    pub(crate) fn at(&self) -> usize {
        self.at
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.crowd.loops[self.at].fetch_sub(1, Ordering::SeqCst);
        self.crowd.left.notify(usize::MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_lite::future::{block_on, poll_once};
    use std::num::NonZero;
    use std::pin::pin;

    fn crowd(threads: usize, shared: usize, most: usize) -> Arc<Crowd> {
        let threads = NonZero::new(threads).expect("there are loops");
        let crowd = Crowd::new(&ServerOptions { threads, shared, ..ServerOptions::default() });
        crowd.bound(most);
        crowd
    }

    #[test]
    fn each_goes_where_the_fewest_are_until_there_are_too_many() {
        let crowd = crowd(3, 0, 6);
        let mut places: Vec<Place> = std::iter::from_fn(|| crowd.admit()).collect();
        assert_eq!(places.len(), 6);
        assert_eq!([0, 1, 2].map(|at| crowd.with(at)), [2, 2, 2]);
        places.retain(|place| place.at() != 1);
        assert_eq!(crowd.admit().expect("two have left").at(), 1);
        let ClientStats { connected, accepted, refused } = crowd.stats();
        assert_eq!((connected, accepted, refused), (4, 7, 1));
    }

    #[test]
    fn who_waits_goes_on_when_one_leaves() {
        let crowd = crowd(2, 2, 10);
        let places = [crowd.admit(), crowd.admit()];
        crowd.note_use();
        block_on(async {
            let (mut room, mut last) = (pin!(crowd.room()), pin!(crowd.last_left()));
            assert!(poll_once(&mut room).await.is_none());
            let [first, second] = places;
            drop(first);
            assert!(poll_once(&mut room).await.is_some());
            assert!(poll_once(&mut last).await.is_none());
            assert!(poll_once(crowd.gone_from(0)).await.is_some());
            drop(second);
            assert!(poll_once(&mut last).await.is_some());
        });
    }
}
