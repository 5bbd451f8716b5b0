//! The options of a new image: `-o`, and the flags that mean the same.
//!
//! Role: one [`FormatOptions`] out of all of them, values judged one by one.
//!
//! Invariant: pure; no file is looked at. The last of several values holds, and a flag beats `-o`.
//!
//! Absent on purpose: what the values mean together (`plan.rs`), and the bounds that the engine knows.

use std::ffi::OsString;
use std::path::Path;

use anyhow::{anyhow, bail};
use quod::Format;
use quod_language::{MAX_SIZE, SizeError, parse_size};

use crate::open::format_named;

/// What `-o help` prints.
pub(super) const HELP: &str = "\
Supported qed options:
  backing_file=<str>     - File that the image starts from
  backing_fmt=<str>      - Format of that file: qed or raw
  cluster_size=<size>    - Bytes per cluster: a power of two, 4k to 64M; 64k when not given
  size=<size>            - Size of the disk
  table_size=<size>      - Clusters per table: 1, 2, 4, 8 or 16; 4 when not given
";

const NO_NUMBER: &str = "expects a non-negative number below 2^64
Optional suffix k, M, G, T, P or E means kilo-, mega-, giga-, tera-, peta-
and exabytes, respectively.";

/// What was asked for, where it was.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct FormatOptions {
    pub(super) raw: bool,
    pub(super) backing_file: Option<OsString>,
    pub(super) backing_format: Option<String>,
    pub(super) cluster_size: Option<u64>,
    pub(super) table_size: Option<u64>,
    pub(super) size: Option<u64>,
}

/// Whether one of the options is `help`.
pub(super) fn asks_for_help(lists: &[String]) -> bool {
    lists.iter().flat_map(|list| split(list)).any(|item| item == "help" || item == "?")
}

impl FormatOptions {
    /// Reads `-o`, `-b`, `-F` and SIZE.
    pub(super) fn gather(args: &super::Args, file: &Path) -> anyhow::Result<Self> {
        let name = file.display();
        let Some(format) = format_named(&args.format) else {
            bail!("{name}: Unknown file format '{}'", args.format);
        };
        let mut options = FormatOptions { raw: format == Format::Raw, ..FormatOptions::default() };
        for list in &args.options {
            for item in split(list) {
                if item.is_empty() {
                    bail!("Invalid option list: {list}");
                }
                options.take(&item).map_err(|why| anyhow!("{name}: {why}"))?;
            }
        }
        if let Some(size) = &args.size {
            let size = image_size(&size.to_string_lossy())?;
            if options.size.replace(size).is_some() {
                bail!("{name}: The image size must be specified only once");
            }
        }
        options.backing_file = args.backing.clone().or(options.backing_file);
        options.backing_format = args.backing_format.clone().or(options.backing_format);
        if options.raw && (options.backing_file.is_some() || options.backing_format.is_some()) {
            bail!("{name}: Backing file not supported for file format 'raw'");
        }
        Ok(options)
    }

    fn take(&mut self, item: &str) -> Result<(), String> {
        let (name, value) = item.split_once('=').unwrap_or((item, ""));
        match name {
            "size" => self.size = Some(number(name, value)?),
            "cluster_size" if !self.raw => self.cluster_size = Some(number(name, value)?),
            "table_size" if !self.raw => self.table_size = Some(number(name, value)?),
            "backing_file" if !self.raw => self.backing_file = Some(value.into()),
            "backing_fmt" if !self.raw => self.backing_format = Some(value.to_owned()),
            _ => return Err(format!("Invalid parameter '{name}' (-o help lists what there is)")),
        }
        Ok(())
    }
}

fn number(name: &str, value: &str) -> Result<u64, String> {
    parse_size(value).map_err(|error| match error {
        SizeError::NotANumber => format!("Parameter '{name}' {NO_NUMBER}"),
        SizeError::OutOfRange => format!("Value '{value}' is out of range for parameter '{name}'"),
    })
}

fn image_size(text: &str) -> anyhow::Result<u64> {
    match parse_size(text) {
        Ok(size) => Ok(size),
        Err(SizeError::OutOfRange) => {
            bail!("Invalid image size specified. Must be between 0 and {}.", MAX_SIZE)
        }
        Err(SizeError::NotANumber) => bail!("Invalid image size specified: '{text}'."),
    }
}

/// Cuts a list at its commas; two commas are one in the value.
fn split(list: &str) -> Vec<String> {
    let mut items = vec![String::new()];
    let mut characters = list.chars().peekable();
    while let Some(character) = characters.next() {
        if character == ',' && characters.next_if_eq(&',').is_none() {
            items.push(String::new());
        } else if let Some(last) = items.last_mut() {
            last.push(character);
        }
    }
    items
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(list: &str) -> Result<FormatOptions, String> {
        let mut options = FormatOptions::default();
        split(list).iter().try_for_each(|item| options.take(item)).map(|()| options)
    }

    #[test]
    fn a_doubled_comma_belongs_to_the_value() {
        assert_eq!(split("a=1,b=2"), ["a=1", "b=2"]);
        assert_eq!(split("f=a,,b.qed,c=1"), ["f=a,b.qed", "c=1"]);
        assert_eq!(split(","), ["", ""]);
        assert_eq!(split("a=,,,b"), ["a=,", "b"]);
    }

    #[test]
    fn the_last_value_holds() {
        let options = taken("cluster_size=4k,table_size=2,cluster_size=8k").expect("all are options");
        assert_eq!((options.cluster_size, options.table_size), (Some(8192), Some(2)));
    }

    #[test]
    fn what_is_no_option_is_named() {
        assert!(taken("foo=3").is_err_and(|why| why.starts_with("Invalid parameter 'foo'")));
        assert!(taken("cluster_size=abc").is_err_and(|why| why.contains("'cluster_size' expects")));
        assert!(taken("cluster_size").is_err());
        assert!(taken("table_size=-1").is_err_and(|why| why.contains("out of range")));
    }
}
