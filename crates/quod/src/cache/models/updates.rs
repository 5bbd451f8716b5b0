//! Entries on their way to the file, in every interleaving of who queues, writes and promises them.

use super::super::{EntryRun, Kept, Pinned, Promise, TableCache};
use super::one_slice;
use crate::models::kernels::{block_on, explore, side_by_side};
use crate::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use crate::units::FlushNumber;

struct Written {
    slice: Pinned,
    _cache: TableCache,
    in_file: AtomicU64,
    writes: AtomicUsize,
}

impl Written {
    fn new() -> Self {
        let (cache, slice) = one_slice(2);
        Written { slice, _cache: cache, in_file: AtomicU64::new(0), writes: AtomicUsize::new(0) }
    }

    /// As `commit.rs` does: whoever has the turn writes all that waits.
    fn update(&self, place: usize) {
        let run = EntryRun { start: place, count: 1, first: 1 + place as u64, stride: 0 };
        let mine = self.slice.enqueue(run);
        let turn = block_on(self.slice.take_turn());
        if !mine.is_settled() {
            self.write();
        }
        drop(turn);
        assert!(mine.is_settled());
        assert_eq!(self.slice.entry(place), run.first, "published");
        assert_ne!(self.in_file.load(Ordering::Relaxed) & 1 << place, 0, "and in the file before");
    }

    fn write(&self) {
        let attempt = self.slice.updates().attempt(FlushNumber::NONE);
        for run in &attempt.runs {
            let in_file = self.in_file.load(Ordering::Relaxed);
            self.in_file.store(in_file | 1 << run.start, Ordering::Relaxed);
        }
        self.writes.fetch_add(1, Ordering::Relaxed);
        self.slice.settle(&attempt);
    }
}

#[test]
fn what_waits_for_one_slice_goes_out_whole_and_once() {
    explore(|| {
        let written =
            side_by_side(Written::new(), &[|written| written.update(0), |written| written.update(1)]);
        assert!(written.slice.updates().is_empty() && !written.slice.updates().unsettled());
        assert!(written.writes.load(Ordering::Relaxed) <= 2);
    });
}

#[test]
fn entries_of_a_dropped_request_are_taken_back_unless_somebody_tried_to_write_them() {
    explore(|| {
        let written = side_by_side(
            Written::new(),
            &[
                |written| written.update(0),
                |written| drop(written.slice.enqueue(EntryRun { start: 1, count: 1, first: 2, stride: 0 })),
            ],
        );
        assert!(written.slice.updates().is_empty(), "either way nothing is left");
        let in_file = written.in_file.load(Ordering::Relaxed) & 2 != 0;
        assert_eq!(in_file, written.slice.entry(1) == 2, "what went out was published");
    });
}

#[test]
fn entries_that_a_failed_write_may_have_brought_to_the_file_stay() {
    explore(|| {
        let written = side_by_side(
            Written::new(),
            &[
                |written| {
                    let mine = written.slice.enqueue(EntryRun { start: 1, count: 1, first: 2, stride: 0 });
                    let turn = block_on(written.slice.take_turn());
                    if !mine.is_settled() {
                        // The write fails: nothing is published, nothing settled.
                        written.slice.updates().attempt(FlushNumber::NONE);
                    }
                    drop(turn);
                    drop(mine);
                },
                |written| written.update(0),
            ],
        );
        if written.slice.updates().unsettled() {
            assert!(written.slice.updates().may_have_brought(1, 2));
            written.write();
        }
        assert_eq!(written.slice.entry(1), 2);
        assert!(written.slice.updates().is_empty());
    });
}

#[test]
fn whoever_sees_a_promised_entry_finds_its_slice_kept() {
    explore(|| {
        let (_cache, slice) = one_slice(2);
        side_by_side(
            (Kept::default(), slice),
            &[
                |(kept, slice)| {
                    let run = EntryRun { start: 1, count: 1, first: 7, stride: 0 };
                    kept.promise(slice, run, Promise { after: FlushNumber::NONE, bytes: 0 });
                },
                |(kept, slice)| {
                    if slice.entry(1) == 7 {
                        let is_kept = !kept.is_empty();
                        assert!(is_kept || slice.updates().is_empty(), "a batch finds it, or has found it");
                    }
                },
                |(kept, slice)| {
                    let attempt = slice.updates().attempt(FlushNumber::NONE);
                    if slice.settle(&attempt).entries > 0 {
                        kept.let_go(slice);
                        assert!(kept.is_empty() && slice.updates().is_empty(), "nothing is owed any more");
                    }
                },
            ],
        );
    });
}
