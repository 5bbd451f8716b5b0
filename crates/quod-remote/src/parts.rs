//! The memory of a vectored request as one run of bytes.
//!
//! Invariant: nothing outside the parts is touched; a range past their end is cut.

use quod_storage::Buffer;

/// The bytes from `start` on, as slices of the parts.
pub(crate) fn slices(parts: &[Buffer], start: usize, len: usize) -> Vec<&[u8]> {
    let (mut skip, mut rest) = (start, len);
    let mut found = Vec::new();
    for part in parts {
        let from = skip.min(part.len());
        skip -= from;
        let to = part.len().min(from + rest);
        rest -= to - from;
        if from < to {
            found.push(&part[from..to]);
        }
    }
    found
}

/// As [`slices`], to be changed.
pub(crate) fn slices_mut(parts: &mut [Buffer], start: usize, len: usize) -> Vec<&mut [u8]> {
    let (mut skip, mut rest) = (start, len);
    let mut found = Vec::new();
    for part in parts {
        let from = skip.min(part.len());
        skip -= from;
        let to = part.len().min(from + rest);
        rest -= to - from;
        if from < to {
            found.push(&mut part[from..to]);
        }
    }
    found
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
