//! The life of NEED_CHECK (D4, D9).

mod common;

use std::io::ErrorKind::Other;
use std::path::Path;

use common::backing::Backing;
use common::gate::{GateOpener, Kind};
use common::probe::{Op, Probe, ProbeOpener};
use common::task::Task;
use common::*;
use quod::{ErrorKind, Fua, Image, Room, block_on};
use quod_storage::{Access, Buffer};

fn disk() -> (ProbeOpener, Image<Probe>) {
    let opener = ProbeOpener::default();
    let image = fresh(&opener, Path::new(DISK), Shape::small(8 << 20), None);
    opener.record(DISK).take();
    (opener, image)
}

fn maintain(image: &Image<Probe>) {
    block_on(image.maintain()).expect("maintenance");
}

fn dirty(opener: &ProbeOpener) -> bool {
    is_dirty(&opener.plain.file(Path::new(DISK)))
}

#[test]
fn the_bit_is_durable_before_anything_unordered() {
    let (opener, image) = disk();
    write(&image, 0, &[1; 4096]);
    let changes = opener.record(DISK).take_changes();
    let set = changes.iter().position(|op| op.need_check() == Some(true)).expect("the bit is set");
    assert_eq!(changes[set + 1], Op::Flush, "{changes:?}");
    assert!(changes[..set].iter().all(|op| !matches!(op, Op::Write { .. })), "nothing is written before");
    assert!(dirty(&opener));
    write(&image, 1 << 20, &[1; 4096]);
    let changes = opener.record(DISK).take_changes();
    assert!(changes.iter().all(|op| op.need_check().is_none()), "set once: {changes:?}");
}

#[test]
fn reads_flushes_and_zeroes_over_nothing_do_not_set_the_bit() {
    let (opener, image) = disk();
    read(&image, 0, 8 << 20);
    flush(&image);
    block_on(image.write_zeroes(0, 8 << 20, Room::GiveBack, Fua::No)).unwrap();
    block_on(image.discard(0, 8 << 20, Fua::No)).unwrap();
    maintain(&image);
    assert!(!dirty(&opener));
    assert!(opener.record(DISK).take_changes().iter().all(|op| *op == Op::Flush));
}

#[test]
fn over_a_backing_file_the_bit_is_never_set() {
    let opener = ProbeOpener::default();
    let below = Backing::Raw(8 << 20).make(&opener.plain, 0);
    let image = fresh(&opener, Path::new(DISK), Shape::small(8 << 20), below);
    write(&image, 100, &[1; 1 << 20]);
    block_on(image.write_zeroes(2 << 20, 2 << 20, Room::GiveBack, Fua::No)).unwrap();
    assert!(!dirty(&opener));
    opener.record(DISK).take();
    close(image);
    let changes = opener.record(DISK).take_changes();
    assert!(changes.iter().all(|op| op.need_check().is_none()), "{changes:?}");
}

#[test]
fn a_close_clears_the_bit_between_two_flushes() {
    let (opener, image) = disk();
    write(&image, 0, &[1; 4096]);
    opener.record(DISK).take();
    close(image);
    let changes = opener.record(DISK).take_changes();
    let clear = changes.iter().position(|op| op.need_check() == Some(false)).expect("the bit is cleared");
    assert_eq!(changes[clear - 1], Op::Flush, "{changes:?}");
    assert_eq!(changes[clear + 1..], [Op::Flush], "{changes:?}");
    assert!(!dirty(&opener));
}

#[test]
fn nothing_sets_the_bit_after_a_close() {
    let opener = GateOpener::new();
    let image = fresh(&opener, Path::new(DISK), Shape::small(8 << 20), None);
    write(&image, 0, &[1; 4096]);
    close(image);
    let image = open(&opener, Path::new(DISK), Access::Write);
    opener.gate.shut();
    // A first write that still reads its table while the image is closed.
    let mut writing = Task::blocked(image.write(4096, Buffer::copy_of(&[2; 4096]), Fua::No));
    let table = opener.gate.only(Kind::Read);
    let (mut closing, mut closed) = Task::start(image.close());
    while closed.is_none() {
        let others = opener.gate.waiting().into_iter().filter(|op| op.id != table.id);
        others.for_each(|op| opener.gate.release(op.id));
        closed = closing.step();
    }
    closed.expect("it is over").expect("a close");
    opener.gate.open();
    let outcome = writing.step().expect("it does not wait for ever");
    assert_eq!(outcome.expect_err("too late").kind(), ErrorKind::Closed);
    assert_clean(&opener, Path::new(DISK));
}

#[test]
fn a_dropped_image_keeps_the_bit() {
    let (opener, image) = disk();
    write(&image, 0, &[1; 4096]);
    flush(&image);
    drop(image);
    assert!(dirty(&opener));
}

#[test]
fn maintenance_clears_the_bit_only_when_nothing_moved_between_two_calls() {
    let (opener, image) = disk();
    write(&image, 0, &[1; 4096]);
    maintain(&image);
    assert!(dirty(&opener), "there was an update since the last call");
    write(&image, 4096, &[1; 4096]);
    maintain(&image);
    assert!(dirty(&opener), "there was another");
    opener.record(DISK).take();
    maintain(&image);
    assert!(!dirty(&opener), "idle");
    let changes = opener.record(DISK).take_changes();
    let [Op::Flush, Op::SetLen(_), Op::Flush, header, Op::Flush] = &changes[..] else {
        panic!("flush, cut, flush, header, flush: {changes:?}");
    };
    assert_eq!(header.need_check(), Some(false));
    maintain(&image);
    assert_eq!(opener.record(DISK).take_changes(), [], "nothing more to do");
    write(&image, 4096, &[2; 4096]);
    assert!(!dirty(&opener), "a write in place needs no bit");
    write(&image, 8192, &[2; 4096]);
    assert!(dirty(&opener), "an allocation sets it again");
    close(image);
    assert_clean(&opener, Path::new(DISK));
}

#[test]
fn a_bit_that_cannot_be_set_fails_the_write_before_anything_else_happens() {
    for flush_fails in [false, true] {
        let (opener, image) = disk();
        opener.record(DISK).fail(move |op| match op {
            Op::Flush => flush_fails.then_some(Other),
            op => (!flush_fails && op.need_check().is_some()).then_some(Other),
        });
        let error = block_on(image.write(0, Buffer::copy_of(&[1; 512]), Fua::No)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Io, "{error}");
        let file = opener.plain.file(Path::new(DISK));
        assert_eq!(entry(&file, 4096), 0, "no table was linked");
        opener.record(DISK).heal();
        let error = block_on(image.write(0, Buffer::copy_of(&[1; 512]), Fua::No)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Latched, "{error}");
        assert_same(&read(&image, 0, 512), &[0; 512], "reads go on");
    }
}

#[test]
fn a_step_that_fails_while_the_bit_is_cleared_leaves_no_promise_behind() {
    // Flush, cut, flush, header, flush.
    for failing in 0..5 {
        let (opener, image) = disk();
        write(&image, 0, &[1; 512]);
        maintain(&image);
        let mut step = 0;
        opener.record(DISK).fail(move |op| {
            let now = op.is_change();
            step += u32::from(now);
            (now && step == failing + 1).then_some(Other)
        });
        let error = block_on(image.maintain()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Io, "{error}");
        assert!(failing == 4 || dirty(&opener), "the bit stays when the clearing did not come so far");
        opener.record(DISK).heal();
        let next = block_on(image.write(4096, Buffer::copy_of(&[1; 512]), Fua::No)).map(drop);
        let next = next.map_err(|error| error.kind());
        // A file that was not cut back is only too long.
        let expected = if failing == 1 { Ok(()) } else { Err(ErrorKind::Latched) };
        assert_eq!(next, expected, "step {failing}");
    }
}

#[test]
fn want_of_room_while_the_bit_is_cleared_does_not_latch() {
    let (opener, image) = disk();
    write(&image, 0, &[1; 512]);
    maintain(&image);
    opener.record(DISK).fail(|op| op.need_check().map(|_| std::io::ErrorKind::StorageFull));
    let error = block_on(image.maintain()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoSpace, "{error}");
    opener.record(DISK).heal();
    write(&image, 4096, &[2; 512]);
    assert!(dirty(&opener), "the bit is set, durably, before the next allocation");
    close(image);
    assert_clean(&opener, Path::new(DISK));
}

#[test]
fn a_header_update_keeps_what_lies_behind_the_header() {
    let opener = ProbeOpener::default();
    let shape = Shape::small(8 << 20);
    make(&opener, Path::new(DISK), shape, None);
    let file = opener.plain.file(Path::new(DISK));
    let behind = pattern(5, 4096 - 64);
    set_bytes(&file, 64, &behind);
    // Unknown compat features are nobody's business.
    set_entry(&file, 24, 0xf0f0);
    let image = open(&opener, Path::new(DISK), Access::Write);
    write(&image, 0, &[1; 512]);
    assert!(dirty(&opener));
    block_on(image.grow(16 << 20)).unwrap();
    close(image);
    assert_same(&bytes(&file, 64, behind.len()), &behind, "the rest of the header cluster");
    assert_eq!(entry(&file, 24), 0xf0f0, "compat features");
}
