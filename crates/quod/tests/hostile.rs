//! Images that lie: always an error, never a panic, never an end that does not come.

mod common;

use std::path::Path;

use common::*;
use proptest::prelude::*;
use quod::{CheckReport, Error, Fua, Image, Repair, Result, Room, block_on, check};
use quod_storage::{Access, Buffer, Memory, MemoryOpener, Storage};

/// A disk of three tables; data under two of them.
const SHAPE: Shape = Shape::small(5 << 20);

fn sound() -> (MemoryOpener, Memory) {
    let opener = MemoryOpener::new();
    let image = fresh(&opener, Path::new(DISK), SHAPE, None);
    write(&image, 0, &pattern(1, 20_000));
    write(&image, 3 << 20, &pattern(2, 20_000));
    close(image);
    let file = opener.file(Path::new(DISK));
    (opener, file)
}

/// At most so many requests on one image: its size may be anything.
const STEPS: u64 = 300;

/// Places all over a disk of any size.
fn places(size: u64) -> impl Iterator<Item = u64> {
    let near = (0..STEPS / 2).map(|i| i * 20_000);
    let far = (0..STEPS / 2).map(move |i| size / (STEPS / 2) * i);
    near.chain(far).chain([size.saturating_sub(4096)]).filter(move |at| *at < size)
}

fn read_everywhere<S: Storage>(image: &Image<S>) {
    for at in places(image.size()) {
        let len = (image.size() - at).min(20_000);
        let outcome = block_on(image.read(at, Buffer::zeroed(len as usize))).map(drop);
        tolerable(outcome.err());
        match block_on(image.block_status(at, image.size() - at)) {
            Ok(status) => assert!(status.len > 0 && status.len <= image.size() - at),
            Err(error) => tolerable(Some(error)),
        }
    }
}

/// An error names the file and says something.
fn tolerable(error: Option<Error>) {
    if let Some(error) = error {
        assert!(error.to_string().starts_with(DISK), "{error}");
        assert!(error.message().len() > 10, "{error}");
    }
}

fn look<S: Storage>(opened: Result<Image<S>>, work: impl FnOnce(&Image<S>)) {
    match opened {
        Ok(image) => work(&image),
        Err(error) => tolerable(Some(error)),
    }
}

fn check_it(opener: &MemoryOpener, access: Access, repair: Repair) -> Option<CheckReport> {
    match block_on(check(opener, Path::new(DISK), access, repair)) {
        Ok(report) => Some(report),
        Err(error) => {
            tolerable(Some(error));
            None
        }
    }
}

/// Does to an image whatever can be done to one.
fn exercise(opener: &MemoryOpener) {
    let open = |access| block_on(Image::open(opener, Path::new(DISK), &options(access)));
    look(open(Access::Read), read_everywhere);
    let found = check_it(opener, Access::Read, Repair::No);
    look(open(Access::Write), |image| {
        for at in places(image.size()).step_by(7) {
            let len = (image.size() - at).min(9000) as usize;
            tolerable(block_on(image.write(at, Buffer::copy_of(&vec![1; len]), Fua::No)).map(drop).err());
            tolerable(block_on(image.write_zeroes(at, len as u64 / 2, Room::GiveBack, Fua::No)).err());
        }
        tolerable(block_on(image.grow(image.size().saturating_add(1 << 20) / 512 * 512)).err());
        read_everywhere(image);
        tolerable(block_on(image.maintain()).err());
        tolerable(block_on(image.close()).err());
    });
    let again = check_it(opener, Access::Read, Repair::No);
    if let (Some(before), Some(after)) = (found, again)
        && before.corruptions == 0
    {
        assert_eq!(after.corruptions, 0, "a sound image stays sound: {after:?}");
    }
    if let Some(report) = check_it(opener, Access::Write, Repair::Yes)
        && report.remaining_corruptions() == 0
    {
        let again = check_it(opener, Access::Read, Repair::No).expect("what was repaired can be checked");
        assert_eq!(again.corruptions, 0, "what was repaired is sound: {again:?}");
        look(open(Access::Write), |image| tolerable(block_on(image.close()).err()));
    }
}

/// What is done to the bytes of an image.
#[derive(Clone, Debug)]
enum Harm {
    /// A field of the header.
    Header {
        at: u64,
        len: usize,
        value: u64,
    },
    /// An entry of a table.
    Entry {
        table: u64,
        index: u64,
        value: u64,
    },
    Length(u64),
}

fn values() -> impl Strategy<Value = u64> {
    prop_oneof![
        any::<u64>(),
        0..16u64,
        (0..64u32).prop_map(|bit| 1 << bit),
        (0..64u32).prop_map(|bit| (1u64 << bit) - 1),
        (0..64u32).prop_map(|bit| u64::MAX << bit),
        (0..40u64).prop_map(|cluster| cluster * 4096),
    ]
}

fn harms() -> impl Strategy<Value = Harm> {
    let field = prop_oneof![
        (0..4u64).prop_map(|i| (4 * i, 4)),
        (2..7u64).prop_map(|i| (8 * i, 8)),
        (14..16u64).prop_map(|i| (4 * i, 4))
    ];
    prop_oneof![
        3 => (field, values()).prop_map(|((at, len), value)| Harm::Header { at, len, value }),
        5 => (0..3u64, prop_oneof![0..6u64, 0..512u64], values())
            .prop_map(|(table, index, value)| Harm::Entry { table, index, value }),
        1 => prop_oneof![0..100_000u64, Just(1u64 << 40), Just(i64::MAX as u64)].prop_map(Harm::Length),
    ]
}

fn harm(file: &Memory, harms: &[Harm]) {
    let tables = [SHAPE.l1().start, SHAPE.l2(file, 0).start, SHAPE.l2(file, 1).start];
    for harm in harms {
        match harm {
            Harm::Header { at, len, value } => set_bytes(file, *at, &value.to_le_bytes()[..*len]),
            Harm::Entry { table, index, value } => {
                set_entry(file, tables[*table as usize] + 8 * index, *value)
            }
            Harm::Length(len) => set_length(file, *len),
        }
    }
}

/// The most memory that this process has had, in bytes.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("/proc is there");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a peak");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") << 10
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn an_image_that_lies_is_an_error_at_worst(harms in prop::collection::vec(harms(), 1..6), dirty: bool) {
        let (opener, file) = sound();
        harm(&file, &harms);
        if dirty && length(&file) > 24 {
            let features = bytes(&file, 16, 1)[0];
            set_bytes(&file, 16, &[features | 2]);
        }
        exercise(&opener);
        prop_assert!(peak() < 256 << 20, "{} bytes", peak());
    }
}

#[test]
fn an_image_that_was_cut_short_is_an_error_at_worst() {
    let (_, file) = sound();
    let whole = bytes(&file, 0, length(&file) as usize);
    let steps = (0..200).chain((200..SHAPE.first_free() as usize).step_by(511));
    for len in steps.chain((SHAPE.first_free() as usize..whole.len()).step_by(4093)) {
        let opener = MemoryOpener::new();
        set_bytes(&opener.file(Path::new(DISK)), 0, &whole[..len]);
        let opened = block_on(Image::open(&opener, Path::new(DISK), &options(Access::Read)));
        assert_eq!(opened.is_ok(), len >= SHAPE.first_free() as usize, "{len}");
        exercise(&opener);
    }
}

#[test]
fn an_entry_of_every_wrong_kind_fails_the_requests_that_meet_it_and_no_other() {
    let (opener, file) = sound();
    let end = length(&file);
    let wrong = [2, 512, 4096 + 512, 0, SHAPE.first_free() + 1, end, end - 4095, 1 << 62, u64::MAX, !4095];
    for value in wrong.into_iter().filter(|value| *value != 0) {
        for (place, harmed) in
            [(SHAPE.l2(&file, 0).start, 0), (SHAPE.l1().start, 0), (SHAPE.l1().start + 8, 3 << 20)]
        {
            let before = entry(&file, place);
            set_entry(&file, place, value);
            let image = open(&opener, Path::new(DISK), Access::Read);
            let error = block_on(image.read(harmed, Buffer::zeroed(512))).unwrap_err();
            assert_eq!(error.kind(), quod::ErrorKind::Corrupt, "{value:#x} at {place:#x}: {error}");
            assert!(error.to_string().contains("Invalid argument"), "{error}");
            let other = (3 << 20) - harmed;
            assert_same(
                &read(&image, other, 20_000),
                &pattern(if other == 0 { 1 } else { 2 }, 20_000),
                "the rest",
            );
            assert_eq!(report(&opener, Path::new(DISK)).corruptions, 1, "{value:#x} at {place:#x}");
            set_entry(&file, place, before);
        }
    }
    // 1 means nothing in L1; in L2 it is a cluster of zeroes.
    set_entry(&file, SHAPE.l1().start, 1);
    assert_eq!(report(&opener, Path::new(DISK)).corruptions, 1);
}

#[test]
fn a_run_ends_before_an_entry_that_goes_on_past_the_end_of_the_file() {
    let (opener, file) = sound();
    let image = open(&opener, Path::new(DISK), Access::Write);
    let good = (3 << 20) + 8 * 4096;
    write(&image, good, &[7; 4096]);
    close(image);
    let place = SHAPE.l2(&file, 1).start + 8 * (256 + 8);
    assert_eq!(entry(&file, place) + 4096, length(&file), "it lies last in the file");
    set_entry(&file, place + 8, length(&file));
    let image = open(&opener, Path::new(DISK), Access::Read);
    assert_same(&read(&image, good, 4096), &[7; 4096], "the last cluster of the file");
    assert_eq!(block_on(image.block_status(good, 8192)).unwrap().len, 4096);
    let error = block_on(image.read(good, Buffer::zeroed(8192))).unwrap_err();
    assert_eq!(error.kind(), quod::ErrorKind::Corrupt, "{error}");
}

#[test]
fn a_table_that_does_not_end_inside_the_file_is_none() {
    let opener = MemoryOpener::new();
    let shape = Shape { size: 8 << 20, cluster: 4096, table: 2 };
    make(&opener, Path::new(DISK), shape, None);
    let file = opener.file(Path::new(DISK));
    // The half of it that lies inside is zeroes, which would be sound.
    set_length(&file, length(&file) + 4096);
    set_entry(&file, shape.l1().start + 8, length(&file) - 4096);
    let image = open(&opener, Path::new(DISK), Access::Read);
    let error = block_on(image.read(4 << 20, Buffer::zeroed(512))).unwrap_err();
    assert_eq!(error.kind(), quod::ErrorKind::Corrupt, "{error}");
    let found = report(&opener, Path::new(DISK));
    assert!(found.corruptions == 1 && found.findings[0].contains("names no table"), "{found:?}");
}
