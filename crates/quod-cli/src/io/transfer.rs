//! Requests of the io language, run against an image.
//!
//! Role: reads, verifies, dumps, writes, zeroes and discards ranges of any length in pieces.
//!
//! Invariant: a request takes at most [`PIECE`] bytes of memory, however long it is; one that reaches past the end of
//! the disk changes nothing.
//!
//! Absent on purpose: printing, apart from dumps, and waiting for more than one request.

use std::io;

use quod::{Error, Fua, Room};
use quod_language::{Range, Read, What, Write};
use quod_storage::Buffer;

use super::print;
use crate::open::errno_sentence;
use crate::place::AnyDisk;

/// Bytes that are read or written at a time.
pub(super) const PIECE: u64 = 8 << 20;

/// Why a request failed.
#[derive(Debug)]
pub(super) struct Fault {
    /// The system's word for it.
    pub(super) word: String,
    /// What happened, and where.
    pub(super) detail: String,
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Fault { word: errno_sentence(&error), detail: error.to_string() }
    }
}

impl Fault {
    fn unsupported(detail: &str) -> Self {
        Fault { word: "Operation not supported".to_owned(), detail: detail.to_owned() }
    }
}

/// What a write takes its bytes from.
#[derive(Debug)]
pub(super) enum Content {
    Byte(u8),
    /// Never empty; repeated.
    Bytes(Vec<u8>),
    Zeroes(Room),
}

impl Content {
    /// Gathers what a write of `len` bytes asks for.
    ///
    /// # Errors
    /// The file cannot be read or is empty; told in a sentence.
    pub(super) fn of(what: &What, len: u64) -> Result<Self, String> {
        match what {
            What::Pattern(byte) => Ok(Content::Byte(*byte)),
            What::Zeroes { unmap: true } => Ok(Content::Zeroes(Room::GiveBack)),
            What::Zeroes { unmap: false } => Ok(Content::Zeroes(Room::Keep)),
            What::File(name) => match read_file(name, len) {
                Ok(bytes) if bytes.is_empty() => Err(format!("{name}: file is empty")),
                Ok(bytes) => Ok(Content::Bytes(bytes)),
                Err(error) => Err(format!("{name}: {}", crate::open::system_sentence(&error))),
            },
        }
    }

    fn fill(&self, buffer: &mut Buffer, from: u64) {
        match self {
            Content::Byte(byte) => buffer.fill(*byte),
            Content::Zeroes(_) => buffer.fill(0),
            Content::Bytes(bytes) => {
                let start = (from % bytes.len() as u64) as usize;
                let source = bytes.iter().cycle().skip(start);
                buffer.iter_mut().zip(source).for_each(|(place, byte)| *place = *byte);
            }
        }
    }
}

fn read_file(name: &str, len: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    io::Read::read_to_end(&mut io::Read::take(std::fs::File::open(name)?, len), &mut bytes)?;
    Ok(bytes)
}

/// Judges a range before anything is done.
fn inside(disk: &AnyDisk, range: Range) -> Result<(), Fault> {
    let size = disk.size();
    match range.at.checked_add(range.len) {
        Some(end) if end <= size => Ok(()),
        _ => {
            let detail =
                format!("{} bytes at {} reach past the end of the disk, {size}", range.len, range.at);
            Err(Fault { word: "Input/output error".to_owned(), detail })
        }
    }
}

/// The pieces of a range.
fn pieces(range: Range) -> impl Iterator<Item = Range> {
    let count = range.len.div_ceil(PIECE);
    (0..count).map(move |number| {
        let done = number * PIECE;
        Range { at: range.at + done, len: (range.len - done).min(PIECE) }
    })
}

/// Reads, and tells whether what was to be verified is right.
pub(super) async fn read(disk: &AnyDisk, read: &Read) -> Result<bool, Fault> {
    if read.vm_state {
        return Err(Fault::unsupported("raw and QED images have no VM state"));
    }
    inside(disk, read.range)?;
    let mut right = true;
    for piece in pieces(read.range) {
        let bytes = disk.read(piece.at, Buffer::zeroed(piece.len as usize)).await?;
        if let Some((part, value)) = read.verify {
            right = right && verified(&bytes, piece.at, part).iter().all(|byte| *byte == value);
        }
    }
    Ok(right)
}

/// Those bytes of a piece at `at` that lie in `part`.
fn verified(bytes: &[u8], at: u64, part: Range) -> &[u8] {
    let place = |offset: u64| offset.saturating_sub(at).min(bytes.len() as u64) as usize;
    bytes.get(place(part.at)..place(part.at.saturating_add(part.len))).unwrap_or_default()
}

/// Reads again and dumps.
pub(super) async fn dump(disk: &AnyDisk, range: Range, out: &mut impl io::Write) -> anyhow::Result<()> {
    for piece in pieces(range) {
        let bytes = disk.read(piece.at, Buffer::zeroed(piece.len as usize)).await?;
        print::dump(out, piece.at, &bytes)?;
    }
    Ok(())
}

/// Writes.
pub(super) async fn write(disk: &AnyDisk, write: &Write, content: &Content) -> Result<(), Fault> {
    if write.unsupported {
        return Err(Fault::unsupported("raw and QED images have neither VM state nor compression"));
    }
    let (range, fua) = (write.range, if write.fua { Fua::Yes } else { Fua::No });
    inside(disk, range)?;
    if let Content::Zeroes(room) = content {
        return Ok(disk.write_zeroes(range.at, range.len, *room, fua).await?);
    }
    if range.len == 0 {
        return Ok(());
    }
    let mut buffer = Buffer::zeroed(range.len.min(PIECE) as usize);
    for piece in pieces(range) {
        if piece.len < buffer.len() as u64 {
            buffer = Buffer::zeroed(piece.len as usize);
        }
        content.fill(&mut buffer, piece.at - range.at);
        buffer = disk.write(piece.at, buffer, fua).await?;
    }
    Ok(())
}

/// Discards.
pub(super) async fn discard(disk: &AnyDisk, range: Range) -> Result<(), Fault> {
    inside(disk, range)?;
    Ok(disk.discard(range.at, range.len, Fua::No).await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_cover_a_range_and_nothing_else() {
        let range = Range { at: 5, len: 2 * PIECE + 1 };
        let all: Vec<_> = pieces(range).collect();
        assert_eq!(all.len(), 3);
        assert_eq!(all[0], Range { at: 5, len: PIECE });
        assert_eq!(all[2], Range { at: 5 + 2 * PIECE, len: 1 });
        assert_eq!(pieces(Range { at: 9, len: 0 }).count(), 0);
    }

    #[test]
    fn verification_looks_at_its_part_only() {
        let bytes = [0, 1, 2, 3, 4, 5, 6, 7];
        assert_eq!(verified(&bytes, 100, Range { at: 102, len: 3 }), [2, 3, 4]);
        assert_eq!(verified(&bytes, 100, Range { at: 90, len: 12 }), [0, 1]);
        assert_eq!(verified(&bytes, 100, Range { at: 106, len: 100 }), [6, 7]);
        assert_eq!(verified(&bytes, 100, Range { at: 200, len: 1 }), [0; 0]);
        assert_eq!(verified(&bytes, 100, Range { at: 0, len: 1 }), [0; 0]);
    }

    #[test]
    fn a_files_bytes_repeat_across_pieces() {
        let mut buffer = Buffer::zeroed(5);
        Content::Bytes(b"abc".to_vec()).fill(&mut buffer, 4);
        assert_eq!(&buffer[..], b"bcabc");
    }
}
