//! What an image counts is what was done to its file.

mod common;

use std::path::Path;
use std::sync::atomic::Ordering;

use common::probe::{Op, ProbeOpener};
use common::*;
use quod::{CommitPolicy, Fua, Image, ImageStats, OpenOptions, block_on};
use quod_storage::{Access, Buffer, MemoryOpener};

const SHAPE: Shape = Shape { size: 64 << 20, cluster: 4096, table: 2 };

#[test]
fn under_either_policy_what_went_to_the_file_is_counted() {
    for policy in [CommitPolicy::Through, CommitPolicy::Grouped] {
        let opener = ProbeOpener::default();
        make(&opener, Path::new(DISK), SHAPE, None);
        let options = OpenOptions { commit: Some(policy), ..options(Access::Write) };
        let image = block_on(Image::open(&opener, Path::new(DISK), &options)).expect("the image opens");
        opener.record(DISK).take();
        let before = image.stats();
        assert_eq!(before.file_length, length(&opener.plain.file(Path::new(DISK))), "{policy:?}");
        let mut nothing = ImageStats::default();
        (nothing.file_length, nothing.cache) = (before.file_length, image.cache_stats());
        assert_eq!(before, nothing);
        for i in 0..3 {
            write(&image, i * 4096, &[1; 4096]);
        }
        let written = image.stats();
        assert!(written.needs_check && !written.is_latched, "{policy:?}");
        match policy {
            CommitPolicy::Through => assert_eq!((written.entries_pending, written.bytes_pending), (0, 0)),
            // The table is linked by a promise, too.
            CommitPolicy::Grouped => assert_eq!((written.entries_pending, written.bytes_pending), (4, 12288)),
        }
        flush(&image);
        block_on(image.write(0, Buffer::copy_of(&[2; 512]), Fua::Yes)).expect("it is written");
        let stats = image.stats();
        assert_eq!(
            (stats.entries_written, stats.entries_pending, stats.bytes_pending),
            (4, 0, 0),
            "{policy:?}"
        );
        assert_eq!(stats.slices_written, if policy == CommitPolicy::Through { 4 } else { 2 });
        assert_eq!(stats.flushes_asked, 2);
        let flushes = opener.record(DISK).take_changes().into_iter().filter(|op| *op == Op::Flush).count();
        assert_eq!(stats.flushes_begun, flushes as u64, "{policy:?}");
        // Three clusters, and a table of two.
        assert_eq!(stats.clusters_allocated, 5);
        assert_eq!(stats.file_growth, stats.file_length - before.file_length);
        assert_eq!(stats.file_length, length(&opener.plain.file(Path::new(DISK))));
        block_on(image.maintain()).expect("the tables are looked through");
        block_on(image.maintain()).expect("it is not idle yet");
        block_on(image.maintain()).expect("it is settled");
        let settled = image.stats();
        assert!(!settled.needs_check, "{policy:?}");
        assert_eq!(settled.file_growth, 5 * 4096);
        close(image);
    }
}

#[test]
fn a_raw_image_has_its_length_and_its_flushes() {
    let opener = MemoryOpener::new();
    set_length(&opener.file(Path::new(DISK)), 8192);
    let options = OpenOptions { format: Some(quod::Format::Raw), ..options(Access::Write) };
    let image = block_on(Image::open(&opener, Path::new(DISK), &options)).expect("the image opens");
    write(&image, 0, &[1; 512]);
    flush(&image);
    let mut wanted = ImageStats::default();
    (wanted.file_length, wanted.flushes_asked, wanted.flushes_begun) = (8192, 1, 1);
    assert_eq!(image.stats(), wanted);
    close(image);
}

/// A slice that has to be waited for is one miss, however it was tried.
#[test]
fn a_read_that_waits_is_counted_once_and_tried_at_once_but_twice() {
    const TABLES: u64 = 8;
    let opener = ProbeOpener::default();
    let image = fresh(&opener, Path::new(DISK), SHAPE, None);
    let span = SHAPE.table_bytes() / 8 * SHAPE.cluster();
    (0..TABLES).for_each(|table| write(&image, table * span, &[1; 4096]));
    close(image);
    let image = open(&opener, Path::new(DISK), Access::Read);
    let record = opener.record(DISK);
    record.take();
    let before = record.asked_now.load(Ordering::Relaxed);
    for table in 0..TABLES {
        assert_same(&read(&image, table * span, 4096), &[1; 4096], "a cluster");
    }
    let stats = image.cache_stats();
    // The first found no slice of L1 either.
    assert_eq!((stats.misses, stats.hits, stats.loads_shared), (TABLES + 1, TABLES - 1, 0), "{stats:?}");
    let reads = record.take().iter().filter(|op| matches!(op, Op::Read { .. })).count() as u64;
    assert_eq!(reads, 2 * TABLES + 1, "a slice and a cluster each, and L1");
    let asked = record.asked_now.load(Ordering::Relaxed) - before;
    assert_eq!(asked, 2 * TABLES, "the slices, each by who tries and by who waits, and no cluster");
}
