//! Copy-on-write virtual disks in the QED image format.
//!
//! [`Image`] is the guest-visible disk: [`open`](Image::open) one through an [`Opener`](quod_storage::Opener), read,
//! write, flush, [`close`](Image::close) it. [`check()`] finds and mends damage; [`inspect`] reads a header and opens nothing
//! else. Between every request and the file stands the table cache ([`cache`]).
//!
//! All of it is `async` and knows no runtime: with a storage whose futures are always ready, such as
//! [`FileStorage`](quod_storage::FileStorage), [`block_on`] makes it a synchronous library,
//! and [`BlockingImage`] is one ready made.
//!
//! ```
//! use quod::storage::{Access, Buffer, MemoryOpener};
//! use quod::{CreateOptions, Fua, Image, OpenOptions, block_on};
//! # use std::path::Path;
//!
//! # fn main() -> quod::Result<()> { block_on(async {
//! let (opener, name) = (MemoryOpener::new(), Path::new("disk.qed"));
//! Image::create(&opener, name, &CreateOptions::new(1 << 30)).await?;
//! let disk = Image::open(&opener, name, &OpenOptions::new(Access::Write)).await?;
//! disk.write(4096, Buffer::copy_of(b"hello"), Fua::No).await?;
//! disk.flush().await?;
//! assert_eq!(&*disk.read(4096, Buffer::zeroed(5)).await?, b"hello");
//! disk.close().await
//! # }) }
//! ```
//!
//! Absent on purpose: clocks, sockets, threads but that of [`Keeper`], other people's image formats, and unsafe
//! code.

mod allocate;
mod backing;
mod blocking;
pub mod cache;
mod chain;
mod check;
mod commit;
mod create;
mod error;
mod flush;
mod front;
mod gate;
mod geometry;
mod grouped;
mod grow;
mod header;
mod image;
mod inspect;
mod keeper;
mod layer;
mod lookup;
#[cfg(test)]
#[cfg(any(quod_loom, quod_shuttle))]
mod models;
mod need_check;
mod options;
mod pending;
mod probe;
mod ranges;
mod read;
mod strays;
mod sync;
mod table;
mod turn;
pub mod units;
mod validate;
mod write;
mod zero;

pub use blocking::BlockingImage;
pub use cache::Stats as CacheStats;
pub use check::{CheckReport, Repair, check};
pub use error::{Error, ErrorKind, Result};
pub use front::BackingName;
pub use image::Image;
pub use image::stats::ImageStats;
pub use inspect::{ImageInfo, inspect, probe};
pub use keeper::Keeper;
pub use options::{
    BackingPolicy, CacheBudget, CommitPolicy, CreateOptions, DEFAULT_CACHE_BYTES, Format, Fua, NewBacking,
    OpenOptions, PendingBounds, Room,
};
pub use read::{BlockKind, BlockStatus};

/// Where the bytes of images live.
pub use quod_storage as storage;

/// Runs a future of the engine to its end on this thread, which sleeps while it waits for another.
pub fn block_on<F: Future>(future: F) -> F::Output {
    futures_lite::future::block_on(future)
}
