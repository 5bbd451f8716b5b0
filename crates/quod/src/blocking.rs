//! The engine as a synchronous library over local files.
//!
//! Role: a thin face: each call runs the engine's future on the calling thread, and a [`Keeper`] does what time asks for.
//!
//! Absent on purpose: anything that the engine does not do. Correctness does not depend on the thread.

use std::path::Path;

use quod_storage::{Buffer, FileOpener, FileStorage};

use crate::block_on;
use crate::error::Result;
use crate::image::Image;
use crate::keeper::Keeper;
use crate::options::{CreateOptions, Fua, OpenOptions, Room};
use crate::read::BlockStatus;

/// An open image on a local file, for callers that block. Share it by reference; calls may run at the same time.
///
/// Close it with [`close`](BlockingImage::close): one that is merely dropped is left as by a crash.
#[derive(Debug)]
pub struct BlockingImage {
    image: Image<FileStorage>,
    keeper: Option<Keeper>,
}

impl BlockingImage {
    /// Makes a new, empty QED image, durably.
    ///
    /// # Errors
    /// As [`Image::create`].
    pub fn create(name: &Path, options: &CreateOptions) -> Result<()> {
        block_on(Image::create(&FileOpener, name, options))
    }

    /// Opens an image and, where the options allow, its backing files.
    ///
    /// # Errors
    /// As [`Image::open`]; `Io` when no thread can be started.
    pub fn open(name: &Path, options: &OpenOptions) -> Result<Self> {
        let image = block_on(Image::open(&FileOpener, name, options))?;
        let keeper = if image.is_writable() { Some(Keeper::start(&image)?) } else { None };
        Ok(BlockingImage { image, keeper })
    }

    /// Size of the disk in bytes.
    pub fn size(&self) -> u64 {
        self.image.size()
    }

    /// Fills `into` with guest bytes from `at`.
    ///
    /// # Errors
    /// As [`Image::read`].
    pub fn read(&self, at: u64, into: &mut [u8]) -> Result<()> {
        let bytes = block_on(self.image.read(at, Buffer::zeroed(into.len())))?;
        into.copy_from_slice(&bytes);
        Ok(())
    }

    /// Writes `from` at guest offset `at`.
    ///
    /// # Errors
    /// As [`Image::write`].
    pub fn write(&self, at: u64, from: &[u8], fua: Fua) -> Result<()> {
        block_on(self.image.write(at, Buffer::copy_of(from), fua)).map(drop)
    }

    /// Makes `len` guest bytes from `at` read as zeroes.
    ///
    /// # Errors
    /// As [`Image::write_zeroes`].
    pub fn write_zeroes(&self, at: u64, len: u64, room: Room, fua: Fua) -> Result<()> {
        block_on(self.image.write_zeroes(at, len, room, fua))
    }

    /// Tells that `len` guest bytes from `at` are not needed any more.
    ///
    /// # Errors
    /// As [`Image::discard`].
    pub fn discard(&self, at: u64, len: u64, fua: Fua) -> Result<()> {
        block_on(self.image.discard(at, len, fua))
    }

    /// Makes the disk `size` bytes long; the new part reads as zeroes.
    ///
    /// # Errors
    /// As [`Image::grow`].
    pub fn grow(&self, size: u64) -> Result<()> {
        block_on(self.image.grow(size))
    }

    /// Tells what lies behind the first of `len` guest bytes from `at`, and how far that goes.
    ///
    /// # Errors
    /// As [`Image::block_status`].
    pub fn block_status(&self, at: u64, len: u64) -> Result<BlockStatus> {
        block_on(self.image.block_status(at, len))
    }

    /// Makes every write durable that completed before the call.
    ///
    /// # Errors
    /// As [`Image::flush`].
    pub fn flush(&self) -> Result<()> {
        block_on(self.image.flush())
    }

    /// The image itself, for what has no blocking face.
    pub fn image(&self) -> &Image<FileStorage> {
        &self.image
    }

    /// Ends the use of the image: flushed, cut back, NEED_CHECK clear.
    ///
    /// # Errors
    /// As [`Image::close`].
    pub fn close(mut self) -> Result<()> {
        // The keeper first: it must not meet a closed image.
        self.keeper = None;
        block_on(self.image.close())
    }
}
