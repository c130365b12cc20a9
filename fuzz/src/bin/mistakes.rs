//! Looks for every planted mistake from several start seeds, and says how long each took: in a
//! table in the end, and on standard error as it goes.
//!
//! The sources hold no mistakes: the program first plants them in a copy below the target folder,
//! builds the copy, and lets the program of the same name in the copy do the search.
//!
//! Exit codes: 0 all found, 1 one was not, 2 wrong usage, 3 the mistakes can't be planted.

use std::{
    env, panic,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use clap::Parser;
use meshraft_fuzz::{
    alarm::{Compiled, Found, Planted},
    planter,
};

/// Looks for planted mistakes.
#[derive(Debug, Parser)]
struct Arguments {
    /// From how many start seeds each is looked for.
    #[arg(long, default_value_t = 10)]
    starts: u64,
    /// The longest time that is spent on one mistake from one start seed.
    #[arg(long, default_value_t = 300)]
    seconds: u64,
    /// How many threads.
    #[arg(long, default_value_t = 2)]
    jobs: usize,
    /// Only mistakes whose name or topic holds this.
    #[arg(long)]
    only: Option<String>,
    /// The first start seed; the others follow a million apart.
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// Only write the copy with the mistakes in it, and print where it is.
    #[arg(long)]
    plant: bool,
}

/// One mistake from one start seed.
#[derive(Clone, Debug)]
struct Search {
    planted: Planted,
    took: Duration,
    found: Option<Found>,
}

/// Start seeds are so far apart.
const APART: u64 = 1_000_000;
/// The exit code if there is no copy.
const NOT_PLANTED: u8 = 3;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if arguments.plant || Compiled::ALL.is_empty() {
        return in_copy(&arguments).unwrap_or_else(|error| {
            eprintln!("{error}");
            ExitCode::from(NOT_PLANTED)
        });
    }
    print_table(&arguments)
}

/// Writes the copy, and runs this program in it with the same arguments.
fn in_copy(arguments: &Arguments) -> Result<ExitCode, Box<dyn std::error::Error>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().ok_or("fuzz lies in a workspace")?;
    let target = env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    let copy = planter::write_copy(root, &target)?;
    if arguments.plant {
        println!("{}", copy.display());
        return Ok(ExitCode::SUCCESS);
    }
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["run", "--package", "meshraft-fuzz", "--bin", "mistakes"]);
    // The profile of the search is that of this program.
    cargo.args((!cfg!(debug_assertions)).then_some("--release"));
    cargo.arg("--manifest-path").arg(copy.join("Cargo.toml"));
    cargo.arg("--target-dir").arg(&target).arg("--").args(env::args_os().skip(1));
    let code = cargo.status()?.code().and_then(|code| u8::try_from(code).ok());
    Ok(code.map_or(ExitCode::FAILURE, ExitCode::from))
}

/// Looks for the mistakes of this build, and prints how that went.
fn print_table(arguments: &Arguments) -> ExitCode {
    // A panic is one way of being found, and told with the others.
    panic::set_hook(Box::new(|_| {}));
    let wanted = |planted: &Planted| {
        let only = arguments.only.as_deref().unwrap_or_default().to_lowercase();
        planted.to_string().to_lowercase().contains(&only) || planted.topic().contains(&only)
    };
    let planted: Vec<Planted> = Planted::all().filter(wanted).collect();
    let searches = search(arguments, &planted);
    println!("| topic | mistake | found | seeds: median, most | seconds: median, most | as |");
    println!("|---|---|---|---|---|---|");
    let (mut missed, mut medians, mut longest) = (0, Vec::new(), Duration::ZERO);
    for one in &planted {
        let mine: Vec<&Search> = searches.iter().filter(|it| it.planted == *one).collect();
        let took = print(*one, &mine);
        missed += mine.iter().filter(|it| it.found.is_none()).count();
        medians.push(took);
        longest = longest.max(mine.iter().map(|it| it.took).max().unwrap_or_default());
    }
    medians.sort_unstable();
    println!(
        "{} mistakes from {} start seeds each: {missed} searches in vain, median {:.2} s, longest \
         {:.2} s",
        planted.len(),
        arguments.starts,
        medians.get(medians.len() / 2).copied().unwrap_or_default().as_secs_f64(),
        longest.as_secs_f64(),
    );
    ExitCode::from(u8::from(missed > 0))
}

#[expect(clippy::disallowed_methods, reason = "how long a search takes is a matter of real time")]
fn search(arguments: &Arguments, planted: &[Planted]) -> Vec<Search> {
    let starts = usize::try_from(arguments.starts).unwrap_or(usize::MAX);
    let (next, searches) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let limit = Duration::from_secs(arguments.seconds);
    thread::scope(|scope| {
        for _ in 0..arguments.jobs.max(1) {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let Some(planted) = planted.get(number / starts).copied() else { return };
                    let from = arguments.from + (number % starts) as u64 * APART;
                    let began = Instant::now();
                    let found = planted.find(from, |_| began.elapsed() < limit);
                    let took = began.elapsed();
                    let mut searches = searches.lock().unwrap_or_else(PoisonError::into_inner);
                    searches.push(Search { planted, took, found });
                    tell(&searches, planted, starts);
                }
            });
        }
    });
    searches.into_inner().unwrap_or_else(PoisonError::into_inner)
}

/// Says how it went with a mistake that was looked for from every start seed.
fn tell(searches: &[Search], planted: Planted, starts: usize) {
    let mine: Vec<&Search> = searches.iter().filter(|it| it.planted == planted).collect();
    if mine.len() == starts {
        let (done, found) = (searches.len() / starts, mine.iter().filter(|it| it.found.is_some()));
        eprintln!("{done}: {planted} found {} of {starts}", found.count());
    }
}

/// Prints one row, and returns the median time.
fn print(planted: Planted, searches: &[&Search]) -> Duration {
    let mut took: Vec<Duration> = searches.iter().map(|it| it.took).collect();
    let found: Vec<&Found> = searches.iter().filter_map(|it| it.found.as_ref()).collect();
    let mut seeds: Vec<u64> = found.iter().map(|it| it.seeds).collect();
    took.sort_unstable();
    seeds.sort_unstable();
    let median = took.get(took.len() / 2).copied().unwrap_or_default();
    let mut ways: Vec<String> = found.iter().map(|it| way(it)).collect();
    ways.sort_unstable();
    ways.dedup();
    println!(
        "| {} | {planted} | {} of {} | {}, {} | {:.2}, {:.2} | {} |",
        planted.topic(),
        found.len(),
        searches.len(),
        seeds.get(seeds.len() / 2).copied().unwrap_or(0),
        seeds.last().copied().unwrap_or(0),
        median.as_secs_f64(),
        took.last().copied().unwrap_or_default().as_secs_f64(),
        ways.join(", "),
    );
    median
}

/// By which check a mistake was found.
fn way(found: &Found) -> String {
    let text = format!("{:?}", found.violation);
    let name: String = text.chars().take_while(|it| it.is_alphanumeric()).collect();
    match &found.violation {
        meshraft_fuzz::Violation::Panicked(why) => format!("{name}: {why}"),
        _ => name,
    }
}
