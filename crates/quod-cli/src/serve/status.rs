//! How a server stands, in a line for each of its exports.
//!
//! Role: answers SIGUSR1, by the log, which waits for no reader.
//!
//! Absent on purpose: what is for machines to read; that is `--metrics`.

use std::fmt::Write;
use std::path::PathBuf;

use quod_export::nbd::{ClientStats, ExportStats, Observer};

use super::images::Opened;
use crate::sizes::ThreeDigits;

/// What there is to tell of.
pub(super) struct Status {
    observer: Observer,
    /// In the order of the exports: a single one may have no name.
    files: Vec<PathBuf>,
}

impl Status {
    /// Of a server whose exports are `images`.
    pub(super) fn of(observer: Observer, images: &[Opened]) -> Self {
        Status { observer, files: images.iter().map(|image| image.file.clone()).collect() }
    }

    /// Tells it.
    pub(super) fn tell(&self) {
        let ClientStats { connected, accepted, refused, .. } = self.observer.clients();
        for (file, export) in self.files.iter().zip(self.observer.exports()) {
            tracing::info!(
                target: super::ANSWER,
                "{}: {}; {connected} of the server's, {accepted} since it began, {refused} let go",
                file.display(),
                line(&export)
            );
        }
    }
}

fn line(export: &ExportStats) -> String {
    let image = &export.image;
    let mut line = format!("{} clients", export.clients);
    // A string takes anything.
    let mut say = |words: std::fmt::Arguments<'_>| line.write_fmt(words).expect("a string has room");
    let (mut failed, mut in_flight) = (0, 0);
    for requests in &export.requests {
        (failed, in_flight) = (failed + requests.failed, in_flight + requests.in_flight);
        if requests.answered == 0 {
            continue;
        }
        say(format_args!(", {} {}", requests.answered, requests.kind.name()));
        if requests.kind.has_bytes() {
            say(format_args!(" ({})", ThreeDigits(requests.bytes)));
        }
    }
    say(format_args!(", {in_flight} in flight, {failed} errors"));
    let looked_up = image.cache.hits.saturating_add(image.cache.misses);
    if let Some(hits) = image.cache.hits.saturating_mul(100).checked_div(looked_up) {
        say(format_args!(", {hits} % cache hits"));
    }
    say(format_args!(", file {}", ThreeDigits(image.file_length)));
    say(format_args!(", pending {} entries ({})", image.entries_pending, ThreeDigits(image.bytes_pending)));
    if image.is_latched {
        say(format_args!(", writes are refused since a failure"));
    }
    line
}
