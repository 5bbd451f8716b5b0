//! `quod serve` killed by SIGKILL in the middle of a load, over and over, on the same image.
//!
//! The law: whatever was answered is there, and under commit policy `grouped` whatever was flushed; whatever was not is
//! there or not by whole sectors, and no check finds more than leaks. A read beside writes may show bytes of each, as `pread`
//! does beside `pwrite`. What each round found is printed; for more of them than fit into every run of the tests:
//! `QUOD_KILL_ROUNDS=50 cargo test -p quod-cli --test kill -- --nocapture` (so many for each sort of disk).
//!
//! Absent on purpose: loss of power, which keeps less than a killed process does (`quod-sim`).

#[path = "../common/mod.rs"]
mod common;

mod disk;
mod load;

use std::fs;
use std::process::Stdio;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use fastrand::Rng;
use quod_sim::{Model, stamp};
use rustix::process::{Pid, Signal, kill_process};

use common::found::Found;
use common::serving::Serving;
use common::{Killed, QUOD};
use disk::{Disk, LIFE, Sort};
use load::{Load, Unanswered};

/// Connections that load a server.
const CONNECTIONS: usize = 4;

/// A load is killed after this time at the latest.
const LONGEST_LOAD: Duration = Duration::from_secs(2);

/// Long enough for all clients to fill their connections.
const HELD_UP: Duration = Duration::from_millis(50);

/// When the server dies.
#[derive(Clone, Copy, Debug)]
enum Moment {
    /// In the middle of its work.
    Working,
    /// While it closes the image, or before, or behind that.
    Closing,
    /// In the middle of its work; and the next one while it opens the image, or before, or behind that.
    WorkingThenOpening,
}

impl Moment {
    fn draw(rng: &mut Rng) -> Self {
        match rng.u8(..6) {
            0 => Moment::Closing,
            1 | 2 => Moment::WorkingThenOpening,
            _ => Moment::Working,
        }
    }
}

fn rounds() -> u64 {
    match std::env::var("QUOD_KILL_ROUNDS") {
        Ok(rounds) => rounds.parse().expect("QUOD_KILL_ROUNDS is a number of rounds"),
        Err(_unset) => 2,
    }
}

fn a_few_milliseconds(rng: &mut Rng) {
    thread::sleep(Duration::from_micros(rng.u64(..20_000)));
}

/// Kills a server that has its hands full, or closes.
fn kill(mut serving: Serving, moment: Moment, rng: &mut Rng) {
    let id = Pid::from_child(&serving.server.0);
    let signal = |signal| kill_process(id, signal).expect("it is our child");
    if let Moment::Closing = moment {
        signal(Signal::TERM);
        a_few_milliseconds(rng);
    } else {
        // The clients are slower than the server, so it is held up until all of them wait for it.
        signal(Signal::STOP);
        thread::sleep(HELD_UP);
        signal(Signal::CONT);
        thread::sleep(Duration::from_micros(rng.u64(..5_000)));
    }
    serving.server.0.kill().expect("it is our child");
    let ran = serving.wait();
    assert!(!ran.err.contains("panicked"), "{ran:?}");
}

/// Kills a server that has just been started.
fn kill_opening(disk: &Disk, rng: &mut Rng) {
    let mut command = disk.room.command(QUOD);
    command.arg("serve").args(disk.arguments());
    let mut server = Killed::spawn(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()));
    a_few_milliseconds(rng);
    server.0.kill().expect("it is our child");
    server.wait();
}

/// Loads the server until it is killed; gives what the model knows, and the writes that were in flight.
fn load_and_kill(
    disk: &Disk,
    serving: Serving,
    load: &Load,
    moment: Moment,
    rng: &mut Rng,
) -> Vec<Unanswered> {
    // Few as often as many: later writes to the same sector of a table bring what an earlier one may have lost.
    let enough = rng.usize(8..16) << rng.usize(..8);
    let wires = load::connect(&disk.socket(), CONNECTIONS);
    thread::scope(|scope| {
        let clients: Vec<_> = wires
            .into_iter()
            .map(|wire| {
                let rng = rng.fork();
                scope.spawn(move || load.run(wire, rng))
            })
            .collect();
        let begun = Instant::now();
        while load.completed.load(Ordering::Relaxed) < enough && begun.elapsed() < LONGEST_LOAD {
            thread::sleep(Duration::from_micros(200));
        }
        kill(serving, moment, rng);
        clients.into_iter().flat_map(|client| client.join().expect("a client has failed")).collect()
    })
}

/// How many of those writes begin where they should.
fn landed(unanswered: &[Unanswered], contents: &[u8]) -> usize {
    let is_there = |write: &&Unanswered| {
        let at = write.at.next_multiple_of(stamp::UNIT);
        at + stamp::UNIT <= write.at + write.len
            && stamp::find(&contents[at as usize..], at) == stamp::Finding::Own { sequence: write.sequence }
    };
    unanswered.iter().filter(is_there).count()
}

/// One round: load, kill, look, start again; gives the server that runs then.
fn round(disk: &mut Disk, serving: Serving, number: u64, sequence: &mut u64, rng: &mut Rng) -> Serving {
    let start = number % LIFE * disk.window;
    let load = Load {
        model: Mutex::new(Model::new(disk.size, disk.contents.clone()).on_page_cache()),
        sequence: AtomicU64::new(*sequence),
        completed: AtomicUsize::new(0),
        fresh: start..(start + disk.window).min(disk.size),
    };
    let moment = Moment::draw(rng);
    let unanswered = load_and_kill(disk, serving, &load, moment, rng);
    *sequence = load.sequence.into_inner();
    let mut model = load.model.into_inner().expect("nobody has failed");
    model.kill();
    if disk.sort.commit == "grouped" {
        model.lose_unflushed();
    }
    if let Moment::WorkingThenOpening = moment {
        kill_opening(disk, rng);
    }

    let Found { leaks, needs_check } = Found::in_image(&disk.room, "a.qed");
    assert!(disk.sort.over.is_none() || !needs_check, "not needed over a backing file (D5)");
    let seen = disk.read_by_peer();
    model
        .recovered(0, &seen)
        .unwrap_or_else(|violation| panic!("{:?}, round {number}: {violation}", disk.sort));
    let serving = disk.serve();
    assert!(disk.read_by_server() == seen, "the server does not read what the reference reads");
    println!(
        "{:?}, round {number}: killed {moment:?} after {} writes, {} more in flight, of which {} are there; {leaks} \
         leaks, NEED_CHECK {}; {} KiB judged",
        disk.sort,
        load.completed.into_inner(),
        unanswered.len(),
        landed(&unanswered, &seen),
        if needs_check { "set" } else { "clear" },
        seen.len() >> 10,
    );
    disk.contents = seen;
    serving
}

/// The last server of an image takes room, and ends in order. What the killed ones had taken in the middle of the file,
/// with entries of others behind it, stays leaked (D1); at its end nothing does.
fn end_in_order(disk: &mut Disk, serving: Serving, sequence: u64) {
    let length = |disk: &Disk| fs::metadata(disk.room.path("a.qed")).expect("the image is there").len();
    disk.write_fresh(sequence);
    let served = length(disk);
    serving.stop("-TERM").exits(0);
    let Found { leaks, needs_check } = Found::in_image(&disk.room, "a.qed");
    assert!(!needs_check);
    println!("{:?}: closed, with {leaks} leaks", disk.sort);
    let closed = length(disk);
    assert!(disk.sort.over.is_some() || closed < served, "the room ahead is given back");
    let repaired = disk.room.quod(&["check", "-q", "-f", "qed", "-r", "leaks", "a.qed"]);
    assert!(matches!(repaired.code, Some(0 | 3)), "{repaired:?}");
    assert_eq!(length(disk), closed, "a repair finds it too long");
    assert!(disk.read_by_peer() == disk.contents, "neither changes a byte of the guest's");
}

#[track_caller]
fn a_killed_server_keeps_its_promise(sort: Sort) {
    let mut rng = Rng::with_seed(sort.cluster ^ sort.over.map_or(0, |over| over.as_bytes()[0].into()));
    let mut sequence = 0;
    let rounds = rounds();
    for first in (0..rounds).step_by(LIFE as usize) {
        let mut disk = Disk::make(sort, &mut rng);
        let file_system = disk.room.peer("stat", &["--file-system", "--format=%T", "a.qed"]);
        println!("{sort:?}: a disk on {}", file_system.out.trim());
        let mut serving = disk.serve();
        for number in first..(first + LIFE).min(rounds) {
            serving = round(&mut disk, serving, number, &mut sequence, &mut rng);
        }
        end_in_order(&mut disk, serving, sequence + 1);
    }
}

/// The smallest tables that the reference opens, so that new ones are linked often; the default ones; and between.
fn of_every_geometry(over: Option<&'static str>, commit: &'static str) {
    for (cluster, table) in [(4 << 10, 2), (16 << 10, 2), (64 << 10, 4)] {
        a_killed_server_keeps_its_promise(Sort { cluster, table, over, commit });
    }
}

#[test]
fn a_killed_server_loses_no_answered_write_with_nothing_below() {
    of_every_geometry(None, "through");
}

#[test]
fn a_killed_server_loses_no_answered_write_over_a_raw_file() {
    of_every_geometry(Some("raw"), "through");
}

#[test]
fn a_killed_server_loses_no_answered_write_over_a_qed_file() {
    of_every_geometry(Some("qed"), "through");
}

#[test]
fn a_killed_server_that_groups_loses_nothing_flushed() {
    of_every_geometry(Some("raw"), "grouped");
    of_every_geometry(None, "grouped");
}
