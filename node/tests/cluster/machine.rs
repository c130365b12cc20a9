//! A state machine of the embedder's own is replicated like ours.

use std::io::{self, Read};

use bytes::Bytes;
use meshraft::{Command, Index, QueryError, SnapshotWriter, StateMachine};

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
