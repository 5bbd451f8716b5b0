//! Owned, aligned memory for I/O.
//!
//! Role: a [`Buffer`] owns a byte range of a shared allocation, can be split and joined again without copying, and
//! can be given to the kernel for as long as it likes. [`Rest`] gives many to an event loop.
//!
//! Invariant: the ranges of all buffers on one allocation are disjoint, so each may be written through `&mut`.
//! Every byte is initialised: allocations start as zeroes.
//!
//! Absent on purpose: growing, pooling, and uninitialised memory. The only unsafe code of the project is here.

#![allow(unsafe_code, reason = "splitting one allocation into disjoint owned ranges needs raw pointers")]

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::ffi::c_void;
use std::fmt;
use std::mem::MaybeUninit;
use std::ops::{Deref, DerefMut};
use std::ptr::{self, NonNull};
use std::slice;
use std::sync::Arc;

use compio::buf::{IoBuf, IoBufMut, IoVectoredBuf, IoVectoredBufMut, SetLen};
use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous, munmap};

use crate::Buffers;
use crate::calls::MAX_VECTORS;
use crate::ring::Counted;

/// What every allocation's address is a multiple of, in bytes: enough for O_DIRECT on any common device.
pub const MEMORY_ALIGNMENT: usize = 4096;

/// From this many bytes on, memory comes from the kernel page by page, as it is touched: a buffer costs nothing before its
/// bytes arrive, and goes back at once.
const MAPPED_FROM: usize = 256 << 10;

/// An allocation, shared by the buffers that were split from it.
struct Region {
    start: NonNull<u8>,
    layout: Layout,
}

// SAFETY: a Region is only a pointer to memory that it owns; who may touch which bytes is ruled by Buffer.
unsafe impl Send for Region {}
// SAFETY: as above; `&Region` gives no access to the bytes.
unsafe impl Sync for Region {}

impl Region {
    fn zeroed(len: usize) -> Self {
        let layout =
            Layout::from_size_align(len.max(1), MEMORY_ALIGNMENT).expect("an I/O buffer below isize::MAX");
        let memory = if layout.size() < MAPPED_FROM {
            // SAFETY: the layout's size is at least 1.
            unsafe { alloc_zeroed(layout) }
        } else {
            map(layout.size())
        };
        let Some(start) = NonNull::new(memory) else { handle_alloc_error(layout) };
        Region { start, layout }
    }
}

/// Pages of zeroes; null when there are none.
fn map(len: usize) -> *mut u8 {
    let (access, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE);
    // SAFETY: the kernel chooses the place, so no memory that is in use becomes another.
    let mapped = unsafe { mmap_anonymous(ptr::null_mut(), len, access, flags) };
    mapped.map_or(ptr::null_mut(), <*mut c_void>::cast)
}

impl Drop for Region {
    fn drop(&mut self) {
        if self.layout.size() < MAPPED_FROM {
            // SAFETY: `start` came from `alloc_zeroed` with this layout, and the last owner is going.
            unsafe { dealloc(self.start.as_ptr(), self.layout) }
            return;
        }
        // SAFETY: `start` came from `map` with this length, and the last owner is going.
        let unmapped = unsafe { munmap(self.start.as_ptr().cast(), self.layout.size()) };
        // Refused only to a process that has too many mappings. The pages are lost then; a panic here would cost more.
        let _lost: bool = unmapped.is_err();
    }
}

/// An owned byte range of an aligned allocation. Derefs to `[u8]`.
///
/// The start of a new buffer is aligned to [`MEMORY_ALIGNMENT`]; splitting keeps what alignment the place of the cut
/// has.
pub struct Buffer {
    region: Arc<Region>,
    offset: usize,
    len: usize,
}

impl Buffer {
    /// Allocates `len` bytes of zeroes.
    ///
    /// # Panics
    /// When `len` is near `isize::MAX`; callers bound it long before.
    pub fn zeroed(len: usize) -> Self {
        Buffer { region: Arc::new(Region::zeroed(len)), offset: 0, len }
    }

    /// Allocates a copy of `bytes`.
    pub fn copy_of(bytes: &[u8]) -> Self {
        let mut buffer = Buffer::zeroed(bytes.len());
        buffer.copy_from_slice(bytes);
        buffer
    }

    /// Cuts the first `at` bytes off and returns them; `self` keeps the rest. Nothing is copied.
    ///
    /// # Panics
    /// When `at` is past the end.
    #[must_use = "the bytes leave self"]
    pub fn split_to(&mut self, at: usize) -> Buffer {
        assert!(at <= self.len, "cut at {at} of a buffer of {}", self.len);
        let head = Buffer { region: Arc::clone(&self.region), offset: self.offset, len: at };
        self.offset += at;
        self.len -= at;
        head
    }

    /// Puts back together what [`split_to`](Buffer::split_to) cut apart: `next` follows `self`.
    ///
    /// # Panics
    /// When `next` does not follow `self` in the same allocation.
    pub fn join(&mut self, next: Buffer) {
        assert!(
            Arc::ptr_eq(&self.region, &next.region) && self.offset + self.len == next.offset,
            "only neighbours can be joined"
        );
        self.len += next.len;
    }
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: offset + len lies within the allocation by construction.
        let start = unsafe { self.region.start.add(self.offset) };
        // SAFETY: the range is initialised and belongs to this buffer alone; the region lives as long as `self`.
        unsafe { slice::from_raw_parts(start.as_ptr(), self.len) }
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: offset + len lies within the allocation by construction.
        let start = unsafe { self.region.start.add(self.offset) };
        // SAFETY: as in `deref`; `&mut self` makes this the only access to the range.
        unsafe { slice::from_raw_parts_mut(start.as_ptr(), self.len) }
    }
}

/// What an operation of an event loop has yet to do of a request.
pub(crate) struct Rest {
    pub(crate) buffers: Buffers,
    /// Bytes that are done.
    pub(crate) done: usize,
    /// Counts as long as the kernel may work on it.
    pub(crate) _counted: Counted,
}

impl Rest {
    pub(crate) fn is_empty(&self) -> bool {
        self.done >= self.buffers.len()
    }
}

/// The first slice of it.
impl IoBuf for Rest {
    fn as_init(&self) -> &[u8] {
        self.iter_slice().next().unwrap_or_default()
    }
}

impl IoBufMut for Rest {
    fn as_uninit(&mut self) -> &mut [MaybeUninit<u8>] {
        self.iter_uninit_slice().next().unwrap_or_default()
    }
}

/// As much of it as one call takes.
impl IoVectoredBuf for Rest {
    fn iter_slice(&self) -> impl Iterator<Item = &[u8]> {
        self.buffers.slices(self.done, usize::MAX).take(MAX_VECTORS)
    }
}

impl IoVectoredBufMut for Rest {
    fn iter_uninit_slice(&mut self) -> impl Iterator<Item = &mut [MaybeUninit<u8>]> {
        let slices = self.buffers.slices_mut(self.done, usize::MAX).take(MAX_VECTORS);
        slices.map(|slice| {
            let (start, len) = (slice.as_mut_ptr().cast::<MaybeUninit<u8>>(), slice.len());
            // SAFETY: the same bytes, under the same borrow. Only compio has this crate's word for them, and it
            // lets the kernel fill them.
            unsafe { slice::from_raw_parts_mut(start, len) }
        })
    }
}

impl SetLen for Rest {
    /// All bytes are initialised from the beginning, so there is nothing to note.
    unsafe fn set_len(&mut self, _len: usize) {}
}

impl fmt::Debug for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Buffer({} bytes)", self.len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_buffer_is_aligned_zeroes() {
        let buffer = Buffer::zeroed(10_000);
        assert_eq!(buffer.as_ptr() as usize % MEMORY_ALIGNMENT, 0);
        assert!(buffer.iter().all(|&byte| byte == 0));
        assert!(Buffer::zeroed(0).is_empty());
    }

    #[test]
    fn a_large_buffer_takes_memory_only_where_it_is_touched() {
        const LARGE: usize = 256 << 20;
        let resident = || {
            let pages = std::fs::read_to_string("/proc/self/statm").expect("Linux tells");
            pages.split(' ').nth(1).and_then(|pages| pages.parse::<usize>().ok()).expect("a number") * 4096
        };
        let before = resident();
        let mut buffer = Buffer::zeroed(LARGE);
        (buffer[0], buffer[LARGE - 1]) = (1, 2);
        assert_eq!((buffer[0], buffer[LARGE / 2], buffer[LARGE - 1]), (1, 0, 2));
        assert_eq!(buffer.as_ptr() as usize % MEMORY_ALIGNMENT, 0);
        assert!(resident() < before + LARGE / 4);
    }

    #[test]
    fn parts_are_disjoint_and_join_to_the_whole() {
        let mut tail = Buffer::copy_of(b"one two three");
        let mut one = tail.split_to(4);
        let two = tail.split_to(4);
        one[0] = b'O';
        tail[0] = b'T';
        assert_eq!((&*one, &*two, &*tail), (&b"One "[..], &b"two "[..], &b"Three"[..]));
        one.join(two);
        one.join(tail);
        assert_eq!(&*one, b"One two Three");
    }

    #[test]
    fn parts_outlive_the_whole_and_cross_threads() {
        let mut whole = Buffer::copy_of(&[7; 8192]);
        let mut head = whole.split_to(4096);
        drop(whole);
        let head = std::thread::spawn(move || {
            head[4095] = 8;
            head
        });
        let head = head.join().expect("the thread only writes its part");
        assert_eq!((head[0], head[4095]), (7, 8));
    }

    #[test]
    #[should_panic(expected = "neighbours")]
    fn strangers_do_not_join() {
        Buffer::zeroed(8).join(Buffer::zeroed(8));
    }
}
