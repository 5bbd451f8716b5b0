//! What is served: an image under a name, and what clients are told about it.
//!
//! Role: tells what the export can do, and holds what its requests share.
//!
//! Absent on purpose: deciding about requests (`plan.rs`), carrying them out (`perform.rs`), queues, sockets, and
//! finding it by its name (`exports.rs`).

pub(crate) mod answer;
pub(crate) mod line;
pub(crate) mod offload;
pub(crate) mod perform;
pub(crate) mod plan;
pub(crate) mod recycle;
pub(crate) mod status;

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use quod::ErrorKind;
use quod_nbd::{
    Info, MAX_PAYLOAD, Mode, TX_BLOCK_STATUS_PAYLOAD, TX_CAN_MULTI_CONN, TX_HAS_FLAGS, TX_READ_ONLY,
    TX_SEND_CACHE, TX_SEND_DF, TX_SEND_FAST_ZERO, TX_SEND_FLUSH, TX_SEND_FUA, TX_SEND_TRIM,
    TX_SEND_WRITE_ZEROES,
};

use self::offload::{Offload, Pace};
use self::recycle::Recycler;
use super::exports::Disk;
use super::options::ExportOptions;
use super::tally::Scribe;
use super::warnings::Warnings;

/// Any offset and length will do.
const MINIMUM_BLOCK: u32 = 1;

/// What clients should prefer, in bytes: a page. Not the cluster size, which some clients would take for the sector
/// size of their device, and which the kernel's cannot have above a page.
const PREFERRED_BLOCK: u32 = 4096;

/// One image on offer.
pub(crate) struct Export {
    pub(super) image: Disk,
    name: String,
    description: String,
    pub(super) read_only: bool,
    pub(super) offload: Offload,
    pub(super) reads: Pace,
    pub(super) writes: Pace,
    pub(super) recycler: Rc<Recycler>,
    pub(super) scribe: Rc<Scribe>,
    /// Warnings about requests that failed, by why they did: a full disk must not hide a broken one.
    pub(super) failures: RefCell<HashMap<ErrorKind, Warnings>>,
}

impl Export {
    pub(crate) fn new(image: Disk, options: ExportOptions, scribe: Rc<Scribe>) -> Rc<Self> {
        let ExportOptions { name, description, read_only } = options;
        Rc::new(Export {
            read_only: read_only || !image.is_writable(),
            image,
            name,
            description,
            offload: Offload::default(),
            reads: Pace::default(),
            writes: Pace::default(),
            recycler: Rc::default(),
            scribe,
            failures: RefCell::default(),
        })
    }

    /// Its own name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// A line for people.
    pub(crate) fn description(&self) -> &str {
        &self.description
    }

    /// Size of the disk in bytes.
    pub(crate) fn size(&self) -> u64 {
        self.image.size()
    }

    /// `TX_*` bits: what works in that mode.
    pub(crate) fn transmission_flags(&self, mode: Mode) -> u16 {
        let always = TX_HAS_FLAGS | TX_SEND_FLUSH | TX_SEND_FUA | TX_CAN_MULTI_CONN | TX_SEND_CACHE;
        let access = match self.read_only {
            true => TX_READ_ONLY,
            false => TX_SEND_TRIM | TX_SEND_WRITE_ZEROES | TX_SEND_FAST_ZERO,
        };
        let replies = match mode {
            Mode::Simple => 0,
            Mode::Structured => TX_SEND_DF,
            Mode::Extended => TX_SEND_DF | TX_BLOCK_STATUS_PAYLOAD,
        };
        always | access | replies
    }

    /// What sizes requests may have.
    pub(crate) fn block_size(&self) -> Info<'static> {
        Info::BlockSize { minimum: MINIMUM_BLOCK, preferred: PREFERRED_BLOCK, maximum: MAX_PAYLOAD }
    }
}
