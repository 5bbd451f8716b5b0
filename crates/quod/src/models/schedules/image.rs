//! The whole engine over a [`Disk`]: threads that do a few things each, and what must be true afterwards.
//!
//! Role: [`Guest`] is what one thread does, to places of the disk that are its own, though they lie in clusters and under
//! tables that are not. It knows what each place may read as. [`check`] runs guests side by side, then holds the image and its
//! file against that.
//!
//! Invariant: a place is written by one guest, so that what it may read as is known without knowing the schedule.
//!
//! Absent on purpose: two writers of the same bytes at once: then either may win, and any mixture of sectors.

use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use quod_storage::{Access, Buffer, Existing, Memory, MemoryOpener, Storage};
use shuttle::future::block_on;
use shuttle::rand::{Rng, thread_rng};
use shuttle::thread;

use super::disk::{Disk, Disks, Kernel};
use crate::layer::LayerKind;
use crate::{
    BackingPolicy, CacheBudget, CommitPolicy, CreateOptions, ErrorKind, Format, Fua, Image, NewBacking,
    OpenOptions, PendingBounds, Repair, Result, Room,
};

pub(super) const CLUSTER: u64 = 4096;
/// Guest bytes under one L2 table.
pub(super) const TABLE: u64 = 2 << 20;
const SIZE: u64 = 3 * TABLE;
const BELOW: u8 = 0xbb;

/// What the images of a model are.
#[derive(Clone, Copy, Debug)]
pub(super) struct World {
    /// Whether there is a backing file, all of it `BELOW`, as long as two tables and a half.
    pub(super) backing: bool,
    /// Slices that the cache has room for.
    pub(super) slices: usize,
    /// Whether the first table is linked already, so that guests meet at its entries.
    pub(super) linked: bool,
    pub(super) commit: CommitPolicy,
}

/// A part of the disk that is one guest's.
#[derive(Clone, Debug)]
struct Place {
    at: u64,
    len: u64,
    /// Bytes that it may be full of; the last one is the newest.
    may_be: Vec<u8>,
}

/// What one thread does with the disk.
pub(super) struct Guest {
    image: Arc<Image<Disk>>,
    kernel: Kernel,
    plain: MemoryOpener,
    places: Vec<Place>,
    next: u8,
    /// So many changes of the file must be durable after the next flush.
    owed: usize,
    /// Somebody closes the image meanwhile, so that requests may find it closed.
    may_be_closed: bool,
}

impl Guest {
    /// Writes a new value to a place. Polled so often and then dropped, if that is wished.
    pub(super) fn write(&mut self, place: usize, fua: Fua, polls: Option<usize>) {
        self.next += 1;
        let (value, Place { at, len, .. }) = (self.next, self.places[place].clone());
        let image = Arc::clone(&self.image);
        let before = self.kernel.changes();
        let written = image.write(at, Buffer::copy_of(&vec![value; len as usize]), fua);
        self.note(place, value, before, drive(written, polls).map(|outcome| outcome.map(drop)));
        if fua == Fua::Yes && polls.is_none() {
            assert!(
                self.may_be_closed || self.kernel.durable() >= self.owed,
                "a flush was owed, and skipped"
            );
            self.read(place);
        }
    }

    pub(super) fn zero(&mut self, place: usize, room: Room, polls: Option<usize>) {
        let (image, Place { at, len, .. }) = (Arc::clone(&self.image), self.places[place].clone());
        let before = self.kernel.changes();
        self.note(place, 0, before, drive(image.write_zeroes(at, len, room, Fua::No), polls));
    }

    pub(super) fn discard(&mut self, place: usize) {
        let (image, Place { at, len, .. }) = (Arc::clone(&self.image), self.places[place].clone());
        let discarded = drive(image.discard(at, len, Fua::No), None);
        self.expect(discarded);
        self.places[place].may_be.push(0);
    }

    /// What the place holds is one of what it may hold.
    pub(super) fn read(&self, place: usize) {
        let Place { at, len, may_be } = &self.places[place];
        // Where its slice is not here, it is read past the cache.
        if let LayerKind::Qed(qed) = &self.image.layers()[0].kind
            && thread_rng().gen_bool(0.5)
        {
            qed.cache.bypass_from_now();
        }
        match block_on(self.image.read(*at, Buffer::zeroed(*len as usize))) {
            Ok(bytes) => assert_place(&bytes, *at, may_be),
            Err(error) => self.refused(&error),
        }
    }

    /// Flushes; what this guest's requests had done before is durable then.
    pub(super) fn flush(&self) {
        match block_on(self.image.flush()) {
            Ok(()) => {
                assert!(self.kernel.durable() >= self.owed, "a flush was owed, and skipped");
                self.assert_in_file();
            }
            Err(error) => self.refused(&error),
        }
    }

    /// The file leads to every place that this guest has written.
    fn assert_in_file(&self) {
        let file = self.plain.file(name());
        let entry = |at: u64| {
            let read = block_on(file.read_at(at, Buffer::zeroed(8).into())).expect("inside the file");
            u64::from_le_bytes(read.into_single()[..].try_into().expect("eight bytes"))
        };
        let is_written =
            |place: &&Place| matches!(place.may_be[..], [value] if value >= 0x10 && value != BELOW);
        for Place { at, .. } in self.places.iter().filter(is_written) {
            let table = entry(CLUSTER + 8 * (at / TABLE));
            assert_ne!(table, 0, "the file has no table for what was written at {at:#x} and flushed");
            let data = entry(table + 8 * (at % TABLE / CLUSTER));
            assert!(data > 1, "the file has no entry for what was written at {at:#x} and flushed");
        }
    }

    pub(super) fn maintain(&self) {
        self.expect(Some(block_on(self.image.maintain())));
    }

    pub(super) fn grow(&self, size: u64) {
        self.expect(Some(block_on(self.image.grow(SIZE + size))));
    }

    pub(super) fn close(&mut self) {
        self.may_be_closed = true;
        block_on(self.image.close()).expect("nothing fails here");
    }

    /// Somebody else closes the image meanwhile.
    pub(super) fn expect_a_close(&mut self) {
        self.may_be_closed = true;
    }

    /// Notes the outcome of a request that began after `before` changes; `None` when it was dropped.
    fn note(&mut self, place: usize, value: u8, before: usize, outcome: Option<Result<()>>) {
        let is_done = matches!(outcome, Some(Ok(())));
        if is_done {
            self.owed = self.owed.max(self.kernel.told_of(before));
        }
        self.expect(outcome);
        let may_be = &mut self.places[place].may_be;
        if is_done {
            may_be.clear();
        }
        may_be.push(value);
    }

    fn expect(&self, outcome: Option<Result<()>>) {
        if let Some(Err(error)) = outcome {
            self.refused(&error);
        }
    }

    fn refused(&self, error: &crate::Error) {
        assert!(self.may_be_closed && error.kind() == ErrorKind::Closed, "{error}");
    }
}

/// Runs a request to its end, or polls it so often and drops it.
fn drive<T>(request: impl Future<Output = T>, polls: Option<usize>) -> Option<T> {
    let Some(mut polls) = polls else { return Some(block_on(request)) };
    let mut request = pin!(request);
    block_on(std::future::poll_fn(|context| match request.as_mut().poll(context) {
        Poll::Ready(outcome) => Poll::Ready(Some(outcome)),
        Poll::Pending if polls == 0 => Poll::Ready(None),
        Poll::Pending => {
            polls -= 1;
            Poll::Pending
        }
    }))
}

fn assert_place(bytes: &[u8], at: u64, may_be: &[u8]) {
    for sector in bytes.chunks(512) {
        let (first, is_even) = (sector[0], sector.iter().all(|byte| *byte == sector[0]));
        assert!(is_even && may_be.contains(&first), "at {at:#x} is {first:#x}, not one of {may_be:x?}");
    }
}

/// Places of guest `number`: parts of clusters that all share, the first ones under each of two tables, and a cluster of its
/// own under the first and under the last.
fn places(world: World, number: u64) -> Vec<Place> {
    let shared = [0, CLUSTER, TABLE].map(|cluster| (cluster + 1024 * number, 1024));
    let own = [(8 + number) * CLUSTER, 2 * TABLE + number * CLUSTER].map(|cluster| (cluster, CLUSTER));
    let empty = if world.backing { BELOW } else { 0 };
    shared.into_iter().chain(own).map(|(at, len)| Place { at, len, may_be: vec![empty] }).collect()
}

fn name() -> &'static Path {
    Path::new("disk.qed")
}

fn make(world: World, plain: &MemoryOpener) {
    let backing = world.backing.then(|| {
        let below = plain.file(Path::new("below.raw"));
        let bytes = Buffer::copy_of(&[BELOW; CLUSTER as usize]);
        // The clusters that guests have places in.
        for cluster in [0, 1, 8, 9, 10, 11, 512, 1024, 1025, 1026, 1027] {
            block_on(below.write_at(cluster * CLUSTER, Buffer::copy_of(&bytes).into())).expect("memory");
        }
        NewBacking { name: "below.raw".into(), format: Format::Raw }
    });
    let options = CreateOptions {
        cluster_size: CLUSTER as u32,
        table_size: 1,
        backing,
        existing: Existing::Empty,
        ..CreateOptions::new(SIZE)
    };
    block_on(Image::<Memory>::create(plain, name(), &options)).expect("a new image");
}

fn options(world: World, access: Access) -> OpenOptions {
    let mut options = OpenOptions::new(access);
    options.backing = BackingPolicy::Local;
    options.cache = CacheBudget::Own(6000 + world.slices * 5200);
    options.commit = Some(world.commit);
    // A link and two clusters: guests meet at the bound.
    options.pending = PendingBounds { entries: 3, ..PendingBounds::default() };
    options
}

/// What one thread does.
pub(super) type Script = fn(&mut Guest);

/// Runs the scripts side by side on a new image, then looks at everything.
pub(super) fn check(world: World, scripts: &[Script]) {
    let disks = Disks::default();
    make(world, &disks.plain);
    let image = block_on(Image::open(&disks, name(), &options(world, Access::Write))).expect("it opens");
    let image = Arc::new(image);
    if world.linked {
        let nobodys = Buffer::copy_of(&[1; CLUSTER as usize]);
        block_on(image.write(16 * CLUSTER, nobodys, Fua::Yes)).expect("nothing fails here");
    }
    let threads: Vec<_> = scripts
        .iter()
        .zip(0..)
        .map(|(&script, number)| {
            let (kernel, plain) = (disks.kernel().clone(), disks.plain.clone());
            let (image, places) = (Arc::clone(&image), places(world, number));
            let mut guest = Guest {
                image,
                kernel,
                plain,
                places,
                next: 0x10 * (1 + number as u8),
                owed: 0,
                may_be_closed: false,
            };
            thread::spawn(move || {
                script(&mut guest);
                guest.places
            })
        })
        .collect();
    let places: Vec<_> =
        threads.into_iter().flat_map(|guest| guest.join().expect("a guest that ends")).collect();
    block_on(disks.kernel().is_quiet());
    block_on(image.validate()).expect("tables that can be read");
    block_on(image.close()).expect("a close");
    block_on(image.validate()).expect("tables that can be read");
    check_closed(world, &disks.plain, &places);
}

/// A closed image is clean, and has in its file what the guests may find.
fn check_closed(world: World, plain: &MemoryOpener, places: &[Place]) {
    let report = block_on(crate::check(plain, name(), Access::Read, Repair::No)).expect("it can be checked");
    assert_eq!(report.corruptions, 0, "{report:?}");
    let info = block_on(crate::inspect(plain, name(), Access::Read)).expect("a header");
    assert!(!info.dirty, "the bit is clear after a close");
    let image = block_on(Image::open(plain, name(), &options(world, Access::Read))).expect("it opens");
    for Place { at, len, may_be } in places {
        let bytes = block_on(image.read(*at, Buffer::zeroed(*len as usize))).expect("a read");
        assert_place(&bytes, *at, may_be);
    }
}
