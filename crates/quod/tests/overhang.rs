//! Nothing is allocated while an entry names room past the end of the file (D2).

mod common;

use std::io::ErrorKind::Other;
use std::path::Path;

use common::probe::{Op, ProbeOpener};
use common::*;
use quod::{ErrorKind, Fua, Image, Repair, block_on, check};
use quod_storage::{Access, Buffer, Memory, Storage};

const SHAPE: Shape = Shape::small(8 << 20);

/// A closed image with three clusters, and its file.
fn closed() -> (ProbeOpener, Memory) {
    let opener = ProbeOpener::default();
    let image = fresh(&opener, Path::new(DISK), SHAPE, None);
    write(&image, 0, &[1; 3 * 4096]);
    close(image);
    let file = opener.plain.file(Path::new(DISK));
    (opener, file)
}

/// Where the entry of a cluster under the first table lies.
fn place(file: &Memory, cluster: u64) -> u64 {
    SHAPE.l2(file, 0).start + 8 * cluster
}

fn first_write<S: Storage>(image: &Image<S>) -> Result<(), ErrorKind> {
    let written = block_on(image.write(1 << 20, Buffer::copy_of(&[2; 10]), Fua::No));
    written.map(drop).map_err(|error| error.kind())
}

/// The first allocation of an image with an entry that names room past its end.
fn assert_nothing_is_handed_out(opener: &ProbeOpener, file: &Memory, bad: u64) {
    let image = open(opener, Path::new(DISK), Access::Write);
    opener.record(DISK).take();
    let kind = |outcome: quod::Result<Buffer>| outcome.expect_err("a damaged image").kind();
    for at in [1 << 20, bad, 4 << 20] {
        let outcome = block_on(image.write(at, Buffer::copy_of(&[2; 10]), Fua::No));
        assert_eq!(kind(outcome), ErrorKind::Corrupt);
    }
    assert_eq!(kind(block_on(image.read(bad, Buffer::zeroed(1)))), ErrorKind::Corrupt, "as before");
    assert_eq!(opener.record(DISK).take_changes(), []);
    write(&image, 4096, &[3; 4096]);
    assert_same(&read(&image, 4096, 4096), &[3; 4096], "in its place it may be written to");
    close(image);
    let repaired = block_on(check(opener, Path::new(DISK), Access::Write, Repair::Yes)).expect("a repair");
    assert_eq!(repaired.remaining_corruptions(), 0);
    let image = open(opener, Path::new(DISK), Access::Write);
    write(&image, 1 << 20, &[2; 10]);
    assert_same(&read(&image, 4096, 4096), &[3; 4096], "what was good");
    close(image);
    assert!(length(file) > 0);
}

#[test]
fn no_room_is_handed_out_where_an_entry_of_a_damaged_image_points() {
    for beyond in [0, 4, 1000] {
        let (opener, file) = closed();
        set_entry(&file, place(&file, 9), length(&file) + beyond * 4096);
        assert_nothing_is_handed_out(&opener, &file, 9 * 4096);
    }
    let (opener, file) = closed();
    set_entry(&file, SHAPE.l1().start + 8, length(&file));
    assert_nothing_is_handed_out(&opener, &file, 2 << 20);
}

#[test]
fn a_clean_image_that_was_cut_at_a_cluster_hands_nothing_out() {
    let (opener, file) = closed();
    let image = open(&opener, Path::new(DISK), Access::Write);
    write(&image, 9 * 4096, &[2; 4096]);
    close(image);
    set_length(&file, length(&file) - 4096);
    assert_nothing_is_handed_out(&opener, &file, 9 * 4096);
}

#[test]
fn an_entry_past_the_end_of_the_disk_is_in_the_way_too() {
    // A repair could not tell whose the cluster is.
    let (opener, file) = closed();
    set_entry(&file, SHAPE.l1().start + 8 * 5, length(&file));
    let image = open(&opener, Path::new(DISK), Access::Write);
    assert_eq!(first_write(&image), Err(ErrorKind::Corrupt));
    block_on(image.maintain()).expect("once was enough");
    // Growth clears it.
    block_on(image.grow(16 << 20)).expect("it allocates nothing");
    close(image);
    let image = open(&opener, Path::new(DISK), Access::Write);
    assert_eq!(first_write(&image), Ok(()));
}

#[test]
fn a_refused_image_is_looked_through_once() {
    let (opener, file) = closed();
    set_entry(&file, place(&file, 9), length(&file));
    let image = open(&opener, Path::new(DISK), Access::Write);
    assert_eq!(block_on(image.maintain()).expect_err("it is told").kind(), ErrorKind::Corrupt);
    let reads = || opener.record(DISK).take().iter().filter(|op| matches!(op, Op::Read { .. })).count();
    assert_eq!(first_write(&image), Err(ErrorKind::Corrupt));
    reads();
    for _ in 0..3 {
        assert_eq!(first_write(&image), Err(ErrorKind::Corrupt));
    }
    assert_eq!(reads(), 0);
    block_on(image.maintain()).expect("it was told");
}

#[test]
fn a_table_that_cannot_be_read_is_in_nobodys_way() {
    let (opener, file) = closed();
    let image = open(&opener, Path::new(DISK), Access::Write);
    write(&image, 4 << 20, &[3; 4096]);
    close(image);
    let table = SHAPE.l2(&file, 2);
    let image = open(&opener, Path::new(DISK), Access::Write);
    let unreadable = move |op: &Op| matches!(op, Op::Read { at, .. } if table.contains(at)).then_some(Other);
    opener.record(DISK).fail(unreadable);
    assert_eq!(first_write(&image), Ok(()));
    assert_eq!(block_on(image.read(4 << 20, Buffer::zeroed(1))).expect_err("this one").kind(), ErrorKind::Io);
}
