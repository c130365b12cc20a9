//! Bits that flip on a disk while no process looks: a member finds out, is repaired by the others,
//! and loses nothing.

use std::{fs, path::Path};

use crate::{
    harness::{Nodes, PATIENCE, alone, until},
    membership::newest_snapshot,
    renewal::{all_there, follower},
};

const KEYS: [&str; 5] = [
    "the first of some values that stand nowhere else in the file",
    "the second of some values that stand nowhere else in the file",
    "the third of some values that stand nowhere else in the file",
    "the fourth of some values that stand nowhere else in the file",
    "the fifth of some values that stand nowhere else in the file",
];

/// Flips a bit in the middle of every occurrence of `text`.
fn rot(file: &Path, text: &str) {
    let mut bytes = fs::read(file).unwrap();
    let found: Vec<usize> = (0..bytes.len() - text.len())
        .filter(|at| bytes[*at..].starts_with(text.as_bytes()))
        .collect();
    assert!(!found.is_empty(), "the entry is in the file");
    for at in found {
        bytes[at + text.len() / 2] ^= 0x10;
    }
    fs::write(file, bytes).unwrap();
}

#[tokio::test]
async fn a_member_whose_log_rotted_is_repaired_by_the_others() {
    let _alone = alone().await;
    let mut nodes = Nodes::founded("rot").await;
    let client = nodes.library().await;
    for key in KEYS {
        client.set(key, key).await.unwrap();
    }
    let node = follower(&nodes).await;
    let member = client.via(nodes.id(node));
    member.barrier(PATIENCE).await.unwrap();
    let before = nodes.status(node);
    nodes.end(node).await;
    rot(&nodes.data_dir(node).join("log.redb"), KEYS[2]);

    nodes.start(node).await;
    let damage = nodes.line(node, |line| line["event"] == "damage").await;
    let repaired = nodes.line(node, |line| line["event"] == "repaired").await;
    assert_eq!(damage["first"], repaired["first"]);
    assert_eq!(damage["first"], damage["last"], "one entry is damaged");
    let damaged = damage["first"].as_u64();
    assert!(damaged > Some(1) && damaged < before["last"].as_u64(), "{damage} of {before}");
    all_there(&nodes, node, &KEYS).await;
    let after = nodes.status(node);
    assert_eq!(after["incarnation"], before["incarnation"], "it is the same member");
    assert_eq!(after["damaged"], serde_json::Value::Null);

    // It counts again: with the third gone, nothing could be written without it.
    let leader = nodes.leader().await;
    let third = (1..=3).find(|other| *other != node && *other != leader).unwrap();
    nodes.kill(third);
    client.set("sixth", "sixth").await.unwrap();
    // What was repaired is read from its disk at the next start, too.
    nodes.end(node).await;
    nodes.start(third).await;
    nodes.start(node).await;
    all_there(&nodes, node, &[&KEYS[..], &["sixth"]].concat()).await;
}

/// All that others can repair, and nobody there: the member says so, and does not serve what it
/// does not have.
#[tokio::test]
async fn a_rotten_member_alone_says_what_it_lacks() {
    let _alone = alone().await;
    let mut nodes = Nodes::founded("rot-alone").await;
    let client = nodes.library().await;
    for key in KEYS {
        client.set(key, key).await.unwrap();
    }
    client.via(nodes.id(1)).barrier(PATIENCE).await.unwrap();
    for node in 1..=3 {
        nodes.end(node).await;
    }
    rot(&nodes.data_dir(1).join("log.redb"), KEYS[2]);
    nodes.start(1).await;
    nodes.line(1, |line| line["event"] == "damage").await;
    until("the status to tell", || async {
        let status = nodes.status(1);
        (status["damaged"]["repairable"] == true && status["role"] == "follower").then_some(())
    })
    .await;
    let spoken = nodes.client(&["status"], 1);
    let spoken = String::from_utf8_lossy(&spoken.stdout).into_owned();
    assert!(spoken.contains("asks the other members"), "{spoken}");
    // One that is whole is enough: it repairs the other, and they lead.
    nodes.start(2).await;
    nodes.line(1, |line| line["event"] == "repaired").await;
    nodes.leader().await;
    all_there(&nodes, 1, &KEYS).await;
}

/// The state is in the snapshot alone, so the others' takes its place.
#[tokio::test]
async fn a_member_whose_snapshot_rotted_comes_back_as_a_new_one_with_all_of_it() {
    let _alone = alone().await;
    let mut nodes = Nodes::new("rot-snapshot");
    nodes.arguments.extend(["--snapshot-entries".into(), "10".into()]);
    for node in 1..=3 {
        nodes.start(node).await;
    }
    nodes.leader().await;
    let client = nodes.library().await;
    let keys: Vec<String> = (0..30).map(|number| format!("key {number}")).collect();
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    for key in &keys {
        client.set((*key).to_owned(), (*key).to_owned()).await.unwrap();
    }
    let node = follower(&nodes).await;
    client.via(nodes.id(node)).barrier(PATIENCE).await.unwrap();
    let before = until("a snapshot", || async {
        Some(nodes.status(node)).filter(|status| status["snapshot"].as_u64() >= Some(20))
    })
    .await;
    nodes.kill(node);
    let file = newest_snapshot(&nodes.data_dir(node));
    let mut bytes = fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x55;
    fs::write(&file, &bytes).unwrap();

    nodes.start(node).await;
    let lost = nodes.line(node, |line| line["event"] == "snapshot" && line["step"] == "lost").await;
    assert!(lost["message"].as_str().is_some_and(|why| why.contains("damaged")), "{lost}");
    nodes.line(node, |line| line["event"] == "amnesia").await;
    all_there(&nodes, node, &keys).await;
    let after = nodes.status(node);
    assert_ne!(after["incarnation"], before["incarnation"], "it is a new member");
    assert_eq!(after["members"].as_array().map(Vec::len), Some(3), "in its old self's place");
}
