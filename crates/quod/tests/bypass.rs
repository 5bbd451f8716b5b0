//! Reads whose slice does not come into the cache: they see what reads of a resident slice see, also beside writers.

mod common;

use std::path::Path;
use std::sync::atomic::{AtomicU8, Ordering};
use std::thread;

use common::*;
use fastrand::Rng;
use quod::{CacheBudget, Fua, Image, OpenOptions, Room, block_on};
use quod_storage::{Access, Buffer, FileOpener, MemoryOpener, Opener, Storage};

/// Guest bytes under one slice, and there is one in a table.
const SPAN: u64 = 2 << 20;
const SPANS: u64 = 500;
const CLUSTER: u64 = 4096;
const CLUSTERS: u64 = SPAN / CLUSTER;
const SHAPE: Shape = Shape::small(SPANS * SPAN);

/// A disk whose slices do not all fit, of scattered clusters that are all one byte.
fn open_small<O: Opener>(opener: &O, name: &Path, access: Access, budget: usize) -> Image<O::Storage> {
    let options = OpenOptions { cache: CacheBudget::Own(budget), ..options(access) };
    block_on(Image::open(opener, name, &options)).expect("it opens")
}

/// Reads places at random, until slices do not come in any more.
fn until_bypassed<S: Storage>(image: &Image<S>, rng: &mut Rng) {
    let mut read_one = || drop(read(image, rng.u64(..SPANS) * SPAN + rng.u64(..4) * CLUSTER, 512));
    for _ in 0..100 {
        (0..1000).for_each(|_| read_one());
        if image.cache_stats().bypasses > 1000 {
            return;
        }
    }
    panic!("{:?}", image.cache_stats());
}

/// A few runs of every kind in each span, and what each cluster reads as.
fn fill<S: Storage>(image: &Image<S>, rng: &mut Rng) -> Vec<u8> {
    let mut wanted = vec![0; (SPANS * CLUSTERS) as usize];
    for _ in 0..8 {
        let mut spans: Vec<_> = (0..SPANS).collect();
        rng.shuffle(&mut spans);
        for span in spans {
            let clusters = [1, 2, 7, 9, 30][rng.usize(..5)];
            let first = span * CLUSTERS + rng.u64(..=CLUSTERS - clusters);
            let (at, len) = (first * CLUSTER, clusters * CLUSTER);
            let value = if rng.u8(..4) == 0 { 0 } else { rng.u8(1..) };
            match value {
                0 => block_on(image.write_zeroes(at, len, Room::Keep, Fua::No)).expect("zeroes"),
                _ => write(image, at, &vec![value; len as usize]),
            }
            wanted[first as usize..][..clusters as usize].fill(value);
        }
    }
    wanted
}

#[test]
fn a_read_of_any_length_sees_what_is_in_the_file() {
    let opener = MemoryOpener::new();
    let mut rng = Rng::with_seed(7);
    let image = fresh(&opener, Path::new(DISK), SHAPE, None);
    let wanted = fill(&image, &mut rng);
    close(image);
    let image = open_small(&opener, Path::new(DISK), Access::Read, 90 << 10);
    until_bypassed(&image, &mut rng);
    let before = image.cache_stats();
    for step in 0..40_000 {
        // Most are short: a longer one looks several times.
        let most = [3 * CLUSTER, 8 * CLUSTER, 9 * CLUSTER, 40 * CLUSTER][rng.usize(..4)];
        let len = if step % 100 == 0 { rng.u64(1..=most) } else { 1 };
        let at = rng.u64(..=SHAPE.size - len);
        for (byte, at) in read(&image, at, len as usize).into_iter().zip(at..) {
            assert_eq!(byte, wanted[(at / CLUSTER) as usize], "at {at}");
        }
    }
    let stats = image.cache_stats();
    assert!(stats.bypasses - before.bypasses > 5_000, "{stats:?}");
}

/// An entry that names what it must not is told, wherever it was read.
#[test]
fn a_bad_entry_is_told() {
    const BAD: u64 = 400;
    let mut rng = Rng::with_seed(5);
    let opener = MemoryOpener::new();
    let image = fresh(&opener, Path::new(DISK), SHAPE, None);
    (0..SPANS).for_each(|span| (0..12).for_each(|i| write(&image, span * SPAN + 3 * i * CLUSTER, &[1])));
    close(image);
    let file = opener.file(Path::new(DISK));
    let bad = SHAPE.l2(&file, 9).start + 8 * BAD;
    set_entry(&file, bad, 12345);
    let image = open_small(&opener, Path::new(DISK), Access::Read, 90 << 10);
    until_bypassed(&image, &mut rng);
    let before = image.cache_stats().bypasses;
    let error = block_on(image.read(9 * SPAN + BAD * CLUSTER, Buffer::zeroed(512))).expect_err("it is bad");
    assert_eq!(image.cache_stats().bypasses, before + 1);
    assert!(error.to_string().contains(&format!("{bad:#x}")), "{error}");
}

/// First writes, and others in their place, while others read: each byte is what it was when the read began, or newer, and not
/// newer than when it was over.
#[test]
fn beside_writers_a_read_sees_what_was_written_before_it() {
    const WRITERS: u64 = 2;
    let directory = tempfile::tempdir().expect("a directory");
    let name = directory.path().join(DISK);
    let mut rng = Rng::with_seed(3);
    let image = fresh(&FileOpener, &name, SHAPE, None);
    drop(fill(&image, &mut rng));
    block_on(image.write_zeroes(0, SHAPE.size, Room::Keep, Fua::No)).expect("zeroes");
    close(image);
    let image = open_small(&FileOpener, &name, Access::Write, 160 << 10);
    until_bypassed(&image, &mut rng);
    let before = image.cache_stats();
    let places = || (0..SPANS * WRITERS * 4).map(|_| AtomicU8::new(0)).collect::<Vec<_>>();
    let (begun, done) = (places(), places());
    // Far apart, and each one writer's.
    let at = |place: u64| place / (WRITERS * 4) * SPAN + place % (WRITERS * 4) * 61 * CLUSTER;
    thread::scope(|scope| {
        for writer in 0..WRITERS {
            let (mut rng, image, begun, done) = (rng.fork(), &image, &begun, &done);
            scope.spawn(move || {
                for _ in 0..1_500 {
                    let place = rng.u64(..SPANS * 4) * WRITERS + writer;
                    let value = begun[place as usize].fetch_add(1, Ordering::SeqCst) + 1;
                    write(image, at(place), &[value; 512]);
                    done[place as usize].store(value, Ordering::SeqCst);
                }
            });
        }
        for _ in 0..2 {
            let (mut rng, image, begun, done) = (rng.fork(), &image, &begun, &done);
            scope.spawn(move || {
                for _ in 0..6_000 {
                    let place = rng.u64(..SPANS * 4 * WRITERS);
                    let oldest = done[place as usize].load(Ordering::SeqCst);
                    let seen = read(image, at(place), 512)[0];
                    let newest = begun[place as usize].load(Ordering::SeqCst);
                    assert!((oldest..=newest).contains(&seen), "{seen}, of {oldest} to {newest}");
                }
            });
        }
    });
    let stats = image.cache_stats();
    assert!(stats.bypasses - before.bypasses > 500, "{stats:?}");
    close(image);
    assert_clean(&FileOpener, &name);
}
