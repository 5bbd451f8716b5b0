//! What is served: an image under a name, and what clients are told about it.
//!
//! Role: tells what the export can do, and decides which requests are carried out.
//!
//! Invariant: what [`Export::plan`] lets through lies within the disk and is allowed; nothing that changes the disk
//! passes on a read-only export.
//!
//! Absent on purpose: doing it (`perform.rs`), queues, sockets, and several exports in one server.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use quod::{ErrorKind, Fua, Image, Room};
use quod_storage::FileStorage;

use super::offload::{Offload, Pace};
use super::recycle::Recycler;
use super::warnings::Warnings;
use quod_nbd::{
    CMD_FLAG_FUA, CMD_FLAG_NO_HOLE, Command, Errno, Info, MAX_PAYLOAD, Request, TX_CAN_MULTI_CONN,
    TX_HAS_FLAGS, TX_READ_ONLY, TX_SEND_FLUSH, TX_SEND_FUA, TX_SEND_TRIM, TX_SEND_WRITE_ZEROES,
};

/// Any offset and length will do.
const MINIMUM_BLOCK: u32 = 1;

/// What clients should prefer, in bytes: a page. Not the cluster size, which some clients would take for the sector
/// size of their device, and which the kernel's cannot have above a page.
const PREFERRED_BLOCK: u32 = 4096;

/// One image on offer.
pub(crate) struct Export {
    pub(super) image: Image<FileStorage>,
    name: String,
    description: String,
    pub(super) read_only: bool,
    pub(super) offload: Offload,
    pub(super) reads: Pace,
    pub(super) writes: Pace,
    pub(super) recycler: Rc<Recycler>,
    /// Warnings about requests that failed, by why they did: a full disk must not hide a broken one.
    pub(super) failures: RefCell<HashMap<ErrorKind, Warnings>>,
}

/// A request that can be carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Plan {
    Read,
    Write(Fua),
    WriteZeroes(Room, Fua),
    Trim(Fua),
    Flush,
    /// Of no length: done before it has begun.
    Nothing,
}

impl Export {
    pub(crate) fn new(
        image: Image<FileStorage>,
        name: String,
        description: String,
        read_only: bool,
    ) -> Rc<Self> {
        Rc::new(Export {
            read_only: read_only || !image.is_writable(),
            image,
            name,
            description,
            offload: Offload::default(),
            reads: Pace::default(),
            writes: Pace::default(),
            recycler: Rc::default(),
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

    /// Whether a client may call it by `name`: its own name, or the empty one of the default export.
    pub(crate) fn answers_to(&self, name: &str) -> bool {
        name.is_empty() || name == self.name
    }

    /// Size of the disk in bytes.
    pub(crate) fn size(&self) -> u64 {
        self.image.size()
    }

    /// `TX_*` bits: what works.
    pub(crate) fn transmission_flags(&self) -> u16 {
        let always = TX_HAS_FLAGS | TX_SEND_FLUSH | TX_SEND_FUA | TX_CAN_MULTI_CONN;
        always | if self.read_only { TX_READ_ONLY } else { TX_SEND_TRIM | TX_SEND_WRITE_ZEROES }
    }

    /// What sizes requests may have.
    pub(crate) fn block_size(&self) -> Info<'static> {
        Info::BlockSize { minimum: MINIMUM_BLOCK, preferred: PREFERRED_BLOCK, maximum: MAX_PAYLOAD }
    }

    /// Decides what to do about a request, the disconnect apart.
    ///
    /// # Errors
    /// What the protocol asks to answer: `Perm` for a change of a read-only export, `Inval` for unknown commands and
    /// flags, too long payloads and reads past the end, `NoSpc` for writes past the end.
    pub(crate) fn plan(&self, request: &Request) -> Result<Plan, Errno> {
        let known_flags = match request.command {
            Command::WriteZeroes => CMD_FLAG_FUA | CMD_FLAG_NO_HOLE,
            // Clients are known to set FUA on anything, and may.
            _ => CMD_FLAG_FUA,
        };
        let fua = if request.flags & CMD_FLAG_FUA == 0 { Fua::No } else { Fua::Yes };
        let (plan, past_the_end) = match request.command {
            Command::Read => (Plan::Read, Errno::Inval),
            Command::Write => (Plan::Write(fua), Errno::NoSpc),
            Command::WriteZeroes if request.flags & CMD_FLAG_NO_HOLE == 0 => {
                (Plan::WriteZeroes(Room::GiveBack, fua), Errno::NoSpc)
            }
            Command::WriteZeroes => (Plan::WriteZeroes(Room::Keep, fua), Errno::NoSpc),
            Command::Trim => (Plan::Trim(fua), Errno::Inval),
            Command::Flush => (Plan::Flush, Errno::Inval),
            _ => return Err(Errno::Inval),
        };
        let end = request.offset.checked_add(request.length);
        match plan {
            _ if request.flags & !known_flags != 0 => Err(Errno::Inval),
            Plan::Flush if request.offset != 0 || request.length != 0 => Err(Errno::Inval),
            Plan::Flush => Ok(plan),
            Plan::Write(_) | Plan::WriteZeroes(..) | Plan::Trim(_) if self.read_only => Err(Errno::Perm),
            Plan::Read | Plan::Write(_) if request.length > MAX_PAYLOAD.into() => Err(Errno::Inval),
            _ if end.is_none_or(|end| end > self.size()) => Err(past_the_end),
            _ if request.length == 0 && fua == Fua::No => Ok(Plan::Nothing),
            _ => Ok(plan),
        }
    }
}
