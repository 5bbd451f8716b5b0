//! Sizes as people write them.
//!
//! Role: the numbers with suffixes that the reference tools take.
//!
//! Invariant: parsing is exact integer arithmetic, takes any text, and never panics.
//!
//! Absent on purpose: units of 1000, suffixes of more than one letter, negative sizes.

/// The largest size or offset that the tools take: 2^63 - 1.
pub const MAX_SIZE: u64 = i64::MAX as u64;

/// Digits after the point that are looked at: what the exact sum has room for.
const FRACTION_DIGITS: usize = 18;

/// Why a text is no size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SizeError {
    /// It is no number, or something follows it.
    NotANumber,
    /// It is negative or more than [`MAX_SIZE`].
    OutOfRange,
}

/// Reads `4096`, `0x1000`, `64k`, `1.5M`, `10G`: bytes, with a suffix of b, k, M, G, T, P or E of either case.
///
/// # Errors
/// Why it is none.
pub fn parse_size(text: &str) -> Result<u64, SizeError> {
    let text = text.trim_start();
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let size = match digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")) {
        Some(hex) => parse_hex(hex)?,
        None => parse_decimal(digits)?,
    };
    if negative || size > u128::from(MAX_SIZE) {
        return Err(SizeError::OutOfRange);
    }
    u64::try_from(size).or(Err(SizeError::OutOfRange))
}

fn parse_hex(digits: &str) -> Result<u128, SizeError> {
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(SizeError::NotANumber);
    }
    u128::from_str_radix(digits, 16).or(Err(SizeError::OutOfRange))
}

fn parse_decimal(text: &str) -> Result<u128, SizeError> {
    let (number, unit) = split_suffix(text)?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let all_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if (whole.is_empty() && fraction.is_empty()) || !all_digits(whole) || !all_digits(fraction) {
        return Err(SizeError::NotANumber);
    }
    let kept = fraction.get(..FRACTION_DIGITS).unwrap_or(fraction);
    let numerator: u128 = if kept.is_empty() { 0 } else { kept.parse().or(Err(SizeError::NotANumber))? };
    if numerator != 0 && unit == 1 {
        return Err(SizeError::NotANumber);
    }
    let denominator = 10_u128.pow(kept.len() as u32);
    let part = (numerator * unit + denominator / 2) / denominator;
    let whole: u128 = if whole.is_empty() { 0 } else { whole.parse().or(Err(SizeError::OutOfRange))? };
    whole.checked_mul(unit).and_then(|bytes| bytes.checked_add(part)).ok_or(SizeError::OutOfRange)
}

/// Cuts the suffix off; gives the number and the bytes of the unit.
fn split_suffix(text: &str) -> Result<(&str, u128), SizeError> {
    let Some(last) = text.chars().next_back() else { return Err(SizeError::NotANumber) };
    let power = match last.to_ascii_lowercase() {
        'b' => 0,
        'k' => 1,
        'm' => 2,
        'g' => 3,
        't' => 4,
        'p' => 5,
        'e' => 6,
        _ => return Ok((text, 1)),
    };
    let number = &text[..text.len() - 1];
    // ".b" and "b" are no numbers, though ".5k" is one.
    if number.is_empty() { Err(SizeError::NotANumber) } else { Ok((number, 1 << (10 * power))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_the_reference_reads_them() {
        let good = [
            ("0", 0),
            ("010", 10),
            ("0x1000", 4096),
            ("0x10b", 0x10b),
            ("+0x10", 16),
            ("+5", 5),
            (" 5k", 5120),
            ("1b", 1),
            ("1.b", 1),
            ("512B", 512),
            ("1e", 1 << 60),
            ("1.5M", 1_572_864),
            (".5M", 524_288),
            ("0.3k", 307),
            ("0.9999k", 1024),
            ("65536.0", 65536),
            ("7E", 7 << 60),
            ("9223372036854775807", MAX_SIZE),
        ];
        for (text, size) in good {
            assert_eq!(parse_size(text), Ok(size), "{text}");
        }
        for text in [
            "", " ", ".", ".b", "b", "k", "abc", "1e3", "5kib", "1kB", "0x", "0x1k", "0x1.8", "1.5", "1.5b",
            "0.1", "1.5.5", "5 ", "5 k", "1_000", "inf", "nan", "é", "5é", "--5", "+-5", "00x1",
        ] {
            assert_eq!(parse_size(text), Err(SizeError::NotANumber), "{text}");
        }
        let huge = "9".repeat(500);
        for text in ["-1", "-0", "8E", "9223372036854775808", "18446744073709551616", huge.as_str()] {
            assert_eq!(parse_size(text), Err(SizeError::OutOfRange), "{text}");
        }
    }
}
