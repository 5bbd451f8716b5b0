//! The bytes of one simulated file.
//!
//! Role: a sparse byte array whose copies share their pages, so that a durable image, a live one and many post-crash
//! ones are cheap to keep side by side.
//!
//! Invariant: bytes that were never written, and bytes past the length, are zeroes; a page that is not there takes no
//! room.
//!
//! Absent on purpose: time, durability and faults.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, OnceLock};

/// Unit of room: what a write takes and a punch gives back.
pub(crate) const PAGE: u64 = 4096;

#[derive(Clone)]
struct Page {
    bytes: [u8; PAGE as usize],
    /// Of the bytes, once somebody has asked; copies of a file ask again and again.
    digest: OnceLock<u64>,
}

/// A sparse file. Clones share pages until one of them writes.
#[derive(Clone, Default)]
pub(crate) struct Sparse {
    pages: Arc<BTreeMap<u64, Arc<Page>>>,
    len: u64,
}

impl Page {
    fn empty() -> Self {
        Page { bytes: [0; PAGE as usize], digest: OnceLock::new() }
    }

    fn bytes_mut(page: &mut Arc<Page>) -> &mut [u8] {
        let page = Arc::make_mut(page);
        page.digest = OnceLock::new();
        &mut page.bytes
    }

    /// 0 for a page of zeroes, which reads like a hole.
    fn digest(&self) -> u64 {
        *self.digest.get_or_init(|| {
            let empty = self.bytes.iter().all(|&byte| byte == 0);
            if empty { 0 } else { digest(self.bytes) | 1 }
        })
    }
}

fn digest(of: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    of.hash(&mut hasher);
    hasher.finish()
}

/// The pieces of a byte range, page by page: page number, offset in the page, length.
fn pieces(at: u64, len: u64) -> impl Iterator<Item = (u64, usize, usize)> {
    let end = at + len;
    let mut here = at;
    std::iter::from_fn(move || {
        if here >= end {
            return None;
        }
        let inside = here % PAGE;
        let len = (PAGE - inside).min(end - here);
        let found = (here / PAGE, inside as usize, len as usize);
        here += len;
        Some(found)
    })
}

impl Sparse {
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// Reads; bytes past the length are zeroes.
    pub(crate) fn read(&self, at: u64, into: &mut [u8]) {
        let mut done = 0;
        for (page, inside, len) in pieces(at, into.len() as u64) {
            match self.pages.get(&page) {
                Some(page) => into[done..done + len].copy_from_slice(&page.bytes[inside..inside + len]),
                None => into[done..done + len].fill(0),
            }
            done += len;
        }
    }

    /// Writes, and grows the length where the range reaches past it.
    pub(crate) fn write(&mut self, at: u64, from: &[u8]) {
        let mut done = 0;
        for (page, inside, len) in pieces(at, from.len() as u64) {
            let page = Arc::make_mut(&mut self.pages).entry(page).or_insert_with(|| Arc::new(Page::empty()));
            Page::bytes_mut(page)[inside..inside + len].copy_from_slice(&from[done..done + len]);
            done += len;
        }
        self.len = self.len.max(at + from.len() as u64);
    }

    /// Makes a range zeroes and gives back the room of whole pages. The length stays.
    pub(crate) fn punch(&mut self, at: u64, len: u64) {
        let pages = Arc::make_mut(&mut self.pages);
        for (page, inside, len) in pieces(at, len) {
            if len as u64 == PAGE {
                pages.remove(&page);
            } else if let Some(page) = pages.get_mut(&page) {
                Page::bytes_mut(page)[inside..inside + len].fill(0);
            }
        }
    }

    /// Cuts the file, or grows it by a hole.
    pub(crate) fn set_len(&mut self, len: u64) {
        if len < self.len {
            let page_end = len.next_multiple_of(PAGE);
            self.punch(len, page_end - len);
            Arc::make_mut(&mut self.pages).split_off(&(page_end / PAGE));
        }
        self.len = len;
    }

    /// Whether some of the range has no room yet.
    pub(crate) fn needs_room(&self, at: u64, len: u64) -> bool {
        pieces(at, len).any(|(page, ..)| !self.pages.contains_key(&page))
    }

    /// Length of the run of pages that begins at `at` and either all have room or all have none; and which.
    pub(crate) fn run(&self, at: u64, len: u64) -> (u64, bool) {
        let has_room = |page: u64| page * PAGE < self.len && self.pages.contains_key(&page);
        let first = has_room(at / PAGE);
        let same = pieces(at, len).take_while(|(page, ..)| has_room(*page) == first);
        (same.map(|(.., len)| len as u64).sum(), first)
    }

    /// A hash of what readers see. Costs a look at each page, and at the bytes of those that are new.
    pub(crate) fn digest(&self) -> u64 {
        let pages = self.pages.iter().map(|(number, page)| (number, page.digest()));
        let full = pages.filter(|(_, page)| *page != 0);
        full.fold(digest(self.len), |sum, page| sum.wrapping_add(digest(page)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cut_bytes_come_back_as_zeroes() {
        let mut file = Sparse::default();
        file.write(100, &[7; 10_000]);
        let copy = file.clone();
        file.set_len(150);
        file.set_len(20_000);
        let mut bytes = [1; 200];
        file.read(50, &mut bytes);
        assert!(bytes[..50].iter().all(|&b| b == 0) && bytes[50..100].iter().all(|&b| b == 7));
        assert!(bytes[100..].iter().all(|&b| b == 0));
        copy.read(9_000, &mut bytes);
        assert_eq!(bytes, [7; 200], "a copy is not touched");
    }

    #[test]
    fn room_is_told_in_runs() {
        let mut file = Sparse::default();
        file.set_len(10 * PAGE);
        file.write(2 * PAGE, &[1; 2 * PAGE as usize]);
        assert_eq!(file.run(0, 10 * PAGE), (2 * PAGE, false));
        assert_eq!(file.run(2 * PAGE + 5, 10 * PAGE), (2 * PAGE - 5, true));
        assert!(file.needs_room(3 * PAGE, PAGE + 1) && !file.needs_room(3 * PAGE, PAGE));
        file.punch(2 * PAGE, PAGE);
        assert!(file.needs_room(2 * PAGE, 1));
    }
}
