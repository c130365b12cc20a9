//! A store that was lost, or that went back in time: the node comes back as a new member that
//! replaces its old self, and nothing that was acknowledged is lost.

use std::{fs, path::Path};

use meshraft::ReadLevel;
use serde_json::Value;

use crate::harness::{Nodes, PATIENCE, alone, until};

/// Waits until `node` is a voter under another incarnation than `old`, alone of its name.
pub(super) async fn replaced(nodes: &Nodes, node: usize, old: &Value) {
    until("the node to be a new member in place of its old self", || async {
        let status = nodes.status(node);
        (status["incarnation"] != *old && status["role"] == "follower").then_some(())
    })
    .await;
    nodes.voters_are(&[1, 2, 3]).await;
    let new = nodes.status(node)["incarnation"].clone();
    let leader = nodes.leader().await;
    let members = nodes.status(leader)["members"].clone();
    let own = members.as_array().unwrap().iter().find(|one| one["peer"] == nodes.peer(node));
    assert_eq!(own.unwrap()["incarnation"], new, "{members}");
}

pub(super) async fn follower(nodes: &Nodes) -> usize {
    let leader = nodes.leader().await;
    (1..=3).find(|node| *node != leader).unwrap()
}

pub(super) async fn all_there(nodes: &Nodes, node: usize, keys: &[&str]) {
    let member = nodes.library().await.via(nodes.id(node)).timeout(PATIENCE);
    member.barrier(PATIENCE).await.unwrap();
    for key in keys {
        let found = member.get(key.to_string(), ReadLevel::Stale).await.unwrap();
        assert_eq!(found.map(|pair| pair.value), Some((*key).to_owned().into()), "{key}");
    }
}

#[tokio::test]
async fn a_wiped_disk_comes_back_as_a_new_member_while_the_cluster_idles() {
    let _alone = alone().await;
    let mut nodes = Nodes::founded("wiped").await;
    nodes.library().await.set("before", "before").await.unwrap();
    let node = follower(&nodes).await;
    let old = nodes.status(node);
    nodes.kill(node);
    wipe(&nodes.data_dir(node));
    nodes.start(node).await;
    assert_eq!(nodes.peer(node), old["peer"].as_str().unwrap(), "the identity was kept");
    replaced(&nodes, node, &old["incarnation"]).await;
    assert_eq!(nodes.status(node)["cluster_id"], old["cluster_id"]);
    all_there(&nodes, node, &["before"]).await;
}

#[tokio::test]
async fn a_member_started_from_an_old_copy_is_found_out_and_admitted_anew() {
    let _alone = alone().await;
    let mut nodes = Nodes::founded("old-copy").await;
    let node = follower(&nodes).await;
    let client = nodes.library().await;
    client.set("first", "first").await.unwrap();
    nodes.kill(node);
    let copy = nodes.folder.path().join("copy");
    copy_folder(&nodes.data_dir(node), &copy);
    nodes.start(node).await;
    let old = nodes.status(node);
    for key in ["second", "third"] {
        client.set(key, key).await.unwrap();
    }
    // Acknowledged by this member too, and then forgotten by it.
    client.via(nodes.id(node)).barrier(PATIENCE).await.unwrap();
    nodes.kill(node);
    fs::remove_dir_all(nodes.data_dir(node)).unwrap();
    copy_folder(&copy, &nodes.data_dir(node));
    nodes.start(node).await;
    let amnesia = nodes.line(node, |line| line["event"] == "amnesia").await;
    assert_eq!(amnesia["namespace"], nodes.namespace.as_str());
    replaced(&nodes, node, &old["incarnation"]).await;
    all_there(&nodes, node, &["first", "second", "third"]).await;
}

/// Deletes everything in a data folder but the identity.
fn wipe(folder: &Path) {
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            fs::remove_dir_all(entry.path()).unwrap();
        } else if entry.file_name() != "identity" {
            fs::remove_file(entry.path()).unwrap();
        }
    }
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_folder(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}
