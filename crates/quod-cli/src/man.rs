//! `quod man`: the manual as pages for `man`.
//!
//! Role: writes `quod.1` and a page a verb, made from the same declarations that read the arguments and print `--help`.
//!
//! Invariant: the same version writes the same bytes, so that packages can be rebuilt.
//!
//! Absent on purpose: any sentence that `--help` does not have, except what a page refers to.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Command;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, roman};

/// Write the manual pages of quod and of its verbs into a directory.
///
/// The directory is made when it is missing; pages in it are replaced.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  quod man ~/.local/share/man/man1     then: man quod-serve
  quod man pages && man -l pages/quod.1")]
pub(crate) struct Args {
    /// The directory
    #[arg(value_name = "DIR")]
    directory: PathBuf,
}

pub(crate) fn run(args: &Args, command: Command) -> anyhow::Result<u8> {
    // `quod help` prints what these pages say; it has no page of its own.
    let mut command =
        command.disable_help_subcommand(true).subcommand_help_heading("VERBS").subcommand_value_name("verb");
    command.build();
    let directory = &args.directory;
    fs::create_dir_all(directory).with_context(|| format!("Could not make {}", directory.display()))?;
    let source = format!("quod {}", command.get_version().unwrap_or_default());
    let verbs: Vec<_> = command.get_subcommands().filter(|verb| !verb.is_hide_set()).collect();
    for verb in &verbs {
        write_page(directory, &source, verb, "quod(1)")?;
    }
    write_page(directory, &source, &command, "qemu-img(1), qemu-nbd(8), nbdcopy(1)")?;
    Ok(0)
}

fn write_page(directory: &Path, source: &str, command: &Command, see_also: &str) -> anyhow::Result<()> {
    let man = Man::new(command.clone()).source(source).manual("Quod");
    let path = directory.join(man.get_filename());
    let write = || -> io::Result<()> {
        let mut page = BufWriter::new(File::create(&path)?);
        man.render_title(&mut page)?;
        man.render_name_section(&mut page)?;
        man.render_synopsis_section(&mut page)?;
        man.render_description_section(&mut page)?;
        man.render_options_section(&mut page)?;
        if command.has_subcommands() {
            man.render_subcommands_section(&mut page)?;
        }
        let closing = command.get_after_long_help().or_else(|| command.get_after_help());
        write_sections(&mut page, &closing.map(ToString::to_string).unwrap_or_default())?;
        write_see_also(&mut page, see_also)?;
        page.flush()
    };
    write().with_context(|| format!("Could not write {}", path.display()))
}

/// Writes what stands below the options in `--help`: line for line, since columns mean something there.
fn write_sections(page: &mut impl Write, text: &str) -> io::Result<()> {
    let mut roff = Roff::new();
    let mut is_open = false;
    for line in text.lines() {
        match line.strip_suffix(':').filter(|heading| !heading.starts_with(' ')) {
            Some(heading) => {
                if is_open {
                    roff.control("fi", []);
                }
                roff.control("SH", [heading.to_uppercase().as_str()]);
                roff.control("nf", []);
                is_open = true;
            }
            None => {
                roff.text([roman(line.strip_prefix("  ").unwrap_or(line))]);
            }
        }
    }
    if is_open {
        roff.control("fi", []);
    }
    roff.to_writer(page)
}

fn write_see_also(page: &mut impl Write, others: &str) -> io::Result<()> {
    let mut roff = Roff::new();
    roff.control("SH", ["SEE ALSO"]);
    roff.text([roman(others)]);
    roff.to_writer(page)
}
