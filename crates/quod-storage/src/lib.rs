//! Where the bytes of an image live.
//!
//! Role: [`Storage`] is all that the engine asks of a file: vectored reads and writes of owned, aligned
//! [`Buffer`]s, flush, length, holes. [`FileStorage`] is a local file by blocking system calls, [`LoopFile`] one for event
//! loops, such as [`run_event_loop`]'s, [`Memory`] keeps the bytes in memory. [`AnyRange`] takes any range where a storage takes
//! whole blocks.
//!
//! Invariant: an operation owns its buffers and its [`Held`] until the kernel is done with them, also when the
//! future that asked for it was dropped.
//!
//! Absent on purpose: a runtime, caching, retries but for locks that are just going, and any knowledge of image formats.

mod any_range;
mod buffer;
mod buffers;
mod cached;
mod calls;
mod event_loop;
mod file;
mod flushes;
mod lock;
mod loop_file;
mod memory;
mod ring;

use std::io;
use std::path::Path;

pub use any_range::AnyRange;
pub use buffer::{Buffer, MEMORY_ALIGNMENT};
pub use buffers::{Buffers, Held};
pub use event_loop::run_event_loop;
pub use file::{FileOpener, FileStorage};
pub use lock::LockConflict;
pub use loop_file::{Aio, LoopFile, LoopOpener, PageCache};
pub use memory::{Memory, MemoryOpener};
pub use ring::ring_is_idle;

/// What a range of a file is made of, as far as the file system tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExtentKind {
    /// May hold anything.
    Data,
    /// Reads as zeroes and takes no room.
    Hole,
}

/// A run of one [`ExtentKind`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Length in bytes; never 0.
    pub len: u64,
    /// What it is made of.
    pub kind: ExtentKind,
}

/// What offsets, lengths and memory must be multiples of, in bytes; powers of two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Alignment {
    /// For file offsets and lengths.
    pub offset: u64,
    /// For buffer addresses.
    pub memory: usize,
}

impl Alignment {
    /// Anything will do.
    pub const ANY: Alignment = Alignment { offset: 1, memory: 1 };
}

const _: () = assert!(MEMORY_ALIGNMENT.is_power_of_two());

/// A handle on one file. Handles on the same file may be used at the same time, from any thread that the
/// implementation allows.
///
/// Reads and writes move exactly the bytes asked for or fail. Nothing is durable before [`flush`](Storage::flush)
/// returns `Ok`; a failed flush promises nothing about what it covered, and a later one does not mend it.
///
/// Cancellation: a dropped future may leave its operation running. The operation keeps its buffers and its [`Held`]
/// until it is over.
#[allow(
    async_fn_in_trait,
    reason = "whether futures are Send is the implementation's: io_uring files stay on their thread"
)]
pub trait Storage {
    /// Fills `into` from file offset `at`.
    ///
    /// # Errors
    /// `UnexpectedEof` when the range reaches past the end of the file; otherwise what the system says.
    async fn read_at(&self, at: u64, into: Buffers) -> io::Result<Buffers>;

    /// Fills `into` from file offset `at` at once, where no wait is needed for it as far as is known, or this storage's reads hold
    /// the thread in any case: no future, no buffer that the kernel keeps. `None` when it takes a [`read_at`](Storage::read_at);
    /// `into` may have been changed then.
    ///
    /// # Errors
    /// As [`read_at`](Storage::read_at).
    fn read_now(&self, _at: u64, _into: &mut [u8]) -> Option<io::Result<()>> {
        None
    }

    /// Writes `from` at file offset `at`; the file grows when the range reaches past its end.
    ///
    /// # Errors
    /// What the system says; part of the range may have been written.
    async fn write_at(&self, at: u64, from: Buffers) -> io::Result<Buffers>;

    /// Makes every write, punch and length change that completed before this call durable.
    ///
    /// # Errors
    /// What the system says; then nothing is known about what it covered. When a flush fails whose future was dropped,
    /// the next flush of the file must fail in its stead.
    async fn flush(&self, held: Held) -> io::Result<()>;

    /// Sets the length of the file: cuts it, or grows it by a hole.
    ///
    /// # Errors
    /// What the system says.
    async fn set_len(&self, len: u64, held: Held) -> io::Result<()>;

    /// Makes `len` bytes from `at` read as zeroes and gives their room back where the file system can. The length
    /// of the file stays.
    ///
    /// # Errors
    /// What the system says.
    async fn punch(&self, at: u64, len: u64, held: Held) -> io::Result<()>;

    /// Makes `len` bytes from `at` read as zeroes and keeps their room where the file system can. The length of the
    /// file stays.
    ///
    /// # Errors
    /// What the system says.
    async fn write_zeroes(&self, at: u64, len: u64, held: Held) -> io::Result<()>;

    /// What the file is made of from `at` on: a run of at most `len` bytes. Past the end there is a hole.
    ///
    /// # Errors
    /// What the system says.
    async fn extent(&self, at: u64, len: u64) -> io::Result<Extent>;

    /// Length of the file in bytes.
    ///
    /// # Errors
    /// What the system says.
    async fn length(&self) -> io::Result<u64>;

    /// What offsets and buffers must be aligned to. The engine passes a guest's requests on as they come, and refuses to
    /// open a file that does not take any: 1 and 1.
    fn alignment(&self) -> Alignment;
}

/// How a file is to be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Reads only; keeps writers out.
    Read,
    /// Reads only and lets a writer be: what is read may change underneath.
    ReadShared,
    /// Reads and writes; keeps every other user out but those that force-share.
    Write,
}

/// Tells files apart, whatever name they were opened by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FileId {
    /// Device or name space.
    pub device: u64,
    /// Number in it.
    pub inode: u64,
}

/// What a creation does with a file that is there already and not empty.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Existing {
    /// Leaves it as it is, and fails.
    #[default]
    Keep,
    /// Empties it.
    Empty,
}

/// Opens files by name: what the engine follows backing names with.
#[allow(async_fn_in_trait, reason = "as for Storage")]
pub trait Opener {
    /// The files that it opens.
    type Storage: Storage;

    /// Opens an existing file and takes the locks that `access` asks for. A file that another user has locked may be waited
    /// for: [`FileOpener`] blocks the thread for a second, since a process that was killed holds its locks a moment longer.
    ///
    /// # Errors
    /// What the system says; [`LockConflict`] inside a `ResourceBusy` error when another user is in the way;
    /// `InvalidInput` when the name is not one of a regular file.
    async fn open(&self, name: &Path, access: Access) -> io::Result<Self::Storage>;

    /// Makes an empty file, locked for writing. What becomes of an existing one is decided once its lock is had. The name is
    /// durable when this returns.
    ///
    /// # Errors
    /// As [`open`](Opener::open); `AlreadyExists` when a file that is not empty is to be kept.
    async fn create(&self, name: &Path, existing: Existing) -> io::Result<Self::Storage>;

    /// Tells which file the name stands for, without opening it.
    ///
    /// # Errors
    /// What the system says.
    async fn identify(&self, name: &Path) -> io::Result<FileId>;
}
