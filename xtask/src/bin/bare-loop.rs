//! The system calls of first writes over a base, and nothing else: what `cargo xtask compare first-writes` holds the engine
//! against.
//!
//! Role: for each write it looks for holes in the base, reads what the write leaves of the cluster, makes the file longer, and
//! writes both at once; after so many clusters, or writes, one thread flushes, writes table entries, and goes on.
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
use clap::Parser;
use rustix::fs::{SeekFrom, fdatasync, ftruncate, seek};
use rustix::io::pwritev;

const CLUSTER: u64 = 64 << 10;
const ENTRIES_OF_A_SLICE: u64 = 512;

/// First writes without an engine.
#[derive(Parser)]
struct Arguments {
    /// Clusters that are written to
    #[arg(long)]
    count: u64,
    /// Bytes of a write
    #[arg(long)]
    size: u64,
    #[arg(long)]
    threads: u64,
    /// A batch after so many clusters
    #[arg(long)]
    batch: u64,
    /// Each batch is the guest's, and ends with a second flush
    #[arg(long)]
    durable: bool,
    base: PathBuf,
    /// The file to write, which must be there
    file: PathBuf,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let (base, file) = (File::open(&arguments.base)?, File::options().write(true).open(&arguments.file)?);
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
            if number > 0 && number.is_multiple_of(arguments.batch) {
                let _turn = turn.lock().expect("no panic under it");
                batch(&file, number, &arguments)?;
            }
            let at = number * CLUSTER + arguments.size;
            seek(&base, SeekFrom::Data(at))?;
            seek(&base, SeekFrom::Hole(at))?;
            base.read_exact_at(&mut rest, at)?;
            let room = start + number * CLUSTER;
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
    batch(&file, arguments.count, &arguments)?;
    Ok(fdatasync(&file)?)
}

/// A flush, the entries of the clusters before, and perhaps a flush.
fn batch(file: &File, number: u64, arguments: &Arguments) -> Result<()> {
    fdatasync(file)?;
    let entries = arguments.batch.min(ENTRIES_OF_A_SLICE);
    let bytes = vec![0; (entries * 8).next_multiple_of(512) as usize];
    for slice in 0..arguments.batch.div_ceil(ENTRIES_OF_A_SLICE) {
        let first = number.saturating_sub(arguments.batch) + slice * ENTRIES_OF_A_SLICE;
        file.write_all_at(&bytes, CLUSTER + first * 8 / 512 * 512)?;
    }
    if arguments.durable {
        fdatasync(file)?;
    }
    Ok(())
}
