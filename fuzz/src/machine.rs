//! The state machine of a simulated node: the key-value machine, and a record of what it applied.

use std::{
    collections::BTreeMap,
    io::{self, Read},
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use meshraft_consensus::{ClusterVersion, Index};
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

/// A key-value machine with counters beside it, that records, and that writes snapshots as large as
/// those of a machine with more in it: behind so many bytes of padding.
#[derive(Debug)]
pub(crate) struct Recorder {
    machine: Kv,
    counters: BTreeMap<u64, u64>,
    recording: Recording,
    padding_bytes: u64,
    /// Later commands than those of this version it does not know.
    supports: ClusterVersion,
}

impl Recorder {
    pub(crate) fn new(recording: Recording, padding_bytes: u64, supports: ClusterVersion) -> Self {
        let (machine, counters) = (Kv::new(), BTreeMap::new());
        Self { machine, counters, recording, padding_bytes, supports }
    }

    /// Adds one to a counter, and answers with what it shows then.
    fn add(&mut self, counter: u64) -> Bytes {
        let shows = self.counters.entry(counter).or_default();
        *shows += 1;
        Bytes::copy_from_slice(&shows.to_be_bytes())
    }
}

impl StateMachine for Recorder {
    fn check(&self, payload: &[u8]) -> Result<(), CheckError> {
        match workload::counter_number(payload) {
            Some(_) if self.needs(payload) <= self.supports => Ok(()),
            Some(_) => Err(CheckError::Kind { kind: u32::from(self.needs(payload).get()) }),
            None => self.machine.check(payload),
        }
    }

    fn needs(&self, payload: &[u8]) -> ClusterVersion {
        workload::needed_version(payload).unwrap_or_else(|| self.machine.needs(payload))
    }

    fn apply(&mut self, commands: &[Command<'_>]) -> Vec<Bytes> {
        let respond = |command: &Command<'_>| match workload::counter_number(command.payload) {
            Some(counter) => vec![self.add(counter)],
            None => self.machine.apply(std::slice::from_ref(command)),
        };
        let responses: Vec<Bytes> = commands.iter().flat_map(respond).collect();
        let applied = commands.iter().zip(&responses).map(|(command, response)| AppliedCommand {
            index: command.position.index,
            payload: Digest::of(command.payload),
            response: Digest::of(response),
            writes: written(command.payload),
            adds: workload::counter_number(command.payload).zip(workload::value_number(response)),
        });
        let mut recorded = self.recording.0.lock().unwrap_or_else(PoisonError::into_inner);
        recorded.extend(applied);
        responses
    }

    fn query(&self, query: &[u8], applied: Index) -> Result<Bytes, QueryError> {
        match workload::counter_number(query) {
            Some(counter) => {
                let shows = self.counters.get(&counter).copied().unwrap_or(0);
                Ok(Bytes::copy_from_slice(&shows.to_be_bytes()))
            }
            None => self.machine.query(query, applied),
        }
    }

    fn snapshot(&self) -> SnapshotWriter {
        let (machine, padding_bytes) = (self.machine.snapshot(), self.padding_bytes);
        let counters = self.counters.clone();
        Box::new(move |to| {
            io::copy(&mut io::repeat(PADDING).take(padding_bytes), to)?;
            to.write_all(&(counters.len() as u64).to_be_bytes())?;
            for (counter, shows) in counters {
                to.write_all(&counter.to_be_bytes())?;
                to.write_all(&shows.to_be_bytes())?;
            }
            machine(to)
        })
    }

    fn restore(&mut self, snapshot: &mut dyn Read) -> io::Result<()> {
        io::copy(&mut snapshot.take(self.padding_bytes), &mut io::sink())?;
        self.counters.clear();
        for _ in 0..number(snapshot)? {
            let counter = number(snapshot)?;
            self.counters.insert(counter, number(snapshot)?);
        }
        self.machine.restore(snapshot)
    }
}

fn number(from: &mut dyn Read) -> io::Result<u64> {
    let mut bytes = [0; 8];
    from.read_exact(&mut bytes)?;
    Ok(u64::from_be_bytes(bytes))
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
