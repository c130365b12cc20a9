//! How long nobody is served: after `kill -9` of the leader, and after a start.

use std::time::Duration;

use meshraft::{Client, identity::peer_id};
use tokio::time::{Instant, sleep};

use crate::{
    Outcome, SpawnArgs,
    nodes::{Nodes, leader},
    show,
};

const PATIENCE: Duration = Duration::from_secs(30);
/// Writers that keep the leader busy while it is killed.
const WRITERS: usize = 4;
/// How long they write before the kill.
const BEFORE: Duration = Duration::from_millis(300);

/// `kill -9` of the leader under load until the next acknowledged write that began after it.
pub(crate) async fn failover(args: &SpawnArgs, json: bool) -> Outcome<()> {
    let mut nodes = Nodes::new(&args.spawn, args.dir.as_deref(), &args.timing)?;
    nodes.start_all().await?;
    nodes.first_write(PATIENCE).await?;
    let mut times = Vec::new();
    for _ in 0..args.repeat {
        let client = nodes.client().await?;
        let leader = leader(&client).await?;
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| tokio::spawn(write_until_told(client.clone(), writer)))
            .collect();
        sleep(BEFORE).await;
        nodes.kill(&peer_id(leader).to_string());
        let killed = Instant::now();
        loop {
            if client.set("after", "kill").await.is_ok() {
                break;
            }
        }
        times.push(killed.elapsed());
        for writer in writers {
            writer.abort();
        }
        show::interruption("fail-over", times.len(), times[times.len() - 1], json);
        nodes.start_all().await?;
        nodes.first_write(PATIENCE).await?;
    }
    show::median("kill -9 of the leader to the next acknowledged write", &times, json);
    Ok(())
}

/// Start of three processes until the first acknowledged write: of fresh ones, and of killed ones.
pub(crate) async fn start(args: &SpawnArgs, json: bool) -> Outcome<()> {
    let (mut founded, mut restarted) = (Vec::new(), Vec::new());
    for _ in 0..args.repeat {
        let mut nodes = Nodes::new(&args.spawn, args.dir.as_deref(), &args.timing)?;
        founded.push(first_write(&mut nodes).await?);
        show::interruption("founding", founded.len(), founded[founded.len() - 1], json);
        nodes.kill_all();
        restarted.push(first_write(&mut nodes).await?);
        show::interruption("restart", restarted.len(), restarted[restarted.len() - 1], json);
    }
    show::median("start of three fresh processes to the first acknowledged write", &founded, json);
    show::median(
        "start of three killed processes to the first acknowledged write",
        &restarted,
        json,
    );
    Ok(())
}

async fn first_write(nodes: &mut Nodes) -> Outcome<Duration> {
    let start = Instant::now();
    nodes.start_all().await?;
    nodes.first_write(PATIENCE).await?;
    Ok(start.elapsed())
}

async fn write_until_told(client: Client, writer: usize) {
    for count in 0_u64.. {
        // What the load is told does not matter here; it only has to be there.
        let _ = client.set(format!("load-{writer}-{}", count % 1_000), vec![b'v'; 100]).await;
    }
}
