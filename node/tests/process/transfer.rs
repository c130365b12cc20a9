//! Leadership that moves in order: by command, and when its node is told to end.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use crate::harness::{Nodes, alone, until};

/// Three nodes that wait for several seconds before they campaign by themselves.
async fn patient(name: &str) -> Nodes {
    let mut nodes = Nodes::new(name);
    nodes.arguments = ["--heartbeat", "400", "--election", "4000"].map(Into::into).into();
    nodes.found().await;
    nodes
}

/// The shortest time after which one of them campaigns unasked.
const ELECTION: Duration = Duration::from_secs(4);

#[tokio::test]
async fn leadership_is_handed_over_by_command_and_by_pipe() {
    let _alone = alone().await;
    let nodes = patient("transfer").await;
    let leader = nodes.leader().await;
    let (next, asked) = (leader % 3 + 1, (leader + 1) % 3 + 1);
    let peer = nodes.peer(next).to_owned();

    let begun = Instant::now();
    let done = nodes.client(&["transfer", &peer, "--json"], asked);
    let said: Value = serde_json::from_slice(&done.stdout).unwrap();
    assert_eq!((done.status.code(), &said["peer"]), (Some(0), &json!(peer)), "{done:?}");
    assert!(begun.elapsed() < ELECTION, "nobody waited for an election time-out");
    until("the successor to lead", || async {
        (nodes.status(asked)["leader"] == json!(peer)).then_some(())
    })
    .await;
    // It leads already: what was asked for is so.
    let again = nodes.client(&["transfer", &peer], asked);
    assert_eq!(again.status.code(), Some(0), "{again:?}");

    let mut pipe = nodes.pipe(asked);
    let moved = pipe.ask(json!({"op":"transfer"})).await;
    assert_eq!(moved["ok"], true, "{moved}");
    assert_ne!(moved["leader"], json!(peer), "{moved}");
    let set = pipe.ask(json!({"op":"set","key":"k","value":"v"})).await;
    assert_eq!(set["ok"], true, "{set}");
    let stranger = "12D3KooWEyoppNCUx8Yx66oV9fJnriXwCcXwDDUA2kj6vnc6iDEp";
    let refused = pipe.ask(json!({"op":"transfer","peer":stranger})).await;
    assert_eq!((&refused["error"], &refused["maybe"]), (&json!("not_transferred"), &json!(false)));
}

#[tokio::test]
async fn a_leader_that_is_told_to_end_hands_over_first() {
    let _alone = alone().await;
    let mut nodes = patient("orderly").await;
    let leader = nodes.leader().await;
    let asked = leader % 3 + 1;
    let old = nodes.peer(leader).to_owned();
    let begun = Instant::now();
    nodes.end(leader).await;
    let mut pipe = nodes.pipe(asked);
    let set = pipe.ask(json!({"op":"set","key":"k","value":"v"})).await;
    assert_eq!(set["ok"], true, "{set}");
    assert!(begun.elapsed() < ELECTION, "it took {:?}", begun.elapsed());
    let leader = &nodes.status(asked)["leader"];
    assert!(leader.is_string() && *leader != json!(old), "{leader}");
}
