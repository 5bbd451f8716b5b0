//! Point 5: an entry is seen when it is published, and waits in its slice's queue until the file has it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use super::*;
use crate::cache::EntryRun;

fn run(start: usize, count: usize, first: u64) -> EntryRun {
    EntryRun { start, count, first, stride: 10 }
}

fn entries(slice: &Slice) -> Vec<u64> {
    (0..slice.len()).map(|index| slice.entry(index)).collect()
}

#[test]
fn queued_entries_are_invisible_until_they_are_published() {
    let cache = room_for(4);
    let pinned = read_in(&cache, l2(0), 1);
    let queued = pinned.enqueue(run(2, 3, 100));
    assert_eq!(pinned.updates.attempt(), [run(2, 3, 100)]);
    assert_eq!(entries(&pinned), [1; ENTRIES]);
    pinned.publish(&run(2, 3, 100));
    assert_eq!(entries(&pinned), [1, 1, 100, 110, 120, 1, 1, 1]);
    assert_eq!(cache.find(l2(0), entries), Some(entries(&pinned)));
    pinned.updates.settle(1);
    assert!(queued.is_settled());
}

#[test]
fn what_falls_into_one_slice_goes_out_together_and_in_order() {
    let slice = slice(l2(0), 0);
    let queued: Vec<_> = (0..3).map(|i| slice.enqueue(run(i, 1, i as u64))).collect();
    assert_eq!(slice.updates.attempt(), [run(0, 1, 0), run(1, 1, 1), run(2, 1, 2)]);
    let late = slice.enqueue(run(3, 1, 3));
    slice.updates.settle(3);
    assert!(queued.iter().all(|queued| queued.is_settled()) && !late.is_settled());
    assert_eq!(slice.updates.attempt(), [run(3, 1, 3)]);
}

#[test]
fn entries_that_no_write_was_begun_with_go_with_their_request() {
    let slice = slice(l2(0), 0);
    let (dropped, kept) = (slice.enqueue(run(0, 1, 1)), slice.enqueue(run(1, 1, 2)));
    drop(dropped);
    assert!(!slice.updates.unsettled());
    assert_eq!(slice.updates.attempt(), [run(1, 1, 2)]);
    drop(kept);
}

#[test]
fn entries_that_the_file_may_have_stay_until_it_has_them() {
    let slice = slice(l2(0), 0);
    let queued = slice.enqueue(run(0, 1, 1));
    assert_eq!(slice.updates.attempt().len(), 1);
    drop(queued);
    assert!(slice.updates.unsettled());
    assert_eq!(slice.updates.attempt(), [run(0, 1, 1)], "once more, with the next write");
    slice.updates.settle(1);
    assert!(!slice.updates.unsettled());
}

/// An entry is written after the data that it names: whoever reads the entry reads the data.
#[test]
fn a_reader_that_sees_an_entry_sees_what_came_before_it() {
    for _ in 0..200 {
        let cache = room_for(1);
        let data = AtomicBool::new(false);
        let pinned = read_in(&cache, l2(0), 0);
        thread::scope(|scope| {
            scope.spawn(|| {
                while found(&cache, l2(0)) != Some(7) {
                    std::hint::spin_loop();
                }
                assert!(data.load(Ordering::Relaxed));
            });
            data.store(true, Ordering::Relaxed);
            pinned.publish(&run(0, 1, 7));
        });
    }
}

#[test]
fn entries_that_the_file_may_have_are_found_by_their_place() {
    let slice = slice(l2(0), 0);
    let attempted = slice.enqueue(run(2, 3, 1));
    assert_eq!(slice.updates.attempt().len(), 1);
    drop(attempted);
    let waiting = slice.enqueue(run(6, 1, 1));
    let is_found = |from, to| slice.updates.attempted_in(&(from..to));
    assert!(is_found(0, 3) && is_found(3, 4) && is_found(4, 8) && is_found(0, 8));
    assert!(!is_found(0, 2) && !is_found(5, 8), "no write was begun with what waits there");
    drop(waiting);
}
