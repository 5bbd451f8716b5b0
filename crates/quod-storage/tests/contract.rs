//! What every storage promises, held against files of all kinds and against memory alike.

use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use compio::driver::ProactorBuilder;
use futures_lite::future::block_on;
use proptest::prelude::*;
use quod_storage::{
    Access, Aio, Buffer, Buffers, Existing, ExtentKind, FileOpener, Held, LoopOpener, Memory, MemoryOpener,
    Opener, PageCache, Storage, run_event_loop,
};

/// One of each: new, empty, and what runs its futures.
struct All {
    _directory: tempfile::TempDir,
    storages: Vec<(String, Box<dyn Bytes>)>,
}

impl All {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let file = block_on(FileOpener.create(&directory.path().join("file"), Existing::Empty));
        let memory = Run { storage: Memory::new(), on_a_loop: false };
        let file = Run { storage: file.expect("a new file"), on_a_loop: false };
        let mut storages: Vec<(String, Box<dyn Bytes>)> =
            vec![("memory".into(), Box::new(memory)), ("file".into(), Box::new(file))];
        for aio in [Aio::Auto, Aio::Threads, Aio::IoUring] {
            for page_cache in [PageCache::Used, PageCache::Bypassed] {
                let name = format!("{aio:?}, page cache {page_cache:?}");
                let opener = LoopOpener { aio, page_cache };
                let storage = block_on(opener.create(&directory.path().join(&name), Existing::Empty));
                for on_a_loop in [false, true] {
                    let storage = storage.as_ref().expect("a new file").clone();
                    // The second begins where a law has left the first.
                    block_on(storage.set_len(0, Held::NOTHING)).expect("an empty file");
                    let on = if on_a_loop { "on an event loop" } else { "by itself" };
                    storages.push((format!("{name}, {on}"), Box::new(Run { storage, on_a_loop })));
                }
            }
        }
        All { _directory: directory, storages }
    }
}

/// Runs a law on all.
fn everywhere(law: impl Fn(&dyn Bytes)) {
    let all = All::new();
    for (name, bytes) in &all.storages {
        println!("{name}");
        bytes.set_len(0);
        law(&**bytes);
    }
}

/// A storage, and whether its futures run on an event loop.
struct Run<S> {
    storage: S,
    on_a_loop: bool,
}

impl<S> Run<S> {
    fn run<F: Future>(&self, future: F) -> F::Output {
        match self.on_a_loop {
            true => run_event_loop(1, ProactorBuilder::new(), future).expect("an event loop"),
            false => block_on(future),
        }
    }
}

/// A storage without futures, as an object.
trait Bytes {
    fn read(&self, at: u64, parts: &[usize]) -> std::io::Result<Vec<u8>>;
    fn read_now(&self, at: u64, len: usize) -> Option<std::io::Result<Vec<u8>>>;
    fn write(&self, at: u64, parts: &[&[u8]]) -> std::io::Result<()>;
    fn flush(&self);
    fn set_len(&self, len: u64);
    fn punch(&self, at: u64, len: u64);
    fn zero(&self, at: u64, len: u64);
    fn len(&self) -> u64;
    fn extent(&self, at: u64, len: u64) -> (u64, ExtentKind);
}

impl<S: Storage> Bytes for Run<S> {
    fn read(&self, at: u64, parts: &[usize]) -> std::io::Result<Vec<u8>> {
        let into = Buffers::gather(parts.iter().map(|len| Buffer::zeroed(*len)));
        let now = self.read_now(at, into.len());
        let read = self.run(self.storage.read_at(at, into)).map(|read| {
            assert_eq!(read.parts.iter().map(|part| part.len()).collect::<Vec<_>>(), parts);
            read.parts.iter().flat_map(|part| part.to_vec()).collect()
        });
        match (&now, &read) {
            (None, _) => {}
            (Some(Ok(now)), Ok(read)) => assert_eq!(now, read, "at once and later"),
            (Some(Err(now)), Err(read)) => assert_eq!(now.kind(), read.kind(), "at once and later"),
            (Some(now), read) => panic!("{now:?} at once and {read:?} later"),
        }
        read
    }

    fn read_now(&self, at: u64, len: usize) -> Option<std::io::Result<Vec<u8>>> {
        let mut into = vec![0xee; len];
        let read = self.storage.read_now(at, &mut into)?;
        Some(read.map(|()| into))
    }

    fn write(&self, at: u64, parts: &[&[u8]]) -> std::io::Result<()> {
        let from = Buffers::gather(parts.iter().map(|part| Buffer::copy_of(part)));
        let written = self.run(self.storage.write_at(at, from))?;
        assert!(
            written.parts.iter().zip(parts).all(|(back, part)| **back == **part),
            "the buffers come back"
        );
        Ok(())
    }

    fn flush(&self) {
        self.run(self.storage.flush(Held::NOTHING)).expect("a flush");
    }

    fn set_len(&self, len: u64) {
        self.run(self.storage.set_len(len, Held::NOTHING)).expect("a length");
    }

    fn punch(&self, at: u64, len: u64) {
        self.run(self.storage.punch(at, len, Held::NOTHING)).expect("a punch");
    }

    fn zero(&self, at: u64, len: u64) {
        self.run(self.storage.write_zeroes(at, len, Held::NOTHING)).expect("zeroes");
    }

    fn len(&self) -> u64 {
        self.run(self.storage.length()).expect("a length")
    }

    fn extent(&self, at: u64, len: u64) -> (u64, ExtentKind) {
        let extent = self.run(self.storage.extent(at, len)).expect("an extent");
        (extent.len, extent.kind)
    }
}

#[test]
fn parts_lie_one_after_another() {
    everywhere(|bytes| {
        bytes.write(5, &[b"one", b"", b"two", b"three"]).unwrap();
        assert_eq!(bytes.len(), 16);
        assert_eq!(bytes.read(0, &[5, 11]).unwrap(), b"\0\0\0\0\0onetwothree");
        assert_eq!(bytes.read(6, &[1, 0, 4, 2]).unwrap(), b"netwoth");
    });
}

/// But for what was told to go by the ring, or past the page cache. After thousands of such reads, files are read in another
/// way.
#[test]
fn what_was_just_written_is_read_at_once_however_often() {
    let all = All::new();
    for (name, bytes) in &all.storages {
        bytes.write(0, &[&[1; 5000], &[2; 5000]]).unwrap();
        for number in 0..20_000 {
            let (at, byte) = if number % 2 == 0 { (4000, 1) } else { (5000, 2) };
            let read = bytes.read_now(at, 1000);
            match name.contains("Bypassed") || name.contains("IoUring") {
                true => assert!(read.is_none(), "{name}, read {number}"),
                false => assert_eq!(read.unwrap().unwrap(), [byte; 1000], "{name}, read {number}"),
            }
        }
        for at in (9001..9020).chain([10_000, 1 << 40]) {
            if let Some(read) = bytes.read_now(at, 1000) {
                let error = read.expect_err("past the end").kind();
                assert_eq!(error, std::io::ErrorKind::UnexpectedEof, "{name}, from {at}");
            }
        }
    }
}

#[test]
fn a_write_of_no_bytes_leaves_the_length() {
    everywhere(|bytes| {
        bytes.write(0, &[&[1; 100]]).unwrap();
        for (at, parts) in [(100, &[][..]), (101, &[&b""[..]]), (10_000, &[b"", b""])] {
            bytes.write(at, parts).unwrap();
            assert_eq!(bytes.len(), 100, "{at}");
        }
    });
}

#[test]
fn more_parts_than_one_system_call_takes_are_moved_whole() {
    everywhere(|bytes| {
        let part = [7; 3];
        bytes.write(0, &vec![&part[..]; 5000]).unwrap();
        assert_eq!(bytes.len(), 15_000);
        assert_eq!(bytes.read(0, &vec![3; 5000]).unwrap(), [7; 15_000]);
    });
}

#[test]
fn a_read_past_the_end_is_an_error() {
    everywhere(|bytes| {
        bytes.write(0, &[&[1; 100]]).unwrap();
        for (at, len) in [(0, 101), (100, 1), (99, 2), (5000, 1), (u64::MAX / 4, 10)] {
            let error = bytes.read(at, &[len]).unwrap_err();
            assert_eq!(error.kind(), std::io::ErrorKind::UnexpectedEof, "{at} {len}");
        }
        assert_eq!(bytes.read(0, &[50, 50]).unwrap(), [1; 100]);
        bytes.write(0, &[&[1; 9000]]).unwrap();
        assert_eq!(bytes.read(4096, &[4096]).unwrap(), [1; 4096]);
        bytes.set_len(8191);
        assert_eq!(bytes.read(4096, &[4096]).unwrap_err().kind(), std::io::ErrorKind::UnexpectedEof);
    });
}

#[test]
fn a_file_that_grows_again_shows_zeroes_where_it_was_cut() {
    everywhere(|bytes| {
        bytes.write(0, &[&[1; 10_000]]).unwrap();
        bytes.set_len(4_500);
        bytes.set_len(20_000);
        let mut wanted = vec![0; 20_000];
        wanted[..4_500].fill(1);
        assert_eq!(bytes.read(0, &[20_000]).unwrap(), wanted);
        bytes.set_len(100);
        bytes.write(300, &[&[2]]).unwrap();
        assert_eq!(bytes.read(100, &[201]).unwrap(), [&[0; 200][..], &[2]].concat());
    });
}

#[test]
fn zeroes_and_punches_keep_the_length() {
    everywhere(|bytes| {
        for (at, len) in [(0, 0), (3_000, 2_000), (9_000, 5_000), (10_000, 10), (20_000, 10_000), (0, 20_000)]
        {
            bytes.write(0, &[&[1; 10_000]]).unwrap();
            for (what, clear) in [("punch", true), ("zero", false)] {
                bytes.write(0, &[&[1; 10_000]]).unwrap();
                if clear {
                    bytes.punch(at, len)
                } else {
                    bytes.zero(at, len)
                };
                assert_eq!(bytes.len(), 10_000, "{what} {at} {len}");
                let cleared = |i: u64| i >= at && i - at < len;
                let wanted: Vec<u8> = (0..10_000).map(|i| u8::from(!cleared(i))).collect();
                assert_eq!(bytes.read(0, &[10_000]).unwrap(), wanted, "{what} {at} {len}");
            }
        }
        bytes.flush();
    });
}

#[test]
fn extents_tell_data_from_holes() {
    everywhere(|bytes| {
        bytes.write(1 << 20, &[&[1; 65536]]).unwrap();
        bytes.set_len(4 << 20);
        assert_eq!(bytes.extent(0, 8 << 20), (1 << 20, ExtentKind::Hole));
        assert_eq!(bytes.extent(100, 50), (50, ExtentKind::Hole));
        let mut at = 1 << 20;
        while at < (1 << 20) + 65536 {
            let (len, kind) = bytes.extent(at, u64::from(u32::MAX));
            assert!(kind == ExtentKind::Data && len > 0, "{at}: {len}");
            at += len;
        }
        assert_eq!(at, (1 << 20) + 65536);
        assert_eq!(bytes.extent(at, 1 << 20), (1 << 20, ExtentKind::Hole));
        assert_eq!(bytes.extent(16 << 20, 512), (512, ExtentKind::Hole), "past the end");
        bytes.punch(1 << 20, 65536);
        assert_eq!(bytes.extent(0, 2 << 20), (2 << 20, ExtentKind::Hole), "given back");
    });
}

/// One change, on both storages.
#[derive(Clone, Debug)]
enum Change {
    Write { at: u64, len: usize, byte: u8, cut: usize },
    SetLen(u64),
    Punch { at: u64, len: u64 },
    Zero { at: u64, len: u64 },
}

fn changes() -> impl Strategy<Value = Change> {
    let at = || prop_oneof![0..20_000u64, (0..5u64).prop_map(|page| page * 4096)];
    prop_oneof![
        3 => (at(), 0..9_000usize, 1..255u8, any::<usize>())
            .prop_map(|(at, len, byte, cut)| Change::Write { at, len, byte, cut: cut % (len + 1) }),
        1 => (0..30_000u64).prop_map(Change::SetLen),
        1 => (at(), 0..9_000u64).prop_map(|(at, len)| Change::Punch { at, len }),
        1 => (at(), 0..9_000u64).prop_map(|(at, len)| Change::Zero { at, len }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn all_are_the_same(changes in prop::collection::vec(changes(), 1..30)) {
        let all = All::new();
        for (name, bytes) in &all.storages {
            bytes.set_len(0);
            let memory = Run { storage: Memory::new(), on_a_loop: false };
            for change in &changes {
                for bytes in [&**bytes, &memory] {
                    match *change {
                        Change::Write { at, len, byte, cut } => {
                            let (head, tail) = (vec![byte; cut], vec![byte ^ 0x80; len - cut]);
                            bytes.write(at, &[&head, &tail]).unwrap();
                        }
                        Change::SetLen(len) => bytes.set_len(len),
                        Change::Punch { at, len } => bytes.punch(at, len),
                        Change::Zero { at, len } => bytes.zero(at, len),
                    }
                }
                let len = Bytes::len(&**bytes);
                prop_assert_eq!(len, Bytes::len(&memory), "{}: {:?}", name, change);
                let (here, there) = (bytes.read(0, &[len as usize]), memory.read(0, &[len as usize]));
                prop_assert_eq!(here.unwrap(), there.unwrap(), "{}: {:?}", name, change);
            }
        }
    }
}

/// Few file systems have files of that length, so this is for memory alone.
#[test]
fn zeroes_take_time_by_what_is_there() {
    let (done, is_done) = mpsc::channel();
    thread::spawn(move || {
        let run = Run { storage: Memory::new(), on_a_loop: false };
        let (memory, len): (&dyn Bytes, _) = (&run, i64::MAX as u64);
        memory.set_len(len);
        [0, len / 2, len - 4096].iter().for_each(|at| memory.write(*at, &[&[1; 4096]]).unwrap());
        memory.zero(100, len - 200);
        let ends = (memory.read(0, &[200]).unwrap(), memory.read(len - 200, &[200]).unwrap());
        memory.punch(0, len);
        done.send((ends, memory.extent(0, len).1, memory.len())).unwrap();
    });
    let (ends, extent, len) = is_done.recv_timeout(Duration::from_secs(10)).expect("soon");
    let [ones, zeroes] = [[1; 100], [0; 100]];
    assert_eq!(ends, ([ones, zeroes].concat(), [zeroes, ones].concat()));
    assert_eq!((extent, len), (ExtentKind::Hole, i64::MAX as u64));
}

#[test]
fn clones_are_one_file() {
    let directory = tempfile::tempdir().expect("a directory");
    let name = directory.path().join("file");
    fn check<S: Storage + Clone>(storage: S) {
        Run { storage: storage.clone(), on_a_loop: false }.write(0, &[b"file"]).unwrap();
        assert_eq!(Run { storage, on_a_loop: false }.read(0, &[4]).unwrap(), b"file");
    }
    check(Memory::new());
    check(block_on(FileOpener.create(&name, Existing::Empty)).expect("a file"));
    check(block_on(LoopOpener::default().create(&name, Existing::Empty)).expect("a file"));
}

#[test]
fn names_in_memory_behave_as_names_of_files() {
    let opener = MemoryOpener::new();
    let on = |storage| Run { storage, on_a_loop: false };
    let [one, two] = ["one", "two"].map(PathBuf::from);
    assert_eq!(block_on(opener.open(&one, Access::Read)).unwrap_err().kind(), std::io::ErrorKind::NotFound);
    on(block_on(opener.create(&one, Existing::Empty)).unwrap()).write(0, &[b"bytes"]).unwrap();
    block_on(opener.create(&two, Existing::Empty)).unwrap();
    let id = |name: &Path| block_on(opener.identify(name)).unwrap();
    assert_ne!(id(&one), id(&two));
    assert_eq!(on(block_on(opener.open(&one, Access::Read)).unwrap()).read(0, &[5]).unwrap(), b"bytes");
    assert_eq!(Bytes::len(&on(block_on(opener.create(&one, Existing::Empty)).unwrap())), 0, "emptied");
    assert_eq!(Bytes::len(&on(block_on(opener.create(&one, Existing::Keep)).unwrap())), 0, "nothing to keep");
    on(block_on(opener.create(&two, Existing::Empty)).unwrap()).write(0, &[b"bytes"]).unwrap();
    let kept = block_on(opener.create(&two, Existing::Keep)).map(drop);
    assert_eq!(kept.unwrap_err().kind(), std::io::ErrorKind::AlreadyExists);
}
