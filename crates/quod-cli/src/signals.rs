//! Which signals end a command that has an image open.
//!
//! Absent on purpose: what is done when one comes.

use std::fs;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

/// Those that end a command by default, but for what its caller had it ignore: `nohup`, or a shell without job control.
pub(crate) fn that_end_a_command() -> Vec<i32> {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = ignored(&status);
    [SIGHUP, SIGINT, SIGTERM].into_iter().filter(|signal| ignored >> (signal - 1) & 1 == 0).collect()
}

/// The bits of signals that a process ignores, as its status tells them.
fn ignored(status: &str) -> u64 {
    let bits = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    bits.and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ignored_signals_are_read_from_a_status() {
        assert_eq!(ignored("Name:\tquod\nSigBlk:\tff\nSigIgn:\t0000000000001003\nSigCgt:\t0\n"), 0x1003);
        assert_eq!(ignored("Name:\tquod\n"), 0);
    }
}
