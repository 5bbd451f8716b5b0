//! The page that Prometheus fetches.
//!
//! Role: names every counter and says what it means; the values are read when the page is written.
//!
//! Invariant: of an export nothing is told but its name and its numbers: no name of a file.
//!
//! Absent on purpose: anything kept between two pages.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, LabelSetEncoder, NoLabelSet, text};
use prometheus_client::encoding::{EncodeLabel, MetricEncoder};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{Registry, Unit};

use crate::nbd::{ClientStats, ExportStats, LatencyStats, Observer, RequestStats};

/// What the page is written in.
pub(super) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// All that a server counts.
pub(super) struct Page(Registry);

impl Page {
    pub(super) fn of(observer: Observer) -> Self {
        let mut registry = Registry::with_prefix("quod");
        registry.register_collector(Box::new(Counters(observer)));
        Page(registry)
    }

    /// The page as of now.
    pub(super) fn write(&self) -> Result<String, fmt::Error> {
        let mut page = String::new();
        text::encode(&mut page, &self.0)?;
        Ok(page)
    }
}

/// One number of a `T`.
struct Metric<T> {
    name: &'static str,
    unit: Option<Unit>,
    kind: MetricType,
    help: &'static str,
    value: fn(&T) -> u64,
}

const fn counter<T>(name: &'static str, help: &'static str, value: fn(&T) -> u64) -> Metric<T> {
    Metric { name, unit: None, kind: MetricType::Counter, help, value }
}

const fn gauge<T>(name: &'static str, help: &'static str, value: fn(&T) -> u64) -> Metric<T> {
    Metric { name, unit: None, kind: MetricType::Gauge, help, value }
}

/// A gauge whose unit is bytes, which ends its name.
const fn bytes<T>(name: &'static str, help: &'static str, value: fn(&T) -> u64) -> Metric<T> {
    Metric { name, unit: Some(Unit::Bytes), kind: MetricType::Gauge, help, value }
}

const OF_SERVER: &[Metric<ClientStats>] = &[
    gauge("clients", "Clients that are connected.", |clients| clients.connected),
    counter("clients_accepted", "Clients that were accepted.", |clients| clients.accepted),
    counter("clients_refused", "Clients that were let go since there were too many.", |clients| {
        clients.refused
    }),
];

const OF_EXPORTS: &[Metric<ExportStats>] = &[
    gauge("export_clients", "Clients that use the export.", |export| export.clients),
    counter(
        "lookouts",
        "Times that a thread looked out for a client's next request before it slept.",
        |export| export.lookouts.all,
    ),
    counter("lookouts_in_vain", "Those of them in which it did not come.", |export| export.lookouts.in_vain),
    counter("cache_hits", "Look-ups in the table cache that found their slice.", |export| {
        export.image.cache.hits
    }),
    counter("cache_misses", "Look-ups that read entries from the file.", |export| export.image.cache.misses),
    counter("cache_bypasses", "Those of them that did not take their slice in.", |export| {
        export.image.cache.bypasses
    }),
    counter("cache_shared_loads", "Waits for another's read of the same slice.", |export| {
        export.image.cache.loads_shared
    }),
    counter("cache_evictions", "Slices that had to go for others of this export.", |export| {
        export.image.cache.evictions
    }),
    gauge("cache_kept", "Slices that stay, since the file is owed entries of theirs.", |export| {
        export.image.cache.kept
    }),
    bytes("cache", "Memory that the export's part of the table cache takes.", |export| {
        export.image.cache.bytes
    }),
    counter("clusters_allocated", "Clusters taken at the end of the file.", |export| {
        export.image.clusters_allocated
    }),
    bytes("file", "Length of the file.", |export| export.image.file_length),
    bytes("file_growth", "What the file is longer by than when it was opened.", |export| {
        export.image.file_growth
    }),
    counter("entries_written", "Entries of tables written to the file.", |export| {
        export.image.entries_written
    }),
    counter("slices_written", "Writes of slices of tables, which bring entries.", |export| {
        export.image.slices_written
    }),
    counter("flushes_asked", "Flushes, and requests with FUA, that clients asked for.", |export| {
        export.image.flushes_asked
    }),
    counter("file_flushes", "Flushes of the file, shared and of the engine's own.", |export| {
        export.image.flushes_begun
    }),
    gauge("needs_check", "Whether NEED_CHECK may be set in the file.", |export| {
        export.image.needs_check.into()
    }),
    gauge("pending_entries", "Entries that the file is owed.", |export| export.image.entries_pending),
    bytes("pending", "Data that was written for those entries.", |export| export.image.bytes_pending),
    gauge("latched", "Whether a failure has closed the image for writing.", |export| {
        export.image.is_latched.into()
    }),
];

const OF_REQUESTS: &[Metric<RequestStats>] = &[
    counter("requests", "Requests that were answered.", |requests| requests.answered),
    counter("request_errors", "Requests that were answered by an error.", |requests| requests.failed),
    gauge("requests_in_flight", "Requests that are not answered yet.", |requests| requests.in_flight),
];

/// Of kinds of requests that have bytes.
const BYTES_OF_REQUESTS: Metric<RequestStats> = Metric {
    name: "request",
    unit: Some(Unit::Bytes),
    kind: MetricType::Counter,
    help: "Bytes of the disk that requests without an error were about.",
    value: |requests| requests.bytes,
};

/// What all of it is read from.
#[derive(Debug)]
struct Counters(Observer);

impl Collector for Counters {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let clients = self.0.clients();
        let exports: Vec<_> = self.0.exports().collect();
        for metric in OF_SERVER {
            metric.tell(&mut encoder, [(None, &clients)])?;
        }
        for metric in OF_EXPORTS {
            metric.tell(&mut encoder, exports.iter().map(|export| (Some(Labels::of(export)), export)))?;
        }
        let requests = || {
            exports.iter().flat_map(|export| {
                let labels = |requests: &RequestStats| Labels::of(export).with(requests);
                export.requests.iter().map(move |requests| (Some(labels(requests)), requests))
            })
        };
        for metric in OF_REQUESTS {
            metric.tell(&mut encoder, requests())?;
        }
        BYTES_OF_REQUESTS.tell(&mut encoder, requests().filter(|(_, requests)| requests.kind.has_bytes()))?;
        let timed = requests().filter_map(|(labels, requests)| Some((labels?, requests.latencies.as_ref()?)));
        tell_latencies(&mut encoder, timed)
    }
}

impl<T> Metric<T> {
    /// Tells it of each of `all`.
    fn tell<'a>(
        &self,
        encoder: &mut DescriptorEncoder<'_>,
        all: impl IntoIterator<Item = (Option<Labels<'a>>, &'a T)>,
    ) -> fmt::Result
    where
        T: 'a,
    {
        let Metric { name, unit, kind, help, value } = self;
        let mut family = encoder.encode_descriptor(name, help, unit.as_ref(), *kind)?;
        for (labels, one) in all {
            let value = value(one);
            match &labels {
                Some(labels) => tell_value(&mut family.encode_family(labels)?, *kind, value)?,
                None => tell_value(&mut family, *kind, value)?,
            }
        }
        Ok(())
    }
}

fn tell_value(encoder: &mut MetricEncoder<'_>, kind: MetricType, value: u64) -> fmt::Result {
    match kind {
        MetricType::Counter => encoder.encode_counter::<NoLabelSet, _, u64>(&value, None),
        // What is counted fits: bytes of a file, or of memory.
        _ => encoder.encode_gauge(&i64::try_from(value).unwrap_or(i64::MAX)),
    }
}

fn tell_latencies<'a>(
    encoder: &mut DescriptorEncoder<'_>,
    all: impl Iterator<Item = (Labels<'a>, &'a LatencyStats)>,
) -> fmt::Result {
    let help = "From when a request was read whole until its answer was there.";
    let mut family =
        encoder.encode_descriptor("request_duration", help, Some(&Unit::Seconds), MetricType::Histogram)?;
    for (labels, latencies) in all {
        let bound =
            |bound: Option<std::time::Duration>| bound.map_or(f64::INFINITY, |bound| bound.as_secs_f64());
        let buckets: Vec<_> = latencies.buckets().map(|(at, count)| (bound(at), count)).collect();
        let (sum, count) = (latencies.total.as_secs_f64(), latencies.count());
        family.encode_family(&labels)?.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)?;
    }
    Ok(())
}

/// Whose number it is.
#[derive(Clone, Copy, Debug)]
struct Labels<'a> {
    export: &'a str,
    command: Option<&'static str>,
}

impl<'a> Labels<'a> {
    fn of(export: &'a ExportStats) -> Self {
        Labels { export: &export.name, command: None }
    }

    fn with(self, requests: &RequestStats) -> Self {
        Labels { command: Some(requests.kind.name()), ..self }
    }
}

impl EncodeLabelSet for Labels<'_> {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> fmt::Result {
        ("export", self.export).encode(encoder.encode_label())?;
        match self.command {
            Some(command) => ("command", command).encode(encoder.encode_label()),
            None => Ok(()),
        }
    }
}
