//! Namespaces with a key: who has it takes part, who has not is told exactly that.

use std::path::Path;

use meshraft::{NamespaceKey, Node, NodeEvent, Refusal, WriteError};

use crate::support::{PATIENCE, local};

const NAMESPACE: &str = "/secret";

async fn start(folder: &Path, name: &str, seeds: &[&Node]) -> Node {
    let seeds: Vec<_> = seeds.iter().flat_map(|node| node.addresses()).collect();
    local(folder.join(name)).peers(seeds).start().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_with_one_key_form_and_a_node_with_another_learns_that_the_key_differs() {
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("key");
    std::fs::write(&key, [7; 32]).unwrap();
    let one = start(folder.path(), "one", &[]).await;
    let two = start(folder.path(), "two", &[&one]).await;
    let mut members = Vec::new();
    for node in [&one, &two] {
        members.push(node.namespace(NAMESPACE).expect(2).key_file(&key).open().await.unwrap());
    }
    for member in &members {
        member.ready(PATIENCE).await.unwrap();
    }
    members[0].set("k", "v").await.unwrap();
    assert_eq!(members[1].get("k").await.unwrap().unwrap().value, "v");

    let stranger = start(folder.path(), "stranger", &[&one, &two]).await;
    let wrong = stranger
        .namespace(NAMESPACE)
        .expect(2)
        .key(NamespaceKey::new([8; 32]))
        .open()
        .await
        .unwrap();
    let mut events = [wrong.events(), members[0].events()];
    for events in &mut events {
        // A peer may be told first that the other has not opened the namespace yet.
        let told = async {
            while !matches!(
                events.next().await.unwrap(),
                NodeEvent::Refused { why: Refusal::KeyMismatch, .. }
            ) {}
        };
        tokio::time::timeout(PATIENCE, told).await.expect("both are told that the keys differ");
    }
    let timeout = std::time::Duration::from_millis(500);
    let error = wrong.set("k", "other").timeout(timeout).await.unwrap_err();
    assert!(!error.maybe_applied(), "{error}");
    assert!(matches!(error, WriteError::Service(_)));
    assert_eq!(wrong.status().await.unwrap().cluster, None);
    assert_eq!(members[1].get("k").await.unwrap().unwrap().value, "v");
}
