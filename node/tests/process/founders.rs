//! How three processes become a cluster, and what they say while they can't.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use crate::harness::{Nodes, alone, until};

#[tokio::test]
async fn three_nodes_given_one_address_each_found_one_cluster() {
    let _alone = alone().await;
    let nodes = Nodes::founded("founded").await;
    let leader = nodes.leader().await;
    let statuses: Vec<_> = (1..=3).map(|node| nodes.status(node)).collect();
    for (node, status) in (1..=3).zip(&statuses) {
        assert_eq!(status["namespace"], "/test/founded");
        assert_eq!(status["peer"], nodes.peer(node));
        assert_eq!(status["leader"], nodes.peer(leader));
        assert_eq!(status["cluster_id"], statuses[0]["cluster_id"]);
        assert!(status["cluster_id"].is_string(), "{status}");
        assert!(status["incarnation"].is_string(), "{status}");
        assert_eq!(status["role"], if node == leader { "leader" } else { "follower" });
        assert_eq!(status["waiting"], Value::Null);
        assert!(status["term"].as_u64() >= Some(1), "{status}");
        for number in ["commit", "applied", "last", "first"] {
            assert!(status[number].is_u64(), "{number} of {status}");
        }
        let members = status["members"].as_array().unwrap();
        assert_eq!(members.len(), 3, "{status}");
        assert!(members.iter().all(|member| member["role"] == "voter"), "{status}");
    }
    let members = nodes.client(&["members", "--json"], 2);
    let members: Value = serde_json::from_slice(&members.stdout).unwrap();
    assert_eq!(members["members"].as_array().unwrap().len(), 3, "{members}");
}

#[tokio::test]
async fn two_of_three_wait_and_the_third_completes_them_within_a_second() {
    let _alone = alone().await;
    let mut nodes = Nodes::new("founders");
    nodes.start(1).await;
    nodes.start(2).await;
    let waiting = until("both to count two founders", || async {
        let waiting = [1, 2].map(|node| nodes.status(node)["waiting"].clone());
        waiting.iter().all(|waiting| waiting["have"] == 2).then_some(waiting)
    })
    .await;
    for waiting in waiting {
        assert_eq!(waiting["code"], "founders");
        assert_eq!(waiting["need"], 3);
        assert!(waiting["missing"].is_array());
    }
    let status = nodes.status(1);
    assert_eq!((&status["cluster_id"], &status["leader"]), (&Value::Null, &Value::Null));
    assert_eq!((&status["role"], &status["members"]), (&json!("free"), &json!([])));
    let set = json!({"op":"set","key":"k","value":"v","timeout_ms":3000});
    let answer = nodes.pipe(1).ask(set).await;
    assert_eq!((&answer["ok"], &answer["maybe"]), (&json!(false), &json!(false)), "{answer}");

    let mut watch = nodes.pipe(1);
    nodes.start(3).await;
    let listening = Instant::now();
    let barrier = watch.ask(json!({"op":"barrier","timeout_ms":10000})).await;
    let elapsed = listening.elapsed();
    assert_eq!(barrier["ok"], true, "{barrier}");
    assert!(elapsed < Duration::from_secs(1), "founded {elapsed:?} after the third listened");
    assert!(nodes.status(3)["cluster_id"].is_string());
}
