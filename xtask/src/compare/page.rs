//! What was measured, as a page of `docs/performance/`.
//!
//! Invariant: a page says on which machine, with which versions and by which command.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use super::output;
use super::plot::Plot;

/// A page.
pub(super) struct Page {
    /// Of the file, and of the command's argument.
    pub(super) name: &'static str,
    pub(super) title: &'static str,
    /// What was done: for people who want to judge the figures.
    pub(super) how: String,
    pub(super) tables: Vec<Table>,
    pub(super) plots: Vec<Plot>,
}

/// A table: a row each for what was measured, ratios and targets beside the figure.
pub(super) struct Table {
    pub(super) title: String,
    pub(super) head: Vec<String>,
    pub(super) rows: Vec<Vec<String>>,
}

impl Table {
    pub(super) fn new(title: impl Into<String>, head: &[&str]) -> Self {
        let head = head.iter().map(|cell| (*cell).to_owned()).collect();
        Table { title: title.into(), head, rows: Vec::new() }
    }
}

/// A ratio, and whether it is what it should be.
pub(super) fn ratio(ratio: f64, target: Option<f64>) -> String {
    match target {
        Some(target) if ratio >= target => format!("{ratio:.2} (target {target}: met)"),
        Some(target) => format!("{ratio:.2} (target {target}: **not met**)"),
        None => format!("{ratio:.2}"),
    }
}

/// A whole number, with thousands apart.
pub(crate) fn rate(rate: f64) -> String {
    let digits = format!("{rate:.0}");
    let mut grouped = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

impl Page {
    /// Writes the page and its plots, and prints it.
    pub(super) fn write(&self, directory: &Path, pairs: usize) -> Result<()> {
        fs::create_dir_all(directory)?;
        let mut text = format!("# {}\n\n{}\n", self.title, self.how);
        for table in &self.tables {
            writeln!(text, "\n## {}\n\n| {} |", table.title, table.head.join(" | "))?;
            writeln!(text, "|{}", " --- |".repeat(table.head.len()))?;
            for row in &table.rows {
                writeln!(text, "| {} |", row.join(" | "))?;
            }
        }
        for plot in &self.plots {
            plot.draw(directory)?;
            writeln!(text, "\n![{}]({}.svg)", plot.title, plot.name)?;
        }
        let name = self.name;
        writeln!(text, "\n`cargo xtask compare {name} --pairs {pairs}`, medians of {pairs} turns.\n")?;
        writeln!(text, "{}", machine(&["qemu-img", "fio"])?)?;
        print!("{text}");
        let file = directory.join(format!("{name}.md"));
        fs::write(&file, text).with_context(|| format!("{}", file.display()))
    }
}

/// The commit that was measured, and whether anything but pages has changed since.
fn commit() -> Result<String> {
    let commit = output(Command::new("git").args(["rev-parse", "--short", "HEAD"]))?;
    let changed =
        output(Command::new("git").args(["status", "--porcelain", "--", ".", ":!docs/performance"]))?;
    let mark = if changed.is_empty() { "" } else { "-dirty" };
    Ok(format!("{}{mark}", commit.trim()))
}

/// The machine and the versions of what ran on it: ours, and those of the programs.
pub(crate) fn machine(programs: &[&str]) -> Result<String> {
    let first_line = |program: &str, arguments: &[&str]| -> Result<String> {
        let told = output(Command::new(program).args(arguments))?;
        Ok(told.lines().next().unwrap_or_default().trim().to_owned())
    };
    let processors = fs::read_to_string("/proc/cpuinfo")?;
    let model = processors.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let model = model.map_or("a processor without a name", |(_, model)| model);
    let count = processors.lines().filter(|line| line.starts_with("processor")).count();
    let memory = fs::read_to_string("/proc/meminfo")?;
    let memory = memory.lines().next().and_then(|line| line.split_whitespace().nth(1));
    let gigabytes = memory.and_then(|kilobytes| kilobytes.parse::<u64>().ok()).unwrap_or(0) >> 20;
    let versions = programs.iter().map(|program| first_line(program, &["--version"]));
    Ok(format!(
        "{count} × {model}, {gigabytes} GiB, Linux {}. quod {}, {}. {}.",
        first_line("uname", &["-r"])?,
        commit()?,
        versions.collect::<Result<Vec<_>>>()?.join(", "),
        first_line("date", &["-u", "+%Y-%m-%d"])?,
    ))
}

#[cfg(test)]
mod tests {
    use super::{rate, ratio};

    #[test]
    fn figures_are_easy_to_read() {
        assert_eq!([0.4, 999.0, 1000.0, 1_234_567.0].map(rate), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!(ratio(2.0, Some(2.0)), "2.00 (target 2: met)");
        assert_eq!(ratio(0.79, Some(0.8)), "0.79 (target 0.8: **not met**)");
        assert_eq!(ratio(1.5, None), "1.50");
    }
}
