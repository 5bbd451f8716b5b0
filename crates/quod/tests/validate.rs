//! `Image::validate` finds what does not agree, whether in the file or in memory.

mod common;

use std::path::Path;

use common::*;
use quod::{Fua, Image, Room, block_on};
use quod_storage::{Access, Memory, MemoryOpener};

const SHAPE: Shape = Shape::small(8 << 20);

/// A disk with clusters under two tables, and its file.
fn disk() -> (MemoryOpener, Image<Memory>, Memory) {
    let opener = MemoryOpener::new();
    let image = fresh(&opener, Path::new(DISK), SHAPE, None);
    write(&image, 0, &[1; 4096]);
    write(&image, 3 << 20, &[2; 4096]);
    let file = opener.file(Path::new(DISK));
    (opener, image, file)
}

fn validate(image: &Image<Memory>) {
    block_on(image.validate()).expect("tables that can be read");
}

#[test]
fn an_image_agrees_with_its_file_through_its_whole_life() {
    let (opener, image, _) = disk();
    validate(&image);
    block_on(image.discard(0, 4096, Fua::No)).unwrap();
    block_on(image.write_zeroes(4096, 8192, Room::Keep, Fua::Yes)).unwrap();
    block_on(image.grow(16 << 20)).unwrap();
    validate(&image);
    for _ in 0..3 {
        block_on(image.maintain()).unwrap();
        validate(&image);
    }
    block_on(image.close()).unwrap();
    validate(&image);
    let reader = open(&opener, Path::new(DISK), Access::Read);
    read_all(&reader);
    validate(&reader);
}

#[test]
#[should_panic(expected = "is taken for")]
fn an_entry_that_the_file_has_otherwise_is_found() {
    let (_opener, image, file) = disk();
    set_entry(&file, SHAPE.l2(&file, 0).start + 8, 1);
    validate(&image);
}

#[test]
#[should_panic(expected = "the file is not sound")]
fn two_entries_that_name_one_cluster_are_found() {
    let (opener, image, file) = disk();
    let cluster = entry(&file, SHAPE.l2(&file, 0).start);
    close(image);
    let image = open(&opener, Path::new(DISK), Access::Write);
    set_entry(&file, SHAPE.l2(&file, 1).start, cluster);
    validate(&image);
}

#[test]
#[should_panic(expected = "is taken for")]
fn a_table_that_l1_in_the_file_names_elsewhere_is_found() {
    let (_opener, image, file) = disk();
    let (old, end) = (SHAPE.l2(&file, 0), length(&file));
    set_bytes(&file, end, &bytes(&file, old.start, 4096));
    set_entry(&file, SHAPE.l1().start, end);
    validate(&image);
}

#[test]
#[should_panic(expected = "NEED_CHECK is taken for set")]
fn a_dirty_bit_that_somebody_cleared_is_found() {
    let (_opener, image, file) = disk();
    set_bytes(&file, 16, &[0]);
    validate(&image);
}
