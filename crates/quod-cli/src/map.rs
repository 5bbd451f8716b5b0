//! `quod map`: which guest ranges are data, zero or absent, and where they lie.
//!
//! Role: prints the runs of an image and its backing files, in the reference's table or its JSON, byte for byte.
//!
//! Invariant: memory does not grow with the image; runs are printed as they are found.
//!
//! Absent on purpose: reading data. A run of zero bytes in an allocated cluster is data.

use anyhow::{anyhow, bail};
use quod::BlockKind;
use quod_language::{MAX_SIZE, SizeError, parse_size};
use std::io::Write;

use crate::open::{Source, errno_sentence};
use crate::output::{self, OutputFormat};
use crate::place::{self, AnyDisk};
use crate::runs::{Run, Runs};

/// List which guest ranges are data, zero or absent, and in which file.
///
/// The table lists data only; JSON lists everything.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  quod map disk.qed                      where the data lie in the file, a run a line
  quod map --output=json clone.qed       every range, and how deep in the chain it comes from
  quod map -s 1G -l 64M disk.qed         64 MiB from guest offset 1 GiB on")]
pub(crate) struct Args {
    #[command(flatten)]
    source: Source,
    /// Guest offset to start at
    #[arg(short, long, value_name = "OFFSET", default_value = "0", allow_hyphen_values = true)]
    start_offset: String,
    /// Bytes to list at most
    #[arg(short = 'l', long, value_name = "LENGTH", allow_hyphen_values = true)]
    max_length: Option<String>,
    /// Output format
    #[arg(long, value_name = "FORM", default_value = "human")]
    output: OutputFormat,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<u8> {
    let start = number("start offset", &args.start_offset)?;
    let len = args.max_length.as_deref().map_or(Ok(MAX_SIZE), |length| number("max length", length))?;
    let target = args.source.target();
    quod::block_on(async {
        let disk = target.open().await?;
        let mut out = output::results();
        let end = start.saturating_add(len);
        let listed = match args.output {
            OutputFormat::Human => list(&disk, start, end, &mut out).await,
            OutputFormat::Json => list_json(&disk, start, end, &mut out).await,
        };
        out.flush()?;
        listed
    })?;
    Ok(0)
}

fn number(what: &str, text: &str) -> anyhow::Result<u64> {
    match parse_size(text) {
        Ok(number) => Ok(number),
        Err(SizeError::OutOfRange) => {
            bail!("Invalid {what} specified. Must be between 0 and {}.", MAX_SIZE)
        }
        Err(SizeError::NotANumber) => bail!("Invalid {what} specified: '{text}'."),
    }
}

fn unreadable(error: &quod::Error) -> anyhow::Error {
    anyhow!("Could not read file metadata: {} ({error})", errno_sentence(error))
}

async fn list(disk: &AnyDisk, start: u64, end: u64, out: &mut impl Write) -> anyhow::Result<()> {
    let files: Vec<String> = disk.chain().map(place::shown).collect();
    writeln!(out, "{:<16}{:<16}{:<16}File", "Offset", "Length", "Mapped to")?;
    let mut runs = Runs::of(disk, start, end);
    while let Some(run) = runs.next().await.map_err(|error| unreadable(&error))? {
        let (BlockKind::Data { file_offset }, Some(file)) = (run.kind, files.get(run.depth)) else {
            continue;
        };
        let [at, len, there] = [run.start, run.len, file_offset].map(hex);
        writeln!(out, "{at:<16}{len:<16}{there:<16}{file}")?;
    }
    Ok(())
}

/// Hexadecimal with its mark; zero has none.
fn hex(number: u64) -> String {
    if number == 0 { "0".to_owned() } else { format!("{number:#x}") }
}

async fn list_json(disk: &AnyDisk, start: u64, end: u64, out: &mut impl Write) -> anyhow::Result<()> {
    write!(out, "[")?;
    let mut runs = Runs::of(disk, start, end);
    let mut separator = "";
    while let Some(run) = runs.next().await.map_err(|error| unreadable(&error))? {
        write!(out, "{separator}{}", entry(&run))?;
        separator = ",\n";
    }
    if separator.is_empty() {
        write!(out, "{}", line(start, 0, 0, [false; 3]))?;
        write!(out, "}}")?;
    }
    writeln!(out, "]")?;
    Ok(())
}

fn entry(run: &Run) -> String {
    let flags = match run.kind {
        BlockKind::Data { .. } => [true, false, true],
        BlockKind::Hole { .. } | BlockKind::Zero => [true, true, false],
        BlockKind::Unallocated => [false, true, false],
    };
    let offset = run.file_offset().map(|offset| format!(", \"offset\": {offset}")).unwrap_or_default();
    format!("{}{offset}}}", line(run.start, run.len, run.depth, flags))
}

/// An entry without its offset and its closing brace.
fn line(start: u64, len: u64, depth: usize, [present, zero, data]: [bool; 3]) -> String {
    format!(
        "{{ \"start\": {start}, \"length\": {len}, \"depth\": {depth}, \"present\": {present}, \"zero\": {zero}, \
         \"data\": {data}, \"compressed\": false"
    )
}
