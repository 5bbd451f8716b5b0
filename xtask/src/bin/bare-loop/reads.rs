//! The system calls of reads of a file, one block after the other or drawn.
//!
//! Absent on purpose: finding anything.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Instant;

use anyhow::Result;
use clap::Args;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

/// What to read.
#[derive(Args)]
pub(crate) struct Arguments {
    /// Blocks that are read
    #[arg(long)]
    count: u64,
    /// Bytes of a block
    #[arg(long)]
    size: u64,
    #[arg(long)]
    threads: u64,
    /// Buffers of a thread that are read into by turns: those of requests in flight
    #[arg(long)]
    buffers: u64,
    /// Where the first block begins
    #[arg(long)]
    offset: u64,
    /// Bytes from there on; the next block after the last is the first
    #[arg(long)]
    length: u64,
    /// Draw the blocks
    #[arg(long)]
    random: bool,
    file: PathBuf,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let file = File::open(&arguments.file)?;
    let next = AtomicU64::new(0);
    let work = || -> Result<()> {
        let mut blocks = vec![vec![0; arguments.size as usize]; arguments.buffers as usize];
        let mut turns = (0..blocks.len()).cycle();
        let mut rng = SmallRng::seed_from_u64(1);
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let Some(turn) = turns.next().filter(|_| number < arguments.count) else { return Ok(()) };
            let block = match arguments.random {
                true => rng.random_range(0..arguments.length / arguments.size),
                false => number,
            };
            let inside = block * arguments.size % arguments.length;
            file.read_exact_at(&mut blocks[turn], arguments.offset + inside)?;
        }
    };
    let began = Instant::now();
    thread::scope(|scope| -> Result<()> {
        let threads: Vec<_> = (1..arguments.threads).map(|_| scope.spawn(work)).collect();
        work()?;
        threads.into_iter().try_for_each(|thread| thread.join().expect("no panic"))
    })?;
    println!("Run completed in {:.3} seconds.", began.elapsed().as_secs_f64());
    Ok(())
}
