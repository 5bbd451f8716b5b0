//! How much one client, and all of them together, may have in flight.
//!
//! Role: a [`Permit`] is the right to hold one request and its bytes, from before its payload is read until its
//! reply has left. Who gets none waits, does not read on, and so pushes its client back.
//!
//! Invariant: a connection's first [`PRIVATE`] bytes never wait for others; what it holds above them comes out of a
//! pool of the server. A stalled client can keep a share of the pool, so those who wait on a client's socket give up
//! when the pool is wanted ([`Share::is_wanted`]). Greed waits for modesty: the last of the pool is for connections that
//! hold little, and of those who wait the one that asks for least is next.
//!
//! Absent on purpose: allocating anything, and fairness to those who ask for much while others always ask for little.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use event_listener::{Event, listener};
use futures_lite::future::or;

/// Requests in flight on one connection.
pub(crate) const MAX_REQUESTS: usize = 64;

/// Bytes in flight on one connection.
pub(crate) const MAX_BYTES: usize = 64 << 20;

/// Bytes of a connection that do not count against the server's pool.
pub(crate) const PRIVATE: usize = 256 << 10;

/// A connection that holds no more bytes of the pool than this may take the last of it.
const MODEST: usize = 4 << 20;

/// So much of the pool is kept for the modest: one part in so many.
const RESERVED: usize = 4;

const _: () = assert!(MAX_BYTES >= quod_nbd::MAX_PAYLOAD as usize, "one largest request must fit");

/// What all connections share.
#[derive(Debug)]
pub(crate) struct Pool {
    free: Cell<usize>,
    /// What only the modest may take.
    reserve: usize,
    stall_timeout: Duration,
    /// Who waits, by what they would hold of the pool and by their coming.
    line: RefCell<BTreeMap<Place, Rc<Event>>>,
    next_number: Cell<u64>,
}

/// Bytes of the pool that a connection would hold, and a number.
type Place = (usize, u64);

impl Pool {
    /// A pool of `bytes`, at least enough for one connection's full share. Clients that stall for `stall_timeout`
    /// lose their share when others wait for it.
    pub(crate) fn new(bytes: usize, stall_timeout: Duration) -> Rc<Self> {
        let modest = bytes / RESERVED;
        Rc::new(Pool {
            free: Cell::new((bytes - modest).max(MAX_BYTES) + modest),
            reserve: modest,
            stall_timeout,
            line: RefCell::default(),
            next_number: Cell::new(0),
        })
    }

    /// Takes `bytes` for a connection that will then hold `total` of the pool.
    fn take(&self, bytes: usize, total: usize) -> bool {
        let kept = if total <= MODEST { 0 } else { self.reserve };
        let left = self.free.get().checked_sub(bytes).filter(|&left| bytes == 0 || left >= kept);
        left.map(|left| self.free.set(left)).is_some()
    }

    fn give_back(&self, bytes: usize) {
        if bytes > 0 {
            self.free.set(self.free.get() + bytes);
            self.call_next();
        }
    }

    /// Wakes the one at the head of the line alone: the others would look in vain.
    fn call_next(&self) {
        if let Some((_, called)) = self.line.borrow().first_key_value() {
            called.notify(usize::MAX);
        }
    }

    fn is_wanted(&self) -> bool {
        !self.line.borrow().is_empty()
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
        self.pool.is_wanted() && from_pool(self.bytes.get()) > 0
    }

    /// How long this connection may stand still while it is wanted.
    pub(crate) fn stall_timeout(&self) -> Duration {
        self.pool.stall_timeout
    }

    /// Takes a permit if one can be had now.
    pub(crate) fn try_admit(self: &Rc<Self>, bytes: usize) -> Option<Permit> {
        // Ahead of those who wait in line only with what the line does not concern.
        (self.fits(bytes) && (self.cost(bytes) == 0 || !self.pool.is_wanted()) && self.pay(bytes))
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
        let mut waiting = None;
        // The cost falls while earlier requests of this connection finish: perhaps to nothing.
        while self.cost(bytes) > 0 {
            let waiting = waiting.get_or_insert_with(|| Waiting::in_line(&self.pool));
            let (freed, called) = (self.freed.listen(), waiting.called.listen());
            if waiting.is_next(self.total(bytes)) && self.pay(bytes) {
                return self.permit(bytes);
            }
            or(freed, called).await;
        }
        self.permit(bytes)
    }

    fn pay(&self, bytes: usize) -> bool {
        self.pool.take(self.cost(bytes), self.total(bytes))
    }

    /// What the connection would hold of the pool with `bytes` more.
    fn total(&self, bytes: usize) -> usize {
        from_pool(self.bytes.get() + bytes)
    }

    fn fits(&self, bytes: usize) -> bool {
        self.requests.get() < MAX_REQUESTS && self.bytes.get() + bytes <= MAX_BYTES
    }

    /// What `bytes` more would take from the pool.
    fn cost(&self, bytes: usize) -> usize {
        self.total(bytes) - from_pool(self.bytes.get())
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
        share.freed.notify(usize::MAX);
        share.pool.give_back(returned);
    }
}

/// A place in the line for bytes of the pool.
struct Waiting<'a> {
    pool: &'a Pool,
    place: Cell<Place>,
    called: Rc<Event>,
}

impl<'a> Waiting<'a> {
    /// Begins at the end of the line.
    fn in_line(pool: &'a Pool) -> Self {
        let place = (usize::MAX, pool.next_number.get());
        pool.next_number.set(place.1 + 1);
        let called = Rc::<Event>::default();
        pool.line.borrow_mut().insert(place, Rc::clone(&called));
        Waiting { pool, place: Cell::new(place), called }
    }

    /// Whether nobody waits who would hold less than `total` of the pool.
    fn is_next(&self, total: usize) -> bool {
        let (old, new) = (self.place.get(), (total, self.place.get().1));
        let mut line = self.pool.line.borrow_mut();
        if old != new {
            line.remove(&old);
            line.insert(new, Rc::clone(&self.called));
            self.place.set(new);
        }
        line.first_key_value().is_some_and(|(first, _)| *first == new)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.pool.line.borrow_mut().remove(&self.place.get());
        // What is left may be enough for the next.
        self.pool.call_next();
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
        assert!(!pool.is_wanted());
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
        assert_eq!((pool.free.get(), pool.is_wanted()), (MAX_BYTES, false));
    }

    #[test]
    fn who_waits_goes_on_when_earlier_requests_have_made_it_free() {
        let pool = Pool::new(0, Duration::ZERO);
        let (greedy, modest) = (Share::of(&pool), Share::of(&pool));
        let _all = greedy.try_admit(MAX_BYTES).expect("the pool is full");
        let _rest = Share::of(&pool).try_admit(2 * PRIVATE).expect("the private bytes of the first are left");
        let first = modest.try_admit(PRIVATE).expect("its own bytes");
        block_on(async {
            let mut waits = pin!(modest.admit(PRIVATE));
            assert!(poll_once(&mut waits).await.is_none());
            drop(first);
            assert!(poll_once(&mut waits).await.is_some(), "though the pool is as full as before");
        });
    }

    #[test]
    fn the_last_of_the_pool_is_for_the_modest_and_so_is_the_head_of_the_line() {
        let pool = Pool::new(8 * MAX_BYTES, Duration::ZERO);
        let greedy: Vec<_> = (0..8).map(|_| Share::of(&pool)).collect();
        let mut held: Vec<_> = greedy.iter().filter_map(|share| share.try_admit(MAX_BYTES)).collect();
        assert_eq!(held.len(), 6, "two of eight are kept");
        block_on(async {
            let mut waits = pin!(greedy[7].admit(MAX_BYTES));
            assert!(poll_once(&mut waits).await.is_none());
            let mut others = vec![];
            for _ in 0..2 * MAX_BYTES / MODEST {
                let share = Share::of(&pool);
                let permit = poll_once(share.admit(MODEST)).await.expect("ahead of the greedy one");
                others.push(permit);
            }
            drop(held.pop());
            let modest = Share::of(&pool);
            let late = poll_once(modest.admit(MODEST)).await;
            assert!(late.is_some(), "who asks for less is next, also when it comes later");
            drop((others, late));
            assert!(poll_once(&mut waits).await.is_some());
        });
    }
}
