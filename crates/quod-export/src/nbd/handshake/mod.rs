//! The fixed newstyle handshake, server's side: its bytes.
//!
//! Role: greets a client and has its options answered one by one, until it chooses an export, asks for TLS, or leaves.
//!
//! Invariant: every option is answered, its data taken in or thrown away, so that the stream stays in step; no more
//! than [`MAX_DATA`] bytes of a client are kept.
//!
//! Absent on purpose: a time limit (the server drops the handshake), and what is answered (`negotiation.rs`).

pub(crate) mod negotiation;

use std::io::{self, IoSlice};

use futures_lite::future::yield_now;
use quod_nbd::{
    C_FIXED_NEWSTYLE, C_NO_ZEROES, CLIENT_FLAGS_LEN, FLAG_FIXED_NEWSTYLE, FLAG_NO_ZEROES, OPTION_LEN,
    OptionHeader, encode_greeting,
};

use self::negotiation::{Negotiation, Outcome};
use super::exports::Exports;
use super::fault::Fault;
use super::stream::Stream;
use super::stream::inbox::Inbox;
use super::stream::tls::Encryption;

/// Longest data of an option that is looked at, in bytes: a name of full length and every kind of information that
/// anybody has thought of so far.
const MAX_DATA: u32 = 32 << 10;

/// Longest data of an option that is thrown away, in bytes; who announces more is disconnected.
const MAX_SKIPPED: u32 = 1 << 20;

/// Leads the handshake with one client. One that has come back with TLS is greeted already: `flags` are what it said.
///
/// Dropped, it leaves the stream in the middle: close it.
///
/// # Errors
/// When the stream fails or the client breaks the protocol.
pub(crate) async fn shake(
    stream: &impl Stream,
    inbox: &mut Inbox,
    exports: &Exports,
    encryption: Encryption,
    flags: ClientFlags,
) -> Result<Outcome, Fault> {
    let wait = async || Ok(stream.readable().await?);
    let mut negotiation = Negotiation::new(exports, encryption, flags.no_zeroes);
    loop {
        let Some(header) = inbox.expect::<OPTION_LEN>(stream, wait).await? else { return Ok(Outcome::Left) };
        let OptionHeader { option, length } = OptionHeader::decode(&header)?;
        if length > MAX_SKIPPED {
            return Err(Fault::TooLong { length: length.into() });
        }
        let next = if length > MAX_DATA || !negotiation.looks_at(option) {
            inbox.skip(stream, length as usize, wait).await?;
            negotiation.refuse(option)?
        } else {
            let mut data = vec![0; length as usize];
            inbox.expect_payload(stream, &mut data, wait).await?;
            negotiation.answer(option, &data)?
        };
        if matches!(next, Some(Outcome::StartTls)) && !inbox.is_empty() {
            // What came in the clear must not pass for what comes encrypted.
            return Err(Fault::EarlyBytes);
        }
        send(stream, &negotiation.take_replies()).await?;
        // Who sends options without end holds up nobody.
        yield_now().await;
        if let Some(outcome) = next {
            return Ok(outcome);
        }
    }
}

/// What a client said when it was greeted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ClientFlags {
    no_zeroes: bool,
}

/// Greets a client; `None` when it left without a word.
///
/// # Errors
/// When the stream fails or the client asks for what was not offered.
pub(crate) async fn greet(stream: &impl Stream, inbox: &mut Inbox) -> Result<Option<ClientFlags>, Fault> {
    send(stream, &encode_greeting(FLAG_FIXED_NEWSTYLE | FLAG_NO_ZEROES)).await?;
    let wait = async || Ok(stream.readable().await?);
    let Some(flags) = inbox.expect::<CLIENT_FLAGS_LEN>(stream, wait).await? else { return Ok(None) };
    let flags = u32::from_be_bytes(flags);
    if flags & !(C_FIXED_NEWSTYLE | C_NO_ZEROES) != 0 {
        return Err(Fault::UnknownFlags(flags));
    }
    Ok(Some(ClientFlags { no_zeroes: flags & C_NO_ZEROES != 0 }))
}

/// Sends all of `bytes`.
async fn send(stream: &impl Stream, mut bytes: &[u8]) -> Result<(), Fault> {
    loop {
        let sent = match bytes {
            [] => stream.try_flush().map(|()| 0),
            bytes => stream.try_write(&[IoSlice::new(bytes)]),
        };
        match sent {
            Ok(_) if bytes.is_empty() => return Ok(()),
            Ok(sent) => bytes = &bytes[sent..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => stream.writable().await?,
            Err(error) => return Err(error.into()),
        }
    }
}
