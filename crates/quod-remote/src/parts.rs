//! The memory of a vectored request as one run of bytes.
//!
//! Invariant: nothing outside the parts is touched; a range past their end is cut.

use std::ops::Range;

use quod_storage::Buffer;

/// The bytes from `start` on, as slices of the parts.
pub(crate) fn slices(parts: &[Buffer], start: usize, len: usize) -> Vec<&[u8]> {
    let found = parts.iter().zip(ranges(parts, start, len)).map(|(part, range)| &part[range]);
    found.filter(|slice| !slice.is_empty()).collect()
}

/// As [`slices`], to be changed.
pub(crate) fn slices_mut(parts: &mut [Buffer], start: usize, len: usize) -> Vec<&mut [u8]> {
    let ranges = ranges(parts, start, len);
    let found = parts.iter_mut().zip(ranges).map(|(part, range)| &mut part[range]);
    found.filter(|slice| !slice.is_empty()).collect()
}

/// Which bytes of each part are meant.
fn ranges(parts: &[Buffer], start: usize, len: usize) -> Vec<Range<usize>> {
    let (mut skip, mut rest) = (start, len);
    let range = |part: &Buffer| {
        let from = skip.min(part.len());
        let to = part.len().min(from + rest);
        (skip, rest) = (skip - from, rest - (to - from));
        from..to
    };
    parts.iter().map(range).collect()
}

/// Copies `bytes` to the place `start` of the parts.
pub(crate) fn put(parts: &mut [Buffer], start: usize, mut bytes: &[u8]) {
    for slice in slices_mut(parts, start, bytes.len()) {
        let (here, rest) = bytes.split_at(slice.len());
        slice.copy_from_slice(here);
        bytes = rest;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_one_run_of_bytes() {
        let mut parts =
            [Buffer::copy_of(b"one"), Buffer::zeroed(0), Buffer::copy_of(b"two"), Buffer::copy_of(b"x")];
        assert_eq!(slices(&parts, 2, 3), [&b"e"[..], b"tw"]);
        assert_eq!(slices(&parts, 0, 100).concat(), b"onetwox");
        put(&mut parts, 2, b"EFG");
        assert_eq!(slices(&parts, 0, 7).concat(), b"onEFGox");
        assert!(slices(&parts, 7, 1).is_empty());
    }
}
