//! `docs/performance/instructions.md`: where the instructions of a request are spent.
//!
//! Role: the counts of the bench by source file, and those of `quod serve` that another thousand reads cost it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::profile::Profile;
use super::{Counted, REQUESTS, places};
use crate::cargo::{cargo, target_directory};
use crate::compare::page::{machine, rate};
use crate::compare::{make_full_image, output};

const PAGE: &str = "docs/performance/instructions.md";
/// What is less of the whole than this is told together.
const LEAST_SHARE: f64 = 0.01;

const INTRODUCTION: &str = "\
Instructions in user space, counted by valgrind, so that nothing else that the machine does changes them. Each stands with the
innermost file of ours that its code was inlined into; other people's code stands by itself where it was not inlined. CI
holds the first table against `crates/quod/benches/instructions.toml`.

The library's requests are of 4 KiB, on a file that is memory: its `memory.rs`, B-tree (`alloc::collections`) and copying
stand where a system call would. A read finds its table in the cache; a first write goes to a cluster of its own, under
`--commit through`, without a backing file.
";

const NBD: &str = "\
What `quod serve` spends on each of a thousand reads of 4 KiB more, by one client that waits for every reply. Valgrind cannot
run threads beside one that waits for io_uring, so this server has none: it polls its socket and reads its file by a system
call, where one with a ring hands both to the kernel and waits once; hashing is the poller's. Of seven such
counts this is the median: they differ by a fifth, and now and then one is twice or three times as high.
";

/// Of an NBD read.
const COUNTS: usize = 7;

/// As the bench has it: no string instructions, which valgrind counts once a byte.
const NO_STRINGS: &str =
    "glibc.cpu.x86_rep_stosb_threshold=1073741824:glibc.cpu.x86_rep_movsb_threshold=1073741824";

/// The profiles that are told, by bench.
const TOLD: [(&str, &str); 2] = [("read_hit", "Library read"), ("first_write", "First write")];

/// Writes it, and prints it.
pub(super) fn write(root: &Path, counted: &BTreeMap<String, Counted>) -> Result<()> {
    let mut text = format!("# Where instructions go\n\n{INTRODUCTION}\n## All that is counted\n\n");
    text += "| bench | instructions a request |\n| --- | --- |\n";
    for (name, counted) in counted {
        writeln!(text, "| `{name}` | {} |", a_request(counted.instructions))?;
    }
    for (name, title) in TOLD {
        let counted = counted.get(name).with_context(|| format!("{name} was not counted"))?;
        let profile = read(&counted.profile)?;
        text += &table(title, "", &profile, &places::split(root, &counted.program, &profile)?);
    }
    let served = Served::new(root)?;
    let profile = served.median_read()?;
    text += &table("NBD read", NBD, &profile, &places::split(root, &served.program, &profile)?);
    write!(text, "\n`cargo xtask instructions --page`.\n\n{}\n", machine(&["rustc", "valgrind"])?)?;
    print!("{text}");
    fs::write(root.join(PAGE), &text).with_context(|| PAGE)
}

fn a_request(instructions: u64) -> String {
    rate(instructions as f64 / REQUESTS as f64)
}

fn read(profile: &Path) -> Result<Profile> {
    let text = fs::read_to_string(profile).with_context(|| profile.display().to_string())?;
    Profile::read(&text).with_context(|| profile.display().to_string())
}

/// A profile by where it is spent, the most first.
fn table(title: &str, how: &str, profile: &Profile, split: &BTreeMap<String, u64>) -> String {
    let total = profile.total();
    let mut text = format!("\n## {title}: {} instructions\n\n", a_request(total));
    if !how.is_empty() {
        text += &format!("{how}\n");
    }
    text += "| where | instructions a request | share |\n| --- | --- | --- |\n";
    let share = |count: u64| count as f64 / total as f64;
    let (mut told, few): (Vec<_>, Vec<_>) =
        split.iter().partition(|(_, count)| share(**count) >= LEAST_SHARE);
    told.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
    let rest = ("elsewhere".to_owned(), few.iter().map(|(_, count)| **count).sum());
    let rows = told.into_iter().chain((rest.1 > 0).then_some((&rest.0, &rest.1)));
    for (place, count) in rows {
        text += &format!("| {place} | {} | {:.0} % |\n", a_request(*count), share(*count) * 100.0);
    }
    text
}

/// `quod serve` under valgrind.
struct Served {
    program: PathBuf,
    directory: tempfile::TempDir,
}

impl Served {
    const SIZE: u64 = 64 << 20;
    const START_WITHIN: Duration = Duration::from_secs(60);

    fn new(root: &Path) -> Result<Self> {
        let built = cargo(root).args(["build", "--release", "--package", "quod-cli"]).status()?;
        ensure!(built.success(), "the quod command does not build");
        let directory = tempfile::tempdir()?;
        let program = target_directory(root).join("release/quod");
        let served = Served { program, directory };
        make_full_image(&served.path("disk.qed"), Self::SIZE)?;
        Ok(served)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// What a server spends on [`REQUESTS`] reads more, by the count in the middle: now and then one is a multiple of the others.
    fn median_read(&self) -> Result<Profile> {
        let count = |_| Ok(self.reads(2 * REQUESTS)?.beyond(&self.reads(REQUESTS)?));
        let mut counts = (0..COUNTS).map(count).collect::<Result<Vec<_>>>()?;
        counts.sort_by_key(Profile::total);
        Ok(counts.swap_remove(COUNTS / 2))
    }

    /// The profile of a server that answers so many reads of one client.
    fn reads(&self, count: u64) -> Result<Profile> {
        let (socket, out) = (self.path("quod.sock"), self.path("callgrind.out"));
        let mut server = Command::new("timeout")
            .args(["--kill-after=5s", "120s"])
            // Valgrind lets no thread run while one waits for a ring (3.19), so there is none.
            .args(["strace", "--follow-forks", "--seccomp-bpf", "--output=/dev/null"])
            .args(["--trace=io_uring_setup", "--inject=io_uring_setup:error=ENOSYS"])
            .args(["valgrind", "--quiet", "--tool=callgrind", "--dump-instr=yes", "--compress-pos=no"])
            .arg(format!("--callgrind-out-file={}", out.display()))
            .env("GLIBC_TUNABLES", NO_STRINGS)
            .arg(&self.program)
            .args(["serve", "--once", "--threads", "1", "--read-only", "--socket"])
            .args([&socket, &self.path("disk.qed")])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .context("could not start a server under valgrind")?;
        let asked = ask(&mut server, &socket, count);
        let status = server.wait()?;
        asked?;
        ensure!(status.success(), "the server failed under valgrind: {status}");
        read(&out)
    }
}

/// Lets a client read so often. When it leaves, also because it is late, a server that serves one ends.
fn ask(server: &mut Child, socket: &Path, count: u64) -> Result<()> {
    let give_up = Instant::now() + Served::START_WITHIN;
    while !socket.exists() {
        if let Some(status) = server.try_wait()? {
            bail!("the server ended before it served: {status}");
        }
        ensure!(Instant::now() < give_up, "the server does not listen");
        sleep(Duration::from_millis(50));
    }
    let uri = format!("nbd+unix:///?socket={}", socket.display());
    let reads = format!("for i in range({count}): h.pread(4096, i * 65536 % {})", Served::SIZE);
    // Its library is one of the system's Python.
    let path = format!("/usr/bin:{}", std::env::var("PATH").unwrap_or_default());
    let mut client = Command::new("timeout");
    client.args(["60s", "nbdsh", "--uri", &uri, "--command", &reads]).env("PATH", path);
    output(&mut client).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_comes_first_and_little_is_told_together() {
        let profile = Profile::read("positions: instr line\nevents: Ir\nob=/quod\nfn=read\n0x10 7 1000000\n");
        let split = [("`a.rs`", 200_000), ("`b.rs`", 790_000), ("c", 6_000), ("d", 4_000)];
        let split = split.map(|(place, count)| (place.to_owned(), count)).into();
        assert_eq!(
            table("Read", "", &profile.unwrap(), &split),
            "\n## Read: 1,000 instructions\n\n| where | instructions a request | share |\n| --- | --- | --- |\n\
             | `b.rs` | 790 | 79 % |\n| `a.rs` | 200 | 20 % |\n| elsewhere | 10 | 1 % |\n"
        );
    }
}
