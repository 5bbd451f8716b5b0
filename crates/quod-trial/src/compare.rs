//! Compares a whole disk with what the model allows, and memory with the file.
//!
//! Role: reads everything at a moment at which nothing is under way: at rest, after an open, after a crash.
//!
//! Law: each sector is one that the model allows; right after a crash, what was read once stays. What is told to be zeroes
//! reads as zeroes.
//!
//! Absent on purpose: reads among other requests (`guest.rs`); what the tables say (`layout.rs`).

use quod::BlockKind;
use quod_sim::{Executor, Violation};
use quod_storage::Buffer;

use crate::guest::Guest;
use crate::oracle::Oracle;

/// A comparison with them is faster than a look at each byte.
const ZEROES: [u8; 4096] = [0; 4096];

impl Guest {
    /// Reads the whole disk and compares it.
    ///
    /// # Panics
    /// When a read fails or returns what it must not.
    pub fn compare(&self, executor: &mut Executor, place: &str) {
        self.compare_clusters(executor, false, |_| true, place);
    }

    /// Right after an open that followed a close or the death of a process: compares the disk's size, and the whole of it.
    ///
    /// # Panics
    /// As [`compare`](Guest::compare).
    pub fn compare_reopened(&self, executor: &mut Executor, place: &str) {
        self.oracle.borrow_mut().found_size(self.image.size(), place);
        self.compare(executor, place);
    }

    /// Right after an open that followed a crash: compares the disk's size, and those clusters. What they hold is from now
    /// on what they must hold.
    pub fn compare_recovered(
        &self,
        executor: &mut Executor,
        which: impl Fn(&Oracle, u64) -> bool,
        place: &str,
    ) {
        self.oracle.borrow_mut().recovered_size(self.image.size(), place);
        let asked = |cluster| which(&self.oracle.borrow(), cluster);
        self.compare_clusters(executor, true, asked, place);
    }

    fn compare_clusters(
        &self,
        executor: &mut Executor,
        recovered: bool,
        which: impl Fn(u64) -> bool,
        place: &str,
    ) {
        const MOST: u64 = 64 << 10;
        let size = self.image.size();
        let cluster = self.image.cluster_size().unwrap_or(4096);
        let mut at = 0;
        while at < size {
            let (first, most) = (at / cluster, (MOST / cluster).max(1));
            let run = (first..first + most).take_while(|&cluster| which(cluster)).count() as u64;
            let len = (run * cluster).min(size - at);
            if run > 0 {
                let verdict = executor.block_on(self.clone().compare_range(at, len, recovered));
                let verdict = verdict.unwrap_or_else(|stuck| panic!("{place}: {stuck}"));
                match verdict {
                    Ok(Ok(())) => {}
                    Ok(Err(violation)) => panic!("{place}: {violation}"),
                    Err(error) => panic!("{place}: {error}"),
                }
            }
            at += run.max(1) * cluster;
        }
    }

    async fn compare_range(self, at: u64, len: u64, recovered: bool) -> quod::Result<Result<(), Violation>> {
        let request = self.oracle.borrow_mut().model.begin_read(at, len);
        let bytes = self.image.read(at, Buffer::zeroed(len as usize)).await?;
        self.compare_status(at, &bytes).await?;
        let model = &mut self.oracle.borrow_mut().model;
        let seen = model.read(request, &bytes);
        Ok(if recovered { seen.and(model.recovered(at, &bytes)) } else { seen })
    }

    /// Holds what block status says of a range against its bytes.
    async fn compare_status(&self, at: u64, bytes: &[u8]) -> quod::Result<()> {
        let mut done = 0;
        while done < bytes.len() {
            let run = self.image.block_status(at + done as u64, (bytes.len() - done) as u64).await?;
            let told = &bytes[done..done + run.len as usize];
            let has_data = matches!(run.kind, BlockKind::Data { .. });
            assert!(
                has_data || told.chunks(ZEROES.len()).all(|part| *part == ZEROES[..part.len()]),
                "{run:?} at {at:#x} plus {done:#x} is no zeroes"
            );
            done += told.len();
        }
        Ok(())
    }
}

/// Holds what the image keeps in memory against its file, while nothing is under way.
///
/// # Panics
/// When they differ.
pub fn validate(guest: &Guest, executor: &mut Executor, place: &str) {
    let image = guest.image.clone();
    let outcome = executor.block_on(async move { image.validate().await });
    outcome
        .unwrap_or_else(|stuck| panic!("{place}: {stuck}"))
        .unwrap_or_else(|error| panic!("{place}: {error}"));
}
