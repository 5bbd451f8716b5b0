//! A whole image that may lie, through all that can be done to one.
//!
//! Role: reads everything within bounds, checks, repairs, writes, closes, and checks again.
//!
//! Laws: nothing panics and everything ends; the same bytes give the same answers; reading changes nothing; what a
//! repair calls mended is sound; a sound image stays sound, and its guest reads what it wrote.

use std::path::Path;

use quod::storage::{Access, Buffer, MemoryOpener, Storage};
use quod::{
    BackingPolicy, CacheBudget, CheckReport, ErrorKind, Image, OpenOptions, Repair, block_on, check, inspect,
};

use crate::forge::{CACHE_BYTES, DISK, File, snapshot};
use crate::guest::{Guest, requests};

/// Runs of a disk that are looked at: its size may be anything.
const STEPS: usize = 200;
/// Bytes that are read of each.
const PIECE: u64 = 12_000;
/// The largest disk whose every byte is compared.
const WHOLE: u64 = 1 << 20;

/// Does all that can be done to an image that is forged out of `bytes`.
///
/// # Panics
/// When a law is broken.
pub fn run(bytes: &[u8]) {
    let (count, rest) = bytes.split_first().map_or((0, bytes), |(count, rest)| (usize::from(*count), rest));
    let (asked, rest) = rest.split_at(count.min(rest.len()));
    let file = File::from_bytes(rest);
    let opener = file.opener();
    let before = snapshot(&opener);
    let shown = read_everywhere(&opener);
    let found = check_it(&opener, Repair::No);
    assert_eq!(
        (&shown, &found),
        (&read_everywhere(&opener), &check_it(&opener, Repair::No)),
        "the same answers"
    );
    assert_eq!(snapshot(&opener), before, "reading changes nothing");

    let repaired = repair(&file, found.as_ref());
    let is_sound = found.is_some_and(|found| found.corruptions == 0);
    use_it(&opener, asked, is_sound);
    if let Some(repaired) = repaired {
        if is_sound {
            assert_eq!(
                shown,
                read_everywhere(&repaired),
                "a guest does not notice the repair of a sound image"
            );
        }
        use_it(&repaired, asked, true);
    }
}

fn open(opener: &MemoryOpener, access: Access) -> Option<Image<quod::storage::Memory>> {
    let (backing, cache) = (BackingPolicy::Local, CacheBudget::Own(CACHE_BYTES));
    let options = OpenOptions { backing, cache, ..OpenOptions::new(access) };
    block_on(Image::open(opener, Path::new(DISK), &options)).ok()
}

/// What a guest sees, within bounds.
fn read_everywhere(opener: &MemoryOpener) -> Vec<String> {
    let Some(image) = open(opener, Access::Read) else { return Vec::new() };
    let (mut at, mut told) = (0, Vec::new());
    while at < image.size() && told.len() < STEPS {
        let left = image.size() - at;
        match block_on(image.block_status(at, left)) {
            Ok(status) => {
                assert!((1..=left).contains(&status.len), "{status:?} of {left}");
                told.push(format!("{at}: {status:?} {}", sample(&image, at, status.len)));
                at += status.len;
            }
            Err(error) => {
                told.push(format!("{at}: {error}"));
                at += left.min(image.cluster_size().unwrap_or(PIECE));
            }
        }
    }
    told
}

/// Reads the beginning of a run.
fn sample<S: Storage>(image: &Image<S>, at: u64, len: u64) -> String {
    match block_on(image.read(at, Buffer::zeroed(len.min(PIECE) as usize))) {
        Ok(bytes) => {
            let sum = bytes.iter().fold(0u64, |sum, &byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
            format!("{} bytes, {sum:x}", bytes.len())
        }
        Err(error) => error.to_string(),
    }
}

fn check_it(opener: &MemoryOpener, repair: Repair) -> Option<CheckReport> {
    let access = if repair == Repair::Yes { Access::Write } else { Access::Read };
    match block_on(check(opener, Path::new(DISK), access, repair)) {
        Ok(report) => {
            assert!(report.corruptions_fixed <= report.corruptions && report.leaks_fixed <= report.leaks);
            Some(report)
        }
        Err(error) => {
            assert!(error.image().is_some(), "an error names the image: {error}");
            None
        }
    }
}

/// Repairs a copy; gives it when nothing is said to remain.
fn repair(file: &File, found: Option<&CheckReport>) -> Option<MemoryOpener> {
    let opener = file.opener();
    let mended = check_it(&opener, Repair::Yes);
    assert_eq!(mended.is_some(), found.is_some(), "what can be checked in memory can be repaired");
    let (found, mended) = (found?, mended?);
    assert_eq!(found.corruptions, mended.corruptions, "both look at the same entries");
    let left = check_it(&opener, Repair::No).expect("it could be checked before");
    if mended.remaining_corruptions() > 0 {
        assert!(left.corruptions > 0, "{mended:?} said that some remain, not {left:?}");
        return None;
    }
    assert_eq!(left.corruptions, 0, "{mended:?} left {left:?}");
    assert_eq!(left.leaks, mended.remaining_leaks(), "{mended:?} left {left:?}");
    let info = block_on(inspect(&opener, Path::new(DISK), Access::Read)).expect("it has a header");
    assert!(!info.dirty, "what is mended is clean");
    assert!(info.file_length.is_multiple_of(info.cluster_size), "it ends where a cluster does");
    Some(opener)
}

/// Opens an image for writing, runs requests on it, and closes it.
fn use_it(opener: &MemoryOpener, asked: &[u8], is_sound: bool) {
    let contents = if is_sound { contents(opener) } else { None };
    let Some(image) = open(opener, Access::Write) else { return };
    let mut guest = Guest::of(image, contents);
    for request in requests(asked, guest.size()) {
        let done = guest.run(&request);
        let is_fine = done.as_ref().err().is_none_or(|error| error.kind() == ErrorKind::NoSpace);
        assert!(is_fine || !is_sound, "{request:?} of a sound image fails: {done:?}");
    }
    let closed = guest.close();
    if is_sound {
        assert!(closed.is_ok(), "{closed:?}");
        let after = check_it(opener, Repair::No).expect("it is an image");
        assert_eq!(after.corruptions, 0, "a sound image stays sound: {after:?}");
        let info = block_on(inspect(opener, Path::new(DISK), Access::Read)).expect("it is an image");
        assert!(!info.dirty, "a close leaves a clean image");
    }
}

/// All bytes of a small disk that can be read.
fn contents(opener: &MemoryOpener) -> Option<Vec<u8>> {
    let image = open(opener, Access::Read)?;
    if image.size() > WHOLE {
        return None;
    }
    let read = block_on(image.read(0, Buffer::zeroed(image.size() as usize)));
    Some(read.expect("a sound image can be read").to_vec())
}
