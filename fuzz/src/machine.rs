//! The state machine of a simulated node: the key-value machine, and a record of what it applied.

use std::{
    io::Read,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use meshraft_consensus::Index;
use meshraft_service::{CheckError, Command, QueryError, SnapshotWriter, StateMachine, kv::Kv};

use crate::{check::AppliedCommand, digest::Digest};

/// What a machine applied since it was last asked.
#[derive(Clone, Debug, Default)]
pub(crate) struct Recording(Arc<Mutex<Vec<AppliedCommand>>>);

impl Recording {
    pub(crate) fn take(&self) -> Vec<AppliedCommand> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A key-value machine that records.
#[derive(Debug, Default)]
pub(crate) struct Recorder {
    machine: Kv,
    recording: Recording,
}

impl Recorder {
    pub(crate) fn new(recording: Recording) -> Self {
        Self { machine: Kv::new(), recording }
    }
}

impl StateMachine for Recorder {
    fn check(&self, payload: &[u8]) -> Result<(), CheckError> {
        self.machine.check(payload)
    }

    fn apply(&mut self, commands: &[Command<'_>]) -> Vec<Bytes> {
        let responses = self.machine.apply(commands);
        let applied = commands.iter().zip(&responses).map(|(command, response)| AppliedCommand {
            index: command.position.index,
            payload: Digest::of(command.payload),
            response: Digest::of(response),
        });
        let mut recorded = self.recording.0.lock().unwrap_or_else(PoisonError::into_inner);
        recorded.extend(applied);
        responses
    }

    fn query(&self, query: &[u8], applied: Index) -> Result<Bytes, QueryError> {
        self.machine.query(query, applied)
    }

    fn snapshot(&self) -> SnapshotWriter {
        self.machine.snapshot()
    }

    fn restore(&mut self, snapshot: &mut dyn Read) -> std::io::Result<()> {
        self.machine.restore(snapshot)
    }
}
