//! A cluster that nobody asks for anything: it falls asleep, wakes at once for whatever is asked
//! next, and notices while it sleeps that its leader died.

use std::time::Duration;

use meshraft::ReadLevel;
use tokio::time::Instant;

use crate::harness::{Nodes, PATIENCE, alone, until};

/// The next write after the leader's death is served within this time.
const SERVING_AGAIN: Duration = Duration::from_secs(2);
/// What waking may take on one machine; a heartbeat is 50 ms, so that none was waited for twice.
const WAKING: Duration = Duration::from_millis(500);

async fn all_dormant(nodes: &Nodes) {
    until("every node to say that it sleeps", || async {
        let asleep = |node: usize| nodes.status(node)["asleep"] == true;
        nodes.numbers().into_iter().all(asleep).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_sleeping_cluster_wakes_for_what_it_is_asked_and_when_its_leader_is_killed() {
    let _alone = alone().await;
    let mut nodes = Nodes::new("sleep");
    nodes.arguments = ["--quiesce-after", "700"].map(Into::into).into();
    nodes.found().await;
    let client = nodes.library().await;
    let leader = nodes.leader().await;
    let follower = leader % 3 + 1;
    client.set("k", "before").await.unwrap();

    all_dormant(&nodes).await;
    let asleep = nodes.status(leader);
    let begun = Instant::now();
    let member = client.via(nodes.id(follower)).timeout(PATIENCE);
    let found = member.get("k", ReadLevel::Linearizable).await.unwrap().map(|pair| pair.value);
    let read = begun.elapsed();
    assert_eq!(found, Some("before".into()));
    assert!(read < WAKING, "a read took {read:?}");
    assert_eq!(nodes.status(leader)["asleep"], false);

    all_dormant(&nodes).await;
    for field in ["term", "last", "leader"] {
        assert_eq!(nodes.status(leader)[field], asleep[field], "nothing happened but sleep");
    }
    let begun = Instant::now();
    client.set("k", "awake").await.unwrap();
    let write = begun.elapsed();
    assert!(write < WAKING, "a write took {write:?}");

    all_dormant(&nodes).await;
    nodes.kill(leader);
    let begun = Instant::now();
    client.set("k", "after").await.unwrap();
    let outage = begun.elapsed();
    assert!(outage < SERVING_AGAIN, "serving again after {outage:?}");
    println!("asleep: a read {read:?}, a write {write:?}, a write after kill -9 {outage:?}");

    // Without one of three nobody sleeps; once it is back all do.
    assert_eq!(nodes.status(follower)["asleep"], false);
    nodes.start(leader).await;
    all_dormant(&nodes).await;
}

#[tokio::test]
async fn a_leader_that_dies_in_its_sleep_is_noticed_without_any_request() {
    let _alone = alone().await;
    let mut nodes = Nodes::new("unasked");
    nodes.arguments = ["--quiesce-after", "300"].map(Into::into).into();
    nodes.found().await;
    all_dormant(&nodes).await;
    let leader = nodes.leader().await;
    let peer = nodes.peer(leader).to_owned();
    nodes.kill(leader);
    let begun = Instant::now();
    until("another leader", || async {
        let next = nodes.status(leader % 3 + 1)["leader"].clone();
        (next.is_string() && next != peer.as_str()).then_some(())
    })
    .await;
    let outage = begun.elapsed();
    assert!(outage < SERVING_AGAIN, "another leader after {outage:?}");
}

#[tokio::test]
async fn a_namespace_that_is_not_to_sleep_does_not() {
    let _alone = alone().await;
    let mut nodes = Nodes::new("awake");
    for (node, idle) in [(1, "50"), (2, "50"), (3, "off")] {
        nodes.start_with(node, &["--quiesce-after", idle].map(Into::into)).await;
    }
    let leader = nodes.leader().await;
    let term = nodes.status(leader)["term"].clone();
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(2) {
        assert_eq!(nodes.status(3)["asleep"], false);
    }
    assert_eq!(nodes.status(leader)["term"], term, "and keeps its leader");
}
