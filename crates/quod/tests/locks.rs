//! One writer at a time, whichever program it is: our locks and the reference's are the same.

mod common;

use std::path::{Path, PathBuf};

use common::qemu::Holder;
use common::*;
use quod::{Error, ErrorKind, Format, Image, block_on};
use quod_storage::{Access, FileOpener, FileStorage};

struct Disk {
    _directory: tempfile::TempDir,
    name: PathBuf,
}

fn disk() -> Disk {
    let directory = tempfile::tempdir().expect("a directory");
    let name = directory.path().join(DISK);
    make(&FileOpener, &name, Shape::usual(8 << 20), None);
    Disk { _directory: directory, name }
}

fn try_open(name: &Path, access: Access) -> Result<Image<FileStorage>, Error> {
    block_on(Image::open(&FileOpener, name, &options(access)))
}

/// What qemu-io says when it opens the image and reads a little.
fn theirs(name: &Path, flags: &[&str]) -> (bool, String) {
    let arguments = ["-f", "qed"].iter().chain(flags).chain(&["-c", "read 0 512"]).map(|flag| flag.as_ref());
    let output = qemu::run("qemu-io", arguments.chain([name.as_os_str()]));
    let said =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    (output.status.success() && !said.contains("lock"), said)
}

#[track_caller]
fn assert_locked(outcome: Result<Image<FileStorage>, Error>, name: &Path, holder: u32, command: &str) {
    let error = outcome.expect_err("another one has it");
    assert_eq!(error.kind(), ErrorKind::Locked, "{error}");
    let said = error.to_string();
    assert!(said.contains("lock"), "{said}");
    assert!(said.contains(&format!("Is another process using the image [{}]?", name.display())), "{said}");
    assert!(said.contains(&holder.to_string()) && said.contains(command), "names the holder: {said}");
}

#[test]
fn our_writer_keeps_the_reference_out() {
    let disk = disk();
    let image = open(&FileOpener, &disk.name, Access::Write);
    for flags in [&[][..], &["-r"]] {
        let (opened, said) = theirs(&disk.name, flags);
        assert!(!opened && said.contains("lock"), "{flags:?}: {said}");
    }
    let (opened, said) = theirs(&disk.name, &["-r", "-U"]);
    assert!(opened, "force-share passes a writer: {said}");
    close(image);
    let (opened, said) = theirs(&disk.name, &[]);
    assert!(opened, "the lock goes with the image: {said}");
}

#[test]
fn the_references_writer_keeps_us_out_and_is_named() {
    let disk = disk();
    let holder = Holder::open(&disk.name, &[]);
    assert_locked(try_open(&disk.name, Access::Write), &disk.name, holder.pid(), "qemu-io");
    assert_locked(try_open(&disk.name, Access::Read), &disk.name, holder.pid(), "qemu-io");
    try_open(&disk.name, Access::ReadShared).expect("a shared reader passes a writer");
    holder.quit();
    close(open(&FileOpener, &disk.name, Access::Write));
}

#[test]
fn readers_go_together_and_keep_writers_out() {
    let disk = disk();
    let holder = Holder::open(&disk.name, &["-r"]);
    let image = try_open(&disk.name, Access::Read).expect("two readers");
    assert_locked(try_open(&disk.name, Access::Write), &disk.name, holder.pid(), "qemu-io");
    holder.quit();
    let (opened, said) = theirs(&disk.name, &[]);
    assert!(!opened, "our reader keeps a writer out: {said}");
    let (opened, said) = theirs(&disk.name, &["-r"]);
    assert!(opened, "our reader lets readers in: {said}");
    close(image);
}

#[test]
fn a_shared_reader_lets_a_writer_in() {
    let disk = disk();
    let _image = open(&FileOpener, &disk.name, Access::ReadShared);
    let (opened, said) = theirs(&disk.name, &[]);
    assert!(opened, "{said}");
    close(open(&FileOpener, &disk.name, Access::Write));
}

#[test]
fn a_shared_reader_sees_what_a_writer_beside_it_allocates() {
    let disk = disk();
    let reader = open(&FileOpener, &disk.name, Access::ReadShared);
    let mut writer = Holder::open(&disk.name, &[]);
    let said = writer.ask("write -P 9 4M 64k");
    assert!(said.contains("65536"), "{said}");
    assert_same(
        &read(&reader, 4 << 20, 65536),
        &[9; 65536],
        "a table and a cluster that came after the open",
    );
    writer.quit();
}

#[test]
fn a_second_writer_in_this_process_is_refused_and_the_process_is_named() {
    let disk = disk();
    let image = open(&FileOpener, &disk.name, Access::Write);
    let own = std::process::id();
    assert_locked(try_open(&disk.name, Access::Write), &disk.name, own, "process");
    assert_locked(try_open(&disk.name, Access::Read), &disk.name, own, "process");
    let error =
        block_on(Image::create(&FileOpener, &disk.name, &Shape::small(512).options(None))).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Locked, "{error}");
    close(image);
    let image = open(&FileOpener, &disk.name, Access::Write);
    assert_eq!(image.size(), 8 << 20, "the refused creation left it alone");
}

#[test]
fn a_backing_file_is_shared_by_overlays_and_written_by_nobody() {
    let disk = disk();
    let directory = disk.name.parent().expect("a directory");
    let overlays = ["one.qed", "two.qed"].map(|name| {
        fresh(&FileOpener, &directory.join(name), Shape::usual(8 << 20), Some((DISK, Format::Qed)))
    });
    assert_locked(try_open(&disk.name, Access::Write), &disk.name, std::process::id(), "process");
    let (opened, said) = theirs(&disk.name, &[]);
    assert!(!opened, "{said}");
    overlays.into_iter().for_each(close);
}

#[test]
fn a_killed_writer_leaves_no_lock() {
    let disk = disk();
    Holder::open(&disk.name, &[]).kill();
    close(open(&FileOpener, &disk.name, Access::Write));
}
