//! What a range of the disk is made of, and reading it without what is only zeroes.
//!
//! Role: the engine's block status as metadata contexts and as the pieces of a READ.
//!
//! Invariant: the work and memory of one request are bounded by [`MAX_EXTENTS`], [`MAX_STEPS`] and [`MAX_PIECES`],
//! whatever the image looks like; each answer makes progress.
//!
//! Absent on purpose: threads; who calls decides where this runs.

use quod::{BlockKind, BlockStatus};
use quod_nbd::{ContextId, STATE_HOLE, STATE_ZERO, StatusExtent};
use quod_storage::Buffer;

use super::answer::Piece;
use crate::nbd::exports::Disk;
use crate::nbd::session::{Context, Contexts};

/// Extents told for a context at a time; the client asks again for what lies behind them.
pub(crate) const MAX_EXTENTS: usize = 2048;

/// Runs looked at for one request, joined or not.
const MAX_STEPS: usize = 8192;

/// Pieces of one READ; what is left then is one piece.
const MAX_PIECES: usize = 256;

/// Zeroes amid data are sent as data below this, in bytes: a chunk more costs more.
const SHORTEST_HOLE: u64 = 4096;

/// How much BLOCK_STATUS tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Extents {
    One,
    Many,
}

fn is_zero(status: &BlockStatus) -> bool {
    !matches!(status.kind, BlockKind::Data { .. })
}

/// What `context` says of a run.
fn flags_of(context: Context, status: &BlockStatus) -> u64 {
    match (context, status.kind) {
        (Context::Allocation, BlockKind::Data { .. }) => 0,
        (Context::Allocation, _) => STATE_HOLE | STATE_ZERO,
        (Context::Depth, BlockKind::Unallocated) => 0,
        (Context::Depth, _) => status.depth as u64 + 1,
    }
}

/// Tells what up to `len` bytes from `at` are made of, for each of `contexts`.
///
/// # Errors
/// As [`block_status`](quod::Image::block_status), when not even the first extent can be told.
pub(crate) async fn extents(
    image: &Disk,
    at: u64,
    len: u64,
    contexts: Contexts,
    extents: Extents,
) -> quod::Result<Vec<(ContextId, Vec<StatusExtent>)>> {
    let most = if extents == Extents::One { 1 } else { MAX_EXTENTS };
    let mut told: Vec<_> =
        contexts.iter().map(|context| Told { context, extents: Vec::new(), full: false }).collect();
    let (mut done, mut steps) = (0, 0);
    while done < len && steps < MAX_STEPS && told.iter().any(|told| !told.full) {
        let status = match image.block_status(at + done, len - done).await {
            Ok(status) => status,
            // What was told until here is true; the client meets the error when it asks on.
            Err(_later) if done > 0 => break,
            Err(error) => return Err(error),
        };
        told.iter_mut().for_each(|told| told.add(&status, most));
        done += status.len;
        steps += 1;
    }
    Ok(told.into_iter().map(|told| (told.context.id(), told.extents)).collect())
}

/// What one context says of a range.
struct Told {
    context: Context,
    extents: Vec<StatusExtent>,
    /// A run could not be added any more.
    full: bool,
}

impl Told {
    fn add(&mut self, status: &BlockStatus, most: usize) {
        if self.full {
            return;
        }
        let flags = flags_of(self.context, status);
        let count = self.extents.len();
        match self.extents.last_mut() {
            Some(last) if last.flags == flags => last.length += status.len,
            _ if count == most => self.full = true,
            _ => self.extents.push(StatusExtent { length: status.len, flags }),
        }
    }
}

/// Reads `len` bytes from `at`, but for longer runs of zeroes. `buffer` gives memory for bytes that will be
/// overwritten.
///
/// # Errors
/// As [`read`](quod::Image::read).
pub(crate) async fn read_pieces(
    image: &Disk,
    at: u64,
    len: u64,
    buffer: impl Fn(usize) -> Buffer,
) -> quod::Result<Vec<Piece>> {
    let (mut pieces, end) = (Vec::new(), at + len);
    let (mut data_from, mut next) = (at, at);
    let read = async |from: u64, to: u64| {
        let bytes = image.read(from, buffer((to - from) as usize)).await?;
        Ok(Piece::Data { offset: from, bytes })
    };
    while next < end && pieces.len() + 2 < MAX_PIECES {
        let zeroes = zeroes_at(image, next, end - next).await?;
        match zeroes {
            Zeroes { len, follows } if len >= SHORTEST_HOLE || (len > 0 && len == end - at) => {
                if data_from < next {
                    pieces.push(read(data_from, next).await?);
                }
                // A READ is at most 32 MiB.
                pieces.push(Piece::Hole { offset: next, length: len as u32 });
                data_from = next + len;
                next = data_from + follows;
            }
            Zeroes { len, follows } => next += len + follows,
        }
    }
    if data_from < end {
        pieces.push(read(data_from, end).await?);
    }
    Ok(pieces)
}

/// A run of zeroes, perhaps of none, and the run of data behind it as far as it is known.
struct Zeroes {
    len: u64,
    follows: u64,
}

async fn zeroes_at(image: &Disk, at: u64, len: u64) -> quod::Result<Zeroes> {
    let mut zeroes = 0;
    while zeroes < len {
        let status = image.block_status(at + zeroes, len - zeroes).await?;
        if !is_zero(&status) {
            return Ok(Zeroes { len: zeroes, follows: status.len });
        }
        zeroes += status.len;
    }
    Ok(Zeroes { len: zeroes, follows: 0 })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nbd::export::plan::Plan;
    use quod::{CreateOptions, Fua, Image, OpenOptions, block_on};
    use quod_nbd::{Command, Cookie, Request};
    use quod_storage::{Access, LoopOpener};

    const SIZE: u64 = 64 << 20;
    const CLUSTER: u64 = 4096;

    /// An image whose clusters were written in that order.
    fn image(directory: &tempfile::TempDir, clusters: impl Iterator<Item = u64>) -> Disk {
        let name = directory.path().join("a.qed");
        let shape = CreateOptions { cluster_size: CLUSTER as u32, ..CreateOptions::new(SIZE) };
        block_on(Image::create(&LoopOpener::default(), &name, &shape)).expect("it is made");
        let image = block_on(Image::open(&LoopOpener::default(), &name, &OpenOptions::new(Access::Write)));
        let image = image.expect("it is sound");
        for cluster in clusters {
            let bytes = Buffer::copy_of(&[7; CLUSTER as usize]);
            block_on(image.write(cluster * CLUSTER, bytes, Fua::No)).expect("it is written");
        }
        image
    }

    fn both() -> Contexts {
        let mut contexts = Contexts::default();
        Context::ALL.into_iter().for_each(|context| contexts.insert(context));
        contexts
    }

    fn told(image: &Disk, at: u64) -> Vec<Vec<StatusExtent>> {
        let told = block_on(extents(image, at, SIZE - at, both(), Extents::Many)).expect("it can be told");
        told.into_iter().map(|(_, extents)| extents).collect()
    }

    #[test]
    fn runs_that_make_one_extent_are_looked_at_in_a_bounded_number() {
        const CLUSTERS: u64 = MAX_STEPS as u64 + 100;
        let directory = tempfile::tempdir().expect("a directory");
        // Each cluster lies before the one that it follows: a run for itself.
        let image = image(&directory, (0..CLUSTERS).rev());
        let beginning = MAX_STEPS as u64 * CLUSTER;
        for (context, extents) in told(&image, 0).into_iter().enumerate() {
            assert_eq!(extents, [StatusExtent { length: beginning, flags: context as u64 }]);
        }
        let rest = &told(&image, beginning)[0];
        assert_eq!(rest[0], StatusExtent { length: 100 * CLUSTER, flags: 0 }, "who asks on is told the rest");
        assert_eq!(rest[1].length, SIZE - CLUSTERS * CLUSTER);
        block_on(image.close()).expect("it is sound");
    }

    #[test]
    fn the_largest_answer_is_what_the_budget_counts() {
        let directory = tempfile::tempdir().expect("a directory");
        let image = image(&directory, (0..2 * MAX_EXTENTS as u64).step_by(2));
        let told = told(&image, 0);
        assert!(told.iter().all(|extents| extents.len() == MAX_EXTENTS));
        let held: usize = told.iter().map(|extents| extents.capacity() * size_of::<StatusExtent>()).sum();
        let plan = Plan::Status { length: SIZE, contexts: both(), extents: Extents::Many };
        let command = Command::BlockStatus;
        let request = Request { flags: 0, command, cookie: Cookie(1), offset: 0, length: SIZE };
        assert!(held <= plan.memory(&request), "{held} bytes");
        assert!(held <= Plan::Selection.memory(&request), "what it will be is not known yet");
        block_on(image.close()).expect("it is sound");
    }
}
