//! Lines of the io language.
//!
//! Role: parses text, and lines that are put together from the words of the language.
//!
//! Laws: no text panics; the same text means the same; a command that is written down plainly means what it meant;
//! sizes are those of a second reader, which counts in 128 bits.

use arbitrary::{Result, Unstructured};
use quod_language::{
    COMMANDS, Call, Command, MAX_REQUEST, MAX_SIZE, Open, Read, Refusal, SizeError, Style, Way, What, Write,
    parse_size,
};

/// Parses the text that `bytes` stand for.
///
/// # Panics
/// When a law is broken.
pub fn run(bytes: &[u8]) {
    let line = line_of(bytes);
    for word in line.split(' ') {
        assert_eq!(parse_size(word), second_reading(word), "{word:?}");
    }
    let parsed = parse(&line);
    assert_eq!(parsed, parse(&line), "{line:?}");
    match parsed {
        Ok(Some(command)) => {
            let plain = written(&command);
            assert_eq!(parse(&plain), Ok(Some(command)), "{line:?}, written as {plain:?}");
        }
        Ok(None) => assert!(line.trim_matches(' ').is_empty(), "{line:?} is nothing"),
        Err(refusal) => assert!(refusal.shows_usage() || !refusal.to_string().is_empty(), "{line:?}"),
    }
}

fn parse(line: &str) -> std::result::Result<Option<Command>, Refusal> {
    let Some(call) = Call::look_up(line)? else { return Ok(None) };
    call.check_count()?;
    call.command().map(Some)
}

/// Text as it is, or words of the language.
fn line_of(bytes: &[u8]) -> String {
    match bytes.split_first() {
        Some((how, rest)) if how % 2 == 1 => {
            let (mut rest, mut words) = (Unstructured::new(rest), Vec::new());
            while let Ok(word) = word(&mut rest, words.is_empty()) {
                words.push(word);
            }
            words.join(" ")
        }
        Some((_, rest)) => String::from_utf8_lossy(rest).into_owned(),
        None => String::new(),
    }
}

fn word(bytes: &mut Unstructured<'_>, is_first: bool) -> Result<String> {
    if is_first {
        return Ok(bytes.choose(&COMMANDS)?.name.to_owned());
    }
    if bytes.is_empty() {
        return Err(arbitrary::Error::NotEnoughData);
    }
    let options =
        ["-", "--", "-P", "-s", "-l", "-z", "-u", "-n", "-f", "-q", "-C", "-v", "-i", "-r", "-w", "-b"];
    let others = ["driver=qed", "file.filename=a", "off", "", "a b", "0x7f", "help", "é"];
    Ok(match bytes.int_in_range(0..=7u8)? {
        0 | 1 => (*bytes.choose(&options)?).to_owned(),
        2 => format!("-{}", bytes.choose(&['P', 's', 'l', 'o', 'm', 'c', 't', 'U'])?),
        3 => (*bytes.choose(&others)?).to_owned(),
        4 => bytes.arbitrary::<u64>()?.to_string(),
        5 => format!("{:#x}", bytes.arbitrary::<u32>()?),
        6 => {
            let (whole, part) = (bytes.arbitrary::<u16>()?, bytes.arbitrary::<u8>()?);
            let unit = bytes.choose(&['b', 'k', 'K', 'M', 'g', 'T', 'p', 'E'])?;
            if part % 2 == 0 { format!("{whole}{unit}") } else { format!("{}.{part}{unit}", whole % 9000) }
        }
        _ => (512 * u64::from(bytes.arbitrary::<u8>()?)).to_string(),
    })
}

/// A line that means just this.
fn written(command: &Command) -> String {
    match command {
        Command::Read(read) => written_read(read),
        Command::Write(write) => written_write(write),
        Command::Discard(range, style) => format!("discard{} {} {}", told(*style), range.at, range.len),
        Command::Flush => "flush".to_owned(),
        Command::AioFlush => "aio_flush".to_owned(),
        Command::Length => "length".to_owned(),
        Command::Truncate(size) => format!("truncate {size}"),
        Command::Alloc(range) => format!("alloc {} {}", range.at, range.len),
        Command::Map => "map".to_owned(),
        Command::Info => "info".to_owned(),
        Command::Open(open) => written_open(open),
        Command::Close => "close".to_owned(),
        Command::Reopen(reopen) => match reopen.read_only {
            None => "reopen".to_owned(),
            Some(true) => "reopen -r".to_owned(),
            Some(false) => "reopen -w".to_owned(),
        },
        Command::Sleep(milliseconds) => format!("sleep {milliseconds}"),
        Command::Help(None) => "help".to_owned(),
        Command::Help(Some(name)) => format!("help {name}"),
        Command::Quit => "quit".to_owned(),
        Command::Abort => "abort".to_owned(),
    }
}

fn told(style: Style) -> String {
    format!("{}{}", flag(style.quiet, "q"), flag(style.machine, "C"))
}

fn flag(is_set: bool, letter: &str) -> String {
    if is_set { format!(" -{letter}") } else { String::new() }
}

fn written_read(read: &Read) -> String {
    let Read { range, style, way, verify, dump, vm_state, word } = read;
    assert!(range.at <= MAX_SIZE && range.len <= MAX_REQUEST, "{read:?}");
    let name = if *way == Way::Now { word } else { "aio_read" };
    let mut line = format!("{name}{}{}", told(*style), flag(*dump, "v"));
    line += &flag(*vm_state, "b");
    line += &flag(*way == Way::Inject, "i");
    if let Some((part, value)) = verify {
        line += &format!(" -P {value}");
        if *word == "read" {
            assert!(part.at >= range.at && part.at + part.len <= range.at + range.len, "{read:?}");
            line += &format!(" -s {} -l {}", part.at - range.at, part.len);
        }
    }
    format!("{line} {} {}", range.at, range.len)
}

fn written_write(write: &Write) -> String {
    let Write { range, style, way, what, fua, unsupported, word } = write;
    let is_zero = matches!(what, What::Zeroes { .. });
    assert!(range.at <= MAX_SIZE && range.len <= if is_zero { MAX_SIZE } else { MAX_REQUEST }, "{write:?}");
    let mut line = format!("{word}{}{}", told(*style), flag(*fua, "f"));
    line += &flag(*unsupported, "c");
    line += &flag(*way == Way::Inject, "i");
    match what {
        What::Pattern(byte) => line += &format!(" -P {byte:#x}"),
        What::File(name) => line += &format!(" -s {name}"),
        What::Zeroes { unmap } => {
            line += &format!(" -z{}{}", flag(*unmap, "u"), flag(*word == "write", "n"));
        }
    }
    format!("{line} {} {}", range.at, range.len)
}

fn written_open(open: &Open) -> String {
    let Open { path, format, read_only, force_share } = open;
    let driver = format.as_ref().map(|format| format!(" -o driver={format}")).unwrap_or_default();
    format!("open{}{}{driver} -- {path}", flag(*read_only, "r"), flag(*force_share, "U"))
}

/// What a text is as a size, read digit by digit in 128 bits.
fn second_reading(text: &str) -> std::result::Result<u64, SizeError> {
    let text = text.trim_start();
    let is_negative = text.starts_with('-');
    let digits: Vec<char> = text.strip_prefix(['-', '+']).unwrap_or(text).chars().collect();
    let size = match digits[..] {
        ['0', 'x' | 'X', ref hex @ ..] => whole(hex, 16),
        _ => with_unit(&digits),
    };
    match size? {
        size if is_negative || size > u128::from(MAX_SIZE) => Err(SizeError::OutOfRange),
        size => Ok(size as u64),
    }
}

/// The number that digits stand for; what is more than any size is one more than the largest.
fn whole(digits: &[char], radix: u32) -> std::result::Result<u128, SizeError> {
    let most = u128::from(MAX_SIZE) + 1;
    let add = |sum: u128, digit: &char| {
        let value = u128::from(digit.to_digit(radix)?);
        Some((sum * u128::from(radix) + value).min(most))
    };
    let sum = digits.iter().try_fold(0, add).filter(|_| !digits.is_empty());
    sum.ok_or(SizeError::NotANumber)
}

fn with_unit(text: &[char]) -> std::result::Result<u128, SizeError> {
    let power = text.last().and_then(|last| "bkmgtpe".find(last.to_ascii_lowercase()));
    let (number, shift) = match power {
        Some(power) if !text.is_empty() => (&text[..text.len() - 1], 10 * power as u32),
        _ => (text, 0),
    };
    let point = number.iter().position(|&sign| sign == '.');
    let (before, after) = match point {
        Some(at) => (&number[..at], &number[at + 1..]),
        None => (number, &[][..]),
    };
    if before.is_empty() && after.is_empty() {
        return Err(SizeError::NotANumber);
    }
    let bytes = if before.is_empty() { 0 } else { whole(before, 10)? };
    Ok((bytes << shift) + fraction(after, shift)?)
}

/// Bytes of the digits behind a point, rounded to the nearest, half of one up. Only eighteen of them count.
fn fraction(digits: &[char], shift: u32) -> std::result::Result<u128, SizeError> {
    if digits.iter().any(|digit| !digit.is_ascii_digit()) {
        return Err(SizeError::NotANumber);
    }
    let counted = &digits[..digits.len().min(18)];
    let part = counted.iter().fold(0, |sum, digit| 10 * sum + u128::from(digit.to_digit(10).unwrap_or(0)));
    if part > 0 && shift == 0 {
        return Err(SizeError::NotANumber);
    }
    let one = 10u128.pow(counted.len() as u32);
    Ok(((part << (shift + 1)) + one) / (2 * one))
}
