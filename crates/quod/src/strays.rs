//! Changes in place, and those of them whose future was dropped while the kernel still worked on them.
//!
//! Role: such a stray may land at any moment, so a later write or punch of the same bytes waits until it has: an old
//! value must never come back over a newer one (rule D13). And every change in place is noted when it is over, however
//! it ended: the next flush owes it (D8).
//!
//! Invariant: a range is listed from the moment its future is dropped until its operation lets go of its [`Held`] and has
//! been noted.
//!
//! Absent on purpose: order between writes that are all still awaited: that is the guest's business. Reads do not
//! wait: until a stray has landed, either value is right.

use std::ops::Range;
use std::sync::{Arc, PoisonError};

use quod_storage::Held;

use crate::flush::Flusher;
use crate::sync::atomic::{AtomicUsize, Ordering};
use crate::sync::{Event, Mutex, MutexGuard};

/// The strays of one file.
pub(crate) struct Strays(Arc<List>);

struct List {
    /// Of the same file.
    flusher: Arc<Flusher>,
    /// How many there are, to be looked at without the lock: nearly always none.
    count: AtomicUsize,
    strays: Mutex<Vec<Arc<Range<u64>>>>,
    landed: Event,
}

/// A change in place that is being waited for. Dropped before [`done`](InPlace::done), it leaves a stray behind.
pub(crate) struct InPlace {
    operation: Arc<Operation>,
    done: bool,
}

/// Lives as long as the kernel works on it, or its future is there.
struct Operation {
    list: Arc<List>,
    range: Arc<Range<u64>>,
}

impl Strays {
    /// None yet, of the file that is flushed there.
    pub(crate) fn new(flusher: Arc<Flusher>) -> Self {
        let (count, strays, landed) = (AtomicUsize::new(0), Mutex::default(), Event::default());
        Strays(Arc::new(List { flusher, count, strays, landed }))
    }

    /// Waits until no stray is left in the range of the file. Cancel-safe.
    pub(crate) async fn landed(&self, range: &Range<u64>) {
        while self.0.count.load(Ordering::Acquire) > 0 {
            let landed = self.0.landed.listen();
            if !self.0.lock().iter().any(|stray| stray.start < range.end && range.start < stray.end) {
                break;
            }
            landed.await;
        }
    }

    /// Whether there is none.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.lock().is_empty()
    }

    /// Begins a change in place, once no stray can land on it any more.
    pub(crate) async fn begin(&self, range: Range<u64>) -> InPlace {
        self.landed(&range).await;
        InPlace {
            operation: Arc::new(Operation { list: Arc::clone(&self.0), range: Arc::new(range) }),
            done: false,
        }
    }
}

impl InPlace {
    /// What the operation carries.
    pub(crate) fn held(&self) -> Held {
        Held::new(Arc::clone(&self.operation))
    }

    /// The operation is over, well or not: readers may have seen a part of one that failed.
    pub(crate) fn done(mut self) {
        self.operation.list.flusher.wrote();
        self.done = true;
    }
}

impl Drop for InPlace {
    fn drop(&mut self) {
        if !self.done {
            // If the operation is over all the same, it leaves the list again with our own share of it, just below.
            let list = &self.operation.list;
            list.lock().push(Arc::clone(&self.operation.range));
            list.count.fetch_add(1, Ordering::Release);
        }
    }
}

impl Drop for Operation {
    fn drop(&mut self) {
        if self.list.count.load(Ordering::Acquire) == 0 {
            return;
        }
        let mut strays = self.list.lock();
        if let Some(place) = strays.iter().position(|stray| Arc::ptr_eq(stray, &self.range)) {
            self.list.flusher.wrote();
            strays.swap_remove(place);
            self.list.count.fetch_sub(1, Ordering::Release);
            self.list.landed.notify(usize::MAX);
        }
    }
}

impl List {
    fn lock(&self) -> MutexGuard<'_, Vec<Arc<Range<u64>>>> {
        self.strays.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_lite::future::{block_on, poll_once};

    fn strays() -> Strays {
        Strays::new(Arc::default())
    }

    fn is_free(strays: &Strays, range: Range<u64>) -> bool {
        block_on(poll_once(strays.landed(&range))).is_some()
    }

    #[test]
    fn a_dropped_write_keeps_its_range_until_the_kernel_lets_go() {
        let strays = strays();
        let write = block_on(strays.begin(100..200));
        let kernel = write.held();
        assert!(is_free(&strays, 100..200), "whoever still waits orders its writes itself");
        drop(write);
        assert!(!is_free(&strays, 199..300));
        assert!(is_free(&strays, 200..300));
        drop(kernel);
        assert!(is_free(&strays, 0..1000));
    }

    #[test]
    fn a_write_that_is_over_leaves_nothing() {
        let strays = strays();
        block_on(strays.begin(0..10)).done();
        drop(block_on(strays.begin(0..10)));
        assert!(is_free(&strays, 0..10));
        assert_eq!(strays.0.count.load(Ordering::Acquire), 0);
    }

    #[test]
    fn a_waiter_is_woken_when_the_stray_has_landed() {
        let strays = Arc::new(strays());
        let write = block_on(strays.begin(0..10));
        let kernel = write.held();
        drop(write);
        let waiter = std::thread::spawn({
            let strays = Arc::clone(&strays);
            move || block_on(strays.begin(5..6)).done()
        });
        drop(kernel);
        waiter.join().unwrap();
    }
}
