//! What the handshake promises, to clients that keep its rules and to those that don't.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::time::{Duration, Instant};

use quod_export::nbd::{ExportOptions, ServerOptions};
use quod_nbd::*;
use quod_storage::Access;
use support::{SIZE, Served};

const ALWAYS: u16 = TX_HAS_FLAGS | TX_SEND_FLUSH | TX_SEND_FUA | TX_CAN_MULTI_CONN | TX_SEND_CACHE;
const WRITABLE: u16 = ALWAYS | TX_SEND_TRIM | TX_SEND_WRITE_ZEROES | TX_SEND_FAST_ZERO;
const READ_ONLY: u16 = ALWAYS | TX_READ_ONLY;

fn named() -> Served {
    let mut options = ExportOptions::default();
    options.name = "disk".into();
    options.description = "a disk for tests".into();
    Served::new(options)
}

fn query(name: &str, wanted: &[u16]) -> Vec<u8> {
    ExportQuery { name, wanted: wanted.to_vec() }.encode()
}

/// All replies to an option up to the last, which is no information.
fn replies(client: &mut support::Client, option: u32) -> Vec<(u32, Vec<u8>)> {
    let mut replies = vec![client.option_reply(option)];
    while matches!(replies.last(), Some((REP_INFO | REP_SERVER, _))) {
        replies.push(client.option_reply(option));
    }
    replies
}

#[test]
fn info_tells_size_flags_and_block_sizes_and_what_was_asked_for() {
    let served = named();
    let mut client = served.greeted();
    for option in [OPT_INFO, OPT_INFO, OPT_GO] {
        client.option(option, &query("disk", &[INFO_NAME, INFO_DESCRIPTION, 77]));
        let replies = replies(&mut client, option);
        let infos: Vec<_> = replies.iter().filter(|(reply, _)| *reply == REP_INFO).collect();
        let infos: Vec<_> = infos.iter().map(|(_, data)| Info::decode(data).unwrap()).collect();
        let block_size = Info::BlockSize { minimum: 1, preferred: 4096, maximum: 32 << 20 };
        let export = Info::Export { size: SIZE, flags: WRITABLE };
        assert_eq!(infos, [export, block_size, Info::Name("disk"), Info::Description("a disk for tests")]);
        assert_eq!(replies.last().unwrap(), &(REP_ACK, vec![]));
    }
    assert_eq!(client.read(0, 512).unwrap(), [0; 512]);
}

#[test]
fn the_list_has_the_one_export() {
    let served = named();
    let mut client = served.greeted();
    client.option(OPT_LIST, &[]);
    let replies = replies(&mut client, OPT_LIST);
    assert_eq!(replies[0].0, REP_SERVER);
    assert_eq!(decode_server(&replies[0].1).unwrap(), ("disk", "a disk for tests"));
    assert_eq!(replies[1], (REP_ACK, vec![]));
    client.option(OPT_LIST, b"x");
    assert_eq!(client.option_reply(OPT_LIST).0, REP_ERR_INVALID);
}

#[test]
fn export_name_begins_transmission_with_zeroes_only_when_wanted() {
    let served = named();
    for (flags, zeroes, name) in [(0, 124, "disk"), (C_NO_ZEROES, 0, "")] {
        let mut client = served.raw();
        client.array::<GREETING_LEN>();
        client.send(&(C_FIXED_NEWSTYLE | flags).to_be_bytes());
        client.option(OPT_EXPORT_NAME, name.as_bytes());
        assert_eq!(decode_export_name_reply(&client.array()).unwrap(), (SIZE, WRITABLE));
        assert_eq!(client.bytes(zeroes), vec![0; zeroes]);
        assert_eq!(client.read(0, 512).unwrap(), [0; 512]);
    }
}

#[test]
fn a_read_only_export_says_so() {
    let mut options = ExportOptions::default();
    options.read_only = true;
    for served in [Served::new(options), Served::opened(ExportOptions::default(), Access::Read)] {
        let mut client = served.greeted();
        client.option(OPT_EXPORT_NAME, &[]);
        assert_eq!(decode_export_name_reply(&client.array()).unwrap(), (SIZE, READ_ONLY));
    }
}

#[test]
fn unknown_names_are_refused_and_the_client_may_try_again() {
    let served = named();
    let mut client = served.greeted();
    let longest = "n".repeat(MAX_STRING);
    let too_long = "n".repeat(MAX_STRING + 1);
    for (name, error) in [("dis", REP_ERR_UNKNOWN), (&longest, REP_ERR_UNKNOWN), (&too_long, REP_ERR_TOO_BIG)]
    {
        for option in [OPT_INFO, OPT_GO] {
            client.option(option, &query(name, &[]));
            assert_eq!(client.option_reply(option).0, error);
        }
    }
    client.option(OPT_GO, &query("disk", &[]));
    assert_eq!(client.option_reply(OPT_GO).0, REP_INFO);
    let mut client = served.greeted();
    client.option(OPT_EXPORT_NAME, b"dis");
    client.is_disconnected();
}

#[test]
fn malformed_queries_are_invalid_and_the_stream_stays_in_step() {
    let served = named();
    let mut client = served.greeted();
    let good = query("disk", &[1, 2]);
    let mut malformed: Vec<Vec<u8>> = (0..good.len()).map(|len| good[..len].to_vec()).collect();
    malformed.push([&good[..], &[0]].concat());
    malformed.push([&u32::MAX.to_be_bytes()[..], b"disk"].concat());
    malformed.push(b"\0\0\0\x02\xff\xfe\0\0".to_vec());
    for data in malformed {
        client.option(OPT_INFO, &data);
        let (reply, message) = client.option_reply(OPT_INFO);
        assert!(matches!(reply, REP_ERR_INVALID | REP_ERR_TOO_BIG), "{reply:#x} to {data:?}");
        assert!(!message.is_empty() && String::from_utf8(message).is_ok());
    }
    client.option(OPT_INFO, &good);
    assert_eq!(client.option_reply(OPT_INFO).0, REP_INFO);
}

#[test]
fn unknown_options_are_unsupported_and_their_data_thrown_away() {
    let served = Served::new(ExportOptions::default());
    let mut client = served.greeted();
    for option in [0, 4, 12, u32::MAX] {
        for len in [0, 1, 5000, 1 << 20] {
            client.option(option, &vec![b'I'; len]);
            assert_eq!(client.option_reply(option).0, REP_ERR_UNSUP);
        }
    }
    for option in [OPT_LIST, OPT_STARTTLS, OPT_INFO, OPT_GO, OPT_STRUCTURED_REPLY, OPT_SET_META_CONTEXT] {
        client.option(option, &vec![0; 1 << 20]);
        assert_eq!(client.option_reply(option).0, REP_ERR_TOO_BIG);
    }
    client.option(OPT_ABORT, &[]);
    assert_eq!(client.option_reply(OPT_ABORT), (REP_ACK, vec![]));
    client.is_disconnected();
    served.still_serves();
}

#[test]
fn lies_in_the_handshake_end_the_connection_and_nothing_else() {
    let served = Served::new(ExportOptions::default());
    let mut wrong_flags = served.raw();
    wrong_flags.array::<GREETING_LEN>();
    wrong_flags.send(&4u32.to_be_bytes());
    wrong_flags.is_disconnected();
    let mut wrong_magic = served.greeted();
    wrong_magic.send(&[0; OPTION_LEN]);
    wrong_magic.is_disconnected();
    for option in [OPT_GO, OPT_EXPORT_NAME, 99] {
        for length in [(1 << 20) + 1, u32::MAX] {
            let mut absurd = served.greeted();
            absurd.send(&OptionHeader { option, length }.encode());
            absurd.is_disconnected();
        }
    }
    served.still_serves();
}

#[test]
fn slow_handshakes_are_given_up() {
    let mut options = ServerOptions::default();
    options.handshake_timeout = Duration::from_millis(300);
    let served = Served::new(options);
    let begun = Instant::now();
    let (mut silent, mut half) = (served.raw(), served.greeted());
    silent.array::<GREETING_LEN>();
    half.send(&OptionHeader { option: OPT_GO, length: 100 }.encode());
    silent.is_disconnected();
    half.is_disconnected();
    assert!(begun.elapsed() >= Duration::from_millis(300));
    served.still_serves();
}
