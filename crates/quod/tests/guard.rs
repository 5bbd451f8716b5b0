//! A raw disk whose format nobody has named stays raw, whatever its guest writes.

mod common;

use std::path::Path;

use common::*;
use quod::{ErrorKind, Format, Fua, Image, OpenOptions, Result, Room, block_on, probe};
use quod_storage::{Access, Buffer, Memory, MemoryOpener};

fn raw(len: usize, format: Option<Format>) -> (MemoryOpener, Image<Memory>) {
    let opener = MemoryOpener::new();
    set_bytes(&opener.file(Path::new(DISK)), 0, &vec![b'E'; len]);
    let options = OpenOptions { format, ..OpenOptions::new(Access::Write) };
    let image = block_on(Image::open(&opener, Path::new(DISK), &options)).expect("a raw disk");
    (opener, image)
}

fn put(image: &Image<Memory>, at: u64, bytes: &[u8]) -> Result<()> {
    block_on(image.write(at, Buffer::copy_of(bytes), Fua::No)).map(drop)
}

fn clear(image: &Image<Memory>, at: u64, len: u64) -> [Result<()>; 2] {
    [block_on(image.write_zeroes(at, len, Room::Keep, Fua::No)), block_on(image.discard(at, len, Fua::No))]
}

fn still_raw(opener: &MemoryOpener) {
    assert_eq!(block_on(probe(opener, Path::new(DISK))).expect("no other format"), Format::Raw);
}

#[test]
fn no_write_turns_a_probed_raw_disk_into_something_else() {
    let (opener, image) = raw(4096, None);
    for magic in [&b"QED\0"[..], b"QFI\xfb", b"KDMV", b"# Disk DescriptorFile", b"vhdxfile", b"conectix"] {
        for whole in [magic.to_vec(), [magic, &[0; 4000]].concat()] {
            let refused = put(&image, 0, &whole).unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::ReadOnly, "{refused}");
            assert!(refused.to_string().starts_with(DISK) && refused.to_string().contains("name its format"));
        }
        // In two parts, each of them harmless; the last byte first.
        let (last, rest) = magic.split_last().unwrap();
        put(&image, rest.len() as u64, &[*last]).unwrap();
        assert_eq!(put(&image, 0, rest).unwrap_err().kind(), ErrorKind::ReadOnly);
        put(&image, 0, &[b'-'; 32]).unwrap();
        put(&image, 0, rest).unwrap();
        assert_eq!(put(&image, rest.len() as u64, &[*last]).unwrap_err().kind(), ErrorKind::ReadOnly);
        put(&image, 0, &[b'-'; 32]).unwrap();
        still_raw(&opener);
    }
}

#[test]
fn zeroes_may_complete_a_magic_too() {
    let (opener, image) = raw(4096, None);
    put(&image, 0, b"QED!").unwrap();
    for outcome in clear(&image, 3, 1).into_iter().chain(clear(&image, 3, 4000)) {
        assert_eq!(outcome.unwrap_err().kind(), ErrorKind::ReadOnly);
    }
    still_raw(&opener);
    for outcome in clear(&image, 0, 4096).into_iter().chain(clear(&image, 512, 100)) {
        outcome.unwrap();
    }
}

#[test]
fn everything_else_is_written_and_whoever_names_the_format_may_write_anything() {
    let (_, image) = raw(4096, None);
    put(&image, 1, b"QED\0").unwrap();
    put(&image, 512, b"QED\0").unwrap();
    let (opener, image) = raw(100, Some(Format::Raw));
    put(&image, 0, b"QED\0").unwrap();
    assert_eq!(block_on(probe(&opener, Path::new(DISK))).unwrap(), Format::Qed);
}

#[test]
fn a_qed_image_that_was_found_by_its_magic_is_no_business_of_the_guard() {
    let opener = MemoryOpener::new();
    make(&opener, Path::new(DISK), Shape::small(1 << 20), None);
    let options = OpenOptions { format: None, ..OpenOptions::new(Access::Write) };
    let image = block_on(Image::open(&opener, Path::new(DISK), &options)).expect("QED");
    assert_eq!(image.format(), Format::Qed);
    put(&image, 0, b"QED\0").unwrap();
    close(image);
}
