//! How the kernel is asked for the bytes of an image.
//!
//! Role: `--aio` and the cache modes of the verbs that have them, as what the storage takes.
//!
//! Absent on purpose: asking.

use anyhow::{Context, bail};
use compio::driver::DriverType;
use compio::runtime::Runtime;
use quod::Fua;
use quod_storage::{LoopOpener, PageCache};

/// How requests reach the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Aio {
    /// io_uring, and blocking calls for what is in the page cache
    Auto,
    /// Blocking system calls
    Threads,
    /// io_uring
    #[value(name = "io_uring")]
    IoUring,
}

impl Aio {
    /// Opens files to be asked that way.
    ///
    /// # Errors
    /// io_uring was asked for and cannot be had.
    pub(crate) fn opener(self, page_cache: PageCache) -> anyhow::Result<LoopOpener> {
        let aio = match self {
            Aio::Auto => quod_storage::Aio::Auto,
            Aio::Threads => quod_storage::Aio::Threads,
            Aio::IoUring => {
                let runtime = Runtime::new().context("There is no event loop here")?;
                if runtime.driver_type() != DriverType::IoUring {
                    bail!("io_uring: the kernel offers none here; use auto or threads");
                }
                quod_storage::Aio::IoUring
            }
        };
        Ok(LoopOpener { aio, page_cache })
    }
}

/// What a cache mode of the reference tools stands for; `option` is how it was given.
///
/// # Errors
/// It is one where flushes are left out.
pub(crate) fn cache_mode(option: &str, mode: &str) -> anyhow::Result<(PageCache, Fua)> {
    Ok(match mode {
        "writeback" => (PageCache::Used, Fua::No),
        "writethrough" => (PageCache::Used, Fua::Yes),
        "none" => (PageCache::Bypassed, Fua::No),
        "directsync" => (PageCache::Bypassed, Fua::Yes),
        _ => bail!("{option} {mode}: every flush is carried out here; use writeback or none"),
    })
}
