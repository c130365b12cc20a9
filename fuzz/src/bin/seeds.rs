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

use clap::{Parser, ValueEnum};
use meshraft_fuzz::{
    Counts, Fault, Lie, LieCounts, Plan, Rare, Report, StruckCounts, Violation,
    cores::{CoreCounts, CorePlan, CoreRare, CoreReport, shrink, simulate_cores},
    shrink_plan, simulate,
};

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
    /// Shrink what `--seed` does to a short list of steps or faults that fails; with `--trace` it
    /// is then done once more, event by event.
    #[arg(long, requires = "seed")]
    shrink: bool,
    /// Whole nodes, or cores alone.
    #[arg(long, value_enum, default_value_t = Profile::Node)]
    profile: Profile,
    /// Go on after a seed failed.
    #[arg(long)]
    keep_going: bool,
}

/// What is simulated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Profile {
    /// Whole nodes with everything but sockets.
    Node,
    /// The same, where hostile members that were removed also lie to members that have not learned
    /// of the removal: what comes of that is measured, as no member can know better.
    NodeLies,
    /// Cores alone, much faster.
    Core,
    /// The same, where hostile members that were removed also lie to members that have not learned
    /// of the removal: what comes of that is measured, as no member can know better.
    CoreLies,
}

/// What one run did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Run {
    trace: u64,
    simulated: Duration,
    events: u64,
    commands: u64,
    fault_kinds: usize,
    counts: Both,
}

/// How often rare things happened, in runs of both profiles.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Both {
    node: Counts,
    struck: StruckCounts,
    lies: LieCounts,
    core: CoreCounts,
    crashes: u64,
}

/// What the runs so far add up to.
#[derive(Debug, Default)]
struct Total {
    runs: AtomicU64,
    failures: AtomicU64,
    simulated_ms: AtomicU64,
    events: AtomicU64,
    commands: AtomicU64,
    many_faults: AtomicU64,
    counts: Mutex<Both>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match arguments.seed {
        Some(seed) if arguments.shrink => shrunk(arguments.profile, seed, arguments.trace),
        Some(seed) => one(arguments.profile, seed, arguments.trace),
        None => many(&arguments),
    }
}

impl Profile {
    /// Runs a seed, and says with which exit code it failed and why.
    fn run(self, seed: u64, print: bool) -> Result<Run, (u8, String)> {
        let run = || match self {
            Self::Node | Self::NodeLies => {
                simulate(&Plan { print, ..self.nodes(seed) }).map(Run::of_nodes)
            }
            Self::Core | Self::CoreLies => {
                simulate_cores(&CorePlan { print, ..self.cores(seed) }).map(Run::of_cores)
            }
        };
        match catch_unwind(AssertUnwindSafe(run)) {
            Ok(Ok(run)) => Ok(run),
            Ok(Err(failure)) => {
                let code = match *failure.violation {
                    Violation::Panicked(_) => CRASH,
                    ref violation if violation.is_liveness() => NO_PROGRESS,
                    _ => WRONG,
                };
                Err((code, failure.to_string()))
            }
            Err(_) => Err((CRASH, format!("seed {seed}: panicked"))),
        }
    }

    /// The plan of a seed, of whole nodes.
    fn nodes(self, seed: u64) -> Plan {
        Plan { lies: self == Self::NodeLies, ..Plan::of_seed(seed) }
    }

    /// The plan of a seed, of cores alone.
    fn cores(self, seed: u64) -> CorePlan {
        CorePlan { lies: self == Self::CoreLies, ..CorePlan::of_seed(seed) }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Node => "node",
            Self::NodeLies => "node-lies",
            Self::Core => "core",
            Self::CoreLies => "core-lies",
        }
    }
}

impl Run {
    fn of_nodes(report: Report) -> Self {
        let Report { trace, simulated, events, fault_kinds, crashes, .. } = report;
        let (node, struck, lies) = (report.counts, report.struck, report.lies);
        let counts = Both { node, struck, lies, crashes, ..Both::default() };
        Self { trace, simulated, events, commands: report.commands as u64, fault_kinds, counts }
    }

    fn of_cores(report: CoreReport) -> Self {
        let CoreReport { trace, simulated, events, fault_kinds, committed, .. } = report;
        let crashes = report.counts.of(CoreRare::Crash);
        let counts = Both { core: report.counts, crashes, ..Both::default() };
        Self { trace, simulated, events, commands: committed, fault_kinds, counts }
    }
}

fn one(profile: Profile, seed: u64, trace: bool) -> ExitCode {
    match profile {
        Profile::Node | Profile::NodeLies => println!("{:#?}", profile.nodes(seed)),
        Profile::Core | Profile::CoreLies => println!("{}", profile.cores(seed)),
    }
    match (profile.run(seed, trace), profile.run(seed, false)) {
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

/// Prints the short list of what is left of a failing seed.
fn shrunk(profile: Profile, seed: u64, trace: bool) -> ExitCode {
    let shrunk = match profile {
        Profile::Node | Profile::NodeLies => shrink_plan(&profile.nodes(seed)).map(|shrunk| {
            if trace {
                // How it fails is told below.
                let _ = simulate(&Plan { print: true, ..shrunk.plan.clone() });
            }
            let (left, before) = (shrunk.story.len(), shrunk.before);
            format!("{left} of {before} strikes after {} runs:\n{shrunk}", shrunk.tries)
        }),
        Profile::Core | Profile::CoreLies => shrink(&profile.cores(seed))
            .map(|shrunk| format!("{} of {} steps:\n{shrunk}", shrunk.len(), shrunk.before)),
    };
    match shrunk {
        Some(text) => {
            println!("{text}");
            ExitCode::from(WRONG)
        }
        None => {
            println!("seed {seed} does not fail, or only by what it does not do");
            ExitCode::SUCCESS
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "how fast a run is, is a matter of real time")]
fn many(arguments: &Arguments) -> ExitCode {
    let (started, profile) = (Instant::now(), arguments.profile);
    let limit = arguments.seconds.map_or(Duration::MAX, Duration::from_secs);
    let (next, total) = (AtomicU64::new(arguments.from), Total::default());
    let (stop, worst) = (AtomicBool::new(false), Mutex::new(0_u8));
    let end = arguments.from.saturating_add(arguments.seeds);
    let nodes = matches!(profile, Profile::Node | Profile::NodeLies);
    let print_every = if nodes { 100 } else { 10_000 };
    thread::scope(|scope| {
        for _ in 0..arguments.jobs.max(1) {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) && started.elapsed() < limit {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= end {
                        return;
                    }
                    match profile.run(seed, false) {
                        Ok(run) => total.add(&run),
                        Err((code, failure)) => {
                            total.failures.fetch_add(1, Ordering::Relaxed);
                            let name = profile.name();
                            println!("{failure}\n  replay: --profile {name} --seed {seed} --trace");
                            let mut worst = worst.lock().unwrap_or_else(PoisonError::into_inner);
                            *worst = code.max(*worst);
                            stop.store(!arguments.keep_going, Ordering::Relaxed);
                        }
                    }
                    let runs = total.runs.fetch_add(1, Ordering::Relaxed) + 1;
                    if runs.is_multiple_of(print_every) {
                        total.print(started.elapsed());
                    }
                }
            });
        }
    });
    total.print(started.elapsed());
    total.print_table(profile);
    ExitCode::from(*worst.lock().unwrap_or_else(PoisonError::into_inner))
}

impl Total {
    fn add(&self, run: &Run) {
        let simulated = u64::try_from(run.simulated.as_millis()).unwrap_or(u64::MAX);
        self.simulated_ms.fetch_add(simulated, Ordering::Relaxed);
        self.events.fetch_add(run.events, Ordering::Relaxed);
        self.commands.fetch_add(run.commands, Ordering::Relaxed);
        self.many_faults.fetch_add(u64::from(run.fault_kinds >= 5), Ordering::Relaxed);
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.node.add(&run.counts.node);
        counts.struck.add(&run.counts.struck);
        counts.lies.add(&run.counts.lies);
        counts.core.add(&run.counts.core);
        counts.crashes += run.counts.crashes;
    }

    /// One line of progress.
    fn print(&self, elapsed: Duration) {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let (runs, seconds) = (count(&self.runs), elapsed.as_secs_f64().max(0.001));
        let simulated = count(&self.simulated_ms) as f64 / 1000.0;
        println!(
            "{runs} seeds, {} failed | {seconds:.0} s, {:.0} seeds/min | {simulated:.0} s \
             simulated, {:.0} times real time | {} events, {} commands",
            count(&self.failures),
            runs as f64 / seconds * 60.0,
            simulated / seconds,
            count(&self.events),
            count(&self.commands),
        );
    }

    /// How often everything happened that only some runs do.
    fn print_table(&self, profile: Profile) {
        let counts = *self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let many = self.many_faults.load(Ordering::Relaxed);
        let row = |what: &str, count: u64| println!("  {what:<32} {count:>12}");
        row("crashes", counts.crashes);
        row("seeds with 5 kinds of faults", many);
        match profile {
            Profile::Node | Profile::NodeLies => {
                Rare::ALL.iter().for_each(|it| row(it.name(), counts.node.of(*it)));
                println!("  strikes of each fault");
                Fault::ALL.iter().for_each(|it| row(it.name(), counts.struck.of(*it)));
                println!("  what hostile actors did");
                Lie::ALL.iter().for_each(|it| row(it.name(), counts.lies.of(*it)));
            }
            Profile::Core | Profile::CoreLies => {
                CoreRare::ALL.iter().for_each(|it| row(it.name(), counts.core.of(*it)));
            }
        }
    }
}
