//! Point 5: an entry is seen when it is published, and waits in its slice's queue until the file has it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use super::*;
use crate::cache::updates::Attempt;
use crate::cache::{Amount, EntryRun, Promise};
use crate::units::FlushNumber;

fn run(start: usize, count: usize, first: u64) -> EntryRun {
    EntryRun { start, count, first, stride: 10 }
}

fn entries(slice: &Slice<'_>) -> Vec<u64> {
    (0..slice.len()).map(|index| slice.entry(index)).collect()
}

/// A slice that can be updated.
fn wide(cache: &TableCache, value: u64) -> Pinned {
    let slice = read_in(cache, l2(0), value);
    cache.unpack(&slice);
    slice
}

/// All that waits and needs no flush.
fn attempt(slice: &Pinned) -> Attempt {
    slice.updates().attempt(FlushNumber::NONE)
}

#[test]
fn queued_entries_are_invisible_until_the_file_has_them() {
    let cache = room_for(4);
    let pinned = wide(&cache, 1);
    let queued = pinned.enqueue(run(2, 3, 100));
    let attempt = attempt(&pinned);
    assert_eq!(attempt.runs, [run(2, 3, 100)]);
    assert_eq!(pinned.look(entries), [1; ENTRIES]);
    assert_eq!(pinned.settle(&attempt), Amount::default());
    assert_eq!(pinned.look(entries), [1, 1, 100, 110, 120, 1, 1, 1]);
    assert_eq!(cache.find(l2(0), entries), Some(pinned.look(entries)));
    assert!(queued.is_settled());
}

#[test]
fn promised_entries_are_seen_at_once_and_are_not_in_the_file() {
    let cache = room_for(4);
    let pinned = wide(&cache, 1);
    pinned.promise(run(2, 3, 100), Promise { after: FlushNumber(7), bytes: 512 });
    pinned.promise(run(0, 1, 5), Promise { after: FlushNumber::NONE, bytes: 0 });
    assert_eq!(pinned.look(entries), [5, 1, 100, 110, 120, 1, 1, 1]);
    assert_eq!(pinned.in_file(0..ENTRIES), [1; ENTRIES]);
    assert!(pinned.updates().owes() && !pinned.updates().unsettled());
    assert_eq!(pinned.updates().promised(), Amount { entries: 4, bytes: 512 });
    assert_eq!(pinned.updates().waits_for(), FlushNumber(7));
    let early = pinned.updates().attempt(FlushNumber(6));
    assert_eq!(early.runs, [run(0, 1, 5)], "the others wait for the flush of their data");
    assert_eq!(pinned.settle(&early), Amount { entries: 1, bytes: 0 });
    assert_eq!(pinned.in_file(0..ENTRIES), [5, 1, 1, 1, 1, 1, 1, 1]);
    let all = pinned.updates().attempt(FlushNumber(7));
    assert_eq!(pinned.settle(&all), Amount { entries: 3, bytes: 512 });
    assert_eq!(pinned.in_file(0..ENTRIES), pinned.look(entries));
    assert!(pinned.updates().is_empty());
}

#[test]
fn a_promised_entry_waits_for_a_later_flush_when_it_is_told_to() {
    let cache = room_for(4);
    let pinned = wide(&cache, 0);
    pinned.promise(run(0, 1, 5), Promise { after: FlushNumber(1), bytes: 0 });
    pinned.promise(run(1, 1, 6), Promise { after: FlushNumber(1), bytes: 0 });
    assert_eq!(pinned.updates().unattempted(), [(0, 5), (1, 6)]);
    pinned.updates().wait_for(0, FlushNumber(2));
    assert_eq!(pinned.updates().attempt(FlushNumber(1)).runs, [run(1, 1, 6)]);
    assert_eq!(pinned.updates().unattempted(), [(0, 5)]);
    assert_eq!(pinned.updates().attempt(FlushNumber(2)).runs, [run(0, 1, 5), run(1, 1, 6)]);
}

#[test]
fn what_falls_into_one_slice_goes_out_together_and_in_order() {
    let cache = room_for(1);
    let slice = wide(&cache, 0);
    let queued: Vec<_> = (0..3).map(|i| slice.enqueue(run(i, 1, i as u64))).collect();
    let first = attempt(&slice);
    assert_eq!(first.runs, [run(0, 1, 0), run(1, 1, 1), run(2, 1, 2)]);
    let late = slice.enqueue(run(3, 1, 3));
    slice.settle(&first);
    assert!(queued.iter().all(|queued| queued.is_settled()) && !late.is_settled());
    assert_eq!(attempt(&slice).runs, [run(3, 1, 3)]);
}

#[test]
fn entries_that_no_write_was_begun_with_go_with_their_request() {
    let cache = room_for(1);
    let slice = wide(&cache, 0);
    let (dropped, kept) = (slice.enqueue(run(0, 1, 1)), slice.enqueue(run(1, 1, 2)));
    drop(dropped);
    assert!(!slice.updates().unsettled());
    assert_eq!(attempt(&slice).runs, [run(1, 1, 2)]);
    drop(kept);
}

#[test]
fn entries_that_the_file_may_have_stay_until_it_has_them() {
    let cache = room_for(1);
    let slice = wide(&cache, 0);
    let queued = slice.enqueue(run(0, 1, 1));
    assert_eq!(attempt(&slice).runs.len(), 1);
    drop(queued);
    assert!(slice.updates().unsettled());
    let again = attempt(&slice);
    assert_eq!(again.runs, [run(0, 1, 1)], "once more, with the next write");
    slice.settle(&again);
    assert!(!slice.updates().unsettled());
}

/// An entry is written after the data that it names: whoever reads the entry reads the data.
#[test]
fn a_reader_that_sees_an_entry_sees_what_came_before_it() {
    for _ in 0..200 {
        let cache = room_for(1);
        let data = AtomicBool::new(false);
        let pinned = wide(&cache, 0);
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
    let cache = room_for(1);
    let slice = wide(&cache, 0);
    let attempted = slice.enqueue(run(2, 3, 1));
    assert_eq!(attempt(&slice).runs.len(), 1);
    drop(attempted);
    let waiting = slice.enqueue(run(6, 1, 1));
    let is_found = |from, to| slice.updates().unsettled_in(&(from..to));
    assert!(is_found(0, 3) && is_found(3, 4) && is_found(4, 8) && is_found(0, 8));
    assert!(!is_found(0, 2) && !is_found(5, 8), "no write was begun with what waits there");
    drop(waiting);
}
