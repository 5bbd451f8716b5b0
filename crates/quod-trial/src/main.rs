//! Campaigns of trials: `cargo xtask sim`.
//!
//! Role: runs seeds side by side, counts what they saw, and makes a failure small and replayable.
//!
//! Invariant: exit status 0 means that images were examined and no law was broken. A trial that does not end is named.
//!
//! Absent on purpose: laws (they are the library's).

use std::collections::BTreeMap;
use std::ops::Range;
use std::panic;
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use clap::{Parser, value_parser};
use indicatif::{ProgressBar, ProgressStyle};
use quod_trial::{CrashPoint, Finding, Form, Kept, Plan, Tally, prepare, report, run, shrink};

/// Crash the engine in a simulated world after every storage operation, and examine what is left
#[derive(Parser)]
#[command(name = "cargo xtask sim", bin_name = "cargo xtask sim")]
struct Arguments {
    /// So many trials, one a seed; the forms of trials take turns
    #[arg(long, default_value_t = 50, value_name = "N", value_parser = value_parser!(u64).range(1..=1 << 32))]
    seeds: u64,
    /// The first seed
    #[arg(long, default_value_t = 0, value_name = "SEED", value_parser = value_parser!(u64).range(..=1 << 62))]
    from: u64,
    /// Run this seed alone
    #[arg(long, value_name = "SEED", conflicts_with_all = ["seeds", "from"], value_parser = value_parser!(u64).range(..=1 << 63))]
    seed: Option<u64>,
    /// Trials of this form alone: mixed, serial, dropped, tight, failing, lives, growing, qemu, chaos, idle
    #[arg(long, value_name = "FORM")]
    form: Option<Form>,
    /// Examine so many choices of what survives each crash
    #[arg(long, default_value_t = 4, value_name = "N", value_parser = value_parser!(u32).range(1..))]
    choices: u32,
    /// Carry out only these requests of the trial, as `0-4,9`
    #[arg(long, value_name = "NUMBERS", requires = "seed")]
    keep: Option<Kept>,
    /// Examine this crash alone
    #[arg(long, value_name = "TICK:SURVIVORS", requires = "seed")]
    crash: Option<CrashPoint>,
    /// Tell every request and operation on standard error
    #[arg(long, requires = "seed")]
    trace: bool,
    /// Tell a failure as it is, without making it small first
    #[arg(long)]
    no_shrink: bool,
    /// Threads; as many as there are processors if not given
    #[arg(long, value_name = "N", value_parser = value_parser!(u16).range(1..))]
    jobs: Option<u16>,
}

impl Arguments {
    fn seeds(&self) -> Range<u64> {
        match self.seed {
            Some(seed) => seed..seed + 1,
            None => self.from..self.from + self.seeds,
        }
    }

    fn plan(&self, seed: u64) -> Plan {
        let form = self.form.unwrap_or_else(|| Form::of_seed(seed));
        let plan = Plan::new(form, seed, self.choices);
        Plan { kept: self.keep.clone(), only: self.crash, traced: self.trace, ..plan }
    }
}

/// What all threads together have seen.
#[derive(Default)]
struct Seen {
    all: Tally,
    by_form: BTreeMap<String, Tally>,
    by_geometry: BTreeMap<String, Tally>,
    findings: Vec<Finding>,
}

/// Ends the process when a trial does not end: a request may go round for ever without waiting for anything.
fn watch(plan: Plan) -> mpsc::Sender<()> {
    const PATIENCE: Duration = Duration::from_secs(300);
    let (done, waited_for) = mpsc::channel();
    thread::spawn(move || {
        if waited_for.recv_timeout(PATIENCE) == Err(mpsc::RecvTimeoutError::Timeout) {
            println!("a law is broken: the trial does not end\n  replay: cargo xtask sim {plan}");
            std::process::exit(1);
        }
    });
    done
}

/// Runs a trial for each seed, on so many threads, until a few have failed. What fails is told at once.
fn campaign(arguments: &Arguments, jobs: usize) -> Seen {
    const ENOUGH: usize = 3;
    let seeds = arguments.seeds();
    let bar = ProgressBar::new(seeds.end - seeds.start).with_style(
        ProgressStyle::with_template("{wide_bar} {pos} of {len} trials, {msg} distinct images, {eta} left")
            .expect("a template of known keys"),
    );
    let seeds = Mutex::new(seeds);
    let seen = Mutex::new(Seen::default());
    let take = || seeds.lock().unwrap_or_else(PoisonError::into_inner).next();
    let work = || {
        while let Some(seed) = take() {
            let plan = arguments.plan(seed);
            let mut tally = Tally::default();
            let done = watch(plan.clone());
            let outcome = run(&plan, &mut tally);
            drop(done);
            let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
            let geometry = plan.case().geometry();
            seen.all.add(&tally);
            seen.by_form.entry(plan.form.name().to_owned()).or_default().add(&tally);
            seen.by_geometry.entry(geometry).or_default().add(&tally);
            if let Err(finding) = outcome {
                bar.suspend(|| println!("a law is broken: {finding}"));
                seen.findings.push(*finding);
            }
            bar.set_message(seen.all.distinct().to_string());
            bar.inc(1);
            if seen.findings.len() >= ENOUGH {
                return;
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(work);
        }
    });
    bar.finish_and_clear();
    seen.into_inner().unwrap_or_else(PoisonError::into_inner)
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let processors = || thread::available_parallelism().map_or(1, usize::from);
    let jobs = arguments.jobs.map_or_else(processors, usize::from);
    // Before panics are silenced: without QEMU's tools there is nothing to begin with.
    prepare();
    // A broken law is a panic, which is told as a finding, with what replays it.
    if !arguments.trace {
        panic::set_hook(Box::new(|_| {}));
    }
    let began = Instant::now();
    let seen = campaign(&arguments, jobs);
    println!("{}", report("workload", &seen.by_form));
    println!("{}", report("geometry", &seen.by_geometry));
    if let Some(finding) = seen.findings.first().filter(|_| !arguments.no_shrink) {
        println!("making the first one small ...");
        println!("a law is broken: {}", shrink(finding.clone(), |smaller| eprintln!("  {}", smaller.plan)));
    }
    let seconds = began.elapsed().as_secs_f64();
    let distinct = seen.all.distinct();
    let (verdict, code) = match (seen.findings.is_empty(), distinct) {
        (false, _) => ("A LAW IS BROKEN", ExitCode::FAILURE),
        // A crash that no longer comes, since the engine has changed, was not examined.
        (true, 0) => ("NOTHING WAS EXAMINED", ExitCode::FAILURE),
        (true, _) => ("no law was broken", ExitCode::SUCCESS),
    };
    println!("{} trials, {distinct} distinct images, {seconds:.0} s: {verdict}", seen.all.trials());
    code
}
