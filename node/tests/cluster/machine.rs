//! A state machine of the embedder's own is replicated like ours.

use std::io::{self, Read};

use bytes::Bytes;
use meshraft::{Command, Index, QueryError, SnapshotWriter, StateMachine, StopReason, WriteError};

use crate::support::{PATIENCE, local};

/// Keeps every command in order; answers how many there are.
#[derive(Default)]
struct Journal(Vec<Vec<u8>>);

impl StateMachine for Journal {
    fn apply(&mut self, commands: &[Command<'_>]) -> Vec<Bytes> {
        let keep = |command: &Command<'_>| {
            self.0.push(command.payload.to_vec());
            Bytes::from(self.0.len().to_string())
        };
        commands.iter().map(keep).collect()
    }

    fn query(&self, _query: &[u8], _applied: Index) -> Result<Bytes, QueryError> {
        Ok(self.0.join(&b","[..]).into())
    }

    fn snapshot(&self) -> SnapshotWriter {
        let lines = self.0.join(&b"\n"[..]);
        Box::new(move |to| to.write_all(&lines))
    }

    fn restore(&mut self, snapshot: &mut dyn Read) -> io::Result<()> {
        let mut lines = Vec::new();
        snapshot.read_to_end(&mut lines)?;
        self.0 = lines.split(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_own_machine_gets_every_command_once_and_in_order_also_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    for start in 0..2 {
        let node = local(folder.path().into()).start().await.unwrap();
        let journal =
            node.namespace("/journal").expect(1).machine(Journal::default()).open().await.unwrap();
        journal.ready(PATIENCE).await.unwrap();
        for number in 0..10 {
            let command = format!("{start}.{number}");
            let applied = journal.propose(command).await.unwrap();
            assert_eq!(applied.response, (start * 10 + number + 1).to_string());
        }
        let all: Vec<_> = (0..=start)
            .flat_map(|start| (0..10).map(move |number| format!("{start}.{number}")))
            .collect();
        let answer = journal.query("").linearizable().await.unwrap();
        assert_eq!(answer.response, all.join(","));
        node.shutdown().await;
    }
}

/// Panics when it is dropped, and that is on the node's own task.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        assert!(std::thread::panicking(), "this test panics on purpose");
    }
}

impl StateMachine for Bomb {
    fn apply(&mut self, commands: &[Command<'_>]) -> Vec<Bytes> {
        commands.iter().map(|_| Bytes::new()).collect()
    }

    fn query(&self, _query: &[u8], _applied: Index) -> Result<Bytes, QueryError> {
        Ok(Bytes::new())
    }

    fn snapshot(&self) -> SnapshotWriter {
        Box::new(|_| Ok(()))
    }

    fn restore(&mut self, _snapshot: &mut dyn Read) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_ends_the_node_and_resolves_every_future() {
    let folder = tempfile::tempdir().unwrap();
    let node = local(folder.path().into()).start().await.unwrap();
    let parked = node.namespace("/parked").expect(3).open().await.unwrap();
    let bomb = node.namespace("/bomb").expect(3).machine(Bomb).open().await.unwrap();
    let mut write = tokio::spawn({
        let parked = parked.clone();
        async move { parked.set("k", "v").timeout(PATIENCE).await }
    });
    let early = tokio::time::timeout(std::time::Duration::from_millis(200), &mut write).await;
    assert!(early.is_err(), "nothing founds here, so that the write waits: {early:?}");
    bomb.close().await;
    assert_eq!(node.ended().await, StopReason::Panicked);
    let error = write.await.unwrap().unwrap_err();
    assert_eq!(error, WriteError::Stopped(StopReason::Panicked));
    assert!(error.maybe_applied());
    let late = parked.set("k", "v").await.unwrap_err();
    assert!(!late.maybe_applied(), "{late:?}");
    let again = local(folder.path().into()).start().await.expect("the folder is free again");
    assert_eq!(again.id(), node.id());
}
