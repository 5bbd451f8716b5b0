//! A disk that grows shows zeroes in its new part, whatever lies there (D11).

mod common;

use std::path::Path;

use common::backing::Backing;
use common::probe::{Op, ProbeOpener};
use common::*;
use quod::{ErrorKind, Fua, Image, Room, block_on};
use quod_storage::{Access, Memory, MemoryOpener, Storage};

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
fn a_fill_from_a_longer_backing_file_stops_at_the_end_of_the_disk() {
    let opener = MemoryOpener::new();
    let shape = Shape::small(OLD);
    let image = fresh(&opener, Path::new(DISK), shape, Backing::Raw(NEW).make(&opener, 0));
    write(&image, 3 * 4096, &[9; 100]);
    let file = opener.file(Path::new(DISK));
    let cluster = entry(&file, shape.l2(&file, 0).start + 8 * 3);
    let filled = Backing::Raw(NEW).window(0, OLD as usize)[3 * 4096 + 100..].to_vec();
    assert_same(&bytes(&file, cluster + 100, 412), &filled, "the rest of the disk");
    assert_same(&bytes(&file, cluster + 512, 4096 - 512), &[0; 4096 - 512], "past its end");
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

/// Grows a disk of 2 MiB under whose second L1 entry something stands that a crash or another tool has left there.
fn check_growth_over(stray: impl Fn(&Memory, Shape) -> (u64, u64)) {
    for backing in [Backing::None, Backing::Raw(6 << 20)] {
        let opener = ProbeOpener::default();
        let shape = Shape::small(2 << 20);
        let backing = backing.make(&opener.plain, 0);
        let image = fresh(&opener, Path::new(DISK), shape, backing);
        write(&image, 0, &[7; 2 << 20]);
        close(image);
        let file = opener.plain.file(Path::new(DISK));
        let (place, value) = stray(&file, shape);
        set_entry(&file, place, value);
        let image = open(&opener, Path::new(DISK), Access::Write);
        // Once without room for the new size, then again: the second growth meets what the first has left.
        opener
            .record(DISK)
            .fail(|op| matches!(op, Op::Write { at: 0, .. }).then_some(std::io::ErrorKind::StorageFull));
        block_on(image.grow(5 << 20)).expect_err("no room");
        opener.record(DISK).heal();
        grow(&image, 5 << 20);
        assert_same(&read(&image, 0, 2 << 20), &[7; 2 << 20], "the old disk");
        assert_same(&read(&image, 2 << 20, 3 << 20), &[0; 3 << 20], "the new part");
        write(&image, 4 << 20, &[8; 4096]);
        close(image);
        let image = open(&opener, Path::new(DISK), Access::Read);
        assert_same(&read(&image, 0, 2 << 20), &[7; 2 << 20], "the old disk, from the file");
        assert_same(&read(&image, 2 << 20, 2 << 20), &[0; 2 << 20], "the new part, from the file");
        assert_same(&read(&image, 4 << 20, 4096), &[8; 4096], "what was written there since");
        assert_eq!(report(&opener, Path::new(DISK)).corruptions, 0);
    }
}

#[test]
fn a_stray_table_behind_the_old_end_is_unlinked_and_what_it_names_left_alone() {
    check_growth_over(|file, shape| (shape.l1().start + 8, entry(file, shape.l1().start)));
    check_growth_over(|file, shape| (shape.l1().start + 16, entry(file, shape.l2(file, 0).start)));
}

#[test]
fn an_invalid_entry_behind_the_old_end_is_cleared() {
    check_growth_over(|_, shape| (shape.l1().start + 8, 0x7777_0000));
    check_growth_over(|_, shape| (shape.l1().start + 16, 0x1001));
}

#[test]
fn invalid_entries_of_the_old_last_table_are_cleared() {
    let opener = MemoryOpener::new();
    let image = fresh(&opener, Path::new(DISK), Shape::small(1 << 20), None);
    write(&image, 0, &[5; 1 << 20]);
    close(image);
    let file = opener.file(Path::new(DISK));
    let table = Shape::small(1 << 20).l2(&file, 0).start;
    for (cluster, value) in [(300, 0x7777_0000), (400, 0x1001), (511, entry(&file, table))] {
        set_entry(&file, table + 8 * cluster, value);
    }
    let image = open(&opener, Path::new(DISK), Access::Write);
    grow(&image, 3 << 20);
    assert_same(&read(&image, 0, 1 << 20), &[5; 1 << 20], "the old disk");
    assert_same(&read(&image, 1 << 20, 2 << 20), &[0; 2 << 20], "the new part");
    close(image);
    assert_clean(&opener, Path::new(DISK));
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
