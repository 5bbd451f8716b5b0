//! What the chunks of a reply hold.
//!
//! Invariant: a length inside a chunk is believed only as far as the bytes reach. The bytes of a READ never pass
//! through here: only the offset before them does.

use super::fields::Fields;
use super::{
    DecodeError, Errno, MAX_STRING, REPLY_BLOCK_STATUS, REPLY_BLOCK_STATUS_EXT, REPLY_ERROR, REPLY_ERROR_BIT,
    REPLY_ERROR_OFFSET, REPLY_NONE, REPLY_OFFSET_DATA, REPLY_OFFSET_HOLE,
};

/// Bytes before the data of a [`REPLY_OFFSET_DATA`] chunk: their offset.
pub const OFFSET_DATA_LEN: usize = 8;

/// The name that a connection gives to a metadata context.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ContextId(pub u32);

/// A run of a disk, and what a metadata context says of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StatusExtent {
    /// In bytes; never 0.
    pub length: u64,
    /// What that means is the context's to define.
    pub flags: u64,
}

/// The content of a chunk, data excepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Chunk<'a> {
    /// Success.
    None,
    /// Bytes of the disk from there on follow.
    OffsetData {
        /// On the disk.
        offset: u64,
    },
    /// The disk has zeroes there.
    OffsetHole {
        /// On the disk.
        offset: u64,
        /// In bytes.
        length: u32,
    },
    /// What the range is made of, from its beginning on.
    BlockStatus {
        /// Which context says so.
        context: ContextId,
        /// Run after run.
        extents: Vec<StatusExtent>,
    },
    /// A failure, of the whole request or from somewhere on.
    Error {
        /// For programs.
        errno: Errno,
        /// For people; may be empty.
        message: &'a str,
        /// Where it happened, on the disk.
        offset: Option<u64>,
    },
}

/// What goes before the data of a [`REPLY_OFFSET_DATA`] chunk: where on the disk they lie.
pub fn encode_offset_data(offset: u64) -> [u8; OFFSET_DATA_LEN] {
    offset.to_be_bytes()
}

impl<'a> Chunk<'a> {
    /// Decodes the payload of a chunk of that kind; of a [`REPLY_OFFSET_DATA`] chunk the first [`OFFSET_DATA_LEN`]
    /// bytes. Unknown errors decode to the error that their payload names.
    ///
    /// # Errors
    /// An unknown kind, lengths that disagree, no extents, and ranges of no length.
    pub fn decode(kind: u16, payload: &'a [u8]) -> Result<Self, DecodeError> {
        let mut fields = Fields::of(payload);
        let chunk = match kind {
            REPLY_NONE => Chunk::None,
            REPLY_OFFSET_DATA => Chunk::OffsetData { offset: fields.u64()? },
            REPLY_OFFSET_HOLE => {
                let (offset, length) = (fields.u64()?, fields.u32()?);
                Chunk::OffsetHole { offset, length: not_empty(length.into()).map(|_| length)? }
            }
            REPLY_BLOCK_STATUS => {
                let context = ContextId(fields.u32()?);
                let extents = extents(&mut fields, |fields| {
                    Ok(StatusExtent { length: fields.u32()?.into(), flags: fields.u32()?.into() })
                })?;
                Chunk::BlockStatus { context, extents }
            }
            REPLY_BLOCK_STATUS_EXT => {
                let (context, count) = (ContextId(fields.u32()?), fields.u32()?);
                // None said is none counted.
                if count != 0 && fields.len() as u64 != 16 * u64::from(count) {
                    return Err(DecodeError::Undefined {
                        field: "the count of extents",
                        value: count.into(),
                    });
                }
                let extents = extents(&mut fields, |fields| {
                    Ok(StatusExtent { length: fields.u64()?, flags: fields.u64()? })
                })?;
                Chunk::BlockStatus { context, extents }
            }
            error if error & REPLY_ERROR_BIT != 0 => {
                let (errno, len) = (Errno::from_wire(fields.u32()?), fields.u16()?);
                let message = fields.string(len.into())?;
                let offset = if error == REPLY_ERROR_OFFSET { Some(fields.u64()?) } else { None };
                if error != REPLY_ERROR && error != REPLY_ERROR_OFFSET {
                    fields.skip_rest();
                }
                Chunk::Error { errno, message, offset }
            }
            unknown => {
                return Err(DecodeError::Undefined { field: "the kind of a chunk", value: unknown.into() });
            }
        };
        fields.end()?;
        Ok(chunk)
    }

    /// The kind, as heads of chunks name it; `wide` tells extents in 64-bit numbers.
    pub fn kind(&self, wide: bool) -> u16 {
        match self {
            Chunk::None => REPLY_NONE,
            Chunk::OffsetData { .. } => REPLY_OFFSET_DATA,
            Chunk::OffsetHole { .. } => REPLY_OFFSET_HOLE,
            Chunk::BlockStatus { .. } if wide => REPLY_BLOCK_STATUS_EXT,
            Chunk::BlockStatus { .. } => REPLY_BLOCK_STATUS,
            Chunk::Error { offset: None, .. } => REPLY_ERROR,
            Chunk::Error { offset: Some(_), .. } => REPLY_ERROR_OFFSET,
        }
    }

    /// Encodes the payload. Messages are cut to what the protocol allows.
    ///
    /// # Panics
    /// When there are 4 Gi extents or more, or one does not fit 32 bits and `wide` is not set.
    pub fn encode(&self, wide: bool) -> Vec<u8> {
        match self {
            Chunk::None => Vec::new(),
            Chunk::OffsetData { offset } => encode_offset_data(*offset).to_vec(),
            Chunk::OffsetHole { offset, length } => {
                [&offset.to_be_bytes()[..], &length.to_be_bytes()].concat()
            }
            Chunk::BlockStatus { context, extents } => encode_extents(*context, extents, wide),
            Chunk::Error { errno, message, offset } => {
                let message = &message[..message.floor_char_boundary(MAX_STRING)];
                let len = u16::try_from(message.len()).expect("it was just cut");
                let mut payload = Vec::with_capacity(14 + message.len());
                payload.extend((*errno as u32).to_be_bytes());
                payload.extend(len.to_be_bytes());
                payload.extend(message.as_bytes());
                payload.extend(offset.iter().flat_map(|offset| offset.to_be_bytes()));
                payload
            }
        }
    }
}

fn not_empty(length: u64) -> Result<u64, DecodeError> {
    match length {
        0 => Err(DecodeError::Undefined { field: "the length of a range", value: 0 }),
        length => Ok(length),
    }
}

fn extents(
    fields: &mut Fields<'_>,
    mut next: impl FnMut(&mut Fields<'_>) -> Result<StatusExtent, DecodeError>,
) -> Result<Vec<StatusExtent>, DecodeError> {
    let mut extents = Vec::with_capacity(fields.len() / 8);
    while extents.is_empty() || fields.len() > 0 {
        let extent = next(fields)?;
        not_empty(extent.length)?;
        extents.push(extent);
    }
    Ok(extents)
}

fn encode_extents(context: ContextId, extents: &[StatusExtent], wide: bool) -> Vec<u8> {
    let mut payload = Vec::with_capacity(8 + 16 * extents.len());
    payload.extend(context.0.to_be_bytes());
    if wide {
        let count = u32::try_from(extents.len()).expect("there are few extents");
        payload.extend(count.to_be_bytes());
    }
    for &StatusExtent { length, flags } in extents {
        if wide {
            payload.extend(length.to_be_bytes());
            payload.extend(flags.to_be_bytes());
        } else {
            let narrow = |number: u64| u32::try_from(number).expect("cut to 32 bits before");
            payload.extend(narrow(length).to_be_bytes());
            payload.extend(narrow(flags).to_be_bytes());
        }
    }
    payload
}
