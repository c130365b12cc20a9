//! A follower that was down while the log was compacted comes back through a snapshot, also when
//! the leader, and then it itself, is killed in the middle of the transfer.

use std::{
    path::PathBuf,
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use meshraft::{Client, ReadLevel, identity::peer_id};
use serde_json::json;
use tokio::time::{Instant, sleep};

use crate::{
    Outcome, fill,
    nodes::{Nodes, leader},
    resources::has_file,
};

const PATIENCE: Duration = Duration::from_secs(120);
/// What a snapshot that is being fetched ends in.
const PARTIAL: &str = "part";

/// What is written while the follower is down.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The `meshraft` executable.
    #[arg(long, value_name = "PROGRAM")]
    spawn: PathBuf,
    /// Where the nodes keep their data (a fresh folder in it).
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// How many keys.
    #[arg(long, default_value_t = 200_000)]
    keys: u64,
    /// Length of a value: long enough that a transfer can be hit.
    #[arg(long, default_value_t = 1_000)]
    bytes: usize,
    /// The timing of the nodes.
    #[arg(long, default_value = "local")]
    timing: String,
}

/// Three times: undisturbed, the leader killed in the transfer, the follower killed in it.
pub(crate) async fn run(args: &Args, json: bool) -> Outcome<()> {
    for disturbed in [Disturbed::Nobody, Disturbed::Leader, Disturbed::Follower] {
        let mut nodes = Nodes::new(&args.spawn, args.dir.as_deref(), &args.timing)?;
        nodes.start_all().await?;
        nodes.first_write(PATIENCE).await?;
        let client = nodes.client().await?;
        let down = follower(&nodes, &client).await?;
        nodes.kill_number(down);
        write(&nodes, args).await?;
        let first = first_index(&nodes, &client).await?;
        if first <= 1 {
            return Err("the log was not compacted: write more keys".into());
        }
        let start = Instant::now();
        restart(&mut nodes, down).await?;
        let hit = disturb(&mut nodes, &client, down, disturbed).await?;
        check(&nodes, down, args).await?;
        show(disturbed, hit, first, start.elapsed(), json);
    }
    Ok(())
}

/// Who is killed in the middle of the transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Disturbed {
    Nobody,
    Leader,
    Follower,
}

async fn follower(nodes: &Nodes, client: &Client) -> Outcome<usize> {
    let leader = leader(client).await?;
    let other = nodes.running()?.into_iter().find(|one| one.node != leader);
    Ok(other.ok_or("there is no follower")?.number)
}

async fn write(nodes: &Nodes, args: &Args) -> Outcome<()> {
    let fill = fill::Args {
        spawn: args.spawn.clone(),
        dir: None,
        keys: args.keys,
        rounds: 1,
        bytes: args.bytes,
        clients: 64,
        timing: args.timing.clone(),
    };
    let mut writers = fill::writers(nodes, &fill, &Arc::new(AtomicU64::new(0))).await?;
    while let Some(done) = writers.join_next().await {
        done??;
    }
    Ok(())
}

/// The first entry that the leader's log still holds.
async fn first_index(nodes: &Nodes, client: &Client) -> Outcome<u64> {
    let leader = leader(client).await?;
    if !nodes.running()?.iter().any(|one| one.node == leader) {
        return Err("the leader does not run".into());
    }
    Ok(client.via(leader).status().await?.first.get())
}

async fn restart(nodes: &mut Nodes, number: usize) -> Outcome<()> {
    let peers: Vec<_> = nodes.addresses().iter().map(ToString::to_string).collect();
    nodes
        .start(number, |command| {
            command.expect = Some(3);
            command.peers = peers;
        })
        .await
}

/// Kills who is to be killed while the transfer is under way, and starts it again. Says whether
/// the transfer was seen.
async fn disturb(
    nodes: &mut Nodes,
    client: &Client,
    down: usize,
    disturbed: Disturbed,
) -> Outcome<bool> {
    if disturbed == Disturbed::Nobody {
        return Ok(true);
    }
    let folder = nodes.data_dir(down);
    let start = Instant::now();
    while !has_file(&folder, PARTIAL) {
        if start.elapsed() > Duration::from_secs(20) {
            return Ok(false);
        }
        sleep(Duration::from_millis(1)).await;
    }
    let number = match disturbed {
        Disturbed::Leader => {
            let leader = leader(client).await?;
            let running = nodes.running()?;
            let one = running.iter().find(|one| one.node == leader);
            one.ok_or_else(|| format!("the leader {} does not run", peer_id(leader)))?.number
        }
        Disturbed::Nobody | Disturbed::Follower => down,
    };
    nodes.kill_number(number);
    let hit = has_file(&folder, PARTIAL);
    sleep(Duration::from_millis(200)).await;
    restart(nodes, number).await?;
    Ok(hit)
}

/// Waits until the follower has applied everything, and reads some keys from it.
async fn check(nodes: &Nodes, down: usize, args: &Args) -> Outcome<()> {
    let running = nodes.running()?;
    let one = running.iter().find(|one| one.number == down).ok_or("the follower does not run")?;
    let client = nodes.client().await?.via(one.node);
    let start = Instant::now();
    while let Err(error) = client.barrier(Duration::from_secs(5)).await {
        if start.elapsed() > PATIENCE {
            return Err(error.into());
        }
        sleep(Duration::from_millis(20)).await;
    }
    for number in (0..args.keys).step_by(997).chain([args.keys - 1]) {
        let found = client.get(fill::key(number), ReadLevel::Stale).await?;
        let length = found.map(|pair| pair.value.len());
        if length != Some(args.bytes) {
            return Err(format!("key {number} has {length:?} bytes on the follower").into());
        }
    }
    Ok(())
}

fn show(disturbed: Disturbed, hit: bool, first: u64, elapsed: Duration, json: bool) {
    let killed = match disturbed {
        Disturbed::Nobody => "nobody",
        Disturbed::Leader => "the leader",
        Disturbed::Follower => "the follower",
    };
    let millis = elapsed.as_millis();
    if json {
        let row = json!({
            "killed": killed, "in_the_transfer": hit, "first_index": first,
            "caught_up_ms": u64::try_from(millis).unwrap_or(u64::MAX),
        });
        println!("{row}");
    } else {
        println!(
            "killed {killed:<12} (transfer hit: {hit}); the leader's log began at {first}; caught \
             up and checked {millis} ms after the start"
        );
    }
}
