//! A disk that grows shows zeroes in its new part, whatever lies there (D11).

mod common;

use std::path::Path;

use common::backing::Backing;
use common::probe::{Op, ProbeOpener};
use common::*;
use quod::{ErrorKind, Fua, Image, Room, block_on};
use quod_storage::{Access, MemoryOpener, Storage};

const OLD: u64 = 3 * 4096 + 512;
const NEW: u64 = 9 * 4096 + 1024;

fn grow<S: Storage>(image: &Image<S>, size: u64) {
    block_on(image.grow(size)).expect("room to grow");
}

/// Grows from `OLD` to `NEW` and looks at the disk, at once and after it was opened again.
fn check_growth(opener: &MemoryOpener, mut wanted: Vec<u8>) {
    let image = open(opener, Path::new(DISK), Access::Write);
    grow(&image, NEW);
    wanted.resize(NEW as usize, 0);
    assert_eq!(image.size(), NEW);
    assert_same(&read_all(&image), &wanted, "the grown disk");
    close(image);
    // Entries past the end are forgotten, whatever they named: that may be another's, so it is leaked at worst.
    assert_eq!(report(opener, Path::new(DISK)).corruptions, 0);
    let image = open(opener, Path::new(DISK), Access::Read);
    assert_same(&read_all(&image), &wanted, "the grown disk, opened again");
}

#[test]
fn a_longer_backing_file_does_not_show_in_the_new_part() {
    for backing in
        [Backing::Raw(NEW + 4096), Backing::Raw(OLD + 700), Backing::Qed(NEW), Backing::QedOverRaw(4 * NEW)]
    {
        let opener = MemoryOpener::new();
        let below = backing.make(&opener, 0);
        make(&opener, Path::new(DISK), Shape::small(OLD), below);
        check_growth(&opener, backing.window(0, OLD as usize));
    }
}

#[test]
fn a_longer_backing_file_does_not_show_behind_a_written_last_cluster() {
    let opener = MemoryOpener::new();
    let backing = Backing::Raw(NEW);
    let image = fresh(&opener, Path::new(DISK), Shape::small(OLD), backing.make(&opener, 0));
    write(&image, 3 * 4096, &[9; 100]);
    close(image);
    let mut wanted = backing.window(0, OLD as usize);
    wanted[3 * 4096..3 * 4096 + 100].fill(9);
    check_growth(&opener, wanted);
}

#[test]
fn stale_bytes_behind_the_old_end_do_not_show() {
    let opener = MemoryOpener::new();
    let image = fresh(&opener, Path::new(DISK), Shape::small(OLD), None);
    write(&image, 3 * 4096, &[9; 512]);
    close(image);
    // As an implementation that does not clear what it cuts off may leave it.
    let file = opener.file(Path::new(DISK));
    let shape = Shape::small(OLD);
    let cluster = entry(&file, shape.l2(&file, 0).start + 8 * 3);
    set_bytes(&file, cluster + 512, &[0xee; 4096 - 512]);
    let mut wanted = vec![0; OLD as usize];
    wanted[3 * 4096..].fill(9);
    check_growth(&opener, wanted);
}

#[test]
fn entries_behind_the_old_end_do_not_show() {
    let opener = MemoryOpener::new();
    let image = fresh(&opener, Path::new(DISK), Shape::small(NEW), None);
    write(&image, 0, &[5; NEW as usize]);
    close(image);
    // A smaller size in the header leaves entries past the end.
    set_entry(&opener.file(Path::new(DISK)), 48, OLD);
    check_growth(&opener, vec![5; OLD as usize]);
}

#[test]
fn an_entry_behind_the_old_end_that_names_anothers_cluster_harms_nothing_of_it() {
    let opener = MemoryOpener::new();
    let image = fresh(&opener, Path::new(DISK), Shape::small(NEW), None);
    write(&image, 0, &[5; 4096]);
    close(image);
    let (file, shape) = (opener.file(Path::new(DISK)), Shape::small(NEW));
    let table = shape.l2(&file, 0).start;
    set_entry(&file, table + 8 * 5, entry(&file, table));
    set_entry(&file, 48, OLD);
    let image = open(&opener, Path::new(DISK), Access::Write);
    grow(&image, NEW);
    assert_same(&read(&image, 0, 4096), &[5; 4096], "the cluster's rightful owner");
    assert_same(&read(&image, 5 * 4096, 4096), &[0; 4096], "the new part");
}

#[test]
fn the_new_size_is_written_after_all_else_is_durable() {
    let opener = ProbeOpener::default();
    let backing = Backing::Raw(NEW).make(&opener.plain, 0);
    let image = fresh(&opener, Path::new(DISK), Shape::small(OLD), backing);
    opener.record(DISK).take();
    grow(&image, NEW);
    let changes = opener.record(DISK).take_changes();
    let header = changes.iter().position(|op| matches!(op, Op::Write { at: 0, .. })).expect("a new size");
    assert_eq!(changes[header - 1], Op::Flush, "{changes:?}");
    assert_eq!(header, changes.len() - 1, "the size comes last");
    flush(&image);
    assert_eq!(
        opener.record(DISK).take_changes(),
        [Op::Flush],
        "the new size is flushed with the next flush"
    );
}

#[test]
fn a_failed_growth_leaves_the_old_size() {
    let opener = ProbeOpener::default();
    let image = fresh(&opener, Path::new(DISK), Shape::small(OLD), None);
    opener.record(DISK).fail(|op| matches!(op, Op::Write { .. }).then_some(std::io::ErrorKind::StorageFull));
    assert_eq!(block_on(image.grow(NEW)).unwrap_err().kind(), ErrorKind::NoSpace);
    assert_eq!(image.size(), OLD);
    opener.record(DISK).heal();
    grow(&image, NEW);
    assert_eq!(image.size(), NEW);
}

#[test]
fn sizes_that_no_image_can_have_are_refused() {
    let opener = MemoryOpener::new();
    let image = fresh(&opener, Path::new(DISK), Shape::small(OLD), None);
    for size in [OLD - 512, OLD + 1, (1 << 30) + 512, u64::MAX, u64::MAX - 511] {
        assert_eq!(block_on(image.grow(size)).unwrap_err().kind(), ErrorKind::InvalidArgument, "{size}");
        assert_eq!(image.size(), OLD);
    }
    grow(&image, OLD);
    grow(&image, 1 << 30);
    write(&image, (1 << 30) - 10, &[3; 10]);
    block_on(image.write_zeroes(OLD, (1 << 30) - OLD, Room::GiveBack, Fua::No)).unwrap();
    close(image);
    assert_clean(&opener, Path::new(DISK));
}
