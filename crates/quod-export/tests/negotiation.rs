//! What the handshake promises about replies, headers and metadata contexts.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use quod_export::nbd::ExportOptions;
use quod_nbd::*;
use support::{Client, Served, named};

const BOTH: [&str; 2] = [BASE_ALLOCATION, QEMU_ALLOCATION_DEPTH];

fn served() -> Served {
    let mut options = ExportOptions::default();
    options.name = "disk".into();
    Served::new(options)
}

fn agree(client: &mut Client, option: u32) -> u32 {
    client.option(option, &[]);
    client.option_reply(option).0
}

/// The names of the contexts that come in answer to a query.
fn contexts(client: &mut Client, option: u32, export: &str, queries: &[&str]) -> Result<Vec<String>, u32> {
    client.option(option, &ContextQuery { export, queries: queries.to_vec() }.encode());
    let mut names = Vec::new();
    loop {
        match client.option_reply(option) {
            (REP_META_CONTEXT, data) => names.push(decode_context(&data).unwrap().1.to_owned()),
            (REP_ACK, data) => {
                assert_eq!(data, []);
                return Ok(names);
            }
            (error, _) => return Err(error),
        }
    }
}

/// Chooses the export; its transmission flags.
fn go(client: &mut Client, name: &str) -> u16 {
    client.option(OPT_GO, &ExportQuery { name, wanted: vec![] }.encode());
    let (reply, data) = client.option_reply(OPT_GO);
    assert_eq!(reply, REP_INFO);
    let Info::Export { flags, .. } = Info::decode(&data).unwrap() else { panic!("the first tells the size") };
    while client.option_reply(OPT_GO).0 != REP_ACK {}
    flags
}

#[test]
fn headers_can_be_agreed_on_once_and_only_upwards() {
    let served = served();
    let mut client = served.greeted();
    for option in [OPT_STRUCTURED_REPLY, OPT_EXTENDED_HEADERS] {
        client.option(option, b"x");
        assert_eq!(client.option_reply(option).0, REP_ERR_INVALID, "neither takes data");
    }
    assert_eq!(agree(&mut client, OPT_STRUCTURED_REPLY), REP_ACK);
    assert_eq!(agree(&mut client, OPT_STRUCTURED_REPLY), REP_ERR_INVALID);
    assert_eq!(agree(&mut client, OPT_EXTENDED_HEADERS), REP_ACK);
    assert_eq!(agree(&mut client, OPT_EXTENDED_HEADERS), REP_ERR_INVALID);
    assert_eq!(agree(&mut client, OPT_STRUCTURED_REPLY), REP_ERR_EXT_HEADER_REQD);
    let flags = go(&mut client, "disk");
    assert_eq!(flags & (TX_SEND_DF | TX_BLOCK_STATUS_PAYLOAD), TX_SEND_DF | TX_BLOCK_STATUS_PAYLOAD);
}

#[test]
fn what_an_export_can_do_depends_on_what_was_agreed_on() {
    let served = served();
    let of = |option: Option<u32>| {
        let mut client = served.greeted();
        option.iter().for_each(|&option| assert_eq!(agree(&mut client, option), REP_ACK));
        go(&mut client, "") & (TX_SEND_DF | TX_BLOCK_STATUS_PAYLOAD)
    };
    assert_eq!(of(None), 0);
    assert_eq!(of(Some(OPT_STRUCTURED_REPLY)), TX_SEND_DF);
    assert_eq!(of(Some(OPT_EXTENDED_HEADERS)), TX_SEND_DF | TX_BLOCK_STATUS_PAYLOAD);
}

#[test]
fn export_name_and_extended_headers_exclude_each_other() {
    let served = served();
    let mut client = served.greeted();
    assert_eq!(agree(&mut client, OPT_EXTENDED_HEADERS), REP_ACK);
    client.option(OPT_EXPORT_NAME, b"disk");
    client.is_disconnected();
}

#[test]
fn contexts_need_replies_that_can_carry_them() {
    let served = served();
    let mut client = served.greeted();
    for option in [OPT_LIST_META_CONTEXT, OPT_SET_META_CONTEXT] {
        assert_eq!(contexts(&mut client, option, "", &[BASE_ALLOCATION]), Err(REP_ERR_INVALID));
    }
    assert_eq!(agree(&mut client, OPT_STRUCTURED_REPLY), REP_ACK);
    assert_eq!(contexts(&mut client, OPT_SET_META_CONTEXT, "", &BOTH).unwrap(), BOTH);
}

#[test]
fn contexts_are_listed_by_name_by_namespace_or_all() {
    let served = served();
    let mut client = served.greeted();
    assert_eq!(agree(&mut client, OPT_EXTENDED_HEADERS), REP_ACK);
    let mut list = |queries: &[&str]| contexts(&mut client, OPT_LIST_META_CONTEXT, "disk", queries).unwrap();
    assert_eq!(list(&[]), BOTH);
    assert_eq!(list(&["base:"]), [BASE_ALLOCATION]);
    assert_eq!(list(&["qemu:"]), [QEMU_ALLOCATION_DEPTH]);
    assert_eq!(list(&["qemu:allocation-depth", "base:"]), BOTH);
    assert_eq!(list(&["base:allocation", "base:allocation"]), [BASE_ALLOCATION], "each is told once");
    for unknown in
        ["", ":", "base", "base:alloc", "base:allocation ", "BASE:", "x-other:", "qemu:dirty-bitmap:"]
    {
        assert_eq!(list(&[unknown]), [""; 0], "{unknown:?}");
    }
}

#[test]
fn only_whole_names_are_set_and_only_for_the_export_that_is_chosen() {
    let served = served();
    let set = |export: &str, queries: &[&str]| {
        let mut client = served.greeted();
        client.mode = Mode::Structured;
        assert_eq!(agree(&mut client, OPT_STRUCTURED_REPLY), REP_ACK);
        let names = contexts(&mut client, OPT_SET_META_CONTEXT, export, queries);
        (client, names)
    };
    let (mut client, names) = set("disk", &["base:", "qemu:"]);
    assert_eq!(names.unwrap(), [""; 0]);
    go(&mut client, "disk");
    assert_eq!(client.fails(Command::BlockStatus, 0, 0, 512).0, Errno::Inval);
    let (_, names) = set("other", &BOTH);
    assert_eq!(names, Err(REP_ERR_UNKNOWN));
    // The empty name is the same export.
    let (mut client, _) = set("", &BOTH);
    go(&mut client, "disk");
    let cookie = client.request(Command::BlockStatus, 0, 0, 512);
    assert_eq!(client.chunks(cookie).len(), 2);
}

#[test]
fn contexts_of_one_export_are_not_those_of_another() {
    let served = Served::new(vec![named("one"), named("two")]);
    let told = |chosen: &str| {
        let mut client = served.greeted();
        client.mode = Mode::Structured;
        assert_eq!(agree(&mut client, OPT_STRUCTURED_REPLY), REP_ACK);
        assert_eq!(contexts(&mut client, OPT_SET_META_CONTEXT, "two", &BOTH).unwrap(), BOTH);
        go(&mut client, chosen);
        let cookie = client.request(Command::BlockStatus, 0, 0, 512);
        client.chunks(cookie).iter().map(|(kind, _)| *kind).collect::<Vec<_>>()
    };
    assert_eq!(told("two"), [REPLY_BLOCK_STATUS; 2]);
    assert_eq!(told("one"), [REPLY_ERROR]);
}

#[test]
fn a_failed_wish_for_contexts_forgets_the_one_before() {
    let served = served();
    let mut client = served.greeted();
    client.mode = Mode::Structured;
    assert_eq!(agree(&mut client, OPT_STRUCTURED_REPLY), REP_ACK);
    assert_eq!(contexts(&mut client, OPT_SET_META_CONTEXT, "", &BOTH).unwrap(), BOTH);
    client.option(OPT_SET_META_CONTEXT, b"malformed");
    assert_eq!(client.option_reply(OPT_SET_META_CONTEXT).0, REP_ERR_TOO_BIG);
    go(&mut client, "");
    assert_eq!(client.fails(Command::BlockStatus, 0, 0, 512).0, Errno::Inval);
}

#[test]
fn malformed_wishes_are_refused_and_the_stream_stays_in_step() {
    let served = served();
    let mut client = served.greeted();
    assert_eq!(agree(&mut client, OPT_STRUCTURED_REPLY), REP_ACK);
    let good = ContextQuery { export: "disk", queries: BOTH.to_vec() }.encode();
    let mut malformed: Vec<Vec<u8>> = (0..good.len()).map(|len| good[..len].to_vec()).collect();
    malformed.push([&good[..], &[0]].concat());
    malformed.push([&4u32.to_be_bytes()[..], b"disk", &u32::MAX.to_be_bytes()].concat());
    malformed
        .push([&4u32.to_be_bytes()[..], b"disk", &1u32.to_be_bytes(), &1u32.to_be_bytes(), b"\xff"].concat());
    for data in malformed {
        client.option(OPT_LIST_META_CONTEXT, &data);
        let (reply, message) = client.option_reply(OPT_LIST_META_CONTEXT);
        assert!(matches!(reply, REP_ERR_INVALID | REP_ERR_TOO_BIG), "{reply:#x} to {data:?}");
        assert!(!message.is_empty());
    }
    let many = vec!["base:allocation"; 1500];
    assert_eq!(contexts(&mut client, OPT_SET_META_CONTEXT, "disk", &many).unwrap(), [BASE_ALLOCATION]);
    served.still_serves();
}

#[test]
fn tls_that_is_not_there_is_refused() {
    let served = served();
    let mut client = served.greeted();
    assert_eq!(agree(&mut client, OPT_STARTTLS), REP_ERR_POLICY);
    go(&mut client, "");
    assert_eq!(client.read(0, 512).unwrap(), [0; 512]);
}
