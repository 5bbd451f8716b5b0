//! What options and their replies say about exports.
//!
//! Invariant: a length inside the data is believed only as far as the data reach.

use super::DecodeError;
use super::fields::Fields;
use super::{EXPORT_NAME_REPLY_LEN, INFO_BLOCK_SIZE, INFO_DESCRIPTION, INFO_EXPORT, INFO_NAME};

/// The data of INFO and GO.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExportQuery<'a> {
    /// Which export; empty is the default one.
    pub name: &'a str,
    /// `INFO_*` numbers that the client would like to hear.
    pub wanted: Vec<u16>,
}

impl<'a> ExportQuery<'a> {
    /// Decodes the data of INFO and GO.
    ///
    /// # Errors
    /// When the lengths inside disagree with the length of `data`, or the name is too long or not UTF-8.
    pub fn decode(data: &'a [u8]) -> Result<Self, DecodeError> {
        let mut fields = Fields::of(data);
        let len = fields.u32()? as usize;
        let name = fields.string(len)?;
        let count = usize::from(fields.u16()?);
        let wanted = fields.bytes(2 * count)?;
        fields.end()?;
        let wanted = wanted.as_chunks().0.iter().map(|&number| u16::from_be_bytes(number)).collect();
        Ok(ExportQuery { name, wanted })
    }

    /// Encodes it.
    ///
    /// # Panics
    /// When the name is 4 GiB or longer, or more than 65,535 pieces of information are wanted.
    pub fn encode(&self) -> Vec<u8> {
        let len = u32::try_from(self.name.len()).expect("export names are short");
        let count = u16::try_from(self.wanted.len()).expect("there are few kinds of information");
        let mut data = Vec::with_capacity(6 + self.name.len() + 2 * self.wanted.len());
        data.extend_from_slice(&len.to_be_bytes());
        data.extend_from_slice(self.name.as_bytes());
        data.extend_from_slice(&count.to_be_bytes());
        data.extend(self.wanted.iter().flat_map(|number| number.to_be_bytes()));
        data
    }
}

/// The data of a [`REP_INFO`](super::REP_INFO) reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Info<'a> {
    /// What every export tells.
    Export {
        /// Of the disk, in bytes.
        size: u64,
        /// `TX_*` bits.
        flags: u16,
    },
    /// The export's own name.
    Name(&'a str),
    /// A line for people.
    Description(&'a str),
    /// What requests must and should look like.
    BlockSize {
        /// Offsets and lengths are multiples of this, in bytes.
        minimum: u32,
        /// Requests of this alignment and size work best, in bytes.
        preferred: u32,
        /// The largest payload, in bytes.
        maximum: u32,
    },
    /// A kind that is not known here.
    Unknown(u16),
}

impl<'a> Info<'a> {
    /// Decodes the data of a [`REP_INFO`](super::REP_INFO) reply.
    ///
    /// # Errors
    /// When the data are shorter or longer than their kind, or a string is too long or not UTF-8.
    pub fn decode(data: &'a [u8]) -> Result<Self, DecodeError> {
        let mut fields = Fields::of(data);
        let info = match fields.u16()? {
            INFO_EXPORT => Info::Export { size: fields.u64()?, flags: fields.u16()? },
            INFO_NAME => Info::Name(fields.rest_as_string()?),
            INFO_DESCRIPTION => Info::Description(fields.rest_as_string()?),
            INFO_BLOCK_SIZE => {
                Info::BlockSize { minimum: fields.u32()?, preferred: fields.u32()?, maximum: fields.u32()? }
            }
            unknown => return Ok(Info::Unknown(unknown)),
        };
        fields.end()?;
        Ok(info)
    }

    /// Encodes it.
    pub fn encode(&self) -> Vec<u8> {
        let kind = |number: u16| number.to_be_bytes();
        match *self {
            Info::Export { size, flags } => {
                [&kind(INFO_EXPORT)[..], &size.to_be_bytes(), &flags.to_be_bytes()].concat()
            }
            Info::Name(name) => [&kind(INFO_NAME)[..], name.as_bytes()].concat(),
            Info::Description(line) => [&kind(INFO_DESCRIPTION)[..], line.as_bytes()].concat(),
            Info::BlockSize { minimum, preferred, maximum } => {
                let sizes = [minimum, preferred, maximum].map(u32::to_be_bytes);
                [&kind(INFO_BLOCK_SIZE)[..], sizes.as_flattened()].concat()
            }
            Info::Unknown(number) => kind(number).to_vec(),
        }
    }
}

/// The data of a [`REP_SERVER`](super::REP_SERVER) reply: an export's name and a line for people.
///
/// # Panics
/// When the name is 4 GiB or longer.
pub fn encode_server(name: &str, description: &str) -> Vec<u8> {
    let len = u32::try_from(name.len()).expect("export names are short");
    [&len.to_be_bytes()[..], name.as_bytes(), description.as_bytes()].concat()
}

/// Decodes the data of a [`REP_SERVER`](super::REP_SERVER) reply to name and description.
///
/// # Errors
/// When the length inside disagrees with the length of `data`, or a string is too long or not UTF-8.
pub fn decode_server(data: &[u8]) -> Result<(&str, &str), DecodeError> {
    let mut fields = Fields::of(data);
    let len = fields.u32()? as usize;
    Ok((fields.string(len)?, fields.rest_as_string()?))
}

/// Decodes the data of EXPORT_NAME: all of it is the name.
///
/// # Errors
/// When it is too long or not UTF-8.
pub fn decode_export_name(data: &[u8]) -> Result<&str, DecodeError> {
    Fields::of(data).rest_as_string()
}

/// The answer to EXPORT_NAME, without the zeroes that may follow.
pub fn encode_export_name_reply(size: u64, flags: u16) -> [u8; EXPORT_NAME_REPLY_LEN] {
    let mut message = [0; EXPORT_NAME_REPLY_LEN];
    message[..8].copy_from_slice(&size.to_be_bytes());
    message[8..].copy_from_slice(&flags.to_be_bytes());
    message
}

/// Decodes the answer to EXPORT_NAME to size in bytes and `TX_*` bits.
///
/// # Errors
/// None at present: any bytes have a meaning.
pub fn decode_export_name_reply(message: &[u8; EXPORT_NAME_REPLY_LEN]) -> Result<(u64, u16), DecodeError> {
    let mut fields = Fields::of(message);
    Ok((fields.u64()?, fields.u16()?))
}
