//! Any file, opened in every way.
//!
//! Role: the header and all that is decided before the first request: [`inspect`], [`probe`], and opens for reading and
//! writing, with every format and policy.
//!
//! Laws: nothing panics; the same bytes give the same answer; reading changes nothing; who inspects and who opens agree.

use std::fmt::Debug;
use std::path::Path;

use quod::storage::{Access, MemoryOpener};
use quod::{
    BackingPolicy, CacheBudget, ErrorKind, Format, Image, ImageInfo, OpenOptions, block_on, inspect, probe,
};

use crate::forge::{CACHE_BYTES, DISK, File, snapshot};

/// Opens a file that is forged out of `bytes`.
///
/// # Panics
/// When a law is broken.
pub fn run(bytes: &[u8]) {
    let file = File::from_bytes(bytes);
    let told = answers(&file);
    assert_eq!(told, answers(&file), "the same file gives the same answers");
}

/// Everything that is said about a file.
fn answers(file: &File) -> Vec<String> {
    let opener = file.opener();
    let before = snapshot(&opener);
    let mut told = Vec::new();
    for access in [Access::Read, Access::ReadShared] {
        let info = block_on(inspect(&opener, Path::new(DISK), access));
        agree(&opener, &info);
        note(&mut told, &info);
    }
    note(&mut told, &block_on(probe(&opener, Path::new(DISK))));
    for (format, backing) in ways() {
        open(&opener, format, backing, Access::Read, &mut told);
    }
    assert_eq!(snapshot(&opener), before, "reading changes nothing");
    for (format, backing) in ways() {
        open(&file.opener(), format, backing, Access::Write, &mut told);
    }
    told
}

fn ways() -> impl Iterator<Item = (Option<Format>, BackingPolicy)> {
    let formats = [Some(Format::Qed), Some(Format::Raw), None];
    formats
        .into_iter()
        .flat_map(|format| [BackingPolicy::Deny, BackingPolicy::Local].map(|policy| (format, policy)))
}

fn note<T: Debug>(told: &mut Vec<String>, outcome: &quod::Result<T>) {
    match outcome {
        Ok(answer) => told.push(format!("{answer:?}")),
        Err(error) => {
            assert!(
                error.message().len() > 10 && error.image().is_some(),
                "an error says what is wrong: {error}"
            );
            told.push(format!("{:?}: {error}", error.kind()));
        }
    }
}

fn open(
    opener: &MemoryOpener,
    format: Option<Format>,
    backing: BackingPolicy,
    access: Access,
    told: &mut Vec<String>,
) {
    let options =
        OpenOptions { format, backing, cache: CacheBudget::Own(CACHE_BYTES), ..OpenOptions::new(access) };
    let opened = block_on(Image::open(opener, Path::new(DISK), &options));
    if let Ok(image) = &opened {
        assert!(
            i64::try_from(image.size()).is_ok(),
            "a client can name the end, not {image:?} {:?} {}",
            image.format(),
            image.size()
        );
        assert!(backing == BackingPolicy::Local || image.chain().count() == 1, "no name is followed unasked");
        told.push(format!("{} bytes of {:?}", image.size(), image.format()));
        note(told, &block_on(image.maintain()));
        note(told, &block_on(image.close()));
    }
    note(told, &opened);
}

/// What a header says is what the image is that is opened by it.
fn agree(opener: &MemoryOpener, info: &quod::Result<ImageInfo>) {
    let (backing, cache) = (BackingPolicy::Local, CacheBudget::Own(CACHE_BYTES));
    let options = OpenOptions { backing, cache, ..OpenOptions::new(Access::Read) };
    match (info, block_on(Image::open(opener, Path::new(DISK), &options))) {
        (Ok(info), Ok(image)) => {
            assert_eq!((info.size, Some(info.cluster_size)), (image.size(), image.cluster_size()));
            assert_eq!(info.backing.is_some(), image.chain().count() > 1);
        }
        (Ok(info), Err(error)) => {
            let below = [ErrorKind::BackingUnavailable, ErrorKind::BackingLoop];
            assert!(info.backing.is_some() && below.contains(&error.kind()), "{info:?}, yet {error}");
        }
        (Err(error), Ok(_)) => panic!("it opens, yet {error}"),
        (Err(one), Err(other)) => assert_eq!(one.kind(), other.kind(), "{one}, {other}"),
    }
}
