//! What a writable open does before the first request, and what a close leaves behind (D2, D12, D14).

mod common;

use std::path::Path;
use std::sync::atomic::Ordering;

use common::probe::{Op, ProbeOpener};
use common::*;
use quod::{CreateOptions, ErrorKind, Image, Repair, block_on, check};
use quod_storage::{Access, Buffer, Existing, Held, Memory, Storage};

const SHAPE: Shape = Shape::small(8 << 20);

/// A closed image with three clusters, and its file.
fn closed() -> (ProbeOpener, Memory) {
    let opener = ProbeOpener::default();
    let image = fresh(&opener, Path::new(DISK), SHAPE, None);
    write(&image, 0, &[1; 3 * 4096]);
    close(image);
    opener.record(DISK).take();
    let file = opener.plain.file(Path::new(DISK));
    (opener, file)
}

fn set_dirty(file: &Memory) {
    set_entry(file, 16, entry(file, 16) | 2);
}

fn refused(opener: &ProbeOpener) -> quod::Error {
    block_on(Image::open(opener, Path::new(DISK), &options(Access::Write))).expect_err("the open is refused")
}

/// Where the entry of a cluster under the first table lies.
fn place(file: &Memory, cluster: u64) -> u64 {
    SHAPE.l2(file, 0).start + 8 * cluster
}

#[test]
fn a_trailing_partial_cluster_is_cut_and_flushed_before_anything_is_written() {
    let (opener, file) = closed();
    let whole = length(&file);
    set_bytes(&file, whole, &[0xee; 1000]);
    let image = open(&opener, Path::new(DISK), Access::Write);
    assert_eq!(opener.record(DISK).take_changes(), [Op::SetLen(whole), Op::Flush]);
    write(&image, 1 << 20, &[2; 10]);
    let mut wanted = vec![0; 4096];
    wanted[..10].fill(2);
    assert_same(&read(&image, 1 << 20, 4096), &wanted, "none of the tail's bytes");
}

#[test]
fn a_clean_image_that_was_cut_short_is_not_written_to() {
    let (opener, file) = closed();
    let image = open(&opener, Path::new(DISK), Access::Write);
    write(&image, 4 * 4096, &[2; 4096]);
    close(image);
    opener.record(DISK).take();
    let short = length(&file) - 100;
    block_on(file.set_len(short, Held::NOTHING)).unwrap();
    let error = refused(&opener);
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    for told in [DISK, &short.to_string(), "names no cluster", "open it read-only"] {
        assert!(error.to_string().contains(told), "no {told}: {error}");
    }
    assert_eq!(opener.record(DISK).take_changes(), [], "the rest of the cluster is not cut off");
    assert_same(
        &read(&open(&opener, Path::new(DISK), Access::Read), 0, 8192),
        &[1; 8192],
        "what can be read",
    );
    let mended = block_on(check(&opener, Path::new(DISK), Access::Write, Repair::Yes)).unwrap();
    assert_eq!((mended.corruptions_fixed, mended.remaining_corruptions()), (1, 0), "{mended:?}");
    close(open(&opener, Path::new(DISK), Access::Write));
}

#[test]
fn a_read_only_open_changes_nothing() {
    let (opener, file) = closed();
    set_dirty(&file);
    set_entry(&file, 32, 0xff00);
    set_bytes(&file, length(&file), &[0xee; 1000]);
    let before = bytes(&file, 0, length(&file) as usize);
    for access in [Access::Read, Access::ReadShared] {
        let image = open(&opener, Path::new(DISK), access);
        assert_same(&read(&image, 0, 3 * 4096), &[1; 3 * 4096], "the disk");
        assert_eq!(
            block_on(image.write(0, Buffer::zeroed(1), quod::Fua::No)).unwrap_err().kind(),
            ErrorKind::ReadOnly
        );
        flush(&image);
        close(image);
    }
    assert_eq!(opener.record(DISK).take_changes(), []);
    assert_same(&bytes(&file, 0, length(&file) as usize), &before, "the file");
}

#[test]
fn autoclear_bits_are_cleared_durably_before_the_first_write() {
    let (opener, file) = closed();
    set_entry(&file, 32, u64::MAX);
    let image = open(&opener, Path::new(DISK), Access::Write);
    let changes = opener.record(DISK).take_changes();
    assert!(matches!(changes[..], [Op::Write { at: 0, .. }, Op::Flush]), "{changes:?}");
    assert_eq!(entry(&file, 32), 0);
    write(&image, 0, &[2; 10]);
    close(image);
    assert_clean(&opener, Path::new(DISK));
}

#[test]
fn autoclear_bits_go_before_a_repair_changes_anything() {
    let (opener, file) = closed();
    for dirty in [true, false] {
        set_entry(&file, 32, 5);
        set_entry(&file, place(&file, 10), 1 << 40);
        set_bytes(&file, length(&file), &[0xee; 4096]);
        if dirty {
            set_dirty(&file);
            close(open(&opener, Path::new(DISK), Access::Write));
        } else {
            block_on(check(&opener, Path::new(DISK), Access::Write, Repair::Yes)).unwrap();
        }
        let changes = opener.record(DISK).take_changes();
        assert!(
            matches!(changes[..], [Op::Write { at: 0, .. }, Op::Flush, Op::Write { .. }, ..]),
            "{changes:?}"
        );
        assert_eq!(changes[0].need_check(), Some(dirty), "NEED_CHECK stays as it is until the end");
        assert_eq!(entry(&file, 32), 0);
        assert_clean(&opener, Path::new(DISK));
    }
}

#[test]
fn a_clean_image_opens_without_a_change() {
    let (opener, _) = closed();
    drop(open(&opener, Path::new(DISK), Access::Write));
    assert_eq!(opener.record(DISK).take_changes(), []);
}

#[test]
fn a_close_cuts_the_file_back_to_what_is_referenced() {
    let (opener, file) = closed();
    let image = open(&opener, Path::new(DISK), Access::Write);
    write(&image, 1 << 20, &[2; 10]);
    assert!(length(&file) > entry(&file, place(&file, 256)) + 4096, "the file grows ahead");
    close(image);
    assert_eq!(length(&file), entry(&file, place(&file, 256)) + 4096);
    assert_eq!(assert_clean(&opener, Path::new(DISK)), 4);
}

#[test]
fn the_file_never_grows_ahead_by_more_than_a_mebibyte() {
    for cluster in [4096, 1 << 20, 4 << 20] {
        let opener = ProbeOpener::default();
        let shape = Shape { size: 64 << 20, cluster, table: 1 };
        let image = fresh(&opener, Path::new(DISK), shape, None);
        for i in 0..8 {
            write(&image, i << 22, &[1; 10]);
        }
        let ahead = length(&opener.plain.file(Path::new(DISK)));
        close(image);
        assert_clean(&opener, Path::new(DISK));
        let behind = length(&opener.plain.file(Path::new(DISK)));
        assert!(ahead <= behind + (1 << 20), "{ahead} and {behind}");
    }
}

#[test]
fn requests_after_a_close_fail() {
    let (opener, _) = closed();
    let image = open(&opener, Path::new(DISK), Access::Write);
    let other = image.clone();
    block_on(image.close()).unwrap();
    assert_eq!(block_on(other.read(0, Buffer::zeroed(1))).unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(block_on(other.flush()).unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(block_on(other.maintain()).unwrap_err().kind(), ErrorKind::Closed);
    block_on(other.close()).expect("closing twice is nothing");
}

#[test]
fn a_close_after_one_that_failed_does_not_look_like_success() {
    let (opener, _) = closed();
    let image = open(&opener, Path::new(DISK), Access::Write);
    write(&image, 0, &[1; 10]);
    opener.record(DISK).fail(|op| (*op == Op::Flush).then_some(std::io::ErrorKind::Other));
    assert_eq!(block_on(image.close()).unwrap_err().kind(), ErrorKind::Io);
    opener.record(DISK).heal();
    assert_eq!(block_on(image.clone().close()).unwrap_err().kind(), ErrorKind::Closed);
}

#[test]
fn a_dirty_image_is_repaired_step_by_step() {
    let (opener, file) = closed();
    // An entry past the end, an unaligned one, a table past the end, a tail that nothing references.
    set_entry(&file, place(&file, 10), 1 << 40);
    set_entry(&file, place(&file, 11), 4096 + 512);
    set_entry(&file, SHAPE.l1().start + 8 * 3, 1 << 40);
    let end = length(&file);
    set_bytes(&file, end, &[0xee; 2 * 4096 + 100]);
    set_dirty(&file);
    let (l1, l2) = (SHAPE.l1(), SHAPE.l2(&file, 0));
    let image = open(&opener, Path::new(DISK), Access::Write);
    let changes = opener.record(DISK).take_changes();
    let step =
        |is: &dyn Fn(&Op) -> bool| changes.iter().position(is).unwrap_or_else(|| panic!("{changes:?}"));
    let entries = changes.iter().rposition(|op| op.writes_in(l1.clone()) || op.writes_in(l2.clone()));
    let entries = entries.unwrap_or_else(|| panic!("{changes:?}"));
    let cut = step(&|op| *op == Op::SetLen(end));
    let clear = step(&|op| op.need_check() == Some(false));
    assert!(changes[entries..cut].contains(&Op::Flush), "entries, flush, cut: {changes:?}");
    assert!(changes[cut..clear].contains(&Op::Flush), "cut, flush, bit: {changes:?}");
    assert_eq!(changes[clear + 1..], [Op::Flush], "bit, flush: {changes:?}");
    assert_same(&read(&image, 0, 3 * 4096), &[1; 3 * 4096], "what was sound");
    assert_same(&read(&image, 10 * 4096, 8192), &[0; 8192], "what was cleared");
    write(&image, 10 * 4096, &[3; 8192]);
    close(image);
    assert_eq!(assert_clean(&opener, Path::new(DISK)), 5);
}

#[test]
fn a_dirty_image_with_two_references_to_one_cluster_is_refused_and_stays_dirty() {
    for by_table in [false, true] {
        let (opener, file) = closed();
        let table = SHAPE.l2(&file, 0).start;
        let data = entry(&file, place(&file, 0));
        match by_table {
            false => set_entry(&file, place(&file, 9), data),
            true => set_entry(&file, SHAPE.l1().start + 8, table),
        }
        set_dirty(&file);
        let error = refused(&opener);
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
        assert!(error.to_string().contains(DISK), "{error}");
        assert!(is_dirty(&file), "the bit stays");
        let image = open(&opener, Path::new(DISK), Access::Read);
        assert_same(&read(&image, 0, 3 * 4096), &[1; 3 * 4096], "it can still be read");
    }
}

#[test]
fn a_repair_writes_to_nothing_that_may_be_data() {
    let (opener, file) = closed();
    let data = entry(&file, place(&file, 2));
    // The first L1 entry comes to name a data cluster, which is then read as a table of nonsense before its rightful
    // entry is; that one is under the second L1 entry now.
    let table = entry(&file, SHAPE.l1().start);
    set_entry(&file, SHAPE.l1().start, data);
    set_entry(&file, SHAPE.l1().start + 8, table);
    set_dirty(&file);
    let before = bytes(&file, 0, length(&file) as usize);
    let error = refused(&opener);
    assert!(error.to_string().contains("in use already"), "what stands in the way: {error}");
    let mended = block_on(check(&opener, Path::new(DISK), Access::Write, Repair::Yes)).unwrap();
    assert_eq!((mended.corruptions_fixed, mended.leaks_fixed), (0, 0), "{mended:?}");
    assert!(before == bytes(&file, 0, before.len()) && length(&file) == before.len() as u64);
}

#[test]
fn a_repair_that_fails_leaves_the_bit() {
    for failing in 0.. {
        let (opener, file) = closed();
        set_entry(&file, place(&file, 10), 1 << 40);
        set_bytes(&file, length(&file), &[0xee; 4096]);
        set_dirty(&file);
        let mut step = 0;
        opener.record(DISK).fail(move |op| {
            step += u32::from(op.is_change());
            (op.is_change() && step == failing + 1).then_some(std::io::ErrorKind::Other)
        });
        let opened = block_on(Image::open(&opener, Path::new(DISK), &options(Access::Write)));
        opener.record(DISK).heal();
        match opened {
            Ok(_) => {
                assert_eq!(failing, 6, "entry, flush, cut, flush, bit, flush");
                break;
            }
            Err(_) => assert!(failing == 5 || is_dirty(&file), "step {failing}"),
        }
        close(open(&opener, Path::new(DISK), Access::Write));
        assert_eq!(assert_clean(&opener, Path::new(DISK)), 3);
    }
}

#[test]
fn a_check_tells_what_it_finds_and_changes_only_when_asked() {
    let (opener, file) = closed();
    set_entry(&file, place(&file, 10), 1 << 40);
    set_entry(&file, place(&file, 11), entry(&file, place(&file, 0)));
    set_bytes(&file, length(&file), &[0xee; 3 * 4096]);
    let before = bytes(&file, 0, length(&file) as usize);
    let found = report(&opener, Path::new(DISK));
    assert_eq!((found.corruptions, found.leaks, found.corruptions_fixed), (2, 3, 0), "{found:?}");
    assert_eq!(found.findings.len(), 2, "{found:?}");
    assert_same(&bytes(&file, 0, before.len()), &before, "the file");
    let name = Path::new(DISK);
    let refused = block_on(check(&opener, name, Access::Read, Repair::Yes)).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::InvalidArgument);
    let mended = block_on(check(&opener, name, Access::Write, Repair::Yes)).unwrap();
    assert_eq!((mended.corruptions_fixed, mended.remaining_corruptions()), (1, 1), "{mended:?}");
}

#[test]
fn fragmentation_is_counted_within_each_table() {
    let (opener, _) = closed();
    let fragmented_after = |at| {
        let image = open(&opener, Path::new(DISK), Access::Write);
        write(&image, at, &[1; 8192]);
        close(image);
        report(&opener, Path::new(DISK)).fragmented_clusters
    };
    assert_eq!(fragmented_after(2 << 20), 0, "each table's clusters lie one after another");
    assert_eq!(fragmented_after(1 << 20), 1, "these do not lie behind the first three");
}

#[test]
fn a_storage_that_takes_only_whole_blocks_is_refused_by_name() {
    let (opener, _) = closed();
    opener.record(DISK).coarse.store(true, Ordering::Relaxed);
    let error = refused(&opener);
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    assert!(error.to_string().starts_with("disk") && error.to_string().contains("4096"), "{error}");
    let checked = block_on(check(&opener, Path::new(DISK), Access::Read, Repair::No));
    assert_eq!(checked.expect_err("refused, too").kind(), ErrorKind::InvalidArgument);
    assert_eq!(opener.record(DISK).take(), [], "nothing was read or written");
}

#[test]
fn a_file_that_is_there_is_kept_unless_it_may_be_emptied() {
    let (opener, file) = closed();
    let long = length(&file);
    let error = block_on(Image::create(&opener, Path::new(DISK), &CreateOptions::new(1 << 20)))
        .expect_err("there is one");
    assert_eq!(error.io_error().map(std::io::Error::kind), Some(std::io::ErrorKind::AlreadyExists));
    assert_eq!(length(&file), long);
    let emptying = SHAPE.options(None);
    assert_eq!(emptying.existing, Existing::Empty);
    block_on(Image::create(&opener, Path::new(DISK), &emptying)).expect("it may be emptied");
    assert!(length(&file) < long);
}

#[test]
fn a_raw_file_whose_end_no_client_could_name_is_refused() {
    let opener = ProbeOpener::default();
    let file = opener.plain.file(Path::new(DISK));
    let raw = quod::OpenOptions { format: Some(quod::Format::Raw), ..options(Access::Read) };
    let open = || block_on(Image::open(&opener, Path::new(DISK), &raw));
    let most = i64::MAX as u64 - 511;
    block_on(file.set_len(most, Held::NOTHING)).unwrap();
    assert_eq!(open().expect("it ends in time").size(), most);
    block_on(file.set_len(most + 1, Held::NOTHING)).unwrap();
    assert_eq!(open().expect_err("rounded up it would not").kind(), ErrorKind::InvalidArgument);
}
