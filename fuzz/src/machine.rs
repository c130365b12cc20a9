//! The state machine of a simulated node: the key-value machine, and a record of what it applied.

use std::{
    io::{self, Read},
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use meshraft_consensus::Index;
use meshraft_service::{
    CheckError, Command, QueryError, SnapshotWriter, StateMachine,
    kv::{Kv, KvCommand},
};

use crate::{check::AppliedCommand, digest::Digest, workload};

const PADDING: u8 = b'.';

/// What a machine applied since it was last asked.
#[derive(Clone, Debug, Default)]
pub(crate) struct Recording(Arc<Mutex<Vec<AppliedCommand>>>);

impl Recording {
    pub(crate) fn take(&self) -> Vec<AppliedCommand> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A key-value machine that records, and that writes snapshots as large as those of a machine with
/// more in it: behind so many bytes of padding.
#[derive(Debug, Default)]
pub(crate) struct Recorder {
    machine: Kv,
    recording: Recording,
    padding_bytes: u64,
}

impl Recorder {
    pub(crate) fn new(recording: Recording, padding_bytes: u64) -> Self {
        Self { machine: Kv::new(), recording, padding_bytes }
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
            writes: written(command.payload),
        });
        let mut recorded = self.recording.0.lock().unwrap_or_else(PoisonError::into_inner);
        recorded.extend(applied);
        responses
    }

    fn query(&self, query: &[u8], applied: Index) -> Result<Bytes, QueryError> {
        self.machine.query(query, applied)
    }

    fn snapshot(&self) -> SnapshotWriter {
        let (machine, padding_bytes) = (self.machine.snapshot(), self.padding_bytes);
        Box::new(move |to| {
            io::copy(&mut io::repeat(PADDING).take(padding_bytes), to)?;
            machine(to)
        })
    }

    fn restore(&mut self, snapshot: &mut dyn Read) -> io::Result<()> {
        io::copy(&mut snapshot.take(self.padding_bytes), &mut io::sink())?;
        self.machine.restore(snapshot)
    }
}

/// The key and the value that a command writes.
fn written(payload: &[u8]) -> Option<(u64, u64)> {
    match KvCommand::decode(payload) {
        Ok(KvCommand::Set { key, value }) => {
            Some((workload::key_number(&key)?, workload::value_number(&value)?))
        }
        _ => None,
    }
}
