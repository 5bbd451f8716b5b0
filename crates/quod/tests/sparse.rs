//! Room that is not needed is not taken, and room that is given back is.

mod common;

use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use common::*;
use quod::{BlockKind, Format, Fua, Image, Room, block_on};
use quod_storage::{Access, FileOpener, FileStorage};

/// Large clusters, so that what is copied for nothing shows.
const SHAPE: Shape = Shape { size: 64 << 20, cluster: 2 << 20, table: 1 };

struct Disk {
    directory: tempfile::TempDir,
    image: Image<FileStorage>,
}

impl Disk {
    fn new(backing: Option<(&str, Format)>, prepare: impl FnOnce(&Path)) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        prepare(directory.path());
        let image = fresh(&FileOpener, &directory.path().join(DISK), SHAPE, backing);
        Disk { directory, image }
    }

    fn name(&self) -> PathBuf {
        self.directory.path().join(DISK)
    }

    /// Bytes that the file takes on its disk.
    fn room(&self) -> u64 {
        self.name().metadata().expect("the file is there").blocks() * 512
    }
}

/// A base with 4 KiB of data in each of its halves, and holes between.
fn sparse_base(directory: &Path) {
    let base = File::create(directory.join("base.raw")).expect("a base");
    base.set_len(SHAPE.size).expect("a long base");
    base.write_all_at(&[7; 4096], 0).expect("data");
    base.write_all_at(&[8; 4096], 32 << 20).expect("data");
}

#[test]
fn an_empty_image_of_any_size_takes_almost_no_room() {
    let directory = tempfile::tempdir().unwrap();
    for (cluster, table) in [(65536, 4), (64 << 20, 16)] {
        let name = directory.path().join(DISK);
        make(&FileOpener, &name, Shape { size: 64 << 40, cluster, table }, None);
        assert!(name.metadata().unwrap().blocks() * 512 <= 64 << 10);
    }
}

#[test]
fn a_first_write_leaves_the_rest_of_its_cluster_a_hole() {
    let disk = Disk::new(None, |_| {});
    let before = disk.room();
    write(&disk.image, 5 << 20, &[1; 4096]);
    assert!(disk.room() - before <= 64 << 10, "{} bytes", disk.room() - before);
    assert_same(&read(&disk.image, (5 << 20) - 4096, 12288)[..4096], &[0; 4096], "before the write");
}

#[test]
fn known_zeroes_of_a_backing_file_are_not_copied() {
    let disk = Disk::new(Some(("base.raw", Format::Raw)), sparse_base);
    let before = disk.room();
    // Into a cluster that is a hole below; then into two that begin with data.
    write(&disk.image, 9 << 20, &[1; 4096]);
    assert!(disk.room() - before <= 64 << 10, "{} bytes", disk.room() - before);
    write(&disk.image, 64 << 10, &[1; 4096]);
    block_on(disk.image.write_zeroes((32 << 20) + 8192, 1024, Room::GiveBack, Fua::No)).unwrap();
    // Copies go in pieces: what surrounds data within one may come along, what lies behind it may not.
    assert!(disk.room() - before <= (1 << 20) + (256 << 10), "{} bytes", disk.room() - before);
    assert_same(&read(&disk.image, 0, 4096), &[7; 4096], "what was copied");
    assert_same(&read(&disk.image, 32 << 20, 4096), &[8; 4096], "what was copied");
    assert_same(&read(&disk.image, 8192, 4096), &[0; 4096], "what was a hole");
}

#[test]
fn known_zeroes_of_a_qed_backing_file_are_not_copied() {
    let disk = Disk::new(Some(("base.qed", Format::Qed)), |directory| {
        sparse_base(directory);
        let base = fresh(&FileOpener, &directory.join("base.qed"), SHAPE, Some(("base.raw", Format::Raw)));
        block_on(base.write_zeroes(0, 4 << 20, Room::GiveBack, Fua::No)).expect("zero markers");
        close(base);
    });
    let before = disk.room();
    write(&disk.image, 1 << 20, &[1; 4096]);
    write(&disk.image, 9 << 20, &[1; 4096]);
    assert!(disk.room() - before <= 128 << 10, "{} bytes", disk.room() - before);
    assert_same(&read(&disk.image, 0, 4096), &[0; 4096], "the marker, not what lies below it");
}

#[test]
fn zeroes_over_known_zeroes_allocate_nothing() {
    let disk = Disk::new(Some(("base.raw", Format::Raw)), sparse_base);
    let length = disk.name().metadata().unwrap().len();
    block_on(disk.image.write_zeroes(4 << 20, 28 << 20, Room::GiveBack, Fua::No)).unwrap();
    assert_eq!(disk.name().metadata().unwrap().len(), length);
    let status = block_on(disk.image.block_status(4 << 20, 4 << 20)).unwrap();
    assert!(matches!(status.kind, BlockKind::Hole { .. }), "still the backing file's: {status:?}");
}

#[test]
fn zeroes_over_whole_clusters_of_a_backing_file_take_a_marker_and_no_room() {
    let disk = Disk::new(Some(("base.raw", Format::Raw)), sparse_base);
    block_on(disk.image.write_zeroes(0, 64 << 20, Room::GiveBack, Fua::No)).unwrap();
    let status = block_on(disk.image.block_status(0, 2 << 20)).unwrap();
    assert_eq!((status.kind, status.depth, status.len), (BlockKind::Zero, 0, 2 << 20));
    assert!(read_all(&disk.image).iter().all(|byte| *byte == 0));
    let name = disk.name();
    close(disk.image);
    assert_eq!(assert_clean(&FileOpener, &name), 0, "no cluster");
}

#[test]
fn a_discard_gives_room_back_and_keeps_the_cluster() {
    let disk = Disk::new(None, |_| {});
    write(&disk.image, 0, &[1; 8 << 20]);
    let full = disk.room();
    let place = block_on(disk.image.block_status(0, 8 << 20)).unwrap();
    block_on(disk.image.discard(0, 8 << 20, Fua::No)).unwrap();
    assert!(full - disk.room() >= 8 << 20, "{full} and {}", disk.room());
    assert_eq!(block_on(disk.image.block_status(0, 8 << 20)).unwrap(), place, "entries stay");
    write(&disk.image, 0, &[2; 4096]);
    assert_eq!(block_on(disk.image.block_status(0, 8 << 20)).unwrap(), place, "written to again");
}

#[test]
fn a_zero_write_that_keeps_room_keeps_it() {
    let disk = Disk::new(None, |_| {});
    write(&disk.image, 0, &[1; 8 << 20]);
    let full = disk.room();
    block_on(disk.image.write_zeroes(0, 8 << 20, Room::Keep, Fua::No)).unwrap();
    assert!(disk.room() + (1 << 20) >= full, "{full} and {}", disk.room());
    assert!(read_all(&disk.image).iter().all(|byte| *byte == 0));
    block_on(disk.image.write_zeroes(0, 8 << 20, Room::GiveBack, Fua::No)).unwrap();
    assert!(full - disk.room() >= 8 << 20);
}

#[test]
fn a_read_only_image_names_the_holes_of_its_backing_file() {
    let disk = Disk::new(Some(("base.raw", Format::Raw)), sparse_base);
    let name = disk.name();
    close(disk.image);
    let image = open(&FileOpener, &name, Access::Read);
    let status = block_on(image.block_status(0, 64 << 20)).unwrap();
    assert_eq!((status.kind, status.depth), (BlockKind::Data { file_offset: 0 }, 1));
    let status = block_on(image.block_status(1 << 20, 8 << 20)).unwrap();
    assert_eq!(
        (status.kind, status.depth, status.len),
        (BlockKind::Hole { file_offset: 1 << 20 }, 1, 8 << 20)
    );
}

#[test]
fn tables_that_are_holes_are_looked_through_without_being_loaded() {
    let shape = Shape { size: 8 << 40, cluster: 1 << 20, table: 16 };
    let directory = tempfile::tempdir().expect("a directory");
    let image = fresh(&FileOpener, &directory.path().join(DISK), shape, None);
    let written = [1 << 20, 1 << 40, 8 << 40].map(|end: u64| end - (1 << 20));
    written.iter().for_each(|&at| write(&image, at, &[1; 1 << 20]));
    let name = directory.path().join(DISK);
    close(image);
    for access in [Access::Read, Access::Write] {
        let image = open(&FileOpener, &name, access);
        let (mut at, mut steps, mut data) = (0, 0, Vec::new());
        while at < image.size() {
            let status = block_on(image.block_status(at, image.size() - at)).unwrap();
            if matches!(status.kind, BlockKind::Data { .. }) {
                assert_eq!(status.len, 1 << 20);
                data.push(at);
            }
            at += status.len;
            steps += 1;
        }
        assert_eq!(data, written);
        let misses = image.cache_stats().misses;
        assert!(steps <= 20 && misses <= 10, "{steps} steps, {misses} slices for three clusters");
        close(image);
    }
}
