//! Backing files for images in memory, with what a guest sees of them.

use std::path::Path;

use quod::{Format, block_on};
use quod_storage::{Access, Buffer, Held, MemoryOpener, Storage};

use super::{Shape, assert_clean, close, make, open, pattern, write};

/// A backing file: nothing, raw bytes, or a QED image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Backing {
    None,
    /// Of any length, a part of a sector too.
    Raw(u64),
    /// Of a virtual size.
    Qed(u64),
    /// A QED image of that size over a raw file of half of it.
    QedOverRaw(u64),
}

const BASE: &str = "base";
const LOWEST: &str = "lowest.raw";

impl Backing {
    /// Makes the files and returns what the header of the top image is to say.
    pub(crate) fn make(self, opener: &MemoryOpener, from: u64) -> Option<(&'static str, Format)> {
        match self {
            Backing::None => return None,
            Backing::Raw(len) => make_raw(opener, BASE, from, len),
            Backing::Qed(size) => make_qed(opener, from, size, None),
            Backing::QedOverRaw(size) => {
                make_raw(opener, LOWEST, from, from + (size - from) / 2);
                make_qed(opener, from, size, Some((LOWEST, Format::Raw)));
            }
        }
        let format = if matches!(self, Backing::Raw(_)) { Format::Raw } else { Format::Qed };
        Some((BASE, format))
    }

    /// The `len` bytes from `from` on, as a guest sees them through an empty image.
    pub(crate) fn window(self, from: u64, len: usize) -> Vec<u8> {
        let mut window = match self {
            Backing::None => Vec::new(),
            Backing::Raw(end) => raw_bytes((end - from) as usize),
            Backing::Qed(end) => qed_bytes((end - from) as usize, Vec::new()),
            Backing::QedOverRaw(end) => {
                qed_bytes((end - from) as usize, raw_bytes(((end - from) / 2) as usize))
            }
        };
        window.resize(len, 0);
        window
    }
}

/// Runs of data, each followed by as much nothing.
const RUN: usize = 24 << 10;

fn raw_bytes(len: usize) -> Vec<u8> {
    let mut bytes = pattern(77, len);
    bytes.chunks_mut(RUN).skip(1).step_by(2).for_each(|chunk| chunk.fill(0));
    bytes
}

fn make_raw(opener: &MemoryOpener, name: &str, from: u64, end: u64) {
    let file = opener.file(Path::new(name));
    let bytes = raw_bytes((end - from) as usize);
    block_on(async {
        file.set_len(end, Held::NOTHING).await.expect("room in memory");
        for (i, chunk) in bytes.chunks(RUN).enumerate().step_by(2) {
            file.write_at(from + (i * RUN) as u64, Buffer::copy_of(chunk).into())
                .await
                .expect("room in memory");
        }
    });
}

/// Where the QED image has data of its own: one piece in five; and zeroes of its own: another one.
const PIECE: usize = 10_000;

fn qed_bytes(len: usize, below: Vec<u8>) -> Vec<u8> {
    let mut bytes = below;
    bytes.resize(len, 0);
    for (i, piece) in bytes.chunks_mut(PIECE).enumerate() {
        match i % 5 {
            1 => piece.copy_from_slice(&pattern(i as u64, piece.len())),
            3 => piece.fill(0),
            _ => {}
        }
    }
    bytes
}

fn make_qed(opener: &MemoryOpener, from: u64, size: u64, below: Option<(&str, Format)>) {
    let name = Path::new(BASE);
    make(opener, name, Shape { size, cluster: 8192, table: 2 }, below);
    let image = open(opener, name, Access::Write);
    for at in (0..(size - from) as usize).step_by(PIECE) {
        let len = PIECE.min((size - from) as usize - at);
        match at / PIECE % 5 {
            1 => write(&image, from + at as u64, &pattern((at / PIECE) as u64, len)),
            3 => block_on(image.write_zeroes(
                from + at as u64,
                len as u64,
                quod::Room::GiveBack,
                quod::Fua::No,
            ))
            .expect("a zero write inside the disk"),
            _ => {}
        }
    }
    close(image);
    assert_clean(opener, name);
}
