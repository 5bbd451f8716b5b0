//! Reads and writes of the io language.
//!
//! Role: one function a command, from its words to a [`Command`]; `catalogue` names them.
//!
//! Invariant: pure. None asks for more than [`MAX_REQUEST`] bytes, zeroes without a buffer excepted.
//!
//! Absent on purpose: counting words; that comes before.

use super::command::{Command, Range, Read, Style, Way, What, Write};
use super::numbers::{MAX_REQUEST, length, number, pattern, total};
use super::scan::{Refusal, Scanned};
use super::spec::Spec;

/// What is written where no pattern is named.
const DEFAULT_PATTERN: u8 = 0xcd;

const SECTOR: u64 = 512;

type Parsed = Result<Command, Refusal>;

pub(crate) fn read(spec: &'static Spec, words: &[&str]) -> Parsed {
    let scanned = Scanned::of(spec.name, spec.options, words)?;
    let value = scanned.value('P').map(pattern).transpose()?;
    let from = scanned.value('s').map(number).transpose()?;
    let count = scanned.value('l').map(number).transpose()?;
    let [at, len] = scanned.rest[..] else { return Err(Refusal::Usage) };
    let range = Range { at: number(at)?, len: length(len, "")? };
    if value.is_none() && (from.is_some() || count.is_some()) {
        return Err(Refusal::Usage);
    }
    let from = from.unwrap_or(0);
    let too_far = "pattern verification range exceeds end of read data";
    let Some(left) = range.len.checked_sub(from) else { return Refusal::sentence(too_far) };
    let count = count.unwrap_or(left);
    if count > left {
        return Refusal::sentence(too_far);
    }
    let vm_state = scanned.has('b');
    if vm_state {
        sectors_only(range)?;
    }
    let part = Range { at: range.at.saturating_add(from), len: count };
    let verify = value.map(|value| (part, value));
    let way = Way::Now;
    Ok(Command::Read(Read {
        range,
        style: style(&scanned),
        way,
        verify,
        dump: scanned.has('v'),
        vm_state,
        word: "read",
    }))
}

pub(crate) fn readv(spec: &'static Spec, words: &[&str]) -> Parsed {
    vectored_read(spec, words, Way::Now)
}

pub(crate) fn aio_read(spec: &'static Spec, words: &[&str]) -> Parsed {
    vectored_read(spec, words, Way::Aside)
}

fn vectored_read(spec: &'static Spec, words: &[&str], way: Way) -> Parsed {
    let scanned = Scanned::of(spec.name, spec.options, words)?;
    let value = scanned.value('P').map(pattern).transpose()?;
    let range = vectored_range(&scanned)?;
    let way = if scanned.has('i') { Way::Inject } else { way };
    let verify = value.map(|value| (range, value));
    Ok(Command::Read(Read {
        range,
        style: style(&scanned),
        way,
        verify,
        dump: scanned.has('v'),
        vm_state: false,
        word: "readv",
    }))
}

pub(crate) fn write(spec: &'static Spec, words: &[&str]) -> Parsed {
    let scanned = Scanned::of(spec.name, spec.options, words)?;
    let value = scanned.value('P').map(pattern).transpose()?;
    let [at, len] = scanned.rest[..] else { return Err(Refusal::Usage) };
    let [vm_state, compressed, fua, zeroes] = ['b', 'c', 'f', 'z'].map(|option| scanned.has(option));
    if vm_state && zeroes {
        return Refusal::sentence("-b and -z cannot be specified at the same time");
    }
    if fua && (vm_state || compressed) {
        return Refusal::sentence("-f and -b or -c cannot be specified at the same time");
    }
    unmap_only_with_zeroes(&scanned)?;
    if scanned.has('n') && !zeroes {
        return Refusal::sentence("-n requires -z to be specified");
    }
    let what = what(value, scanned.value('s'), zeroes.then(|| scanned.has('u')))?;
    let at = number(at)?;
    let len = match (zeroes, scanned.has('n')) {
        (true, true) => number(len)?,
        (true, false) => length(len, " without -n")?,
        _ => length(len, "")?,
    };
    let range = Range { at, len };
    let unsupported = vm_state || (compressed && !zeroes);
    if unsupported {
        sectors_only(range)?;
    }
    Ok(Command::Write(Write {
        range,
        style: style(&scanned),
        way: Way::Now,
        what,
        fua,
        unsupported,
        word: "write",
    }))
}

fn what(value: Option<u8>, file: Option<&str>, zeroes: Option<bool>) -> Result<What, Refusal> {
    match (value, file, zeroes) {
        (None, None, Some(unmap)) => Ok(What::Zeroes { unmap }),
        (None, Some(file), None) => Ok(What::File(file.to_owned())),
        (value, None, None) => Ok(What::Pattern(value.unwrap_or(DEFAULT_PATTERN))),
        _ => Refusal::sentence("Only one of -z, -P, and -s can be specified at the same time"),
    }
}

pub(crate) fn writev(spec: &'static Spec, words: &[&str]) -> Parsed {
    let scanned = Scanned::of(spec.name, spec.options, words)?;
    let value = scanned.value('P').map(pattern).transpose()?;
    let what = What::Pattern(value.unwrap_or(DEFAULT_PATTERN));
    let (range, fua) = (vectored_range(&scanned)?, scanned.has('f'));
    let (style, way) = (style(&scanned), Way::Now);
    Ok(Command::Write(Write { range, style, way, what, fua, unsupported: false, word: "writev" }))
}

pub(crate) fn aio_write(spec: &'static Spec, words: &[&str]) -> Parsed {
    let scanned = Scanned::of(spec.name, spec.options, words)?;
    let value = scanned.value('P').map(pattern).transpose()?;
    unmap_only_with_zeroes(&scanned)?;
    let (what, range) = if scanned.has('z') {
        match scanned.rest[..] {
            [at, len] => {
                let range = Range { at: number(at)?, len: number(len)? };
                (What::Zeroes { unmap: scanned.has('u') }, range)
            }
            [] | [_] => return Err(Refusal::Usage),
            _ => return Refusal::sentence("-z supports only a single length parameter"),
        }
    } else {
        (What::Pattern(value.unwrap_or(DEFAULT_PATTERN)), vectored_range(&scanned)?)
    };
    let way = if scanned.has('i') { Way::Inject } else { Way::Aside };
    let (style, fua) = (style(&scanned), scanned.has('f'));
    Ok(Command::Write(Write { range, style, way, what, fua, unsupported: false, word: "aio_write" }))
}

pub(crate) fn discard(spec: &'static Spec, words: &[&str]) -> Parsed {
    let scanned = Scanned::of(spec.name, spec.options, words)?;
    let [at, len] = scanned.rest[..] else { return Err(Refusal::Usage) };
    let range = Range { at: number(at)?, len: length(len, "")? };
    Ok(Command::Discard(range, style(&scanned)))
}

fn style(scanned: &Scanned<'_>) -> Style {
    Style { quiet: scanned.has('q'), machine: scanned.has('C') }
}

fn vectored_range(scanned: &Scanned<'_>) -> Result<Range, Refusal> {
    let [at, parts @ ..] = &scanned.rest[..] else { return Err(Refusal::Usage) };
    if parts.is_empty() {
        return Err(Refusal::Usage);
    }
    Ok(Range { at: number(at)?, len: total(parts)? })
}

fn unmap_only_with_zeroes(scanned: &Scanned<'_>) -> Result<(), Refusal> {
    if scanned.has('u') && !scanned.has('z') {
        return Refusal::sentence("-u requires -z to be specified");
    }
    Ok(())
}

fn sectors_only(range: Range) -> Result<(), Refusal> {
    for (value, name) in [(range.at, "offset"), (range.len, "count")] {
        if value % SECTOR != 0 {
            return Refusal::sentence(format!("{value} is not a sector-aligned value for '{name}'"));
        }
    }
    Ok(())
}

const _: () = assert!(MAX_REQUEST.is_multiple_of(SECTOR));
