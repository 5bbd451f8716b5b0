//! Bytes that say where they belong.
//!
//! Role: every 16 bytes of guest data carry their guest address and the sequence number of the write that put them
//! there, so a byte that is found at the wrong place or out of the wrong time is seen for what it is.
//!
//! Invariant: the bytes of a stamp depend on address and sequence alone, at any alignment and length.
//!
//! Absent on purpose: what ought to be found (`model.rs`).

use std::fmt;

/// Bytes in one stamp: 8 of address, 8 of sequence.
pub const UNIT: u64 = 16;

/// Marks a stamp, in the uppermost byte of its address: no disk is that large.
const MARK: u8 = 0xa5;

/// Sequence numbers from here on belong to backing file `sequence / BACKING - 1`.
pub const BACKING: u64 = 1 << 56;

fn unit(at: u64, sequence: u64) -> [u8; UNIT as usize] {
    let mut bytes = [0; UNIT as usize];
    bytes[..8].copy_from_slice(&at.to_le_bytes());
    bytes[7] = MARK;
    bytes[8..].copy_from_slice(&sequence.to_le_bytes());
    bytes
}

/// Fills `bytes`, which begin at guest address `at`, with the stamps of write `sequence`.
pub fn fill(bytes: &mut [u8], at: u64, sequence: u64) {
    let mut done = 0;
    while done < bytes.len() {
        let address = at + done as u64;
        let inside = (address % UNIT) as usize;
        let stamp = &unit(address - address % UNIT, sequence)[inside..];
        let len = stamp.len().min(bytes.len() - done);
        bytes[done..done + len].copy_from_slice(&stamp[..len]);
        done += len;
    }
}

/// Makes `len` stamped bytes for guest address `at`.
pub fn bytes(at: u64, len: usize, sequence: u64) -> Vec<u8> {
    let mut bytes = vec![0; len];
    fill(&mut bytes, at, sequence);
    bytes
}

/// What the bytes at some guest address turn out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finding {
    /// Zeroes.
    Zeroes,
    /// Stamped for this address by that write.
    Own {
        /// Number of the write.
        sequence: u64,
    },
    /// Stamped for another address.
    Foreign {
        /// Guest address where it belongs.
        address: u64,
        /// Number of the write.
        sequence: u64,
    },
    /// Neither: table entries, a header, torn units.
    Garbage,
}

/// Reads the stamp at the beginning of `bytes`, which were found at guest address `at`, a multiple of [`UNIT`].
pub fn find(bytes: &[u8], at: u64) -> Finding {
    let Some((head, tail)) = bytes.split_first_chunk::<8>() else { return Finding::Garbage };
    let Some(tail) = tail.first_chunk::<8>() else { return Finding::Garbage };
    if *head == [0; 8] && *tail == [0; 8] {
        return Finding::Zeroes;
    }
    let sequence = u64::from_le_bytes(*tail);
    let mut address = *head;
    address[7] = 0;
    let address = u64::from_le_bytes(address);
    if head[7] != MARK || address % UNIT != 0 {
        Finding::Garbage
    } else if address == at {
        Finding::Own { sequence }
    } else {
        Finding::Foreign { address, sequence }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let write = |f: &mut fmt::Formatter<'_>, sequence: u64| match sequence / BACKING {
            0 => write!(f, "write {sequence}"),
            layer => write!(f, "write {} of backing file {}", sequence % BACKING, layer - 1),
        };
        match self {
            Finding::Zeroes => f.write_str("zeroes"),
            Finding::Own { sequence } => write(f, *sequence),
            Finding::Foreign { address, sequence } => {
                write!(f, "bytes of guest address {address:#x}, ")?;
                write(f, *sequence)
            }
            Finding::Garbage => f.write_str("garbage"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_does_not_depend_on_how_it_was_cut() {
        let whole = bytes(1000, 500, 7);
        let mut parts = bytes(1000, 13, 7);
        parts.extend(bytes(1013, 487, 7));
        assert_eq!(whole, parts);
    }

    #[test]
    fn stamps_are_seen_for_what_they_are() {
        let sector = bytes(4096, 512, 3);
        assert_eq!(find(&sector, 4096), Finding::Own { sequence: 3 });
        assert_eq!(find(&sector, 512), Finding::Foreign { address: 4096, sequence: 3 });
        assert_eq!(find(&[0; 16], 0), Finding::Zeroes);
        assert_eq!(find(&[1; 16], 0), Finding::Garbage);
        assert_eq!(find(&bytes(0, 16, BACKING * 2 + 5), 0).to_string(), "write 5 of backing file 1");
    }
}
