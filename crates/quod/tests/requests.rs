//! Requests of any alignment and length do to a disk what they would do to a plain array of bytes.

mod common;

use std::path::Path;

use common::backing::Backing;
use common::*;
use proptest::prelude::*;
use quod::{BlockKind, CacheBudget, Format, Fua, Image, OpenOptions, Room, block_on};
use quod_storage::{Access, Buffer, Memory, MemoryOpener};

/// One request. Places and lengths are made to fit when it is their turn.
#[derive(Clone, Debug)]
enum Request {
    Write { at: Place, len: u32, seed: u64, fua: bool },
    Zeroes { at: Place, len: u32, keep: bool },
    Discard { at: Place, len: u32 },
    Read { at: Place, len: u32 },
    Grow { sectors: u64 },
    Flush,
    Maintain,
    Reopen,
}

/// Somewhere on the disk, near a multiple of a unit.
#[derive(Clone, Debug)]
struct Place {
    anywhere: u64,
    unit: u64,
    beside: u64,
}

impl Place {
    fn fit(&self, size: u64) -> u64 {
        ((self.anywhere % (size + 1)) / self.unit * self.unit + self.beside).min(size)
    }
}

fn places(cluster: u64) -> impl Strategy<Value = Place> {
    let unit = prop_oneof![Just(1), Just(512), Just(cluster)];
    let beside = prop_oneof![3 => Just(0), 1 => 1..1000u64];
    (any::<u64>(), unit, beside).prop_map(|(anywhere, unit, beside)| Place { anywhere, unit, beside })
}

fn lengths(cluster: u32) -> impl Strategy<Value = u32> {
    prop_oneof![Just(0), 1..2000u32, Just(512), Just(cluster), Just(2 * cluster), 1..4 * cluster]
}

fn requests(cluster: u32) -> impl Strategy<Value = Request> {
    let place = || places(cluster.into());
    let len = || lengths(cluster);
    prop_oneof![
        6 => (place(), len(), any::<u64>(), any::<bool>())
            .prop_map(|(at, len, seed, fua)| Request::Write { at, len, seed, fua }),
        3 => (place(), len(), any::<bool>()).prop_map(|(at, len, keep)| Request::Zeroes { at, len, keep }),
        1 => (place(), len()).prop_map(|(at, len)| Request::Discard { at, len }),
        2 => (place(), len()).prop_map(|(at, len)| Request::Read { at, len }),
        1 => (0..40u64).prop_map(|sectors| Request::Grow { sectors }),
        1 => Just(Request::Flush),
        1 => Just(Request::Maintain),
        1 => Just(Request::Reopen),
    ]
}

/// A disk of which everything interesting lies from `from` on, and what a guest should see there.
struct Twin {
    opener: MemoryOpener,
    options: OpenOptions,
    image: Image<Memory>,
    from: u64,
    model: Vec<u8>,
}

impl Twin {
    fn new(shape: Shape, from: u64, backing: Backing, cache_bytes: usize) -> Self {
        let opener = MemoryOpener::new();
        let below = backing.make(&opener, from);
        make(&opener, Path::new(DISK), shape, below);
        let options = OpenOptions { cache: CacheBudget::Own(cache_bytes), ..options(Access::Write) };
        let image = block_on(Image::open(&opener, Path::new(DISK), &options)).expect("the image opens");
        Twin { opener, options, image, from, model: backing.window(from, (shape.size - from) as usize) }
    }

    fn run(&mut self, request: &Request) {
        let size = self.model.len() as u64;
        let fit = |at: &Place, len: u32| {
            let at = at.fit(size);
            (at as usize, u64::from(len).min(size - at) as usize)
        };
        match request {
            Request::Write { at, len, seed, fua } => {
                let (at, len) = fit(at, *len);
                let bytes = pattern(*seed, len);
                let fua = if *fua { Fua::Yes } else { Fua::No };
                let from = Buffer::copy_of(&bytes);
                block_on(self.image.write(self.from + at as u64, from, fua)).expect("a write");
                self.model[at..at + len].copy_from_slice(&bytes);
            }
            Request::Zeroes { at, len, keep } => {
                let (at, len) = fit(at, *len);
                let room = if *keep { Room::Keep } else { Room::GiveBack };
                block_on(self.image.write_zeroes(self.from + at as u64, len as u64, room, Fua::No))
                    .expect("a zero write");
                self.model[at..at + len].fill(0);
            }
            Request::Discard { at, len } => {
                let (at, len) = fit(at, *len);
                block_on(self.image.discard(self.from + at as u64, len as u64, Fua::No)).expect("a discard");
                let now = read(&self.image, self.from + at as u64, len);
                let old = &mut self.model[at..at + len];
                assert!(
                    now.iter().zip(&*old).all(|(now, old)| *now == 0 || now == old),
                    "as before, or zeroes"
                );
                old.copy_from_slice(&now);
            }
            Request::Read { at, len } => {
                let (at, len) = fit(at, *len);
                assert_same(
                    &read(&self.image, self.from + at as u64, len),
                    &self.model[at..at + len],
                    "a read",
                );
            }
            Request::Grow { sectors } => {
                let size = size + 512 * sectors;
                block_on(self.image.grow(self.from + size)).expect("room to grow");
                self.model.resize(size as usize, 0);
            }
            Request::Flush => flush(&self.image),
            Request::Maintain => block_on(self.image.maintain()).expect("maintenance"),
            Request::Reopen => self.reopen(),
        }
    }

    fn reopen(&mut self) {
        block_on(self.image.close()).expect("a close");
        assert_clean(&self.opener, Path::new(DISK));
        self.image =
            block_on(Image::open(&self.opener, Path::new(DISK), &self.options)).expect("it opens again");
    }

    /// Content, size and status of the whole window.
    fn verify(&self) {
        assert_eq!(self.image.size(), self.from + self.model.len() as u64);
        assert_same(&read(&self.image, self.from, self.model.len()), &self.model, "the disk");
        let names: Vec<_> = self.image.chain().map(Path::to_owned).collect();
        let mut at = 0;
        while at < self.model.len() {
            let left = (self.model.len() - at) as u64;
            let status = block_on(self.image.block_status(self.from + at as u64, left)).expect("a status");
            assert!((1..=left).contains(&status.len), "{status:?}");
            let here = &self.model[at..at + status.len as usize];
            match status.kind {
                BlockKind::Data { file_offset } => {
                    let file = self.opener.file(&names[status.depth]);
                    let there = (length(&file) - file_offset).min(status.len) as usize;
                    assert_same(
                        &bytes(&file, file_offset, there),
                        &here[..there],
                        "data where the status says",
                    );
                    assert!(here[there..].iter().all(|&byte| byte == 0), "past the end of a raw file");
                }
                _ => assert!(here.iter().all(|&byte| byte == 0), "{status:?} reads as zeroes"),
            }
            at += here.len();
        }
    }
}

/// Where the second table begins, less a few clusters: so that requests cross from one table to the next.
fn before_second_table(cluster: u64, table: u64) -> u64 {
    cluster * table / 8 * cluster - 3 * cluster
}

fn check(shape: Shape, from: u64, backing: Backing, cache_bytes: usize, requests: &[Request]) {
    let mut twin = Twin::new(shape, from, backing, cache_bytes);
    twin.verify();
    for request in requests {
        twin.run(request);
    }
    twin.verify();
    twin.reopen();
    twin.verify();
}

/// Backing files shorter than, longer than and as long as the disk; of whole sectors and not.
fn backings(from: u64, size: u64) -> impl Strategy<Value = Backing> {
    let end = from + 512..size + 40_000;
    prop_oneof![
        2 => Just(Backing::None),
        2 => end.clone().prop_map(Backing::Raw),
        1 => Just(Backing::Raw(size)),
        2 => end.clone().prop_map(|end| Backing::Qed(end / 512 * 512)),
        1 => Just(Backing::Qed(size)),
        1 => end.prop_map(|end| Backing::QedOverRaw(end / 512 * 512)),
    ]
}

fn disks(
    cluster: u32,
    table: u32,
    from: u64,
) -> impl Strategy<Value = (Shape, Backing, usize, Vec<Request>)> {
    let sectors = u64::from(cluster) / 512;
    let cache = prop_oneof![Just(0), Just(20_000), Just(quod::DEFAULT_CACHE_BYTES)];
    (1..7 * sectors, cache).prop_flat_map(move |(sectors, cache)| {
        let size = from + 512 * sectors;
        let shape = Shape { size, cluster, table };
        let requests = prop::collection::vec(requests(cluster), 1..30);
        (Just(shape), backings(from, size), Just(cache), requests)
    })
}

fn cases(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(cases(150))]

    #[test]
    fn a_disk_of_the_smallest_geometry_is_an_array_of_bytes(
        (shape, backing, cache, requests) in disks(4096, 1, before_second_table(4096, 1))
    ) {
        check(shape, before_second_table(4096, 1), backing, cache, &requests);
    }

    #[test]
    fn a_disk_of_the_usual_geometry_is_an_array_of_bytes(
        (shape, backing, cache, requests) in disks(65536, 4, before_second_table(65536, 4))
    ) {
        check(shape, before_second_table(65536, 4), backing, cache, &requests);
    }

    #[test]
    fn a_disk_of_long_tables_is_an_array_of_bytes(
        (shape, backing, cache, requests) in disks(8192, 16, 0)
    ) {
        check(shape, 0, backing, cache, &requests);
    }
}

proptest! {
    #![proptest_config(cases(12))]

    #[test]
    fn a_disk_of_large_clusters_is_an_array_of_bytes(
        (shape, backing, cache, requests) in disks(2 << 20, 16, 0)
    ) {
        check(shape, 0, backing, cache, &requests[..requests.len().min(10)]);
    }
}

#[test]
fn requests_past_the_end_change_nothing() {
    let opener = MemoryOpener::new();
    let image = fresh(&opener, Path::new(DISK), Shape::small(1 << 20), None);
    for (at, len) in [(1 << 20, 1), ((1 << 20) - 1, 2), (u64::MAX, 1), (u64::MAX - 5, 10)] {
        let failed = |outcome: quod::Result<()>| {
            assert_eq!(outcome.unwrap_err().kind(), quod::ErrorKind::InvalidArgument, "{at} {len}");
        };
        failed(block_on(image.write(at, Buffer::copy_of(&vec![1; len]), Fua::No)).map(drop));
        failed(block_on(image.read(at, Buffer::zeroed(len))).map(drop));
        failed(block_on(image.write_zeroes(at, len as u64, Room::Keep, Fua::No)));
        failed(block_on(image.discard(at, len as u64, Fua::No)));
        failed(block_on(image.block_status(at, len as u64)).map(drop));
    }
    assert!(read_all(&image).iter().all(|&byte| byte == 0));
    close(image);
    assert_eq!(assert_clean(&opener, Path::new(DISK)), 0);
}

#[test]
fn the_last_part_of_a_sector_of_a_raw_disk_reads_back() {
    let opener = MemoryOpener::new();
    let name = Path::new("disk.raw");
    set_bytes(&opener.file(name), 0, &[7; 1000]);
    let options = OpenOptions { format: Some(Format::Raw), ..OpenOptions::new(Access::Write) };
    let image = block_on(Image::open(&opener, name, &options)).unwrap();
    assert_eq!(image.size(), 1024);
    write(&image, 990, &[8; 34]);
    let wanted: Vec<u8> = [[7; 990].as_slice(), &[8; 34]].concat();
    assert_same(&read_all(&image), &wanted, "what was written past the end of the file");
}

#[test]
fn a_read_behind_the_last_byte_of_a_raw_file_gives_zeroes() {
    let opener = MemoryOpener::new();
    let name = Path::new("disk.raw");
    set_bytes(&opener.file(name), 0, &[7; 1000]);
    let options = OpenOptions { format: Some(Format::Raw), ..OpenOptions::new(Access::Read) };
    let image = block_on(Image::open(&opener, name, &options)).unwrap();
    for at in [999, 1000, 1010, 1023] {
        let wanted: Vec<u8> = (at..1024).map(|at| if at < 1000 { 7 } else { 0 }).collect();
        assert_same(&read(&image, at, wanted.len()), &wanted, "the rest of the last sector");
    }
}
