//! Waiting for a client that keeps something others may need.
//!
//! Invariant: a client is waited for as long as it is in nobody's way. Once it is, it may stand still for the stall
//! timeout, and take that and [`PER_BYTE`] altogether: one byte now and then buys no time.
//!
//! Absent on purpose: a time limit on idle clients, which hold nothing.

use std::io;
use std::pin::pin;
use std::time::{Duration, Instant};

use compio::time::timeout;

use super::budget::Share;
use crate::nbd::fault::Fault;

/// What a client in the way may take for each byte: 4 MB a second.
const PER_BYTE: Duration = Duration::from_nanos(250);

/// The waits for one payload, or for a client to take one lot of replies.
#[derive(Debug)]
pub(crate) struct Patience<'a> {
    share: &'a Share,
    limit: Duration,
    /// When it came in the way.
    since: Option<Instant>,
}

impl<'a> Patience<'a> {
    /// For `bytes` bytes in all.
    pub(crate) fn new(share: &'a Share, bytes: usize) -> Self {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        Patience { share, limit: share.stall_timeout() + PER_BYTE * bytes, since: None }
    }

    /// Waits until a stream is `ready`, but not for ever when the share of its connection is wanted by another one, or
    /// `in_the_way` holds for another reason.
    ///
    /// # Errors
    /// When the stream fails, or [`Fault::Stalled`].
    pub(crate) async fn wait(
        &mut self,
        ready: impl Future<Output = io::Result<()>>,
        in_the_way: impl Fn() -> bool,
    ) -> Result<(), Fault> {
        let mut ready = pin!(ready);
        loop {
            let step = timeout(self.share.stall_timeout(), ready.as_mut()).await;
            if self.share.is_wanted() || in_the_way() {
                let since = self.since.get_or_insert_with(Instant::now);
                if step.is_err() || since.elapsed() > self.limit {
                    return Err(Fault::Stalled);
                }
            } else {
                self.since = None;
            }
            if let Ok(ready) = step {
                return Ok(ready?);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::budget::{MAX_BYTES, Pool};
    use super::*;
    use compio::driver::ProactorBuilder;
    use compio::time::sleep;
    use futures_lite::future::poll_once;
    use quod_storage::run_event_loop;

    const STALL: Duration = Duration::from_millis(200);
    const BYTES: usize = 100_000;

    /// A client that moves a byte every few milliseconds; how many before it is cut, if it is within so many.
    fn trickle(others_wait: bool, most: usize) -> Option<usize> {
        let client = async {
            let pool = Pool::new(0, STALL);
            let (slow, other) = (Share::of(&pool), Share::of(&pool));
            let _held = slow.try_admit(MAX_BYTES).expect("the pool is full");
            let mut waits = pin!(other.admit(MAX_BYTES));
            if others_wait {
                assert!(poll_once(&mut waits).await.is_none());
            }
            let mut patience = Patience::new(&slow, BYTES);
            for bytes in 0..most {
                let byte = async {
                    sleep(STALL / 20).await;
                    Ok(())
                };
                match patience.wait(byte, || false).await {
                    Ok(()) => {}
                    Err(Fault::Stalled) => return Some(bytes),
                    Err(fault) => panic!("{fault}"),
                }
            }
            None
        };
        run_event_loop(1, ProactorBuilder::new(), client).expect("an event loop")
    }

    #[test]
    fn a_byte_now_and_then_buys_no_time_from_those_who_wait() {
        let bytes = trickle(true, 1000).expect("it is cut");
        assert!(bytes <= 30, "{bytes} bytes at a tenth of a millisecond each and more");
    }

    #[test]
    fn who_is_in_nobodys_way_may_take_any_time() {
        assert_eq!(trickle(false, 60), None);
    }
}
