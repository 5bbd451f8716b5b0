//! Which requests are carried out, and which refused.
//!
//! Invariant: what [`Export::plan`] lets through lies within the disk and is allowed; nothing that changes the disk
//! passes on a read-only export; a flag passes only with the commands that it has a meaning for, FUA excepted.
//!
//! Absent on purpose: carrying them out (`perform.rs`).

use quod::{Fua, Room};
use quod_nbd::{
    CMD_FLAG_DF, CMD_FLAG_FAST_ZERO, CMD_FLAG_FUA, CMD_FLAG_NO_HOLE, CMD_FLAG_PAYLOAD_LEN, CMD_FLAG_REQ_ONE,
    Command, Errno, MAX_PAYLOAD, Mode, Request, StatusExtent, StatusSelection,
};

use super::Export;
use super::answer::Refusal;
use super::status::{Extents, MAX_EXTENTS};
use crate::nbd::session::{Context, Contexts, Session};

/// The longest payload of a BLOCK_STATUS that is looked at, in bytes: every context named several times.
const MAX_SELECTION: u64 = 256;

/// A request that can be carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Plan {
    Read(Fragments),
    Write(Fua),
    WriteZeroes(Room, Fua),
    Trim(Fua),
    Flush,
    Cache,
    /// Of a range that the request names, or its payload.
    Status {
        length: u64,
        contexts: Contexts,
        extents: Extents,
    },
    /// A BLOCK_STATUS whose payload has yet to be read.
    Selection,
    /// Of no length: done before it has begun.
    Nothing,
}

/// Whether a READ may be answered in pieces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fragments {
    Allowed,
    Forbidden,
}

impl Plan {
    /// Bytes that the answer, or the payload, of a request takes.
    pub(crate) fn memory(self, request: &Request) -> usize {
        match self {
            // Bounded by `plan`.
            Plan::Read(_) | Plan::Write(_) => request.length as usize,
            Plan::Status { .. } | Plan::Selection => {
                MAX_EXTENTS * size_of::<StatusExtent>() * Context::ALL.len()
            }
            _ => 0,
        }
    }
}

impl Export {
    /// Decides what to do about a request, the disconnect apart.
    ///
    /// # Errors
    /// What the protocol asks to answer: `Perm` for a change of a read-only export, `Inval` for unknown commands and
    /// flags, too long payloads and reads past the end, `NoSpc` for writes past the end, `NotSup` for zeroes that would
    /// not be fast.
    pub(crate) fn plan(&self, request: &Request, session: &Session) -> Result<Plan, Refusal> {
        check_flags(request, session.mode)?;
        let Request { flags, command, offset, length, .. } = *request;
        let fua = if flags & CMD_FLAG_FUA == 0 { Fua::No } else { Fua::Yes };
        let plan = match command {
            Command::Read if session.mode == Mode::Simple || flags & CMD_FLAG_DF != 0 => {
                Plan::Read(Fragments::Forbidden)
            }
            Command::Read => Plan::Read(Fragments::Allowed),
            Command::Write => Plan::Write(fua),
            Command::WriteZeroes if flags & CMD_FLAG_NO_HOLE == 0 => Plan::WriteZeroes(Room::GiveBack, fua),
            Command::WriteZeroes => Plan::WriteZeroes(Room::Keep, fua),
            Command::Trim => Plan::Trim(fua),
            Command::Flush if offset != 0 || length != 0 => {
                return Err(Refusal::new(Errno::Inval, "a flush has neither offset nor length"));
            }
            Command::Flush => return Ok(Plan::Flush),
            Command::Cache => Plan::Cache,
            Command::BlockStatus => return self.plan_status(request, session.contexts),
            Command::Disconnect | Command::Unknown(_) => {
                return Err(Refusal::new(Errno::Inval, "the command is not known here"));
            }
        };
        let changes = matches!(plan, Plan::Write(_) | Plan::WriteZeroes(..) | Plan::Trim(_));
        if changes && self.read_only {
            return Err(Refusal::new(Errno::Perm, "the export is read-only"));
        }
        if matches!(plan, Plan::Read(_) | Plan::Write(_)) && length > MAX_PAYLOAD.into() {
            return Err(Refusal::new(Errno::Inval, "more than 32 MiB at a time"));
        }
        let past_the_end =
            if matches!(plan, Plan::Write(_) | Plan::WriteZeroes(..)) { Errno::NoSpc } else { Errno::Inval };
        self.check_range(offset, length, past_the_end)?;
        if flags & CMD_FLAG_FAST_ZERO != 0 && !self.zeroes_fast(plan, offset, length) {
            return Err(Refusal::new(Errno::NotSup, "zeroes here would take as long as a write"));
        }
        // FUA makes a change of no bytes a flush.
        Ok(if length == 0 && (fua == Fua::No || !changes) { Plan::Nothing } else { plan })
    }

    fn check_range(&self, offset: u64, length: u64, past_the_end: Errno) -> Result<(), Refusal> {
        match offset.checked_add(length) {
            Some(end) if end <= self.size() => Ok(()),
            _ => Err(Refusal::new(past_the_end, "the range reaches past the end of the disk")),
        }
    }

    fn plan_status(&self, request: &Request, contexts: Contexts) -> Result<Plan, Refusal> {
        if contexts.is_empty() {
            return Err(Refusal::new(Errno::Inval, "no metadata context was agreed on"));
        }
        if request.flags & CMD_FLAG_PAYLOAD_LEN != 0 {
            return match request.length <= MAX_SELECTION {
                true => Ok(Plan::Selection),
                false => Err(Refusal::new(Errno::Inval, "the payload names more contexts than there are")),
            };
        }
        self.plan_status_of(request, request.length, contexts)
    }

    /// Plans a BLOCK_STATUS by its payload.
    ///
    /// # Errors
    /// `Inval` when the payload is malformed or names what was not agreed on, or the range is empty or past the end.
    pub(crate) fn plan_selection(
        &self,
        request: &Request,
        payload: &[u8],
        agreed: Contexts,
    ) -> Result<Plan, Refusal> {
        let selection = StatusSelection::decode(payload)
            .map_err(|_malformed| Refusal::new(Errno::Inval, "the payload is no selection of contexts"))?;
        match agreed.select(&selection.contexts) {
            Some(contexts) if !contexts.is_empty() => {
                self.plan_status_of(request, selection.length, contexts)
            }
            _ => {
                Err(Refusal::new(Errno::Inval, "the payload names a context that was not agreed on, or none"))
            }
        }
    }

    fn plan_status_of(&self, request: &Request, length: u64, contexts: Contexts) -> Result<Plan, Refusal> {
        self.check_range(request.offset, length, Errno::Inval)?;
        if length == 0 {
            return Err(Refusal::new(Errno::Inval, "the status of no bytes"));
        }
        let extents = if request.flags & CMD_FLAG_REQ_ONE == 0 { Extents::Many } else { Extents::One };
        Ok(Plan::Status { length, contexts, extents })
    }

    /// Whether zeroes there come from tables and holes alone, not from writing bytes: always where there is nothing
    /// below that a part of a cluster would have to be filled with.
    fn zeroes_fast(&self, plan: Plan, offset: u64, length: u64) -> bool {
        if matches!(plan, Plan::WriteZeroes(Room::Keep, _)) {
            return false;
        }
        let Some(cluster) = self.image.cluster_size().filter(|_| self.image.chain().count() > 1) else {
            return true;
        };
        let end = offset + length;
        offset.is_multiple_of(cluster) && (end.is_multiple_of(cluster) || end == self.size())
    }
}

/// Refuses flags that the command has no use for.
fn check_flags(request: &Request, mode: Mode) -> Result<(), Refusal> {
    let known = match request.command {
        Command::WriteZeroes => CMD_FLAG_NO_HOLE | CMD_FLAG_FAST_ZERO,
        Command::Read if mode != Mode::Simple => CMD_FLAG_DF,
        Command::Write if mode == Mode::Extended => CMD_FLAG_PAYLOAD_LEN,
        Command::BlockStatus if mode == Mode::Extended => CMD_FLAG_REQ_ONE | CMD_FLAG_PAYLOAD_LEN,
        Command::BlockStatus => CMD_FLAG_REQ_ONE,
        _ => 0,
    };
    // Clients are known to set FUA on anything, and may.
    match request.flags & !(known | CMD_FLAG_FUA) {
        0 => Ok(()),
        _ => Err(Refusal::new(Errno::Inval, "the command has no such flag")),
    }
}
