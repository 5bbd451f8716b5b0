//! The fixed newstyle handshake: greeting, options, option replies.
//!
//! Invariant: headers have a fixed length and say how many bytes of data follow; who reads them bounds that number
//! before taking the data in.

use super::DecodeError;
use super::fields::Fields;

/// "NBDMAGIC", the first word of a server.
pub const GREETING_MAGIC: u64 = 0x4e42_444d_4147_4943;
/// "IHAVEOPT", the second word of a newstyle server and the first of every option.
pub const OPTION_MAGIC: u64 = 0x4948_4156_454f_5054;
/// The second word of a server that knows the old handshake only: one export, and no options.
pub const OLD_HANDSHAKE_MAGIC: u64 = 0x0000_4202_8186_1253;
/// Begins every option reply.
pub const OPTION_REPLY_MAGIC: u64 = 0x0003_e889_0455_65a9;

/// Handshake flag of the server: it answers every option.
pub const FLAG_FIXED_NEWSTYLE: u16 = 1 << 0;
/// Handshake flag of the server: it can leave out the zeroes after EXPORT_NAME.
pub const FLAG_NO_ZEROES: u16 = 1 << 1;
/// Client flag: it understands fixed newstyle.
pub const C_FIXED_NEWSTYLE: u32 = 1 << 0;
/// Client flag: the zeroes after EXPORT_NAME are left out.
pub const C_NO_ZEROES: u32 = 1 << 1;

/// Transmission flag: always set.
pub const TX_HAS_FLAGS: u16 = 1 << 0;
/// Transmission flag: writes fail.
pub const TX_READ_ONLY: u16 = 1 << 1;
/// Transmission flag: FLUSH is there.
pub const TX_SEND_FLUSH: u16 = 1 << 2;
/// Transmission flag: FUA is honoured.
pub const TX_SEND_FUA: u16 = 1 << 3;
/// Transmission flag: TRIM is there.
pub const TX_SEND_TRIM: u16 = 1 << 5;
/// Transmission flag: WRITE_ZEROES is there.
pub const TX_SEND_WRITE_ZEROES: u16 = 1 << 6;
/// Transmission flag: READ honours DF.
pub const TX_SEND_DF: u16 = 1 << 7;
/// Transmission flag: a flush on one connection covers what was answered on all.
pub const TX_CAN_MULTI_CONN: u16 = 1 << 8;
/// Transmission flag: CACHE is there.
pub const TX_SEND_CACHE: u16 = 1 << 10;
/// Transmission flag: WRITE_ZEROES honours FAST_ZERO.
pub const TX_SEND_FAST_ZERO: u16 = 1 << 11;
/// Transmission flag: BLOCK_STATUS may choose among contexts by a payload.
pub const TX_BLOCK_STATUS_PAYLOAD: u16 = 1 << 12;

/// Option: choose an export and begin transmission, without a reply that could tell an error.
pub const OPT_EXPORT_NAME: u32 = 1;
/// Option: end the session.
pub const OPT_ABORT: u32 = 2;
/// Option: name the exports.
pub const OPT_LIST: u32 = 3;
/// Option: switch to TLS.
pub const OPT_STARTTLS: u32 = 5;
/// Option: tell about an export.
pub const OPT_INFO: u32 = 6;
/// Option: choose an export and begin transmission.
pub const OPT_GO: u32 = 7;
/// Option: use structured replies.
pub const OPT_STRUCTURED_REPLY: u32 = 8;
/// Option: name metadata contexts.
pub const OPT_LIST_META_CONTEXT: u32 = 9;
/// Option: choose metadata contexts.
pub const OPT_SET_META_CONTEXT: u32 = 10;
/// Option: use extended headers, and structured replies with them.
pub const OPT_EXTENDED_HEADERS: u32 = 11;

/// Reply: done.
pub const REP_ACK: u32 = 1;
/// Reply: one export of the list.
pub const REP_SERVER: u32 = 2;
/// Reply: one piece of information, see [`Info`](super::Info).
pub const REP_INFO: u32 = 3;
/// Reply: one metadata context.
pub const REP_META_CONTEXT: u32 = 4;
/// Set in every reply that is an error.
pub const REP_FLAG_ERROR: u32 = 1 << 31;
/// Error reply: the option is not known.
pub const REP_ERR_UNSUP: u32 = REP_FLAG_ERROR | 1;
/// Error reply: not allowed here.
pub const REP_ERR_POLICY: u32 = REP_FLAG_ERROR | 2;
/// Error reply: the option's data make no sense.
pub const REP_ERR_INVALID: u32 = REP_FLAG_ERROR | 3;
/// Error reply: not on this platform.
pub const REP_ERR_PLATFORM: u32 = REP_FLAG_ERROR | 4;
/// Error reply: not before TLS.
pub const REP_ERR_TLS_REQD: u32 = REP_FLAG_ERROR | 5;
/// Error reply: no such export.
pub const REP_ERR_UNKNOWN: u32 = REP_FLAG_ERROR | 6;
/// Error reply: the server is shutting down.
pub const REP_ERR_SHUTDOWN: u32 = REP_FLAG_ERROR | 7;
/// Error reply: the client must ask for block sizes.
pub const REP_ERR_BLOCK_SIZE_REQD: u32 = REP_FLAG_ERROR | 8;
/// Error reply: the option's data are too long.
pub const REP_ERR_TOO_BIG: u32 = REP_FLAG_ERROR | 9;
/// Error reply: not without extended headers.
pub const REP_ERR_EXT_HEADER_REQD: u32 = REP_FLAG_ERROR | 10;

/// Information: size and transmission flags.
pub const INFO_EXPORT: u16 = 0;
/// Information: the export's own name.
pub const INFO_NAME: u16 = 1;
/// Information: a line for people.
pub const INFO_DESCRIPTION: u16 = 2;
/// Information: what sizes requests may have.
pub const INFO_BLOCK_SIZE: u16 = 3;

/// Bytes of the server's greeting.
pub const GREETING_LEN: usize = 18;
/// Bytes of the client's answer to it.
pub const CLIENT_FLAGS_LEN: usize = 4;
/// Bytes of an option without its data.
pub const OPTION_LEN: usize = 16;
/// Bytes of an option reply without its data.
pub const OPTION_REPLY_LEN: usize = 20;
/// Bytes of the answer to EXPORT_NAME without the zeroes.
pub const EXPORT_NAME_REPLY_LEN: usize = 10;
/// Zeroes that follow it, unless both sides agreed to leave them out.
pub const EXPORT_NAME_ZEROES: usize = 124;

/// The server's first message; `flags` are `FLAG_*` bits.
pub fn encode_greeting(flags: u16) -> [u8; GREETING_LEN] {
    let mut message = [0; GREETING_LEN];
    message[..8].copy_from_slice(&GREETING_MAGIC.to_be_bytes());
    message[8..16].copy_from_slice(&OPTION_MAGIC.to_be_bytes());
    message[16..].copy_from_slice(&flags.to_be_bytes());
    message
}

/// Decodes the server's first message to its `FLAG_*` bits.
///
/// # Errors
/// A wrong magic number: not NBD, or the old handshake.
pub fn decode_greeting(message: &[u8; GREETING_LEN]) -> Result<u16, DecodeError> {
    let mut fields = Fields::of(message);
    fields.magic64(GREETING_MAGIC)?;
    fields.magic64(OPTION_MAGIC)?;
    fields.u16()
}

/// The head of an option; `length` bytes of data follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OptionHeader {
    /// `OPT_*`.
    pub option: u32,
    /// Bytes of data.
    pub length: u32,
}

impl OptionHeader {
    /// Decodes the head of an option.
    ///
    /// # Errors
    /// A wrong magic number: the stream is out of step.
    pub fn decode(message: &[u8; OPTION_LEN]) -> Result<Self, DecodeError> {
        let mut fields = Fields::of(message);
        fields.magic64(OPTION_MAGIC)?;
        Ok(OptionHeader { option: fields.u32()?, length: fields.u32()? })
    }

    /// Encodes it.
    pub fn encode(&self) -> [u8; OPTION_LEN] {
        let mut message = [0; OPTION_LEN];
        message[..8].copy_from_slice(&OPTION_MAGIC.to_be_bytes());
        message[8..12].copy_from_slice(&self.option.to_be_bytes());
        message[12..].copy_from_slice(&self.length.to_be_bytes());
        message
    }
}

/// The head of an option reply; `length` bytes of data follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OptionReplyHeader {
    /// The option that is answered.
    pub option: u32,
    /// `REP_*`.
    pub reply: u32,
    /// Bytes of data.
    pub length: u32,
}

impl OptionReplyHeader {
    /// Decodes the head of an option reply.
    ///
    /// # Errors
    /// A wrong magic number: the stream is out of step.
    pub fn decode(message: &[u8; OPTION_REPLY_LEN]) -> Result<Self, DecodeError> {
        let mut fields = Fields::of(message);
        fields.magic64(OPTION_REPLY_MAGIC)?;
        Ok(OptionReplyHeader { option: fields.u32()?, reply: fields.u32()?, length: fields.u32()? })
    }

    /// Encodes it.
    pub fn encode(&self) -> [u8; OPTION_REPLY_LEN] {
        let mut message = [0; OPTION_REPLY_LEN];
        message[..8].copy_from_slice(&OPTION_REPLY_MAGIC.to_be_bytes());
        message[8..12].copy_from_slice(&self.option.to_be_bytes());
        message[12..16].copy_from_slice(&self.reply.to_be_bytes());
        message[16..].copy_from_slice(&self.length.to_be_bytes());
        message
    }
}

/// Appends a whole option reply to `out`.
///
/// # Panics
/// When `data` is 4 GiB or more.
pub fn encode_option_reply(out: &mut Vec<u8>, option: u32, reply: u32, data: &[u8]) {
    let length = u32::try_from(data.len()).expect("option replies are short");
    out.extend_from_slice(&OptionReplyHeader { option, reply, length }.encode());
    out.extend_from_slice(data);
}
