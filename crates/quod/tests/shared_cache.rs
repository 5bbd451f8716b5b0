//! Images that share a pool of slices: each sees its own disk, whatever the others do to its tables in memory.

mod common;

use std::path::{Path, PathBuf};

use common::*;
use fastrand::Rng;
use quod::cache::SlicePool;
use quod::{CacheBudget, CommitPolicy, Format, Image, OpenOptions, block_on};
use quod_storage::{Access, Memory, MemoryOpener};

const IMAGES: usize = 4;
/// Guest bytes under one slice, and there is one in a table.
const SPAN: u64 = 2 << 20;
const SPANS: usize = 24;

/// One of them, and what each span of it holds at its start.
struct Disk {
    name: PathBuf,
    image: Image<Memory>,
    wanted: [u8; SPANS],
}

impl Disk {
    /// Odd ones lie over a raw file and group their first writes.
    fn open(opener: &MemoryOpener, number: usize, options: &OpenOptions) -> Self {
        let name = PathBuf::from(format!("{number}.qed"));
        let grouped = !number.is_multiple_of(2);
        let backing = grouped.then_some(("base.raw", Format::Raw));
        make(opener, &name, Shape::small(SPANS as u64 * SPAN), backing);
        let commit = grouped.then_some(CommitPolicy::Grouped);
        let options = OpenOptions { commit, ..options.clone() };
        let image = block_on(Image::open(opener, &name, &options)).expect("it opens");
        Disk { name, image, wanted: [0; SPANS] }
    }

    fn check(&self, span: usize) {
        assert_eq!(read(&self.image, span as u64 * SPAN, 1), [self.wanted[span]], "{:?}, {span}", self.name);
    }
}

#[test]
fn images_that_share_a_pool_keep_to_their_own_tables() {
    let opener = MemoryOpener::new();
    block_on(quod_storage::Opener::create(&opener, Path::new("base.raw"), quod_storage::Existing::Keep))
        .expect("a file");
    // A twentieth of what all their slices take that are not packed.
    let pool = SlicePool::new(IMAGES * SPANS * 4096 / 20);
    let options = OpenOptions { cache: CacheBudget::Shared(pool.clone()), ..options(Access::Write) };
    let mut disks: Vec<_> = (0..IMAGES).map(|number| Disk::open(&opener, number, &options)).collect();
    let mut rng = Rng::with_seed(1);
    for step in 0..6000 {
        let (number, span) = (rng.usize(..IMAGES), rng.usize(..SPANS));
        let disk = &mut disks[number];
        match rng.u8(..8) {
            0..3 => {
                disk.wanted[span] = rng.u8(1..);
                write(&disk.image, span as u64 * SPAN, &[disk.wanted[span]]);
            }
            3 if step % 40 == 0 => flush(&disk.image),
            // One goes and comes again; the others' slices stay where they are.
            4 if step % 40 == 0 => {
                let Disk { name, image, wanted } = disks.remove(number);
                close(image);
                assert_clean(&opener, &name);
                let image = block_on(Image::open(&opener, &name, &options)).expect("it opens again");
                disks.insert(number, Disk { name, image, wanted });
            }
            _ => disk.check(span),
        }
    }
    assert!(
        disks.iter().all(|disk| disk.image.cache_stats().evictions > 0),
        "they have made each other room"
    );
    for disk in &disks {
        (0..SPANS).for_each(|span| disk.check(span));
        block_on(disk.image.validate()).expect("its file can be read");
    }
    for Disk { name, image, .. } in disks {
        close(image);
        assert_clean(&opener, &name);
    }
    assert!(pool.bytes() < 8192, "{} bytes are left of nobody's", pool.bytes());
}
