//! `meshraft forget`: an operator releases a stopped node from its cluster.

use std::{ffi::OsString, fs};

use serde_json::{Value, json};

use crate::harness::{Nodes, alone, contents, run, until};

/// Runs `forget --json` on the folder of a node; its exit code and what it said.
fn forget(nodes: &Nodes, node: usize, arguments: &[&str]) -> (Option<i32>, Value) {
    forget_in(nodes, node, &nodes.namespace, arguments)
}

fn forget_in(
    nodes: &Nodes,
    node: usize,
    namespace: &str,
    arguments: &[&str],
) -> (Option<i32>, Value) {
    let folder = nodes.data_dir(node);
    let mut command: Vec<OsString> = vec!["forget".into(), "--data-dir".into(), folder.into()];
    command.extend(["-n", namespace, "--json"].map(OsString::from));
    command.extend(arguments.iter().map(OsString::from));
    let output = run(command);
    let said = serde_json::from_slice(&output.stdout);
    (output.status.code(), said.unwrap_or_else(|error| panic!("{error}: {output:?}")))
}

/// Three voters of a cluster, and a fourth node that is held back as a learner.
async fn with_a_learner(name: &str) -> Nodes {
    let mut nodes = Nodes::new(name);
    nodes.arguments.extend(["--voters", "3"].map(OsString::from));
    nodes.found().await;
    nodes.start(4).await;
    until("the fourth node to be a learner", || async {
        let status = nodes.status(4);
        (status["role"] == "learner" && status["applied"] != 0).then_some(())
    })
    .await;
    nodes
}

#[tokio::test(flavor = "multi_thread")]
async fn a_learner_is_released_and_comes_back_as_a_new_node() {
    let _alone = alone().await;
    let mut nodes = with_a_learner("forget-learner").await;
    let before = nodes.status(4);
    nodes.end(4).await;
    let (code, said) = forget(&nodes, 4, &[]);
    assert_eq!((code, &said["ok"], &said["voter"]), (Some(0), &json!(true), &json!(false)));
    assert_eq!(said["forgotten"], json!([before["cluster_id"]]));
    assert_eq!(said["ended"], before["incarnation"]);
    assert_ne!(said["incarnation"], before["incarnation"]);
    let aside = json!([{
        "cluster_id": before["cluster_id"], "incarnation": before["incarnation"],
    }]);
    assert_eq!(said["set_aside"], aside);

    // Once more there is nothing, and the listing remembers what was.
    let (code, again) = forget(&nodes, 4, &[]);
    assert_eq!((code, &again["error"]), (Some(1), &json!("nothing_to_forget")));
    let (code, listed) = forget(&nodes, 4, &["--list"]);
    assert_eq!((code, &listed["set_aside"]), (Some(0), &aside));

    // It joins as the new one that it is, and what was set aside stays.
    nodes.start(4).await;
    until("the new learner to have the log", || async {
        let status = nodes.status(4);
        let joined = status["cluster_id"] == before["cluster_id"] && status["applied"] != 0;
        (joined && status["incarnation"] == said["incarnation"]).then_some(())
    })
    .await;
    nodes.end(4).await;
    let (_, listed) = forget(&nodes, 4, &["--list"]);
    assert_eq!(listed["set_aside"], aside);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_voter_is_released_only_as_wiped_and_the_cluster_heals() {
    let _alone = alone().await;
    let mut nodes = Nodes::founded("forget-voter").await;
    let before = nodes.status(3);
    nodes.end(3).await;
    let folder = contents(&nodes.data_dir(3));
    let (code, said) = forget(&nodes, 3, &[]);
    assert_eq!((code, &said["error"], &said["maybe"]), (Some(1), &json!("voter"), &json!(false)));
    let message = said["message"].as_str().unwrap();
    assert!(message.contains("--as-wiped") && message.contains("lost"), "{message}");
    let names =
        |folder: &std::collections::BTreeMap<_, _>| folder.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&contents(&nodes.data_dir(3))), names(&folder), "a refusal leaves files");

    let (code, said) = forget(&nodes, 3, &["--as-wiped"]);
    assert_eq!((code, &said["voter"]), (Some(0), &json!(true)), "{said}");
    assert_eq!(said["forgotten"], json!([before["cluster_id"]]));
    nodes.start(3).await;
    until("the new member to take the old one's place", || async {
        let status = nodes.status(3);
        let voter = status["role"] == "follower" || status["role"] == "leader";
        (voter && status["incarnation"] == said["incarnation"]).then_some(())
    })
    .await;
    nodes.voters_are(&[1, 2, 3]).await;
    let got = nodes.pipe(3).ask(json!({"op":"get","key":"founded"})).await;
    assert_eq!(got["value"], "yes", "{got}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_can_not_be_meant_is_refused_by_name() {
    let _alone = alone().await;
    let mut nodes = Nodes::new("forget-refusals");
    nodes.expect = Some(1);
    nodes.start(1).await;
    until("one node to lead", || async { (nodes.status(1)["role"] == "leader").then_some(()) })
        .await;
    let (code, said) = forget(&nodes, 1, &["--as-wiped"]);
    assert_eq!((code, &said["error"]), (Some(2), &json!("in_use")));
    nodes.end(1).await;

    let (code, said) = forget_in(&nodes, 1, "/nowhere", &["--as-wiped"]);
    assert_eq!((code, &said["error"]), (Some(2), &json!("unknown_namespace")));
    assert!(said["message"].as_str().unwrap().contains(&nodes.namespace), "{said}");

    // A folder that is none does not become one; an empty one stays empty of nodes.
    let (code, said) = forget(&nodes, 2, &[]);
    assert_eq!((code, &said["error"]), (Some(2), &json!("no_node")));
    assert!(!nodes.data_dir(2).exists());
    fs::create_dir(nodes.data_dir(2)).unwrap();
    let (code, said) = forget(&nodes, 2, &[]);
    assert_eq!((code, &said["error"]), (Some(2), &json!("no_node")));

    // One that waits for founders is in no cluster.
    nodes.expect = Some(3);
    nodes.start(3).await;
    until("a free node", || async { (nodes.status(3)["role"] == "free").then_some(()) }).await;
    nodes.end(3).await;
    let (code, said) = forget(&nodes, 3, &[]);
    assert_eq!((code, &said["error"]), (Some(1), &json!("nothing_to_forget")));
    let help = String::from_utf8(run(["forget", "--help"]).stdout).unwrap();
    assert!(help.contains("--as-wiped") && help.contains("Exit codes"), "{help}");
}
