//! Whether a thread can afford to look out for a client.
//!
//! Role: a [`Watch`] knows which clients of its thread ask for things, and whether others want the thread's processor.
//!
//! Invariants: a client counts as alone once it has waited [`ALONE_AFTER`] times and no other has in between; who never waits is
//! not known here. A client that is looked out for makes others' slowest requests take several times as long, and is not when
//! there are any. A thread that never sleeps is one that the system makes wait behind all others that want the processor: so
//! when it had to make room for somebody, and has not slept since, it does not look out for [`REST`] times as long as that may
//! have taken. Where there is one processor it never does: the client needs it.
//!
//! Absent on purpose: what a look-out finds (`lookout.rs`).

use std::cell::Cell;
use std::sync::LazyLock;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::resource::{UsageWho, getrusage};

/// A client is alone on its thread when so many waits in a row were its own.
const ALONE_AFTER: u32 = 16;

/// So many times as long as a thread may have been without its processor, it sleeps at once.
const REST: u32 = 100;

/// As long as that at most.
const MOST_REST: Duration = Duration::from_secs(1);

thread_local! {
    static WATCH: Watch = const { Watch::new() };
}

/// Whether there is more than one processor; asked once.
static HAS_COMPANY: LazyLock<bool> =
    LazyLock::new(|| thread::available_parallelism().is_ok_and(|processors| processors.get() > 1));

/// How often a thread has left its processor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Switches {
    /// To sleep.
    slept: i64,
    /// For another that wanted it.
    ousted: i64,
}

/// What the look-outs of a thread have in common.
#[derive(Debug)]
pub(super) struct Watch {
    /// Waits for clients so far.
    waits: Cell<u64>,
    /// When a look-out was begun last, and how often the thread had left its processor by then.
    last: Cell<Option<(Instant, Switches)>>,
    rests_until: Cell<Option<Instant>>,
}

/// A client, as far as it is to be told from others of its thread.
#[derive(Debug, Default)]
pub(super) struct Asker {
    /// How many waits there had been when it had last waited.
    waited_at: Cell<u64>,
    /// Its waits in a row.
    row: Cell<u32>,
}

impl Watch {
    const fn new() -> Self {
        Watch { waits: Cell::new(0), last: Cell::new(None), rests_until: Cell::new(None) }
    }

    /// That of this thread.
    pub(super) fn of_thread<R>(use_it: impl FnOnce(&Watch) -> R) -> R {
        WATCH.with(use_it)
    }

    /// Counts a wait for that client.
    pub(super) fn note(&self, asker: &Asker) {
        let row = if self.was_last(asker) { asker.row.get().saturating_add(1) } else { 1 };
        asker.row.set(row);
        self.waits.set(self.waits.get() + 1);
        asker.waited_at.set(self.waits.get());
    }

    /// Whether the last waits were all for that client.
    pub(super) fn is_alone(&self, asker: &Asker) -> bool {
        self.was_last(asker) && asker.row.get() >= ALONE_AFTER
    }

    fn was_last(&self, asker: &Asker) -> bool {
        asker.waited_at.get() == self.waits.get()
    }

    /// Whether the thread has its processor to itself, as far as it knows. Asked before each look-out.
    pub(super) fn may_look(&self) -> bool {
        let now = Instant::now();
        *HAS_COMPANY
            && !self.rests(now)
            && switches().is_some_and(|switches| self.is_undisturbed(now, switches))
    }

    fn rests(&self, now: Instant) -> bool {
        self.rests_until.get().is_some_and(|until| now < until)
    }

    /// Whether it was left its processor since the last look-out. If not, it rests.
    fn is_undisturbed(&self, now: Instant, switches: Switches) -> bool {
        let last = self.last.replace(Some((now, switches)));
        // Who has slept in between is not known to have waited, too.
        let Some((at, before)) = last.filter(|(_, before)| before.slept == switches.slept) else {
            return true;
        };
        if before.ousted == switches.ousted {
            return true;
        }
        let rest = now.saturating_duration_since(at).saturating_mul(REST).min(MOST_REST);
        self.rests_until.set(Some(now + rest));
        self.last.set(None);
        false
    }
}

/// How often this thread has left its processor.
fn switches() -> Option<Switches> {
    let usage = getrusage(UsageWho::RUSAGE_THREAD).ok()?;
    Some(Switches { slept: usage.voluntary_context_switches(), ousted: usage.involuntary_context_switches() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_waits_many_times_in_a_row_is_alone() {
        let (watch, [one, other]) = (Watch::new(), [Asker::default(), Asker::default()]);
        let wait = |asker| {
            watch.note(asker);
            watch.is_alone(asker)
        };
        let waits = |asker, count: u32| (0..count).filter(|_| wait(asker)).count();
        for one in [&one, &other, &one] {
            assert_eq!([waits(one, ALONE_AFTER - 1), waits(one, 5)], [0, 5]);
        }
        assert!(watch.is_alone(&one) && !watch.is_alone(&other));
        assert_eq!((0..100).map(|_| waits(&other, 1) + waits(&one, 1)).sum::<usize>(), 0, "by turns");
    }

    #[test]
    fn who_was_ousted_rests_in_proportion() {
        let (watch, begun) = (Watch::new(), Instant::now());
        let us = |us| begun + Duration::from_micros(us);
        let looks = |at, slept, ousted| {
            !watch.rests(us(at)) && watch.is_undisturbed(us(at), Switches { slept, ousted })
        };
        assert!(looks(0, 7, 3) && looks(20, 7, 3), "its processor is its own");
        assert!(looks(1_000, 8, 5), "it slept, and nobody knows what the rest cost");
        assert!(!looks(1_010, 8, 6), "somebody else wanted it for 10 µs at most");
        assert!(!looks(2_009, 8, 6) && looks(2_010, 8, 9), "what happens in a rest does not count");
        assert!(looks(2_020, 8, 9));
        assert!(
            !looks(60_002_020, 8, 10) && !looks(61_002_019, 8, 10) && looks(61_002_020, 8, 10),
            "a second at most"
        );
    }

    #[test]
    fn the_system_tells_how_often_a_thread_has_slept() {
        let before = switches().expect("Linux tells it");
        thread::sleep(Duration::from_millis(1));
        let after = switches().expect("Linux tells it");
        assert!(after.slept > before.slept && after.ousted >= before.ousted, "{before:?} {after:?}");
    }
}
