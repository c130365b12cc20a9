//! Runs many seeds of the simulator, or one of them event by event.
//!
//! Exit codes: 0 all clean, 2 wrong usage, 127 a panic, 128 no progress after healing, 129 a wrong
//! history or a broken invariant.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    process::ExitCode,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use clap::Parser;
use meshraft_fuzz::{Counts, Plan, Report, Violation, simulate};

const CRASH: u8 = 127;
const NO_PROGRESS: u8 = 128;
const WRONG: u8 = 129;

/// Runs seeds of the simulator; a seed that fails is printed, and replays the failure.
#[derive(Debug, Parser)]
struct Arguments {
    /// How many seeds.
    #[arg(long, default_value_t = 1000)]
    seeds: u64,
    /// The first seed.
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// Stop after so many seconds of real time.
    #[arg(long)]
    seconds: Option<u64>,
    /// How many threads.
    #[arg(long, default_value_t = 2)]
    jobs: usize,
    /// Run this seed alone, twice, and compare.
    #[arg(long)]
    seed: Option<u64>,
    /// Print every event of `--seed`.
    #[arg(long, requires = "seed")]
    trace: bool,
    /// Go on after a seed failed.
    #[arg(long)]
    keep_going: bool,
}

/// What the runs so far add up to.
#[derive(Debug, Default)]
struct Total {
    runs: AtomicU64,
    failures: AtomicU64,
    simulated_ms: AtomicU64,
    events: AtomicU64,
    operations: AtomicU64,
    commands: AtomicU64,
    crashes: AtomicU64,
    many_faults: AtomicU64,
    counts: Mutex<Counts>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match arguments.seed {
        Some(seed) => one(seed, arguments.trace),
        None => many(&arguments),
    }
}

/// Runs a plan, and says with which exit code it failed and why.
fn run(plan: &Plan) -> Result<Report, (u8, String)> {
    match catch_unwind(AssertUnwindSafe(|| simulate(plan))) {
        Ok(Ok(report)) => Ok(report),
        Ok(Err(failure)) => {
            let code = if Violation::is_liveness(&failure.violation) { NO_PROGRESS } else { WRONG };
            Err((code, failure.to_string()))
        }
        Err(_) => Err((CRASH, format!("seed {}: panicked", plan.seed))),
    }
}

fn one(seed: u64, trace: bool) -> ExitCode {
    let plan = Plan { print: trace, ..Plan::of_seed(seed) };
    println!("{plan:#?}");
    let again = Plan { print: false, ..plan.clone() };
    match (run(&plan), run(&again)) {
        (Ok(first), Ok(second)) if first == second => {
            println!("{first:#?}");
            ExitCode::SUCCESS
        }
        (Err((code, first)), Err((_, second))) if first == second => {
            println!("{first}");
            ExitCode::from(code)
        }
        (first, second) => {
            println!("the same seed went two ways:\n{first:?}\n{second:?}");
            ExitCode::from(WRONG)
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "how fast a run is, is a matter of real time")]
fn many(arguments: &Arguments) -> ExitCode {
    let started = Instant::now();
    let limit = arguments.seconds.map_or(Duration::MAX, Duration::from_secs);
    let (next, total) = (AtomicU64::new(arguments.from), Total::default());
    let (stop, worst) = (AtomicBool::new(false), Mutex::new(0_u8));
    let end = arguments.from.saturating_add(arguments.seeds);
    thread::scope(|scope| {
        for _ in 0..arguments.jobs.max(1) {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) && started.elapsed() < limit {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= end {
                        return;
                    }
                    match run(&Plan::of_seed(seed)) {
                        Ok(report) => total.add(&report),
                        Err((code, failure)) => {
                            total.failures.fetch_add(1, Ordering::Relaxed);
                            println!("{failure}\n  replay: seeds --seed {seed} --trace");
                            let mut worst = worst.lock().unwrap_or_else(PoisonError::into_inner);
                            *worst = code.max(*worst);
                            stop.store(!arguments.keep_going, Ordering::Relaxed);
                        }
                    }
                    let runs = total.runs.fetch_add(1, Ordering::Relaxed) + 1;
                    if runs.is_multiple_of(100) {
                        total.print(started.elapsed());
                    }
                }
            });
        }
    });
    total.print(started.elapsed());
    ExitCode::from(*worst.lock().unwrap_or_else(PoisonError::into_inner))
}

impl Total {
    fn add(&self, report: &Report) {
        let simulated = u64::try_from(report.simulated.as_millis()).unwrap_or(u64::MAX);
        self.simulated_ms.fetch_add(simulated, Ordering::Relaxed);
        self.events.fetch_add(report.events, Ordering::Relaxed);
        self.operations.fetch_add(report.operations as u64, Ordering::Relaxed);
        self.commands.fetch_add(report.commands as u64, Ordering::Relaxed);
        self.crashes.fetch_add(report.crashes, Ordering::Relaxed);
        self.many_faults.fetch_add(u64::from(report.fault_kinds >= 5), Ordering::Relaxed);
        self.counts.lock().unwrap_or_else(PoisonError::into_inner).add(&report.counts);
    }

    fn print(&self, elapsed: Duration) {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let (runs, seconds) = (count(&self.runs), elapsed.as_secs_f64().max(0.001));
        let simulated = count(&self.simulated_ms) as f64 / 1000.0;
        println!(
            "{runs} seeds, {} failed | {seconds:.0} s, {:.1} seeds/s | {simulated:.0} s simulated, \
             {:.0} times real time | {} events, {} operations, {} commands, {} crashes | \
             {} seeds with 5 kinds of faults or more",
            count(&self.failures),
            runs as f64 / seconds,
            simulated / seconds,
            count(&self.events),
            count(&self.operations),
            count(&self.commands),
            count(&self.crashes),
            count(&self.many_faults),
        );
        println!("  {}", self.counts.lock().unwrap_or_else(PoisonError::into_inner));
    }
}
