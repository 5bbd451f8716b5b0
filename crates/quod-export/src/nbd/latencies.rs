//! How long requests took, by powers of two.
//!
//! Role: [`Latencies`] counts requests in buckets; [`LatencyStats`] is what it has counted, and can be added up.
//!
//! Invariant: a bucket holds what took at most its bound, and longer than the bound before. No time is too long: the last
//! bucket has no bound.
//!
//! Absent on purpose: clocks, and percentiles, which who gathers the buckets works out over any stretch of time.

use std::array;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use super::tally::{add, load};

/// Buckets with a bound: 1 µs, 2 µs, ... up to nearly 17 s.
const BOUNDED: usize = 25;

/// All buckets.
const BUCKETS: usize = BOUNDED + 1;

/// Requests of one kind, counted by one thread, in cache lines of its own.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct Latencies {
    buckets: [AtomicU64; BUCKETS],
    nanoseconds: AtomicU64,
}

impl Latencies {
    /// Counts a request. One thread does.
    pub(crate) fn note(&self, took: Duration) {
        let nanoseconds = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        add(&self.buckets[bucket_of(nanoseconds)], 1);
        add(&self.nanoseconds, nanoseconds);
    }

    /// What was counted so far.
    pub(crate) fn stats(&self) -> LatencyStats {
        LatencyStats {
            buckets: array::from_fn(|at| load(&self.buckets[at])),
            total: Duration::from_nanos(load(&self.nanoseconds)),
        }
    }
}

/// The first bucket whose bound is not less.
fn bucket_of(nanoseconds: u64) -> usize {
    match nanoseconds.div_ceil(1000) {
        0 | 1 => 0,
        microseconds => ((microseconds - 1).ilog2() as usize + 1).min(BOUNDED),
    }
}

/// How long requests took, from when one was there whole until its answer was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LatencyStats {
    buckets: [u64; BUCKETS],
    /// All of them together.
    pub total: Duration,
}

impl LatencyStats {
    /// How many requests took at most so long, and longer than the bound before; the last have no bound.
    pub fn buckets(&self) -> impl Iterator<Item = (Option<Duration>, u64)> {
        let bound = |at| (at < BOUNDED).then(|| Duration::from_micros(1_u64 << at));
        self.buckets.iter().enumerate().map(move |(at, &count)| (bound(at), count))
    }

    /// How many requests there are in all.
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// Counts those of `other` too.
    pub(crate) fn add(&mut self, other: &LatencyStats) {
        for (sum, count) in self.buckets.iter_mut().zip(other.buckets) {
            *sum += count;
        }
        self.total = self.total.saturating_add(other.total);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bound_of(took: Duration) -> Option<Duration> {
        let latencies = Latencies::default();
        latencies.note(took);
        let stats = latencies.stats();
        assert_eq!((stats.count(), stats.total), (1, took));
        let mut found = stats.buckets().filter(|&(_, count)| count > 0);
        found.next().expect("it is in a bucket").0
    }

    #[test]
    fn a_request_lies_in_the_first_bucket_whose_bound_it_keeps() {
        let nanos = Duration::from_nanos;
        for (took, bound) in [
            (nanos(0), nanos(1000)),
            (nanos(1000), nanos(1000)),
            (nanos(1001), nanos(2000)),
            (nanos(2000), nanos(2000)),
            (nanos(2001), nanos(4000)),
            (Duration::from_millis(1), Duration::from_micros(1024)),
            (Duration::from_micros(1 << 24), Duration::from_micros(1 << 24)),
        ] {
            assert_eq!(bound_of(took), Some(bound), "{took:?}");
        }
        assert_eq!(bound_of(Duration::from_micros(1 << 24) + nanos(1)), None);
        assert_eq!(bound_of(nanos(u64::MAX)), None);
    }

    #[test]
    fn bounds_are_powers_of_two_from_a_microsecond_to_seventeen_seconds() {
        let bounds: Vec<_> = LatencyStats::default().buckets().map(|(bound, _)| bound).collect();
        let (last, bounds) = bounds.split_last().expect("there are some");
        assert_eq!(*last, None);
        assert_eq!(bounds[0], Some(Duration::from_micros(1)));
        assert!(bounds.windows(2).all(|two| two[1] == two[0].map(|bound| bound * 2)));
        assert_eq!(bounds.last().map(|bound| bound.map_or(0, |bound| bound.as_secs())), Some(16));
    }

    #[test]
    fn sums_are_over_all() {
        let (one, other) = (Latencies::default(), Latencies::default());
        one.note(Duration::from_micros(1));
        other.note(Duration::from_micros(1));
        other.note(Duration::from_secs(100));
        let mut sum = one.stats();
        sum.add(&other.stats());
        let counts: Vec<_> = sum.buckets().map(|(_, count)| count).filter(|&count| count > 0).collect();
        assert_eq!((counts, sum.count()), (vec![2, 1], 3));
        assert_eq!(sum.total, Duration::from_micros(2) + Duration::from_secs(100));
    }
}
