//! Metadata contexts: what block status can tell, and how both sides agree on it.
//!
//! Invariant: counts inside a message are believed only as far as the bytes reach.

use super::fields::Fields;
use super::{ContextId, DecodeError};

/// The context that every server with block status has: holes and zeroes, as `STATE_*` bits.
pub const BASE_ALLOCATION: &str = "base:allocation";
/// QEMU's context: how deep in the backing chain the bytes lie. 1 is the image itself, 0 nowhere.
pub const QEMU_ALLOCATION_DEPTH: &str = "qemu:allocation-depth";

/// [`BASE_ALLOCATION`]: no room is taken.
pub const STATE_HOLE: u64 = 1 << 0;
/// [`BASE_ALLOCATION`]: reads as zeroes.
pub const STATE_ZERO: u64 = 1 << 1;

/// The data of LIST_META_CONTEXT and SET_META_CONTEXT.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContextQuery<'a> {
    /// Of which export; empty is the default one.
    pub export: &'a str,
    /// Names of contexts; those that end with a colon ask, in a list, for everything below them.
    pub queries: Vec<&'a str>,
}

impl<'a> ContextQuery<'a> {
    /// Decodes the data of LIST_META_CONTEXT and SET_META_CONTEXT.
    ///
    /// # Errors
    /// When lengths inside disagree with the length of `data`, or a string is too long or not UTF-8.
    pub fn decode(data: &'a [u8]) -> Result<Self, DecodeError> {
        let mut fields = Fields::of(data);
        let len = fields.u32()? as usize;
        let export = fields.string(len)?;
        let count = fields.u32()?;
        let mut queries = Vec::new();
        for _ in 0..count {
            let len = fields.u32()? as usize;
            queries.push(fields.string(len)?);
        }
        fields.end()?;
        Ok(ContextQuery { export, queries })
    }

    /// Encodes it.
    ///
    /// # Panics
    /// When a string is 4 GiB or longer, or there are 4 Gi queries or more.
    pub fn encode(&self) -> Vec<u8> {
        let mut data = Vec::new();
        let number = |data: &mut Vec<u8>, number: usize| {
            data.extend(u32::try_from(number).expect("names are short and few").to_be_bytes());
        };
        number(&mut data, self.export.len());
        data.extend(self.export.as_bytes());
        number(&mut data, self.queries.len());
        for query in &self.queries {
            number(&mut data, query.len());
            data.extend(query.as_bytes());
        }
        data
    }
}

/// The data of a [`REP_META_CONTEXT`](super::REP_META_CONTEXT) reply: a context and the number that stands for it.
pub fn encode_context(id: ContextId, name: &str) -> Vec<u8> {
    [&id.0.to_be_bytes()[..], name.as_bytes()].concat()
}

/// Decodes the data of a [`REP_META_CONTEXT`](super::REP_META_CONTEXT) reply.
///
/// # Errors
/// When it is too short, or the name is too long or not UTF-8.
pub fn decode_context(data: &[u8]) -> Result<(ContextId, &str), DecodeError> {
    let mut fields = Fields::of(data);
    Ok((ContextId(fields.u32()?), fields.rest_as_string()?))
}

/// The payload of a BLOCK_STATUS request with [`CMD_FLAG_PAYLOAD_LEN`](super::CMD_FLAG_PAYLOAD_LEN): how much of the
/// disk it is about, and which contexts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatusSelection {
    /// Bytes of the range.
    pub length: u64,
    /// A part of what was agreed on.
    pub contexts: Vec<ContextId>,
}

impl StatusSelection {
    /// Decodes the payload.
    ///
    /// # Errors
    /// When it is too short or ends inside a number.
    pub fn decode(payload: &[u8]) -> Result<Self, DecodeError> {
        let mut fields = Fields::of(payload);
        let length = fields.u64()?;
        let mut contexts = Vec::with_capacity(fields.len() / 4);
        while fields.len() > 0 {
            contexts.push(ContextId(fields.u32()?));
        }
        Ok(StatusSelection { length, contexts })
    }

    /// Encodes it.
    pub fn encode(&self) -> Vec<u8> {
        let mut payload = self.length.to_be_bytes().to_vec();
        payload.extend(self.contexts.iter().flat_map(|id| id.0.to_be_bytes()));
        payload
    }
}
