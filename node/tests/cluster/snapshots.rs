//! Snapshots on real disks and sockets: a member that missed what the log has forgotten comes back,
//! and a restart goes on from a snapshot.

use std::time::Duration;

use meshraft::{Index, NamespaceBuilder, NodeEvent, SnapshotEvent};

use crate::support::{Cluster, PATIENCE};

/// A snapshot every so many commands, and nothing kept behind it.
fn settings(jobs: NamespaceBuilder) -> NamespaceBuilder {
    jobs.expect(3).snapshot_entries(100).keep_entries(0)
}

async fn started() -> Cluster {
    let mut cluster = Cluster::empty(3);
    for at in 0..3 {
        cluster.start_as(at, settings).await;
    }
    for at in 0..3 {
        cluster.jobs(at).ready(PATIENCE).await.unwrap();
    }
    cluster
}

/// Writes `count` values of a kibibyte each over a hundred keys, many at a time.
async fn fill(cluster: &Cluster, at: usize, count: u32) {
    let jobs = cluster.jobs(at);
    let writers: Vec<_> = (0..count)
        .map(|number| {
            let jobs = jobs.clone();
            let value = format!("{number:01024}");
            let key = format!("k{:02}", number % 100);
            tokio::spawn(async move { jobs.set(key, value).timeout(PATIENCE).await })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_missed_what_is_forgotten_comes_back_by_a_snapshot() {
    let mut cluster = started().await;
    let leader = cluster.leader();
    let (laggard, third) = ((leader + 1) % 3, (leader + 2) % 3);
    cluster.jobs(leader).set("early", "1").await.unwrap();
    cluster.stop_member(laggard).await;
    fill(&cluster, leader, 600).await;
    let cut = |status: &meshraft::Status| {
        status.snapshot > Index::new(400) && status.first > Index::new(400)
    };
    let status = cluster.until(leader, "the log is cut", cut).await;
    assert!(status.first <= status.snapshot.next());
    cluster.jobs(leader).set("late", "2").timeout(PATIENCE).await.unwrap();

    cluster.start_as(laggard, settings).await;
    let mut events = cluster.jobs(laggard).events();
    // Reads on the others go on meanwhile.
    let reader = tokio::spawn({
        let jobs = cluster.jobs(third).clone();
        async move {
            for _ in 0..50 {
                jobs.get("early").linearizable().await.unwrap().unwrap();
            }
        }
    });
    let installed = async {
        loop {
            let event = events.next().await.unwrap();
            if let NodeEvent::Snapshot(SnapshotEvent::Installed { at }) = event {
                break at;
            }
        }
    };
    let at = tokio::time::timeout(PATIENCE, installed).await.expect("a snapshot is installed");
    assert!(at.index > Index::new(400), "{at}");
    reader.await.unwrap();
    for (key, value) in [("early", "1"), ("late", "2")] {
        let read = cluster.jobs(laggard).get(key).linearizable().await.unwrap().unwrap();
        assert_eq!(read.value, value, "{key}");
    }
    assert!(cluster.jobs(laggard).status().await.unwrap().snapshot >= at.index);

    // It is a full member: with the third one down nothing goes without it.
    cluster.stop_member(third).await;
    cluster.jobs(laggard).set("last", "3").timeout(PATIENCE).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_of_all_goes_on_from_snapshots() {
    let mut cluster = started().await;
    let leader = cluster.leader();
    fill(&cluster, leader, 450).await;
    let before = cluster.jobs(leader).get("k49").linearizable().await.unwrap();
    let mut snapshots = Vec::new();
    for at in 0..3 {
        let taken = |status: &meshraft::Status| status.snapshot > Index::new(300);
        snapshots.push(cluster.until(at, "a snapshot", taken).await.snapshot);
    }
    for at in 0..3 {
        cluster.stop_member(at).await;
        let files = std::fs::read_dir(cluster.folder_of(at).join("snapshots")).unwrap();
        assert!(files.count() > 0, "the folder of the group is there");
    }
    for at in 0..3 {
        cluster.start_as(at, settings).await;
    }
    for (at, snapshot) in snapshots.into_iter().enumerate() {
        cluster.jobs(at).ready(PATIENCE).await.unwrap();
        let status = cluster.jobs(at).status().await.unwrap();
        assert!(status.snapshot >= snapshot, "{status:?}");
        assert_eq!(cluster.jobs(at).get("k49").linearizable().await.unwrap(), before);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_ends_breaks_off_a_snapshot_and_is_gone_at_once() {
    let mut cluster = started().await;
    let leader = cluster.leader();
    fill(&cluster, leader, 350).await;
    let before = cluster.jobs(leader).get("k00").linearizable().await.unwrap();
    // Whatever is being written at this moment.
    let ended = tokio::time::timeout(Duration::from_secs(20), cluster.stop_member(leader));
    ended.await.expect("the end waits for no snapshot");
    cluster.start_as(leader, settings).await;
    cluster.jobs(leader).ready(PATIENCE).await.unwrap();
    assert_eq!(cluster.jobs(leader).get("k00").linearizable().await.unwrap(), before);
}
