//! Leaving, removing, coming back and founding, from the command line of real processes.

use std::process::Output;

use serde_json::{Value, json};

use crate::harness::{Nodes, alone, until};

fn answer(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

fn code(output: &Output) -> i32 {
    output.status.code().expect("it ends by itself")
}

/// Waits until a node says that exactly these take part, all of them voters.
async fn voters(nodes: &Nodes, asked: usize, expected: &[usize]) {
    let mut expected: Vec<_> = expected.iter().map(|&node| nodes.peer(node).to_owned()).collect();
    expected.sort_unstable();
    until("the voters to be settled", || async {
        let status = nodes.status(asked);
        let members = status["members"].as_array()?;
        let mut voters: Vec<_> = members
            .iter()
            .filter(|member| member["role"] == "voter")
            .filter_map(|member| member["peer"].as_str().map(str::to_owned))
            .collect();
        voters.sort_unstable();
        (members.len() == voters.len() && voters == expected).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_node_leaves_and_joins_by_command() {
    let _alone = alone().await;
    let nodes = Nodes::founded("leave").await;
    let leader = nodes.leader().await;
    let (leaver, other) = (leader % 3 + 1, (leader + 1) % 3 + 1);

    let left = nodes.client(&["leave", "--json"], leaver);
    assert_eq!((code(&left), &answer(&left)["state"]), (0, &json!("left")), "{left:?}");
    assert_eq!(answer(&left)["peer"], nodes.peer(leaver));
    let status = nodes.status(leaver);
    assert_eq!((&status["role"], &status["waiting"]["code"]), (&json!("left"), &json!("left")));
    voters(&nodes, other, &[leader, other]).await;

    let joined = nodes.client(&["join", "--json"], leaver);
    assert_eq!((code(&joined), &answer(&joined)["ok"]), (0, &json!(true)), "{joined:?}");
    voters(&nodes, other, &[1, 2, 3]).await;
    // It says in words what it did, and doing it again does no harm.
    let again = nodes.client(&["join"], leaver);
    assert_eq!(code(&again), 0, "{again:?}");
    assert!(String::from_utf8_lossy(&again.stdout).contains(nodes.peer(leaver)), "{again:?}");
}

#[tokio::test]
async fn a_removed_node_stays_out_over_a_restart_and_joins_by_command() {
    let _alone = alone().await;
    let mut nodes = Nodes::founded("remove").await;
    let leader = nodes.leader().await;
    let (removed, other) = (leader % 3 + 1, (leader + 1) % 3 + 1);
    let peer = nodes.peer(removed).to_owned();

    let done = nodes.client(&["remove", &peer, "--json"], other);
    assert_eq!(code(&done), 0, "{done:?}");
    assert_eq!(answer(&done)["members"].as_array().map(Vec::len), Some(2), "{done:?}");
    let again = nodes.client(&["remove", &peer, "--json"], other);
    assert_eq!((code(&again), &answer(&again)["error"]), (1, &json!("unknown_member")));

    nodes.kill(removed);
    nodes.start(removed).await;
    until("the node to know that it was removed", || async {
        (nodes.status(removed)["role"] == "removed").then_some(())
    })
    .await;
    let members = nodes.client(&["members", "--json"], other);
    assert_eq!(answer(&members)["members"].as_array().map(Vec::len), Some(2));

    let joined = nodes.client(&["join"], removed);
    assert_eq!(code(&joined), 0, "{joined:?}");
    voters(&nodes, other, &[1, 2, 3]).await;
}

#[tokio::test]
async fn a_node_that_is_alone_can_t_leave_and_one_in_no_cluster_can_t_either() {
    let _alone = alone().await;
    let mut nodes = Nodes::new("alone");
    nodes.expect = Some(1);
    nodes.start(1).await;
    nodes.leader().await;
    let left = nodes.client(&["leave", "--json"], 1);
    assert_eq!((code(&left), &answer(&left)["error"]), (1, &json!("last_voter")), "{left:?}");
    let mut free = Nodes::new("free");
    free.start(1).await;
    for command in ["leave", "join"] {
        let output = free.client(&[command, "--json"], 1);
        assert_eq!((code(&output), &answer(&output)["error"]), (1, &json!("not_member")));
    }
    let spoken = free.client(&["leave"], 1);
    assert!(String::from_utf8_lossy(&spoken.stderr).contains("not_member"), "{spoken:?}");
}

#[tokio::test]
async fn a_forced_bootstrap_is_shown_and_refused_the_second_time() {
    let _alone = alone().await;
    let mut nodes = Nodes::new("forced");
    nodes.expect = None;
    let forced = ["--force-bootstrap".into()];
    nodes.start_with(1, &forced).await;
    nodes.leader().await;
    assert_eq!(nodes.status(1)["forced"], true);
    nodes.kill(1);
    let mut command = nodes.command(1);
    command.arguments.extend(forced);
    let refused = command.command().output().unwrap();
    let said = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(2), "{said}");
    assert!(said.contains("force-bootstrap") && said.contains("member of cluster"), "{said}");
    nodes.start(1).await;
    nodes.leader().await;
    assert_eq!(nodes.status(1)["forced"], true, "it is remembered");
}

/// The first node's status, once it is as wanted.
async fn status_with(nodes: &Nodes, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    until(what, || async { Some(nodes.status(1)).filter(|status| wanted(status)) }).await
}

/// The newest file of a snapshot in a node's folder.
pub(crate) fn newest_snapshot(folder: &std::path::Path) -> std::path::PathBuf {
    let groups = std::fs::read_dir(folder.join("snapshots")).unwrap();
    let files = groups.flat_map(|group| std::fs::read_dir(group.unwrap().path()).unwrap());
    let files = files.map(|file| file.unwrap().path());
    files.max_by_key(|file| file.metadata().unwrap().modified().unwrap()).expect("a snapshot")
}

#[tokio::test]
async fn a_lone_voter_halts_on_a_snapshot_that_can_not_be_read_and_status_says_so() {
    let _alone = alone().await;
    let mut nodes = Nodes::new("unreadable");
    nodes.expect = None;
    nodes.arguments.extend(["--snapshot-entries".into(), "10".into()]);
    nodes.start_with(1, &["--force-bootstrap".into()]).await;
    nodes.leader().await;
    let mut pipe = nodes.pipe(1);
    for number in 0..30 {
        let set = json!({"op": "set", "key": format!("key {number}"), "value": "value"});
        assert_eq!(pipe.ask(set).await["ok"], true);
    }
    status_with(&nodes, "a snapshot", |status| status["snapshot"].as_u64() >= Some(20)).await;
    nodes.kill(1);
    let file = newest_snapshot(&nodes.data_dir(1));
    let mut bytes = std::fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x55;
    std::fs::write(&file, &bytes).unwrap();

    nodes.start(1).await;
    let status = status_with(&nodes, "the halt", |status| !status["halted"].is_null()).await;
    assert_eq!(status["halted"], "snapshot_unreadable");
    assert_eq!(status["role"], "stopped");
    let spoken = nodes.client(&["status"], 1);
    assert!(String::from_utf8_lossy(&spoken.stdout).contains("snapshot_unreadable"), "{spoken:?}");
    assert_eq!(std::fs::read(&file).unwrap(), bytes, "nothing is deleted");
}

/// The leader decides who votes, by its own number of voters and not by the learner's.
#[tokio::test]
async fn a_learner_tells_why_it_does_not_vote() {
    let _alone = alone().await;
    let mut nodes = Nodes::new("held");
    for node in 1..=3 {
        nodes.start_with(node, &["--voters".into(), "3".into()]).await;
    }
    nodes.leader().await;
    nodes.expect = None;
    nodes.start_with(4, &["--join-only".into()]).await;
    until("the learner to tell", || async {
        let status = nodes.status(4);
        let members = status["members"].as_array()?;
        let own = members.iter().find(|member| member["peer"] == nodes.peer(4))?;
        (own["role"] == "learner" && own["held_back"] == "voters_target").then_some(())
    })
    .await;
}

#[tokio::test]
async fn three_nodes_without_an_expected_number_found_together_within_their_window() {
    let _alone = alone().await;
    let mut nodes = Nodes::new("window");
    nodes.expect = None;
    for node in 1..=3 {
        nodes.start_with(node, &["--window".into(), "3s".into()]).await;
    }
    voters(&nodes, 1, &[1, 2, 3]).await;
    let clusters: Vec<_> = (1..=3).map(|node| nodes.status(node)["cluster_id"].clone()).collect();
    assert!(clusters[0].is_string() && clusters.iter().all(|id| *id == clusters[0]));
}
