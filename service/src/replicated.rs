//! Decides what a committed entry does: sessions first, then the machine, then the applied index.
//!
//! Invariants:
//! 1. Entries are applied in order, each once; the applied position moves only past an entry that
//!    was understood and applied.
//! 2. A command that this build does not know halts the replica before it: to step over it would
//!    let the replicas diverge.
//! 3. The outcome does not depend on how entries were cut into batches.
//! 4. The cluster version in force never goes down, and never is one that this build does not
//!    support: the replica halts before the entry that says so.

use std::fmt;

use bytes::Bytes;
use meshraft_consensus::{
    ClusterVersion, Configuration, Entry, EntryKind, Index, Position, SnapshotMeta,
};

use crate::{
    codec::WireError,
    envelope::{Envelope, UserCommand, VERSION_LATEST},
    error::ServiceError,
    hash::StateHasher,
    machine::{CheckError, Command, QueryError, SnapshotWriter, StateMachine},
    session::{Kept, Sequence, SessionId, SessionLimits, Sessions, Verdict},
    snapshot::{self, Header, RestoreError},
};

/// What became of one command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// Where the entry stands that was applied just now. Whoever waits for it waits here.
    pub position: Position,
    /// Where the command took effect: an earlier entry, if this one repeats it.
    pub effective: Position,
    /// What the state machine answered when it did.
    pub response: Result<Bytes, ApplyError>,
}

/// Why a committed command has no response. It was not applied by this entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum ApplyError {
    /// Its session is not known and it is not the first of one.
    #[error("the session is not remembered")]
    SessionExpired,
    /// The caller had acknowledged its answer already.
    #[error("the answer was acknowledged already")]
    Forgotten,
    /// Its session has too many unacknowledged results.
    #[error("the session has too many unacknowledged results")]
    PipelineFull,
    /// An earlier entry applied it, and its response was too long to be kept.
    #[error("applied already; the response of {bytes} bytes is not kept")]
    ResponseDropped {
        /// How long the response was.
        bytes: u64,
    },
}

impl From<ApplyError> for ServiceError {
    fn from(error: ApplyError) -> Self {
        match error {
            ApplyError::SessionExpired => Self::SessionExpired { maybe: false },
            ApplyError::Forgotten => Self::OutcomeUnknown,
            ApplyError::PipelineFull => Self::Overloaded,
            ApplyError::ResponseDropped { bytes } => Self::ResponseDropped { bytes },
        }
    }
}

/// The replica stopped before `at`; it applies nothing any more.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("halted before {at}: {reason}")]
pub struct Halt {
    /// The entry that was not applied.
    pub at: Position,
    /// Why.
    #[source]
    pub reason: HaltReason,
    /// What the entries before it, of the same batch, became.
    pub applied: Vec<Applied>,
}

/// Why a replica stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HaltReason {
    /// An envelope that this build does not know.
    #[error("envelope: {0}")]
    Envelope(#[source] WireError),
    /// A command that the state machine does not know.
    #[error("command: {0}")]
    Command(#[source] CheckError),
    /// A configuration that this build does not know.
    #[error("the configuration is not known here")]
    Configuration,
    /// The state machine gave another number of responses than it got commands.
    #[error("{commands} commands got {responses} responses")]
    Responses {
        /// Commands given.
        commands: usize,
        /// Responses got.
        responses: usize,
    },
    /// A cluster version that this build does not support comes into force.
    #[error("cluster version {needed} comes into force, and {supports} is supported here")]
    ClusterVersion {
        /// The version that comes into force.
        needed: ClusterVersion,
        /// The newest version that is supported here.
        supports: ClusterVersion,
    },
    /// A snapshot could not be restored, so the state is not known any more.
    #[error("a snapshot could not be restored")]
    Restore,
}

/// Sessions and state machine of one namespace: what entries are applied to.
pub struct Replicated {
    machine: Box<dyn StateMachine>,
    sessions: Sessions,
    limits: SessionLimits,
    applied: Position,
    log_time_ms: u64,
    configuration: Configuration,
    configuration_index: Index,
    version: ClusterVersion,
    supports: ClusterVersion,
    halted: Option<(Position, HaltReason)>,
}

/// The entry before which a replica stops, and why.
type Stop = (Position, HaltReason);

/// Commands that the machine shall get in one call.
#[derive(Default)]
struct Run {
    commands: Vec<(Position, UserCommand)>,
    /// The last entry that was understood, whatever it was.
    last: Option<Position>,
}

impl Replicated {
    /// An empty state before the log, which supports all that this build does.
    pub fn new(machine: Box<dyn StateMachine>) -> Self {
        Self::with_limits(machine, SessionLimits::STANDARD)
    }

    /// The same, with another newest version of commands than this build's.
    #[must_use]
    pub fn supporting(mut self, supports: ClusterVersion) -> Self {
        self.supports = supports;
        self
    }

    pub(crate) fn with_limits(machine: Box<dyn StateMachine>, limits: SessionLimits) -> Self {
        Self {
            machine,
            sessions: Sessions::new(limits),
            limits,
            applied: Position::ZERO,
            log_time_ms: 0,
            configuration: Configuration::default(),
            configuration_index: Index::ZERO,
            version: ClusterVersion::BASELINE,
            supports: VERSION_LATEST,
            halted: None,
        }
    }

    /// Gives the machine back, for a group that ended before it took a command.
    pub fn into_machine(self) -> Box<dyn StateMachine> {
        self.machine
    }

    /// Whether the command may be proposed: the machine knows it, and every member of the cluster
    /// does. The driver asks before it proposes.
    ///
    /// # Errors
    /// What to answer the caller instead.
    pub fn check(&self, command: &Envelope) -> Result<(), ServiceError> {
        if self.halted.is_some() {
            return Err(ServiceError::Halted);
        }
        let mut needed = command.needs();
        if let Envelope::User(user) = command {
            self.machine.check(&user.payload)?;
            needed = needed.max(self.machine.needs(&user.payload));
        }
        if needed > self.version {
            return Err(ServiceError::NotInForce { needed, in_force: self.version });
        }
        Ok(())
    }

    /// Applies committed entries, which follow each other and the applied one, and returns what
    /// each command among them became.
    ///
    /// # Errors
    /// [`Halt`] before the first entry that this build does not understand; entries before it are
    /// applied. A halted replica applies nothing any more.
    ///
    /// # Panics
    /// If the entries are not the next ones: the driver's mistake, never a peer's.
    pub fn apply(&mut self, entries: Vec<Entry>) -> Result<Vec<Applied>, Halt> {
        let mut answers = Vec::with_capacity(entries.len());
        if let Some((at, reason)) = self.halted {
            return Err(Halt { at, reason, applied: answers });
        }
        let mut run = Run::default();
        let mut outcome = Ok(());
        for entry in entries {
            let before = run.last.unwrap_or(self.applied).index;
            assert_eq!(entry.position.index, before.next(), "entries are applied in order");
            outcome = self.take(entry, &mut run, &mut answers);
            if outcome.is_err() {
                break;
            }
        }
        match self.flush(&mut run, &mut answers).and(outcome) {
            Ok(()) => Ok(answers),
            Err((at, reason)) => {
                self.halted = Some((at, reason));
                Err(Halt { at, reason, applied: answers })
            }
        }
    }

    /// The last applied entry.
    pub const fn applied(&self) -> Position {
        self.applied
    }

    /// The log's own time, in milliseconds, after the last applied entry.
    pub const fn log_time_ms(&self) -> u64 {
        self.log_time_ms
    }

    /// The newest configuration among what is applied.
    pub const fn configuration(&self) -> &Configuration {
        &self.configuration
    }

    /// The cluster version in force after the last applied entry.
    pub const fn version(&self) -> ClusterVersion {
        self.version
    }

    /// The newest cluster version that is supported here.
    pub const fn supports(&self) -> ClusterVersion {
        self.supports
    }

    /// Why the replica stopped, and before which entry.
    pub const fn halted(&self) -> Option<(Position, HaltReason)> {
        self.halted
    }

    /// Whether applying or querying may block.
    pub fn blocks(&self) -> bool {
        self.machine.blocks()
    }

    /// Answers a query on the applied state.
    ///
    /// # Errors
    /// Says why the query can't be answered.
    pub fn query(&self, query: &[u8]) -> Result<Bytes, QueryError> {
        match self.halted {
            Some(_) => Err(QueryError::Halted),
            None => self.machine.query(query, self.applied.index),
        }
    }

    /// A hash of the applied state; equal on all replicas that applied the same entries. Costs a
    /// pass over the whole state.
    pub fn state_hash(&self) -> u64 {
        let mut hasher = self.header_hash();
        // Writing into a hash does not fail; a machine that fails anyway shows as a difference.
        if self.machine.snapshot()(&mut hasher).is_err() {
            hasher.update(b"failed");
        }
        hasher.finish()
    }

    /// A frozen copy of the state, which writes itself on a blocking task while applying goes on,
    /// and what it stands for.
    pub fn snapshot(&self) -> (SnapshotMeta, SnapshotWriter) {
        let (header, sessions) = (self.header(), self.sessions.frozen());
        let meta = header.meta.clone();
        let (hashed, written) = (self.machine.snapshot(), self.machine.snapshot());
        let writer: SnapshotWriter =
            Box::new(move |to| snapshot::write(to, &header, &sessions, hashed, written));
        (meta, writer)
    }

    /// What became of a command of a session, if that is remembered: where it took effect, and its
    /// response. For whoever waits for an entry that a restored snapshot has overtaken.
    pub fn remembered(
        &self,
        session: SessionId,
        sequence: Sequence,
    ) -> Option<(Position, Result<Bytes, ApplyError>)> {
        Some(told(self.sessions.kept(session, sequence)?.clone()))
    }

    /// Replaces the whole state by a snapshot, read up to its end, and checks its hash.
    ///
    /// # Errors
    /// The replica is then halted: its state is not known, and it serves nothing.
    pub fn restore(&mut self, from: &mut dyn std::io::Read) -> Result<SnapshotMeta, RestoreError> {
        let result = snapshot::read_head(from, self.limits).and_then(|head| {
            let (needed, supports) = (head.header.version, self.supports);
            if needed > supports {
                return Err(RestoreError::ClusterVersion { needed, supports });
            }
            self.sessions = head.sessions;
            self.applied = head.header.meta.position;
            self.log_time_ms = head.header.log_time_ms;
            self.configuration = head.header.meta.configuration.clone();
            self.configuration_index = head.header.meta.configuration_index;
            self.version = head.header.version;
            let hasher = self.header_hash();
            snapshot::read_machine(from, self.machine.as_mut(), hasher, head.hash)?;
            Ok(head.header.meta)
        });
        let reason = match result {
            Err(RestoreError::ClusterVersion { needed, supports }) => {
                HaltReason::ClusterVersion { needed, supports }
            }
            _ => HaltReason::Restore,
        };
        self.halted = result.is_err().then_some((self.applied, reason));
        result
    }

    fn header(&self) -> Header {
        let meta = SnapshotMeta {
            position: self.applied,
            configuration: self.configuration.clone(),
            configuration_index: self.configuration_index,
        };
        Header { meta, log_time_ms: self.log_time_ms, version: self.version }
    }

    fn header_hash(&self) -> StateHasher {
        let mut hasher = self.header().hash();
        self.sessions.hash(&mut hasher);
        hasher
    }

    /// Understands one entry and, unless it is a fresh command, answers it.
    fn take(
        &mut self,
        entry: Entry,
        run: &mut Run,
        answers: &mut Vec<Applied>,
    ) -> Result<(), Stop> {
        let position = entry.position;
        let stop = |reason| (position, reason);
        match entry.kind {
            EntryKind::Noop | EntryKind::Abandon => {}
            EntryKind::Configuration => {
                self.configuration = Configuration::decode(&entry.bytes)
                    .map_err(|_| stop(HaltReason::Configuration))?;
                self.configuration_index = position.index;
            }
            EntryKind::Command => {
                match Envelope::decode(&entry.bytes)
                    .map_err(|why| stop(HaltReason::Envelope(why)))?
                {
                    Envelope::User(user) => {
                        let known = self.machine.check(&user.payload);
                        known.map_err(|why| stop(HaltReason::Command(why)))?;
                        self.take_command(position, user, run, answers)?;
                    }
                    Envelope::ClusterVersion(version) => self.raise(version).map_err(stop)?,
                }
            }
        }
        run.last = Some(position);
        Ok(())
    }

    /// A version comes into force, unless a later one is.
    fn raise(&mut self, version: ClusterVersion) -> Result<(), HaltReason> {
        let (needed, supports) = (self.version.max(version), self.supports);
        if needed > supports {
            return Err(HaltReason::ClusterVersion { needed, supports });
        }
        self.version = needed;
        Ok(())
    }

    fn take_command(
        &mut self,
        position: Position,
        user: UserCommand,
        run: &mut Run,
        answers: &mut Vec<Applied>,
    ) -> Result<(), Stop> {
        let verdict = if user.session.is_none() {
            Verdict::Fresh
        } else {
            self.sessions.begin(user.session, user.sequence, user.acked_below, position.index)
        };
        if verdict == Verdict::Fresh {
            run.commands.push((position, user));
            return Ok(());
        }
        // Answers keep the order of the entries, and a repetition may repeat one of this run.
        self.flush(run, answers)?;
        let kept = match verdict {
            Verdict::Done(kept) => Ok(kept),
            Verdict::Expired => Err(ApplyError::SessionExpired),
            Verdict::Full => Err(ApplyError::PipelineFull),
            Verdict::Fresh | Verdict::Begun | Verdict::Forgotten => self
                .sessions
                .kept(user.session, user.sequence)
                .cloned()
                .ok_or(ApplyError::Forgotten),
        };
        let (effective, response) = match kept {
            Ok(kept) => told(kept),
            Err(error) => (position, Err(error)),
        };
        self.log_time_ms = self.log_time_ms.max(user.log_time_ms);
        answers.push(Applied { position, effective, response });
        Ok(())
    }

    /// Applies the commands of a run and moves the applied position.
    fn flush(&mut self, run: &mut Run, answers: &mut Vec<Applied>) -> Result<(), Stop> {
        let commands = core::mem::take(&mut run.commands);
        let durable = self.machine.durable_applied().unwrap_or(Index::ZERO);
        let skipped = commands.partition_point(|(position, _)| position.index <= durable);
        let (skipped, fresh) = commands.split_at(skipped);
        let mut log_time_ms = self.log_time_ms;
        let batch: Vec<Command<'_>> = fresh
            .iter()
            .map(|(position, user)| {
                log_time_ms = log_time_ms.max(user.log_time_ms);
                Command { position: *position, log_time_ms, payload: &user.payload }
            })
            .collect();
        let responses = if batch.is_empty() { Vec::new() } else { self.machine.apply(&batch) };
        if responses.len() != fresh.len() {
            let first = fresh.first().map_or(self.applied, |(position, _)| *position);
            let (commands, responses) = (fresh.len(), responses.len());
            return Err((first, HaltReason::Responses { commands, responses }));
        }
        for (position, user) in skipped {
            log_time_ms = log_time_ms.max(user.log_time_ms);
            self.sessions.finish(user.session, user.sequence, *position, None);
            let response = Err(ApplyError::ResponseDropped { bytes: 0 });
            answers.push(Applied { position: *position, effective: *position, response });
        }
        for ((position, user), response) in fresh.iter().zip(responses) {
            self.sessions.finish(user.session, user.sequence, *position, Some(&response));
            let (position, response) = (*position, Ok(response));
            answers.push(Applied { position, effective: position, response });
        }
        self.log_time_ms = log_time_ms;
        self.applied = run.last.unwrap_or(self.applied);
        Ok(())
    }
}

impl fmt::Debug for Replicated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Replicated")
            .field("applied", &self.applied)
            .field("log_time_ms", &self.log_time_ms)
            .field("version", &self.version)
            .field("halted", &self.halted)
            .finish_non_exhaustive()
    }
}

/// What is kept of a command, in the words of an answer.
fn told(kept: Kept) -> (Position, Result<Bytes, ApplyError>) {
    match kept {
        Kept::Response { position, response } => (position, Ok(response)),
        Kept::Dropped { position, bytes } => (position, Err(ApplyError::ResponseDropped { bytes })),
    }
}
