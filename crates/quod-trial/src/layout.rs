//! A second opinion on an image file, independent of the engine: what its tables name.
//!
//! Role: reads header and tables of the file as they lie, and holds them against what a crash and a clean close may leave.
//!
//! Invariant: nothing is believed of the file: every entry may name anything.
//!
//! Absent on purpose: the engine's arithmetic and its check, but to compare with.

use std::collections::BTreeSet;

use quod::{CheckReport, Repair};
use quod_sim::{Executor, World};
use quod_storage::Access;

use crate::case::{Case, disk};

/// What the tables of an image say.
#[derive(Debug, Default)]
pub(crate) struct Layout {
    pub(crate) need_check: bool,
    /// Guest clusters that have an entry.
    pub(crate) mapped: BTreeSet<u64>,
    /// Entries that name no cluster of the file.
    pub(crate) invalid: Vec<String>,
    /// Clusters that are named twice.
    pub(crate) twice: Vec<u64>,
    /// Clusters of the file that nothing names.
    pub(crate) leaks: u64,
    /// The file's last cluster is one of them, or it ends within a cluster.
    pub(crate) loose_end: bool,
}

fn entry(bytes: &[u8], at: u64) -> u64 {
    let at = at as usize;
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("8 bytes"))
}

fn half(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32::from_le_bytes(bytes[at..at + 4].try_into().expect("4 bytes")))
}

/// The entries of a table of the disk of a world that are not 0, with their places.
fn entries(world: &World, at: u64, len: u64) -> impl Iterator<Item = (u64, u64)> {
    const PIECE: u64 = 4096;
    let pieces = (0..len).step_by(PIECE as usize).filter_map(move |start| {
        let bytes = world.read(disk(), at + start, PIECE);
        (*bytes != [0; PIECE as usize]).then_some((start, bytes))
    });
    pieces.flat_map(|(start, bytes)| {
        let places = (0..PIECE).step_by(8);
        places.map(move |at| ((start + at) / 8, entry(&bytes, at))).filter(|(_, entry)| *entry != 0)
    })
}

/// Reads the tables of the disk of a world.
pub(crate) fn layout(world: &World) -> Layout {
    let start = world.read(disk(), 0, 64);
    let length = world.length(disk());
    let (cluster, table, header) = (half(&start, 4), half(&start, 8), half(&start, 12));
    let clusters = length / cluster;
    let mut layout = Layout { need_check: entry(&start, 16) & 2 != 0, ..Layout::default() };
    let mut named: BTreeSet<u64> = (0..header).collect();
    let mut name = |layout: &mut Layout, what: &dyn Fn() -> String, at: u64, count: u64| {
        let first = at / cluster;
        if !at.is_multiple_of(cluster) || first < header || first + count > clusters {
            layout.invalid.push(format!("{} names {at:#x}", what()));
            return false;
        }
        layout.twice.extend((first..first + count).filter(|cluster| !named.insert(*cluster)));
        true
    };
    let l1 = entry(&start, 40);
    name(&mut layout, &|| "the header".to_owned(), l1, table);
    for (index, l2) in entries(world, l1, table * cluster) {
        if !name(&mut layout, &|| format!("L1 entry {index}"), l2, table) {
            continue;
        }
        for (inner, data) in entries(world, l2, table * cluster) {
            layout.mapped.insert(index * (table * cluster / 8) + inner);
            if data > 1 {
                name(&mut layout, &|| format!("L2 entry {index}/{inner}"), data, 1);
            }
        }
    }
    layout.leaks = clusters - named.len() as u64;
    layout.loose_end = !length.is_multiple_of(cluster) || !named.contains(&(clusters - 1));
    layout
}

/// What a crash may leave before anything is mended: no cluster named twice (D6), and nothing at all to be mended
/// where NEED_CHECK does not ask for it (D5, D9).
pub(crate) fn assert_crash_state(world: &World, case: &Case, place: &str) {
    let layout = layout(world);
    assert!(layout.twice.is_empty(), "{place}: named twice: {:x?}", layout.twice);
    assert!(
        layout.need_check || layout.invalid.is_empty(),
        "{place}: NEED_CHECK is clear, but {:?}",
        layout.invalid
    );
    assert!(
        layout.need_check || !layout.loose_end || Leaks::after_crash(case) == Leaks::Anywhere,
        "{place}: NEED_CHECK is clear, but the end of the file is not referenced"
    );
}

/// What a clean close may leave unreferenced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leaks {
    /// Nothing.
    None,
    /// What failed, dropped and crashed requests had taken (D1), before the last referenced cluster (D14).
    Inside,
    /// Its end may stay: over a backing file no bit tells that there was a crash, and what is behind a clean image of
    /// another program is not ours to cut.
    Anywhere,
}

impl Leaks {
    /// After a crash, or after another program.
    pub fn after_crash(case: &Case) -> Self {
        if case.backing.is_some() || case.is_clean_of_qemu() { Leaks::Anywhere } else { Leaks::Inside }
    }
}

/// Holds the file against what a clean close leaves (D14), by both opinions.
///
/// # Panics
/// When they find anything else.
pub fn assert_closed(world: &World, leaks: Leaks, place: &str) {
    let layout = layout(world);
    assert!(!layout.need_check, "{place}: NEED_CHECK is set");
    assert!(layout.invalid.is_empty() && layout.twice.is_empty(), "{place}: {layout:?}");
    assert!(leaks == Leaks::Anywhere || !layout.loose_end, "{place}: the end of the file is not referenced");
    assert!(leaks != Leaks::None || layout.leaks == 0, "{place}: {} leaks", layout.leaks);
    let report = check(world, place);
    assert_eq!((report.corruptions, report.leaks), (0, layout.leaks), "{place}: {report:?}");
}

/// The engine's own check.
fn check(world: &World, place: &str) -> CheckReport {
    let opener = world.opener();
    let checked = async move { quod::check(&opener, disk(), Access::Read, Repair::No).await };
    let report = Executor::new(world, 1).block_on(checked).expect("check is not stuck");
    report.unwrap_or_else(|error| panic!("{place}: {error}"))
}
