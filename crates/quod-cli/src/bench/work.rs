//! What a benchmark asks for.
//!
//! Role: [`Work`] is the whole of it, and carries out one request.
//!
//! Absent on purpose: in which order requests begin (`steps.rs`), and on which threads (`runner.rs`).

use quod::{Error, Fua, Image};
use quod_storage::{Buffer, Storage};

/// What is to be done.
#[derive(Clone, Debug)]
pub(super) struct Work {
    pub(super) kind: Kind,
    pub(super) places: Places,
    pub(super) count: u64,
    pub(super) depth: u64,
    pub(super) threads: u64,
    /// Threads run event loops, with the depth spread over them; without, each blocks in one request.
    pub(super) loops: bool,
    /// A flush after so many requests.
    pub(super) interval: Option<u64>,
    /// A flush waits for the requests before it.
    pub(super) drains: bool,
}

/// What a request does.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    Read,
    Write { pattern: u8, fua: Fua },
}

/// Where requests go, in bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Places {
    pub(super) offset: u64,
    pub(super) size: u64,
    pub(super) step: u64,
    pub(super) seed: Option<u64>,
    /// Drawn places lie within so many bytes behind the offset.
    pub(super) span: Option<u64>,
}

impl Places {
    /// Where that request begins on a disk of so many bytes: a step further each time, and round; or drawn among the steps.
    fn place(&self, number: u64, disk: u64) -> u64 {
        let Some(seed) = self.seed else {
            if number == 0 {
                return self.offset;
            }
            let near = number.checked_mul(self.step).and_then(|steps| steps.checked_add(self.offset));
            let far = || u128::from(number) * u128::from(self.step) + u128::from(self.offset);
            let disk = disk.max(1);
            return near.map_or_else(|| (far() % u128::from(disk)) as u64, |at| at % disk);
        };
        let step = self.step.max(1);
        let span = disk.saturating_sub(self.offset).min(self.span.unwrap_or(u64::MAX));
        let steps = span.saturating_sub(self.size) / step + 1;
        self.offset + step * (mix(seed, number) % steps)
    }
}

/// SplitMix64: well mixed bits for each number of a seed.
fn mix(seed: u64, number: u64) -> u64 {
    let mut bits = seed.wrapping_add(number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    bits = (bits ^ bits >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ bits >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ bits >> 31
}

impl Work {
    /// What a request takes along: the bytes to write, or room for those that are read.
    pub(super) fn buffer(&self) -> Buffer {
        let mut buffer = Buffer::zeroed(self.places.size as usize);
        if let Kind::Write { pattern, .. } = self.kind {
            buffer.fill(pattern);
        }
        buffer
    }

    /// Sends the request of that number, and gives the buffer back.
    pub(super) async fn request<S: Storage>(
        &self,
        image: &Image<S>,
        number: u64,
        bytes: Buffer,
    ) -> Result<Buffer, Error> {
        let at = self.places.place(number, image.size());
        match self.kind {
            Kind::Read => image.read(at, bytes).await,
            Kind::Write { fua, .. } => image.write(at, bytes, fua).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_go_round_the_disk_and_the_first_begins_where_it_was_told() {
        let places = Places { offset: 3, size: 1, step: 10, seed: None, span: None };
        let all: Vec<_> = (0..4).map(|number| places.place(number, 25)).collect();
        assert_eq!(all, [3, 13, 23, 8]);
        assert_eq!(
            Places { offset: 99, ..places }.place(0, 25),
            99,
            "which is refused as it is with the reference"
        );
    }

    #[test]
    fn drawn_places_are_whole_steps_apart_inside_the_disk_and_the_seed_s() {
        let places = Places { offset: 512, size: 4096, step: 1000, seed: Some(7), span: None };
        let draw = |places: Places| (0..1000).map(|number| places.place(number, 1 << 20)).collect::<Vec<_>>();
        let drawn = draw(places);
        assert!(drawn.iter().all(|at| (at - 512) % 1000 == 0 && at + 4096 <= 1 << 20));
        assert_eq!(drawn, draw(places));
        assert_ne!(drawn, draw(Places { seed: Some(8), ..places }));
        let different: std::collections::BTreeSet<_> = drawn.iter().collect();
        let near = draw(Places { span: Some(5096), ..places });
        assert!(near.iter().all(|at| [512, 1512].contains(at)), "two places lie within the span");
        assert!(different.len() > 500, "{} of 1,044 places", different.len());
    }
}
