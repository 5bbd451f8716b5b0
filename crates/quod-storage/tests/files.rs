//! Local files: which ones are opened, and who is kept out meanwhile.

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use futures_lite::future::block_on;
use quod_storage::{
    Access, Buffer, Buffers, Existing, FileOpener, FileStorage, Held, LockConflict, Opener, Storage,
};

fn open(name: &Path, access: Access) -> std::io::Result<FileStorage> {
    block_on(FileOpener.open(name, access))
}

fn file() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().expect("a directory");
    let name = directory.path().join("file");
    fs::write(&name, [7; 5000]).expect("a file");
    (directory, name)
}

#[track_caller]
fn assert_locked(outcome: std::io::Result<FileStorage>, name: &Path) {
    let error = outcome.expect_err("another one has it");
    assert_eq!(error.kind(), std::io::ErrorKind::ResourceBusy, "{error}");
    let conflict = error.get_ref().and_then(|inner| inner.downcast_ref::<LockConflict>());
    let said = conflict.expect("it says who is in the way").to_string();
    assert!(said.contains(&format!("Is another process using the image [{}]?", name.display())), "{said}");
    assert!(said.contains(&format!("process {}", std::process::id())), "{said}");
}

#[test]
fn locks_keep_each_other_out_within_one_process() {
    let (_directory, name) = file();
    let writer = open(&name, Access::Write).unwrap();
    assert_locked(open(&name, Access::Write), &name);
    assert_locked(open(&name, Access::Read), &name);
    let shared = open(&name, Access::ReadShared).expect("a shared reader passes a writer");
    drop((writer, shared));
    let readers =
        [Access::Read, Access::Read, Access::ReadShared].map(|access| open(&name, access).expect("readers"));
    assert_locked(open(&name, Access::Write), &name);
    drop(readers);
    open(&name, Access::Write).expect("the locks went with the handles");
}

#[test]
fn a_lock_lives_as_long_as_the_last_clone() {
    let (_directory, name) = file();
    let writer = open(&name, Access::Write).unwrap();
    let clone = writer.clone();
    drop(writer);
    assert_locked(open(&name, Access::Write), &name);
    drop(clone);
    open(&name, Access::Write).unwrap();
}

#[test]
fn a_lock_that_goes_away_within_a_second_is_waited_for() {
    let (_directory, name) = file();
    let writer = open(&name, Access::Write).unwrap();
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| open(&name, Access::Write));
        drop(writer);
        waiter.join().expect("no panic").expect("the lock was given up");
    });
}

#[test]
fn a_refused_creation_leaves_the_file_alone() {
    let (_directory, name) = file();
    let reader = open(&name, Access::Read).unwrap();
    assert_locked(block_on(FileOpener.create(&name, Existing::Empty)), &name);
    assert_eq!(fs::read(&name).unwrap(), [7; 5000]);
    drop(reader);
    let created = block_on(FileOpener.create(&name, Existing::Empty)).unwrap();
    assert_eq!(block_on(created.length()).unwrap(), 0);
    assert_locked(open(&name, Access::Read), &name);
}

#[test]
fn a_creation_that_keeps_what_exists_looks_once_it_has_the_lock() {
    let (directory, name) = file();
    let kept = block_on(FileOpener.create(&name, Existing::Keep));
    assert_eq!(kept.unwrap_err().kind(), std::io::ErrorKind::AlreadyExists);
    assert_eq!(fs::read(&name).unwrap(), [7; 5000]);
    let new = directory.path().join("new");
    let first = block_on(FileOpener.create(&new, Existing::Keep)).unwrap();
    std::thread::scope(|scope| {
        let second = scope.spawn(|| block_on(FileOpener.create(&new, Existing::Keep)));
        std::thread::sleep(std::time::Duration::from_millis(200));
        block_on(first.write_at(0, Buffer::copy_of(b"an image").into())).unwrap();
        drop(first);
        let second = second.join().expect("no panic");
        assert_eq!(second.unwrap_err().kind(), std::io::ErrorKind::AlreadyExists);
    });
    assert_eq!(fs::read(&new).unwrap(), b"an image");
    fs::write(&new, b"").unwrap();
    block_on(FileOpener.create(&new, Existing::Keep)).expect("an empty file is nothing to keep");
}

#[test]
fn what_is_no_regular_file_is_refused_at_once() {
    let (directory, name) = file();
    let pipe = directory.path().join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().expect("mkfifo runs").success());
    let link = directory.path().join("link");
    symlink(&pipe, &link).unwrap();
    let socket = directory.path().join("socket");
    let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    for bad in
        [pipe.as_path(), &link, &socket, directory.path(), Path::new("/dev/null"), Path::new("/dev/zero")]
    {
        for access in [Access::Read, Access::ReadShared, Access::Write] {
            open(bad, access).expect_err("no regular file");
        }
        block_on(FileOpener.create(bad, Existing::Empty)).expect_err("nothing is made there");
    }
    let alias = directory.path().join("alias");
    symlink(&name, &alias).unwrap();
    open(&alias, Access::Read).expect("a link to a regular file is one");
}

#[test]
fn a_missing_file_is_not_made_by_an_open() {
    let (directory, _) = file();
    let missing = directory.path().join("missing");
    for access in [Access::Read, Access::ReadShared, Access::Write] {
        assert_eq!(open(&missing, access).unwrap_err().kind(), std::io::ErrorKind::NotFound);
    }
    assert!(!missing.exists());
    assert_eq!(block_on(FileOpener.identify(&missing)).unwrap_err().kind(), std::io::ErrorKind::NotFound);
    block_on(FileOpener.create(&missing.join("deeper"), Existing::Empty)).expect_err("no such directory");
}

#[test]
fn one_file_by_any_name_is_one_file() {
    let (directory, name) = file();
    let names = ["hard", "soft"].map(|alias| directory.path().join(alias));
    fs::hard_link(&name, &names[0]).unwrap();
    symlink(&name, &names[1]).unwrap();
    let id = block_on(FileOpener.identify(&name)).unwrap();
    for alias in &names {
        assert_eq!(block_on(FileOpener.identify(alias)).unwrap(), id);
    }
    fs::write(directory.path().join("other"), []).unwrap();
    assert_ne!(block_on(FileOpener.identify(&directory.path().join("other"))).unwrap(), id);
    let _writer = open(&name, Access::Write).unwrap();
    assert_locked(open(&names[0], Access::Write), &names[0]);
}

#[test]
fn zeroes_past_the_end_take_no_room() {
    let (_directory, name) = file();
    let storage = open(&name, Access::Write).unwrap();
    let before = name.metadata().unwrap().blocks();
    block_on(storage.write_zeroes(4096, 8 << 20, Held::NOTHING)).unwrap();
    block_on(storage.write_zeroes(64 << 20, 8 << 20, Held::NOTHING)).unwrap();
    let after = name.metadata().unwrap();
    assert_eq!(after.len(), 5000);
    assert!(after.blocks() <= before + 16, "{} blocks, {before} before", after.blocks());
}

#[test]
fn a_reader_cannot_write() {
    let (_directory, name) = file();
    for access in [Access::Read, Access::ReadShared] {
        let reader = open(&name, access).unwrap();
        block_on(reader.write_at(0, Buffer::copy_of(&[1]).into())).expect_err("a read-only handle");
        block_on(reader.set_len(0, Held::NOTHING)).expect_err("a read-only handle");
        block_on(reader.punch(0, 512, Held::NOTHING)).expect_err("a read-only handle");
    }
    assert_eq!(fs::read(&name).unwrap(), [7; 5000]);
}

#[test]
fn what_an_operation_protects_is_let_go_when_it_is_over() {
    let (_directory, name) = file();
    let storage = open(&name, Access::Write).unwrap();
    let guard = Arc::new(());
    let held = || Held::new(Arc::clone(&guard));
    block_on(storage.flush(held())).unwrap();
    block_on(storage.set_len(6000, held())).unwrap();
    block_on(storage.punch(0, 512, held())).unwrap();
    block_on(storage.write_zeroes(0, 512, held())).unwrap();
    assert_eq!(Arc::strong_count(&guard), 1);
    let buffers = Buffers::from(Buffer::zeroed(512)).holding(held());
    let back = block_on(storage.read_at(0, buffers)).unwrap();
    assert_eq!(Arc::strong_count(&guard), 2, "buffers bring back what they protect");
    drop(back);
    assert_eq!(Arc::strong_count(&guard), 1);
}
