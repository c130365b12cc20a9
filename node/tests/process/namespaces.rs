//! Several namespaces on the same nodes: each a cluster of its own, none visible in another.

use std::{collections::BTreeSet, time::Duration};

use meshraft::{Client, KeyRing, Namespace, ReadLevel};
use serde_json::Value;
use tokio::time::Instant;

use crate::harness::{Nodes, PATIENCE, alone, run, until};

/// Three nodes that host these namespaces, the first of them as the harness' own.
async fn hosting(namespaces: &[&str]) -> Nodes {
    let mut nodes = Nodes::new("namespaces");
    nodes.namespace = namespaces[0].into();
    for namespace in &namespaces[1..] {
        nodes.arguments.extend(["-n".into(), namespace.into()]);
    }
    for node in 1..=3 {
        nodes.start(node).await;
    }
    nodes
}

async fn client(nodes: &Nodes, namespace: &str) -> Client {
    let numbers = nodes.numbers();
    let peers = numbers.iter().map(|node| nodes.address(*node));
    let namespace = Namespace::new(namespace).unwrap();
    Client::connect(namespace, peers, KeyRing::open()).await.unwrap().timeout(PATIENCE)
}

fn status(nodes: &Nodes, namespace: &str, node: usize) -> Value {
    let address = nodes.address(node);
    let output = run(["status", "--json", "-n", namespace, "--peer", address]);
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

#[tokio::test]
async fn namespaces_that_look_alike_do_not_touch_each_other() {
    let _alone = alone().await;
    let names = ["x", "x/log", "x/entries", "a_b", "a/b"];
    let mut nodes = hosting(&names).await;
    for name in names {
        client(&nodes, name).await.set("key", name).await.unwrap();
    }
    client(&nodes, "x").await.set("only in x", "x").await.unwrap();
    let clusters: BTreeSet<_> =
        names.iter().map(|name| status(&nodes, name, 1)["cluster_id"].to_string()).collect();
    assert_eq!(clusters.len(), names.len(), "each has a cluster id of its own: {clusters:?}");
    for restarted in [false, true] {
        if restarted {
            for node in 1..=3 {
                nodes.kill(node);
            }
            for node in 1..=3 {
                nodes.start(node).await;
            }
        }
        for name in names {
            let client = client(&nodes, name).await;
            let found = client.get("key", ReadLevel::Linearizable).await.unwrap();
            assert_eq!(found.map(|pair| pair.value), Some(name.into()), "{name}");
            let keys = client.keys("", None, 100, ReadLevel::Linearizable).await.unwrap().keys;
            assert_eq!(keys.len(), if name == "x" { 2 } else { 1 }, "{name}: {keys:?}");
        }
    }
}

#[tokio::test]
async fn what_befalls_one_namespace_leaves_the_other_alone() {
    let _alone = alone().await;
    let nodes = hosting(&["/one", "/two"]).await;
    let (one, two) = (client(&nodes, "/one").await, client(&nodes, "/two").await);
    one.set("key", "one").await.unwrap();
    two.set("key", "two").await.unwrap();
    let address = nodes.address(3);
    let left = run(["leave", "-n", "/one", "--peer", address]);
    assert!(left.status.success(), "{left:?}");
    until("the node to be out of one namespace only", || async {
        let roles = ["/one", "/two"].map(|name| status(&nodes, name, 3)["role"].clone());
        (roles[0] == "left" && (roles[1] == "follower" || roles[1] == "leader")).then_some(())
    })
    .await;
    assert_eq!(status(&nodes, "/one", 1)["members"].as_array().unwrap().len(), 2);
    assert_eq!(status(&nodes, "/two", 1)["members"].as_array().unwrap().len(), 3);
    one.delete("key").await.unwrap();
    let found = two.get("key", ReadLevel::Linearizable).await.unwrap();
    assert_eq!(found.map(|pair| pair.value), Some("two".into()));
}

#[tokio::test]
async fn a_hundred_namespaces_have_leaders_within_ten_seconds() {
    let _alone = alone().await;
    let names: Vec<_> = (0..100).map(|number| format!("/many/{number}")).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    let start = Instant::now();
    let nodes = hosting(&names).await;
    for name in &names {
        until("a leader of every namespace", || async {
            status(&nodes, name, 1)["leader"].is_string().then_some(())
        })
        .await;
    }
    let elapsed = start.elapsed();
    assert!(elapsed < Duration::from_secs(10), "a hundred namespaces took {elapsed:?}");
}
