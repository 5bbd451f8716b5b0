//! Law (D12): wherever the repair of a dirty image is cut off, NEED_CHECK stays until what was mended is durable, and the
//! next open mends the rest.

use quod::{CreateOptions, Fua, OpenOptions};
use quod_sim::{Executor, Faults, World, stamp};
use quod_storage::{Access, Buffer};
use quod_trial::{Disk, Leaks, assert_closed, disk};

use crate::for_seeds;

const CLUSTER: u64 = 4096;
/// Of a file with one table, and one cluster of data behind it.
const LENGTH: u64 = 4 * CLUSTER;
const TABLE: u64 = 2 * CLUSTER;
/// Where an entry stands that names what the file has not.
const WRONG: u64 = TABLE + 8 * 5;
const NEED_CHECK: u64 = 2;

fn number(bytes: &[u8], at: u64) -> u64 {
    let at = at as usize;
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("8 bytes"))
}

/// The bytes of an image whose first cluster is written.
fn image(seed: u64) -> Vec<u8> {
    let world = World::new(seed, Faults::none());
    let opener = world.opener();
    let make = async move {
        let options = CreateOptions { cluster_size: 4096, table_size: 1, ..CreateOptions::new(128 << 10) };
        Disk::create(&opener, disk(), &options).await?;
        let image = Disk::open(&opener, disk(), &OpenOptions::new(Access::Write)).await?;
        image.write(0, Buffer::copy_of(&stamp::bytes(0, CLUSTER as usize, 1)), Fua::No).await?;
        image.close().await
    };
    Executor::new(&world, seed).block_on(make).expect("not stuck").expect("an image");
    let bytes = world.contents(disk());
    assert_eq!((bytes.len() as u64, number(&bytes, CLUSTER)), (LENGTH, TABLE), "as this law has it");
    bytes
}

/// The same, dirty: an entry names room behind the end, and there may be bytes of others before that.
fn dirty(seed: u64) -> Vec<u8> {
    let mut bytes = image(seed);
    bytes.extend(stamp::bytes(LENGTH, (seed % 2 * 2 * CLUSTER) as usize, stamp::BACKING));
    let behind = bytes.len() as u64;
    for (at, value) in [(16, NEED_CHECK), (WRONG, behind)] {
        bytes[at as usize..at as usize + 8].copy_from_slice(&value.to_le_bytes());
    }
    bytes
}

fn open(world: &World) -> impl Future<Output = quod::Result<Disk>> + 'static {
    let opener = world.opener();
    async move { Disk::open(&opener, disk(), &OpenOptions::new(Access::Write)).await }
}

/// Holds what a crash has left against the law.
fn examine(world: &World, place: &str) {
    let bytes = world.contents(disk());
    if number(&bytes, 16) & NEED_CHECK == 0 {
        assert_eq!(number(&bytes, WRONG), 0, "{place}: the bit is clear, and the wrong entry there");
        assert_eq!(bytes.len() as u64, LENGTH, "{place}: the bit is clear, and the end not cut");
    }
    let opening = open(world);
    let look = async move {
        let image = opening.await?;
        let bytes = image.read(0, Buffer::zeroed(image.size() as usize)).await?;
        image.close().await?;
        Ok::<_, quod::Error>(bytes)
    };
    let shown = Executor::new(world, 0).block_on(look).expect("not stuck");
    let shown = shown.unwrap_or_else(|error| panic!("{place}: {error}"));
    let (first, rest) = shown.split_at(CLUSTER as usize);
    assert!(first == stamp::bytes(0, CLUSTER as usize, 1) && rest.iter().all(|&byte| byte == 0), "{place}");
    assert_closed(world, Leaks::None, place);
}

#[test]
fn a_repair_that_is_cut_off_leaves_the_bit_or_nothing_to_mend() {
    for_seeds(8, |seed| {
        let world = World::new(seed, Faults::delays());
        crate::trace(&world);
        world.install(disk(), &dirty(seed));
        let mut executor = Executor::new(&world, seed);
        executor.spawn(open(&world));
        let mut before = world.ticks();
        while executor.step() {
            if world.ticks() != before {
                before = world.ticks();
                for survivors in 0..16 {
                    let place = format!("tick {before} with survivors {survivors}");
                    examine(&world.crash(survivors), &place);
                }
            }
        }
    });
}
