//! Memory and disk while many keys are written, and how soon three killed processes serve them
//! again.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use meshraft::{Client, ReadLevel};
use serde_json::json;
use tokio::{task::JoinSet, time::Instant};

use crate::{
    Outcome,
    nodes::Nodes,
    resources::{file_bytes, folder_bytes, resident_bytes},
};

const PATIENCE: Duration = Duration::from_secs(120);
/// How often a row is printed.
const PAUSE: Duration = Duration::from_secs(5);

/// What is written, and how often.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The `meshraft` executable.
    #[arg(long, value_name = "PROGRAM")]
    pub(crate) spawn: PathBuf,
    /// Where the nodes keep their data (a fresh folder in it).
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
    /// How many different keys.
    #[arg(long, default_value_t = 1_000_000)]
    pub(crate) keys: u64,
    /// How often each is written.
    #[arg(long, default_value_t = 1)]
    pub(crate) rounds: u64,
    /// Length of a value.
    #[arg(long, default_value_t = 100)]
    pub(crate) bytes: usize,
    /// Concurrent writers.
    #[arg(long, default_value_t = 64)]
    pub(crate) clients: u64,
    /// The timing of the nodes.
    #[arg(long, default_value = "local")]
    pub(crate) timing: String,
}

/// Writes all keys, row by row, then kills and restarts the nodes.
pub(crate) async fn run(args: &Args, json: bool) -> Outcome<()> {
    let mut nodes = Nodes::new(&args.spawn, args.dir.as_deref(), &args.timing)?;
    nodes.start_all().await?;
    nodes.first_write(PATIENCE).await?;
    let begin = Instant::now();
    header(json);
    let written = Arc::new(AtomicU64::new(0));
    let mut writers = writers(&nodes, args, &written).await?;
    let mut rows = tokio::time::interval(PAUSE);
    loop {
        tokio::select! {
            done = writers.join_next() => match done {
                Some(done) => done??,
                None => break,
            },
            _ = rows.tick() => row(&nodes, begin, written.load(Ordering::Relaxed), json)?,
        }
    }
    row(&nodes, begin, written.load(Ordering::Relaxed), json)?;
    restart(&mut nodes, args, json).await
}

/// Clients that write `count` keys between them, each its own share.
pub(crate) async fn writers(
    nodes: &Nodes,
    args: &Args,
    written: &Arc<AtomicU64>,
) -> Outcome<JoinSet<Outcome<()>>> {
    let client = nodes.client().await?.timeout(Duration::from_secs(30));
    let mut writers = JoinSet::new();
    for writer in 0..args.clients {
        let (client, written) = (client.clone(), Arc::clone(written));
        let (keys, rounds, bytes, step) = (args.keys, args.rounds, args.bytes, args.clients);
        writers.spawn(async move {
            for round in 0..rounds {
                for number in (writer..keys).step_by(usize::try_from(step)?) {
                    let value = vec![b'a' + u8::try_from(round % 26)?; bytes];
                    write(&client, number, value).await?;
                    written.fetch_add(1, Ordering::Relaxed);
                }
            }
            Ok(())
        });
    }
    Ok(writers)
}

/// Writes one key; tried again while the nodes say that they are too busy.
pub(crate) async fn write(client: &Client, number: u64, value: Vec<u8>) -> Outcome<()> {
    let start = Instant::now();
    loop {
        match client.set(key(number), value.clone()).await {
            Ok(_) => return Ok(()),
            Err(_) if start.elapsed() < PATIENCE => tokio::task::yield_now().await,
            Err(error) => return Err(error.into()),
        }
    }
}

/// The name of a key.
pub(crate) fn key(number: u64) -> String {
    format!("key-{number:09}")
}

fn header(json: bool) {
    if !json {
        println!(
            "{:>6} {:>9} {:>22} {:>22} {:>22}",
            "s", "written", "memory MB", "log.redb MB", "folder MB"
        );
    }
}

fn row(nodes: &Nodes, begin: Instant, written: u64, json: bool) -> Outcome<()> {
    let mega = |bytes: u64| bytes / 1_000_000;
    let (mut memory, mut log, mut folder) = (Vec::new(), Vec::new(), Vec::new());
    for one in nodes.running()? {
        let dir = nodes.data_dir(one.number);
        memory.push(mega(resident_bytes(one.process)?));
        log.push(mega(file_bytes(&dir.join("log.redb"))));
        folder.push(mega(folder_bytes(&dir)));
    }
    let seconds = begin.elapsed().as_secs_f64();
    if json {
        let row = json!({
            "seconds": seconds, "written": written, "memory_mb": memory, "log_mb": log,
            "folder_mb": folder,
        });
        println!("{row}");
    } else {
        let text =
            |values: &[u64]| values.iter().map(ToString::to_string).collect::<Vec<_>>().join(" / ");
        println!(
            "{seconds:>6.1} {written:>9} {:>22} {:>22} {:>22}",
            text(&memory),
            text(&log),
            text(&folder)
        );
    }
    Ok(())
}

/// Kills all, starts all, and says when a write and a linearizable read were answered.
async fn restart(nodes: &mut Nodes, args: &Args, json: bool) -> Outcome<()> {
    nodes.kill_all();
    let start = Instant::now();
    nodes.start_all().await?;
    let listening = start.elapsed();
    nodes.first_write(PATIENCE).await?;
    let client = nodes.client().await?.timeout(Duration::from_secs(30));
    let last = key(args.keys.saturating_sub(1));
    let found = client.get(last.clone(), ReadLevel::Linearizable).await?;
    let serving = start.elapsed();
    if found.is_none() {
        return Err(format!("{last} is not there after the restart").into());
    }
    let mut all = serving;
    for one in nodes.running()? {
        client.via(one.node).barrier(Duration::from_secs(30)).await?;
        let found = client.via(one.node).get(last.clone(), ReadLevel::Stale).await?;
        if found.is_none() {
            return Err(format!("{last} is not on node {} after the restart", one.number).into());
        }
        all = start.elapsed();
    }
    let [listening, serving, all] = [listening, serving, all].map(|time| time.as_millis());
    if json {
        let row = json!({
            "listening_ms": u64::try_from(listening)?, "serving_ms": u64::try_from(serving)?,
            "all_ms": u64::try_from(all)?,
        });
        println!("{row}");
    } else {
        println!(
            "all three killed and started again: all listen after {listening} ms, serve after \
             {serving} ms, all caught up after {all} ms"
        );
    }
    Ok(())
}
