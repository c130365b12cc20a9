//! A state machine of one's own: named counters, of which every member has the same.
//!
//! Commands and queries are bytes that only the machine understands. `apply` may depend on nothing
//! but the commands: no clock, no randomness. One node alone is a cluster, too.

use std::{
    collections::BTreeMap,
    error::Error,
    io::{self, Read, Write},
    time::Duration,
};

use bytes::Bytes;
use meshraft::{Command, Index, Node, QueryError, SnapshotWriter, StateMachine, Timing};

/// Counters by name. A command is a name: that counter goes up by one, and its new value is the
/// response. A query is a name; its answer is the value.
#[derive(Default)]
struct Counters {
    values: BTreeMap<Vec<u8>, u64>,
}

impl StateMachine for Counters {
    fn apply(&mut self, commands: &[Command<'_>]) -> Vec<Bytes> {
        let count = |command: &Command<'_>| {
            let value = self.values.entry(command.payload.to_vec()).or_default();
            *value += 1;
            Bytes::copy_from_slice(&value.to_be_bytes())
        };
        commands.iter().map(count).collect()
    }

    fn query(&self, query: &[u8], _applied: Index) -> Result<Bytes, QueryError> {
        let value = self.values.get(query).copied().unwrap_or_default();
        Ok(Bytes::copy_from_slice(&value.to_be_bytes()))
    }

    fn snapshot(&self) -> SnapshotWriter {
        let values = self.values.clone();
        Box::new(move |to: &mut dyn Write| {
            for (name, value) in values {
                to.write_all(&(name.len() as u64).to_be_bytes())?;
                to.write_all(&name)?;
                to.write_all(&value.to_be_bytes())?;
            }
            Ok(())
        })
    }

    fn restore(&mut self, snapshot: &mut dyn Read) -> io::Result<()> {
        let mut bytes = Vec::new();
        snapshot.read_to_end(&mut bytes)?;
        self.values.clear();
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            let length = number(&mut rest)? as usize;
            let name = rest.split_off(..length).ok_or(io::ErrorKind::UnexpectedEof)?.to_vec();
            let value = number(&mut rest)?;
            self.values.insert(name, value);
        }
        Ok(())
    }
}

/// Takes eight bytes from the front.
fn number(bytes: &mut &[u8]) -> io::Result<u64> {
    let mut number = [0; 8];
    bytes.read_exact(&mut number)?;
    Ok(u64::from_be_bytes(number))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let node = Node::builder()
        .data_dir(folder.path())
        .listen("/ip4/127.0.0.1/tcp/0")
        // This example keeps to itself.
        .mdns(false)
        .timing(Timing::Local)
        .start()
        .await?;
    let counters =
        node.namespace("/example/counters").expect(1).machine(Counters::default()).open().await?;
    counters.ready(Duration::from_secs(30)).await?;
    for name in ["apples", "pears", "apples"] {
        let applied = counters.propose(name).await?;
        let value = number(&mut applied.response.as_ref())?;
        println!("{name} = {value}, by the entry at {}", applied.position);
    }
    let answer = counters.query("apples").linearizable().await?;
    assert_eq!(number(&mut answer.response.as_ref())?, 2);
    println!("apples = 2, read linearizably");
    node.shutdown().await;
    Ok(())
}
