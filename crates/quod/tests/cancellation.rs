//! Requests whose future is dropped while the storage still works on an operation of theirs (D13).

mod common;

use std::path::Path;

use common::backing::Backing;
use common::gate::{Gate, GateOpener, Gated, Kind, Waiting};
use common::task::Task;
use common::*;
use quod::{Fua, Image, Room, block_on};
use quod_storage::Buffer;

/// How many copies from below may be in memory.
const COPIES: usize = 64;

/// A disk of 8 MiB whose first table is linked and whose NEED_CHECK is set, with the gate shut.
fn busy_disk(backing: Backing) -> (GateOpener, Image<Gated>) {
    let opener = GateOpener::new();
    let below = backing.make(&opener.plain, 0);
    let image = fresh(&opener, Path::new(DISK), Shape::small(8 << 20), below);
    write(&image, 4096, &[1; 4096]);
    opener.gate.shut();
    (opener, image)
}

fn write_later<'a>(image: &'a Image<Gated>, at: u64, byte: u8) -> Task<'a, quod::Result<Buffer>> {
    Task::blocked(image.write(at, Buffer::copy_of(&[byte; 512]), Fua::No))
}

/// Lets everything end that the task waits for.
fn finish<T>(gate: &Gate, task: &mut Task<'_, T>) -> T {
    for _ in 0..1000 {
        if let Some(outcome) = task.step() {
            return outcome;
        }
        if !task.is_woken() {
            assert!(gate.release_all(), "a request waits for nothing that is in flight");
        }
    }
    panic!("a request does not end");
}

/// Lets operations of the task end until one of that kind is in flight.
#[track_caller]
fn advance<T>(gate: &Gate, task: &mut Task<'_, T>, kind: Kind) -> Waiting {
    for _ in 0..100 {
        match gate.waiting().as_slice() {
            [op] if op.kind == kind => return *op,
            _ => gate.release_all(),
        };
        assert!(task.step().is_none(), "the request ended before");
    }
    panic!("a request without a {kind:?}");
}

/// Closes what had requests dropped: leaks are allowed, corruption is not.
fn close_and_check(opener: &GateOpener, image: &Image<Gated>) {
    opener.gate.open();
    block_on(image.close()).expect("a close");
    let report = report(opener, Path::new(DISK));
    assert_eq!(report.corruptions, 0, "{report:?}");
    assert!(!is_dirty(&opener.plain.file(Path::new(DISK))));
}

#[test]
fn a_cluster_stays_held_until_a_dropped_first_write_has_landed() {
    for backing in [Backing::None, Backing::Raw(8 << 20)] {
        let (opener, image) = busy_disk(backing);
        let mut dropped = write_later(&image, 0, 2);
        let data = advance(&opener.gate, &mut dropped, Kind::Write);
        drop(dropped);
        // The next writer of the cluster waits; one of another cluster does not.
        let mut next = write_later(&image, 512, 3);
        assert_eq!(opener.gate.waiting(), [data], "the cluster is held");
        let other = write_later(&image, 16384, 4);
        assert_eq!(opener.gate.waiting().len(), 2, "another cluster is free");
        drop(other);
        opener.gate.release(data.id);
        assert!(next.is_woken(), "the successor is woken when the kernel lets go");
        finish(&opener.gate, &mut next).unwrap();
        drop(next);
        close_and_check(&opener, &image);
        let image = open(&opener, Path::new(DISK), quod_storage::Access::Read);
        assert_same(&read(&image, 512, 512), &[3; 512], "the successor's bytes");
    }
}

#[test]
fn a_dropped_table_write_keeps_its_slice_until_it_has_landed() {
    let (opener, image) = busy_disk(Backing::None);
    let mut dropped = write_later(&image, 0, 2);
    opener.gate.release(opener.gate.only(Kind::Write).id);
    assert!(dropped.step().is_none());
    let entry = opener.gate.only(Kind::Write);
    drop(dropped);
    let mut next = write_later(&image, 8192, 3);
    while !next.is_woken() {
        let Some(own) = opener.gate.waiting().into_iter().find(|op| op.id != entry.id) else { break };
        opener.gate.release(own.id);
        assert!(next.step().is_none());
    }
    assert_eq!(opener.gate.waiting(), [entry], "one write of a slice at a time, dropped or not");
    opener.gate.release(entry.id);
    finish(&opener.gate, &mut next).unwrap();
    drop(next);
    close_and_check(&opener, &image);
    let image = open(&opener, Path::new(DISK), quod_storage::Access::Read);
    assert_same(&read(&image, 8192, 512), &[3; 512], "the successor's bytes");
}

#[test]
fn a_dropped_flush_is_repeated_by_whoever_needs_it() {
    let (opener, image) = busy_disk(Backing::None);
    let leader = Task::blocked(image.flush());
    let flight = opener.gate.only(Kind::Flush);
    let mut follower = Task::blocked(image.flush());
    drop(leader);
    assert!(follower.step().is_none());
    assert_eq!(opener.gate.waiting(), [flight], "the follower waits for the leader's flush");
    opener.gate.release(flight.id);
    assert!(follower.is_woken(), "no stranded follower");
    assert!(follower.step().is_none(), "nobody saw whether the leader's flush succeeded");
    opener.gate.release(opener.gate.only(Kind::Flush).id);
    follower.step().expect("the repeated flush is over").unwrap();
}

#[test]
fn a_dropped_load_lets_another_reader_try() {
    let (opener, image) = busy_disk(Backing::None);
    opener.gate.open();
    block_on(image.close()).unwrap();
    let image = open(&opener, Path::new(DISK), quod_storage::Access::Read);
    opener.gate.shut();
    let loader = Task::blocked(image.read(4096, Buffer::zeroed(512)));
    let load = opener.gate.only(Kind::Read);
    let mut waiter = Task::blocked(image.read(4608, Buffer::zeroed(512)));
    assert_eq!(opener.gate.waiting(), [load], "one load for both");
    drop(loader);
    assert!(waiter.is_woken(), "the waiter is not stranded");
    let back = finish(&opener.gate, &mut waiter).unwrap();
    assert_same(&back, &[1; 512], "what the waiter reads");
}

#[test]
fn a_dropped_write_in_place_never_overwrites_a_later_one() {
    let (opener, image) = busy_disk(Backing::None);
    let dropped = write_later(&image, 4096, 2);
    let stray = opener.gate.only(Kind::Write);
    drop(dropped);
    let mut next = write_later(&image, 4096, 3);
    opener
        .gate
        .waiting()
        .into_iter()
        .filter(|op| op.id != stray.id)
        .for_each(|op| opener.gate.release(op.id));
    next.step();
    opener.gate.release(stray.id);
    if !next.is_done() {
        finish(&opener.gate, &mut next).unwrap();
    }
    opener.gate.open();
    assert_same(&read(&image, 4096, 512), &[3; 512], "the later write");
}

#[test]
fn a_close_waits_until_a_dropped_write_in_place_has_landed() {
    let (opener, image) = busy_disk(Backing::None);
    drop(write_later(&image, 4096, 2));
    let stray = opener.gate.only(Kind::Write);
    let mut closing = Task::blocked(image.close());
    assert_eq!(opener.gate.waiting(), [stray], "the close has not begun");
    opener.gate.release(stray.id);
    finish(&opener.gate, &mut closing).expect("a close");
}

#[test]
fn a_close_makes_durable_what_a_dropped_write_in_place_has_brought_to_the_file() {
    let (opener, image) = busy_disk(Backing::Raw(8 << 20));
    opener.gate.open();
    block_on(image.flush()).expect("a flush");
    opener.gate.shut();
    drop(write_later(&image, 4096, 2));
    opener.gate.release_all();
    let mut closing = Task::blocked(image.close());
    advance(&opener.gate, &mut closing, Kind::Flush);
    finish(&opener.gate, &mut closing).expect("a close");
}

#[test]
fn a_close_cuts_off_what_a_dropped_first_write_has_made_the_file_longer_by() {
    let opener = GateOpener::new();
    let image = fresh(&opener, Path::new(DISK), Shape::small(8 << 20), None);
    let file = opener.plain.file(Path::new(DISK));
    let long = length(&file);
    opener.gate.shut();
    let mut dropped = write_later(&image, 0, 1);
    let longer = advance(&opener.gate, &mut dropped, Kind::SetLen);
    drop(dropped);
    let mut closing = Task::blocked(image.close());
    assert_eq!(opener.gate.waiting(), [longer], "the close waits until it has landed");
    opener.gate.release(longer.id);
    assert!(length(&file) > long, "it lands late");
    finish(&opener.gate, &mut closing).expect("a close");
    assert_eq!(length(&file), long, "nothing is referenced there");
    opener.gate.open();
    assert_clean(&opener, Path::new(DISK));
}

#[test]
fn a_cut_of_a_dropped_maintenance_takes_no_later_write_away() {
    let (opener, image) = busy_disk(Backing::None);
    opener.gate.open();
    block_on(image.maintain()).unwrap();
    opener.gate.shut();
    let mut maintenance = Task::blocked(image.maintain());
    let cut = advance(&opener.gate, &mut maintenance, Kind::SetLen);
    drop(maintenance);
    let mut next = write_later(&image, 8192, 2);
    let mut outcome = None;
    while let Some(other) = opener.gate.waiting().into_iter().find(|op| op.id != cut.id) {
        opener.gate.release(other.id);
        outcome = outcome.or_else(|| next.step());
    }
    opener.gate.release(cut.id);
    outcome.unwrap_or_else(|| finish(&opener.gate, &mut next)).unwrap();
    opener.gate.open();
    assert_same(&read(&image, 8192, 512), &[2; 512], "what completed");
}

#[test]
fn nobody_writes_the_header_beside_a_dropped_grow() {
    let opener = GateOpener::new();
    let image = fresh(&opener, Path::new(DISK), Shape::small(8 << 20), None);
    opener.gate.shut();
    let mut dropped = Task::blocked(image.grow(16 << 20));
    let header = advance(&opener.gate, &mut dropped, Kind::Write);
    assert_eq!(header.at, 0);
    drop(dropped);
    let mut next = write_later(&image, 0, 2);
    assert_eq!(opener.gate.waiting(), [header], "NEED_CHECK waits for the size");
    opener.gate.release(header.id);
    finish(&opener.gate, &mut next).unwrap();
    drop(next);
    close_and_check(&opener, &image);
}

#[test]
fn copies_from_below_keep_their_part_of_the_budget_until_they_have_landed() {
    let (opener, image) = busy_disk(Backing::Raw(8 << 20));
    // One copy in memory for each of a mebibyte.
    let mut copies = Vec::new();
    // Where the backing file has a hole, nothing is copied.
    let below = Backing::Raw(8 << 20).window(0, 2 << 20);
    let is_copied = |at: &usize| below[at + 512..][..4096 - 512].iter().any(|&byte| byte != 0);
    let mut places = (1 << 20..2 << 20).step_by(4096).filter(is_copied).map(|at| at as u64);
    for at in places.by_ref().take(COPIES) {
        let mut dropped = Task::start(image.write(at, Buffer::copy_of(&[2; 512]), Fua::No)).0;
        copies.push(loop {
            let mut others = opener.gate.waiting().into_iter().filter(|op| !copies.contains(op));
            match others.next().expect("the budget has room for this one") {
                op if op.kind == Kind::Write => break op,
                op => opener.gate.release(op.id),
            }
            assert!(dropped.step().is_none());
        });
    }
    assert_eq!(copies.len(), COPIES);
    let mut next = write_later(&image, places.next().expect("one more"), 3);
    while let Some(op) = opener.gate.waiting().into_iter().find(|op| op.kind == Kind::SetLen) {
        opener.gate.release(op.id);
        assert!(next.step().is_none());
    }
    assert_eq!(opener.gate.waiting(), copies, "the next one reads nothing yet");
    opener.gate.release(copies[0].id);
    assert!(next.is_woken(), "one has landed");
    finish(&opener.gate, &mut next).unwrap();
}

#[test]
fn need_check_is_set_once_more_after_a_dropped_first_write() {
    let opener = GateOpener::new();
    let image = fresh(&opener, Path::new(DISK), Shape::small(8 << 20), None);
    opener.gate.shut();
    let mut dropped = write_later(&image, 0, 1);
    let header = advance(&opener.gate, &mut dropped, Kind::Write);
    assert_eq!(header.at, 0);
    drop(dropped);
    let mut next = write_later(&image, 0, 2);
    assert_eq!(opener.gate.waiting(), [header], "the header has one writer at a time");
    opener.gate.release(header.id);
    assert!(next.step().is_none());
    assert_eq!(opener.gate.only(Kind::Write).at, 0, "nobody saw the header written: again");
    finish(&opener.gate, &mut next).unwrap();
    drop(next);
    close_and_check(&opener, &image);
}

#[test]
fn a_close_clears_what_a_dropped_first_write_has_set() {
    for stage in [Kind::Write, Kind::Flush] {
        let opener = GateOpener::new();
        let image = fresh(&opener, Path::new(DISK), Shape::small(8 << 20), None);
        opener.gate.shut();
        let mut dropped = write_later(&image, 0, 1);
        let operation = advance(&opener.gate, &mut dropped, stage);
        drop(dropped);
        opener.gate.release(operation.id);
        assert!(is_dirty(&opener.plain.file(Path::new(DISK))), "the bit has landed");
        close_and_check(&opener, &image);
    }
}

#[test]
fn a_dropped_maintenance_leaves_a_disk_that_sets_need_check_again() {
    let (opener, image) = busy_disk(Backing::None);
    opener.gate.open();
    block_on(image.maintain()).unwrap();
    opener.gate.shut();
    let mut maintenance = Task::blocked(image.maintain());
    let header = advance(&opener.gate, &mut maintenance, Kind::Write);
    drop(maintenance);
    let mut next = write_later(&image, 8192, 2);
    assert_eq!(opener.gate.waiting(), [header], "the gate stays closed while the header is on its way");
    opener.gate.release(header.id);
    assert!(!is_dirty(&opener.plain.file(Path::new(DISK))));
    assert!(next.step().is_none());
    let again = opener.gate.only(Kind::Write);
    assert_eq!(again.at, 0, "the bit first");
    opener.gate.release(again.id);
    assert!(next.step().is_none());
    opener.gate.only(Kind::Flush);
    finish(&opener.gate, &mut next).unwrap();
    assert!(is_dirty(&opener.plain.file(Path::new(DISK))));
}

#[test]
fn a_cluster_keeps_its_place_when_a_dropped_write_is_settled_beside_a_new_one() {
    let (opener, image) = busy_disk(Backing::None);
    let gate = &opener.gate;
    // A write is dropped while its entry is on the way.
    let mut dropped = write_later(&image, 0, 2);
    gate.release(gate.only(Kind::Write).id);
    assert!(dropped.step().is_none());
    let entry = gate.only(Kind::Write);
    drop(dropped);
    gate.release(entry.id);
    // Another write sends the entry out again; meanwhile one comes for the same cluster.
    let mut other = write_later(&image, 8192, 5);
    let again = gate.only(Kind::Write);
    let mut second = write_later(&image, 512, 3);
    if let Some(data) = gate.waiting().into_iter().find(|op| op.id != again.id) {
        gate.release(data.id);
        assert!(second.step().is_none());
    }
    gate.release(again.id);
    other.step();
    // A third one finds the cluster allocated, and completes.
    gate.open();
    write(&image, 1024, &[4; 512]);
    finish(gate, &mut second).unwrap();
    finish(gate, &mut other).unwrap();
    assert_same(&read(&image, 512, 512), &[3; 512], "the second write");
    assert_same(&read(&image, 1024, 512), &[4; 512], "the third write");
    drop((second, other));
    close_and_check(&opener, &image);
}

#[test]
fn a_dropped_zero_write_leaves_old_bytes_or_zeroes() {
    let (opener, image) = busy_disk(Backing::Raw(8 << 20));
    let zeroes = Task::blocked(image.write_zeroes(0, 1 << 20, Room::GiveBack, Fua::No));
    drop(zeroes);
    opener.gate.release_all();
    opener.gate.open();
    let mut old = Backing::Raw(8 << 20).window(0, 1 << 20);
    old[4096..8192].fill(1);
    let now = read(&image, 0, 1 << 20);
    assert!(now.iter().zip(&old).all(|(now, old)| *now == 0 || now == old));
    close_and_check(&opener, &image);
}

#[test]
fn a_slice_that_a_dropped_write_has_left_behind_is_let_go_once_it_is_settled() {
    const TABLES: u64 = 40;
    for backing in [Backing::None, Backing::Raw(6001)] {
        let opener = GateOpener::new();
        let shape = Shape::small(128 << 20);
        let image = fresh(&opener, Path::new(DISK), shape, backing.make(&opener.plain, 0));
        for i in 0..TABLES {
            write(&image, i << 21, &[1; 4096]);
            let table = shape.l2(&opener.plain.file(Path::new(DISK)), i);
            opener.gate.shut();
            let mut dropped = write_later(&image, (i << 21) + 4096, 2);
            while !table.contains(&advance(&opener.gate, &mut dropped, Kind::Write).at) {
                opener.gate.release_all();
                assert!(dropped.step().is_none());
            }
            drop(dropped);
            opener.gate.open();
            write(&image, (i << 21) + 4096, &[3; 4096]);
        }
        assert_eq!(image.cache_stats().kept, 0, "{backing:?}");
    }
}
