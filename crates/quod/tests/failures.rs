//! What failing storage may do to an image (D10).

mod common;

use std::io::ErrorKind::{Other, QuotaExceeded, StorageFull};
use std::path::Path;

use common::backing::Backing;
use common::gate::{GateOpener, Kind};
use common::probe::{Op, Probe, ProbeOpener};
use common::task::Task;
use common::*;
use quod::{ErrorKind, Fua, Image, Room, block_on};
use quod_storage::{Access, Buffer};

const SHAPE: Shape = Shape::small(8 << 20);

/// A disk with one cluster written, and where its table lies.
fn disk(backing: Backing) -> (ProbeOpener, Image<Probe>, std::ops::Range<u64>) {
    let opener = ProbeOpener::default();
    let below = backing.make(&opener.plain, 0);
    let image = fresh(&opener, Path::new(DISK), SHAPE, below);
    write(&image, 0, &[1; 4096]);
    let table = SHAPE.l2(&opener.plain.file(Path::new(DISK)), 0);
    (opener, image, table)
}

fn try_write(image: &Image<Probe>, at: u64, byte: u8) -> Result<(), ErrorKind> {
    block_on(image.write(at, Buffer::copy_of(&[byte; 4096]), Fua::No)).map(drop).map_err(|error| error.kind())
}

fn assert_latched(opener: &ProbeOpener, image: &Image<Probe>) {
    opener.record(DISK).heal();
    opener.record(DISK).take();
    assert_eq!(try_write(image, 0, 9), Err(ErrorKind::Latched), "in place");
    assert_eq!(try_write(image, 1 << 20, 9), Err(ErrorKind::Latched), "a first write");
    for outcome in [
        block_on(image.flush()),
        block_on(image.write_zeroes(0, 512, Room::Keep, Fua::No)),
        block_on(image.discard(0, 512, Fua::No)),
        block_on(image.grow(16 << 20)),
    ] {
        assert_eq!(outcome.expect_err("latched").kind(), ErrorKind::Latched);
    }
    assert_same(&read(image, 0, 4096), &[1; 4096], "reads go on");
    block_on(image.block_status(0, 8 << 20)).expect("so does the status");
    block_on(image.validate()).expect("what is in memory is what is in the file, or may be");
    assert_eq!(block_on(image.close()).expect_err("latched").kind(), ErrorKind::Latched);
    assert_eq!(opener.record(DISK).take_changes(), [], "nothing more is written");
}

#[test]
fn a_failed_flush_latches() {
    for backing in [Backing::None, Backing::Raw(8 << 20)] {
        let (opener, image, _) = disk(backing);
        opener.record(DISK).fail(|op| (*op == Op::Flush).then_some(Other));
        assert_eq!(block_on(image.flush()).unwrap_err().kind(), ErrorKind::Io);
        assert_latched(&opener, &image);
        if backing == Backing::None {
            assert!(is_dirty(&opener.plain.file(Path::new(DISK))), "NEED_CHECK stays");
        }
    }
}

#[test]
fn a_failed_table_write_latches() {
    for backing in [Backing::None, Backing::Raw(8 << 20)] {
        let (opener, image, table) = disk(backing);
        opener.record(DISK).fail(move |op| op.writes_in(table.clone()).then_some(Other));
        assert_eq!(try_write(&image, 4096, 2), Err(ErrorKind::Io));
        assert_latched(&opener, &image);
    }
}

#[test]
fn a_failed_link_latches() {
    let (opener, image, _) = disk(Backing::None);
    opener.record(DISK).fail(|op| op.writes_in(SHAPE.l1()).then_some(Other));
    assert_eq!(try_write(&image, 4 << 20, 2), Err(ErrorKind::Io));
    assert_latched(&opener, &image);
}

#[test]
fn a_failed_data_write_fails_its_request_alone_and_leaks_its_cluster() {
    for backing in [Backing::None, Backing::Raw(8 << 20)] {
        let (opener, image, table) = disk(backing);
        let below = backing.window(0, 16384);
        opener.record(DISK).fail(|op| op.writes_in(0x4000..u64::MAX).then_some(Other));
        let at = table.start + 8;
        assert_eq!(try_write(&image, 4096, 2), Err(ErrorKind::Io));
        opener.record(DISK).heal();
        let file = opener.plain.file(Path::new(DISK));
        assert_eq!(entry(&file, at), 0, "no entry for data that is not there");
        assert_same(&read(&image, 4096, 4096), &below[4096..8192], "what was there before");
        write(&image, 8192, &[3; 4096]);
        write(&image, 4096, &[4; 4096]);
        let (retry, other) = (entry(&file, at), entry(&file, at + 8));
        assert!(retry > other, "the failed write's cluster is not handed out again");
        close(image);
        let report = report(&opener, Path::new(DISK));
        assert_eq!((report.corruptions, report.leaks), (0, 1), "{report:?}");
    }
}

#[test]
fn the_room_of_a_failed_data_write_is_given_back() {
    for backing in [Backing::None, Backing::Raw(8 << 20)] {
        let (opener, image, _) = disk(backing);
        opener.record(DISK).fail(|op| op.writes_in(0x4000..u64::MAX).then_some(Other));
        opener.record(DISK).take();
        assert_eq!(try_write(&image, 4096, 2), Err(ErrorKind::Io));
        let changes = opener.record(DISK).take_changes();
        let [.., Op::Write { at, .. }, punch] = &changes[..] else { panic!("data, punch: {changes:?}") };
        assert_eq!(*punch, Op::Clear { at: *at, len: 4096 });
    }
}

#[test]
fn want_of_room_never_latches_and_the_request_goes_through_later() {
    for backing in [Backing::None, Backing::Raw(8 << 20)] {
        for kind in [StorageFull, QuotaExceeded] {
            // Each changing operation of a write under a new table is the one that finds no room, in turn.
            for nth in 0.. {
                let (opener, image, _) = disk(backing);
                let mut seen = 0;
                opener.record(DISK).fail(move |op| {
                    seen += u32::from(matches!(op, Op::Write { .. } | Op::SetLen(_)));
                    (seen > nth && op.is_change() && *op != Op::Flush).then_some(kind)
                });
                let outcome = try_write(&image, 4 << 20, 2);
                let all_went_well = outcome.is_ok();
                assert!(all_went_well || outcome == Err(ErrorKind::NoSpace), "{outcome:?}");
                assert_same(&read(&image, 0, 4096), &[1; 4096], "the rest of the disk");
                opener.record(DISK).heal();
                assert_eq!(try_write(&image, 4 << 20, 3), Ok(()), "there is room again");
                flush(&image);
                assert_same(&read(&image, 4 << 20, 4096), &[3; 4096], "the second try");
                close(image);
                let report = report(&opener, Path::new(DISK));
                assert_eq!(report.corruptions, 0, "{report:?}");
                let image = open(&opener, Path::new(DISK), Access::Read);
                assert_same(&read(&image, 4 << 20, 4096), &[3; 4096], "the second try, opened again");
                if all_went_well {
                    assert!(nth >= 3, "at least length, data, link and entry: {nth}");
                    break;
                }
            }
        }
    }
}

#[test]
fn a_guest_that_tries_again_and_again_without_room_leaks_its_first_try_alone() {
    for backing in [Backing::None, Backing::Raw(8 << 20)] {
        let (opener, image, _) = disk(backing);
        let file = opener.plain.file(Path::new(DISK));
        opener.record(DISK).fail(|op| {
            let takes_room = matches!(op, Op::Clear { .. }) || op.writes_in(0x4000..u64::MAX);
            takes_room.then_some(StorageFull)
        });
        assert_eq!(try_write(&image, 4096, 2), Err(ErrorKind::NoSpace));
        let long = length(&file);
        for i in 0..1000 {
            assert_eq!(try_write(&image, (1 + i % 500) * 4096, 2), Err(ErrorKind::NoSpace));
        }
        assert_eq!(length(&file), long, "the file does not grow with every try");
        opener.record(DISK).heal();
        (1..500).for_each(|i| assert_eq!(try_write(&image, i * 4096, 3), Ok(())));
        close(image);
        let report = report(&opener, Path::new(DISK));
        assert_eq!((report.corruptions, report.leaks), (0, 1), "{report:?}");
    }
}

#[test]
fn a_guest_that_tries_again_between_idle_times_makes_the_file_no_longer() {
    let (opener, image, _) = disk(Backing::None);
    let file = opener.plain.file(Path::new(DISK));
    opener.record(DISK).fail(|op| {
        let takes_room = matches!(op, Op::Clear { .. }) || op.writes_in(0x4000..u64::MAX);
        takes_room.then_some(StorageFull)
    });
    let try_and_idle = || {
        assert_eq!(try_write(&image, 4096, 2), Err(ErrorKind::NoSpace));
        let long = length(&file);
        (0..2).for_each(|_| block_on(image.maintain()).expect("what there is can be cut"));
        assert!(length(&file) < long, "idle");
        long
    };
    try_and_idle();
    let long = try_and_idle();
    opener.record(DISK).take();
    (0..20).for_each(|_| assert_eq!(try_and_idle(), long, "not with every try"));
    let mut now = length(&file);
    for op in opener.record(DISK).take() {
        match op {
            Op::SetLen(len) => now = len,
            Op::Clear { at, len } => assert!(at + len <= now, "{at:#x} is tried past the end, {now:#x}"),
            _ => {}
        }
    }
    opener.record(DISK).heal();
    assert_eq!(try_write(&image, 4096, 3), Ok(()));
}

/// A disk of large clusters on a file system with room for a mebibyte, and the error of a write of four.
fn nearly_full() -> (ProbeOpener, Image<Probe>) {
    let opener = ProbeOpener::default();
    let image = fresh(&opener, Path::new(DISK), Shape::usual(64 << 20), None);
    write(&image, 0, &[1; 4096]);
    opener.record(DISK).fail(|op| {
        let len = match op {
            Op::Write { bytes, .. } => bytes.len() as u64,
            Op::Clear { len, .. } => *len,
            _ => 0,
        };
        (len > 1 << 20).then_some(StorageFull)
    });
    (opener, image)
}

fn write_too_much(image: &Image<Probe>) {
    let large = block_on(image.write(8 << 20, Buffer::copy_of(&vec![2; 4 << 20]), Fua::No));
    assert_eq!(large.expect_err("no room for four mebibytes").kind(), ErrorKind::NoSpace);
}

#[test]
fn a_large_write_without_room_keeps_no_small_one_out() {
    let (_opener, image) = nearly_full();
    write_too_much(&image);
    assert_eq!(try_write(&image, 32 << 20, 3), Ok(()), "there is room for a mebibyte");
    assert_same(&read(&image, 32 << 20, 4096), &[3; 4096], "the small write");
}

#[test]
fn what_a_failed_trial_for_room_has_taken_is_given_back() {
    let (opener, image) = nearly_full();
    write_too_much(&image);
    opener.record(DISK).take();
    write_too_much(&image);
    let changes = opener.record(DISK).take_changes();
    let [Op::Clear { len, .. }, punch] = &changes[..] else { panic!("a trial, a punch: {changes:?}") };
    assert_eq!((*len, punch), (4 << 20, &changes[0]), "all of what was tried");
}

#[test]
fn room_that_the_file_could_not_be_made_long_enough_for_is_not_leaked() {
    let (opener, image, _) = disk(Backing::None);
    let file = opener.plain.file(Path::new(DISK));
    let at = length(&file);
    opener.record(DISK).fail(|op| matches!(op, Op::SetLen(_)).then_some(StorageFull));
    let refused = |i: &u64| try_write(&image, (1 + i % 500) * 4096, 2) == Err(ErrorKind::NoSpace);
    assert!((0..600).filter(refused).count() > 200, "all past the room that the file had grown ahead by");
    opener.record(DISK).heal();
    for i in 1..500 {
        assert_eq!(try_write(&image, i * 4096, 3), Ok(()));
    }
    close(image);
    assert!(length(&file) <= at + 500 * 4096, "{} from {at}", length(&file));
    assert_eq!(assert_clean(&opener, Path::new(DISK)), 500);
}

#[test]
fn a_close_without_room_keeps_need_check_and_the_next_open_mends() {
    let (opener, image, table) = disk(Backing::None);
    opener.record(DISK).fail(move |op| op.writes_in(table.clone()).then_some(StorageFull));
    assert_eq!(try_write(&image, 4096, 2), Err(ErrorKind::NoSpace));
    assert_eq!(block_on(image.close()).expect_err("latched").kind(), ErrorKind::NoSpace);
    drop(image);
    opener.record(DISK).heal();
    assert!(is_dirty(&opener.plain.file(Path::new(DISK))));
    let image = open(&opener, Path::new(DISK), Access::Write);
    assert_same(&read(&image, 0, 4096), &[1; 4096], "what was complete");
    close(image);
    assert_clean(&opener, Path::new(DISK));
}

#[test]
fn zeroes_over_what_failed_for_want_of_room_stay_zeroes() {
    let (opener, image, table) = disk(Backing::None);
    opener.record(DISK).fail(move |op| op.writes_in(table.clone()).then_some(StorageFull));
    assert_eq!(try_write(&image, 4096, 2), Err(ErrorKind::NoSpace));
    opener.record(DISK).heal();
    block_on(image.write_zeroes(4096, 4096, Room::GiveBack, Fua::No)).unwrap();
    close(image);
    assert_clean(&opener, Path::new(DISK));
    let image = open(&opener, Path::new(DISK), Access::Read);
    assert_same(&read(&image, 4096, 4096), &[0; 4096], "zeroes were written last");
}

#[test]
fn an_entry_that_goes_out_late_keeps_its_cluster_at_the_close() {
    let (opener, image, table) = disk(Backing::None);
    opener.record(DISK).fail(move |op| op.writes_in(table.clone()).then_some(StorageFull));
    assert_eq!(try_write(&image, 4096, 2), Err(ErrorKind::NoSpace));
    opener.record(DISK).heal();
    close(image);
    assert_clean(&opener, Path::new(DISK));
}

#[test]
fn an_entry_that_fails_while_a_close_waits_for_it_goes_out_with_the_close() {
    for backing in [Backing::None, Backing::Raw(8 << 20)] {
        let opener = GateOpener::new();
        let below = backing.make(&opener.plain, 0);
        let image = fresh(&opener, Path::new(DISK), SHAPE, below);
        write(&image, 0, &[1; 4096]);
        let table = SHAPE.l2(&opener.plain.file(Path::new(DISK)), 0);
        opener.gate.shut();
        let mut writing = Task::blocked(image.write(4096, Buffer::copy_of(&[2; 4096]), Fua::No));
        let entry = loop {
            match opener.gate.waiting()[..] {
                [op] if op.kind == Kind::Write && table.contains(&op.at) => break op,
                _ => opener.gate.release_all(),
            };
            assert!(writing.step().is_none());
        };
        let mut closing = Task::blocked(image.close());
        opener.gate.fail(entry.id, StorageFull);
        assert_eq!(writing.step().expect("it is over").unwrap_err().kind(), ErrorKind::NoSpace);
        opener.gate.open();
        closing.step().expect("the close comes to its end").expect("there is room again");
        assert_clean(&opener, Path::new(DISK));
    }
}

#[test]
fn a_table_that_is_linked_late_keeps_its_room_at_the_close() {
    let (opener, image, _) = disk(Backing::None);
    opener.record(DISK).fail(|op| op.writes_in(SHAPE.l1()).then_some(StorageFull));
    assert_eq!(try_write(&image, 4 << 20, 2), Err(ErrorKind::NoSpace));
    opener.record(DISK).heal();
    close(image);
    assert_eq!(report(&opener, Path::new(DISK)).corruptions, 0);
}

#[test]
fn a_failed_read_fails_its_request_alone() {
    let (opener, image, _) = disk(Backing::None);
    close(image);
    let image = open(&opener, Path::new(DISK), Access::Write);
    opener.record(DISK).fail(|op| matches!(op, Op::Read { .. }).then_some(Other));
    assert_eq!(block_on(image.read(0, Buffer::zeroed(512))).unwrap_err().kind(), ErrorKind::Io);
    assert_eq!(try_write(&image, 4096, 2), Err(ErrorKind::Io), "a table cannot be read");
    opener.record(DISK).heal();
    assert_same(&read(&image, 0, 4096), &[1; 4096], "once it can be read");
    assert_eq!(try_write(&image, 4096, 2), Ok(()));
    close(image);
    assert_clean(&opener, Path::new(DISK));
}

#[test]
fn once_there_is_room_again_small_writes_look_for_it_no_longer_than_they_need() {
    let opener = ProbeOpener::default();
    let image = fresh(&opener, Path::new(DISK), Shape::usual(64 << 20), None);
    write(&image, 0, &[1; 4096]);
    let large = |op: &Op| matches!(op, Op::Write { bytes, .. } if bytes.len() > 1 << 20);
    opener.record(DISK).fail(move |op| large(op).then_some(StorageFull));
    let failed = block_on(image.write(8 << 20, Buffer::copy_of(&[2; 1 << 21]), Fua::No));
    assert_eq!(failed.expect_err("no room").kind(), ErrorKind::NoSpace);
    opener.record(DISK).heal();
    opener.record(DISK).take();
    (0..100).for_each(|i| write(&image, (16 << 20) + (i << 16), &[3; 4096]));
    let clears =
        opener.record(DISK).take_changes().iter().filter(|op| matches!(op, Op::Clear { .. })).count();
    assert_eq!(clears, 2 * 32, "a trial and its punch for each cluster of what failed");
}

#[test]
fn what_is_needed_may_fit_where_growing_ahead_does_not() {
    let opener = ProbeOpener::default();
    let image = fresh(&opener, Path::new(DISK), SHAPE, None);
    let most = length(&opener.plain.file(Path::new(DISK))) + 8 * 4096;
    let too_long = move |op: &Op| matches!(op, Op::SetLen(len) if *len > most).then_some(StorageFull);
    opener.record(DISK).fail(too_long);
    write(&image, 0, &[1; 4096]);
    opener.record(DISK).heal();
    close(image);
    assert_clean(&opener, Path::new(DISK));
}
