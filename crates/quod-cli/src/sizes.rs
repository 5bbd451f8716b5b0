//! Sizes as people read them.
//!
//! Role: the two ways of the reference tools to print a size.
//!
//! Absent on purpose: reading them, which is the language's.

use std::fmt;

const UNITS: [&str; 7] = ["", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];

/// A size in three digits: `64 MiB`, `3.7 GiB`, `0.977 MiB`.
pub(crate) struct ThreeDigits(pub(crate) u64);

impl fmt::Display for ThreeDigits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut value = self.0 as f64;
        let mut unit = 0;
        while value >= 1000.0 && unit + 1 < UNITS.len() {
            value /= 1024.0;
            unit += 1;
        }
        write!(f, "{} {}", three_digits(value), if unit == 0 { "B" } else { UNITS[unit] })
    }
}

/// Three significant digits, without zeroes at the end; 1000 and more with an exponent.
fn three_digits(value: f64) -> String {
    let scientific = format!("{value:.2e}");
    let exponent: i32 = scientific.split_once('e').and_then(|(_, power)| power.parse().ok()).unwrap_or(0);
    if exponent >= 3 {
        return format!("1e+{exponent:02}");
    }
    let decimals = usize::try_from(2 - exponent).unwrap_or(0);
    trim_zeroes(&format!("{value:.decimals$}")).to_owned()
}

fn trim_zeroes(number: &str) -> &str {
    if number.contains('.') { number.trim_end_matches('0').trim_end_matches('.') } else { number }
}

/// An amount with at most three decimals: `64 KiB`, `2.930 KiB`, `1008.604404 bytes`.
pub(crate) struct Amount(pub(crate) f64);

impl Amount {
    /// An amount of whole bytes.
    pub(crate) fn bytes(bytes: u64) -> Self {
        Amount(bytes as f64)
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut value = self.0;
        let mut unit = 0;
        while value >= 1024.0 && unit + 1 < UNITS.len() {
            value /= 1024.0;
            unit += 1;
        }
        if unit == 0 {
            let number = format!("{value:.6}");
            return write!(f, "{} bytes", number.strip_suffix(".000000").unwrap_or(&number));
        }
        let number = format!("{value:.3}");
        write!(f, "{} {}", number.strip_suffix(".000").unwrap_or(&number), UNITS[unit])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_digits_are_those_of_the_reference() {
        let cases = [
            (0, "0 B"),
            (512, "512 B"),
            (1024, "1 KiB"),
            (1536, "1.5 KiB"),
            (10240, "10 KiB"),
            (197_120, "192 KiB"),
            (1_022_976, "999 KiB"),
            (1_023_488, "1e+03 KiB"),
            (1_024_000, "0.977 MiB"),
            (1_047_552, "0.999 MiB"),
            (1_073_217_536, "1 GiB"),
            (3_972_845_056, "3.7 GiB"),
            (1 << 46, "64 TiB"),
        ];
        for (bytes, text) in cases {
            assert_eq!(ThreeDigits(bytes).to_string(), text);
        }
    }

    #[test]
    fn amounts_are_those_of_the_reference() {
        let cases = [
            (0, "0 bytes"),
            (1023, "1023 bytes"),
            (1024, "1 KiB"),
            (1025, "1.001 KiB"),
            (1536, "1.500 KiB"),
            (1_048_575, "1023.999 KiB"),
            (1_048_577, "1 MiB"),
            (1_049_101, "1.001 MiB"),
            (128 << 20, "128 MiB"),
        ];
        for (bytes, text) in cases {
            assert_eq!(Amount::bytes(bytes).to_string(), text);
        }
        assert_eq!(Amount(1008.604404).to_string(), "1008.604404 bytes");
    }
}
