//! How much one client, and all of them together, may have in flight.
//!
//! Role: a [`Permit`] is the right to hold one request and its bytes, from before its payload is read until its
//! reply has left. Who gets none waits, does not read on, and so pushes its client back.
//!
//! Invariant: a connection's first [`PRIVATE`] bytes never wait for others; what it holds above them comes out of a
//! pool of the server. A stalled client can keep a share of the pool, so those who wait on a client's socket give up
//! when the pool is wanted ([`Share::is_wanted`]).
//!
//! Absent on purpose: allocating anything, and priorities: who waits for the pool waits in line.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use async_lock::Mutex;
use event_listener::{Event, listener};

/// Requests in flight on one connection.
pub(crate) const MAX_REQUESTS: usize = 64;

/// Bytes in flight on one connection.
pub(crate) const MAX_BYTES: usize = 64 << 20;

/// Bytes of a connection that do not count against the server's pool.
pub(crate) const PRIVATE: usize = 256 << 10;

const _: () = assert!(MAX_BYTES >= super::codec::MAX_PAYLOAD as usize, "one largest request must fit");

/// What all connections share.
#[derive(Debug)]
pub(crate) struct Pool {
    free: Cell<usize>,
    waiting: Cell<usize>,
    freed: Event,
    stall_timeout: Duration,
    /// Held by the one who is next.
    line: Mutex<()>,
}

impl Pool {
    /// A pool of `bytes`, at least enough for one connection's full share. Clients that stall for `stall_timeout`
    /// lose their share when others wait for it.
    pub(crate) fn new(bytes: usize, stall_timeout: Duration) -> Rc<Self> {
        let free = Cell::new(bytes.max(MAX_BYTES));
        Rc::new(Pool {
            free,
            waiting: Cell::new(0),
            freed: Event::new(),
            stall_timeout,
            line: Mutex::new(()),
        })
    }

    fn take(&self, bytes: usize) -> bool {
        let left = self.free.get().checked_sub(bytes);
        left.map(|left| self.free.set(left)).is_some()
    }

    fn give_back(&self, bytes: usize) {
        if bytes > 0 {
            self.free.set(self.free.get() + bytes);
            self.freed.notify(1);
        }
    }
}

/// What one connection has in flight.
#[derive(Debug)]
pub(crate) struct Share {
    requests: Cell<usize>,
    bytes: Cell<usize>,
    freed: Event,
    pool: Rc<Pool>,
}

impl Share {
    pub(crate) fn of(pool: &Rc<Pool>) -> Rc<Self> {
        let pool = Rc::clone(pool);
        Rc::new(Share { requests: Cell::new(0), bytes: Cell::new(0), freed: Event::new(), pool })
    }

    /// Whether this connection holds bytes that another one waits for.
    pub(crate) fn is_wanted(&self) -> bool {
        self.pool.waiting.get() > 0 && from_pool(self.bytes.get()) > 0
    }

    /// How long this connection may stand still while it is wanted.
    pub(crate) fn stall_timeout(&self) -> Duration {
        self.pool.stall_timeout
    }

    /// Takes a permit if one can be had now.
    pub(crate) fn try_admit(self: &Rc<Self>, bytes: usize) -> Option<Permit> {
        // Ahead of those who wait in line only with what the line does not concern.
        (self.fits(bytes)
            && (self.cost(bytes) == 0 || self.pool.waiting.get() == 0)
            && self.pool.take(self.cost(bytes)))
        .then(|| self.permit(bytes))
    }

    /// Waits for a permit. One task a connection asks; dropping the future gives its place in line up.
    ///
    /// # Panics
    /// When `bytes` is more than any connection may have.
    pub(crate) async fn admit(self: &Rc<Self>, bytes: usize) -> Permit {
        assert!(bytes <= MAX_BYTES, "refused before it came here");
        while !self.fits(bytes) {
            listener!(self.freed => freed);
            freed.await;
        }
        if self.cost(bytes) > 0 {
            let _waiting = Waiting::count(&self.pool);
            let _turn = self.pool.line.lock().await;
            // The cost falls while earlier requests of this connection finish.
            while !self.pool.take(self.cost(bytes)) {
                listener!(self.pool.freed => freed);
                freed.await;
            }
            return self.permit(bytes);
        }
        self.permit(bytes)
    }

    fn fits(&self, bytes: usize) -> bool {
        self.requests.get() < MAX_REQUESTS && self.bytes.get() + bytes <= MAX_BYTES
    }

    /// What `bytes` more would take from the pool.
    fn cost(&self, bytes: usize) -> usize {
        from_pool(self.bytes.get() + bytes) - from_pool(self.bytes.get())
    }

    /// The cost has been paid.
    fn permit(self: &Rc<Self>, bytes: usize) -> Permit {
        self.requests.set(self.requests.get() + 1);
        self.bytes.set(self.bytes.get() + bytes);
        Permit { share: Rc::clone(self), bytes }
    }
}

/// How much of a connection's bytes the pool pays for.
fn from_pool(bytes: usize) -> usize {
    bytes.saturating_sub(PRIVATE)
}

/// The right to have one request in flight. Given back when dropped.
#[derive(Debug)]
pub(crate) struct Permit {
    share: Rc<Share>,
    bytes: usize,
}

impl Drop for Permit {
    fn drop(&mut self) {
        let share = &self.share;
        let left = share.bytes.get() - self.bytes;
        let returned = from_pool(share.bytes.get()) - from_pool(left);
        share.bytes.set(left);
        share.requests.set(share.requests.get() - 1);
        share.freed.notify(1);
        share.pool.give_back(returned);
        if returned == 0 && self.share.pool.waiting.get() > 0 {
            // The one in line may be this connection, whose cost has just fallen.
            self.share.pool.freed.notify(1);
        }
    }
}

/// Somebody wants bytes of the pool.
struct Waiting<'a>(&'a Pool);

impl<'a> Waiting<'a> {
    fn count(pool: &'a Pool) -> Self {
        pool.waiting.set(pool.waiting.get() + 1);
        Waiting(pool)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.set(self.0.waiting.get() - 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_lite::future::{block_on, poll_once};
    use std::pin::pin;

    #[test]
    fn small_requests_pass_when_the_pool_is_empty() {
        let pool = Pool::new(0, Duration::ZERO);
        let greedy = Share::of(&pool);
        let _all = greedy.try_admit(MAX_BYTES).expect("the pool is full");
        let _rest = Share::of(&pool).try_admit(2 * PRIVATE).expect("the private bytes of the first are left");
        assert!(Share::of(&pool).try_admit(2 * PRIVATE).is_none());
        assert!(Share::of(&pool).try_admit(PRIVATE).is_some());
    }

    #[test]
    fn requests_of_a_connection_are_counted() {
        let share = Share::of(&Pool::new(0, Duration::ZERO));
        let mut permits: Vec<_> =
            (0..MAX_REQUESTS).map(|_| share.try_admit(0).expect("below the bound")).collect();
        assert!(share.try_admit(0).is_none());
        permits.pop();
        assert!(share.try_admit(0).is_some());
    }

    #[test]
    fn who_waits_for_the_pool_is_seen_and_served() {
        let pool = Pool::new(0, Duration::ZERO);
        let (first, second) = (Share::of(&pool), Share::of(&pool));
        let held = first.try_admit(MAX_BYTES).expect("the pool is full");
        assert!(!first.is_wanted());
        block_on(async {
            let mut waits = pin!(second.admit(MAX_BYTES));
            assert!(poll_once(&mut waits).await.is_none());
            assert!(first.is_wanted() && !second.is_wanted());
            drop(held);
            assert!(poll_once(&mut waits).await.is_some());
        });
        assert_eq!(pool.free.get(), MAX_BYTES, "everything came back");
        assert_eq!(pool.waiting.get(), 0);
    }

    #[test]
    fn a_place_in_line_is_given_up_with_the_future() {
        let pool = Pool::new(0, Duration::ZERO);
        let held = Share::of(&pool).try_admit(MAX_BYTES).expect("the pool is full");
        block_on(async {
            let gone = Share::of(&pool);
            assert!(poll_once(gone.admit(MAX_BYTES)).await.is_none());
            drop(held);
            Share::of(&pool).admit(MAX_BYTES).await;
        });
        assert_eq!((pool.free.get(), pool.waiting.get()), (MAX_BYTES, 0));
    }
}
