//! A local file for event loops, as [`Storage`].
//!
//! Role: [`LoopFile`] chooses for each operation between a blocking call and the ring of the thread that asks: by what the
//! caller wants, by what the file system can do, and by what is quicker. It may be used from any thread; on one without an
//! event loop all operations block.
//!
//! Absent on purpose: the operations (`calls.rs`, `ring.rs`), what becomes of a flush that is not awaited (`flushes.rs`), and
//! ranges that are not whole blocks (`any_range.rs`).

use std::io;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{AtFlags, OFlags, StatxFlags, statx};

use crate::flushes::Flushes;
use crate::lock::Locked;
use crate::{
    Access, Alignment, AnyRange, Buffers, Existing, Extent, FileId, Held, MEMORY_ALIGNMENT, Opener, Storage,
    cached, calls, ring,
};

/// How operations reach the kernel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Aio {
    /// As is quickest, as far as that is known: writes to the page cache by calls, and reads of what is in it where they are
    /// asked for [at once](Storage::read_now); all else by io_uring. A thread that has found 4,096 of those in a row, and has
    /// nothing on the ring, may wait for the disk in the next that are not there: up to 16 times, until it notices.
    #[default]
    Auto,
    /// By blocking system calls.
    Threads,
    /// By io_uring, on threads that run an event loop on it.
    IoUring,
}

/// Whether the page cache stands between the file and its disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PageCache {
    /// Reads and writes go through it.
    #[default]
    Used,
    /// They go past it, in whole blocks (O_DIRECT).
    Bypassed,
}

/// The way of one kind of operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Call,
    /// A call that does not wait, or is not expected to, and the ring for what it leaves.
    CallThenRing,
    Ring,
}

/// A local regular file for event loops. Cheap to clone; the file and its locks go with the last clone.
///
/// Before an event loop ends, await [`ring_is_idle`](crate::ring_is_idle) on it.
#[derive(Clone, Debug)]
pub struct LoopFile {
    file: Arc<Locked>,
    flushes: Arc<Flushes>,
    reads: Way,
    writes: Way,
    flush: Way,
    alignment: Alignment,
}

impl LoopFile {
    fn new(file: Locked, aio: Aio, page_cache: PageCache) -> io::Result<Self> {
        let alignment = match page_cache {
            PageCache::Used => Alignment::ANY,
            PageCache::Bypassed => direct_alignment(&file)?,
        };
        let (reads, writes, flush) = match (aio, page_cache) {
            (Aio::Threads, _) => (Way::Call, Way::Call, Way::Call),
            (Aio::IoUring, _) | (Aio::Auto, PageCache::Bypassed) => (Way::Ring, Way::Ring, Way::Ring),
            // A write to the page cache is a copy; few file systems have one that does not wait.
            (Aio::Auto, PageCache::Used) if tells_what_is_cached(&file) => {
                (Way::CallThenRing, Way::Call, Way::Ring)
            }
            // Memory, as a rule: the ring would have kernel threads wait for nothing.
            (Aio::Auto, PageCache::Used) => (Way::Call, Way::Call, Way::Ring),
        };
        Ok(LoopFile { file: Arc::new(file), flushes: Arc::default(), reads, writes, flush, alignment })
    }
}

/// What O_DIRECT asks for.
fn direct_alignment(file: &Locked) -> io::Result<Alignment> {
    let told = statx(file, "", AtFlags::EMPTY_PATH, StatxFlags::DIOALIGN)?;
    if told.stx_mask & StatxFlags::DIOALIGN.bits() == 0 {
        // A kernel that does not tell; no disk has larger blocks.
        return Ok(Alignment { offset: MEMORY_ALIGNMENT as u64, memory: MEMORY_ALIGNMENT });
    }
    match (told.stx_dio_offset_align, told.stx_dio_mem_align as usize) {
        (0, _) => Err(io::Error::new(
            io::ErrorKind::Unsupported,
            "the file system does not support O_DIRECT for this file",
        )),
        (offset, memory) => Ok(Alignment { offset: offset.into(), memory: memory.max(1) }),
    }
}

/// Whether a read can be told not to wait for the disk.
fn tells_what_is_cached(file: &Locked) -> bool {
    calls::read_cached(file, 0, &mut [0]).is_ok()
}

impl Storage for LoopFile {
    async fn read_at(&self, at: u64, mut into: Buffers) -> io::Result<Buffers> {
        let block = self.alignment.offset;
        if self.reads != Way::Call && ring::is_here() {
            return ring::read(&self.file, at, into, block).await;
        }
        calls::read(&self.file, at, &mut into, block)?;
        Ok(into)
    }

    fn read_now(&self, at: u64, into: &mut [u8]) -> Option<io::Result<()>> {
        match self.reads {
            _ if self.alignment != Alignment::ANY => None,
            Way::Call => Some(calls::read_whole(&self.file, at, into)),
            Way::CallThenRing => match cached::read(&self.file, at, into) {
                Ok(true) => Some(Ok(())),
                Ok(false) => None,
                Err(error) => Some(Err(error)),
            },
            Way::Ring => None,
        }
    }

    async fn write_at(&self, at: u64, from: Buffers) -> io::Result<Buffers> {
        if self.writes == Way::Ring && ring::is_here() {
            return Box::pin(ring::write(&self.file, at, from)).await;
        }
        calls::write(&self.file, at, &from.parts)?;
        Ok(from)
    }

    async fn flush(&self, held: Held) -> io::Result<()> {
        let turn = self.flushes.turn().await;
        let flushed = match self.flush == Way::Ring && ring::is_here() {
            true => turn.begin(ring::flush(Arc::clone(&self.file)), held).over().await,
            false => calls::flush(&self.file),
        };
        // What failed for nobody had its turn before.
        self.flushes.take_owed().map_or(flushed, Err)
    }

    async fn set_len(&self, len: u64, _held: Held) -> io::Result<()> {
        self.file.set_len(len)
    }

    async fn punch(&self, at: u64, len: u64, _held: Held) -> io::Result<()> {
        calls::punch(&self.file, at, len)
    }

    async fn write_zeroes(&self, at: u64, len: u64, _held: Held) -> io::Result<()> {
        calls::write_zeroes(&self.file, at, len)
    }

    async fn extent(&self, at: u64, len: u64) -> io::Result<Extent> {
        calls::extent(&self.file, at, len)
    }

    async fn length(&self) -> io::Result<u64> {
        calls::length(&self.file)
    }

    fn alignment(&self) -> Alignment {
        self.alignment
    }
}

/// Opens local files for event loops, and takes any range of them.
#[derive(Clone, Copy, Debug, Default)]
pub struct LoopOpener {
    /// How operations reach the kernel.
    pub aio: Aio,
    /// Whether they go through the page cache.
    pub page_cache: PageCache,
}

impl LoopOpener {
    fn flags(&self) -> OFlags {
        match self.page_cache {
            PageCache::Used => OFlags::empty(),
            PageCache::Bypassed => OFlags::DIRECT,
        }
    }

    fn opened(&self, file: Locked) -> io::Result<AnyRange<LoopFile>> {
        Ok(AnyRange::of(LoopFile::new(file, self.aio, self.page_cache)?))
    }
}

impl Opener for LoopOpener {
    type Storage = AnyRange<LoopFile>;

    async fn open(&self, name: &Path, access: Access) -> io::Result<AnyRange<LoopFile>> {
        self.opened(calls::open(name, access, self.flags())?)
    }

    async fn create(&self, name: &Path, existing: Existing) -> io::Result<AnyRange<LoopFile>> {
        self.opened(calls::create(name, existing, self.flags())?)
    }

    async fn identify(&self, name: &Path) -> io::Result<FileId> {
        calls::identify(name)
    }
}
