//! The table cache under load: hits and the time of a look-up, beside the reference's policy and other people's caches.
//!
//! Role: has `replay` replay its workloads, and puts what it found on a page.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use serde::Deserialize;

use super::page::{Page, Table};
use super::{Bench, output};

#[derive(Deserialize)]
struct Told {
    title: String,
    head: Vec<String>,
    rows: Vec<Vec<String>>,
}

pub(super) fn run(bench: &Bench, trace: Option<&Path>) -> Result<Page> {
    let mut replay = Command::new(&bench.replay);
    replay.arg("--memory").arg(&bench.memory).args(["--rounds", &bench.pairs.to_string()]);
    if let Some(trace) = trace {
        replay.arg("--trace").arg(trace);
    }
    let told: Vec<Told> = serde_json::from_str(&output(&mut replay)?).context("what replay told")?;
    let tables = told.into_iter().map(|Told { title, head, rows }| Table { title, head, rows });
    Ok(Page {
        name: "cache",
        title: "The table cache under load",
        how: "Workloads, replayed on the table cache and on others by the requests' places alone: how many look-ups found their \
              slice, and what a look-up cost, with the reads of those that missed (from a file in memory) and all that comes \
              with them. A budget is a part of the slices of 4 KiB that the workload asks for; the reference has as many whole \
              tables as take no more, but one at least. The disk is one of 128 GiB in the default geometry, with 100,000 \
              requests; zipf is over MiBs scattered on it; a trace (`--trace FILE`) is of a real disk. \
              The reference, whose misses read 256 KiB, replays each once."
            .into(),
        tables: tables.collect(),
        plots: Vec::new(),
    })
}
