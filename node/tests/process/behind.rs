//! A follower that was away while the log was cut comes back through a snapshot, whoever is killed
//! in the middle of the transfer.

use std::{fs, path::Path, time::Duration};

use meshraft::{Client, ReadLevel};
use tokio::task::JoinSet;

use crate::harness::{Nodes, PATIENCE, alone, until};

const KEYS: usize = 3_000;
const VALUE_BYTES: usize = 20_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Killed {
    Nobody,
    Leader,
    Follower,
}

#[tokio::test]
async fn a_follower_behind_the_log_comes_back_through_a_snapshot() {
    comes_back("behind", Killed::Nobody).await;
}

#[tokio::test]
async fn the_leader_killed_in_the_transfer_is_replaced_as_its_source() {
    comes_back("behind-leader", Killed::Leader).await;
}

#[tokio::test]
async fn the_follower_killed_in_the_transfer_goes_on_with_it() {
    comes_back("behind-follower", Killed::Follower).await;
}

async fn comes_back(name: &str, killed: Killed) {
    let _alone = alone().await;
    let mut nodes = Nodes::new(name);
    nodes.arguments.extend(["--snapshot-entries".into(), "1000".into()]);
    nodes.found().await;
    let leader = nodes.leader().await;
    let down = (1..=3).find(|node| *node != leader).unwrap();
    nodes.kill(down);
    write_all(&nodes.library().await).await;
    until("the leader's log to be cut", || async {
        (nodes.status(leader)["first"].as_u64() > Some(1_000)).then_some(())
    })
    .await;
    nodes.start(down).await;
    if killed != Killed::Nobody {
        fetching(&nodes.data_dir(down)).await;
        let one = if killed == Killed::Leader { leader } else { down };
        nodes.kill(one);
        nodes.start(one).await;
    }
    let member = nodes.library().await.via(nodes.id(down)).timeout(PATIENCE);
    until("the follower to have caught up", || async {
        member.barrier(Duration::from_secs(2)).await.ok()
    })
    .await;
    assert!(nodes.status(down)["first"].as_u64() > Some(1), "its log began with a snapshot");
    for number in (0..KEYS).step_by(97) {
        let found = member.get(key(number), ReadLevel::Stale).await.unwrap();
        assert_eq!(found.map(|pair| pair.value), Some(value(number).into()), "key {number}");
    }
    nodes.voters_are(&[1, 2, 3]).await;
}

/// Waits until a part of a snapshot has arrived.
async fn fetching(folder: &Path) {
    until("a part of a snapshot", || async { has_part(&folder.join("snapshots")).then_some(()) })
        .await;
}

fn has_part(folder: &Path) -> bool {
    let Ok(entries) = fs::read_dir(folder) else { return false };
    entries.flatten().any(|entry| {
        let path = entry.path();
        path.extension().is_some_and(|ending| ending == "part") || has_part(&path)
    })
}

async fn write_all(client: &Client) {
    let client = client.timeout(PATIENCE);
    let mut writers = JoinSet::new();
    for writer in 0..16 {
        let client = client.clone();
        writers.spawn(async move {
            for number in (writer..KEYS).step_by(16) {
                client.set(key(number), value(number)).await.unwrap();
            }
        });
    }
    while let Some(done) = writers.join_next().await {
        done.unwrap();
    }
}

fn key(number: usize) -> String {
    format!("key-{number}")
}

fn value(number: usize) -> Vec<u8> {
    let byte = u8::try_from(number % 251).unwrap();
    vec![byte; VALUE_BYTES]
}
