//! What structured replies and extended headers promise in the transmission phase.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use quod_export::nbd::ExportOptions;
use quod_nbd::*;
use support::{Client, SIZE, Served};

const CHUNKED: [Mode; 2] = [Mode::Structured, Mode::Extended];
const BOTH: [&str; 2] = [BASE_ALLOCATION, QEMU_ALLOCATION_DEPTH];

/// Bytes of a cluster.
const CLUSTER: u64 = 64 << 10;

fn served() -> Served {
    Served::new(ExportOptions::default())
}

/// Writes, and checks that it is answered by success.
fn write(client: &mut Client, flags: u16, offset: u64, bytes: &[u8]) {
    let flags = if client.mode == Mode::Extended { flags | CMD_FLAG_PAYLOAD_LEN } else { flags };
    let cookie = client.request(Command::Write, flags, offset, bytes.len() as u32);
    client.send(bytes);
    succeeds(client, cookie);
}

/// Checks for success without content: a simple reply or a chunk that says so.
fn succeeds(client: &mut Client, cookie: Cookie) {
    let expected = if client.mode == Mode::Extended { vec![(REPLY_NONE, vec![])] } else { vec![] };
    assert_eq!(client.chunks(cookie), expected);
}

/// What a READ brings: its bytes, and the holes and lengths of data that it came in.
fn read(client: &mut Client, flags: u16, offset: u64, length: u32) -> (Vec<u8>, Vec<(u16, u64, u64)>) {
    let cookie = client.request(Command::Read, flags, offset, length);
    let (mut bytes, mut pieces) = (vec![0xff; length as usize], Vec::new());
    for (kind, payload) in client.chunks(cookie) {
        let known = if kind == REPLY_OFFSET_DATA { OFFSET_DATA_LEN } else { payload.len() };
        let (at, len) = match Chunk::decode(kind, &payload[..known]).unwrap() {
            Chunk::OffsetData { offset: at } => {
                let from = (at - offset) as usize;
                bytes[from..from + payload.len() - known].copy_from_slice(&payload[known..]);
                (at, (payload.len() - known) as u64)
            }
            Chunk::OffsetHole { offset: at, length } => {
                bytes[(at - offset) as usize..][..length as usize].fill(0);
                (at, length.into())
            }
            other => panic!("{other:?}"),
        };
        pieces.push((kind, at, len));
    }
    (bytes, pieces)
}

/// What BLOCK_STATUS says: per context its number and its runs.
fn status(client: &mut Client, flags: u16, offset: u64, length: u64) -> Vec<(u32, Vec<(u64, u64)>)> {
    let cookie = client.long_request(Command::BlockStatus, flags, offset, length);
    told(client, cookie)
}

fn told(client: &mut Client, cookie: Cookie) -> Vec<(u32, Vec<(u64, u64)>)> {
    let chunks = client.chunks(cookie);
    let wide = client.mode == Mode::Extended;
    let runs = chunks.iter().map(|(kind, payload)| {
        assert_eq!(*kind, if wide { REPLY_BLOCK_STATUS_EXT } else { REPLY_BLOCK_STATUS });
        match Chunk::decode(*kind, payload).unwrap() {
            Chunk::BlockStatus { context, extents } => {
                (context.0, extents.iter().map(|extent| (extent.length, extent.flags)).collect())
            }
            other => panic!("{other:?}"),
        }
    });
    runs.collect()
}

const ZERO: u64 = STATE_HOLE | STATE_ZERO;

#[test]
fn holes_come_as_holes_and_data_as_data() {
    for mode in CHUNKED {
        let served = served();
        let mut client = served.client_in(mode, &[]);
        write(&mut client, 0, CLUSTER, &[1; 3 * CLUSTER as usize]);
        let zeroes = client.request(Command::WriteZeroes, 0, 2 * CLUSTER, CLUSTER as u32);
        succeeds(&mut client, zeroes);
        let (bytes, pieces) = read(&mut client, 0, 0, 8 * CLUSTER as u32);
        assert!(bytes[..CLUSTER as usize].iter().all(|&byte| byte == 0));
        assert!(bytes[CLUSTER as usize..2 * CLUSTER as usize].iter().all(|&byte| byte == 1));
        assert!(bytes[2 * CLUSTER as usize..3 * CLUSTER as usize].iter().all(|&byte| byte == 0));
        // A cluster that was punched in place is still data: its table says so.
        let (hole, data) = (REPLY_OFFSET_HOLE, REPLY_OFFSET_DATA);
        let expected = [(hole, 0, CLUSTER), (data, CLUSTER, 3 * CLUSTER), (hole, 4 * CLUSTER, 4 * CLUSTER)];
        assert_eq!(pieces, expected);
        let (_, pieces) = read(&mut client, 0, 10 * CLUSTER, 1 << 20);
        assert_eq!(pieces, [(hole, 10 * CLUSTER, 1 << 20)]);
        let (_, pieces) = read(&mut client, CMD_FLAG_DF, 0, 8 * CLUSTER as u32);
        assert_eq!(pieces, [(data, 0, 8 * CLUSTER)], "not to be fragmented");
        let (bytes, pieces) = read(&mut client, 0, 4 * CLUSTER - 6, 12);
        assert_eq!(
            (&bytes[..], &pieces[..]),
            (&b"\x01\x01\x01\x01\x01\x01\0\0\0\0\0\0"[..], &[(data, 4 * CLUSTER - 6, 12)][..])
        );
    }
}

#[test]
fn a_checkered_disk_is_read_right_in_pieces_of_a_bounded_number() {
    let served = served();
    let mut client = served.client_in(Mode::Structured, &[]);
    for cluster in (0..SIZE / CLUSTER).step_by(2) {
        write(&mut client, 0, cluster * CLUSTER + 100, &[cluster as u8 | 1; 5000]);
    }
    let (bytes, pieces) = read(&mut client, 0, 50, MAX_PAYLOAD);
    for (at, &byte) in bytes.iter().enumerate() {
        let (cluster, inside) = ((at as u64 + 50) / CLUSTER, (at as u64 + 50) % CLUSTER);
        let expected = if cluster % 2 == 0 && (100..5100).contains(&inside) { cluster as u8 | 1 } else { 0 };
        assert_eq!(byte, expected, "at {at}");
    }
    assert!((100..=300).contains(&pieces.len()), "{} pieces", pieces.len());
    let mut next = 50;
    for (_, at, len) in pieces {
        assert_eq!(at, next, "one after another");
        next += len;
    }
    assert_eq!(next, 50 + u64::from(MAX_PAYLOAD));
}

#[test]
fn errors_come_as_chunks_with_a_sentence() {
    for mode in CHUNKED {
        let served = served();
        let mut client = served.client_in(mode, &[]);
        let mut fails = |command, flags, offset, length, errno| {
            let (told, sentence) = client.fails(command, flags, offset, length);
            assert_eq!(told, errno, "{command:?}");
            assert!(!sentence.is_empty() && !sentence.contains('/'), "{sentence:?}");
        };
        fails(Command::Read, 0, SIZE, 1, Errno::Inval);
        fails(Command::Read, CMD_FLAG_REQ_ONE, 0, 1, Errno::Inval);
        fails(Command::Read, 0, 0, (32 << 20) + 1, Errno::Inval);
        fails(Command::WriteZeroes, 0, SIZE - 1, 2, Errno::NoSpc);
        fails(Command::WriteZeroes, CMD_FLAG_NO_HOLE | CMD_FLAG_FAST_ZERO, 0, 512, Errno::NotSup);
        fails(Command::Trim, CMD_FLAG_DF, 0, 512, Errno::Inval);
        fails(Command::Flush, 0, 1, 0, Errno::Inval);
        fails(Command::Cache, 0, SIZE, 1, Errno::Inval);
        fails(Command::BlockStatus, 0, 0, 1, Errno::Inval);
        fails(Command::Unknown(99), 0, 0, 1, Errno::Inval);
        let (bytes, _) = read(&mut client, 0, 0, 100);
        assert_eq!(bytes, [0; 100], "and the connection goes on");
    }
}

#[test]
fn requests_of_no_length_succeed_in_every_mode() {
    for mode in CHUNKED {
        let served = served();
        let mut client = served.client_in(mode, &[]);
        for flags in [0, CMD_FLAG_FUA, CMD_FLAG_DF | CMD_FLAG_FUA] {
            let cookie = client.request(Command::Read, flags, SIZE, 0);
            assert_eq!(client.chunks(cookie), [(REPLY_NONE, vec![])], "a READ has no simple reply");
        }
        for command in [Command::Trim, Command::WriteZeroes, Command::Cache, Command::Flush] {
            let cookie = client.request(command, CMD_FLAG_FUA, 0, 0);
            succeeds(&mut client, cookie);
        }
        write(&mut client, CMD_FLAG_FUA, SIZE, &[]);
    }
}

#[test]
fn block_status_tells_holes_and_depths() {
    for mode in CHUNKED {
        let served = served();
        let mut client = served.client_in(mode, &BOTH);
        write(&mut client, 0, CLUSTER, &[1; 2 * CLUSTER as usize]);
        let rest = SIZE - 3 * CLUSTER;
        let allocation = vec![(CLUSTER, ZERO), (2 * CLUSTER, 0), (rest, ZERO)];
        let depth = vec![(CLUSTER, 0), (2 * CLUSTER, 1), (rest, 0)];
        assert_eq!(status(&mut client, 0, 0, SIZE), [(0, allocation), (1, depth)]);
        let one = status(&mut client, CMD_FLAG_REQ_ONE, 2 * CLUSTER + 7, SIZE - 2 * CLUSTER - 7);
        assert_eq!(one, [(0, vec![(CLUSTER - 7, 0)]), (1, vec![(CLUSTER - 7, 1)])]);
        assert_eq!(status(&mut client, 0, SIZE - 1, 1), [(0, vec![(1, ZERO)]), (1, vec![(1, 0)])]);
        for (offset, length) in [(SIZE, 1), (0, SIZE + 1), (0, 0), (u64::MAX, 2)] {
            assert_eq!(client.fails(Command::BlockStatus, 0, offset, length).0, Errno::Inval);
        }
    }
}

#[test]
fn block_status_by_payload_tells_of_what_it_names() {
    let served = served();
    let mut client = served.client_in(Mode::Extended, &BOTH);
    let mut ask = |payload: &[u8]| {
        let cookie = client.request(Command::BlockStatus, CMD_FLAG_PAYLOAD_LEN, 100, payload.len() as u32);
        client.send(payload);
        let chunks = client.chunks(cookie);
        let chunk = Chunk::decode(chunks[0].0, &chunks[0].1).unwrap();
        match chunk {
            Chunk::BlockStatus { context, extents } if chunks.len() == 1 => Ok((context.0, extents.len())),
            Chunk::Error { errno, .. } => Err(errno),
            other => panic!("{other:?}"),
        }
    };
    let selection = |length, ids: &[u32]| {
        StatusSelection { length, contexts: ids.iter().copied().map(ContextId).collect() }.encode()
    };
    assert_eq!(ask(&selection(1 << 20, &[1])), Ok((1, 1)));
    assert_eq!(ask(&selection(1 << 20, &[0])), Ok((0, 1)));
    assert_eq!(ask(&selection(1 << 20, &[2])), Err(Errno::Inval));
    assert_eq!(ask(&selection(1 << 20, &[])), Err(Errno::Inval));
    assert_eq!(ask(&selection(SIZE, &[0])), Err(Errno::Inval), "past the end");
    assert_eq!(ask(&selection(0, &[0])), Err(Errno::Inval));
    assert_eq!(ask(&[1, 2, 3]), Err(Errno::Inval));
    assert_eq!(ask(&[7; 40_000]), Err(Errno::Inval), "thrown away");
    assert_eq!(ask(&selection(1 << 20, &[0; 10])), Ok((0, 1)));
}

#[test]
fn lengths_of_64_bits_are_understood_and_bounded() {
    let served = served();
    let mut client = served.client_in(Mode::Extended, &BOTH[..1]);
    write(&mut client, 0, 1 << 20, &[1; 1 << 20]);
    for command in [Command::WriteZeroes, Command::Trim, Command::Cache] {
        let cookie = client.long_request(command, 0, 0, SIZE);
        succeeds(&mut client, cookie);
        for (offset, length) in [(0, u64::MAX), (1, u64::MAX), (1, SIZE), (0, 1 << 32)] {
            let past_the_end = if command == Command::WriteZeroes { Errno::NoSpc } else { Errno::Inval };
            assert_eq!(client.fails(command, 0, offset, length).0, past_the_end);
        }
    }
    assert_eq!(client.fails(Command::Read, 0, 0, 1 << 40).0, Errno::Inval);
    // A payload where none belongs is thrown away.
    let cookie = client.request(Command::Trim, CMD_FLAG_PAYLOAD_LEN, 0, 70_000);
    client.send(&[1; 70_000]);
    assert_eq!(client.chunks(cookie)[0].0, REPLY_ERROR);
    let (bytes, _) = read(&mut client, 0, 1 << 20, 1000);
    assert_eq!(bytes, [0; 1000]);
    for length in [u64::from(MAX_PAYLOAD) + 1, 1 << 32, u64::MAX] {
        let mut client = served.client_in(Mode::Extended, &[]);
        client.long_request(Command::Write, CMD_FLAG_PAYLOAD_LEN, 0, length);
        client.is_disconnected();
    }
    let mut compact = served.client();
    compact.mode = Mode::Extended;
    compact.request(Command::Read, 0, 0, 1);
    compact.is_disconnected();
    served.still_serves();
}
