//! A whole session as one client might send it, byte by byte, for tests that cut it short or spoil it.

use quod_nbd::*;

pub const MODES: [Mode; 3] = [Mode::Simple, Mode::Structured, Mode::Extended];

/// The name of every request of the session.
pub const COOKIE: Cookie = Cookie(7);

/// Every option and every command: flags, handshake, requests with their payloads, farewell.
pub fn bytes(mode: Mode) -> Vec<u8> {
    let mut bytes = (C_FIXED_NEWSTYLE | C_NO_ZEROES).to_be_bytes().to_vec();
    handshake(mode, &mut bytes);
    requests(mode, &mut bytes);
    bytes
}

fn handshake(mode: Mode, bytes: &mut Vec<u8>) {
    let query = ExportQuery { name: "", wanted: vec![INFO_NAME] }.encode();
    let contexts =
        ContextQuery { export: "", queries: vec![BASE_ALLOCATION, QEMU_ALLOCATION_DEPTH] }.encode();
    let headers = match mode {
        Mode::Simple => OPT_LIST,
        Mode::Structured => OPT_STRUCTURED_REPLY,
        Mode::Extended => OPT_EXTENDED_HEADERS,
    };
    let options = [
        (77, &b"nonsense"[..]),
        (OPT_STARTTLS, &[]),
        (OPT_INFO, &query),
        (headers, &[]),
        (OPT_LIST_META_CONTEXT, &contexts),
        (OPT_SET_META_CONTEXT, &contexts),
        (OPT_GO, &query),
    ];
    for (option, data) in options {
        bytes.extend(OptionHeader { option, length: data.len() as u32 }.encode());
        bytes.extend(data);
    }
}

fn requests(mode: Mode, bytes: &mut Vec<u8>) {
    let mut request = |command, flags, length, payload: &[u8]| {
        let flags = match (mode, payload) {
            (Mode::Extended, [_, ..]) => flags | CMD_FLAG_PAYLOAD_LEN,
            _ => flags,
        };
        let offset = if command == Command::Flush { 0 } else { 4096 };
        Request { flags, command, cookie: COOKIE, offset, length }.encode(mode, bytes);
        bytes.extend(payload);
    };
    request(Command::Write, CMD_FLAG_FUA, 32, &[9; 32]);
    request(Command::Read, 0, 32, &[]);
    request(Command::WriteZeroes, 0, 16, &[]);
    request(Command::Trim, 0, 16, &[]);
    request(Command::Flush, 0, 0, &[]);
    request(Command::Cache, 0, 16, &[]);
    request(Command::BlockStatus, CMD_FLAG_REQ_ONE, 16, &[]);
    if mode == Mode::Extended {
        let selection = StatusSelection { length: 512, contexts: vec![ContextId(0)] }.encode();
        request(Command::BlockStatus, 0, selection.len() as u64, &selection);
    }
    request(Command::Disconnect, 0, 0, &[]);
}
