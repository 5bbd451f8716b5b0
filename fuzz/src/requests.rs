//! Requests in the simulated world, in an order that a fuzzer chooses, with faults and power cuts between them.
//!
//! Role: a disk, and a script of what happens to it: requests side by side, steps of tasks and kernel, futures dropped,
//! faults of storage, crashes. The laws are those of `quod-trial`.
//!
//! Laws: reads return what the model allows; nothing is stuck; what a crash leaves keeps every promise; a close that
//! succeeds leaves what rule D14 says.
//!
//! Absent on purpose: choices of what survives a crash; of those the trials make many, and here a seed picks some.

use arbitrary::{Result, Unstructured};
use quod::{Format, Fua, Room};
use quod_sim::{Executor, Fault, Faults, Kind, World};
use quod_trial::{Ask, Case, Examiner, Guest, Leaks, assert_closed, close, kill_and_reopen, open};

/// Crashes of one script: each costs as much as many requests.
const MOST_CRASHES: usize = 3;
/// Requests of one script.
const MOST_REQUESTS: usize = 80;
/// Of so many crashed images one is crashed again, one is used on.
const RARELY: u32 = 4;

/// Runs the script that `bytes` stand for.
///
/// # Panics
/// When a law is broken.
pub fn run(bytes: &[u8]) {
    let mut bytes = Unstructured::new(bytes);
    let (Ok(case), Ok(ending)) = (case(&mut bytes), bytes.arbitrary()) else { return };
    let mut script = Script::begin(case);
    // Where the bytes end, the script does.
    let _whole: bool = script.play(&mut bytes).is_ok();
    script.end(ending);
}

/// The disk.
fn case(bytes: &mut Unstructured<'_>) -> Result<Case> {
    let seed = u64::from(bytes.arbitrary::<u8>()?);
    let (cluster_size, table_size) =
        *bytes.choose(&[(4096, 1), (4096, 1), (4096, 2), (8192, 1), (16384, 4)])?;
    let cluster = u64::from(cluster_size);
    // Of the smallest geometry, one disk in eight has two tables.
    let clusters = if bytes.ratio(1, 8)? { 520 } else { bytes.int_in_range(1..=24)? };
    let size = cluster * clusters + 512 * bytes.int_in_range(0..=7)?;
    let length = *bytes.choose(&[size / 2 + 100, size, size + 3 * cluster + 512])?;
    let backing = match bytes.int_in_range(0..=3u8)? {
        0 | 1 => None,
        2 => Some((Format::Raw, length)),
        _ => Some((Format::Qed, length.next_multiple_of(512))),
    };
    let cache_bytes = if bytes.arbitrary()? { 64 << 10 } else { 3 * 4096 };
    Ok(Case { cluster_size, table_size, size, backing, cache_bytes, ..Case::from_seed(seed) })
}

struct Script {
    case: Case,
    world: World,
    guest: Guest,
    executor: Executor,
    place: String,
    requests: usize,
    crashes: usize,
    /// Something else than room may have been wanting.
    is_failing: bool,
}

impl Script {
    fn begin(case: Case) -> Self {
        let (world, oracle) = case.create();
        let mut executor = Executor::new(&world, case.seed);
        let image = open(&case, &world, &mut executor).expect("a new image opens");
        let guest = Guest::new(image, oracle, &world);
        let place = case.to_string();
        Script { case, world, guest, executor, place, requests: 0, crashes: 0, is_failing: false }
    }

    fn play(&mut self, bytes: &mut Unstructured<'_>) -> Result<()> {
        while !bytes.is_empty() {
            match bytes.int_in_range(0..=15u8)? {
                0..=5 => self.ask(bytes)?,
                6..=10 => self.step(usize::from(bytes.int_in_range(1..=60u8)?)),
                11 => self.drop_one(bytes)?,
                12 => self.crash(bytes.arbitrary()?),
                13 => self.set_faults(bytes)?,
                14 => self.plan(bytes)?,
                _ => self.mend(),
            }
        }
        Ok(())
    }

    /// One more task.
    fn ask(&mut self, bytes: &mut Unstructured<'_>) -> Result<()> {
        let count = bytes.int_in_range(1..=6usize)?.min(MOST_REQUESTS - self.requests);
        let asks = (0..count).map(|_| self.request(bytes)).collect::<Result<Vec<_>>>()?;
        self.requests += count;
        self.executor.spawn(self.guest.clone().work(asks));
        Ok(())
    }

    fn request(&self, bytes: &mut Unstructured<'_>) -> Result<Ask> {
        let (kind, cluster) = (bytes.int_in_range(0..=19u8)?, u64::from(self.case.cluster_size));
        // Few clusters, near the beginning, the end, and the border between tables, so that requests meet.
        let hot = *bytes.choose(&[0, self.case.size / cluster, 511, 2])?;
        let start = (hot + u64::from(bytes.int_in_range(0..=3u8)?)).saturating_sub(2) * cluster;
        let (at, len) = match bytes.int_in_range(0..=3u8)? {
            0 => (start + bytes.int_in_range(0..=cluster - 1)?, bytes.int_in_range(1..=1200)?),
            1 => (start, cluster * bytes.int_in_range(1..=3)?),
            _ => (start + 512 * bytes.int_in_range(0..=7)?, 512 * bytes.int_in_range(1..=9)?),
        };
        let size = self.guest.image.size();
        let at = at.min(size - 1);
        let len = len.min(size - at);
        let fua = if bytes.ratio(1, 8)? { Fua::Yes } else { Fua::No };
        Ok(match kind {
            0..=7 => Ask::Write { at, len, fua },
            8 => Ask::Zero { at, len, room: Room::GiveBack, fua },
            9 => Ask::Zero { at, len, room: Room::Keep, fua },
            10 => Ask::Discard { at, len, fua },
            11..=13 => Ask::Read { at, len },
            14 => Ask::Status { at, len },
            15 => Ask::Maintain,
            16 => Ask::Grow { by: 512 * bytes.int_in_range(1..=40)? },
            _ => Ask::Flush,
        })
    }

    fn step(&mut self, count: usize) {
        for _ in 0..count {
            if !self.executor.step() {
                return;
            }
        }
    }

    /// Drops a task in the middle of its request.
    fn drop_one(&mut self, bytes: &mut Unstructured<'_>) -> Result<()> {
        let under_way = self.executor.under_way();
        if !under_way.is_empty() {
            self.executor.cancel(*bytes.choose(&under_way)?);
        }
        Ok(())
    }

    fn crash(&mut self, seed: u16) {
        // Of sectors that too many have written side by side nothing would be proved.
        let is_followed = self.guest.oracle.borrow().model.lost() == 0;
        if self.crashes < MOST_CRASHES && is_followed {
            self.crashes += 1;
            let mut dice = fastrand::Rng::with_seed(seed.into());
            let examiner = Examiner::new(&self.case, RARELY);
            examiner.crash_here(&self.world, &self.guest, 1, &mut dice, &self.place);
        }
    }

    fn set_faults(&mut self, bytes: &mut Unstructured<'_>) -> Result<()> {
        let delay = *bytes.choose(&[1, 4, 10, 40])?;
        let faults = match bytes.int_in_range(0..=3u8)? {
            0 | 1 => Faults::delays(),
            2 => Faults { full: 40, full_for: 5..=150, ..Faults::delays() },
            _ => {
                self.is_failing = true;
                Faults::rotten()
            }
        };
        self.world.set_faults(Faults { delay, ..faults });
        Ok(())
    }

    /// The next operation of a kind fails, or the disk is full from now on.
    fn plan(&mut self, bytes: &mut Unstructured<'_>) -> Result<()> {
        if bytes.ratio(1, 3)? {
            self.world.set_full(true);
            return Ok(());
        }
        let kind = *bytes.choose(&[Kind::Read, Kind::Write, Kind::SetLen, Kind::Flush])?;
        let fault = *bytes.choose(&[Fault::Io, Fault::IoForGood, Fault::NoSpace])?;
        self.is_failing |= fault != Fault::NoSpace || kind == Kind::Read || kind == Kind::Flush;
        self.world.plan(kind, fault);
        Ok(())
    }

    fn mend(&mut self) {
        self.world.set_faults(self.case.faults());
        self.world.set_full(false);
        self.world.mend();
    }

    /// Lets everything come to its end, and closes; or kills, once in four times and where a close would not do.
    fn end(mut self, ending: u16) {
        let place = self.place.clone();
        self.executor.run().unwrap_or_else(|stuck| panic!("{place}: {stuck}"));
        self.guest.assert_no_violation(&place);
        if !self.is_failing {
            let errors = self.guest.errors.borrow();
            let odd = errors.iter().find(|(_, kind, _)| *kind != quod::ErrorKind::NoSpace);
            assert!(odd.is_none(), "{place}: only room was wanting: {odd:?}");
        }
        self.mend();
        let flush_failed = self.world.failures(Kind::Flush) > 0;
        let may_close = !flush_failed && !self.guest.latched.get() && ending % 4 != 3;
        if may_close && self.close() {
            return;
        }
        self.crashes = 0;
        self.crash(ending);
        // Once a flush has failed, only a crash tells what is there, and who flushes next is told of the failure.
        if !flush_failed {
            let Script { case, world, guest, executor, place, .. } = self;
            kill_and_reopen(&case, &world, &guest, executor, &place);
        }
    }

    /// Closes in order, and looks at the disk once more; tells whether the close succeeded.
    fn close(&mut self) -> bool {
        // What failed and dropped requests have left behind may still come, with the close at the latest.
        self.guest.compare(&mut self.executor, &self.place);
        let image = self.guest.image.clone();
        let closed = self.executor.block_on(async move { image.close().await }).expect("not stuck");
        assert!(closed.is_ok() || self.is_failing, "{}: {closed:?}", self.place);
        if closed.is_err() {
            return false;
        }
        assert_closed(&self.world, Leaks::Inside, &self.place);
        // What failed writes, and looks for room, have left in room that nothing names was promised to nobody.
        let whole = self.world.failures(Kind::Write) == 0;
        assert!(!whole || self.world.uncertain() == 0, "{}: a close leaves something to be lost", self.place);
        let image = open(&self.case, &self.world, &mut self.executor).expect("a closed image opens");
        let guest = Guest::new(image, self.guest.oracle.take().closed(), &self.world);
        guest.compare_reopened(&mut self.executor, &self.place);
        close(&guest, &mut self.executor, &self.place);
        true
    }
}
