//! What options are answered with.
//!
//! Role: keeps what a client has agreed on so far, and turns each option into replies.
//!
//! Invariant: nothing but TLS is agreed on while TLS is required and not there. What was agreed on before TLS is
//! forgotten with it, since this is.
//!
//! Absent on purpose: I/O; `handshake/mod.rs` brings options and takes replies.

use std::rc::Rc;

use quod_nbd::{
    ContextQuery, DecodeError, EXPORT_NAME_ZEROES, ExportQuery, INFO_DESCRIPTION, INFO_NAME, Info, Mode,
    OPT_ABORT, OPT_EXPORT_NAME, OPT_EXTENDED_HEADERS, OPT_GO, OPT_INFO, OPT_LIST, OPT_LIST_META_CONTEXT,
    OPT_SET_META_CONTEXT, OPT_STARTTLS, OPT_STRUCTURED_REPLY, REP_ACK, REP_ERR_EXT_HEADER_REQD,
    REP_ERR_INVALID, REP_ERR_POLICY, REP_ERR_TLS_REQD, REP_ERR_TOO_BIG, REP_ERR_UNKNOWN, REP_ERR_UNSUP,
    REP_INFO, REP_META_CONTEXT, REP_SERVER, decode_export_name, encode_context, encode_export_name_reply,
    encode_option_reply, encode_server,
};

use crate::nbd::export::Export;
use crate::nbd::exports::Exports;
use crate::nbd::fault::Fault;
use crate::nbd::session::{Context, Contexts, Session};
use crate::nbd::stream::tls::Encryption;

/// How a handshake ended.
pub(crate) enum Outcome {
    /// The client wants the export.
    Transmission(Rc<Export>, Session),
    /// The client will speak TLS from here on, and begin anew.
    StartTls,
    /// The client left.
    Left,
}

/// The options that are looked at.
const KNOWN: [u32; 10] = [
    OPT_EXPORT_NAME,
    OPT_ABORT,
    OPT_LIST,
    OPT_STARTTLS,
    OPT_INFO,
    OPT_GO,
    OPT_STRUCTURED_REPLY,
    OPT_LIST_META_CONTEXT,
    OPT_SET_META_CONTEXT,
    OPT_EXTENDED_HEADERS,
];

/// What is said to anything else where TLS is required, also to options that nobody knows.
const TLS_FIRST: &str = "this server requires TLS: begin with STARTTLS";

/// An error reply: its number, and a sentence for people.
type Refused = (u32, String);

fn refused<T>(reply: u32, sentence: &str) -> Result<T, Refused> {
    Err((reply, sentence.to_owned()))
}

/// The negotiation with one client.
pub(crate) struct Negotiation<'a> {
    exports: &'a Exports,
    encryption: Encryption,
    no_zeroes: bool,
    mode: Mode,
    /// What block status will tell, if the client chooses that export.
    contexts: Option<(Rc<Export>, Contexts)>,
    /// To be sent.
    replies: Vec<u8>,
}

impl<'a> Negotiation<'a> {
    pub(crate) fn new(exports: &'a Exports, encryption: Encryption, no_zeroes: bool) -> Self {
        Negotiation {
            exports,
            encryption,
            no_zeroes,
            mode: Mode::Simple,
            contexts: None,
            replies: Vec::new(),
        }
    }

    /// Whether the data of an option are looked at.
    pub(crate) fn looks_at(&self, option: u32) -> bool {
        KNOWN.contains(&option)
    }

    /// What is to be sent.
    pub(crate) fn take_replies(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.replies)
    }

    /// Answers an option; tells whether it was the last.
    ///
    /// # Errors
    /// When it is one that can be answered by a disconnect only.
    pub(crate) fn answer(&mut self, option: u32, data: &[u8]) -> Result<Option<Outcome>, Fault> {
        let done = match option {
            OPT_ABORT => Ok(Some(Outcome::Left)),
            OPT_STARTTLS => self.start_tls(data).map(|()| Some(Outcome::StartTls)),
            OPT_EXPORT_NAME => return self.export_name(data).map(Some),
            _ if self.encryption == Encryption::Required => refused(REP_ERR_TLS_REQD, TLS_FIRST),
            OPT_LIST => self.list(data).map(|()| None),
            OPT_INFO => self.info(option, data).map(|_export| None),
            OPT_GO => self.info(option, data).map(|export| Some(self.begin(export))),
            OPT_STRUCTURED_REPLY => self.structured(data).map(|()| None),
            OPT_EXTENDED_HEADERS => self.extended(data).map(|()| None),
            _ => self.contexts(option, data).map(|()| None),
        };
        match done {
            Ok(next) => {
                self.reply(option, REP_ACK, &[]);
                Ok(next)
            }
            Err((reply, sentence)) => {
                self.reply(option, reply, sentence.as_bytes());
                Ok(None)
            }
        }
    }

    /// Answers an option that is unknown, or whose data are too long to look at.
    ///
    /// # Errors
    /// As [`answer`](Negotiation::answer).
    pub(crate) fn refuse(&mut self, option: u32) -> Result<Option<Outcome>, Fault> {
        match option {
            OPT_EXPORT_NAME => return Err(Fault::NoSuchExport),
            OPT_ABORT => {
                self.reply(option, REP_ACK, &[]);
                return Ok(Some(Outcome::Left));
            }
            _ if self.encryption == Encryption::Required && option != OPT_STARTTLS => {
                self.reply(option, REP_ERR_TLS_REQD, TLS_FIRST.as_bytes());
            }
            _ if self.looks_at(option) => {
                self.reply(option, REP_ERR_TOO_BIG, b"the option's data are too long")
            }
            _ => self.reply(option, REP_ERR_UNSUP, b"this server does not know the option"),
        }
        Ok(None)
    }

    fn start_tls(&mut self, data: &[u8]) -> Result<(), Refused> {
        no_data(data)?;
        match self.encryption {
            Encryption::Unavailable => refused(REP_ERR_POLICY, "this server has no TLS"),
            Encryption::Active => refused(REP_ERR_INVALID, "TLS is in use already"),
            Encryption::Offered | Encryption::Required => Ok(()),
        }
    }

    /// EXPORT_NAME can only succeed or end the connection.
    fn export_name(&mut self, data: &[u8]) -> Result<Outcome, Fault> {
        if self.encryption == Encryption::Required {
            return Err(Fault::TlsRequired);
        }
        let export = self.exports.find(decode_export_name(data)?).ok_or(Fault::NoSuchExport)?;
        if self.mode == Mode::Extended {
            return Err(Fault::NoSuchExport);
        }
        self.replies.extend(encode_export_name_reply(export.size(), export.transmission_flags(self.mode)));
        if !self.no_zeroes {
            self.replies.extend([0; EXPORT_NAME_ZEROES]);
        }
        Ok(self.begin(Rc::clone(export)))
    }

    fn begin(&self, export: Rc<Export>) -> Outcome {
        let contexts = match &self.contexts {
            Some((of, contexts)) if Rc::ptr_eq(of, &export) => *contexts,
            _ => Contexts::default(),
        };
        Outcome::Transmission(export, Session { mode: self.mode, contexts })
    }

    fn list(&mut self, data: &[u8]) -> Result<(), Refused> {
        no_data(data)?;
        for export in self.exports.iter() {
            let entry = encode_server(export.name(), export.description());
            encode_option_reply(&mut self.replies, OPT_LIST, REP_SERVER, &entry);
        }
        Ok(())
    }

    /// Tells about the export of INFO or GO.
    fn info(&mut self, option: u32, data: &[u8]) -> Result<Rc<Export>, Refused> {
        let query = ExportQuery::decode(data).map_err(malformed)?;
        let export = self.find(query.name)?;
        let basic = Info::Export { size: export.size(), flags: export.transmission_flags(self.mode) };
        self.reply(option, REP_INFO, &basic.encode());
        self.reply(option, REP_INFO, &export.block_size().encode());
        if query.wanted.contains(&INFO_NAME) {
            self.reply(option, REP_INFO, &Info::Name(export.name()).encode());
        }
        if query.wanted.contains(&INFO_DESCRIPTION) {
            self.reply(option, REP_INFO, &Info::Description(export.description()).encode());
        }
        Ok(export)
    }

    fn structured(&mut self, data: &[u8]) -> Result<(), Refused> {
        no_data(data)?;
        match self.mode {
            Mode::Simple => self.mode = Mode::Structured,
            Mode::Structured => return refused(REP_ERR_INVALID, "structured replies were agreed on already"),
            Mode::Extended => {
                return refused(REP_ERR_EXT_HEADER_REQD, "extended headers were agreed on already");
            }
        }
        Ok(())
    }

    fn extended(&mut self, data: &[u8]) -> Result<(), Refused> {
        no_data(data)?;
        if self.mode == Mode::Extended {
            return refused(REP_ERR_INVALID, "extended headers were agreed on already");
        }
        self.mode = Mode::Extended;
        Ok(())
    }

    /// Lists or sets metadata contexts.
    fn contexts(&mut self, option: u32, data: &[u8]) -> Result<(), Refused> {
        if self.mode == Mode::Simple {
            return refused(REP_ERR_INVALID, "structured replies or extended headers come first");
        }
        let sets = option == OPT_SET_META_CONTEXT;
        if sets {
            // Also when this one fails.
            self.contexts = None;
        }
        let ContextQuery { export, queries } = ContextQuery::decode(data).map_err(malformed)?;
        let export = self.find(export)?;
        let mut found = Contexts::default();
        for context in Context::ALL {
            let is_asked_for = match sets {
                true => queries.contains(&context.name()),
                false => queries.is_empty() || queries.iter().any(|query| context.is_listed_by(query)),
            };
            if is_asked_for {
                found.insert(context);
                self.reply(option, REP_META_CONTEXT, &encode_context(context.id(), context.name()));
            }
        }
        if sets {
            self.contexts = Some((export, found));
        }
        Ok(())
    }

    fn find(&self, name: &str) -> Result<Rc<Export>, Refused> {
        match self.exports.find(name) {
            Some(export) => Ok(Rc::clone(export)),
            None => refused(REP_ERR_UNKNOWN, "there is no export of that name"),
        }
    }

    fn reply(&mut self, option: u32, reply: u32, data: &[u8]) {
        encode_option_reply(&mut self.replies, option, reply, data);
    }
}

fn no_data(data: &[u8]) -> Result<(), Refused> {
    if data.is_empty() { Ok(()) } else { refused(REP_ERR_INVALID, "the option takes no data") }
}

fn malformed(error: DecodeError) -> Refused {
    let reply = match error {
        DecodeError::StringTooLong { .. } => REP_ERR_TOO_BIG,
        _ => REP_ERR_INVALID,
    };
    (reply, error.to_string())
}
