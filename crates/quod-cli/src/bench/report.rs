//! What a benchmark has found.
//!
//! Role: the sentences of the reference, or all figures as JSON.
//!
//! Absent on purpose: measuring.

use std::io::Write;

use hdrhistogram::Histogram;
use quod::CacheStats;
use serde::Serialize;

use super::counted::Counts;
use super::runner::Ran;
use super::work::{Kind, Work};
use crate::json;
use crate::output::OutputFormat;

/// What is told at the end.
pub(super) struct Report<'a> {
    pub(super) work: &'a Work,
    pub(super) ran: Ran,
    pub(super) close_seconds: f64,
    pub(super) file: Counts,
    pub(super) below: Counts,
    pub(super) cache: CacheStats,
}

/// Says what is to be done, before it is.
pub(super) fn announce(out: &mut impl Write, format: OutputFormat, work: &Work) -> anyhow::Result<()> {
    if format == OutputFormat::Json {
        return Ok(());
    }
    let kind = if matches!(work.kind, Kind::Read) { "read" } else { "write" };
    let Work { count, depth, places, .. } = work;
    let (size, offset) = (places.size, places.offset);
    let how = match places.seed {
        Some(seed) => format!("from offset {offset} on, drawn by seed {seed}, step size {}", places.step),
        None => format!("starting at offset {offset}, step size {}", places.step),
    };
    writeln!(out, "Sending {count} {kind} requests, {size} bytes each, {depth} in parallel ({how})")?;
    if let Some(interval) = work.interval {
        writeln!(out, "Sending flush every {interval} requests")?;
    }
    out.flush()?;
    Ok(())
}

/// The keys are those of the other verbs' JSON.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Figures {
    operations: u64,
    bytes: u64,
    seconds: f64,
    close_seconds: f64,
    operations_per_second: f64,
    latency_us: Quantiles,
    flush_latency_us: Option<Quantiles>,
    cache: Cache,
    file: Counts,
    backing: Counts,
    written_bytes_per_guest_byte: Option<f64>,
}

/// Microseconds.
#[derive(Serialize)]
struct Quantiles {
    p50: f64,
    p99: f64,
    #[serde(rename = "p99.9")]
    p999: f64,
    max: f64,
}

impl Quantiles {
    fn of(histogram: &Histogram<u64>) -> Self {
        let at = |quantile| histogram.value_at_quantile(quantile) as f64 / 1000.0;
        Quantiles { p50: at(0.5), p99: at(0.99), p999: at(0.999), max: histogram.max() as f64 / 1000.0 }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Cache {
    hits: u64,
    misses: u64,
    bypasses: u64,
    evictions: u64,
    bytes: u64,
}

impl Report<'_> {
    /// Prints it.
    pub(super) fn print(&self, out: &mut impl Write, format: OutputFormat) -> anyhow::Result<()> {
        let seconds = self.ran.took.as_secs_f64();
        match format {
            OutputFormat::Human => writeln!(out, "Run completed in {seconds:.3} seconds.")?,
            OutputFormat::Json => json::print(out, &self.figures(seconds))?,
        }
        out.flush()?;
        Ok(())
    }

    fn figures(&self, seconds: f64) -> Figures {
        let Report { work, ran, file, below, cache, .. } = self;
        let bytes = work.count * work.places.size;
        let flushes = &ran.latencies.flushes;
        let writes = matches!(work.kind, Kind::Write { .. });
        Figures {
            operations: work.count,
            bytes,
            seconds,
            close_seconds: self.close_seconds,
            operations_per_second: work.count as f64 / seconds,
            latency_us: Quantiles::of(&ran.latencies.requests),
            flush_latency_us: (!flushes.is_empty()).then(|| Quantiles::of(flushes)),
            cache: Cache {
                hits: cache.hits,
                misses: cache.misses,
                bypasses: cache.bypasses,
                evictions: cache.evictions,
                bytes: cache.bytes,
            },
            file: *file,
            backing: *below,
            written_bytes_per_guest_byte: writes.then(|| file.written_bytes as f64 / bytes as f64),
        }
    }
}
