//! Files that count what is asked of them.
//!
//! Role: [`CountedOpener`] opens an image and what lies below it, and counts the reads, writes, flushes and changes of length
//! of the one and of the others, so that write amplification is a figure.
//!
//! Invariants: counted is what has succeeded of what the engine asked for. Past the page cache, where only whole blocks are
//! written, a part of one costs the file more than that. No two threads write to the same counters.
//!
//! Absent on purpose: time; punches and writes of zeroes, which no request of a benchmark asks for.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crossbeam_utils::CachePadded;
use quod_storage::{
    Access, Alignment, AnyRange, Buffers, Existing, Extent, FileId, Held, LoopFile, LoopOpener, Opener,
    Storage,
};
use serde::Serialize;
use thread_local::ThreadLocal;

/// What was asked of one file or more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Counts {
    pub(super) reads: u64,
    pub(super) read_bytes: u64,
    pub(super) writes: u64,
    pub(super) written_bytes: u64,
    pub(super) flushes: u64,
    pub(super) length_changes: u64,
}

/// What was asked, by thread.
#[derive(Debug, Default)]
struct Counters(ThreadLocal<CachePadded<Part>>);

/// What one thread has asked.
#[derive(Debug, Default)]
struct Part {
    reads: AtomicU64,
    read_bytes: AtomicU64,
    writes: AtomicU64,
    written_bytes: AtomicU64,
    flushes: AtomicU64,
    length_changes: AtomicU64,
}

impl Counters {
    fn counts(&self) -> Counts {
        let sum = |counter: fn(&Part) -> &AtomicU64| {
            self.0.iter().map(|part| counter(part).load(Ordering::Relaxed)).sum()
        };
        Counts {
            reads: sum(|part| &part.reads),
            read_bytes: sum(|part| &part.read_bytes),
            writes: sum(|part| &part.writes),
            written_bytes: sum(|part| &part.written_bytes),
            flushes: sum(|part| &part.flushes),
            length_changes: sum(|part| &part.length_changes),
        }
    }

    fn read(&self, bytes: usize) {
        let own = self.0.get_or_default();
        add(&own.reads, 1);
        add(&own.read_bytes, bytes as u64);
    }

    fn write(&self, bytes: usize) {
        let own = self.0.get_or_default();
        add(&own.writes, 1);
        add(&own.written_bytes, bytes as u64);
    }

    fn flush(&self) {
        add(&self.0.get_or_default().flushes, 1);
    }

    fn change_length(&self) {
        add(&self.0.get_or_default().length_changes, 1);
    }
}

/// Adds to a counter that is this thread's.
fn add(counter: &AtomicU64, amount: u64) {
    counter.store(counter.load(Ordering::Relaxed) + amount, Ordering::Relaxed);
}

/// Opens files that count.
pub(super) struct CountedOpener {
    opener: LoopOpener,
    opened_top: AtomicBool,
    top: Arc<Counters>,
    below: Arc<Counters>,
}

impl CountedOpener {
    /// Counts what is asked of the files that `opener` opens.
    pub(super) fn over(opener: LoopOpener) -> Self {
        CountedOpener {
            opener,
            opened_top: AtomicBool::new(false),
            top: Arc::default(),
            below: Arc::default(),
        }
    }

    /// What was asked of the file that was opened first: the image.
    pub(super) fn top(&self) -> Counts {
        self.top.counts()
    }

    /// What was asked of the others.
    pub(super) fn below(&self) -> Counts {
        self.below.counts()
    }

    fn counted(&self, inner: AnyRange<LoopFile>) -> Counted {
        let is_below = self.opened_top.swap(true, Ordering::Relaxed);
        Counted { inner, counters: Arc::clone(if is_below { &self.below } else { &self.top }) }
    }
}

impl Opener for CountedOpener {
    type Storage = Counted;

    async fn open(&self, name: &Path, access: Access) -> io::Result<Counted> {
        self.opener.open(name, access).await.map(|file| self.counted(file))
    }

    async fn create(&self, name: &Path, existing: Existing) -> io::Result<Counted> {
        self.opener.create(name, existing).await.map(|file| self.counted(file))
    }

    async fn identify(&self, name: &Path) -> io::Result<FileId> {
        self.opener.identify(name).await
    }
}

/// A file that counts.
#[derive(Clone, Debug)]
pub(super) struct Counted {
    inner: AnyRange<LoopFile>,
    counters: Arc<Counters>,
}

impl Storage for Counted {
    async fn read_at(&self, at: u64, into: Buffers) -> io::Result<Buffers> {
        let read = self.inner.read_at(at, into).await?;
        self.counters.read(read.len());
        Ok(read)
    }

    fn read_now(&self, at: u64, into: &mut [u8]) -> Option<io::Result<()>> {
        let outcome = self.inner.read_now(at, into)?;
        if outcome.is_ok() {
            self.counters.read(into.len());
        }
        Some(outcome)
    }

    async fn write_at(&self, at: u64, from: Buffers) -> io::Result<Buffers> {
        let written = self.inner.write_at(at, from).await?;
        self.counters.write(written.len());
        Ok(written)
    }

    async fn flush(&self, held: Held) -> io::Result<()> {
        self.inner.flush(held).await?;
        self.counters.flush();
        Ok(())
    }

    async fn set_len(&self, len: u64, held: Held) -> io::Result<()> {
        self.inner.set_len(len, held).await?;
        self.counters.change_length();
        Ok(())
    }

    async fn punch(&self, at: u64, len: u64, held: Held) -> io::Result<()> {
        self.inner.punch(at, len, held).await
    }

    async fn write_zeroes(&self, at: u64, len: u64, held: Held) -> io::Result<()> {
        self.inner.write_zeroes(at, len, held).await
    }

    async fn extent(&self, at: u64, len: u64) -> io::Result<Extent> {
        self.inner.extent(at, len).await
    }

    async fn length(&self) -> io::Result<u64> {
        self.inner.length().await
    }

    fn alignment(&self) -> Alignment {
        self.inner.alignment()
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn what_all_threads_have_asked_is_summed_also_when_they_have_ended() {
        let counters = Counters::default();
        let ask = || {
            counters.read(10);
            counters.read(20);
            counters.write(5);
            counters.flush();
            counters.change_length();
        };
        for _ in 0..3 {
            thread::scope(|scope| (0..4).for_each(|_| drop(scope.spawn(ask))));
        }
        let all = Counts {
            reads: 24,
            read_bytes: 360,
            writes: 12,
            written_bytes: 60,
            flushes: 12,
            length_changes: 12,
        };
        assert_eq!(counters.counts(), all);
    }
}
