//! The codec: every message decodes to what was encoded, and any bytes decode to something or an error.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use proptest::prelude::*;
use quod_export::nbd::codec::*;

fn command() -> impl Strategy<Value = Command> {
    any::<u16>().prop_map(|number| {
        let mut message =
            Request { flags: 0, command: Command::Read, cookie: Cookie(0), offset: 0, length: 0 }.encode();
        message[6..8].copy_from_slice(&number.to_be_bytes());
        Request::decode(&message).unwrap().command
    })
}

fn errno() -> impl Strategy<Value = Errno> {
    use Errno::{Inval, Io, NoMem, NoSpc, NotSup, Overflow, Perm, Shutdown};
    prop::sample::select(vec![Perm, Io, NoMem, Inval, NoSpc, Overflow, NotSup, Shutdown])
}

proptest! {
    #[test]
    fn requests_decode_to_themselves(
        flags: u16, command in command(), cookie: u64, offset: u64, length: u32,
    ) {
        let request = Request { flags, command, cookie: Cookie(cookie), offset, length };
        prop_assert_eq!(Request::decode(&request.encode()), Ok(request));
    }

    #[test]
    fn replies_decode_to_themselves(cookie: u64, result in prop::result::maybe_ok(Just(()), errno())) {
        let reply = SimpleReply { cookie: Cookie(cookie), result };
        prop_assert_eq!(SimpleReply::decode(&reply.encode()), Ok(reply));
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
    fn no_bytes_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..200), request: [u8; REQUEST_LEN], reply: [u8; SIMPLE_REPLY_LEN],
        kind in 0..5u16,
    ) {
        // What they decode to does not matter here.
        let name_len = (bytes.len() as u32).to_be_bytes();
        let _any = (
            (ExportQuery::decode(&bytes), ExportQuery::decode(&[&name_len[..], &bytes].concat())),
            (decode_server(&bytes), decode_export_name(&bytes)),
            (Info::decode(&bytes), Info::decode(&[&kind.to_be_bytes()[..], &bytes].concat())),
            (Request::decode(&request), SimpleReply::decode(&reply)),
        );
    }
}

#[test]
fn magic_numbers_are_checked() {
    let mut request =
        Request { flags: 0, command: Command::Read, cookie: Cookie(1), offset: 2, length: 3 }.encode();
    request[3] ^= 1;
    assert_eq!(
        Request::decode(&request),
        Err(DecodeError::WrongMagic { found: u64::from(REQUEST_MAGIC ^ 1) })
    );
    let mut reply = SimpleReply { cookie: Cookie(1), result: Ok(()) }.encode();
    reply[0] ^= 1;
    assert!(matches!(SimpleReply::decode(&reply), Err(DecodeError::WrongMagic { .. })));
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
fn undefined_error_numbers_are_told() {
    let mut reply = SimpleReply { cookie: Cookie(1), result: Err(Errno::Io) }.encode();
    reply[7] = 6;
    assert_eq!(
        SimpleReply::decode(&reply),
        Err(DecodeError::Undefined { field: "the error number", value: 6 })
    );
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
