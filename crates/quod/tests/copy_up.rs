//! What a first write brings up from the backing file, and what it asks of it.

mod common;

use std::path::Path;

use common::probe::{Op, Probe, ProbeOpener};
use common::*;
use quod::{Image, OpenOptions, block_on};
use quod_storage::Access;

const SHAPE: Shape = Shape { size: 64 << 20, cluster: 64 << 10, table: 2 };

/// A disk over a raw base that has 8 KiB of data at that offset, and is a hole otherwise.
fn over_data_at(offset: u64) -> (ProbeOpener, Image<Probe>) {
    let opener = ProbeOpener::default();
    let below = opener.plain.file(Path::new("base"));
    set_length(&below, SHAPE.size);
    set_bytes(&below, offset, &[7; 8192]);
    make(&opener, Path::new(DISK), SHAPE, Some(("base", quod::Format::Raw)));
    let options = OpenOptions { commit: Some(quod::CommitPolicy::Grouped), ..options(Access::Write) };
    let image = block_on(Image::open(&opener, Path::new(DISK), &options)).expect("the image opens");
    opener.record(DISK).take();
    opener.record("base").take();
    (opener, image)
}

#[test]
fn what_the_backing_file_has_as_a_hole_stays_one() {
    let (opener, image) = over_data_at(40 << 10);
    write(&image, 20 << 10, &[1; 4096]);
    write(&image, 64 << 10, &[2; 64 << 10]);
    let writes: Vec<usize> = opener
        .record(DISK)
        .take_changes()
        .iter()
        .filter_map(|op| if let Op::Write { bytes, .. } = op { Some(bytes.len()) } else { None })
        .collect();
    assert_eq!(
        writes,
        [4096, 8192, 64 << 10],
        "the guest's, what lies below of the rest, and a whole cluster"
    );
    let wanted =
        [vec![0; 20 << 10], vec![1; 4096], vec![0; 16 << 10], vec![7; 8192], vec![0; 16 << 10]].concat();
    assert_same(&read(&image, 0, 64 << 10), &wanted, "the first cluster");
}

#[test]
fn a_run_of_the_backing_file_s_data_is_asked_for_once() {
    let (opener, image) = over_data_at(0);
    write(&image, 1024, &[1; 1024]);
    let asked: Vec<u64> = opener
        .record("base")
        .take()
        .iter()
        .filter_map(|op| if let Op::Extent { at } = op { Some(*at) } else { None })
        .collect();
    // Storage in memory tells pages apart.
    assert_eq!(asked, [0, 4096, 8192], "not behind the guest's bytes, and the hole once");
    let wanted = [vec![7; 1024], vec![1; 1024], vec![7; 6144], vec![0; 56 << 10]].concat();
    assert_same(&read(&image, 0, 64 << 10), &wanted, "the first cluster");
}
