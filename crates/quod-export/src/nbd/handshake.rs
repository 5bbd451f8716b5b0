//! The fixed newstyle handshake, server's side.
//!
//! Role: greets a client, answers its options one by one, until it chooses the export or leaves.
//!
//! Invariant: every option is answered, its data taken in or thrown away, so that the stream stays in step; no more
//! than [`MAX_DATA`] bytes of a client are kept.
//!
//! Absent on purpose: a time limit (the server drops the handshake), TLS, structured replies: those options get the
//! unsupported error like any unknown one.

use std::io::{self, IoSlice};

use super::export::Export;
use super::fault::Fault;
use super::inbox::Inbox;
use super::stream::Stream;
use quod_nbd::{
    C_FIXED_NEWSTYLE, C_NO_ZEROES, CLIENT_FLAGS_LEN, DecodeError, EXPORT_NAME_ZEROES, ExportQuery,
    FLAG_FIXED_NEWSTYLE, FLAG_NO_ZEROES, INFO_DESCRIPTION, INFO_NAME, Info, OPT_ABORT, OPT_EXPORT_NAME,
    OPT_GO, OPT_INFO, OPT_LIST, OPTION_LEN, OptionHeader, REP_ACK, REP_ERR_INVALID, REP_ERR_TOO_BIG,
    REP_ERR_UNKNOWN, REP_ERR_UNSUP, REP_INFO, REP_SERVER, decode_export_name, encode_export_name_reply,
    encode_greeting, encode_option_reply, encode_server,
};

/// Longest data of an option that is looked at, in bytes: a name of full length and every kind of information.
const MAX_DATA: u32 = 160 << 10;

/// Longest data of an option that is thrown away, in bytes; who announces more is disconnected.
const MAX_SKIPPED: u32 = 1 << 20;

/// How a handshake ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The client wants the export.
    Transmission,
    /// The client left.
    Left,
}

/// Leads the handshake with one client.
///
/// Dropped, it leaves the stream in the middle: close it.
///
/// # Errors
/// When the stream fails or the client breaks the protocol.
pub(crate) async fn shake(
    stream: &impl Stream,
    inbox: &mut Inbox,
    export: &Export,
) -> Result<Outcome, Fault> {
    send(stream, &encode_greeting(FLAG_FIXED_NEWSTYLE | FLAG_NO_ZEROES)).await?;
    let wait = async || Ok(stream.readable().await?);
    let Some(flags) = inbox.expect::<CLIENT_FLAGS_LEN>(stream, wait).await? else { return Ok(Outcome::Left) };
    let flags = u32::from_be_bytes(flags);
    if flags & !(C_FIXED_NEWSTYLE | C_NO_ZEROES) != 0 {
        return Err(Fault::UnknownFlags(flags));
    }
    let mut answers = Answers { export, no_zeroes: flags & C_NO_ZEROES != 0, out: Vec::new() };
    loop {
        let Some(header) = inbox.expect::<OPTION_LEN>(stream, wait).await? else { return Ok(Outcome::Left) };
        let OptionHeader { option, length } = OptionHeader::decode(&header)?;
        if length > MAX_SKIPPED {
            return Err(Fault::TooLong { length: length.into() });
        }
        let next = if length > MAX_DATA || !KNOWN.contains(&option) {
            inbox.skip(stream, length as usize, wait).await?;
            answers.refuse(option)?
        } else {
            let mut data = vec![0; length as usize];
            inbox.expect_payload(stream, &mut data, wait).await?;
            answers.answer(option, &data)?
        };
        send(stream, &answers.out).await?;
        answers.out.clear();
        if let Some(outcome) = next {
            return Ok(outcome);
        }
    }
}

/// The options that are looked at.
const KNOWN: [u32; 5] = [OPT_EXPORT_NAME, OPT_ABORT, OPT_LIST, OPT_INFO, OPT_GO];

/// What to say to options.
struct Answers<'a> {
    export: &'a Export,
    no_zeroes: bool,
    /// To be sent.
    out: Vec<u8>,
}

impl Answers<'_> {
    /// Answers an option; tells whether it was the last.
    fn answer(&mut self, option: u32, data: &[u8]) -> Result<Option<Outcome>, Fault> {
        match option {
            OPT_EXPORT_NAME => return self.export_name(data).map(|()| Some(Outcome::Transmission)),
            OPT_ABORT => {
                self.reply(option, REP_ACK, &[]);
                return Ok(Some(Outcome::Left));
            }
            OPT_LIST if data.is_empty() => {
                self.reply(option, REP_SERVER, &encode_server(self.export.name(), self.export.description()));
                self.reply(option, REP_ACK, &[]);
            }
            OPT_LIST => self.reply(option, REP_ERR_INVALID, b"LIST takes no data"),
            _ => {
                let found = self.info(option, data);
                return Ok((found && option == OPT_GO).then_some(Outcome::Transmission));
            }
        }
        Ok(None)
    }

    /// Answers an option that is unknown, or whose data are too long to look at.
    fn refuse(&mut self, option: u32) -> Result<Option<Outcome>, Fault> {
        match option {
            OPT_EXPORT_NAME => return Err(Fault::NoSuchExport),
            OPT_ABORT => {
                self.reply(option, REP_ACK, &[]);
                return Ok(Some(Outcome::Left));
            }
            known if KNOWN.contains(&known) => {
                self.reply(option, REP_ERR_TOO_BIG, b"the option's data are too long")
            }
            _ => self.reply(option, REP_ERR_UNSUP, b"this server does not know the option"),
        }
        Ok(None)
    }

    /// EXPORT_NAME can only succeed or end the connection.
    fn export_name(&mut self, data: &[u8]) -> Result<(), Fault> {
        if !self.export.answers_to(decode_export_name(data)?) {
            return Err(Fault::NoSuchExport);
        }
        self.out.extend(encode_export_name_reply(self.export.size(), self.export.transmission_flags()));
        if !self.no_zeroes {
            self.out.extend([0; EXPORT_NAME_ZEROES]);
        }
        Ok(())
    }

    /// Answers INFO or GO; tells whether the export was found.
    fn info(&mut self, option: u32, data: &[u8]) -> bool {
        let query = match ExportQuery::decode(data) {
            Ok(query) => query,
            Err(error @ DecodeError::StringTooLong { .. }) => {
                self.reply(option, REP_ERR_TOO_BIG, error.to_string().as_bytes());
                return false;
            }
            Err(error) => {
                self.reply(option, REP_ERR_INVALID, error.to_string().as_bytes());
                return false;
            }
        };
        let export = self.export;
        if !export.answers_to(query.name) {
            self.reply(option, REP_ERR_UNKNOWN, b"there is no export of that name");
            return false;
        }
        let basic = Info::Export { size: export.size(), flags: export.transmission_flags() };
        self.reply(option, REP_INFO, &basic.encode());
        self.reply(option, REP_INFO, &export.block_size().encode());
        if query.wanted.contains(&INFO_NAME) {
            self.reply(option, REP_INFO, &Info::Name(export.name()).encode());
        }
        if query.wanted.contains(&INFO_DESCRIPTION) {
            self.reply(option, REP_INFO, &Info::Description(export.description()).encode());
        }
        self.reply(option, REP_ACK, &[]);
        true
    }

    fn reply(&mut self, option: u32, reply: u32, data: &[u8]) {
        encode_option_reply(&mut self.out, option, reply, data);
    }
}

/// Sends all of `bytes`.
async fn send(stream: &impl Stream, mut bytes: &[u8]) -> Result<(), Fault> {
    while !bytes.is_empty() {
        match stream.try_write(&[IoSlice::new(bytes)]) {
            Ok(sent) => bytes = &bytes[sent..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => stream.writable().await?,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
