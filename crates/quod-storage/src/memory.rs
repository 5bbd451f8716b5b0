//! Bytes kept in memory: a sparse file without a file system.
//!
//! Role: storage for tests, benches and throw-away disks. Clones share the bytes.
//!
//! Invariant: a page that is not there reads as zeroes; no page lies wholly past the length, and the bytes of the
//! last page past the length are zeroes.
//!
//! Absent on purpose: durability (flush always succeeds), locks, and names but those of [`MemoryOpener`].

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::{Access, Alignment, Buffers, Existing, Extent, ExtentKind, FileId, Held, Opener, Storage};

const PAGE: u64 = 4096;

#[derive(Default)]
struct Bytes {
    pages: BTreeMap<u64, Box<[u8; PAGE as usize]>>,
    len: u64,
}

/// A growable sparse file in memory. Cheap to clone; clones are the same file.
#[derive(Clone, Default)]
pub struct Memory {
    bytes: Arc<Mutex<Bytes>>,
}

impl std::fmt::Debug for Memory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Memory({} bytes)", self.lock().len)
    }
}

impl Memory {
    /// Makes an empty file.
    pub fn new() -> Self {
        Memory::default()
    }

    fn lock(&self) -> MutexGuard<'_, Bytes> {
        // Nothing that runs under the lock can leave the pages half changed.
        self.bytes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The pieces of a byte range, page by page: page number, offset in the page, length.
fn pages(at: u64, len: u64) -> impl Iterator<Item = (u64, usize, usize)> {
    let end = at + len;
    let mut here = at;
    std::iter::from_fn(move || {
        if here >= end {
            return None;
        }
        let inside = here % PAGE;
        let piece = (PAGE - inside).min(end - here);
        let found = (here / PAGE, inside as usize, piece as usize);
        here += piece;
        Some(found)
    })
}

impl Bytes {
    fn check_holds(&self, at: u64, len: usize) -> io::Result<()> {
        match at.checked_add(len as u64).is_some_and(|end| end <= self.len) {
            true => Ok(()),
            false => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    fn read(&self, at: u64, into: &mut [u8]) {
        let mut rest = into;
        for (page, inside, len) in pages(at, rest.len() as u64) {
            let (here, after) = rest.split_at_mut(len);
            match self.pages.get(&page) {
                Some(bytes) => here.copy_from_slice(&bytes[inside..inside + len]),
                None => here.fill(0),
            }
            rest = after;
        }
    }

    fn write(&mut self, at: u64, from: &[u8]) {
        if from.is_empty() {
            return;
        }
        let mut rest = from;
        for (page, inside, len) in pages(at, rest.len() as u64) {
            let bytes = self.pages.entry(page).or_insert_with(|| Box::new([0; PAGE as usize]));
            bytes[inside..inside + len].copy_from_slice(&rest[..len]);
            rest = &rest[len..];
        }
        self.len = self.len.max(at + from.len() as u64);
    }

    fn clear(&mut self, at: u64, len: u64) {
        // By the pages that are there: a range may be as long as a file that is one hole.
        let end = at + len;
        let held: Vec<u64> = self.pages.range(at / PAGE..end.div_ceil(PAGE)).map(|(page, _)| *page).collect();
        for page in held {
            let start = page * PAGE;
            let (from, to) = (at.max(start) - start, end.min(start + PAGE) - start);
            if to - from == PAGE {
                self.pages.remove(&page);
            } else if let Some(bytes) = self.pages.get_mut(&page) {
                bytes[from as usize..to as usize].fill(0);
            }
        }
    }

    fn set_len(&mut self, len: u64) {
        if len < self.len {
            let last = len.next_multiple_of(PAGE);
            self.clear(len, last - len);
            self.pages.split_off(&(last / PAGE));
        }
        self.len = len;
    }
}

impl Storage for Memory {
    async fn read_at(&self, mut at: u64, mut into: Buffers) -> io::Result<Buffers> {
        let bytes = self.lock();
        bytes.check_holds(at, into.len())?;
        for part in &mut into.parts {
            bytes.read(at, part);
            at += part.len() as u64;
        }
        Ok(into)
    }

    fn read_now(&self, at: u64, into: &mut [u8]) -> Option<io::Result<()>> {
        let bytes = self.lock();
        Some(bytes.check_holds(at, into.len()).map(|()| bytes.read(at, into)))
    }

    async fn write_at(&self, mut at: u64, from: Buffers) -> io::Result<Buffers> {
        if at.checked_add(from.len() as u64).is_none_or(|end| end > i64::MAX as u64) {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        let mut bytes = self.lock();
        for part in &from.parts {
            bytes.write(at, part);
            at += part.len() as u64;
        }
        Ok(from)
    }

    async fn flush(&self, _held: Held) -> io::Result<()> {
        Ok(())
    }

    async fn set_len(&self, len: u64, _held: Held) -> io::Result<()> {
        if len > i64::MAX as u64 {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.lock().set_len(len);
        Ok(())
    }

    async fn punch(&self, at: u64, len: u64, _held: Held) -> io::Result<()> {
        let mut bytes = self.lock();
        let end = at.saturating_add(len).min(bytes.len);
        bytes.clear(at, end.saturating_sub(at));
        Ok(())
    }

    async fn write_zeroes(&self, at: u64, len: u64, held: Held) -> io::Result<()> {
        self.punch(at, len, held).await
    }

    async fn extent(&self, at: u64, len: u64) -> io::Result<Extent> {
        let bytes = self.lock();
        let page = at / PAGE;
        let to_page_end = PAGE - at % PAGE;
        if bytes.pages.contains_key(&page) && at < bytes.len {
            return Ok(Extent { len: len.min(to_page_end), kind: ExtentKind::Data });
        }
        let next = bytes.pages.range(page + 1..).next().map_or(u64::MAX, |(page, _)| page * PAGE);
        Ok(Extent { len: len.min(next - at), kind: ExtentKind::Hole })
    }

    async fn length(&self) -> io::Result<u64> {
        Ok(self.lock().len)
    }

    fn alignment(&self) -> Alignment {
        Alignment::ANY
    }
}

/// Named files in memory. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct MemoryOpener {
    files: Arc<Mutex<HashMap<PathBuf, (u64, Memory)>>>,
}

impl MemoryOpener {
    /// Starts with no file.
    pub fn new() -> Self {
        MemoryOpener::default()
    }

    /// The file of that name, made when it is missing.
    pub fn file(&self, name: &Path) -> Memory {
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        let number = files.len() as u64;
        files.entry(name.to_owned()).or_insert_with(|| (number, Memory::new())).1.clone()
    }

    fn find(&self, name: &Path) -> io::Result<(u64, Memory)> {
        let files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        files.get(name).cloned().ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl Opener for MemoryOpener {
    type Storage = Memory;

    async fn open(&self, name: &Path, _access: Access) -> io::Result<Memory> {
        Ok(self.find(name)?.1)
    }

    async fn create(&self, name: &Path, existing: Existing) -> io::Result<Memory> {
        let file = self.file(name);
        if existing == Existing::Keep && file.length().await? > 0 {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        file.lock().set_len(0);
        Ok(file)
    }

    async fn identify(&self, name: &Path) -> io::Result<FileId> {
        Ok(FileId { device: 0, inode: self.find(name)?.0 })
    }
}
