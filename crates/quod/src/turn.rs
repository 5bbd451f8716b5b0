//! Turns: the right to a step that others must not take at the same time, also across I/O.
//!
//! Role: a [`Turn`] is taken for one metadata operation. The guard goes with the operation as its
//! [`Held`](quod_storage::Held), so a dropped future passes the turn on only when the kernel is done (rule D13).
//!
//! Invariant: at most one guard of a turn is alive, not counting its clones.
//!
//! Absent on purpose: data behind the turn. State that must be read without waiting lies beside it, in a lock of
//! its own that no I/O runs under. And a clock: `async_lock::Mutex` looks at one to be fair, and then one seed no longer
//! replays to the same run.

use std::sync::Arc;

use crate::sync::Event;
use crate::sync::atomic::{AtomicBool, Ordering, fence};

/// A right that one request has at a time.
#[derive(Default)]
pub(crate) struct Turn(Arc<BareTurn>);

/// A turn without memory of its own, in something that is shared.
#[derive(Default)]
pub(crate) struct BareTurn {
    taken: AtomicBool,
    passed_on: Event,
}

/// Gives the turn back when it is dropped. Until then, what the turn lies in lives.
pub(crate) struct Taken(Arc<dyn AsRef<BareTurn> + Send + Sync>);

/// The right, until the last clone is dropped.
pub(crate) type TurnGuard = Arc<Taken>;

impl Turn {
    /// As [`BareTurn::take`].
    pub(crate) async fn take(&self) -> TurnGuard {
        BareTurn::take(&self.0).await
    }
}

impl BareTurn {
    /// Waits for the turn. Cancel-safe: a dropped wait takes nothing, and a wake-up that it has had goes to the next.
    pub(crate) async fn take<T: AsRef<BareTurn> + Send + Sync + 'static>(within: &Arc<T>) -> TurnGuard {
        let turn = (**within).as_ref();
        // Who listens needs memory that stays: seldom is a turn another's.
        while !turn.try_take() {
            let passed_on = turn.passed_on.listen();
            // As in the drop of `Taken`: this sees the turn free, or that sees who listens.
            fence(Ordering::SeqCst);
            if turn.try_take() {
                break;
            }
            passed_on.await;
        }
        Arc::new(Taken(Arc::<T>::clone(within)))
    }

    fn try_take(&self) -> bool {
        self.taken.compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }
}

impl AsRef<BareTurn> for BareTurn {
    fn as_ref(&self) -> &BareTurn {
        self
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        let turn = (*self.0).as_ref();
        turn.taken.store(false, Ordering::Release);
        fence(Ordering::SeqCst);
        // To notify where nobody ever listened takes memory.
        if turn.passed_on.total_listeners() > 0 {
            // One more than are notified already: a wake-up that is under way may belong to an earlier turn.
            turn.passed_on.notify_additional(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_lite::future::{block_on, poll_once};

    #[test]
    #[cfg(not(any(quod_loom, quod_shuttle)))]
    fn a_turn_that_nobody_waits_for_keeps_no_memory() {
        let turn = Arc::new(BareTurn::default());
        // What a thread needs to block, it keeps.
        block_on(async {});
        let kept = allocation_counter::measure(|| drop(block_on(BareTurn::take(&turn))));
        assert_eq!(kept.bytes_current, 0);
    }

    #[test]
    fn a_turn_is_one_request_s_until_the_last_clone_is_dropped() {
        let turn = Turn::default();
        let mine = block_on(turn.take());
        let kernels = Arc::clone(&mine);
        drop(mine);
        assert!(block_on(poll_once(turn.take())).is_none());
        drop(kernels);
        assert!(block_on(poll_once(turn.take())).is_some());
    }

    #[test]
    fn a_dropped_wait_passes_its_wake_up_on() {
        let turn = Turn::default();
        let mine = block_on(turn.take());
        let (mut first, mut second) = (Box::pin(turn.take()), Box::pin(turn.take()));
        assert!(block_on(poll_once(&mut first)).is_none());
        assert!(block_on(poll_once(&mut second)).is_none());
        drop(mine);
        drop(first);
        assert!(block_on(poll_once(&mut second)).is_some());
    }

    #[test]
    fn threads_take_their_turns_one_at_a_time() {
        let turn = Turn::default();
        let inside = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..1000 {
                        let guard = block_on(turn.take());
                        assert!(!inside.swap(true, Ordering::AcqRel), "alone");
                        inside.store(false, Ordering::Release);
                        drop(guard);
                    }
                });
            }
        });
    }
}
