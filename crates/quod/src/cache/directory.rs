//! Finds a slice by its index: a tree of arrays, made on demand and pruned when empty.
//!
//! Role: the dense index that a hit reads through atomics. The lowest level has a slot a slice; the levels above
//! exist only where something below them does.
//!
//! Invariants: a node but the root has something below it; nodes change only under the cache's structure lock, so
//! `insert` and `remove` never meet each other, and readers meet either state of a slot.
//!
//! Absent on purpose: keys other than small integers, hashing, and any policy.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use arc_swap::ArcSwapOption;

use super::Slice;

/// log2 of the slots of a node below the root.
const NODE_BITS: u32 = 9;
/// log2 of the most slots that the root may have: it is never given back.
const MAX_ROOT_BITS: u32 = 12;

type Slots<T> = Box<[ArcSwapOption<T>]>;

struct Node {
    below: Below,
    occupied: AtomicUsize,
}

enum Below {
    Nodes(Slots<Node>),
    Slices(Slots<Slice>),
}

/// Slices of one level of tables, by index.
pub(super) struct Directory {
    root: Node,
    /// Levels under the root.
    depth: u32,
    slices: AtomicUsize,
    bytes: AtomicUsize,
}

fn empty_slots<T>(slots: usize) -> Slots<T> {
    (0..slots).map(|_| ArcSwapOption::empty()).collect()
}

impl Node {
    fn new(slots: usize, depth: u32) -> Self {
        let below =
            if depth == 0 { Below::Slices(empty_slots(slots)) } else { Below::Nodes(empty_slots(slots)) };
        Node { below, occupied: AtomicUsize::new(0) }
    }

    const fn bytes_with(slots: usize) -> usize {
        size_of::<Node>() + slots * size_of::<usize>()
    }

    fn find<R>(&self, index: u64, depth: u32, look: impl FnOnce(&Arc<Slice>) -> R) -> Option<R> {
        match &self.below {
            Below::Slices(slots) => slots.get(slot_of(index, 0, slots.len()))?.load().as_ref().map(look),
            Below::Nodes(slots) => {
                slots.get(slot_of(index, depth, slots.len()))?.load().as_ref()?.find(index, depth - 1, look)
            }
        }
    }

    /// Returns the bytes of the nodes that had to be made.
    fn insert(&self, index: u64, depth: u32, slice: Arc<Slice>) -> usize {
        match &self.below {
            Below::Slices(slots) => {
                let before = slots[slot_of(index, 0, slots.len())].swap(Some(slice));
                assert!(before.is_none(), "a slice is evicted before another takes its slot");
                self.occupied.fetch_add(1, Relaxed);
                0
            }
            Below::Nodes(slots) => {
                let child = &slots[slot_of(index, depth, slots.len())];
                if let Some(node) = &*child.load() {
                    return node.insert(index, depth - 1, slice);
                }
                let node = Node::new(1 << NODE_BITS, depth - 1);
                let made = Node::bytes_with(1 << NODE_BITS) + node.insert(index, depth - 1, slice);
                child.store(Some(Arc::new(node)));
                self.occupied.fetch_add(1, Relaxed);
                made
            }
        }
    }

    /// Returns the bytes of the nodes that went because nothing was left below them.
    fn remove(&self, index: u64, depth: u32) -> usize {
        match &self.below {
            Below::Slices(slots) => {
                let gone = slots[slot_of(index, 0, slots.len())].swap(None);
                assert!(gone.is_some(), "only what is resident is removed");
                self.occupied.fetch_sub(1, Relaxed);
                0
            }
            Below::Nodes(slots) => {
                let child = &slots[slot_of(index, depth, slots.len())];
                let node = child.load_full().expect("nodes lead to every resident slice");
                let freed = node.remove(index, depth - 1);
                if node.occupied.load(Relaxed) > 0 {
                    return freed;
                }
                child.store(None);
                self.occupied.fetch_sub(1, Relaxed);
                freed + Node::bytes_with(1 << NODE_BITS)
            }
        }
    }
}

/// Which slot leads to `index` in a node with `depth` levels under it. The root may have fewer slots than its bits.
fn slot_of(index: u64, depth: u32, slots: usize) -> usize {
    let slot = index >> (NODE_BITS * depth);
    if slots == 1 << NODE_BITS { (slot & ((1 << NODE_BITS) - 1)) as usize } else { slot as usize }
}

impl Directory {
    /// Makes room for indices below `slices`.
    pub(super) fn new(slices: u64) -> Self {
        let bits = u64::BITS - slices.saturating_sub(1).leading_zeros();
        let depth = bits.saturating_sub(MAX_ROOT_BITS).div_ceil(NODE_BITS).max(u32::from(bits > NODE_BITS));
        let slots = slices.div_ceil(1 << (NODE_BITS * depth)).max(1) as usize;
        let bytes = Node::bytes_with(slots);
        Directory {
            root: Node::new(slots, depth),
            depth,
            slices: AtomicUsize::new(0),
            bytes: AtomicUsize::new(bytes),
        }
    }

    /// Shows the slice of that index to `look`, when it is resident.
    pub(super) fn find<R>(&self, index: u64, look: impl FnOnce(&Arc<Slice>) -> R) -> Option<R> {
        self.root.find(index, self.depth, look)
    }

    /// Puts a slice into its empty slot. Returns the bytes that the directory grew by.
    ///
    /// # Panics
    /// When the slot is taken, or past the end.
    pub(super) fn insert(&self, index: u64, slice: Arc<Slice>) -> usize {
        let grown = self.root.insert(index, self.depth, slice);
        self.slices.fetch_add(1, Relaxed);
        self.bytes.fetch_add(grown, Relaxed);
        grown
    }

    /// Empties a slot. Returns the bytes that the directory shrank by.
    ///
    /// # Panics
    /// When the slot is empty.
    pub(super) fn remove(&self, index: u64) -> usize {
        let freed = self.root.remove(index, self.depth);
        self.slices.fetch_sub(1, Relaxed);
        self.bytes.fetch_sub(freed, Relaxed);
        freed
    }

    /// Slices that are resident.
    pub(super) fn len(&self) -> usize {
        self.slices.load(Relaxed)
    }

    /// Bytes of all nodes.
    pub(super) fn bytes(&self) -> usize {
        self.bytes.load(Relaxed)
    }
}
