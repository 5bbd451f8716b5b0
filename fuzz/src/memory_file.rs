//! Files of the kernel that are in no file system.
//!
//! Role: an image for code that takes only real files; it goes with the process, however that ends.

use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use quod::storage::{Access, Buffer, MemoryOpener, Storage};
use quod::{CreateOptions, Fua, Image, OpenOptions, block_on};
use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use rustix::io::pwrite;

/// A file in memory, with a name while this is alive.
pub(crate) struct MemoryFile(OwnedFd);

impl MemoryFile {
    /// A small image of `size` bytes; every byte of its disk is `fill`.
    pub(crate) fn of_image(size: u64, fill: u8) -> Self {
        let file = memfd_create("image", MemfdFlags::CLOEXEC).expect("the kernel has memory");
        let bytes = block_on(image(size, fill)).expect("memory does not fail");
        ftruncate(&file, bytes.len() as u64).expect("it is small");
        let written = pwrite(&file, &bytes, 0).expect("it is small");
        assert_eq!(written, bytes.len());
        MemoryFile(file)
    }

    /// The name that it can be opened by.
    pub(crate) fn path(&self) -> PathBuf {
        format!("/proc/self/fd/{}", self.0.as_raw_fd()).into()
    }
}

async fn image(size: u64, fill: u8) -> quod::Result<Vec<u8>> {
    let (opener, name) = (MemoryOpener::new(), Path::new("image"));
    let options = CreateOptions { cluster_size: 4096, table_size: 1, ..CreateOptions::new(size) };
    Image::create(&opener, name, &options).await?;
    if fill != 0 {
        let image = Image::open(&opener, name, &OpenOptions::new(Access::Write)).await?;
        image.write(0, Buffer::copy_of(&vec![fill; size as usize]), Fua::No).await?;
        image.close().await?;
    }
    let file = opener.file(name);
    let failed = |source| quod::Error::io("the image cannot be read", source);
    let length = file.length().await.map_err(failed)? as usize;
    let bytes = file.read_at(0, Buffer::zeroed(length).into()).await.map_err(failed)?;
    Ok(bytes.into_single().to_vec())
}
