//! What the io language prints.
//!
//! Role: outcomes with their speed, and dumps, in the forms that scripts know.
//!
//! Absent on purpose: deciding what is printed.

use std::io::{self, Write};
use std::time::Duration;

use quod_language::{Range, Style};

use crate::sizes::Amount;

const BYTES_A_LINE: usize = 16;

/// Tells that a request is done. `verb` is `read`, `wrote` or `discard`.
pub(super) fn outcome(
    out: &mut impl Write,
    verb: &str,
    range: Range,
    style: Style,
    took: Duration,
) -> io::Result<()> {
    let len = range.len;
    let seconds = took.as_secs_f64().max(1e-9);
    let (rate, ops) = (len as f64 / seconds, 1.0 / seconds);
    if style.quiet {
        return Ok(());
    }
    if style.machine {
        return writeln!(out, "{len},1,{},{rate:.3},{ops:.3}", clock(took));
    }
    writeln!(out, "{verb} {len}/{len} bytes at offset {}", range.at)?;
    let time =
        if took.as_secs() > 0 { clock(took) } else { format!("00.{:02} sec", took.subsec_millis() / 10) };
    writeln!(out, "{}, 1 ops; {time} ({}/sec and {ops:.4} ops/sec)", Amount::bytes(len), Amount(rate))
}

/// `0:00:03.50`
fn clock(took: Duration) -> String {
    let (seconds, hundredths) = (took.as_secs(), took.subsec_millis() / 10);
    format!("{}:{:02}:{:02}.{hundredths:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

/// A byte as a letter or a digit, where it is one, as the reference shows it.
fn letter_of(byte: u8) -> char {
    if byte.is_ascii_alphanumeric() { byte.into() } else { '.' }
}

/// Prints bytes in lines of sixteen, in hexadecimal and as letters.
pub(super) fn dump(out: &mut impl Write, at: u64, bytes: &[u8]) -> io::Result<()> {
    for (number, line) in bytes.chunks(BYTES_A_LINE).enumerate() {
        write!(out, "{:08x}: ", at + (number * BYTES_A_LINE) as u64)?;
        for byte in line {
            write!(out, " {byte:02x}")?;
        }
        let letters: String = line.iter().map(|&byte| letter_of(byte)).collect();
        writeln!(out, "  {letters}")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(print: impl FnOnce(&mut Vec<u8>) -> io::Result<()>) -> String {
        let mut out = Vec::new();
        print(&mut out).expect("memory takes everything");
        String::from_utf8(out).expect("all of it is text")
    }

    #[test]
    fn outcomes_have_the_form_that_scripts_know() {
        let range = Range { at: 512, len: 2048 };
        let human = text(|out| outcome(out, "wrote", range, Style::default(), Duration::from_millis(15)));
        assert_eq!(
            human,
            "wrote 2048/2048 bytes at offset 512\n2 KiB, 1 ops; 00.01 sec (133.333 KiB/sec and 66.6667 ops/sec)\n"
        );
        let slow =
            text(|out| outcome(out, "read", range, Style::default(), Duration::from_millis(3_723_500)));
        assert!(slow.contains("; 1:02:03.50 ("), "{slow}");
        let machine = Style { machine: true, ..Style::default() };
        let machine = text(|out| outcome(out, "read", range, machine, Duration::from_millis(500)));
        assert_eq!(machine, "2048,1,0:00:00.50,4096.000,2.000\n");
        let quiet = Style { quiet: true, ..Style::default() };
        assert_eq!(text(|out| outcome(out, "read", range, quiet, Duration::ZERO)), "");
    }

    #[test]
    fn a_dump_has_sixteen_bytes_a_line() {
        let bytes: Vec<u8> = (0x20..0x32).collect();
        assert_eq!(
            text(|out| dump(out, 990, &bytes)),
            "000003de:  20 21 22 23 24 25 26 27 28 29 2a 2b 2c 2d 2e 2f  ................\n000003ee:  30 31  01\n"
        );
    }
}
