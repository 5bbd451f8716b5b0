//! What the tests of the engine share: images to work on, storage that tells what was asked of it, and storage whose
//! operations end when the test says so.

#![allow(dead_code, reason = "every test file takes the part that it needs")]

pub(crate) mod backing;
pub(crate) mod gate;
pub(crate) mod probe;
pub(crate) mod qemu;
pub(crate) mod task;

use std::ops::Range;
use std::path::Path;

use quod::{
    BackingPolicy, CheckReport, CommitPolicy, CreateOptions, Format, Image, NewBacking, OpenOptions, Repair,
    block_on, check, inspect,
};
use quod_storage::{Access, Buffer, Existing, Held, Memory, Opener, Storage};

/// The image of tests that need one.
pub(crate) const DISK: &str = "disk.qed";

/// An image to make: its size in bytes and its geometry.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub(crate) size: u64,
    pub(crate) cluster: u32,
    pub(crate) table: u32,
}

impl Shape {
    /// Clusters of 4 KiB, tables of one: an L1 entry covers 2 MiB.
    pub(crate) const fn small(size: u64) -> Self {
        Shape { size, cluster: 4096, table: 1 }
    }

    /// Clusters of 64 KiB, tables of four.
    pub(crate) const fn usual(size: u64) -> Self {
        Shape { size, cluster: 65536, table: 4 }
    }

    pub(crate) fn options(&self, backing: Option<(&str, Format)>) -> CreateOptions {
        let backing = backing.map(|(name, format)| NewBacking { name: name.into(), format });
        let (cluster_size, table_size) = (self.cluster, self.table);
        let existing = Existing::Empty;
        CreateOptions { cluster_size, table_size, backing, existing, ..CreateOptions::new(self.size) }
    }

    pub(crate) fn cluster(&self) -> u64 {
        self.cluster.into()
    }

    /// File offset behind header and L1: where the first allocation goes.
    pub(crate) fn first_free(&self) -> u64 {
        self.cluster() * u64::from(1 + self.table)
    }

    /// Bytes of a table.
    pub(crate) fn table_bytes(&self) -> u64 {
        self.cluster() * u64::from(self.table)
    }

    /// Where the L1 table lies.
    pub(crate) fn l1(&self) -> Range<u64> {
        self.cluster()..self.first_free()
    }

    /// Where L1 says that an L2 table lies.
    pub(crate) fn l2(&self, file: &Memory, index: u64) -> Range<u64> {
        let at = entry(file, self.cluster() + 8 * index);
        assert_ne!(at, 0, "L1 entry {index} names a table");
        at..at + self.table_bytes()
    }
}

/// Opens with local backing files allowed.
pub(crate) fn options(access: Access) -> OpenOptions {
    let commit = Some(CommitPolicy::Through);
    OpenOptions { backing: BackingPolicy::Local, commit, ..OpenOptions::new(access) }
}

pub(crate) fn make<O: Opener>(opener: &O, name: &Path, shape: Shape, backing: Option<(&str, Format)>) {
    block_on(Image::create(opener, name, &shape.options(backing))).expect("a new image");
}

pub(crate) fn open<O: Opener>(opener: &O, name: &Path, access: Access) -> Image<O::Storage> {
    block_on(Image::open(opener, name, &options(access))).expect("the image opens")
}

/// Makes an image and opens it for writing.
pub(crate) fn fresh<O: Opener>(
    opener: &O,
    name: &Path,
    shape: Shape,
    backing: Option<(&str, Format)>,
) -> Image<O::Storage> {
    make(opener, name, shape, backing);
    open(opener, name, Access::Write)
}

pub(crate) fn read<S: Storage>(image: &Image<S>, at: u64, len: usize) -> Vec<u8> {
    block_on(image.read(at, Buffer::zeroed(len))).expect("a read inside the disk").to_vec()
}

pub(crate) fn read_all<S: Storage>(image: &Image<S>) -> Vec<u8> {
    read(image, 0, image.size() as usize)
}

pub(crate) fn write<S: Storage>(image: &Image<S>, at: u64, bytes: &[u8]) {
    let back =
        block_on(image.write(at, Buffer::copy_of(bytes), quod::Fua::No)).expect("a write inside the disk");
    assert!(*back == *bytes, "a write gives its bytes back");
}

pub(crate) fn flush<S: Storage>(image: &Image<S>) {
    block_on(image.flush()).expect("a flush");
}

pub(crate) fn close<S: Storage>(image: Image<S>) {
    block_on(image.close()).expect("a close");
}

pub(crate) fn report<O: Opener>(opener: &O, name: &Path) -> CheckReport {
    block_on(check(opener, name, Access::Read, Repair::No)).expect("the image can be checked")
}

/// A closed image: no corruption, no leak, not dirty, whole clusters (D14). Returns its allocated clusters.
#[track_caller]
pub(crate) fn assert_clean<O: Opener>(opener: &O, name: &Path) -> u64 {
    let report = report(opener, name);
    assert_eq!((report.corruptions, report.leaks), (0, 0), "{report:?}");
    let info = block_on(inspect(opener, name, Access::Read)).expect("a header");
    assert!(!info.dirty, "the bit is clear");
    assert_eq!(info.file_length % info.cluster_size, 0, "a whole number of clusters");
    report.allocated_clusters
}

/// Bytes that differ from place to place, and with the seed; never zero.
pub(crate) fn pattern(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = vec![0; len];
    for chunk in bytes.chunks_mut(8) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let eight = (state | 0x0101_0101_0101_0101).to_le_bytes();
        chunk.copy_from_slice(&eight[..chunk.len()]);
    }
    bytes
}

/// The table entry at a file offset.
pub(crate) fn entry(file: &Memory, at: u64) -> u64 {
    u64::from_le_bytes(bytes(file, at, 8).try_into().expect("eight bytes"))
}

/// Writes a table entry, or any other field of eight bytes.
pub(crate) fn set_entry(file: &Memory, at: u64, value: u64) {
    set_bytes(file, at, &value.to_le_bytes());
}

pub(crate) fn bytes(file: &Memory, at: u64, len: usize) -> Vec<u8> {
    block_on(file.read_at(at, Buffer::zeroed(len).into())).expect("inside the file").into_single().to_vec()
}

pub(crate) fn set_bytes(file: &Memory, at: u64, bytes: &[u8]) {
    block_on(file.write_at(at, Buffer::copy_of(bytes).into())).expect("room in memory");
}

pub(crate) fn length(file: &Memory) -> u64 {
    block_on(file.length()).expect("memory has a length")
}

pub(crate) fn set_length(file: &Memory, len: u64) {
    block_on(file.set_len(len, Held::NOTHING)).expect("room in memory");
}

/// Whether the header of a file says NEED_CHECK.
pub(crate) fn is_dirty(file: &Memory) -> bool {
    bytes(file, 16, 1)[0] & 2 != 0
}

/// Compares without printing megabytes.
#[track_caller]
pub(crate) fn assert_same(found: &[u8], wanted: &[u8], what: &str) {
    assert_eq!(found.len(), wanted.len(), "{what}: length");
    if found == wanted {
        return;
    }
    if let Some(at) = (0..found.len()).find(|&at| found[at] != wanted[at]) {
        panic!("{what}: byte {at:#x} is {:#x} and should be {:#x}", found[at], wanted[at]);
    }
}
