//! The system calls of first writes.
//!
//! Role: for each write over a base it reads what the write leaves of the cluster, makes the file longer, and writes both at
//! once; after so many clusters, or writes, one thread flushes, writes table entries, and goes on. Without a base it writes.
//!
//! Absent on purpose: finding anything, locking anything, and being right after a crash: entries have no meaning here.

use std::fs::File;
use std::io::IoSlice;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use anyhow::Result;
use clap::Args;
use rustix::fs::{fdatasync, ftruncate};
use rustix::io::pwritev;

const CLUSTER: u64 = 64 << 10;
const ENTRIES_OF_A_SLICE: u64 = 512;

/// What to write.
#[derive(Args)]
pub(crate) struct Arguments {
    /// Clusters that are written to
    #[arg(long)]
    count: u64,
    /// Bytes of a write
    #[arg(long)]
    size: u64,
    #[arg(long)]
    threads: u64,
    /// A batch after so many clusters; none but the last flush without
    #[arg(long, requires = "base")]
    batch: Option<u64>,
    /// Each batch is the guest's, and ends with a second flush
    #[arg(long)]
    durable: bool,
    /// The file to write, which must be there
    file: PathBuf,
    base: Option<PathBuf>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let file = File::options().write(true).open(&arguments.file)?;
    let base = arguments.base.as_ref().map(File::open).transpose()?;
    let (next, turn) = (AtomicU64::new(0), Mutex::new(()));
    let start = file.metadata()?.len();
    let work = || -> Result<()> {
        let mut rest = vec![0; (CLUSTER - arguments.size) as usize];
        let guests = vec![0x5a; arguments.size as usize];
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= arguments.count {
                return Ok(());
            }
            let room = start + number * CLUSTER;
            let Some(base) = &base else {
                file.write_all_at(&guests, room)?;
                continue;
            };
            if let Some(size) = arguments.batch.filter(|size| number > 0 && number.is_multiple_of(*size)) {
                let _turn = turn.lock().expect("no panic under it");
                batch(&file, number, size, arguments.durable)?;
            }
            base.read_exact_at(&mut rest, number * CLUSTER + arguments.size)?;
            if arguments.threads == 1 {
                ftruncate(&file, room + CLUSTER)?;
            }
            pwritev(&file, &[IoSlice::new(&guests), IoSlice::new(&rest)], room)?;
        }
    };
    thread::scope(|scope| -> Result<()> {
        let threads: Vec<_> = (1..arguments.threads).map(|_| scope.spawn(work)).collect();
        work()?;
        threads.into_iter().try_for_each(|thread| thread.join().expect("no panic"))
    })?;
    if let Some(size) = arguments.batch {
        batch(&file, arguments.count, size, arguments.durable)?;
    }
    Ok(fdatasync(&file)?)
}

/// A flush, the entries of the clusters before, and perhaps a flush.
fn batch(file: &File, number: u64, size: u64, durable: bool) -> Result<()> {
    fdatasync(file)?;
    let entries = size.min(ENTRIES_OF_A_SLICE);
    let bytes = vec![0; (entries * 8).next_multiple_of(512) as usize];
    for slice in 0..size.div_ceil(ENTRIES_OF_A_SLICE) {
        let first = number.saturating_sub(size) + slice * ENTRIES_OF_A_SLICE;
        file.write_all_at(&bytes, CLUSTER + first * 8 / 512 * 512)?;
    }
    if durable {
        fdatasync(file)?;
    }
    Ok(())
}
