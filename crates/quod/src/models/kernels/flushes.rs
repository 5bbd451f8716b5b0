//! Flushes: one is skipped only when it is not owed (D8), and none succeeds after one has failed (D10).

use quod_storage::Held;

use super::disk::Disk;
use super::{begin_and_drop, block_on, explore, explore_within, side_by_side};
use crate::error::ErrorKind;
use crate::flush::Flusher;
use crate::sync::atomic::Ordering;

type Shared = (Flusher, Disk);

fn write<const NUMBER: usize>((flusher, disk): &Shared) {
    disk.write(NUMBER);
    flusher.wrote();
}

fn flush((flusher, disk): &Shared) {
    block_on(flusher.flush(disk, &Held::NOTHING)).expect("nothing fails here");
}

fn write_and_flush<const NUMBER: usize>(shared: &Shared) {
    write::<NUMBER>(shared);
    flush(shared);
    assert!(shared.1.is_durable(NUMBER), "the flush covers the write before it");
}

#[test]
fn the_first_flush_of_two_covers_what_both_wrote() {
    explore(|| {
        side_by_side(Shared::default(), &[write_and_flush::<0>, write_and_flush::<1>]);
    });
}

#[test]
fn a_flush_is_skipped_only_when_another_covers_it() {
    explore(|| {
        let shared = Shared::default();
        // An earlier flush, and a write after it that nobody has flushed: its mark is there for others to lean on.
        flush(&shared);
        write::<0>(&shared);
        let shared = side_by_side(shared, &[flush, write_and_flush::<1>]);
        assert!(shared.1.is_durable(0));
        let flushes = shared.1.flushes.load(Ordering::Acquire);
        flush(&shared);
        flush(&shared);
        assert!(
            shared.1.flushes.load(Ordering::Acquire) <= flushes + 1,
            "nothing is owed after the next one"
        );
    });
}

#[test]
fn two_writers_and_a_flusher_owe_each_other_nothing() {
    explore(|| {
        let shared = Shared::default();
        flush(&shared);
        write::<2>(&shared);
        side_by_side(shared, &[write_and_flush::<0>, write_and_flush::<1>]);
    });
}

#[test]
fn a_flush_whose_future_was_dropped_is_waited_for_and_trusted_by_nobody() {
    explore_within(Some(5), || {
        let shared = Shared::default();
        shared.1.holding.store(1, Ordering::Release);
        side_by_side(
            shared,
            &[
                |shared| {
                    write::<0>(shared);
                    let (flusher, disk) = shared;
                    let outcome = begin_and_drop(flusher.flush(disk, &Held::NOTHING));
                    disk.let_end();
                    drop(outcome);
                },
                |shared| {
                    write::<1>(shared);
                    let (flusher, disk) = shared;
                    let outcome = begin_and_drop(flusher.flush(disk, &Held::NOTHING));
                    disk.let_end();
                    drop(outcome);
                    write_and_flush::<2>(shared);
                    assert!(disk.is_durable(1));
                },
            ],
        );
    });
}

#[test]
fn after_a_failed_flush_none_is_begun() {
    explore(|| {
        let shared = Shared::default();
        shared.1.failing.store(1, Ordering::Release);
        let fail: fn(&Shared) = |shared| {
            write::<0>(shared);
            let error = block_on(shared.0.flush(&shared.1, &Held::NOTHING)).expect_err("it failed");
            assert!(matches!(error.kind(), ErrorKind::Io | ErrorKind::Latched));
            assert_eq!(shared.0.check().expect_err("closed for writing").kind(), ErrorKind::Latched);
        };
        let shared = side_by_side(shared, &[fail, fail]);
        assert_eq!(shared.1.flushes.load(Ordering::Acquire), 1);
    });
}
