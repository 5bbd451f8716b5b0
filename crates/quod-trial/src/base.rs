//! Backing files: stamped bytes with holes between them.
//!
//! Role: makes a raw or a QED base in a world, by seed, and tells what a guest reads of it.
//!
//! Invariant: a base is durable before anything lies over it, and its stamps are of no write of a guest.
//!
//! Absent on purpose: what lies over it (`case.rs`).

use std::path::Path;

use fastrand::Rng;
use quod::{CreateOptions, Fua, Image, OpenOptions, Room};
use quod_sim::{Executor, World, stamp};
use quod_storage::{Access, Buffer};

/// Its name.
pub(crate) fn base() -> &'static Path {
    Path::new("/images/base")
}

/// Bytes of a raw base: stamps with holes between them.
pub(crate) fn raw_bytes(length: u64, seed: u64) -> Vec<u8> {
    let mut dice = Rng::with_seed(seed ^ 0xba5e);
    let mut bytes = vec![0; length as usize];
    let mut at = 0;
    while at < length {
        let end = (at + dice.u64(1..100_000)).min(length);
        if dice.u32(..4) > 0 {
            stamp::fill(&mut bytes[at as usize..end as usize], at, stamp::BACKING + 1);
        }
        at = end;
    }
    bytes
}

/// Installs a raw base. Returns its bytes.
pub(crate) fn raw(world: &World, length: u64, seed: u64) -> Vec<u8> {
    let bytes = raw_bytes(length, seed);
    world.install(base(), &bytes);
    bytes
}

/// Makes a QED base with data, holes and zero clusters. Returns its guest's bytes.
pub(crate) fn qed(world: &World, length: u64, seed: u64) -> Vec<u8> {
    let opener = world.opener();
    let build = async move {
        let mut dice = Rng::with_seed(seed ^ 0xba5e);
        let mut bytes = vec![0; length as usize];
        let options =
            CreateOptions { cluster_size: 8192, table_size: 1 + dice.u32(..2), ..CreateOptions::new(length) };
        Image::create(&opener, base(), &options).await?;
        let image = Image::open(&opener, base(), &OpenOptions::new(Access::Write)).await?;
        for sequence in 1..20 {
            let at = dice.u64(..length);
            let len = dice.u64(1..200_000).min(length - at);
            let piece = &mut bytes[at as usize..(at + len) as usize];
            if sequence % 5 == 0 {
                piece.fill(0);
                image.write_zeroes(at, len, Room::GiveBack, Fua::No).await?;
            } else {
                stamp::fill(piece, at, stamp::BACKING + sequence);
                image.write(at, Buffer::copy_of(piece), Fua::No).await?;
            }
        }
        image.close().await?;
        quod::Result::<_>::Ok(bytes)
    };
    Executor::new(world, 0).block_on(build).expect("not stuck").expect("a base can be made")
}
