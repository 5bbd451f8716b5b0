//! Any bytes as any message of the protocol.
//!
//! Laws: decoding gives a value or an error; what a value is encoded to decodes to that value.

use std::fmt::Debug;

use quod_nbd::*;

/// Decodes `bytes` as whatever they could be.
///
/// # Panics
/// When a law is broken.
pub(crate) fn decode_all(bytes: &[u8]) {
    for mode in [Mode::Simple, Mode::Structured, Mode::Extended] {
        keeps(Request::decode(mode, bytes), |request| {
            let mut again = Vec::new();
            request.encode(mode, &mut again);
            Request::decode(mode, &again)
        });
        if let Some(beginning) = bytes.first_chunk()
            && let Ok(len) = ReplyHead::len_of(mode, beginning)
        {
            assert!(len <= EXTENDED_REPLY_LEN);
        }
    }
    keeps(ReplyHead::decode(bytes), |head| {
        let mut again = Vec::new();
        match head {
            ReplyHead::Simple { cookie, result } => encode_simple_reply(*cookie, *result, &mut again),
            ReplyHead::Chunk(chunk) => {
                let is_long = bytes.len() == EXTENDED_REPLY_LEN;
                chunk.encode(if is_long { Mode::Extended } else { Mode::Structured }, &mut again);
            }
        }
        ReplyHead::decode(&again)
    });
    chunks(bytes);
    queries(bytes);
    heads(bytes);
}

fn keeps<T: Debug + PartialEq>(
    decoded: Result<T, DecodeError>,
    again: impl Fn(&T) -> Result<T, DecodeError>,
) {
    if let Ok(value) = decoded {
        assert_eq!(again(&value).as_ref(), Ok(&value), "what is encoded decodes to itself");
    }
}

fn chunks(bytes: &[u8]) {
    let Some((kind, payload)) = bytes.split_first_chunk() else { return };
    let Ok(chunk) = Chunk::decode(u16::from_be_bytes(*kind), payload) else { return };
    let is_wide = u16::from_be_bytes(*kind) == REPLY_BLOCK_STATUS_EXT;
    let again = chunk.encode(is_wide);
    assert_eq!(Chunk::decode(chunk.kind(is_wide), &again), Ok(chunk), "what is encoded decodes to itself");
}

fn queries(bytes: &[u8]) {
    if let Ok(query) = ExportQuery::decode(bytes) {
        assert_eq!(ExportQuery::decode(&query.encode()), Ok(query));
    }
    if let Ok(query) = ContextQuery::decode(bytes) {
        assert_eq!(ContextQuery::decode(&query.encode()), Ok(query));
    }
    if let Ok(info) = Info::decode(bytes) {
        assert_eq!(Info::decode(&info.encode()), Ok(info));
    }
    keeps(StatusSelection::decode(bytes), |selection| StatusSelection::decode(&selection.encode()));
    if let Ok((id, name)) = decode_context(bytes) {
        assert_eq!(decode_context(&encode_context(id, name)), Ok((id, name)));
    }
    if let Ok((name, description)) = decode_server(bytes) {
        assert_eq!(decode_server(&encode_server(name, description)), Ok((name, description)));
    }
    if let Ok(name) = decode_export_name(bytes) {
        assert_eq!(name.as_bytes(), bytes);
    }
}

fn heads(bytes: &[u8]) {
    if let Some(greeting) = bytes.first_chunk() {
        keeps(decode_greeting(greeting), |flags| decode_greeting(&encode_greeting(*flags)));
    }
    if let Some(head) = bytes.first_chunk() {
        keeps(OptionHeader::decode(head), |head| OptionHeader::decode(&head.encode()));
    }
    if let Some(head) = bytes.first_chunk() {
        keeps(OptionReplyHeader::decode(head), |head| OptionReplyHeader::decode(&head.encode()));
    }
    if let Some(reply) = bytes.first_chunk() {
        keeps(decode_export_name_reply(reply), |(size, flags)| {
            decode_export_name_reply(&encode_export_name_reply(*size, *flags))
        });
    }
}
