//! What the transmission phase promises about requests, good and bad.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::collections::HashMap;
use std::io::Read;

use quod_export::nbd::ExportOptions;
use quod_nbd::*;
use quod_storage::Access;
use support::{Client, SIZE, Served};

fn served() -> Served {
    Served::new(ExportOptions::default())
}

/// A byte that tells where and when it was written.
fn pattern(round: u32, index: u32) -> u8 {
    (round.wrapping_mul(31).wrapping_add(index.wrapping_mul(7)) % 251) as u8 + 1
}

#[test]
fn what_is_written_is_read_by_every_client() {
    let served = served();
    let (mut one, mut two) = (served.client(), served.client());
    let long: Vec<u8> = (0..3 << 20).map(|index| pattern(1, index)).collect();
    for (offset, bytes) in
        [(0, &b"first"[..]), (65_530, b"across clusters"), (5 << 20, &long), (SIZE - 3, b"end")]
    {
        assert_eq!(one.write(offset, bytes), Ok(()));
        assert_eq!(two.read(offset, bytes.len() as u32).unwrap(), bytes);
    }
    assert_eq!(two.read(2 << 20, 1 << 20).unwrap(), vec![0; 1 << 20], "never written");
}

#[test]
fn zeroes_and_trims_read_as_zeroes() {
    let served = served();
    let mut client = served.client();
    let requests = [
        (Command::WriteZeroes, 0),
        (Command::WriteZeroes, CMD_FLAG_NO_HOLE),
        (Command::WriteZeroes, CMD_FLAG_NO_HOLE | CMD_FLAG_FUA),
        (Command::Trim, 0),
        (Command::Trim, CMD_FLAG_FUA),
    ];
    for (command, flags) in requests {
        assert_eq!(client.write_flagged(CMD_FLAG_FUA, 100, &[1; 300_000]), Ok(()));
        assert_eq!(client.call(command, flags, 200, 250_000), Ok(()));
        let bytes = client.read(0, 300_200).unwrap();
        assert!(bytes[100..200].iter().chain(&bytes[250_200..300_100]).all(|&byte| byte == 1));
        if command == Command::WriteZeroes {
            assert!(bytes[200..250_200].iter().all(|&byte| byte == 0));
        }
    }
}

#[test]
fn requests_out_of_range_are_refused_and_the_connection_goes_on() {
    let served = served();
    let mut client = served.client();
    let past =
        [(SIZE, 1), (SIZE - 1, 2), (u64::MAX, 1), (u64::MAX - 1, 2), (SIZE + 1, 0), (0, (SIZE + 1) as u32)];
    for (offset, length) in past {
        assert_eq!(client.call(Command::Read, 0, offset, length), Err(Errno::Inval));
        assert_eq!(client.call(Command::Trim, 0, offset, length), Err(Errno::Inval));
        assert_eq!(client.call(Command::WriteZeroes, 0, offset, length), Err(Errno::NoSpc));
        if length <= MAX_PAYLOAD {
            assert_eq!(client.write(offset, &vec![1; length as usize]), Err(Errno::NoSpc));
        }
    }
    assert_eq!(
        client.write(SIZE, &vec![1; MAX_PAYLOAD as usize]),
        Err(Errno::NoSpc),
        "drained at full length"
    );
    assert_eq!(client.read(SIZE - 1, 1).unwrap(), [0]);
}

#[test]
fn requests_of_no_length_succeed() {
    let served = served();
    let mut client = served.client();
    for offset in [0, SIZE] {
        for flags in [0, CMD_FLAG_FUA] {
            for command in [Command::Read, Command::Trim, Command::WriteZeroes, Command::Write] {
                assert_eq!(client.call(command, flags, offset, 0), Ok(()), "{command:?} {flags} at {offset}");
            }
        }
    }
}

#[test]
fn unknown_commands_and_flags_are_invalid_and_the_connection_goes_on() {
    let served = served();
    let mut client = served.client();
    for number in [Command::BlockStatus, Command::Unknown(8), Command::Unknown(u16::MAX)] {
        assert_eq!(client.call(number, 0, 0, 512), Err(Errno::Inval));
    }
    use Command::{Cache, Flush, Read, Trim, Write, WriteZeroes};
    for command in [Read, Write, Flush, Trim, Cache, WriteZeroes] {
        for bit in 1..16 {
            if command == WriteZeroes && (CMD_FLAG_NO_HOLE | CMD_FLAG_FAST_ZERO) & 1 << bit != 0 {
                continue;
            }
            assert_eq!(
                client.call(command, 1 << bit, 0, 0),
                Err(Errno::Inval),
                "{command:?} with flag {bit}"
            );
        }
    }
    assert_eq!(
        client.write_flagged(CMD_FLAG_DF, 0, &[1; 70_000]),
        Err(Errno::Inval),
        "its payload is drained"
    );
    assert_eq!(client.call(Command::Flush, 0, 0, 1), Err(Errno::Inval));
    assert_eq!(client.call(Command::Flush, CMD_FLAG_FUA, 0, 0), Ok(()));
    assert_eq!(client.call(Command::Read, CMD_FLAG_FUA, 0, 0), Ok(()), "clients are known to do this");
}

#[test]
fn requests_of_4_gib_are_refused_or_end_the_connection() {
    let served = served();
    let mut client = served.client();
    for length in [MAX_PAYLOAD + 1, u32::MAX] {
        assert_eq!(client.call(Command::Read, 0, 0, length), Err(Errno::Inval));
        client.request(Command::Write, 0, 0, length);
        client.is_disconnected();
        client = served.client();
    }
    assert_eq!(client.call(Command::WriteZeroes, 0, 0, u32::MAX), Err(Errno::NoSpc));
    assert_eq!(client.read(0, MAX_PAYLOAD).unwrap(), vec![0; MAX_PAYLOAD as usize]);
    served.still_serves();
}

#[test]
fn a_request_out_of_step_ends_the_connection_after_the_others_were_answered() {
    let served = served();
    let mut client = served.client();
    let good = client.request(Command::Flush, 0, 0, 0);
    client.send(&[0x55; COMPACT_REQUEST_LEN]);
    assert_eq!(client.reply(), (good, Ok(())));
    client.is_disconnected();
    served.still_serves();
}

#[test]
fn disconnect_answers_what_is_in_flight_first() {
    let served = served();
    let mut client = served.client();
    let mut open: Vec<_> = (0..10).map(|_| client.request(Command::Flush, 0, 0, 0)).collect();
    client.request(Command::Disconnect, 0, 0, 0);
    while !open.is_empty() {
        let (cookie, _) = client.reply();
        open.retain(|&other| other != cookie);
    }
    client.is_disconnected();
}

#[test]
fn a_read_only_export_refuses_every_change() {
    let mut options = ExportOptions::default();
    options.read_only = true;
    for served in [Served::new(options), Served::opened(ExportOptions::default(), Access::Read)] {
        let mut client = served.client();
        assert_eq!(client.write(0, &[1; 100_000]), Err(Errno::Perm));
        assert_eq!(client.write(SIZE, &[1; 10]), Err(Errno::Perm));
        assert_eq!(client.call(Command::Trim, 0, 0, 512), Err(Errno::Perm));
        assert_eq!(client.call(Command::WriteZeroes, 0, 0, 512), Err(Errno::Perm));
        assert_eq!(client.call(Command::Flush, 0, 0, 0), Ok(()));
        assert_eq!(client.read(0, 100_000).unwrap(), vec![0; 100_000]);
    }
}

/// Sends rounds of overlapping kinds of requests without waiting, on blocks of their own, then collects the answers.
fn pipeline(client: &mut Client, base: u64, rounds: u32) {
    const BLOCK: u32 = 6000;
    let mut expected = HashMap::new();
    for round in 0..rounds {
        let at = |index: u32| base + u64::from(index * BLOCK);
        for index in 0..40 {
            let cookie = client.request(Command::Write, 0, at(index), BLOCK);
            client.send(&vec![pattern(round, index); BLOCK as usize]);
            expected.insert(cookie, None);
        }
        collect(client, &mut expected);
        for index in 0..40 {
            let cookie = client.request(Command::Read, 0, at(index), BLOCK);
            expected.insert(cookie, Some(vec![pattern(round, index); BLOCK as usize]));
            if index % 8 == 0 {
                expected.insert(client.request(Command::Flush, 0, 0, 0), None);
            }
        }
        collect(client, &mut expected);
    }
}

fn collect(client: &mut Client, expected: &mut HashMap<Cookie, Option<Vec<u8>>>) {
    while !expected.is_empty() {
        let (cookie, result) = client.reply();
        assert_eq!(result, Ok(()));
        if let Some(bytes) = expected.remove(&cookie).expect("each request is answered once") {
            assert!(client.bytes(bytes.len()) == bytes, "wrong bytes for {:?}", cookie);
        }
    }
}

#[test]
fn many_requests_of_many_clients_each_get_their_own_answer() {
    let served = served();
    std::thread::scope(|scope| {
        for number in 0..4 {
            let mut client = served.client();
            scope.spawn(move || pipeline(&mut client, number << 20, 30));
        }
    });
}

#[test]
fn a_flush_waits_for_no_other_clients_long_requests() {
    const MANY: usize = 63;
    let served = served();
    let (mut greedy, mut modest) = (served.client(), served.client());
    assert_eq!(modest.write(0, &[1; 512]), Ok(()));
    for _ in 0..MANY {
        greedy.request(Command::Cache, 0, 0, SIZE as u32);
    }
    let all_are_taken_in = greedy.request(Command::Read, 0, 0, 0);
    let mut first = (0..).take_while(|_| greedy.reply().0 != all_are_taken_in).count();
    assert_eq!(modest.call(Command::Flush, 0, 0, 0), Ok(()));
    greedy.stream.set_nonblocking(true).unwrap();
    let mut replies = [0; MANY * SIMPLE_REPLY_LEN];
    first += greedy.stream.read(&mut replies).unwrap_or(0) / SIMPLE_REPLY_LEN;
    assert!(first < MANY / 2, "{first} of {MANY} were answered before the flush");
}
