//! What a backing name may lead to, and what it may not.

mod common;

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use common::probe::ProbeOpener;
use common::*;
use quod::{Error, ErrorKind, Format, Image, OpenOptions, block_on};
use quod_storage::{Access, FileOpener, Memory, MemoryOpener, Opener};

const SHAPE: Shape = Shape::small(1 << 20);

struct Directory(tempfile::TempDir);

impl Directory {
    fn new() -> Self {
        Directory(tempfile::tempdir().expect("a directory"))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn image(&self, name: &str, backing: Option<(&str, Format)>) {
        make(&FileOpener, &self.path(name), SHAPE, backing);
    }

    #[track_caller]
    fn refused(&self, name: &str) -> Error {
        refused(&FileOpener, &self.path(name))
    }
}

#[track_caller]
fn refused<O: Opener>(opener: &O, name: &Path) -> Error {
    let mut errors = [Access::Write, Access::Read, Access::ReadShared].map(|access| {
        block_on(Image::open(opener, name, &options(access))).map(drop).expect_err("not an open")
    });
    assert!(errors.iter().all(|error| error.kind() == errors[0].kind()), "{errors:?}");
    std::mem::replace(&mut errors[0], Error::new(ErrorKind::Io, ""))
}

#[track_caller]
fn assert_error(error: &Error, kind: ErrorKind, says: &str) {
    assert_eq!(error.kind(), kind, "{error}");
    assert!(error.to_string().contains(says), "{error} does not say {says}");
}

#[test]
fn no_backing_file_is_opened_that_was_not_allowed() {
    let opener = ProbeOpener::default();
    set_bytes(&opener.plain.file(Path::new("base.raw")), 0, &[7; 512]);
    make(&opener, Path::new(DISK), SHAPE, Some(("base.raw", Format::Raw)));
    for access in [Access::Write, Access::Read] {
        let error = block_on(Image::open(&opener, Path::new(DISK), &OpenOptions::new(access))).unwrap_err();
        assert_error(&error, ErrorKind::BackingDenied, DISK);
    }
    assert_eq!(opener.record("base.raw").take(), []);
    let info = block_on(quod::inspect(&opener, Path::new(DISK), Access::Read)).unwrap();
    assert_eq!(info.backing.expect("it names one").name, "base.raw");
    assert_eq!(opener.record("base.raw").take(), [], "looking opens nothing else");
    assert_eq!(report(&opener, Path::new(DISK)).corruptions, 0, "nor does a check");
    assert_eq!(opener.record("base.raw").take(), []);
}

#[test]
fn a_chain_that_comes_back_to_itself_is_refused() {
    let directory = Directory::new();
    directory.image("self.qed", Some(("self.qed", Format::Qed)));
    assert_error(&directory.refused("self.qed"), ErrorKind::BackingLoop, "creates an infinite loop.");
    directory.image("a.qed", Some(("b.qed", Format::Qed)));
    directory.image("b.qed", Some(("a.qed", Format::Qed)));
    assert_error(&directory.refused("a.qed"), ErrorKind::BackingLoop, "creates an infinite loop.");
    directory.image("real.qed", Some(("alias.qed", Format::Qed)));
    symlink(directory.path("real.qed"), directory.path("alias.qed")).unwrap();
    assert_error(&directory.refused("real.qed"), ErrorKind::BackingLoop, "alias.qed");
    directory.image("first.qed", Some(("second.qed", Format::Qed)));
    std::fs::hard_link(directory.path("first.qed"), directory.path("second.qed")).unwrap();
    assert_error(&directory.refused("first.qed"), ErrorKind::BackingLoop, "second.qed");
    directory.image("raw.qed", Some(("raw.qed", Format::Raw)));
    assert_error(&directory.refused("raw.qed"), ErrorKind::BackingLoop, "raw.qed");
}

#[test]
fn a_chain_has_a_bounded_depth() {
    let opener = MemoryOpener::new();
    make(&opener, Path::new("0"), SHAPE, None);
    let below = |name: u32| {
        make(&opener, Path::new(&name.to_string()), SHAPE, Some((&(name - 1).to_string(), Format::Qed)))
    };
    (1..1000).for_each(below);
    let image = open(&opener, Path::new("150"), Access::Write);
    write(&image, 100, &[1; 10]);
    assert_eq!(image.chain().count(), 151);
    assert_error(&refused(&opener, Path::new("999")), ErrorKind::BackingLoop, "images in a chain");
}

#[test]
fn a_backing_file_that_cannot_be_opened_is_named() {
    let directory = Directory::new();
    directory.image("missing.qed", Some(("no/such.raw", Format::Raw)));
    let error = directory.refused("missing.qed");
    assert_error(&error, ErrorKind::BackingUnavailable, "Could not open backing file");
    assert_error(&error, ErrorKind::BackingUnavailable, "no/such.raw");
    directory.image("circle.qed", Some(("circle", Format::Raw)));
    symlink("circle", directory.path("circle")).unwrap();
    assert_error(&directory.refused("circle.qed"), ErrorKind::BackingUnavailable, "circle");
    directory.image("directory.qed", Some((".", Format::Raw)));
    assert_error(
        &directory.refused("directory.qed"),
        ErrorKind::BackingUnavailable,
        "Could not open backing file",
    );
    directory.image("broken.qed", Some(("short", Format::Qed)));
    std::fs::write(directory.path("short"), b"QED\0 and no more").unwrap();
    assert_error(&directory.refused("broken.qed"), ErrorKind::BackingUnavailable, "Image not in QED format");
}

#[test]
fn a_backing_file_whose_header_cannot_be_read_is_named() {
    let opener = ProbeOpener::default();
    make(&opener, Path::new("base.qed"), SHAPE, None);
    make(&opener, Path::new(DISK), SHAPE, Some(("base.qed", Format::Qed)));
    opener.record("base.qed").fail(|_| Some(std::io::ErrorKind::PermissionDenied));
    assert_error(&refused(&opener, Path::new(DISK)), ErrorKind::BackingUnavailable, "base.qed");
}

#[test]
fn only_local_files_are_followed() {
    let directory = Directory::new();
    for name in
        ["nbd://localhost/disk", "json:{\"driver\":\"raw\"}", "nbd:unix:/tmp/x", "http://host/../file"]
    {
        directory.image(DISK, Some((name, Format::Raw)));
        let error = directory.refused(DISK);
        assert_error(&error, ErrorKind::BackingUnavailable, "not a local file");
        assert_error(&error, ErrorKind::BackingUnavailable, name);
    }
}

#[test]
fn names_are_relative_to_the_image_that_names_them() {
    let directory = Directory::new();
    std::fs::create_dir_all(directory.path("deep/er")).unwrap();
    std::fs::write(directory.path("base:1.raw"), [7; 4096]).unwrap();
    std::fs::write(directory.path("base.raw"), [7; 4096]).unwrap();
    let absolute = directory.path("base.raw").display().to_string();
    for name in
        ["../../base.raw", "../.././deep/../base.raw", &absolute, "file:../../base.raw", "./../../base:1.raw"]
    {
        directory.image("deep/er/disk.qed", Some((name, Format::Raw)));
        let image = open(&FileOpener, &directory.path("deep/er/disk.qed"), Access::Read);
        assert_same(&read(&image, 0, 4096), &[7; 4096], name);
    }
    directory.image("deep/er/disk.qed", Some(("../../base.raw", Format::Raw)));
    directory.image("top.qed", Some(("deep/er/disk.qed", Format::Qed)));
    let image = open(&FileOpener, &directory.path("top.qed"), Access::Read);
    assert_same(&read(&image, 0, 4096), &[7; 4096], "two steps down");
}

#[test]
fn a_name_that_is_no_file_name_is_refused() {
    let opener = MemoryOpener::new();
    make(&opener, Path::new(DISK), SHAPE, Some(("base\u{e9}raw", Format::Raw)));
    let file = opener.file(Path::new(DISK));
    set_bytes(&file, 66, &[0]);
    assert_error(&refused(&opener, Path::new(DISK)), ErrorKind::InvalidHeader, "is not a file name");
    for name in ["", "nul\0inside", &"x".repeat(4096 - 64 + 1)] {
        let create =
            block_on(Image::create(&opener, Path::new("new"), &SHAPE.options(Some((name, Format::Raw)))));
        assert_eq!(create.unwrap_err().kind(), ErrorKind::InvalidArgument, "{name:?}");
    }
    // Any other bytes are a name to the system.
    set_bytes(&file, 66, &[0xff]);
    let name = Path::new(OsStr::from_bytes(b"ba\xffe\xc3\xa9raw"));
    set_bytes(&opener.file(name), 0, &[8; 512]);
    assert_same(&read(&open(&opener, Path::new(DISK), Access::Read), 0, 512), &[8; 512], "no UTF-8");
    let longest = "x".repeat(4096 - 64);
    set_bytes(&opener.file(Path::new(&longest)), 0, &[7; 512]);
    make(&opener, Path::new("new"), SHAPE, Some((&longest, Format::Raw)));
    assert_same(&read(&open(&opener, Path::new("new"), Access::Read), 0, 512), &[7; 512], "the longest name");
}

/// A disk of 4 MiB over an empty one that ends within a cluster, over 4 MiB of sevens.
fn over_a_shorter_one() -> (Image<Memory>, u64) {
    let (opener, size, middle) = (MemoryOpener::new(), 4 << 20, (1 << 20) + 512);
    set_bytes(&opener.file(Path::new("bottom")), 0, &vec![7; size as usize]);
    make(&opener, Path::new("middle"), Shape::small(middle), Some(("bottom", Format::Raw)));
    (fresh(&opener, Path::new(DISK), Shape::small(size), Some(("middle", Format::Qed))), middle)
}

#[test]
fn a_run_ends_where_a_shorter_layer_ends() {
    let (image, end) = over_a_shorter_one();
    let mut wanted = vec![7; 2 << 20];
    wanted[end as usize..].fill(0);
    assert_same(&read(&image, 0, wanted.len()), &wanted, "one read over the end of the layer between");
    let status = block_on(image.block_status(end - 512, 65536)).unwrap();
    assert_eq!((status.depth, status.len), (2, 512));
    write(&image, end + 512, &[1; 512]);
    assert_same(
        &read(&image, end - 512, 1536),
        &[[7; 512], [0; 512], [1; 512]].concat(),
        "the copy of a cluster over it",
    );
}

#[test]
fn past_the_end_of_a_layer_nothing_shows_of_what_lies_below_it() {
    let (image, end) = over_a_shorter_one();
    for at in [end, end + 512, 2 << 20] {
        assert_same(&read(&image, at, 65536), &[0; 65536], "past the end of the layer between");
    }
    let status = block_on(image.block_status(end, 65536)).unwrap();
    assert_eq!((status.kind, status.depth), (quod::BlockKind::Unallocated, 0));
}

#[test]
fn a_file_that_is_marked_raw_is_never_probed() {
    let opener = MemoryOpener::new();
    make(&opener, Path::new("base"), SHAPE, None);
    make(&opener, Path::new(DISK), SHAPE, Some(("base", Format::Raw)));
    let image = open(&opener, Path::new(DISK), Access::Read);
    assert_same(
        &read(&image, 0, 512),
        &bytes(&opener.file(Path::new("base")), 0, 512),
        "the base's own header",
    );
}

#[test]
fn another_format_is_not_taken_for_raw() {
    let opener = MemoryOpener::new();
    set_bytes(&opener.file(Path::new("base")), 0, b"QFI\xfb and so on");
    make(&opener, Path::new(DISK), SHAPE, Some(("base", Format::Qed)));
    assert_error(&refused(&opener, Path::new(DISK)), ErrorKind::BackingUnavailable, "qcow2");
}

#[test]
fn a_pipe_a_directory_or_a_device_is_no_image() {
    let directory = Directory::new();
    assert!(std::process::Command::new("mkfifo").arg(directory.path("pipe")).status().unwrap().success());
    std::fs::create_dir(directory.path("directory")).unwrap();
    let mut names =
        vec![directory.path("pipe"), directory.path("directory"), "/dev/null".into(), "/dev/zero".into()];
    names.extend(block_devices());
    for name in names {
        let error = refused(&FileOpener, &name);
        assert_eq!(error.kind(), ErrorKind::Io, "{error}");
        assert!(error.to_string().contains(&name.display().to_string()), "{error}");
        directory.image(DISK, Some((&name.display().to_string(), Format::Raw)));
        assert_error(&directory.refused(DISK), ErrorKind::BackingUnavailable, &name.display().to_string());
        block_on(Image::create(&FileOpener, &name, &SHAPE.options(None))).expect_err("nothing is made there");
    }
}

/// Those of the machine, if it shows any.
fn block_devices() -> Option<PathBuf> {
    use std::os::unix::fs::FileTypeExt;
    let entries = std::fs::read_dir("/dev").into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).find(|path| {
        std::fs::symlink_metadata(path).is_ok_and(|metadata| metadata.file_type().is_block_device())
    })
}
