//! The disks that the engine is tested with: geometry, size, what lies below.

use std::path::Path;

use fastrand::Rng;
use quod::{BackingPolicy, CreateOptions, Format, Fua, Image, NewBacking, OpenOptions, Room};
use quod_sim::{Executor, Faults, Model, SimStorage, World, stamp};
use quod_storage::{Access, Buffer};

pub(crate) type Disk = Image<SimStorage>;

pub(crate) fn disk() -> &'static Path {
    Path::new("/images/disk.qed")
}

fn base() -> &'static Path {
    Path::new("/images/base")
}

/// What one seed makes of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Case {
    pub(crate) seed: u64,
    pub(crate) cluster_size: u32,
    pub(crate) table_size: u32,
    pub(crate) size: u64,
    /// Format and length of the backing file.
    pub(crate) backing: Option<(Format, u64)>,
    cache_bytes: usize,
}

/// Clusters and tables; what one L2 table maps is 2 MiB, 4 MiB, 16 MiB, and more than the disk.
const GEOMETRIES: [(u32, u32); 8] =
    [(4096, 1), (4096, 1), (4096, 1), (4096, 2), (4096, 4), (8192, 1), (16384, 4), (65536, 4)];

impl Case {
    pub(crate) fn from_seed(seed: u64) -> Self {
        let mut dice = Rng::with_seed(seed ^ 0xca5e);
        let (cluster_size, table_size) = GEOMETRIES[dice.usize(..GEOMETRIES.len())];
        let cluster = u64::from(cluster_size);
        let size = (cluster * dice.u64(40..1100) + 512 * dice.u64(..8)).min(5 << 20);
        let length = [size / 2 + 100, size, size + 3 * cluster + 512][dice.usize(..3)];
        let backing = match dice.u32(..4) {
            0 | 1 => None,
            2 => Some((Format::Raw, length)),
            _ => Some((Format::Qed, length.next_multiple_of(512))),
        };
        let cache_bytes = [quod::DEFAULT_CACHE_BYTES, 3 * 4096][dice.usize(..2)];
        Case { seed, cluster_size, table_size, size, backing, cache_bytes }
    }

    /// Delays, and nothing that fails.
    pub(crate) fn faults(&self) -> Faults {
        let delay = [1, 4, 4, 40][self.seed as usize / 3 % 4];
        Faults { delay, ..Faults::delays() }
    }

    pub(crate) fn options(&self, access: Access) -> OpenOptions {
        OpenOptions {
            backing: BackingPolicy::Local,
            cache_bytes: self.cache_bytes,
            ..OpenOptions::new(access)
        }
    }

    /// Makes the image and what lies below, with nothing delayed, and all of it durable.
    pub(crate) fn create(&self) -> (World, Model) {
        let world = World::new(self.seed, Faults::none());
        let below = self.backing.map(|(format, length)| match format {
            Format::Raw => raw_base(&world, length, self.seed),
            Format::Qed => qed_base(&world, length, self.seed),
        });
        let backing = self.backing.map(|(format, _)| NewBacking { name: "base".into(), format });
        let options = CreateOptions {
            cluster_size: self.cluster_size,
            table_size: self.table_size,
            backing,
            ..CreateOptions::new(self.size)
        };
        let opener = world.opener();
        let made = async move { Image::create(&opener, disk(), &options).await };
        Executor::new(&world, 0).block_on(made).expect("not stuck").expect("an image can be made");
        assert_eq!(world.uncertain(), 0, "a new image is durable");
        world.set_faults(self.faults());
        if crate::traced() {
            world.trace();
        }
        (world, Model::new(self.size, below.unwrap_or_default()))
    }
}

/// A raw base: stamps with holes between them. Returns its bytes.
fn raw_base(world: &World, length: u64, seed: u64) -> Vec<u8> {
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
    world.install(base(), &bytes);
    bytes
}

/// A QED base with data, holes and zero clusters. Returns its guest's bytes.
fn qed_base(world: &World, length: u64, seed: u64) -> Vec<u8> {
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
