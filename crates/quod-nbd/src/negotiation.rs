//! A client's side of the handshake, as a state machine that does no I/O.
//!
//! Role: [`Negotiation`] says how many bytes it needs next, is fed with them, and says what to send, when to switch to
//! TLS, and at last what was [`Agreed`] on. It asks for TLS when that is wanted, extended headers or else structured
//! replies, block status, and then for the export; a server that knows no GO is asked by EXPORT_NAME.
//!
//! Invariant: whatever a server sends gives a next step or a [`Refusal`], and it is never asked for more than
//! [`MAX_OPTION_REPLY`] bytes at once nor for more than [`MAX_REPLIES`] replies to one option. Once TLS was wanted,
//! nothing but the request for it goes in the clear.
//!
//! Absent on purpose: LIST and INFO, the old handshake, and time: how long a server is waited for is the caller's matter.

pub use super::terms::{Agreed, Refusal};
use super::terms::{BlockSizes, Terms};
use super::{
    BASE_ALLOCATION, C_FIXED_NEWSTYLE, C_NO_ZEROES, ContextQuery, DecodeError, EXPORT_NAME_REPLY_LEN,
    EXPORT_NAME_ZEROES, ExportQuery, FLAG_FIXED_NEWSTYLE, FLAG_NO_ZEROES, GREETING_LEN, INFO_BLOCK_SIZE,
    Info, MAX_STRING, Mode, OLD_HANDSHAKE_MAGIC, OPT_EXPORT_NAME, OPT_EXTENDED_HEADERS, OPT_GO,
    OPT_SET_META_CONTEXT, OPT_STARTTLS, OPT_STRUCTURED_REPLY, OPTION_REPLY_LEN, OptionHeader,
    OptionReplyHeader, REP_ACK, REP_ERR_TLS_REQD, REP_ERR_UNSUP, REP_FLAG_ERROR, REP_INFO, REP_META_CONTEXT,
    decode_context, decode_export_name_reply, decode_greeting,
};

/// The most data that an option reply may have, in bytes.
pub const MAX_OPTION_REPLY: u32 = 64 << 10;

/// The most replies that a server may give to one option.
pub const MAX_REPLIES: usize = 1000;

/// What a client does next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Read exactly so many bytes and feed them.
    Read(usize),
    /// Do the TLS handshake, then call [`Negotiation::tls_is_up`].
    StartTls,
    /// Transmission begins.
    Done(Agreed),
}

/// What to send now, and what comes after.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Turn {
    /// Bytes for the server; may be empty.
    pub send: Vec<u8>,
    /// What follows once they are sent.
    pub step: Step,
}

/// Where it is.
#[derive(Clone, Copy, Debug)]
enum State {
    Greeting,
    ReplyHead,
    ReplyData(OptionReplyHeader),
    Tls,
    ExportNameReply,
    Over,
}

/// A handshake with one server.
#[derive(Debug)]
pub struct Negotiation {
    export: String,
    wants_tls: bool,
    state: State,
    /// The option that waits for its reply.
    option: u32,
    replies: usize,
    leaves_out_zeroes: bool,
    terms: Terms,
}

impl Negotiation {
    /// Begins one for the export of that name; empty is the default one. With `tls`, nothing is said without it.
    ///
    /// # Errors
    /// [`Refusal::NameTooLong`].
    pub fn new(export: &str, tls: bool) -> Result<Self, Refusal> {
        if export.len() > MAX_STRING {
            return Err(Refusal::NameTooLong { len: export.len() });
        }
        Ok(Negotiation {
            export: export.to_owned(),
            wants_tls: tls,
            state: State::Greeting,
            option: 0,
            replies: 0,
            leaves_out_zeroes: false,
            terms: Terms::default(),
        })
    }

    /// How many bytes to read and feed first.
    pub fn first_read(&self) -> usize {
        GREETING_LEN
    }

    /// Takes what arrived: as many bytes as the last step asked for.
    ///
    /// # Errors
    /// The server refuses, or what it says makes no sense. Then the connection is of no more use.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<Turn, Refusal> {
        match std::mem::replace(&mut self.state, State::Over) {
            State::Greeting => self.greeted(bytes),
            State::ReplyHead => {
                let head = OptionReplyHeader::decode(exactly(bytes)?)?;
                self.headed(head)
            }
            State::ReplyData(head) => self.replied(head, bytes),
            State::ExportNameReply => {
                let (size, flags) = decode_export_name_reply(exactly(
                    bytes.get(..EXPORT_NAME_REPLY_LEN).ok_or(DecodeError::Truncated)?,
                )?)?;
                self.terms.export = Some((size, flags));
                self.done()
            }
            State::Tls | State::Over => Err(Refusal::OutOfTurn),
        }
    }

    /// Goes on after the TLS handshake.
    ///
    /// # Errors
    /// [`Refusal::OutOfTurn`] when no TLS handshake was asked for.
    pub fn tls_is_up(&mut self) -> Result<Turn, Refusal> {
        match self.state {
            State::Tls => Ok(self.ask(OPT_EXTENDED_HEADERS, &[], Vec::new())),
            _ => Err(Refusal::OutOfTurn),
        }
    }

    fn greeted(&mut self, bytes: &[u8]) -> Result<Turn, Refusal> {
        let flags = decode_greeting(exactly(bytes)?).map_err(|error| match error {
            DecodeError::WrongMagic { found: OLD_HANDSHAKE_MAGIC } => Refusal::OldHandshake,
            other => other.into(),
        })?;
        self.leaves_out_zeroes = flags & FLAG_NO_ZEROES != 0;
        let is_fixed = flags & FLAG_FIXED_NEWSTYLE != 0;
        let zeroes = if self.leaves_out_zeroes { C_NO_ZEROES } else { 0 };
        let answer = zeroes | if is_fixed { C_FIXED_NEWSTYLE } else { 0 };
        let send = answer.to_be_bytes().to_vec();
        match (self.wants_tls, is_fixed) {
            (true, true) => Ok(self.ask(OPT_STARTTLS, &[], send)),
            (true, false) => Err(Refusal::NoTls { message: String::new() }),
            (false, true) => Ok(self.ask(OPT_EXTENDED_HEADERS, &[], send)),
            // Such a server answers no option, and takes one only.
            (false, false) => Ok(self.ask_by_name(send)),
        }
    }

    fn headed(&mut self, head: OptionReplyHeader) -> Result<Turn, Refusal> {
        if head.option != self.option {
            return Err(Refusal::OtherOption { asked: self.option, answered: head.option });
        }
        self.replies += 1;
        if head.length > MAX_OPTION_REPLY || self.replies > MAX_REPLIES {
            return Err(Refusal::TooMuch);
        }
        if head.length == 0 {
            return self.replied(head, &[]);
        }
        self.state = State::ReplyData(head);
        Ok(Turn { send: Vec::new(), step: Step::Read(head.length as usize) })
    }

    /// A whole reply has arrived.
    fn replied(&mut self, head: OptionReplyHeader, data: &[u8]) -> Result<Turn, Refusal> {
        if data.len() != head.length as usize {
            return Err(DecodeError::Truncated.into());
        }
        let is_error = head.reply & REP_FLAG_ERROR != 0;
        if head.reply == REP_ERR_TLS_REQD && self.option != OPT_STARTTLS {
            return Err(Refusal::TlsRequired { message: readable(data) });
        }
        match (self.option, head.reply) {
            (OPT_STARTTLS, REP_ACK) => {
                self.state = State::Tls;
                Ok(Turn { send: Vec::new(), step: Step::StartTls })
            }
            (OPT_STARTTLS, _) if is_error => Err(Refusal::NoTls { message: readable(data) }),
            (OPT_EXTENDED_HEADERS, REP_ACK) => {
                self.terms.mode = Mode::Extended;
                Ok(self.ask_for_contexts())
            }
            (OPT_EXTENDED_HEADERS, _) if is_error => Ok(self.ask(OPT_STRUCTURED_REPLY, &[], Vec::new())),
            (OPT_STRUCTURED_REPLY, REP_ACK) => {
                self.terms.mode = Mode::Structured;
                Ok(self.ask_for_contexts())
            }
            (OPT_STRUCTURED_REPLY, _) if is_error => Ok(self.ask_to_go()),
            (OPT_SET_META_CONTEXT, REP_META_CONTEXT) => {
                let (id, name) = decode_context(data)?;
                if name == BASE_ALLOCATION {
                    self.terms.base_allocation = Some(id);
                }
                Ok(self.more())
            }
            (OPT_SET_META_CONTEXT, REP_ACK) => Ok(self.ask_to_go()),
            (OPT_SET_META_CONTEXT, _) if is_error => {
                self.terms.base_allocation = None;
                Ok(self.ask_to_go())
            }
            (OPT_GO, REP_INFO) => {
                match Info::decode(data)? {
                    Info::Export { size, flags } => self.terms.export = Some((size, flags)),
                    Info::BlockSize { minimum, preferred, maximum } => {
                        self.terms.blocks = BlockSizes::checked(minimum, preferred, maximum)?;
                    }
                    Info::Name(_) | Info::Description(_) | Info::Unknown(_) => {}
                }
                Ok(self.more())
            }
            (OPT_GO, REP_ACK) => self.done(),
            (OPT_GO, REP_ERR_UNSUP) => Ok(self.ask_by_name(Vec::new())),
            (OPT_GO, reply) if is_error => Err(Refusal::refused(reply, readable(data))),
            (option, reply) => Err(Refusal::OddReply { option, reply }),
        }
    }

    fn ask(&mut self, option: u32, data: &[u8], mut send: Vec<u8>) -> Turn {
        let length = u32::try_from(data.len()).expect("names are short");
        send.extend(OptionHeader { option, length }.encode());
        send.extend(data);
        (self.option, self.replies) = (option, 0);
        Turn { send, ..self.more() }
    }

    fn ask_for_contexts(&mut self) -> Turn {
        let query = ContextQuery { export: &self.export, queries: vec![BASE_ALLOCATION] }.encode();
        self.ask(OPT_SET_META_CONTEXT, &query, Vec::new())
    }

    fn ask_to_go(&mut self) -> Turn {
        let query = ExportQuery { name: &self.export, wanted: vec![INFO_BLOCK_SIZE] }.encode();
        self.ask(OPT_GO, &query, Vec::new())
    }

    fn ask_by_name(&mut self, send: Vec<u8>) -> Turn {
        let Turn { send, .. } = self.ask(OPT_EXPORT_NAME, self.export.clone().as_bytes(), send);
        self.state = State::ExportNameReply;
        let zeroes = if self.leaves_out_zeroes { 0 } else { EXPORT_NAME_ZEROES };
        Turn { send, step: Step::Read(EXPORT_NAME_REPLY_LEN + zeroes) }
    }

    /// Waits for another reply.
    fn more(&mut self) -> Turn {
        self.state = State::ReplyHead;
        Turn { send: Vec::new(), step: Step::Read(OPTION_REPLY_LEN) }
    }

    fn done(&mut self) -> Result<Turn, Refusal> {
        Ok(Turn { send: Vec::new(), step: Step::Done(self.terms.settle()?) })
    }
}

fn exactly<const N: usize>(bytes: &[u8]) -> Result<&[u8; N], DecodeError> {
    bytes.try_into().map_err(|_other_length| DecodeError::Truncated)
}

/// A server's sentence, fit for a terminal.
fn readable(data: &[u8]) -> String {
    let text = String::from_utf8_lossy(&data[..data.len().min(MAX_STRING)]);
    text.chars().map(|char| if char.is_control() { ' ' } else { char }).collect::<String>().trim().to_owned()
}
