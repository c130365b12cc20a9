//! Nodes that leave, are removed, and come back.

use meshraft::ReadLevel;
use serde_json::Value;

use crate::harness::{Nodes, PATIENCE, alone, until};

async fn four(name: &str) -> Nodes {
    let mut nodes = Nodes::founded(name).await;
    nodes.start(4).await;
    nodes.voters_are(&[1, 2, 3, 4]).await;
    nodes
}

async fn role_is(nodes: &Nodes, node: usize, role: &str) {
    until(&format!("node {node} to be {role}"), || async {
        (nodes.status(node)["role"] == role).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_node_leaves_and_returns_when_it_is_started_again() {
    let _alone = alone().await;
    let mut nodes = four("leaves").await;
    let before = nodes.status(4);
    let left = nodes.client(&["leave", "--json"], 4);
    assert!(left.status.success(), "{left:?}");
    let answer: Value = serde_json::from_slice(&left.stdout).unwrap();
    assert_eq!(answer["ok"], true, "{answer}");
    role_is(&nodes, 4, "left").await;
    nodes.voters_are(&[1, 2, 3]).await;
    nodes.library().await.set("without", "it").await.unwrap();
    nodes.kill(4);
    nodes.start(4).await;
    nodes.voters_are(&[1, 2, 3, 4]).await;
    let after = nodes.status(4);
    assert_eq!(before["incarnation"], after["incarnation"], "its disk was kept");
    assert_eq!(before["cluster_id"], after["cluster_id"]);
    let member = nodes.library().await.via(nodes.id(4));
    member.barrier(PATIENCE).await.unwrap();
    let found = member.get("without", ReadLevel::Stale).await.unwrap();
    assert_eq!(found.map(|pair| pair.value), Some("it".into()));
}

#[tokio::test]
async fn a_removed_node_stays_out_until_it_is_told_to_join() {
    let _alone = alone().await;
    let mut nodes = four("removed").await;
    let peer = nodes.peer(4).to_owned();
    let removed = nodes.client(&["remove", &peer], 1);
    assert!(removed.status.success(), "{removed:?}");
    nodes.voters_are(&[1, 2, 3]).await;
    role_is(&nodes, 4, "removed").await;
    nodes.kill(4);
    nodes.start(4).await;
    role_is(&nodes, 4, "removed").await;
    nodes.library().await.set("without", "it").await.unwrap();
    nodes.voters_are(&[1, 2, 3]).await;
    let again = nodes.client(&["remove", &peer], 1);
    assert_eq!(again.status.code(), Some(1), "it is no member: {again:?}");
    let joined = nodes.client(&["join"], 4);
    assert!(joined.status.success(), "{joined:?}");
    nodes.voters_are(&[1, 2, 3, 4]).await;
}

#[tokio::test]
async fn a_node_removed_while_it_was_down_learns_it_when_it_returns() {
    let _alone = alone().await;
    let mut nodes = four("removed-down").await;
    let peer = nodes.peer(4).to_owned();
    nodes.kill(4);
    let removed = nodes.client(&["remove", &peer], 1);
    assert!(removed.status.success(), "{removed:?}");
    nodes.voters_are(&[1, 2, 3]).await;
    let term = nodes.status(1)["term"].clone();
    nodes.start(4).await;
    role_is(&nodes, 4, "removed").await;
    nodes.voters_are(&[1, 2, 3]).await;
    assert_eq!(nodes.status(1)["term"], term, "it disturbed the cluster");
}

#[tokio::test]
async fn a_leader_leaves_and_another_takes_over() {
    let _alone = alone().await;
    let nodes = four("leader-leaves").await;
    nodes.library().await.set("before", "written").await.unwrap();
    let leader = nodes.leader().await;
    let left = nodes.client(&["leave"], leader);
    assert!(left.status.success(), "{left:?}");
    role_is(&nodes, leader, "left").await;
    let others: Vec<_> = (1..=4).filter(|node| *node != leader).collect();
    nodes.voters_are(&others).await;
    let client = nodes.library().await.via(nodes.id(others[0])).timeout(PATIENCE);
    client.set("after", "written").await.unwrap();
    let found = client.get("before", ReadLevel::Linearizable).await.unwrap();
    assert_eq!(found.map(|pair| pair.value), Some("written".into()));
}
