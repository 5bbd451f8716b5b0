//! Commands of the io language that move no data.
//!
//! Role: one function a command, from its words to a [`Command`]; `catalogue` names them.
//!
//! Invariant: pure.
//!
//! Absent on purpose: counting words; that comes before.

use super::command::{Command, Open, Range, Reopen};
use super::numbers::number;
use super::scan::{Refusal, Scanned};
use super::spec::Spec;

/// What may be said of caches; taken for compatibility.
pub const CACHE_MODES: [&str; 6] = ["none", "off", "writeback", "writethrough", "directsync", "unsafe"];

/// Bytes that `alloc` looks at where none are named.
const DEFAULT_COUNT: u64 = 512;

type Parsed = Result<Command, Refusal>;

macro_rules! without_words {
    ($($name:ident => $command:expr;)*) => {
        $(pub(crate) fn $name(_: &'static Spec, _: &[&str]) -> Parsed {
            Ok($command)
        })*
    };
}

without_words! {
    abort => Command::Abort;
    aio_flush => Command::AioFlush;
    close => Command::Close;
    flush => Command::Flush;
    info => Command::Info;
    length => Command::Length;
    map => Command::Map;
    quit => Command::Quit;
}

pub(crate) fn alloc(_: &'static Spec, words: &[&str]) -> Parsed {
    let at = words.first().map_or(Err(Refusal::Usage), |at| number(at))?;
    let len = words.get(1).map_or(Ok(DEFAULT_COUNT), |len| number(len))?;
    Ok(Command::Alloc(Range { at, len }))
}

pub(crate) fn truncate(spec: &'static Spec, words: &[&str]) -> Parsed {
    let scanned = Scanned::of(spec.name, spec.options, words)?;
    match scanned.value('m') {
        None | Some("off") => {}
        Some(mode @ ("metadata" | "falloc" | "full")) => {
            return Refusal::complaint(format!("Unsupported preallocation mode '{mode}'"));
        }
        Some(mode) => return Refusal::complaint(format!("Invalid preallocation mode '{mode}'")),
    }
    let [size] = scanned.rest[..] else { return Err(Refusal::Usage) };
    Ok(Command::Truncate(number(size)?))
}

pub(crate) fn sleep(_: &'static Spec, words: &[&str]) -> Parsed {
    match words.first().and_then(|word| word.parse().ok()) {
        Some(milliseconds) => Ok(Command::Sleep(milliseconds)),
        None => Refusal::sentence(format!("{} is no count of milliseconds", words.join(" "))),
    }
}

pub(crate) fn help(_: &'static Spec, words: &[&str]) -> Parsed {
    Ok(Command::Help(words.first().map(|&name| name.to_owned())))
}

pub(crate) fn open(spec: &'static Spec, words: &[&str]) -> Parsed {
    let scanned = Scanned::of(spec.name, spec.options, words)?;
    let mut open = Open { read_only: scanned.has('r'), force_share: scanned.has('U'), ..Open::default() };
    if scanned.has('s') {
        return Refusal::complaint("snapshot files are not supported: make an overlay with 'quod create -b'");
    }
    let lists = scanned.options.iter().filter(|&&(letter, _)| letter == 'o').map(|&(_, list)| list);
    for option in lists.flat_map(|list| list.split(',')) {
        match option.split_once('=') {
            Some(("driver", format)) => open.format = Some(format.to_owned()),
            Some(("file.filename" | "filename", path)) => open.path = path.to_owned(),
            _ => return Refusal::complaint(format!("images do not have the option '{option}'")),
        }
    }
    match scanned.rest[..] {
        [path] => open.path = path.to_owned(),
        [] if !open.path.is_empty() => {}
        _ => return Err(Refusal::Usage),
    }
    Ok(Command::Open(open))
}

pub(crate) fn reopen(spec: &'static Spec, words: &[&str]) -> Parsed {
    let scanned = Scanned::of(spec.name, spec.options, words)?;
    if !scanned.rest.is_empty() {
        return Err(Refusal::Usage);
    }
    if let Some(list) = scanned.value('o') {
        return Refusal::complaint(format!(
            "Cannot change the option '{}'",
            list.split('=').next().unwrap_or(list)
        ));
    }
    if let Some(mode) = scanned.value('c').filter(|mode| !CACHE_MODES.contains(mode)) {
        return Refusal::complaint(format!("Invalid cache option: {mode}"));
    }
    match (scanned.has('r'), scanned.has('w')) {
        (true, true) => Refusal::complaint("Only one -r/-w option may be given"),
        (false, false) => Ok(Command::Reopen(Reopen { read_only: None })),
        (read_only, _) => Ok(Command::Reopen(Reopen { read_only: Some(read_only) })),
    }
}
