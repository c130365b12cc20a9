//! Processes that end and come back with their data.

use meshraft::ReadLevel;

use crate::harness::{Nodes, PATIENCE, alone, until};

#[tokio::test]
async fn a_leader_that_reboots_comes_back_as_a_follower() {
    let _alone = alone().await;
    let mut nodes = Nodes::founded("leader-reboots").await;
    let old = nodes.leader().await;
    nodes.kill(old);
    let new = nodes.leader().await;
    assert_ne!(new, old);
    nodes.library().await.set("meanwhile", "written").await.unwrap();
    nodes.start(old).await;
    until("the old leader to follow the new one", || async {
        let status = nodes.status(old);
        assert_ne!(status["role"], "leader", "{status}");
        (status["role"] == "follower" && status["leader"] == nodes.peer(new)).then_some(())
    })
    .await;
    let member = nodes.library().await.via(nodes.id(old));
    member.barrier(PATIENCE).await.unwrap();
    let found = member.get("meanwhile", ReadLevel::Stale).await.unwrap();
    assert_eq!(found.map(|pair| pair.value), Some("written".into()));
}

#[tokio::test]
async fn a_follower_that_reboots_has_its_data_and_is_the_same_member() {
    let _alone = alone().await;
    let mut nodes = Nodes::founded("follower-reboots").await;
    let leader = nodes.leader().await;
    let node = (1..=3).find(|node| *node != leader).unwrap();
    nodes.library().await.set("before", "written").await.unwrap();
    nodes.library().await.via(nodes.id(node)).barrier(PATIENCE).await.unwrap();
    let before = nodes.status(node);
    nodes.kill(node);
    nodes.start(node).await;
    let member = nodes.library().await.via(nodes.id(node));
    member.barrier(PATIENCE).await.unwrap();
    let after = nodes.status(node);
    for same in ["peer", "incarnation", "cluster_id"] {
        assert_eq!(before[same], after[same], "{same}");
    }
    let found = member.get("before", ReadLevel::Stale).await.unwrap();
    assert_eq!(found.map(|pair| pair.value), Some("written".into()));
    nodes.voters_are(&[1, 2, 3]).await;
}

#[tokio::test]
async fn all_restart_on_other_ports_and_are_the_same_cluster() {
    let _alone = alone().await;
    let mut nodes = Nodes::founded("ports").await;
    nodes.library().await.set("before", "written").await.unwrap();
    let cluster = nodes.status(1)["cluster_id"].clone();
    let before: Vec<_> = (1..=3).map(|node| nodes.address(node).to_owned()).collect();
    // Held until the restart, so that no node gets its old port back.
    for node in 1..=3 {
        nodes.kill(node);
    }
    let ports: Vec<_> = before.iter().map(|address| hold(address)).collect();
    for node in 1..=3 {
        nodes.start(node).await;
        assert!(!before.contains(&nodes.address(node).to_owned()));
    }
    let client = nodes.library().await;
    for node in 1..=3 {
        let member = client.via(nodes.id(node));
        member.barrier(PATIENCE).await.unwrap();
        let found = member.get("before", ReadLevel::Stale).await.unwrap();
        assert_eq!(found.map(|pair| pair.value), Some("written".into()), "node {node}");
        assert_eq!(nodes.status(node)["cluster_id"], cluster);
    }
    nodes.voters_are(&[1, 2, 3]).await;
    drop(ports);
}

/// Takes the port of an address like `/ip4/127.0.0.1/tcp/1234/p2p/12D3…`.
fn hold(address: &str) -> Option<std::net::TcpListener> {
    let port: u16 = address.split('/').nth(4).unwrap().parse().unwrap();
    // A connection that lingers may keep the port; then no node gets it either.
    std::net::TcpListener::bind(("127.0.0.1", port)).ok()
}
