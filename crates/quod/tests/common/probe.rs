//! Storage in memory that writes down what was asked of it, and fails what it is told to fail.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use quod_storage::{
    Access, Alignment, Buffers, Existing, Extent, FileId, Held, Memory, MemoryOpener, Opener, Storage,
};

/// One operation that was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    Read {
        at: u64,
        len: u64,
    },
    Write {
        at: u64,
        bytes: Vec<u8>,
    },
    Flush,
    SetLen(u64),
    /// A punch or a write of zeroes.
    Clear {
        at: u64,
        len: u64,
    },
    /// Holes are told from data.
    Extent {
        at: u64,
    },
}

impl Op {
    pub(crate) fn is_change(&self) -> bool {
        !matches!(self, Op::Read { .. } | Op::Extent { .. })
    }

    /// Whether it writes something of that range of the file.
    pub(crate) fn writes_in(&self, range: std::ops::Range<u64>) -> bool {
        matches!(self, Op::Write { at, bytes } if *at < range.end && at + bytes.len() as u64 > range.start)
    }

    /// Whether it writes the header, and if so, whether NEED_CHECK is set in it.
    pub(crate) fn need_check(&self) -> Option<bool> {
        match self {
            Op::Write { at: 0, bytes } => Some(bytes[16] & 2 != 0),
            _ => None,
        }
    }
}

type Judge = Box<dyn FnMut(&Op) -> Option<io::ErrorKind> + Send>;

/// What happened to one file, and what is to go wrong with it.
#[derive(Default)]
pub(crate) struct Record {
    ops: Mutex<Vec<Op>>,
    judge: Mutex<Option<Judge>>,
    /// Whether the file says that it takes whole blocks alone.
    pub(crate) coarse: AtomicBool,
    /// Reads that were asked for at once. None is answered so, so that each is on the record.
    pub(crate) asked_now: AtomicU64,
}

impl Record {
    /// Takes everything that happened since the last time.
    pub(crate) fn take(&self) -> Vec<Op> {
        std::mem::take(&mut *lock(&self.ops))
    }

    /// As [`take`](Record::take), without what changes nothing.
    pub(crate) fn take_changes(&self) -> Vec<Op> {
        self.take().into_iter().filter(Op::is_change).collect()
    }

    /// From now on `judge` says which operations fail, before they do anything.
    pub(crate) fn fail(&self, judge: impl FnMut(&Op) -> Option<io::ErrorKind> + Send + 'static) {
        *lock(&self.judge) = Some(Box::new(judge));
    }

    /// From now on nothing fails.
    pub(crate) fn heal(&self) {
        *lock(&self.judge) = None;
    }

    fn note(&self, op: Op) -> io::Result<()> {
        let verdict = lock(&self.judge).as_mut().and_then(|judge| judge(&op));
        lock(&self.ops).push(op);
        verdict.map_or(Ok(()), |kind| Err(kind.into()))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A file in memory with its record.
#[derive(Clone)]
pub(crate) struct Probe {
    inner: Memory,
    record: Arc<Record>,
}

impl Storage for Probe {
    async fn read_at(&self, at: u64, into: Buffers) -> io::Result<Buffers> {
        self.record.note(Op::Read { at, len: into.len() as u64 })?;
        self.inner.read_at(at, into).await
    }

    fn read_now(&self, _at: u64, _into: &mut [u8]) -> Option<io::Result<()>> {
        self.record.asked_now.fetch_add(1, Ordering::Relaxed);
        None
    }

    async fn write_at(&self, at: u64, from: Buffers) -> io::Result<Buffers> {
        let bytes = from.parts.iter().flat_map(|part| part.iter().copied()).collect();
        self.record.note(Op::Write { at, bytes })?;
        self.inner.write_at(at, from).await
    }

    async fn flush(&self, held: Held) -> io::Result<()> {
        self.record.note(Op::Flush)?;
        self.inner.flush(held).await
    }

    async fn set_len(&self, len: u64, held: Held) -> io::Result<()> {
        self.record.note(Op::SetLen(len))?;
        self.inner.set_len(len, held).await
    }

    async fn punch(&self, at: u64, len: u64, held: Held) -> io::Result<()> {
        self.record.note(Op::Clear { at, len })?;
        self.inner.punch(at, len, held).await
    }

    async fn write_zeroes(&self, at: u64, len: u64, held: Held) -> io::Result<()> {
        self.record.note(Op::Clear { at, len })?;
        self.inner.write_zeroes(at, len, held).await
    }

    async fn extent(&self, at: u64, len: u64) -> io::Result<Extent> {
        self.record.note(Op::Extent { at })?;
        self.inner.extent(at, len).await
    }

    async fn length(&self) -> io::Result<u64> {
        self.inner.length().await
    }

    fn alignment(&self) -> Alignment {
        let offset = if self.record.coarse.load(Ordering::Relaxed) { 4096 } else { 1 };
        Alignment { offset, ..self.inner.alignment() }
    }
}

/// Named files in memory, each with a record.
#[derive(Clone, Default)]
pub(crate) struct ProbeOpener {
    /// The same files without records.
    pub(crate) plain: MemoryOpener,
    records: Arc<Mutex<HashMap<PathBuf, Arc<Record>>>>,
}

impl ProbeOpener {
    pub(crate) fn record(&self, name: &str) -> Arc<Record> {
        lock(&self.records).entry(PathBuf::from(name)).or_default().clone()
    }

    fn wrap(&self, name: &Path, inner: Memory) -> Probe {
        let record = lock(&self.records).entry(name.to_owned()).or_default().clone();
        Probe { inner, record }
    }
}

impl Opener for ProbeOpener {
    type Storage = Probe;

    async fn open(&self, name: &Path, access: Access) -> io::Result<Probe> {
        Ok(self.wrap(name, self.plain.open(name, access).await?))
    }

    async fn create(&self, name: &Path, existing: Existing) -> io::Result<Probe> {
        Ok(self.wrap(name, self.plain.create(name, existing).await?))
    }

    async fn identify(&self, name: &Path) -> io::Result<FileId> {
        self.plain.identify(name).await
    }
}
