//! Law: a crash while an image is being made leaves no image, or the whole empty one.

use quod::{BackingPolicy, CreateOptions, ErrorKind, Format, Image, NewBacking, OpenOptions, inspect};
use quod_sim::{Executor, Faults, World};
use quod_storage::{Access, Buffer};
use quod_trial::{Disk, disk};

use crate::for_seeds;

const SIZE: u64 = 3 << 20;

/// Its name and the header are more than one sector.
fn backing() -> NewBacking {
    NewBacking { name: "b".repeat(700).into(), format: Format::Raw }
}

fn examine(world: &World, place: &str) -> bool {
    let opener = world.opener();
    let read = async move {
        let info = inspect(&opener, disk(), Access::Read).await?;
        if let Some(found) = info.backing {
            assert_eq!(found.name, *backing().name, "whole");
            return Ok(());
        }
        let options = OpenOptions { backing: BackingPolicy::Deny, ..OpenOptions::new(Access::Write) };
        let image: Disk = Image::open(&opener, disk(), &options).await?;
        let bytes = image.read(0, Buffer::zeroed(SIZE as usize)).await?;
        assert_eq!(image.size(), SIZE, "whole");
        assert!(bytes.iter().all(|&byte| byte == 0), "and empty");
        image.close().await
    };
    match Executor::new(world, 0).block_on(read).expect("not stuck") {
        Ok(()) => true,
        Err(error) => {
            assert!(matches!(error.kind(), ErrorKind::NotQed | ErrorKind::Io), "{place}: {error}");
            false
        }
    }
}

#[test]
fn a_crash_in_create_leaves_no_image_or_the_whole() {
    for_seeds(15, |seed| {
        let world = World::new(seed, Faults::delays());
        let opener = world.opener();
        let backing = (seed % 2 == 1).then(backing);
        let options = CreateOptions { cluster_size: 4096, backing, ..CreateOptions::new(SIZE) };
        let mut executor = Executor::new(&world, seed);
        executor.spawn(async move { Disk::create(&opener, disk(), &options).await.expect("it can be made") });
        let mut whole = 0;
        while executor.step() {
            for survivors in 0..64 {
                let place = format!("tick {} with survivors {survivors}", world.ticks());
                whole += u32::from(examine(&world.crash(survivors), &place));
            }
        }
        assert!(whole >= 8, "at the end it is there");
    });
}
