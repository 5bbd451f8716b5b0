//! The foreign tools that our tests run against, and how a Debian machine gets them.
//!
//! Role: [`ensure`] leaves with every peer on the `PATH`, or with an error that names what to install.
//!
//! Invariant: only what is missing is installed, and nothing that is installed is removed for it.
//!
//! Absent on purpose: a way to go on without a peer. A test that skips because its peer is missing proves nothing.

use std::env;
use std::ffi::OsStr;
use std::io::IsTerminal;
use std::os::unix::fs::MetadataExt;
use std::process::Command;

use anyhow::{Context, Result, bail};

/// A program that tests call, and the Debian packages that hold it: the first that the release knows and that
/// brings the program is taken.
struct Peer {
    program: &'static str,
    packages: &'static [&'static str],
}

const PEERS: &[Peer] = &[
    Peer { program: "qemu-img", packages: &["qemu-utils"] },
    Peer { program: "qemu-io", packages: &["qemu-utils"] },
    Peer { program: "qemu-nbd", packages: &["qemu-utils"] },
    // Debian 13 and the backports moved it to qemu-utils.
    Peer { program: "qemu-storage-daemon", packages: &["qemu-utils", "qemu-system-common"] },
    Peer { program: "nbdinfo", packages: &["libnbd-bin"] },
    Peer { program: "nbdcopy", packages: &["libnbd-bin"] },
    Peer { program: "nbdfuse", packages: &["libnbd-bin"] },
    Peer { program: "nbdsh", packages: &["python3-libnbd"] },
    Peer { program: "nbdkit", packages: &["nbdkit"] },
    Peer { program: "fio", packages: &["fio"] },
    Peer { program: "fusermount3", packages: &["fuse3"] },
    Peer { program: "mkfs.ext4", packages: &["e2fsprogs"] },
    Peer { program: "e2fsck", packages: &["e2fsprogs"] },
    Peer { program: "debugfs", packages: &["e2fsprogs"] },
    Peer { program: "patch", packages: &["patch"] },
    Peer { program: "groff", packages: &["groff-base"] },
    Peer { program: "curl", packages: &["curl"] },
    Peer { program: "strace", packages: &["strace"] },
    Peer { program: "unshare", packages: &["util-linux"] },
    Peer { program: "openssl", packages: &["openssl"] },
    // libFuzzer is built from its source.
    Peer { program: "c++", packages: &["g++"] },
    Peer { program: "valgrind", packages: &["valgrind"] },
    Peer { program: "addr2line", packages: &["binutils"] },
    Peer { program: "systemd-socket-activate", packages: &["systemd"] },
];

/// Installs what is missing.
///
/// # Errors
/// When something is missing and apt is not there, may not be used, or does not bring it.
pub(crate) fn ensure() -> Result<()> {
    let rounds = PEERS.iter().map(|peer| peer.packages.len()).max().unwrap_or(0);
    for round in 0..rounds {
        let missing = missing(PEERS, is_on_path);
        if missing.is_empty() {
            return Ok(());
        }
        let packages = packages_for(&missing, round);
        if !is_on_path("apt-get") {
            bail!("{}; there is no apt-get here, so install them by hand", told(&missing));
        }
        if !packages.is_empty() {
            eprintln!("installing: {}", packages.join(" "));
            install(&packages, round).with_context(|| told(&missing))?;
        }
    }
    let missing = missing(PEERS, is_on_path);
    if !missing.is_empty() {
        bail!("{}, also after apt-get installed those packages", told(&missing));
    }
    Ok(())
}

fn missing(peers: &[Peer], is_there: impl Fn(&str) -> bool) -> Vec<&Peer> {
    peers.iter().filter(|peer| !is_there(peer.program)).collect()
}

/// The packages to try in that round for what is missing, each once.
fn packages_for(missing: &[&Peer], round: usize) -> Vec<&'static str> {
    let mut packages: Vec<_> = missing.iter().filter_map(|peer| peer.packages.get(round).copied()).collect();
    packages.sort_unstable();
    packages.dedup();
    packages
}

fn told(missing: &[&Peer]) -> String {
    let list: Vec<_> = missing
        .iter()
        .map(|peer| format!("{} (package {})", peer.program, peer.packages.join(" or ")))
        .collect();
    format!("the tests need these programs: {}", list.join(", "))
}

fn is_on_path(program: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    // Tools of file systems lie where only the administrator's PATH leads; tests look there too.
    let administrators = ["/usr/sbin", "/sbin"].map(Into::into);
    env::split_paths(&path).chain(administrators).any(|dir| dir.join(program).is_file())
}

fn install(packages: &[&str], round: usize) -> Result<()> {
    if round == 0 {
        apt_get(&["update"])?;
    }
    let mut arguments = vec!["install", "--yes", "--no-install-recommends", "--no-remove"];
    arguments.extend(packages);
    apt_get(&arguments)
}

fn apt_get(arguments: &[&str]) -> Result<()> {
    let mut words: Vec<&OsStr> = elevation()?.iter().map(OsStr::new).collect();
    // Through sudo, the environment goes only by its own hand. Another apt may be at work: wait for its lock.
    words.extend(
        ["env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-o", "DPkg::Lock::Timeout=300"].map(OsStr::new),
    );
    words.extend(arguments.iter().map(OsStr::new));
    let status = Command::new(words[0]).args(&words[1..]).status().context("could not start apt-get")?;
    if !status.success() {
        bail!("`apt-get {}` failed: {status}", arguments.join(" "));
    }
    Ok(())
}

/// What to put before a command so that root runs it.
fn elevation() -> Result<&'static [&'static str]> {
    let effective_user = std::fs::metadata("/proc/self").context("could not tell which user this is")?.uid();
    if effective_user == 0 {
        Ok(&[])
    } else if !is_on_path("sudo") {
        bail!("this user is not root, and there is no sudo");
    } else if std::io::stdin().is_terminal() {
        Ok(&["sudo"])
    } else {
        Ok(&["sudo", "--non-interactive"])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLE: &[Peer] = &[
        Peer { program: "one", packages: &["tools"] },
        Peer { program: "two", packages: &["tools", "more-tools"] },
        Peer { program: "three", packages: &["three"] },
    ];

    #[test]
    fn only_what_is_missing_is_asked_for_and_each_package_once() {
        let missing = missing(SAMPLE, |program| program == "three");
        assert_eq!(packages_for(&missing, 0), ["tools"]);
    }

    #[test]
    fn a_later_round_tries_the_next_package_of_what_is_still_missing() {
        let missing = missing(SAMPLE, |program| program != "two");
        assert_eq!(packages_for(&missing, 1), ["more-tools"]);
    }

    #[test]
    fn the_error_names_program_and_package() {
        let missing = missing(SAMPLE, |program| program != "two");
        assert_eq!(told(&missing), "the tests need these programs: two (package tools or more-tools)");
    }
}
