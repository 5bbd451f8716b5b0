//! The fuzzer's way into `quod_fuzz::requests`; without a fuzzer, it replays the files that are named.
#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| quod_fuzz::requests::run(bytes));

#[cfg(not(fuzzing))]
fn main() -> std::io::Result<()> {
    quod_fuzz::replay(quod_fuzz::requests::run)
}
