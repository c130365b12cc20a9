//! Processes started in different patterns: each time there must be one cluster with all of them.

use std::{collections::BTreeSet, path::PathBuf, time::Duration};

use meshraft::{Client, KeyRing};
use serde_json::json;
use tokio::time::{Instant, sleep, sleep_until};

use crate::{Outcome, closed::Random, nodes::Nodes, resources::free_port};

/// How long after the last start all must be members.
const PATIENCE: Duration = Duration::from_secs(60);

/// What is started, how often.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The `meshraft` executable.
    #[arg(long, value_name = "PROGRAM")]
    spawn: PathBuf,
    /// Where the nodes keep their data (a fresh folder in it).
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// How often each pattern of three.
    #[arg(long, default_value_t = 5)]
    repeat: usize,
    /// How often each larger number.
    #[arg(long, default_value_t = 3)]
    repeat_large: usize,
    /// How much later the third of "a minute later" starts, in seconds.
    #[arg(long, default_value_t = 60)]
    minute: u64,
    /// Seeds the random pauses.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The timing of the nodes.
    #[arg(long, default_value = "local")]
    timing: String,
}

/// How many processes, when each starts, and how they found.
struct Pattern {
    name: String,
    starts: Vec<Duration>,
    expect: Option<u16>,
}

/// Runs all patterns and prints a row for each.
pub(crate) async fn run(args: &Args, json: bool) -> Outcome<()> {
    let seed = args.seed;
    if json {
        println!("{}", json!({ "seed": seed }));
    } else {
        println!("seed {seed}; times from the last start until all are members, in ms");
    }
    let mut random = Random::new(seed);
    for expect in [Some(3), None] {
        for kind in ["at once", "0 to 5 s apart", "the third later"] {
            let mut times = Vec::new();
            for _ in 0..args.repeat {
                let starts = starts(kind, args.minute, &mut random);
                let pattern = Pattern { name: kind.into(), starts, expect };
                times.push(one(args, &pattern).await?);
            }
            show(kind, 3, expect, &times, json);
        }
    }
    for (count, expect) in [(5, 3), (10, 6), (20, 11)] {
        let mut times = Vec::new();
        for _ in 0..args.repeat_large {
            let starts = vec![Duration::ZERO; count];
            let pattern = Pattern { name: "at once".into(), starts, expect: Some(expect) };
            times.push(one(args, &pattern).await?);
        }
        show("at once", count, Some(expect), &times, json);
    }
    Ok(())
}

fn starts(kind: &str, minute: u64, random: &mut Random) -> Vec<Duration> {
    let minute = Duration::from_secs(minute);
    match kind {
        "at once" => vec![Duration::ZERO; 3],
        "the third later" => vec![Duration::ZERO, Duration::ZERO, minute],
        _ => {
            let mut pause = || Duration::from_millis(random.next() % 5_000);
            let second = pause();
            vec![Duration::ZERO, second, second + pause()]
        }
    }
}

/// One run of a pattern: the time from the last start until all are members of one cluster.
async fn one(args: &Args, pattern: &Pattern) -> Outcome<Duration> {
    let mut nodes = Nodes::new(&args.spawn, args.dir.as_deref(), &args.timing)?;
    let port = free_port()?;
    let first = format!("/ip4/127.0.0.1/tcp/{port}");
    let begin = Instant::now();
    for (at, start) in pattern.starts.iter().enumerate() {
        sleep_until(begin + *start).await;
        nodes
            .start(at + 1, |command| {
                command.expect = pattern.expect;
                if at == 0 {
                    command.listen.clone_from(&first);
                } else {
                    command.peers.push(first.clone());
                }
            })
            .await?;
    }
    let last = Instant::now();
    let client =
        Client::connect(nodes.namespace().clone(), nodes.addresses(), KeyRing::open()).await?;
    let client = client.timeout(Duration::from_secs(2));
    while !settled(&nodes, &client).await? {
        if last.elapsed() > PATIENCE {
            return Err(format!(
                "{} processes, {}: not one cluster with all after {PATIENCE:?}",
                pattern.starts.len(),
                pattern.name
            )
            .into());
        }
        sleep(Duration::from_millis(20)).await;
    }
    Ok(last.elapsed())
}

/// Whether every process says the same cluster id and lists all of them.
///
/// # Errors
/// Two cluster ids: that is never right, however long one waits.
async fn settled(nodes: &Nodes, client: &Client) -> Outcome<bool> {
    let running = nodes.running()?;
    let all: BTreeSet<_> = running.iter().map(|one| one.node).collect();
    let (mut clusters, mut complete) = (BTreeSet::new(), true);
    for one in &running {
        let Ok(status) = client.via(one.node).status().await else {
            complete = false;
            continue;
        };
        clusters.extend(status.cluster);
        let members: BTreeSet<_> = status.members.iter().map(|member| member.member.node).collect();
        complete &= status.cluster.is_some() && members == all;
    }
    if clusters.len() > 1 {
        return Err(format!("{} clusters in one namespace: {clusters:?}", clusters.len()).into());
    }
    Ok(complete)
}

fn show(kind: &str, count: usize, expect: Option<u16>, times: &[Duration], json: bool) {
    let mut millis: Vec<_> = times.iter().map(Duration::as_millis).collect();
    millis.sort_unstable();
    let middle = millis.get(millis.len() / 2).copied().unwrap_or(0);
    let founding = expect.map_or("window".into(), |expect| format!("expect {expect}"));
    if json {
        let millis: Vec<_> = millis.iter().map(|one| u64::try_from(*one).unwrap_or(0)).collect();
        let row = json!({
            "processes": count, "pattern": kind, "founding": founding, "runs": times.len(),
            "ms": millis,
        });
        println!("{row}");
    } else {
        println!("{count:>3}  {kind:<16} {founding:<10} median {middle:>6}  all {millis:?}");
    }
}
