//! Numbers of the io language.
//!
//! Role: offsets, lengths and pattern bytes, with the sentences that the reference has for what is none.
//!
//! Invariant: pure; a length that passes fits a request.
//!
//! Absent on purpose: what lies inside the disk, which only an open image knows.

use super::scan::Refusal;
use crate::sizes::{SizeError, parse_size};

/// The longest request with a buffer, in bytes: 2 GiB less a sector.
pub const MAX_REQUEST: u64 = (1 << 31) - 512;

/// An offset or a count of bytes.
pub(crate) fn number(text: &str) -> Result<u64, Refusal> {
    parse_size(text).map_err(|error| {
        Refusal::Sentence(match error {
            SizeError::NotANumber => {
                format!("Parsing error: non-numeric argument, or extraneous/unrecognized suffix -- {text}")
            }
            SizeError::OutOfRange => format!("Parsing error: argument too large -- {text}"),
        })
    })
}

/// The length of a request; `excuse` tells how a longer one may be asked for.
pub(crate) fn length(text: &str, excuse: &str) -> Result<u64, Refusal> {
    match number(text)? {
        len if len > MAX_REQUEST => {
            Refusal::sentence(format!("length cannot exceed {MAX_REQUEST}{excuse}, given {text}"))
        }
        len => Ok(len),
    }
}

/// The sum of the lengths of the parts of one request.
pub(crate) fn total(parts: &[&str]) -> Result<u64, Refusal> {
    let mut total = 0;
    for text in parts {
        let len = number(text)?;
        if len > MAX_REQUEST {
            return Refusal::sentence(format!("Argument '{text}' exceeds maximum size {MAX_REQUEST}"));
        }
        total += len;
        if total > MAX_REQUEST {
            return Refusal::sentence(format!(
                "The total number of bytes exceed the maximum size {MAX_REQUEST}"
            ));
        }
    }
    Ok(total)
}

/// A byte: decimal, 0x hexadecimal, or octal with a zero in front.
pub(crate) fn pattern(text: &str) -> Result<u8, Refusal> {
    let digits = text.strip_prefix('+').unwrap_or(text);
    let hex = digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X"));
    let (digits, radix) = match (hex, digits.strip_prefix('0')) {
        (Some(hex), _) => (hex, 16),
        (None, Some(octal)) if !octal.is_empty() => (octal, 8),
        _ => (digits, 10),
    };
    match u8::from_str_radix(digits, radix) {
        Ok(byte) if !digits.starts_with('+') => Ok(byte),
        _ => Refusal::sentence(format!("{text} is not a valid pattern byte")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_bytes_in_three_bases() {
        let good = [("0", 0), ("255", 255), ("0xab", 0xab), ("0X1f", 31), ("010", 8), ("+5", 5), ("00", 0)];
        for (text, byte) in good {
            assert_eq!(pattern(text), Ok(byte), "{text}");
        }
        for text in ["", "256", "-1", "abc", "0x", "1k", "09", "0x+1", "0+1", "++1", "\"5\""] {
            let sentence = format!("{text} is not a valid pattern byte");
            assert_eq!(pattern(text), Err(Refusal::Sentence(sentence)));
        }
    }

    #[test]
    fn no_request_is_longer_than_the_longest() {
        assert_eq!(length("2147483136", ""), Ok(MAX_REQUEST));
        assert!(length("2147483137", "").is_err());
        assert_eq!(total(&["1k", "2k"]), Ok(3072));
        assert!(total(&["1G", "1G"]).is_err());
        assert!(total(&["3G"]).is_err());
        assert!(total(&["8E"]).is_err());
    }
}
