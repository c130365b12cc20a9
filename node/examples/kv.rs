//! Three nodes in one process found a cluster; any of them takes writes and reads.
//!
//! In a program of your own there is one node per process, on machines of their own: the lines from
//! `Node::builder` to `ready` are all that it takes.

use std::{error::Error, time::Duration};

use meshraft::{NamespaceHandle, Node, Timing};

const PATIENCE: Duration = Duration::from_secs(30);

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let mut nodes: Vec<Node> = Vec::new();
    let mut members: Vec<NamespaceHandle> = Vec::new();
    for name in ["a", "b", "c"] {
        // One address of any other node is enough; the rest is learned.
        let seed = nodes.last().map(Node::addresses).unwrap_or_default();
        let node = Node::builder()
            .data_dir(folder.path().join(name))
            .listen("/ip4/127.0.0.1/tcp/0")
            // This example keeps to itself.
            .mdns(false)
            .peers(seed)
            .timing(Timing::Local)
            .start()
            .await?;
        members.push(node.namespace("/example/kv").expect(3).open().await?);
        nodes.push(node);
    }
    for member in &members {
        member.ready(PATIENCE).await?;
    }
    println!("founded; {} leads", members[0].leader().ok_or("no leader")?);

    let revision = members[1].set("greeting", "hello").await?;
    println!("b wrote greeting at revision {}", revision.get());
    let read = members[2].get("greeting").linearizable().await?;
    let value = read.ok_or("the greeting is lost")?.value;
    println!("c reads greeting = {}", String::from_utf8_lossy(&value));
    assert_eq!(value, "hello");

    let deleted = members[0].delete("greeting").await?;
    println!("a deleted greeting: {}", deleted.deleted);
    assert_eq!(members[1].get("greeting").await?, None);

    for node in nodes {
        node.shutdown().await;
    }
    Ok(())
}
