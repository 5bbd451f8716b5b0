//! What model checkers hold the engine against. Built by `cargo xtask models` alone, once for each checker.
//!
//! | checker | where | what |
//! | --- | --- | --- |
//! | loom | `kernels/`, `cache/models/kernels.rs` | every interleaving of one small piece, with stale reads where the orderings allow them |
//! | shuttle | `schedules/`, `cache/models/schedules.rs` | very many interleavings of the whole cache, and of the whole engine over a file whose operations end when they like |
//!
//! Invariant: a model that does not come to its end is a failure that the checker tells: nobody waits for a wake-up that
//! is lost.
//!
//! Absent on purpose: power failures and failing storage. The simulator has those, on one thread.

#[cfg(quod_loom)]
pub(crate) mod kernels;
#[cfg(quod_shuttle)]
pub(crate) mod schedules;

use std::cell::Cell;
use std::sync::Once;

thread_local!(static RUNS: Cell<u64> = const { Cell::new(0) });

/// Goes through a model, and tells in one line how many runs that were. Each run calls [`begin`]. A failure tells the number
/// of the run, and ends the process.
pub(crate) fn tell(what: &str, check: impl FnOnce()) {
    static TELL_FAILURES: Once = Once::new();
    TELL_FAILURES.call_once(|| {
        let hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            // The first panic of a model is the failure. What a checker makes of it afterwards may hang or abort; and the
            // small stacks that models run on have no room for a backtrace.
            if RUNS.get() > 0 {
                println!("\n{panic}\nmodel: failed in run {}", RUNS.get());
                std::process::exit(101);
            }
            hook(panic);
        }));
    });
    check();
    println!("\nmodel: clean in {} {what}", RUNS.take());
}

/// One more run begins.
pub(crate) fn begin() {
    RUNS.set(RUNS.get() + 1);
}
