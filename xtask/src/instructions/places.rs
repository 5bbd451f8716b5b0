//! Where in our source an instruction belongs.
//!
//! Role: the innermost file of ours whose code, inlined or not, an address lies in; other people's code that was not
//! inlined into ours goes by the name of its crate, and that of the C library by what it does.
//!
//! Absent on purpose: a guess. What nothing is known about is called so.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Component, Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use super::profile::Profile;

/// Instructions by where they belong, those of the program itself looked up in its debug information.
pub(super) fn split(root: &Path, program: &Path, profile: &Profile) -> Result<BTreeMap<String, u64>> {
    let program = program.canonicalize()?;
    let is_own = |object: &str| Path::new(object) == program;
    let places = profile.0.iter().filter(|(_, count)| **count > 0);
    let own: Vec<u64> =
        places.clone().filter(|(place, _)| is_own(&place.object)).map(|(place, _)| place.address).collect();
    let frames = frames(&program, &own)?;
    let mut split = BTreeMap::new();
    for (place, count) in places {
        let label = match frames.get(&place.address) {
            Some(frames) if is_own(&place.object) => of_frames(root, frames),
            _ => of_library(&place.object, &place.function),
        };
        *split.entry(label).or_insert(0) += count;
    }
    Ok(split)
}

/// The files that an address lies in, innermost first.
fn frames(program: &Path, addresses: &[u64]) -> Result<BTreeMap<u64, Vec<String>>> {
    let mut lookup = Command::new("addr2line")
        .args(["--addresses", "--inlines", "--exe"])
        .arg(program)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("could not start addr2line")?;
    let mut questions = lookup.stdin.take().context("its input is piped")?;
    let asked: String = addresses.iter().map(|address| format!("{address:#x}\n")).collect();
    // It answers while it is asked.
    let asking = std::thread::spawn(move || questions.write_all(asked.as_bytes()));
    let answered = lookup.wait_with_output()?;
    asking.join().expect("no panic in a write")?;
    ensure!(answered.status.success(), "addr2line failed: {}", answered.status);
    Ok(read_frames(&String::from_utf8_lossy(&answered.stdout)))
}

fn read_frames(answered: &str) -> BTreeMap<u64, Vec<String>> {
    let mut frames = BTreeMap::new();
    let mut here: Option<&mut Vec<String>> = None;
    for line in answered.lines() {
        if let Some(address) = line.strip_prefix("0x") {
            let address = u64::from_str_radix(address, 16).unwrap_or_default();
            here = Some(frames.entry(address).or_default());
        } else if let (Some(here), Some((file, _line))) = (here.as_mut(), line.rsplit_once(':')) {
            here.push(file.to_owned());
        }
    }
    frames
}

fn of_frames(root: &Path, frames: &[String]) -> String {
    let of_ours = |file: &String| {
        let file = without_dots(Path::new(file).strip_prefix(root).ok()?);
        file.starts_with("crates").then(|| format!("`{}`", file.display()))
    };
    // Without any of ours, it is the function itself that tells, not what was inlined into it.
    let of_others = || frames.iter().rev().find_map(|file| of_other(file));
    frames.iter().find_map(of_ours).or_else(of_others).unwrap_or_else(|| "unknown".to_owned())
}

/// The path without the detours that `#[path]` leaves in it.
fn without_dots(path: &Path) -> PathBuf {
    let mut straight = PathBuf::new();
    for part in path.components() {
        if part == Component::ParentDir {
            straight.pop();
        } else {
            straight.push(part);
        }
    }
    straight
}

/// Other people's code: the crate, or the module of the standard library.
fn of_other(file: &str) -> Option<String> {
    if let Some((_, inside)) = file.split_once("/registry/src/") {
        let versioned = inside.split('/').nth(1)?;
        return Some(versioned.rsplit_once('-')?.0.to_owned());
    }
    let (_, inside) = file.split_once("/library/")?;
    let (name, module) = inside.split_once("/src/")?;
    let module = module.split(['/', '.']).next()?;
    Some(format!("`{name}::{module}`"))
}

fn of_library(object: &str, function: &str) -> String {
    let has = |words: &[&str]| words.iter().any(|word| function.contains(word));
    if !object.contains("/libc") {
        "unknown".to_owned()
    } else if has(&["memcpy", "memmove", "memset", "memcmp"]) {
        "C library: copying, clearing".to_owned()
    } else if has(&["alloc", "free", "memalign", "_int_", "unlink_chunk"]) {
        "C library: memory".to_owned()
    } else {
        "C library: other".to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn belongs(frames: &[&str]) -> String {
        of_frames(Path::new("/work/quod"), &frames.iter().map(|&file| file.to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn inlined_code_belongs_to_the_innermost_file_of_ours() {
        let core = "/rustc/59807616e/library/core/src/sync/atomic.rs";
        let swap = "/cargo/registry/src/index.crates.io-1949cf8c/arc-swap-1.7.1/src/lib.rs";
        let ours = ["/work/quod/crates/quod/src/cache/directory.rs", "/work/quod/crates/quod/src/lookup.rs"];
        assert_eq!(belongs(&[core, swap, ours[0], ours[1]]), "`crates/quod/src/cache/directory.rs`");
        assert_eq!(belongs(&[core, swap]), "arc-swap");
        assert_eq!(belongs(&[core]), "`core::sync`");
        assert_eq!(belongs(&[swap]), "arc-swap");
        assert_eq!(
            belongs(&["/rustc/5/library/alloc/src/collections/btree/search.rs"]),
            "`alloc::collections`"
        );
        assert_eq!(
            belongs(&["/work/quod/crates/quod/benches/a/../b/mod.rs"]),
            "`crates/quod/benches/b/mod.rs`"
        );
        assert_eq!(belongs(&["??"]), "unknown");
    }

    #[test]
    fn the_c_library_goes_by_what_it_does() {
        let of = |function| of_library("/usr/lib/x86_64-linux-gnu/libc.so.6", function);
        assert_eq!(of("__memcpy_avx_unaligned_erms"), "C library: copying, clearing");
        assert_eq!([of("malloc"), of("_int_free"), of("posix_memalign")], ["C library: memory"; 3]);
        assert_eq!(of("getpid"), "C library: other");
        assert_eq!(of_library("/usr/lib/ld.so", "malloc"), "unknown");
    }

    #[test]
    fn answers_are_read_by_address() {
        let answered =
            "0x0000000000000010\n/a/b.rs:7\n/a/c.rs:9 (discriminator 2)\n0x0000000000000020\n??:0\n";
        let frames = read_frames(answered);
        assert_eq!(frames[&0x10], ["/a/b.rs", "/a/c.rs"]);
        assert_eq!(frames[&0x20], ["??"]);
    }
}
