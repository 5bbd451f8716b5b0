//! What a server has done so far, for whoever wants to know.
//!
//! Role: an [`Observer`] adds up what all event loops have counted, beside what the engine tells of each image.
//!
//! Invariant: looking costs those who serve the cache lines that are read, and for each image four locks that are held for a
//! moment.
//!
//! Absent on purpose: rates, and how any of it is told.

use std::sync::Arc;

use quod::ImageStats;

use super::crowd::Crowd;
use super::exports::Offer;
use super::latencies::LatencyStats;

/// Sees what a server does, from any thread. It keeps the images' files open, and with them their locks: drop it before
/// somebody else is to have them.
#[derive(Clone, Debug)]
pub struct Observer {
    crowd: Arc<Crowd>,
    offers: Vec<Offer>,
}

/// The clients of a server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClientStats {
    /// That are connected now, whether or not they use an export yet.
    pub connected: u64,
    /// That were accepted.
    pub accepted: u64,
    /// That were let go at once since there were too many.
    pub refused: u64,
}

/// An export.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ExportStats {
    /// Its name.
    pub name: String,
    /// Clients that use it now.
    pub clients: u64,
    /// How often its clients were looked out for.
    pub lookouts: LookoutStats,
    /// What the engine tells of its image.
    pub image: ImageStats,
    /// Its requests, for each kind, in the order of [`RequestKind::ALL`].
    pub requests: Vec<RequestStats>,
}

/// What it came to that a client was looked out for: for some 50 microseconds, before its thread slept until the next request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LookoutStats {
    /// All that were begun and not given up.
    pub all: u64,
    /// Those of them in which nothing came.
    pub in_vain: u64,
}

/// Kinds of requests that are counted apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestKind {
    /// READ.
    Read,
    /// WRITE.
    Write,
    /// WRITE_ZEROES.
    WriteZeroes,
    /// TRIM.
    Trim,
    /// FLUSH.
    Flush,
    /// CACHE.
    Cache,
    /// BLOCK_STATUS.
    BlockStatus,
    /// Commands that the server does not know.
    Unknown,
}

/// Requests of one kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RequestStats {
    /// Which.
    pub kind: RequestKind,
    /// That were answered.
    pub answered: u64,
    /// That were read and are not answered yet.
    pub in_flight: u64,
    /// That were answered by an error.
    pub failed: u64,
    /// Bytes of the disk that the others were about; 0 for those of [kinds](RequestKind::has_bytes) that have none.
    pub bytes: u64,
    /// How long they took, where the server [measures](super::ServerOptions::latencies) that.
    pub latencies: Option<LatencyStats>,
}

impl RequestKind {
    /// All of them.
    pub const ALL: [RequestKind; 8] = [
        RequestKind::Read,
        RequestKind::Write,
        RequestKind::WriteZeroes,
        RequestKind::Trim,
        RequestKind::Flush,
        RequestKind::Cache,
        RequestKind::BlockStatus,
        RequestKind::Unknown,
    ];

    /// A word for it: that of the protocol, in small letters.
    pub fn name(self) -> &'static str {
        match self {
            RequestKind::Read => "read",
            RequestKind::Write => "write",
            RequestKind::WriteZeroes => "write_zeroes",
            RequestKind::Trim => "trim",
            RequestKind::Flush => "flush",
            RequestKind::Cache => "cache",
            RequestKind::BlockStatus => "block_status",
            RequestKind::Unknown => "unknown",
        }
    }

    /// Whether such a request does something to, or with, bytes of the disk that can be counted.
    pub fn has_bytes(self) -> bool {
        !matches!(self, RequestKind::Flush | RequestKind::BlockStatus | RequestKind::Unknown)
    }
}

impl RequestStats {
    /// None of that kind.
    pub(crate) fn of(kind: RequestKind) -> Self {
        RequestStats { kind, answered: 0, in_flight: 0, failed: 0, bytes: 0, latencies: None }
    }
}

impl Observer {
    pub(crate) fn new(crowd: Arc<Crowd>, offers: Vec<Offer>) -> Self {
        Observer { crowd, offers }
    }

    /// The server's clients.
    pub fn clients(&self) -> ClientStats {
        self.crowd.stats()
    }

    /// The server's exports, the default export first.
    pub fn exports(&self) -> impl Iterator<Item = ExportStats> {
        self.offers.iter().map(|offer| ExportStats {
            name: offer.options.name.clone(),
            clients: offer.tallies.iter().map(|tally| tally.clients()).sum(),
            lookouts: offer.lookouts(),
            image: offer.image.stats(),
            requests: RequestKind::ALL.iter().map(|&kind| offer.requests(kind)).collect(),
        })
    }
}

impl Offer {
    /// On all event loops.
    fn lookouts(&self) -> LookoutStats {
        let mut sum = LookoutStats::default();
        self.tallies.iter().for_each(|tally| tally.add_lookouts_to(&mut sum));
        sum
    }

    /// Requests of one kind, on all event loops.
    fn requests(&self, kind: RequestKind) -> RequestStats {
        let mut sum = RequestStats::of(kind);
        self.tallies.iter().for_each(|tally| tally.add_to(&mut sum));
        sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_in_the_order_of_their_numbers() {
        assert!(RequestKind::ALL.iter().enumerate().all(|(at, &kind)| kind as usize == at));
    }
}
