//! A guest that asks for what bytes say, and knows what it must read.
//!
//! Role: requests out of a fuzzer's bytes, run against an image; where the disk's bytes are known, every read is compared.
//!
//! Invariant: what a request that failed may have touched is not compared any more.
//!
//! Absent on purpose: requests side by side, and faults; the target `requests` has those.

use arbitrary::{Result, Unstructured};
use quod::storage::{Buffer, Storage};
use quod::{Fua, Image, Room, block_on};

/// Requests of one run.
const MOST: usize = 40;
/// A disk that grows past so many bytes is not compared any more.
const MOST_KNOWN: usize = 4 << 20;
/// Bytes that one of them writes or reads.
const MOST_BYTES: u64 = 20_000;

/// What a guest may ask for.
#[derive(Debug)]
pub(crate) enum Request {
    Read { at: u64, len: u64 },
    Write { at: u64, len: u64, byte: u8, fua: Fua },
    Zero { at: u64, len: u64, room: Room },
    Discard { at: u64, len: u64 },
    Grow { by: u64 },
    Flush,
    Maintain,
}

/// The requests that `bytes` stand for, all inside a disk of `size` bytes.
pub(crate) fn requests(bytes: &[u8], size: u64) -> Vec<Request> {
    let mut bytes = Unstructured::new(bytes);
    let mut requests = Vec::new();
    while !bytes.is_empty() && requests.len() < MOST {
        requests.extend(request(&mut bytes, size));
    }
    requests
}

fn request(bytes: &mut Unstructured<'_>, size: u64) -> Result<Request> {
    let kind = bytes.int_in_range(0..=11u8)?;
    let near = u64::from(bytes.arbitrary::<u16>()?) * 16 + u64::from(kind);
    let at = if bytes.ratio(1, 8)? { size.saturating_sub(near) } else { near % size.max(1) };
    let len = (u64::from(bytes.arbitrary::<u8>()?) * if bytes.ratio(1, 2)? { 512 } else { 7 }).min(size - at);
    Ok(match kind {
        0 | 1 => Request::Read { at, len: len.min(MOST_BYTES) },
        2..=5 => {
            let fua = if bytes.ratio(1, 8)? { Fua::Yes } else { Fua::No };
            Request::Write { at, len: len.min(MOST_BYTES), byte: bytes.arbitrary()?, fua }
        }
        6 => Request::Zero { at, len, room: Room::GiveBack },
        7 => Request::Zero { at, len, room: Room::Keep },
        8 => Request::Discard { at, len },
        9 => Request::Grow { by: 512 * near },
        10 => Request::Flush,
        _ => Request::Maintain,
    })
}

/// What a disk may hold.
struct Disk {
    bytes: Vec<u8>,
    /// The same, with zeroes where something was discarded: either is right.
    discarded: Vec<u8>,
}

impl Disk {
    fn fill(&mut self, at: u64, len: u64, byte: u8) {
        let range = at as usize..(at + len) as usize;
        self.bytes[range.clone()].fill(byte);
        self.discarded[range].fill(byte);
    }

    fn grown(mut self, size: usize) -> Self {
        self.bytes.resize(size, 0);
        self.discarded.resize(size, 0);
        self
    }
}

/// A guest with its image.
pub(crate) struct Guest<S> {
    image: Image<S>,
    disk: Option<Disk>,
}

impl<S: Storage> Guest<S> {
    /// `contents` are all bytes of the disk, where they are known.
    pub(crate) fn of(image: Image<S>, contents: Option<Vec<u8>>) -> Self {
        Guest { image, disk: contents.map(|bytes| Disk { discarded: bytes.clone(), bytes }) }
    }

    pub(crate) fn size(&self) -> u64 {
        self.image.size()
    }

    /// Runs a request.
    ///
    /// # Errors
    /// What the image says.
    ///
    /// # Panics
    /// When a read gives what was never written.
    pub(crate) fn run(&mut self, request: &Request) -> quod::Result<()> {
        let done = self.ask(request);
        // What a request that failed has touched may hold anything.
        let Some(disk) = self.disk.as_mut().filter(|_| done.is_ok()) else {
            self.disk = None;
            return done;
        };
        match *request {
            Request::Write { at, len, byte, .. } => disk.fill(at, len, byte),
            Request::Zero { at, len, .. } => disk.fill(at, len, 0),
            Request::Discard { at, len } => disk.discarded[at as usize..(at + len) as usize].fill(0),
            Request::Grow { .. } => {
                let size = self.image.size() as usize;
                self.disk = self.disk.take().filter(|_| size <= MOST_KNOWN).map(|disk| disk.grown(size));
            }
            Request::Read { .. } | Request::Flush | Request::Maintain => {}
        }
        done
    }

    fn ask(&self, request: &Request) -> quod::Result<()> {
        block_on(async {
            match *request {
                Request::Read { at, len } => {
                    let bytes = self.image.read(at, Buffer::zeroed(len as usize)).await?;
                    self.compare(at, &bytes);
                    Ok(())
                }
                Request::Write { at, len, byte, fua } => {
                    self.image.write(at, Buffer::copy_of(&vec![byte; len as usize]), fua).await.map(drop)
                }
                Request::Zero { at, len, room } => self.image.write_zeroes(at, len, room, Fua::No).await,
                Request::Discard { at, len } => self.image.discard(at, len, Fua::No).await,
                Request::Grow { by } => match self.image.size().checked_add(by) {
                    Some(size) if i64::try_from(size).is_ok() => self.grow(size).await,
                    _ => Ok(()),
                },
                Request::Flush => self.image.flush().await,
                Request::Maintain => self.image.maintain().await,
            }
        })
    }

    /// Grows the disk; a size beyond its tables is no failure of the image.
    async fn grow(&self, size: u64) -> quod::Result<()> {
        match self.image.grow(size).await {
            Err(error) if error.kind() == quod::ErrorKind::InvalidArgument => Ok(()),
            done => done,
        }
    }

    fn compare(&self, at: u64, bytes: &[u8]) {
        let Some(disk) = &self.disk else { return };
        let range = at as usize..at as usize + bytes.len();
        let (one, other) = (&disk.bytes[range.clone()], &disk.discarded[range]);
        if bytes != one {
            let wrong = (0..bytes.len()).find(|&i| bytes[i] != one[i] && bytes[i] != other[i]);
            assert!(wrong.is_none(), "byte {wrong:?} from {at} on was never written");
        }
    }

    /// Compares the whole disk where it is known, and closes the image.
    ///
    /// # Errors
    /// What the close says.
    ///
    /// # Panics
    /// When the disk holds what was never written.
    pub(crate) fn close(&self) -> quod::Result<()> {
        if let Some(disk) = &self.disk {
            let bytes = block_on(self.image.read(0, Buffer::zeroed(disk.bytes.len())));
            self.compare(0, &bytes.expect("a sound image can be read"));
        }
        block_on(self.image.close())
    }
}
