//! Turns, gates, ranges and strays: nobody is let in who must wait, and nobody is left waiting.

use std::sync::Arc;

use super::{begin_and_drop, block_on, explore, explore_within, side_by_side};
use crate::gate::Gate;
use crate::ranges::RangeLocks;
use crate::strays::Strays;
use crate::sync::Mutex;
use crate::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use crate::turn::{Turn, TurnGuard};

/// Counts without atomicity: a sum that is right shows that those who counted did so one after another, and that each
/// saw what the one before it did.
#[derive(Default)]
struct Alone(AtomicUsize);

impl Alone {
    fn count(&self) {
        let before = self.0.load(Ordering::Relaxed);
        self.0.store(before + 1, Ordering::Relaxed);
    }

    fn counted(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

fn take_a_turn((turn, alone): &(Turn, Alone)) {
    let guard = block_on(turn.take());
    alone.count();
    drop(guard);
}

#[test]
fn a_turn_is_one_of_two_threads_at_a_time() {
    explore(|| {
        let shared = side_by_side(Default::default(), &[take_a_turn, take_a_turn]);
        assert_eq!(shared.1.counted(), 2);
    });
}

#[test]
fn a_turn_is_one_of_three_threads_at_a_time() {
    explore_within(Some(5), || {
        let shared = side_by_side(Default::default(), &[take_a_turn, take_a_turn, take_a_turn]);
        assert_eq!(shared.1.counted(), 3);
    });
}

#[test]
fn a_wait_for_a_turn_that_is_dropped_costs_nobody_else_the_wake_up() {
    explore_within(Some(5), || {
        let turn = Turn::default();
        let mine = Mutex::new(Some(block_on(turn.take())));
        side_by_side(
            (turn, mine),
            &[
                |(_, mine)| drop(mine.lock().unwrap().take()),
                |(turn, _)| drop(begin_and_drop(turn.take())),
                |(turn, _)| drop(block_on(turn.take())),
            ],
        );
    });
}

#[test]
fn a_turn_lasts_until_the_kernel_lets_go_of_its_share() {
    explore(|| {
        let turn = Turn::default();
        let mine = block_on(turn.take());
        let kernels = Mutex::new(Some(Arc::clone(&mine)));
        let mine: Mutex<Option<TurnGuard>> = Mutex::new(Some(mine));
        side_by_side(
            (turn, mine, kernels, AtomicBool::new(false)),
            &[
                |(_, mine, _, _)| drop(mine.lock().unwrap().take()),
                |(_, _, kernels, landed)| {
                    landed.store(true, Ordering::Release);
                    drop(kernels.lock().unwrap().take());
                },
                |(turn, _, _, landed)| {
                    let _guard = block_on(turn.take());
                    assert!(landed.load(Ordering::Acquire), "the operation is over");
                },
            ],
        );
    });
}

/// A gate, who has closed it, and how many are inside.
type Gated = (Gate, Alone, AtomicUsize);

fn close((gate, alone, inside): &Gated) {
    let closed = block_on(gate.close());
    assert_eq!(inside.load(Ordering::Relaxed), 0);
    alone.count();
    drop(closed);
}

#[test]
fn nobody_is_inside_a_closed_gate() {
    explore(|| {
        let enter: fn(&Gated) = |(gate, _, inside)| {
            let permit = block_on(gate.enter()).expect("it is not shut");
            inside.fetch_add(1, Ordering::Relaxed);
            inside.fetch_sub(1, Ordering::Relaxed);
            drop(permit);
        };
        assert!(side_by_side(Default::default(), &[enter, close]).0.is_free());
    });
}

#[test]
fn a_gate_is_closed_by_one_thread_at_a_time() {
    explore(|| assert_eq!(side_by_side(Default::default(), &[close, close]).1.counted(), 2));
}

#[test]
fn a_close_that_is_dropped_opens_the_gate_again() {
    explore_within(Some(5), || {
        let gate = Gate::default();
        let inside = Mutex::new(block_on(gate.enter()));
        let shared = side_by_side(
            (gate, inside),
            &[
                |(gate, _)| drop(begin_and_drop(gate.close())),
                |(_, inside)| drop(inside.lock().unwrap().take()),
                |(gate, _)| drop(block_on(gate.enter()).expect("it is not shut")),
            ],
        );
        assert!(shared.0.is_free());
    });
}

#[test]
fn whoever_waits_at_a_gate_that_is_shut_is_told() {
    explore(|| {
        let gate = Gate::default();
        let closed = Mutex::new(Some(block_on(gate.close())));
        side_by_side(
            (gate, closed),
            &[
                |(gate, closed)| {
                    gate.shut();
                    drop(closed.lock().unwrap().take());
                },
                |(gate, _)| assert!(block_on(gate.enter()).is_none(), "shut before it was opened"),
            ],
        );
    });
}

/// Ranges, and who holds one of their two borders.
type Bordered = (RangeLocks, Alone, Alone);

fn hold_low((ranges, low, _): &Bordered) {
    let _held = block_on(ranges.hold(0..=1));
    low.count();
}

fn hold_middle((ranges, low, high): &Bordered) {
    let _held = block_on(ranges.hold(1..=2));
    low.count();
    high.count();
}

fn hold_high((ranges, _, high): &Bordered) {
    let _held = block_on(ranges.hold(2..=3));
    high.count();
}

#[test]
fn two_ranges_that_overlap_are_held_one_at_a_time() {
    explore(|| {
        let shared = side_by_side(Default::default(), &[hold_low, hold_middle]);
        assert_eq!(shared.1.counted(), 2);
        assert!(shared.0.is_free());
    });
}

#[test]
fn three_ranges_that_overlap_are_held_one_at_a_time() {
    explore_within(Some(5), || {
        let shared = side_by_side(Default::default(), &[hold_low, hold_middle, hold_high]);
        assert_eq!((shared.1.counted(), shared.2.counted()), (2, 2));
        assert!(shared.0.is_free());
    });
}

#[test]
fn a_write_waits_for_the_stray_below_it() {
    explore(|| {
        let strays = Strays::new(Arc::default());
        let write = block_on(strays.begin(0..10));
        let kernels = Mutex::new(Some(write.held()));
        let shared = side_by_side(
            (strays, kernels, AtomicBool::new(false)),
            &[
                |(_, kernels, landed)| {
                    landed.store(true, Ordering::Release);
                    drop(kernels.lock().unwrap().take());
                },
                {
                    // Its future was dropped before anybody else wrote.
                    drop(write);
                    |(strays, _, landed)| {
                        block_on(strays.begin(5..6)).done();
                        assert!(landed.load(Ordering::Acquire), "the stray has landed");
                    }
                },
            ],
        );
        assert!(shared.0.is_empty());
    });
}

#[test]
fn a_write_that_is_dropped_as_it_ends_leaves_no_stray() {
    explore(|| {
        let strays = Strays::new(Arc::default());
        let write = block_on(strays.begin(0..10));
        let kernels = Mutex::new(Some(write.held()));
        let write = Mutex::new(Some(write));
        let shared = side_by_side(
            (strays, kernels, write),
            &[
                |(_, kernels, _)| drop(kernels.lock().unwrap().take()),
                |(_, _, write)| drop(write.lock().unwrap().take()),
                |(strays, _, _)| block_on(strays.begin(0..1)).done(),
            ],
        );
        assert!(shared.0.is_empty());
    });
}
