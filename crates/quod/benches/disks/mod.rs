//! Disks in memory, for benches of requests.
//!
//! Role: images whose layout is known, with a file that answers at once, so that no kernel and no device is measured.
//!
//! Absent on purpose: a device's time. `cargo xtask compare` has that.

use std::path::Path;

use quod::storage::{Access, Buffer, Memory, MemoryOpener};
use quod::{
    BackingPolicy, CommitPolicy, CreateOptions, Format, Fua, Image, NewBacking, OpenOptions, block_on,
};

/// A disk in memory.
pub(crate) type Disk = Image<Memory>;

/// Bytes of a request.
pub(crate) const BLOCK: usize = 4096;
/// Bytes of a cluster.
pub(crate) const CLUSTER: u64 = 64 << 10;
/// Bytes that are allocated, from the start: two slices of the table.
pub(crate) const WRITTEN: u64 = 64 << 20;

const SIZE: u64 = 1 << 30;
const LOWER: &str = "lower.qed";
const UPPER: &str = "upper.qed";

/// A disk with everything written up to [`WRITTEN`].
pub(crate) fn written() -> Disk {
    let opener = MemoryOpener::new();
    fill(&opener);
    open(&opener, LOWER, CommitPolicy::Through)
}

/// A disk with nothing of its own, above [`written`].
pub(crate) fn backed() -> Disk {
    let opener = MemoryOpener::new();
    fill(&opener);
    create(&opener, UPPER, Some(NewBacking { name: LOWER.into(), format: Format::Qed }));
    open(&opener, UPPER, CommitPolicy::Through)
}

/// A disk with nothing at all, whose first writes are committed like that.
pub(crate) fn empty(commit: CommitPolicy) -> Disk {
    let opener = MemoryOpener::new();
    create(&opener, LOWER, None);
    open(&opener, LOWER, commit)
}

/// Reads a block at each place in turn.
pub(crate) async fn read_all(disk: &Disk, places: impl Iterator<Item = u64>) {
    let mut block = Buffer::zeroed(BLOCK);
    for at in places {
        block = disk.read(at, block).await.expect("memory does not fail");
    }
}

/// Writes a block at each place in turn.
pub(crate) async fn write_all(disk: &Disk, places: impl Iterator<Item = u64>) {
    let mut block = Buffer::copy_of(&[7; BLOCK]);
    for at in places {
        block = disk.write(at, block, Fua::No).await.expect("memory does not fail");
    }
}

/// The first block of each cluster.
pub(crate) fn clusters(count: u64) -> impl Iterator<Item = u64> {
    (0..count).map(|cluster| cluster * CLUSTER)
}

fn fill(opener: &MemoryOpener) {
    create(opener, LOWER, None);
    let disk = open(opener, LOWER, CommitPolicy::Through);
    let all = Buffer::copy_of(&vec![7; WRITTEN as usize]);
    block_on(async {
        disk.write(0, all, Fua::No).await?;
        disk.close().await
    })
    .expect("memory does not fail");
}

fn create(opener: &MemoryOpener, name: &str, backing: Option<NewBacking>) {
    let options = CreateOptions { backing, ..CreateOptions::new(SIZE) };
    block_on(Image::create(opener, Path::new(name), &options)).expect("memory does not fail");
}

fn open(opener: &MemoryOpener, name: &str, commit: CommitPolicy) -> Disk {
    let options = OpenOptions {
        backing: BackingPolicy::Local,
        commit: Some(commit),
        ..OpenOptions::new(Access::Write)
    };
    block_on(Image::open(opener, Path::new(name), &options)).expect("memory does not fail")
}
