//! In which order an allocating write brings data, entries and tables to the disk (D3 to D8).

mod common;

use std::path::Path;

use common::backing::Backing;
use common::probe::{Op, Probe, ProbeOpener};
use common::*;
use quod::{Fua, Image, Room, block_on};
use quod_storage::{Access, Buffer, Memory};

/// Tables of two clusters, to be told from clusters.
const SHAPE: Shape = Shape { size: 64 << 20, cluster: 4096, table: 2 };
/// Guest bytes under one L1 entry.
const SPAN: u64 = 1024 * 4096;

struct Disk {
    opener: ProbeOpener,
    image: Image<Probe>,
    file: Memory,
}

impl Disk {
    fn new(backing: Backing) -> Self {
        let opener = ProbeOpener::default();
        let below = backing.make(&opener.plain, 0);
        let image = fresh(&opener, Path::new(DISK), SHAPE, below);
        opener.record(DISK).take();
        let file = opener.plain.file(Path::new(DISK));
        Disk { opener, image, file }
    }

    fn changes(&self) -> Vec<Op> {
        self.opener.record(DISK).take_changes()
    }

    /// What a write changes in the file, in order.
    fn write(&self, at: u64, bytes: &[u8]) -> Vec<Op> {
        write(&self.image, at, bytes);
        self.changes()
    }

    /// Where the entry of a guest offset lies, and what it says.
    fn entry(&self, at: u64) -> (u64, u64) {
        let place = SHAPE.l2(&self.file, at / SPAN).start + at % SPAN / 4096 * 8;
        (place, entry(&self.file, place))
    }
}

fn position(changes: &[Op], what: &str, is: impl Fn(&Op) -> bool) -> usize {
    changes.iter().position(is).unwrap_or_else(|| panic!("no {what} in {changes:?}"))
}

fn flushes(changes: &[Op]) -> usize {
    changes.iter().filter(|op| **op == Op::Flush).count()
}

/// The longest that the file is known to be before a change, and long enough for all that entries name in it.
fn assert_length_covers_entries(
    before: u64,
    changes: &[Op],
    tables: &[std::ops::Range<u64>],
    named_bytes: u64,
) {
    let mut length = before;
    for op in changes {
        match op {
            Op::SetLen(len) => length = *len,
            Op::Write { at, bytes } => {
                assert!(at + bytes.len() as u64 <= length, "a write past the length: {at:#x}");
                if tables.iter().any(|table| op.writes_in(table.clone())) {
                    for raw in bytes.chunks(8) {
                        let named = u64::from_le_bytes(raw.try_into().expect("eight bytes"));
                        assert!(named < 2 || named + named_bytes <= length, "{named:#x} is past {length:#x}");
                    }
                }
            }
            _ => {}
        }
    }
}

#[test]
fn the_length_covers_what_an_entry_names_before_the_entry_is_written() {
    for backing in [Backing::None, Backing::Raw(64 << 20)] {
        let disk = Disk::new(backing);
        let before = length(&disk.file);
        write(&disk.image, 0, &[1; 100]);
        write(&disk.image, SPAN + 5000, &[1; 20_000]);
        write(&disk.image, 4096 * 100, &[1; 3 << 20]);
        let changes = disk.changes();
        let l2 = [SHAPE.l2(&disk.file, 0), SHAPE.l2(&disk.file, 1)];
        assert_length_covers_entries(before, &changes, &l2, SHAPE.cluster());
        assert_length_covers_entries(before, &changes, &[SHAPE.l1()], SHAPE.table_bytes());
    }
}

#[test]
fn over_a_backing_file_data_is_durable_before_its_entry() {
    let disk = Disk::new(Backing::Raw(64 << 20));
    for at in [0, 4096, SPAN + 300, 10 * 4096 + 77] {
        let changes = disk.write(at, &[1; 100]);
        let (place, named) = disk.entry(at);
        let data = position(&changes, "data", |op| op.writes_in(named..named + 4096));
        let entry = position(&changes, "entry", |op| op.writes_in(place..place + 8));
        assert!(changes[data..entry].contains(&Op::Flush), "data, flush, entry: {changes:?}");
        assert!(!changes.iter().any(|op| op.need_check().is_some()), "no NEED_CHECK over a backing file");
    }
}

#[test]
fn over_a_backing_file_data_is_durable_before_it_replaces_a_zero_marker() {
    let disk = Disk::new(Backing::Raw(64 << 20));
    block_on(disk.image.write_zeroes(0, 1 << 20, Room::GiveBack, Fua::No)).unwrap();
    assert_eq!(disk.entry(0).1, 1, "a zero marker");
    disk.changes();
    let changes = disk.write(100, &[1; 100]);
    let (place, named) = disk.entry(0);
    let data = position(&changes, "data", |op| op.writes_in(named..named + 4096));
    let entry = position(&changes, "entry", |op| op.writes_in(place..place + 8));
    assert!(changes[data..entry].contains(&Op::Flush), "data, flush, entry: {changes:?}");
    let mut wanted = vec![0; 4096];
    wanted[100..200].fill(1);
    assert_same(&read(&disk.image, 0, 4096), &wanted, "zeroes around the data, not the backing file");
}

#[test]
fn over_a_backing_file_the_whole_cluster_is_there_when_its_entry_is_written() {
    let backing = Backing::Raw(64 << 20);
    let disk = Disk::new(backing);
    disk.write(8192 + 1000, &[1; 100]);
    let (_, named) = disk.entry(8192);
    let mut wanted = backing.window(0, 12288)[8192..].to_vec();
    wanted[1000..1100].fill(1);
    assert_same(&bytes(&disk.file, named, 4096), &wanted, "the cluster in the file");
}

#[test]
fn over_a_backing_file_the_file_never_grows_ahead() {
    let disk = Disk::new(Backing::Raw(64 << 20));
    let mut end = length(&disk.file);
    // Without NEED_CHECK nobody would cut it back after a crash.
    for at in [0, 4096, SPAN + 300, 10 * 4096 + 77] {
        disk.write(at, &[1; 100]);
        let table = SHAPE.l2(&disk.file, at / SPAN);
        end = end.max(disk.entry(at).1 + 4096).max(table.end);
        assert_eq!(length(&disk.file), end, "it ends at what is referenced");
    }
}

#[test]
fn a_new_table_is_durable_before_l1_names_it() {
    for backing in [Backing::None, Backing::Raw(64 << 20)] {
        let disk = Disk::new(backing);
        let changes = disk.write(3 * SPAN, &[1; 100]);
        let table = SHAPE.l2(&disk.file, 3);
        let long_enough =
            position(&changes, "length", |op| matches!(op, Op::SetLen(len) if *len >= table.end));
        let link = position(&changes, "link", |op| op.writes_in(SHAPE.l1()));
        let length_flush = changes[long_enough..link].contains(&Op::Flush);
        assert!(length_flush, "length, flush, link: {changes:?}");
        let unflushed = changes[..link].iter().rev().take_while(|op| **op != Op::Flush);
        assert!(unflushed.into_iter().all(|op| !op.writes_in(table.clone())), "nothing of it is on its way");
    }
}

#[test]
fn without_a_backing_file_an_allocation_costs_no_flush_of_its_own() {
    let disk = Disk::new(Backing::None);
    disk.write(0, &[1; 100]);
    let changes: Vec<_> = (1..100).flat_map(|i| disk.write(i * 4096, &[1; 100])).collect();
    assert_eq!(flushes(&changes), 0, "NEED_CHECK stands for the order");
}

#[test]
fn the_first_flush_is_never_skipped_and_a_later_one_only_when_nothing_was_written() {
    let disk = Disk::new(Backing::None);
    flush(&disk.image);
    assert_eq!(disk.changes(), [Op::Flush], "the first");
    flush(&disk.image);
    assert_eq!(disk.changes(), [], "nothing was written since");
    disk.write(0, &[1; 512]);
    flush(&disk.image);
    assert_eq!(disk.changes(), [Op::Flush], "after a first write");
    disk.write(0, &[1; 512]);
    flush(&disk.image);
    assert_eq!(disk.changes(), [Op::Flush], "after a write in place");
    block_on(disk.image.write_zeroes(0, 512, Room::Keep, Fua::No)).unwrap();
    disk.changes();
    flush(&disk.image);
    assert_eq!(disk.changes(), [Op::Flush], "after a zero write in place");
    block_on(disk.image.discard(0, 512, Fua::No)).unwrap();
    disk.changes();
    flush(&disk.image);
    assert_eq!(disk.changes(), [Op::Flush], "after a discard in place");
    read(&disk.image, 0, 100_000);
    flush(&disk.image);
    assert_eq!(disk.changes(), [], "reads need no flush");
}

#[test]
fn a_fua_write_ends_with_a_flush_that_covers_all_on_its_path() {
    for backing in [Backing::None, Backing::Raw(64 << 20)] {
        let disk = Disk::new(backing);
        // The table and the cluster come from a write without FUA.
        disk.write(0, &[1; 100]);
        block_on(disk.image.write(200, Buffer::copy_of(&[2; 100]), Fua::Yes)).unwrap();
        assert_eq!(disk.changes().last(), Some(&Op::Flush), "in place");
        block_on(disk.image.write(2 * SPAN, Buffer::copy_of(&[2; 100]), Fua::Yes)).unwrap();
        assert_eq!(disk.changes().last(), Some(&Op::Flush), "a first write");
        block_on(disk.image.write_zeroes(0, 100, Room::Keep, Fua::Yes)).unwrap();
        assert_eq!(disk.changes().last(), Some(&Op::Flush), "a zero write");
    }
}

#[test]
fn fresh_room_lies_past_every_length_the_file_has_had() {
    let opener = ProbeOpener::default();
    make(&opener, Path::new(DISK), SHAPE, None);
    let file = opener.plain.file(Path::new(DISK));
    // Clusters of another time, unreferenced, at the end of an image that was closed cleanly.
    let old = length(&file);
    set_bytes(&file, old, &[0xee; 8 * 4096]);
    let image = open(&opener, Path::new(DISK), Access::Write);
    write(&image, 100, &[1; 10]);
    let place = SHAPE.l2(&file, 0).start;
    assert!(entry(&file, place) >= old + 8 * 4096, "not in the tail");
    let mut wanted = vec![0; 4096];
    wanted[100..110].fill(1);
    assert_same(&read(&image, 0, 4096), &wanted, "none of the tail's bytes");
}
