//! A block trace of a real disk, as CloudPhysics published them.
//!
//! Invariant: what is not such a trace is refused, with its place.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};

use crate::workloads::{Request, Workload};

/// Bytes of a request, little-endian: number and length in bytes (4 each), scatter-gather count (4), SCSI command and
/// version (2 each), block of 512 bytes (8), microseconds (8).
const RECORD: usize = 32;
const READ: u16 = 0x28;
const WRITE: u16 = 0x2a;
const BLOCK: u64 = 512;
/// Bytes of a cluster and entries of a table: the default geometry, and the smallest.
const GEOMETRIES: [(u64, u64); 2] = [(64 << 10, 32_768), (4 << 10, 512)];

/// The trace on a disk of each geometry.
pub(crate) fn read(file: &Path) -> Result<Vec<Workload>> {
    let bytes = fs::read(file).with_context(|| format!("{}", file.display()))?;
    let name = file.file_name().unwrap_or(file.as_os_str()).display();
    GEOMETRIES
        .iter()
        .map(|&(cluster, table)| {
            let records = bytes.chunks(RECORD).enumerate();
            let requests = records.map(|(at, record)| {
                request(record, cluster).with_context(|| format!("{name}: request {at}"))
            });
            let requests = requests.collect::<Result<Vec<_>>>()?;
            ensure!(!requests.is_empty(), "{name}: no request");
            let name = format!("{name}, clusters of {} KiB", cluster >> 10);
            Ok(Workload { name, table, images: 1, requests })
        })
        .collect()
}

fn request(record: &[u8], cluster: u64) -> Result<Request> {
    ensure!(record.len() == RECORD, "the file ends in the middle of it");
    let number = |from: usize, bytes: usize| {
        record[from..from + bytes].iter().rev().fold(0u64, |number, byte| number << 8 | u64::from(*byte))
    };
    let (length, command, block) = (number(4, 4), number(12, 2) as u16, number(16, 8));
    ensure!(matches!(command, READ | WRITE), "SCSI command {command:#x} is neither a read nor a write");
    let at = block.checked_mul(BLOCK).filter(|at| at.checked_add(length).is_some());
    let at = at.with_context(|| format!("block {block} lies past every disk"))?;
    Ok(Request { image: 0, first: at / cluster, last: (at + length.max(1) - 1) / cluster, counts: true })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(length: u32, command: u16, block: u64) -> Vec<u8> {
        let mut record = vec![0; RECORD];
        record[4..8].copy_from_slice(&length.to_le_bytes());
        record[12..14].copy_from_slice(&command.to_le_bytes());
        record[16..24].copy_from_slice(&block.to_le_bytes());
        record
    }

    #[test]
    fn a_request_covers_the_clusters_that_it_touches() {
        let clusters = |length, block| {
            let request = request(&record(length, READ, block), 4096).expect("a request");
            (request.first, request.last)
        };
        assert_eq!(clusters(4096, 8), (1, 1));
        assert_eq!(clusters(4096, 9), (1, 2));
        assert_eq!(clusters(0, 16), (2, 2));
    }

    #[test]
    fn what_is_no_trace_is_refused() {
        for bad in [record(512, 0x35, 0), record(512, READ, u64::MAX), vec![0; 31]] {
            assert!(request(&bad, 4096).is_err());
        }
    }
}
