//! The codec: every message decodes to what was encoded, and any bytes decode to something or an error.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use proptest::prelude::*;
use quod_nbd::*;

fn command() -> impl Strategy<Value = Command> {
    any::<u16>().prop_map(|number| {
        let request = Request { flags: 0, command: Command::Read, cookie: Cookie(0), offset: 0, length: 0 };
        let mut message = encoded(Mode::Simple, request);
        message[6..8].copy_from_slice(&number.to_be_bytes());
        Request::decode(Mode::Simple, &message).unwrap().command
    })
}

fn encoded(mode: Mode, request: Request) -> Vec<u8> {
    let mut message = Vec::new();
    request.encode(mode, &mut message);
    assert_eq!(message.len(), mode.request_len());
    message
}

fn errno() -> impl Strategy<Value = Errno> {
    prop::sample::select(Errno::ALL.to_vec())
}

fn extent() -> impl Strategy<Value = StatusExtent> {
    (1..=u32::MAX, any::<u32>())
        .prop_map(|(length, flags)| StatusExtent { length: length.into(), flags: flags.into() })
}

proptest! {
    #[test]
    fn requests_decode_to_themselves(
        flags: u16, command in command(), cookie: u64, offset: u64, short: u32, long: u64,
    ) {
        for (mode, length) in [(Mode::Simple, short.into()), (Mode::Structured, short.into()), (Mode::Extended, long)] {
            let request = Request { flags, command, cookie: Cookie(cookie), offset, length };
            prop_assert_eq!(Request::decode(mode, &encoded(mode, request)), Ok(request));
        }
    }

    #[test]
    fn replies_decode_to_themselves(
        cookie: u64, flags: u16, kind: u16, offset: u64, short: u32, long: u64, error in prop::option::of(errno()),
    ) {
        let (cookie, result) = (Cookie(cookie), error.map_or(Ok(()), Err));
        let mut message = Vec::new();
        encode_simple_reply(cookie, result, &mut message);
        prop_assert_eq!(ReplyHead::decode(&message), Ok(ReplyHead::Simple { cookie, result }));
        for (mode, offset, length) in [(Mode::Structured, 0, short.into()), (Mode::Extended, offset, long)] {
            let head = ChunkHead { flags, kind, cookie, offset, length };
            let mut message = Vec::new();
            head.encode(mode, &mut message);
            let beginning = message.first_chunk().unwrap();
            prop_assert_eq!(ReplyHead::len_of(mode, beginning), Ok(message.len()));
            prop_assert_eq!(ReplyHead::decode(&message), Ok(ReplyHead::Chunk(head)));
        }
    }

    #[test]
    fn chunks_decode_to_themselves(
        offset: u64, length in 1..=u32::MAX, id: u32, extents in prop::collection::vec(extent(), 1..9), errno in errno(),
        message in "\\PC{0,300}", wide: bool,
    ) {
        let chunks = [
            Chunk::None,
            Chunk::OffsetData { offset },
            Chunk::OffsetHole { offset, length },
            Chunk::BlockStatus { context: ContextId(id), extents },
            Chunk::Error { errno, message: &message, offset: None },
            Chunk::Error { errno, message: &message, offset: Some(offset) },
        ];
        for chunk in chunks {
            let payload = chunk.encode(wide);
            prop_assert_eq!(Chunk::decode(chunk.kind(wide), &payload), Ok(chunk));
        }
    }

    #[test]
    fn contexts_decode_to_themselves(
        export in "\\PC{0,300}", queries in prop::collection::vec("\\PC{0,30}", 0..9), ids: Vec<u32>, length: u64,
    ) {
        let query = ContextQuery { export: &export, queries: queries.iter().map(|query| &**query).collect() };
        let data = query.encode();
        prop_assert_eq!(ContextQuery::decode(&data), Ok(query));
        let data = encode_context(ContextId(7), &export);
        prop_assert_eq!(decode_context(&data), Ok((ContextId(7), &*export)));
        let selection = StatusSelection { length, contexts: ids.into_iter().map(ContextId).collect() };
        prop_assert_eq!(StatusSelection::decode(&selection.encode()), Ok(selection));
    }

    #[test]
    fn headers_decode_to_themselves(option: u32, reply: u32, length: u32, flags: u16, size: u64) {
        let header = OptionHeader { option, length };
        prop_assert_eq!(OptionHeader::decode(&header.encode()), Ok(header));
        let header = OptionReplyHeader { option, reply, length };
        prop_assert_eq!(OptionReplyHeader::decode(&header.encode()), Ok(header));
        prop_assert_eq!(decode_greeting(&encode_greeting(flags)), Ok(flags));
        prop_assert_eq!(decode_export_name_reply(&encode_export_name_reply(size, flags)), Ok((size, flags)));
    }

    #[test]
    fn data_of_options_decode_to_themselves(
        name in "\\PC{0,300}", line in "\\PC{0,300}", wanted: Vec<u16>, size: u64, flags: u16, sizes: [u32; 3],
    ) {
        let query = ExportQuery { name: &name, wanted };
        let data = query.encode();
        prop_assert_eq!(ExportQuery::decode(&data), Ok(query));
        let data = encode_server(&name, &line);
        prop_assert_eq!(decode_server(&data), Ok((&*name, &*line)));
        prop_assert_eq!(decode_export_name(name.as_bytes()), Ok(&*name));
        let [minimum, preferred, maximum] = sizes;
        let infos = [
            Info::Export { size, flags },
            Info::Name(&name),
            Info::Description(&line),
            Info::BlockSize { minimum, preferred, maximum },
            Info::Unknown(4),
        ];
        for info in infos {
            let data = info.encode();
            prop_assert_eq!(Info::decode(&data), Ok(info));
        }
    }

    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), kind in 0..5u16, chunk: u16) {
        let name_len = (bytes.len() as u32).to_be_bytes();
        // What they decode to does not matter here.
        let _any = (
            (ExportQuery::decode(&bytes), ExportQuery::decode(&[&name_len[..], &bytes].concat())),
            (ContextQuery::decode(&bytes), ContextQuery::decode(&[&name_len[..], &bytes].concat())),
            (decode_server(&bytes), decode_export_name(&bytes), decode_context(&bytes)),
            (Info::decode(&bytes), Info::decode(&[&kind.to_be_bytes()[..], &bytes].concat())),
            StatusSelection::decode(&bytes),
            (Chunk::decode(kind, &bytes), Chunk::decode(chunk, &bytes), Chunk::decode(chunk | 1 << 15, &bytes)),
        );
        for mode in [Mode::Simple, Mode::Structured, Mode::Extended] {
            let _any = Request::decode(mode, &bytes);
        }
        for magic in [SIMPLE_REPLY_MAGIC, STRUCTURED_REPLY_MAGIC, EXTENDED_REPLY_MAGIC] {
            let _any = ReplyHead::decode(&[&magic.to_be_bytes()[..], &bytes].concat());
        }
    }
}

#[test]
fn magic_numbers_are_checked() {
    let request = Request { flags: 0, command: Command::Read, cookie: Cookie(1), offset: 2, length: 3 };
    for mode in [Mode::Simple, Mode::Structured, Mode::Extended] {
        let mut message = encoded(mode, request);
        message[3] ^= 1;
        assert!(matches!(Request::decode(mode, &message), Err(DecodeError::WrongMagic { .. })), "{mode:?}");
    }
    let mut option = OptionHeader { option: 1, length: 0 }.encode();
    option[7] ^= 1;
    assert_eq!(OptionHeader::decode(&option), Err(DecodeError::WrongMagic { found: OPTION_MAGIC ^ 1 }));
    for byte in [0, 8] {
        let mut greeting = encode_greeting(0);
        greeting[byte] ^= 1;
        assert!(matches!(decode_greeting(&greeting), Err(DecodeError::WrongMagic { .. })));
    }
}

#[test]
fn replies_that_a_mode_does_not_allow_are_refused() {
    let magics = [SIMPLE_REPLY_MAGIC, STRUCTURED_REPLY_MAGIC, EXTENDED_REPLY_MAGIC, REQUEST_MAGIC];
    let lens = |mode| {
        magics.map(|magic| {
            let mut beginning = [0; SIMPLE_REPLY_LEN];
            beginning[..4].copy_from_slice(&magic.to_be_bytes());
            ReplyHead::len_of(mode, &beginning).ok()
        })
    };
    assert_eq!(lens(Mode::Simple), [Some(16), None, None, None]);
    assert_eq!(lens(Mode::Structured), [Some(16), Some(20), None, None]);
    assert_eq!(lens(Mode::Extended), [None, None, Some(32), None]);
}

#[test]
fn undefined_error_numbers_count_as_invalid() {
    let mut message = Vec::new();
    encode_simple_reply(Cookie(1), Err(Errno::Io), &mut message);
    message[7] = 6;
    let told = ReplyHead::Simple { cookie: Cookie(1), result: Err(Errno::Inval) };
    assert_eq!(ReplyHead::decode(&message), Ok(told));
}

#[test]
fn extents_must_be_as_many_as_they_say_and_not_empty() {
    let extents = vec![StatusExtent { length: 5, flags: 0 }; 3];
    let chunk = Chunk::BlockStatus { context: ContextId(1), extents };
    for wide in [false, true] {
        let (kind, payload) = (chunk.kind(wide), chunk.encode(wide));
        let extent = if wide { 16 } else { 8 };
        for len in 0..payload.len() {
            let whole = !wide && len > 4 && (len - 4) % extent == 0;
            assert_eq!(Chunk::decode(kind, &payload[..len]).is_ok(), whole, "{len} of {}", payload.len());
        }
        let mut empty = payload.clone();
        let last = empty.len() - extent;
        empty[last..last + extent / 2].fill(0);
        assert!(matches!(Chunk::decode(kind, &empty), Err(DecodeError::Undefined { .. })));
    }
}

#[test]
fn error_messages_are_cut_to_what_a_string_may_be() {
    let message = "ä".repeat(MAX_STRING);
    let payload = Chunk::Error { errno: Errno::Io, message: &message, offset: None }.encode(false);
    let Ok(Chunk::Error { message: told, .. }) = Chunk::decode(REPLY_ERROR, &payload) else { panic!() };
    assert_eq!(told.len(), MAX_STRING);
}

#[test]
fn errors_of_a_kind_that_is_not_known_are_errors_all_the_same() {
    let mut payload = Chunk::Error { errno: Errno::Io, message: "no", offset: None }.encode(false);
    payload.extend([1, 2, 3]);
    assert_eq!(
        Chunk::decode(REPLY_ERROR_BIT | 99, &payload),
        Ok(Chunk::Error { errno: Errno::Io, message: "no", offset: None })
    );
    assert!(Chunk::decode(99, &payload).is_err());
}

#[test]
fn payloads_belong_to_writes_and_in_extended_mode_to_what_says_so() {
    let request = |command, flags| Request { flags, command, cookie: Cookie(0), offset: 0, length: 9 };
    for mode in [Mode::Simple, Mode::Structured, Mode::Extended] {
        assert_eq!(request(Command::Write, 0).payload_len(mode), 9);
        assert_eq!(request(Command::Read, 0).payload_len(mode), 0);
        let flagged = request(Command::BlockStatus, CMD_FLAG_PAYLOAD_LEN).payload_len(mode);
        assert_eq!(flagged, if mode == Mode::Extended { 9 } else { 0 });
    }
}

#[test]
fn strings_end_at_their_bound() {
    let longest = "x".repeat(MAX_STRING);
    assert_eq!(decode_export_name(longest.as_bytes()), Ok(&*longest));
    let longer = "x".repeat(MAX_STRING + 1);
    let too_long = DecodeError::StringTooLong { len: MAX_STRING + 1 };
    assert_eq!(decode_export_name(longer.as_bytes()), Err(too_long));
    assert_eq!(ExportQuery::decode(&ExportQuery { name: &longer, wanted: vec![] }.encode()), Err(too_long));
    assert_eq!(decode_export_name(b"\xff"), Err(DecodeError::NotUtf8));
}

#[test]
fn lengths_inside_must_agree_with_the_data() {
    let data = ExportQuery { name: "disk", wanted: vec![1, 2] }.encode();
    for len in 0..data.len() {
        assert_eq!(ExportQuery::decode(&data[..len]), Err(DecodeError::Truncated), "{len} bytes");
    }
    assert_eq!(ExportQuery::decode(&[&data[..], &[0]].concat()), Err(DecodeError::TooLong { extra: 1 }));
    let liar = [&u32::MAX.to_be_bytes()[..], b"disk"].concat();
    assert_eq!(ExportQuery::decode(&liar), Err(DecodeError::StringTooLong { len: u32::MAX as usize }));
    let info = Info::BlockSize { minimum: 1, preferred: 2, maximum: 3 }.encode();
    assert_eq!(Info::decode(&info[..13]), Err(DecodeError::Truncated));
    assert_eq!(Info::decode(&[&info[..], &[0]].concat()), Err(DecodeError::TooLong { extra: 1 }));
}
