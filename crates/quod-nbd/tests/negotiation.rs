//! A client's handshake against the bytes of servers of every kind.

use proptest::prelude::*;
use quod_nbd::*;

/// Kind and data of each reply to an option.
type Replies = Vec<(u32, Vec<u8>)>;

/// A server by its answers: what it says to each option, in order.
struct FakeServer {
    greeting: u16,
    answers: Vec<(u32, Replies)>,
    /// What follows EXPORT_NAME.
    by_name: Vec<u8>,
}

impl FakeServer {
    fn modern(answers: Vec<(u32, Replies)>) -> Self {
        FakeServer { greeting: FLAG_FIXED_NEWSTYLE | FLAG_NO_ZEROES, answers, by_name: Vec::new() }
    }

    /// Runs a handshake; gives its outcome and the options that the client sent.
    fn meet(mut self, mut client: Negotiation) -> (Result<Agreed, Refusal>, Vec<u32>) {
        let mut arriving = encode_greeting(self.greeting).to_vec();
        let (mut asked, mut need) = (Vec::new(), client.first_read());
        let mut turn = loop {
            assert!(need <= arriving.len(), "the client waits for {need} bytes, of {}", arriving.len());
            let rest = arriving.split_off(need);
            let fed = client.feed(&std::mem::replace(&mut arriving, rest));
            let mut turn = match fed {
                Ok(turn) => turn,
                Err(refusal) => return (Err(refusal), asked),
            };
            if turn.step == Step::StartTls {
                turn = client.tls_is_up().expect("the client asked for it");
            }
            let sent =
                if asked.is_empty() && !turn.send.is_empty() { &turn.send[4..] } else { &turn.send[..] };
            if let Some((head, data)) = sent.split_first_chunk::<OPTION_LEN>() {
                let head = OptionHeader::decode(head).expect("an option");
                assert_eq!(head.length as usize, data.len());
                asked.push(head.option);
                arriving.extend(self.answer(head.option));
            }
            match turn.step {
                Step::Read(more) => need = more,
                _ => break turn,
            }
        };
        match std::mem::replace(&mut turn.step, Step::StartTls) {
            Step::Done(agreed) => (Ok(agreed), asked),
            other => panic!("{other:?}"),
        }
    }

    fn answer(&mut self, option: u32) -> Vec<u8> {
        if option == OPT_EXPORT_NAME {
            return std::mem::take(&mut self.by_name);
        }
        let mut out = Vec::new();
        match self.answers.iter().position(|(known, _)| *known == option) {
            Some(place) => {
                for (reply, data) in self.answers.remove(place).1 {
                    encode_option_reply(&mut out, option, reply, &data);
                }
            }
            None => encode_option_reply(&mut out, option, REP_ERR_UNSUP, b""),
        }
        out
    }
}

const ACK: fn() -> (u32, Vec<u8>) = || (REP_ACK, Vec::new());

fn size(size: u64) -> (u32, Vec<u8>) {
    (REP_INFO, Info::Export { size, flags: TX_HAS_FLAGS | TX_SEND_FLUSH }.encode())
}

fn blocks(minimum: u32, preferred: u32, maximum: u32) -> (u32, Vec<u8>) {
    (REP_INFO, Info::BlockSize { minimum, preferred, maximum }.encode())
}

fn client() -> Negotiation {
    Negotiation::new("disk", false).expect("a short name")
}

fn go(replies: Replies) -> Result<Agreed, Refusal> {
    FakeServer::modern(vec![(OPT_GO, replies)]).meet(client()).0
}

#[test]
fn a_server_that_knows_everything_is_used_with_everything() {
    let server = FakeServer::modern(vec![
        (OPT_EXTENDED_HEADERS, vec![ACK()]),
        (
            OPT_SET_META_CONTEXT,
            vec![(REP_META_CONTEXT, encode_context(ContextId(7), BASE_ALLOCATION)), ACK()],
        ),
        (OPT_GO, vec![size(1 << 40), blocks(512, 4096, 1 << 20), ACK()]),
    ]);
    let (agreed, asked) = server.meet(client());
    let agreed = agreed.expect("it agrees");
    assert_eq!(asked, [OPT_EXTENDED_HEADERS, OPT_SET_META_CONTEXT, OPT_GO]);
    assert_eq!((agreed.mode, agreed.base_allocation), (Mode::Extended, Some(ContextId(7))));
    assert_eq!((agreed.size, agreed.minimum_block, agreed.maximum_payload), (1 << 40, 512, 1 << 20));
}

#[test]
fn a_server_that_knows_less_is_used_with_less() {
    let structured = vec![(OPT_STRUCTURED_REPLY, vec![ACK()]), (OPT_GO, vec![size(512), ACK()])];
    let (agreed, asked) = FakeServer::modern(structured).meet(client());
    let agreed = agreed.expect("it agrees");
    assert_eq!((agreed.mode, agreed.base_allocation), (Mode::Structured, None));
    assert_eq!(asked, [OPT_EXTENDED_HEADERS, OPT_STRUCTURED_REPLY, OPT_SET_META_CONTEXT, OPT_GO]);

    let agreed = go(vec![size(512), ACK()]).expect("it agrees");
    assert_eq!((agreed.mode, agreed.maximum_payload, agreed.minimum_block), (Mode::Simple, MAX_PAYLOAD, 1));
}

#[test]
fn a_server_without_go_is_asked_by_name() {
    for (greeting, zeroes) in
        [(FLAG_FIXED_NEWSTYLE | FLAG_NO_ZEROES, 0), (FLAG_FIXED_NEWSTYLE, 124), (0, 124)]
    {
        let mut by_name = encode_export_name_reply(4096, TX_HAS_FLAGS).to_vec();
        by_name.extend(vec![0; zeroes]);
        let (agreed, asked) = FakeServer { greeting, answers: Vec::new(), by_name }.meet(client());
        assert_eq!(agreed.expect("it agrees").size, 4096);
        assert_eq!(asked.last(), Some(&OPT_EXPORT_NAME));
        assert_eq!(asked.len(), if greeting == 0 { 1 } else { 4 });
    }
}

#[test]
fn wanted_tls_is_asked_for_first_and_never_done_without() {
    let tls = || Negotiation::new("disk", true).expect("a short name");
    let willing = vec![(OPT_STARTTLS, vec![ACK()]), (OPT_GO, vec![size(1), ACK()])];
    let (agreed, asked) = FakeServer::modern(willing).meet(tls());
    assert!(agreed.is_ok());
    assert_eq!(asked[..2], [OPT_STARTTLS, OPT_EXTENDED_HEADERS]);

    let (refused, asked) = FakeServer::modern(vec![(OPT_GO, vec![size(1), ACK()])]).meet(tls());
    assert!(matches!(refused, Err(Refusal::NoTls { .. })), "{refused:?}");
    assert_eq!(asked, [OPT_STARTTLS]);

    let old = FakeServer { greeting: 0, answers: Vec::new(), by_name: vec![0; 134] };
    assert!(matches!(old.meet(tls()).0, Err(Refusal::NoTls { .. })));
}

#[test]
fn a_refusal_is_a_sentence_fit_for_a_terminal() {
    let told = |reply, data: &[u8]| go(vec![(reply, data.to_vec())]).expect_err("refused").to_string();
    assert_eq!(
        told(REP_ERR_UNKNOWN, b"export 'x' \x1b[2J not present"),
        "Requested export not available (server reported: export 'x'  [2J not present)"
    );
    assert_eq!(told(REP_ERR_POLICY, b""), "Requested export is not allowed");
    assert_eq!(told(REP_ERR_TLS_REQD, b"\xff"), "the server requires TLS (server reported: \u{fffd})");
}

#[test]
fn what_makes_no_sense_is_refused() {
    for blocks in [blocks(0, 1, 1), blocks(3, 4, 8), blocks(1 << 17, 1 << 17, 1 << 20), blocks(512, 512, 1)] {
        assert!(matches!(go(vec![size(1), blocks, ACK()]), Err(Refusal::BlockSizes { .. })));
    }
    assert_eq!(go(vec![ACK()]), Err(Refusal::NoSize));
    assert!(matches!(go(vec![size(1 << 63), ACK()]), Err(Refusal::TooLarge { .. })));
    assert!(matches!(go(vec![(REP_SERVER, vec![0; 4])]), Err(Refusal::OddReply { .. })));
    assert_eq!(go(vec![(REP_INFO, vec![9; 70_000])]), Err(Refusal::TooMuch));
    assert_eq!(go(vec![(REP_INFO, vec![0, 9]); MAX_REPLIES + 1]), Err(Refusal::TooMuch));
    assert!(Negotiation::new(&"x".repeat(MAX_STRING + 1), false).is_err());
}

#[test]
fn a_reply_to_another_option_is_refused() {
    let mut client = client();
    client.feed(&encode_greeting(FLAG_FIXED_NEWSTYLE)).expect("a greeting");
    let other = OptionReplyHeader { option: OPT_GO, reply: REP_ACK, length: 0 }.encode();
    assert!(matches!(client.feed(&other), Err(Refusal::OtherOption { .. })));
    assert_eq!(client.feed(&other), Err(Refusal::OutOfTurn));
}

/// Bytes that mostly have the right form, so that they get past the first check.
fn likely_head() -> impl Strategy<Value = Vec<u8>> {
    let option =
        prop::sample::select(vec![OPT_EXTENDED_HEADERS, OPT_STRUCTURED_REPLY, OPT_SET_META_CONTEXT, OPT_GO]);
    let reply =
        prop::sample::select(vec![REP_ACK, REP_INFO, REP_META_CONTEXT, REP_ERR_UNSUP, REP_ERR_UNKNOWN]);
    (option, reply, 0u32..40)
        .prop_map(|(option, reply, length)| OptionReplyHeader { option, reply, length }.encode().to_vec())
}

proptest! {
    #[test]
    fn no_bytes_make_a_client_panic_or_ask_for_more_than_the_bound(
        tls in any::<bool>(),
        greeting in any::<u16>(),
        pieces in prop::collection::vec(prop_oneof![likely_head(), prop::collection::vec(any::<u8>(), 0..200)], 0..30),
    ) {
        let mut client = Negotiation::new("disk", tls).expect("a short name");
        let mut turn = client.feed(&encode_greeting(greeting));
        for mut piece in pieces {
            let Ok(Turn { step, .. }) = turn else { break };
            turn = match step {
                Step::Read(need) => {
                    prop_assert!(need <= MAX_OPTION_REPLY as usize);
                    if need != OPTION_REPLY_LEN || piece.len() != need {
                        piece.resize(need, 0);
                    }
                    client.feed(&piece)
                }
                Step::StartTls => client.tls_is_up(),
                Step::Done(_) => break,
            };
        }
    }
}
