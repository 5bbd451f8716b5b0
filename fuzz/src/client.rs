//! What an NBD client says, out of a fuzzer's bytes.
//!
//! Role: raw bytes; or a handshake that leads to a mode, requests with their payloads, and mistakes in between.
//!
//! Invariant: at most [`MOST`] bytes, which fit the buffer of a socket: who sends them does not wait for a reader.
//!
//! Absent on purpose: hearing the answers.

use arbitrary::{Result, Unstructured};
use quod_nbd::*;

/// Size of the disks that are served, in bytes.
pub(crate) const SIZE: u64 = 256 << 10;

/// The export that clients may only read.
pub(crate) const WITNESS: &str = "witness";

/// The longest conversation.
const MOST: usize = 96 << 10;

const MODES: [Mode; 3] = [Mode::Simple, Mode::Structured, Mode::Extended];

/// All that a client says.
pub(crate) fn conversation(bytes: &[u8]) -> Vec<u8> {
    let (how, rest) = bytes.split_first().map_or((0, bytes), |(how, rest)| (*how, rest));
    let mut rest = Unstructured::new(rest);
    let mut said = Vec::new();
    // What is said when the bytes come to their end is said all the same.
    let _whole: bool = match how % 4 {
        0 => {
            said = rest.take_rest().to_vec();
            true
        }
        1 => negotiation(&mut rest, &mut said).is_ok(),
        _ => session(&mut rest, &mut said).is_ok(),
    };
    said.truncate(MOST);
    said
}

/// Any options, and then perhaps requests.
fn negotiation(bytes: &mut Unstructured<'_>, said: &mut Vec<u8>) -> Result<()> {
    let flags = if bytes.ratio(1, 8)? { bytes.arbitrary()? } else { C_FIXED_NEWSTYLE | C_NO_ZEROES };
    said.extend(u32::to_be_bytes(flags));
    let mut mode = Mode::Simple;
    for _ in 0..bytes.int_in_range(1..=12u8)? {
        let option = if bytes.ratio(1, 12)? { bytes.arbitrary()? } else { bytes.int_in_range(1..=11u32)? };
        let data = option_data(bytes, option)?;
        let length = if bytes.ratio(1, 16)? { bytes.arbitrary()? } else { data.len() as u32 };
        said.extend(OptionHeader { option, length }.encode());
        said.extend(data);
        mode = match option {
            OPT_STRUCTURED_REPLY if mode == Mode::Simple => Mode::Structured,
            OPT_EXTENDED_HEADERS => Mode::Extended,
            _ => mode,
        };
    }
    requests(bytes, mode, said)
}

fn option_data(bytes: &mut Unstructured<'_>, option: u32) -> Result<Vec<u8>> {
    if bytes.ratio(1, 8)? {
        return some_bytes(bytes, 40);
    }
    let export = export_name(bytes)?;
    Ok(match option {
        OPT_EXPORT_NAME => export.into_bytes(),
        OPT_INFO | OPT_GO => {
            let wanted = (0..bytes.int_in_range(0..=4u16)?).collect();
            ExportQuery { name: &export, wanted }.encode()
        }
        OPT_LIST_META_CONTEXT | OPT_SET_META_CONTEXT => {
            let known = [BASE_ALLOCATION, QEMU_ALLOCATION_DEPTH, "base:", "qemu:", "", "x:y", ":"];
            let count = bytes.int_in_range(0..=3u8)?;
            let queries = (0..count).map(|_| bytes.choose(&known).copied()).collect::<Result<_>>()?;
            ContextQuery { export: &export, queries }.encode()
        }
        _ => Vec::new(),
    })
}

fn export_name(bytes: &mut Unstructured<'_>) -> Result<String> {
    Ok(match bytes.int_in_range(0..=7u8)? {
        0 => String::from_utf8_lossy(&some_bytes(bytes, 20)?).into_owned(),
        1 => "x".repeat(bytes.int_in_range(4090..=4100)?),
        2 | 3 => WITNESS.to_owned(),
        _ => String::new(),
    })
}

/// A handshake without a mistake, and requests.
fn session(bytes: &mut Unstructured<'_>, said: &mut Vec<u8>) -> Result<()> {
    let mode = *bytes.choose(&MODES)?;
    let name = if bytes.ratio(1, 8)? { WITNESS } else { "" };
    said.extend(u32::to_be_bytes(C_FIXED_NEWSTYLE | C_NO_ZEROES));
    let mut option = |option, data: &[u8]| {
        said.extend(OptionHeader { option, length: data.len() as u32 }.encode());
        said.extend(data);
    };
    match mode {
        Mode::Simple => {}
        Mode::Structured => option(OPT_STRUCTURED_REPLY, &[]),
        Mode::Extended => option(OPT_EXTENDED_HEADERS, &[]),
    }
    if mode != Mode::Simple {
        let queries = vec![BASE_ALLOCATION, QEMU_ALLOCATION_DEPTH];
        option(OPT_SET_META_CONTEXT, &ContextQuery { export: name, queries }.encode());
    }
    option(OPT_GO, &ExportQuery { name, wanted: vec![INFO_BLOCK_SIZE] }.encode());
    requests(bytes, mode, said)
}

fn requests(bytes: &mut Unstructured<'_>, mode: Mode, said: &mut Vec<u8>) -> Result<()> {
    while !bytes.is_empty() {
        if bytes.ratio(1, 32)? {
            said.extend(some_bytes(bytes, 40)?);
        }
        let (command, flags) = (command(bytes)?, flags(bytes)?);
        let (offset, length) = range(bytes)?;
        let payload = payload(bytes, command, mode, length)?;
        let length = if payload.is_empty() || bytes.ratio(1, 16)? { length } else { payload.len() as u64 };
        let length = if mode == Mode::Extended { length } else { length & u64::from(u32::MAX) };
        let flags = match (mode, payload.is_empty()) {
            (Mode::Extended, false) if !bytes.ratio(1, 8)? => flags | CMD_FLAG_PAYLOAD_LEN,
            _ => flags,
        };
        Request { flags, command, cookie: Cookie(bytes.arbitrary()?), offset, length }.encode(mode, said);
        said.extend(payload);
    }
    Ok(())
}

fn command(bytes: &mut Unstructured<'_>) -> Result<Command> {
    let usual = [
        Command::Read,
        Command::Write,
        Command::WriteZeroes,
        Command::Trim,
        Command::Flush,
        Command::Cache,
        Command::BlockStatus,
    ];
    Ok(match bytes.int_in_range(0..=31u8)? {
        0 => Command::Disconnect,
        1 => Command::Unknown(bytes.arbitrary()?),
        _ => *bytes.choose(&usual)?,
    })
}

fn flags(bytes: &mut Unstructured<'_>) -> Result<u16> {
    let one = [CMD_FLAG_FUA, CMD_FLAG_NO_HOLE, CMD_FLAG_DF, CMD_FLAG_REQ_ONE, CMD_FLAG_FAST_ZERO];
    Ok(match bytes.int_in_range(0..=15u8)? {
        0 => bytes.arbitrary()?,
        1..=4 => *bytes.choose(&one)?,
        _ => 0,
    })
}

fn range(bytes: &mut Unstructured<'_>) -> Result<(u64, u64)> {
    let near = u64::from(bytes.arbitrary::<u16>()?) * 5;
    let offset = match bytes.int_in_range(0..=15u8)? {
        0 => bytes.arbitrary()?,
        1 => SIZE.wrapping_sub(near),
        _ => near % SIZE,
    };
    let length = match bytes.int_in_range(0..=15u8)? {
        0 => bytes.arbitrary()?,
        1 => u64::from(bytes.arbitrary::<u32>()?),
        2 => SIZE.saturating_sub(offset),
        3 => 0,
        4..=8 => 512 * u64::from(bytes.arbitrary::<u8>()?),
        _ => u64::from(bytes.arbitrary::<u16>()? % 700),
    };
    Ok((offset, length))
}

/// What follows a request: mostly what its command asks for.
fn payload(bytes: &mut Unstructured<'_>, command: Command, mode: Mode, length: u64) -> Result<Vec<u8>> {
    if bytes.ratio(1, 24)? {
        return some_bytes(bytes, 60);
    }
    Ok(match command {
        Command::Write => vec![bytes.arbitrary()?; length.min(9000) as usize],
        Command::BlockStatus if mode == Mode::Extended && bytes.ratio(1, 3)? => {
            let count = bytes.int_in_range(0..=3u8)?;
            let contexts =
                (0..count).map(|_| Ok(ContextId(bytes.int_in_range(0..=3)?))).collect::<Result<_>>()?;
            StatusSelection { length, contexts }.encode()
        }
        _ => Vec::new(),
    })
}

fn some_bytes(bytes: &mut Unstructured<'_>, most: usize) -> Result<Vec<u8>> {
    let count = bytes.int_in_range(0..=most)?.min(bytes.len());
    Ok(bytes.bytes(count)?.to_vec())
}
