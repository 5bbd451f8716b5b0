//! `quod info`: what an image says of itself.
//!
//! Role: prints header, sizes and names; opens the image alone, and with `--backing-chain` the images below it.
//!
//! Invariant: a dirty image is called dirty, which the reference does not do.
//!
//! Absent on purpose: format-specific data; QED has none that the common fields leave out.

use std::io::Write;

use quod::{BackingName, ImageInfo};
use serde::Serialize;

use crate::chain::{self, Layer};
use crate::json;
use crate::open::{self, Source};
use crate::output::{self, OutputFormat};
use crate::place;
use crate::sizes::ThreeDigits;

/// Show format, size and backing file of an image.
///
/// Opens nothing but FILE, unless it is asked for the chain. The exit code is 0, or 1 when the image cannot be read.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  quod info disk.qed                     what the image says of itself
  quod info --backing-chain clone.qed    ... and every image below it
  quod info -U --output=json disk.qed    for a program, while a server has the image")]
pub(crate) struct Args {
    #[command(flatten)]
    source: Source,
    /// Show the backing files too
    #[arg(short, long)]
    backing_chain: bool,
    /// Output format
    #[arg(long, value_name = "FORM", default_value = "human")]
    output: OutputFormat,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<u8> {
    let target = args.source.target();
    let layers = quod::block_on(async {
        if args.backing_chain { chain::layers(&target).await } else { Ok(vec![Layer::read(&target).await?]) }
    })?;
    let mut out = output::results();
    match args.output {
        OutputFormat::Human => print_all(&mut out, &layers)?,
        OutputFormat::Json if args.backing_chain => {
            json::print(&mut out, &layers.iter().map(ImageJson::of).collect::<Vec<_>>())?;
        }
        OutputFormat::Json => {
            layers.iter().try_for_each(|layer| json::print(&mut out, &ImageJson::of(layer)))?
        }
    }
    out.flush()?;
    Ok(0)
}

fn print_all(out: &mut impl Write, layers: &[Layer]) -> anyhow::Result<()> {
    for (number, layer) in layers.iter().enumerate() {
        if number > 0 {
            writeln!(out)?;
        }
        print_one(out, layer)?;
    }
    Ok(())
}

fn print_one(out: &mut impl Write, layer: &Layer) -> anyhow::Result<()> {
    let (path, size) = (place::shown(&layer.path), layer.size());
    let room = layer.room.map_or("unavailable".to_owned(), |room| ThreeDigits(room).to_string());
    writeln!(out, "image: {path}")?;
    writeln!(out, "file format: {}", open::name_of(layer.format))?;
    writeln!(out, "virtual size: {} ({size} bytes)", ThreeDigits(size))?;
    writeln!(out, "disk size: {room}")?;
    if let Some(header) = &layer.header {
        print_header(out, layer, header)?;
    }
    let length = whole_sectors(layer.file_length);
    writeln!(out, "Child node '/file':")?;
    writeln!(out, "    filename: {path}")?;
    writeln!(out, "    protocol type: {}", protocol(layer))?;
    writeln!(out, "    file length: {} ({length} bytes)", ThreeDigits(length))?;
    writeln!(out, "    disk size: {room}")?;
    Ok(())
}

fn print_header(out: &mut impl Write, layer: &Layer, header: &ImageInfo) -> anyhow::Result<()> {
    writeln!(out, "cluster_size: {}", header.cluster_size)?;
    if header.dirty {
        writeln!(out, "cleanly shut down: no")?;
    }
    if let Some(backing) = &header.backing {
        let actual = full_name(layer, backing);
        if backing.name == *actual {
            writeln!(out, "backing file: {actual}")?;
        } else {
            writeln!(out, "backing file: {} (actual path: {actual})", backing.name.display())?;
        }
        if backing.raw {
            writeln!(out, "backing file format: raw")?;
        }
    }
    Ok(())
}

/// How the bytes of the file are had.
fn protocol(layer: &Layer) -> &'static str {
    if layer.is_remote() { "nbd" } else { "file" }
}

/// A name in the header of a remote image stands for nothing here.
fn full_name(layer: &Layer, backing: &BackingName) -> String {
    match &backing.path {
        Some(path) if !layer.is_remote() => path.display().to_string(),
        _ => backing.name.display().to_string(),
    }
}

/// The reference counts the length of a file in sectors.
fn whole_sectors(bytes: u64) -> u64 {
    bytes.next_multiple_of(512)
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct ImageJson {
    children: [ChildJson; 1],
    #[serde(skip_serializing_if = "Option::is_none")]
    backing_filename_format: Option<&'static str>,
    virtual_size: u64,
    filename: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    cluster_size: Option<u64>,
    format: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    actual_size: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    full_backing_filename: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    backing_filename: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dirty_flag: Option<bool>,
}

#[derive(Serialize)]
struct ChildJson {
    name: &'static str,
    info: FileJson,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct FileJson {
    children: [(); 0],
    virtual_size: u64,
    filename: String,
    format: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    actual_size: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    format_specific: Option<SpecificJson>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dirty_flag: Option<bool>,
}

#[derive(Serialize)]
struct SpecificJson {
    r#type: &'static str,
    data: EmptyJson,
}

#[derive(Serialize)]
struct EmptyJson {}

impl ImageJson {
    fn of(layer: &Layer) -> Self {
        let filename = place::shown(&layer.path);
        let is_local = !layer.is_remote();
        let header = layer.header.as_ref();
        let backing = header.and_then(|header| header.backing.as_ref());
        let file = FileJson {
            children: [],
            virtual_size: whole_sectors(layer.file_length),
            filename: filename.clone(),
            format: protocol(layer),
            actual_size: layer.room,
            format_specific: is_local.then_some(SpecificJson { r#type: "file", data: EmptyJson {} }),
            dirty_flag: is_local.then_some(false),
        };
        ImageJson {
            children: [ChildJson { name: "file", info: file }],
            backing_filename_format: backing.and_then(|backing| backing.raw.then_some("raw")),
            virtual_size: layer.size(),
            filename,
            cluster_size: header.map(|header| header.cluster_size),
            format: open::name_of(layer.format),
            actual_size: layer.room,
            full_backing_filename: backing.map(|backing| full_name(layer, backing)),
            backing_filename: backing.map(|backing| backing.name.display().to_string()),
            dirty_flag: header.map(|header| header.dirty).or(is_local.then_some(false)),
        }
    }
}
