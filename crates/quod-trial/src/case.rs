//! The disks of the trials: geometry, size, what lies below, and who had it before.
//!
//! Role: a [`Case`] follows from a seed, and makes its disk in a new world.
//!
//! Invariant: a new disk is durable, and the oracle knows each of its bytes.
//!
//! Absent on purpose: what is done with the disk (`form.rs`, `ask.rs`).

use std::fmt;
use std::path::Path;

use fastrand::Rng;
use quod::{
    BackingPolicy, CacheBudget, CommitPolicy, CreateOptions, Format, Image, NewBacking, OpenOptions,
    PendingBounds,
};
use quod_sim::{Executor, Faults, Model, SimStorage, World};
use quod_storage::Access;

use crate::base;
use crate::oracle::Oracle;
use crate::qemu;

/// The engine's disk over simulated files.
pub type Disk = Image<SimStorage>;

/// The name of the disk's file.
pub fn disk() -> &'static Path {
    Path::new("/images/disk.qed")
}

/// What one seed makes of it.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// The seed.
    pub seed: u64,
    /// Bytes of a cluster.
    pub cluster_size: u32,
    /// Clusters of a table.
    pub table_size: u32,
    /// Bytes of the disk.
    pub size: u64,
    /// Format and length of the backing file.
    pub backing: Option<(Format, u64)>,
    /// Which of the images that QEMU has left.
    pub qemu: Option<usize>,
    /// Budget of the table cache.
    pub cache_bytes: usize,
    /// When entries reach the file.
    pub commit: CommitPolicy,
    /// How much of it may wait.
    pub pending: PendingBounds,
}

/// Clusters and tables; what one L2 table maps is 2 MiB, 4 MiB, 16 MiB, and more than the disk. A cluster of 2 MiB is
/// copied from a backing file in two pieces.
const GEOMETRIES: [(u32, u32); 16] = [
    (4096, 1),
    (4096, 1),
    (4096, 1),
    (4096, 1),
    (4096, 1),
    (4096, 1),
    (4096, 2),
    (4096, 2),
    (4096, 4),
    (4096, 4),
    (8192, 1),
    (8192, 1),
    (16384, 4),
    (16384, 4),
    (65536, 4),
    (2 << 20, 1),
];

impl Case {
    /// A new disk.
    pub fn from_seed(seed: u64) -> Self {
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
        // All slices, or three: the array that finds them grows with the budget, and is made anew with every open.
        let cache_bytes = [256 << 10, 3 * 4096][dice.usize(..2)];
        // Half of all disks over a backing file, where it is the default, and some of the others.
        let grouped = if backing.is_some() { 2 } else { 4 };
        let commit = if dice.u32(..grouped) == 0 { CommitPolicy::Grouped } else { CommitPolicy::Through };
        let tight = PendingBounds { entries: dice.u64(1..12), bytes: cluster * dice.u64(1..12) };
        let pending = if dice.bool() { tight } else { PendingBounds::default() };
        Case { seed, cluster_size, table_size, size, backing, qemu: None, cache_bytes, commit, pending }
    }

    /// A disk that QEMU has made, written to, and closed or left dirty; of some the end was cut off since, by a header
    /// that says so and tables that do not.
    pub fn of_qemu(seed: u64) -> Self {
        let which = seed as usize % qemu::COUNT;
        let left = &qemu::images()[which];
        let mut dice = Rng::with_seed(seed ^ 0xc07);
        let size = if dice.u32(..3) == 0 { 512 * dice.u64(1000..=left.size / 512) } else { left.size };
        Case {
            cluster_size: left.cluster_size,
            table_size: left.table_size,
            size,
            backing: left.backing.as_ref().map(|bytes| (Format::Raw, bytes.len() as u64)),
            qemu: Some(which),
            ..Case::from_seed(seed)
        }
    }

    /// Whether QEMU has left it clean, so that nothing behind its end is cut.
    pub(crate) fn is_clean_of_qemu(&self) -> bool {
        self.qemu.is_some_and(|which| !qemu::is_dirty(which))
    }

    /// Bytes of the disk that one L2 table maps.
    pub(crate) fn table_reach(&self) -> u64 {
        let cluster = u64::from(self.cluster_size);
        cluster * u64::from(self.table_size) / 8 * cluster
    }

    /// The same, where a disk may grow by so much in a trial.
    pub(crate) fn far(&self) -> Option<u64> {
        const MOST: u64 = 4 << 20;
        Some(self.table_reach()).filter(|&reach| reach <= MOST)
    }

    /// The same disk, with a backing file that reaches a table further.
    pub(crate) fn over_longer_backing(self) -> Self {
        let further = self.far().unwrap_or(0);
        Case { backing: self.backing.map(|(format, length)| (format, length + further)), ..self }
    }

    /// Delays, and nothing that fails.
    pub fn faults(&self) -> Faults {
        let delay = [1, 4, 4, 40][self.seed as usize / 3 % 4];
        Faults { delay, ..Faults::delays() }
    }

    /// How the disk is opened.
    pub fn options(&self, access: Access) -> OpenOptions {
        OpenOptions {
            backing: BackingPolicy::Local,
            cache: CacheBudget::Own(self.cache_bytes),
            commit: Some(self.commit),
            pending: self.pending,
            ..OpenOptions::new(access)
        }
    }

    /// Makes the disk and what lies below, with nothing delayed, and all of it durable.
    pub fn create(&self) -> (World, Oracle) {
        let world = World::new(self.seed, Faults::none());
        let shown = match self.qemu {
            Some(which) => qemu::images()[which].install(&world, disk(), self.size, self.seed),
            None => self.make(&world),
        };
        assert_eq!(world.uncertain(), 0, "a new image is durable");
        world.set_faults(self.faults());
        (world, Oracle::new(Model::new(self.size, shown)))
    }

    /// Makes a new image; returns what its backing file shows.
    fn make(&self, world: &World) -> Vec<u8> {
        let below = self.backing.map(|(format, length)| match format {
            Format::Raw => base::raw(world, length, self.seed),
            Format::Qed => base::qed(world, length, self.seed),
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
        Executor::new(world, 0).block_on(made).expect("not stuck").expect("an image can be made");
        below.unwrap_or_default()
    }

    /// Geometry and kind of backing, in a few words.
    pub fn geometry(&self) -> String {
        let below = match self.backing {
            None => "no backing".to_owned(),
            Some((format, length)) => {
                let format = if format == Format::Raw { "raw" } else { "QED" };
                let length = match length {
                    shorter if shorter < self.size => "shorter",
                    longer if longer > self.size + 511 => "longer",
                    _ => "equal",
                };
                format!("{length} {format} backing")
            }
        };
        format!("{} KiB clusters, tables of {}, {below}", self.cluster_size >> 10, self.table_size)
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes in {}, {} of cache", self.size, self.geometry(), self.cache_bytes)?;
        if self.commit == CommitPolicy::Grouped {
            write!(f, ", grouped within {} entries, {} bytes", self.pending.entries, self.pending.bytes)?;
        }
        if let Some(which) = self.qemu {
            write!(f, ", left by QEMU ({which})")?;
        }
        Ok(())
    }
}
