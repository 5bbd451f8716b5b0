//! Storage over the servers of others.

mod common;

use std::fs;
use std::process::Command;

use common::{Server, block_on, connect, flush, map, read, write};
use quod_storage::{Buffer, Buffers, Held, Storage};

const MIB: u64 = 1 << 20;

fn raw(server_arguments: &[&str]) -> Server {
    let arguments = [&["-f", "raw"], server_arguments].concat();
    Server::qemu_nbd(&arguments, |file| {
        fs::File::create(file).and_then(|file| file.set_len(64 * MIB)).expect("a file");
    })
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at * 7 + at / 251) as u8).collect()
}

#[test]
fn what_is_written_is_in_the_servers_file() {
    let server = raw(&[]);
    let storage = server.connect();
    assert_eq!(block_on(storage.length()).expect("told"), 64 * MIB);
    let bytes = pattern(100_000);
    write(&storage, 12_345, &bytes).expect("written");
    assert_eq!(read(&storage, 12_345, bytes.len()).expect("read"), bytes);
    flush(&storage).expect("flushed");
    let file = fs::read(server.file()).expect("the file");
    assert_eq!(file[12_345..12_345 + bytes.len()], bytes);

    block_on(storage.punch(16_384, 8192, Held::NOTHING)).expect("punched");
    block_on(storage.write_zeroes(40_000, 100, Held::NOTHING)).expect("zeroed");
    let now = read(&storage, 0, 120_000).expect("read");
    assert!(now[16_384..24_576].iter().chain(&now[40_000..40_100]).all(|&byte| byte == 0));
    assert_eq!(now[40_100..100_000], bytes[40_100 - 12_345..100_000 - 12_345]);
}

#[test]
fn a_request_larger_than_the_servers_limit_goes_in_pieces_through_all_its_parts() {
    let server = raw(&[]);
    let storage = server.connect();
    let bytes = pattern(40 << 20);
    let parts = bytes.chunks(7_000_001).map(Buffer::copy_of);
    block_on(storage.write_at(3, Buffers::gather(parts))).expect("written");
    let parts = [1, 33 << 20, bytes.len() - 1 - (33 << 20)].map(Buffer::zeroed);
    let read = block_on(storage.read_at(3, Buffers::gather(parts))).expect("read");
    assert!(read.parts.iter().flat_map(|part| part.iter()).eq(bytes.iter()));
}

#[test]
fn holes_are_told_as_far_as_the_server_tells_them() {
    let server = raw(&[]);
    let storage = server.connect();
    assert_eq!(map(&storage), [(64 * MIB, false)]);
    write(&storage, MIB, &[1; 65_536]).expect("written");
    assert_eq!(map(&storage), [(MIB, false), (MIB + 65_536, true), (64 * MIB, false)]);

    let silent = Server::nbdkit(&["--filter=noextents", "memory", "1M"]);
    assert_eq!(map(&silent.connect()), [(MIB, true)]);
}

#[test]
fn a_qcow2_disk_of_the_server_is_a_disk_like_any() {
    let server = Server::qemu_nbd(&["-f", "qcow2"], |file| {
        let made =
            Command::new("qemu-img").args(["create", "-q", "-f", "qcow2"]).arg(file).arg("8G").status();
        assert!(made.expect("qemu-img runs").success());
    });
    let storage = server.connect();
    write(&storage, (8 << 30) - 5, b"tail!").expect("written");
    assert_eq!(read(&storage, (8 << 30) - 6, 6).expect("read"), b"\0tail!");
    assert_eq!(map(&storage).last(), Some(&(8 << 30, true)));
}

#[test]
fn ranges_past_the_end_are_refused_before_they_are_sent() {
    let storage_server = raw(&[]);
    let storage = storage_server.connect();
    let kind = |failed: std::io::Result<()>| failed.expect_err("refused").kind();
    assert_eq!(kind(read(&storage, 64 * MIB - 1, 2).map(drop)), std::io::ErrorKind::UnexpectedEof);
    assert_eq!(kind(write(&storage, u64::MAX, b"x")), std::io::ErrorKind::StorageFull);
    assert_eq!(kind(block_on(storage.set_len(1, Held::NOTHING))), std::io::ErrorKind::Unsupported);
    let longer = block_on(storage.set_len(65 * MIB, Held::NOTHING));
    assert_eq!(kind(longer), std::io::ErrorKind::StorageFull);
    block_on(storage.set_len(64 * MIB, Held::NOTHING)).expect("that long it is");
    block_on(storage.punch(64 * MIB - 512, 4096, Held::NOTHING)).expect("what is past the end is nothing");
}

#[test]
fn a_read_only_export_refuses_writes() {
    let server = raw(&["-r"]);
    let storage = server.connect();
    assert!(storage.inner().is_read_only());
    let error = write(&storage, 0, b"x").expect_err("refused");
    assert_eq!(error.kind(), std::io::ErrorKind::PermissionDenied);
    assert_eq!(read(&storage, 0, 1).expect("reads go on"), [0]);
}

#[test]
fn requests_run_at_the_same_time_on_one_connection() {
    let server = Server::nbdkit(&["--filter=delay", "memory", "1M", "rdelay=300ms"]);
    let storage = server.connect();
    let begun = std::time::Instant::now();
    std::thread::scope(|scope| {
        for at in 0..8 {
            let storage = &storage;
            scope.spawn(move || read(storage, at * 512, 512).expect("read"));
        }
    });
    let together = futures_lite::future::zip(
        storage.read_at(0, Buffer::zeroed(512).into()),
        storage.read_at(512, Buffer::zeroed(512).into()),
    );
    let (one, other) = block_on(together);
    assert!(one.is_ok() && other.is_ok());
    let took = begun.elapsed();
    assert!(took.as_millis() < 1500, "ten reads of 300 ms, two rounds of them, took {took:?}");
}

#[test]
fn an_error_of_the_server_fails_its_request_and_no_other() {
    let server =
        Server::nbdkit(&["--filter=error", "memory", "1M", "error-pwrite=ENOSPC", "error-pwrite-rate=1"]);
    let storage = server.connect();
    let error = write(&storage, 0, b"x").expect_err("the filter fails it");
    assert_eq!(error.kind(), std::io::ErrorKind::StorageFull);
    assert_eq!(read(&storage, 0, 1).expect("reads go on"), [0]);
}

#[test]
fn a_server_of_whole_blocks_is_written_to_by_the_byte() {
    let policy = ["blocksize-minimum=4096", "blocksize-preferred=4096", "blocksize-maximum=64K"];
    let policy =
        [&["--filter=blocksize-policy", "memory", "1M", "blocksize-error-policy=error"], &policy[..]];
    let server = Server::nbdkit(&policy.concat());
    let storage = server.connect();
    let bytes = pattern(200_000);
    write(&storage, 5, &bytes).expect("written");
    std::thread::scope(|scope| {
        for writer in 0..4u8 {
            let storage = &storage;
            scope.spawn(move || {
                for round in 0..16 {
                    let at = 300_000 + 64 * round + 16 * u64::from(writer);
                    write(storage, at, &[writer + 1; 16]).expect("written");
                }
            });
        }
    });
    block_on(storage.write_zeroes(10, 50_000, Held::NOTHING)).expect("zeroed");
    let now = read(&storage, 1, 400_000).expect("read");
    assert_eq!(now[..9], [&[0; 4], &bytes[..5]].concat());
    assert!(now[9..50_009].iter().all(|&byte| byte == 0));
    assert_eq!(now[50_009..200_004], bytes[50_005..]);
    let (rounds, rest) = now[299_999..301_023].as_chunks::<64>();
    assert!(rest.is_empty());
    for round in rounds {
        assert_eq!(round.chunks(16).map(|part| part[0]).collect::<Vec<_>>(), [1, 2, 3, 4]);
        assert!(round.chunks(16).all(|part| part.iter().all(|&byte| byte == part[0])));
    }
}

#[test]
fn a_server_that_cannot_zero_gets_zeroes() {
    let server = Server::nbdkit(&["--filter=nozero", "memory", "64M"]);
    let storage = server.connect();
    write(&storage, 0, &pattern(1 << 20)).expect("written");
    block_on(storage.punch(100, 40 << 20, Held::NOTHING)).expect("zeroed");
    let now = read(&storage, 0, 1 << 20).expect("read");
    assert_eq!(now[..100], pattern(100));
    assert!(now[100..].iter().all(|&byte| byte == 0));
}

#[test]
fn an_export_that_is_not_there_and_a_server_that_is_not_are_told() {
    let server = raw(&["-x", "one"]);
    let told = |name: String| connect(&name).map(drop).expect_err("refused").to_string();
    let other = told(format!("nbd+unix:///two?socket={}", server.socket().display()));
    assert!(other.starts_with("Requested export not available (server reported: "), "{other}");
    let nobody = told("nbd+unix:///?socket=/nowhere/socket".to_owned());
    assert!(
        nobody.starts_with("Failed to connect to '/nowhere/socket': No such file or directory"),
        "{nobody}"
    );
    assert!(connect(&format!("nbd+unix:///one?socket={}", server.socket().display())).is_ok());
}

#[test]
fn a_server_that_is_killed_fails_every_request_and_hangs_none() {
    let mut server = Server::nbdkit(&["--filter=delay", "memory", "1M", "rdelay=60"]);
    let storage = server.connect();
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| read(&storage, 0, 512).expect_err("no server"));
        std::thread::sleep(std::time::Duration::from_millis(300));
        server.kill();
        let error = waits.join().expect("no panic").to_string();
        assert!(error.starts_with("nbd+unix://"), "{error}");
    });
    assert!(write(&storage, 0, b"x").expect_err("no server").to_string().starts_with("nbd+unix://"));
    assert!(flush(&storage).is_err());
}

#[test]
fn a_dropped_request_goes_on_and_holds_what_it_holds_until_it_is_over() {
    let server = Server::nbdkit(&["--filter=delay", "memory", "1M", "wdelay=500ms"]);
    let storage = server.connect();
    let guard = std::sync::Arc::new(());
    let mut future = Box::pin(
        storage.write_at(0, Buffers::from(Buffer::copy_of(&[9; 512])).holding(Held::new(guard.clone()))),
    );
    assert!(block_on(futures_lite::future::poll_once(&mut future)).is_none());
    drop(future);
    assert_eq!(std::sync::Arc::strong_count(&guard), 2);
    while std::sync::Arc::strong_count(&guard) == 2 {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    assert_eq!(read(&storage, 0, 512).expect("read"), [9; 512]);
}
