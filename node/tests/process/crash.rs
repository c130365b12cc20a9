//! Three processes killed with -9 under write load, again and again: what was acknowledged stays.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use meshraft::{Client, ReadLevel};
use tokio::{
    task::JoinSet,
    time::{Duration, Instant},
};

use crate::harness::{Nodes, PATIENCE, alone, until};

const ROUNDS: usize = 10;
const WRITERS: usize = 8;
/// Writes of a round that are acknowledged before the kill.
const ACKNOWLEDGED: usize = 100;
const SERVING_AGAIN: Duration = Duration::from_secs(2);

type Acknowledged = BTreeMap<String, String>;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_killed_under_load_ten_times_lose_nothing_that_was_acknowledged() {
    let _alone = alone().await;
    let mut nodes = Nodes::founded("crash").await;
    let cluster = nodes.status(1)["cluster_id"].clone();
    assert!(cluster.is_string());
    let mut acknowledged = Acknowledged::new();
    for round in 0..ROUNDS {
        acknowledged.extend(kill_all_under_load(&mut nodes, round).await);
        let start = Instant::now();
        for node in 1..=3 {
            nodes.start(node).await;
        }
        let client = nodes.library().await;
        client.set("served", round.to_string()).await.unwrap();
        let elapsed = start.elapsed();
        assert!(elapsed < SERVING_AGAIN, "round {round}: serving again after {elapsed:?}");
        for node in 1..=3 {
            let member = client.via(nodes.id(node)).timeout(PATIENCE);
            member.barrier(PATIENCE).await.unwrap();
            assert_eq!(nodes.status(node)["cluster_id"], cluster, "node {node} founded again");
            for (key, value) in &acknowledged {
                let found = member.get(key.clone(), ReadLevel::Stale).await.unwrap();
                let found = found.map(|pair| pair.value);
                let expected = Some(value.clone().into());
                assert_eq!(found, expected, "round {round}: {key} on node {node}");
            }
        }
    }
}

async fn kill_all_under_load(nodes: &mut Nodes, round: usize) -> Acknowledged {
    let client = nodes.library().await;
    let notes = Arc::new(Mutex::new(Acknowledged::new()));
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        let name = format!("{round}/{writer}");
        writers.spawn(write(client.clone(), name, Arc::clone(&notes)));
    }
    until("enough acknowledged writes", || async {
        (notes.lock().unwrap().len() >= ACKNOWLEDGED).then_some(())
    })
    .await;
    for node in 1..=3 {
        nodes.kill(node);
    }
    writers.shutdown().await;
    notes.lock().unwrap().clone()
}

async fn write(client: Client, name: String, notes: Arc<Mutex<Acknowledged>>) {
    for number in 0_u64.. {
        let (key, value) = (format!("{name}/{number}"), format!("value {number} of {name}"));
        if client.set(key.clone(), value.clone()).await.is_ok() {
            notes.lock().unwrap().insert(key, value);
        }
    }
}
