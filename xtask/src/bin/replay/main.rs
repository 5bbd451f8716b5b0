//! Replays workloads on the table cache and on others: how often each finds what it is asked for, and what a look-up costs.
//!
//! Role: the figures by which the slice size, the policy, the shared budget and the lack of read-ahead were chosen. A miss reads its
//! slice or table from a file in memory, so that a look-up costs what it costs a request. What a look-up finds is the same
//! in each round, and its time is the median of all.
//!
//! Absent on purpose: requests. Only where their tables are is looked up.

mod caches;
mod trace;
mod workloads;

use std::path::PathBuf;
use std::time::Instant;

use anyhow::Result;
use clap::Parser;
use serde_json::json;

use caches::{Ahead, Contender, Others, Ours, Policy, REFERENCE_TABLES, Reads, Reference};
use workloads::Workload;

const REFERENCE: &str = "the reference: whole tables, first in first out";
/// Budgets are the working set by one of these.
const PARTS: [u64; 5] = [64, 16, 4, 2, 1];
/// Entries of a slice as Quod has it: 4 KiB.
const SLICE: u64 = 512;
/// Entries of the slices that are tried: 512 bytes to 64 KiB.
const SLICES: [u64; 6] = [64, 256, SLICE, 1024, 2048, 8192];
/// Budgets at which sizes and read-ahead are tried.
const TRIED: [u64; 2] = [16, 4];

#[derive(Parser)]
struct Arguments {
    /// A block trace besides: 32 bytes a request, as CloudPhysics published them
    #[arg(long)]
    trace: Option<PathBuf>,
    /// Where to make the file that misses read
    #[arg(long)]
    memory: PathBuf,
    /// Measurements of each kind
    #[arg(long)]
    rounds: usize,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let mut workloads = workloads::made();
    if let Some(trace) = &arguments.trace {
        workloads.extend(trace::read(trace)?);
    }
    let bench = Bench { reads: Reads::make(&arguments.memory)?, rounds: arguments.rounds };
    let mut tables: Vec<_> = workloads.iter().map(|workload| bench.policies(workload)).collect();
    tables.extend(TRIED.map(|part| bench.sizes(&workloads, part)));
    tables.push(bench.ahead(&workloads));
    tables.extend(
        workloads.iter().filter(|workload| workload.images > 1).map(|workload| bench.split(workload)),
    );
    println!("{}", json!(tables));
    Ok(())
}

struct Bench {
    reads: Reads,
    rounds: usize,
}

/// What came of one replay.
#[derive(Clone, Copy)]
struct Outcome {
    /// Of the look-ups that count.
    hit_ratio: f64,
    nanoseconds: f64,
    /// That had to wait for a read.
    misses: u64,
}

impl Outcome {
    fn cell(&self) -> String {
        format!("{:.2} %, {:.0} ns", self.hit_ratio * 100.0, self.nanoseconds)
    }
}

impl Bench {
    /// Lets all replay the workload in turns.
    fn in_turns(&self, workload: &Workload, makers: &[(String, Maker<'_>)]) -> Vec<Outcome> {
        let mut outcomes = vec![Vec::new(); makers.len()];
        for round in 0..self.rounds {
            for place in 0..makers.len() {
                let place = (place + round) % makers.len();
                // It reads whole tables, for minutes.
                if round > 0 && makers[place].0 == REFERENCE {
                    continue;
                }
                outcomes[place].push(replay(workload, &mut *makers[place].1()));
            }
        }
        outcomes
            .into_iter()
            .map(|mut rounds| {
                rounds.sort_by(|one, other| one.nanoseconds.total_cmp(&other.nanoseconds));
                rounds[rounds.len() / 2]
            })
            .collect()
    }

    fn policies(&self, workload: &Workload) -> serde_json::Value {
        let slices = workload.distinct(SLICE);
        let parts = PARTS.map(|part| (slices / part).max(1));
        let usual = REFERENCE_TABLES as u64;
        let budgets = parts.map(|fit| (fit, (fit * SLICE / workload.table).max(1)));
        let budgets = budgets.into_iter().chain([(usual * workload.table / SLICE, usual)]);
        let mut rows: Vec<Vec<String>> = Vec::new();
        for (fit, tables) in budgets {
            let mut makers: Vec<(String, Maker<'_>)> = vec![
                (
                    "quod".into(),
                    Box::new(move || Box::new(Ours::new(&self.reads, workload.images, SLICE, fit))),
                ),
                (
                    REFERENCE.into(),
                    Box::new(move || Box::new(Reference::new(&self.reads, workload.table, tables))),
                ),
            ];
            for policy in Policy::ALL {
                let make = move || -> Box<dyn Contender + '_> {
                    Box::new(Others::new(&self.reads, policy, SLICE, fit))
                };
                makers.push((policy.name().into(), Box::new(make)));
            }
            let outcomes = self.in_turns(workload, &makers);
            rows.resize_with(makers.len(), Vec::new);
            for ((row, (name, _)), outcome) in rows.iter_mut().zip(&makers).zip(outcomes) {
                if row.is_empty() {
                    row.push(name.clone());
                }
                row.push(outcome.cell());
            }
        }
        let mut head = head_of_parts("cache");
        head.push(format!("{usual} tables"));
        let title =
            format!("{}: {slices} slices in {} tables", workload.name, workload.distinct(workload.table));
        json!({ "title": title, "head": head, "rows": rows })
    }

    fn sizes(&self, workloads: &[Workload], part: u64) -> serde_json::Value {
        let columns = workloads.iter().map(|workload| {
            let bytes = workload.distinct(SLICE) / part * Ours::slice_bytes(SLICE);
            let sizes = SLICES.iter().filter(|&&entries| entries <= workload.table);
            let makers: Vec<(String, Maker<'_>)> = sizes
                .map(|&entries| {
                    let fit = (bytes / Ours::slice_bytes(entries)).max(1);
                    let make = move || -> Box<dyn Contender + '_> {
                        Box::new(Ours::new(&self.reads, workload.images, entries, fit))
                    };
                    (String::new(), Box::new(make) as Maker<'_>)
                })
                .collect();
            let mut cells: Vec<_> = self.in_turns(workload, &makers).iter().map(Outcome::cell).collect();
            cells.resize(SLICES.len(), "more than a table".into());
            cells
        });
        let rows = rows(SLICES.map(|entries| format!("{} bytes", entries * 8)).to_vec(), columns);
        let title = format!("Sizes of a slice, with 1/{part} of the working set");
        json!({ "title": title, "head": head_of("slice", workloads), "rows": rows })
    }

    fn ahead(&self, workloads: &[Workload]) -> serde_json::Value {
        let part = TRIED[1];
        let columns = workloads.iter().map(|workload| {
            let fit = (workload.distinct(SLICE) / part).max(1);
            let makers = [Ahead::Nothing, Ahead::Next].map(|ahead| {
                let make = move || -> Box<dyn Contender + '_> {
                    Box::new(Ours::new(&self.reads, workload.images, SLICE, fit).reading_ahead(ahead))
                };
                (String::new(), Box::new(make) as Maker<'_>)
            });
            let outcomes = self.in_turns(workload, &makers);
            let cell = |one: &Outcome| format!("{} misses, {:.0} ns", one.misses, one.nanoseconds);
            outcomes.iter().map(cell).collect()
        });
        let names = ["as asked for", "and the next, where the one before is here"];
        let rows = rows(names.map(str::to_owned).to_vec(), columns);
        let title = format!("Reading ahead, with 1/{part} of the working set");
        json!({ "title": title, "head": head_of("reads", workloads), "rows": rows })
    }

    fn split(&self, workload: &Workload) -> serde_json::Value {
        let slices = workload.distinct(SLICE);
        let mut rows = [vec!["one budget".to_owned()], vec!["a part for each image".to_owned()]];
        for part in PARTS {
            let fit = (slices / part).max(1);
            let makers: [(String, Maker<'_>); 2] = [
                (
                    String::new(),
                    Box::new(move || Box::new(Ours::new(&self.reads, workload.images, SLICE, fit))),
                ),
                (
                    String::new(),
                    Box::new(move || Box::new(Ours::split(&self.reads, workload.images, SLICE, fit))),
                ),
            ];
            let outcomes = self.in_turns(workload, &makers);
            rows.iter_mut().zip(outcomes).for_each(|(row, outcome)| row.push(outcome.cell()));
        }
        let title = format!("{}: one budget or many", workload.name);
        json!({ "title": title, "head": head_of_parts("memory"), "rows": rows })
    }
}

type Maker<'a> = Box<dyn Fn() -> Box<dyn Contender + 'a> + 'a>;

fn head_of(first: &str, workloads: &[Workload]) -> Vec<String> {
    std::iter::once(first.into()).chain(workloads.iter().map(|workload| workload.name.clone())).collect()
}

/// Rows that begin with those names, out of columns.
fn rows(names: Vec<String>, columns: impl Iterator<Item = Vec<String>>) -> Vec<Vec<String>> {
    let mut rows: Vec<_> = names.into_iter().map(|name| vec![name]).collect();
    for column in columns {
        rows.iter_mut().zip(column).for_each(|(row, cell)| row.push(cell));
    }
    rows
}

fn head_of_parts(first: &str) -> Vec<String> {
    std::iter::once(first.into()).chain(PARTS.map(|part| format!("1/{part}"))).collect()
}

fn replay(workload: &Workload, cache: &mut dyn Contender) -> Outcome {
    let unit = cache.entries();
    let (mut counted, mut hits, mut lookups, mut misses) = (0u64, 0u64, 0u64, 0u64);
    let start = Instant::now();
    for request in &workload.requests {
        for number in request.first / unit..=request.last / unit {
            let hit = cache.look_up(request.image, number);
            lookups += 1;
            misses += u64::from(!hit);
            counted += u64::from(request.counts);
            hits += u64::from(request.counts && hit);
        }
    }
    let nanoseconds = start.elapsed().as_nanos() as f64 / lookups as f64;
    Outcome { hit_ratio: hits as f64 / counted as f64, nanoseconds, misses }
}
