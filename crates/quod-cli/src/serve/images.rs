//! The images that a server serves, and what clients call them.
//!
//! Role: names them, makes what is missing, opens them all or none, and closes every one.
//!
//! Invariant: no two exports have the same name, and no file is served twice for writing. An image that was opened is
//! closed, whatever became of the others; an existing one is never made anew.
//!
//! Absent on purpose: serving them.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use quod::{CreateOptions, Format};
use quod_export::nbd::{Disk, ExportOptions};
use quod_language::parse_size;
use quod_storage::{Access, Existing, LoopOpener};

use super::{Args, say};
use crate::make::{make_qed, make_raw};
use crate::open::{Target, Tuned, format_named, name_of};
use crate::sizes::ThreeDigits;

/// Bytes of an export's name, and of what is told about it, that the protocol allows.
const LONGEST_TEXT: usize = 4096;

/// A file, and the name that clients know it by.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Named {
    pub(super) name: String,
    pub(super) file: PathBuf,
}

/// An open image with its name.
pub(super) struct Opened {
    pub(super) name: String,
    pub(super) file: PathBuf,
    pub(super) disk: Disk,
}

/// What is to be served, the default export first.
///
/// # Errors
/// Two have the same name, or one has none that can be told.
pub(super) fn named(args: &Args) -> anyhow::Result<Vec<Named>> {
    let one = args.files.len() + args.exports.len() == 1;
    if !one && (args.export_name.is_some() || args.description.is_some()) {
        bail!("--export-name and --description are for a single image; give names by --export NAME=FILE");
    }
    if args.description.as_ref().is_some_and(|text| text.len() > LONGEST_TEXT) {
        bail!("--description: the protocol allows at most {LONGEST_TEXT} bytes");
    }
    let mut all = Vec::new();
    for file in &args.files {
        let name = match &args.export_name {
            Some(name) => name.clone(),
            None if one => String::new(),
            None => own_name(file)?,
        };
        all.push(Named { name, file: file.clone() });
    }
    for text in &args.exports {
        let named = parse_export(text)?;
        let name = args.export_name.clone().unwrap_or(named.name);
        all.push(Named { name, ..named });
    }
    for (at, Named { name, file }) in all.iter().enumerate() {
        if name.len() > LONGEST_TEXT {
            bail!("{}: the name of an export has at most {LONGEST_TEXT} bytes", file.display());
        }
        if let Some(other) = all[..at].iter().find(|other| other.name == *name) {
            bail!(
                "{} and {} would both be the export '{name}'; name one by --export NAME=FILE",
                other.file.display(),
                file.display()
            );
        }
    }
    Ok(all)
}

/// The name of a file without its directory.
fn own_name(file: &Path) -> anyhow::Result<String> {
    match file.file_name().and_then(OsStr::to_str) {
        Some(name) => Ok(name.to_owned()),
        None => bail!("{}: not a name for an export; give one by --export NAME=FILE", file.display()),
    }
}

/// `NAME=FILE`; the name ends at the first equals sign.
fn parse_export(text: &OsStr) -> anyhow::Result<Named> {
    let bytes = text.as_bytes();
    let parts = bytes.iter().position(|&byte| byte == b'=').map(|at| (&bytes[..at], &bytes[at + 1..]));
    let Some((name, file)) = parts.filter(|(_, file)| !file.is_empty()) else {
        bail!("--export takes NAME=FILE, not '{}'", text.display());
    };
    let name = str::from_utf8(name)
        .with_context(|| format!("--export {}: a name is text in UTF-8", text.display()))?;
    Ok(Named { name: name.to_owned(), file: PathBuf::from(OsStr::from_bytes(file)) })
}

/// Makes those that are missing, if that is wanted, and opens all.
///
/// # Errors
/// When one cannot be opened; those that were are closed by then.
pub(super) fn open_all(args: &Args, opener: LoopOpener, named: Vec<Named>) -> anyhow::Result<Vec<Opened>> {
    let create = args.create.as_deref().map(size).transpose()?;
    let tuned = args.tuning.together(named.len())?;
    let mut opened = Vec::with_capacity(named.len());
    for Named { name, file } in named {
        match open(args, &opener, &tuned, &file, create, &opened) {
            Ok(disk) => opened.push(Opened { name, file, disk }),
            Err(error) => {
                for (image, closed) in close_all(opened) {
                    if let Err(error) = closed {
                        crate::output::complain(&format!(
                            "{}: not closed in order: {error}",
                            image.display()
                        ));
                    }
                }
                return Err(error);
            }
        }
    }
    Ok(opened)
}

fn open(
    args: &Args,
    opener: &LoopOpener,
    tuned: &Tuned,
    file: &Path,
    create: Option<u64>,
    opened: &[Opened],
) -> anyhow::Result<Disk> {
    if let Some(size) = create {
        create_if_missing(args.format.as_deref(), file, size)?;
    }
    // The lock would say that another process has it.
    if !args.read_only
        && let Some(other) = opened.iter().find(|other| is_same_file(&other.file, file))
    {
        bail!(
            "{} and {} are the same file, which is served under one name only unless --read-only is given",
            other.file.display(),
            file.display()
        );
    }
    let access = if args.read_only { Access::Read } else { Access::Write };
    // With `--create` the caller has said what the file is.
    let format = args.format.as_deref().or(create.map(|_| name_of(Format::Qed)));
    let target = Target::new(file, format, access);
    quod::block_on(target.open_file(opener, tuned))
}

fn is_same_file(one: &Path, other: &Path) -> bool {
    let id = |path| fs::metadata(path).ok().map(|file| (file.dev(), file.ino()));
    id(one).is_some_and(|one| id(other) == Some(one))
}

/// Closes all, and lets go of their locks; tells what became of each.
pub(super) fn close_all(opened: Vec<Opened>) -> Vec<(PathBuf, quod::Result<()>)> {
    let closed: Vec<_> = opened.iter().map(|image| quod::block_on(image.disk.close())).collect();
    // All of them first: what they have in memory is given back once no image waits for it.
    opened.into_iter().map(|image| image.file).zip(closed).collect()
}

impl Opened {
    /// How it is served.
    pub(super) fn options(&self, args: &Args) -> ExportOptions {
        let mut options = ExportOptions::default();
        options.name = self.name.clone();
        options.read_only = args.read_only;
        options.description = match &args.description {
            Some(text) => text.clone(),
            None => format!("{} ({})", self.file.display(), name_of(self.disk.format())),
        };
        options
    }
}

fn size(text: &str) -> anyhow::Result<u64> {
    match parse_size(text) {
        Ok(size) => Ok(size),
        Err(_no_size) => bail!("Invalid image size specified: '{text}'."),
    }
}

/// Makes the image, when there is none.
fn create_if_missing(format: Option<&str>, file: &Path, size: u64) -> anyhow::Result<()> {
    let Some(format) = format.map_or(Some(Format::Qed), format_named) else {
        bail!("{}: Unknown file format '{}'", file.display(), format.unwrap_or_default());
    };
    // Here only to wait for nobody; the creation looks again once it has the lock.
    if fs::metadata(file).is_ok_and(|metadata| metadata.len() > 0) {
        return Ok(());
    }
    let made = quod::block_on(async {
        match format {
            Format::Qed => make_qed(file, &CreateOptions::new(size)).await,
            Format::Raw => make_raw(file, size, Existing::Keep).await,
        }
    });
    match made {
        Err(error) if error.exists_already => return Ok(()),
        made => made?,
    }
    let size = size.next_multiple_of(512);
    say(&format!("Created {}: {} ({size} bytes), {}.", file.display(), ThreeDigits(size), name_of(format)));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_ends_at_the_first_equals_sign() {
        let named = |text: &str| parse_export(OsStr::new(text)).ok();
        let is = |name: &str, file: &str| Some(Named { name: name.into(), file: file.into() });
        assert_eq!(named("a=b=c.qed"), is("a", "b=c.qed"));
        assert_eq!(named("=b.qed"), is("", "b.qed"));
        assert_eq!(named("b.qed"), None);
        assert_eq!(named("a="), None);
    }
}
