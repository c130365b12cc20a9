//! One group: the core, the state that its entries are applied to, and who waits for them.
//!
//! A committed proposal is answered from apply: its position leads to the request that waits for
//! it. Everything that the core resolves in one drain is read before anything is applied, so that
//! an answer never depends on the order of different outputs.
//!
//! While a snapshot takes its place the state is away: nothing is applied, nothing is proposed, and
//! no query sees half of it.

use std::panic::{AssertUnwindSafe, catch_unwind};

use bytes::Bytes;
use meshraft_consensus::{
    Change, ChangeStep, ClusterVersion, Configuration, Core, Entry, EntryKind, Event, Fate,
    Incarnation, Index, Input, Member, Moment, NodeId, Output, Position, ProposalId, ReadId,
    ReadLevel, Role, SnapshotMeta, Status, Term, WriteId,
};
use meshraft_service::{
    HaltReason as ApplyHalt, QueryError, Replicated, Sequence, ServiceError, SessionId,
    SnapshotWriter,
    envelope::Envelope,
    router::{self, RequestId},
};

use super::{
    due::Due,
    input::Output as ReplicaOutput,
    log_time::LogTime,
    retained::Retained,
    version::{Leading, Versions},
    waiting::{Pending, Waiting},
};
use crate::host::HaltReason;

/// The transfer that nobody waits for: no request has this number.
const HAND_OVER: ProposalId = ProposalId::new(u64::MAX);
/// The rise of the cluster version, for which nobody waits either.
const RAISE: ProposalId = ProposalId::new(u64::MAX - 1);

/// What a drain asks the replica to do.
pub(super) enum Effect {
    /// Pass it to the host.
    Out(ReplicaOutput),
    /// Pass it to the router.
    Route(router::Input),
    /// Write a snapshot.
    Take {
        /// What it stands for.
        meta: SnapshotMeta,
        /// The frozen state.
        writer: SnapshotWriter,
    },
    /// Restore the state from a recorded snapshot.
    Install {
        /// Which.
        meta: SnapshotMeta,
        /// The state that it replaces.
        state: Box<Replicated>,
    },
    /// Stop the group.
    Halt(HaltReason),
}

/// A group and its state.
pub(super) struct Group {
    core: Core,
    /// `None` while a snapshot takes its place, and if it is lost.
    state: Option<Box<Replicated>>,
    waiting: Waiting,
    log_time: LogTime,
    pub(super) versions: Versions,
    /// The version in force that was told last.
    told_version: ClusterVersion,
    fate_open: bool,
    led: bool,
    pub(super) due: Due,
    pub(super) retained: Retained,
}

impl Group {
    /// A group on a state that stands where its log begins; `None` if that is lost: it applies
    /// nothing, and answers nothing. `fate_open`: the host does not know the fate of the founder
    /// set yet.
    pub(super) fn new(
        core: Core,
        state: Option<Box<Replicated>>,
        fate_open: bool,
        due: Due,
        retained: Retained,
    ) -> Self {
        let mut log_time = LogTime::default();
        log_time.applied(state.as_ref().map_or(0, |state| state.log_time_ms()));
        Self {
            core,
            versions: Versions::default(),
            told_version: state.as_ref().map(|state| state.version()).unwrap_or_default(),
            state,
            waiting: Waiting::default(),
            log_time,
            fate_open,
            led: false,
            due,
            retained,
        }
    }

    /// The group goes on from a snapshot: its cluster lives.
    pub(super) fn lives(&mut self) -> Vec<Effect> {
        let mut effects = Vec::new();
        self.decided(Fate::Found, &mut effects);
        effects
    }

    /// The state, unless it is away.
    pub(super) fn into_state(self) -> Option<Box<Replicated>> {
        self.state
    }

    /// Takes the state out, for the time of a trial.
    pub(super) fn take_state(&mut self) -> Option<Box<Replicated>> {
        self.state.take()
    }

    /// Puts a state in that is what the one taken out was.
    pub(super) fn give_state(&mut self, state: Box<Replicated>) {
        self.state = Some(state);
    }

    pub(super) fn core(&self) -> &Core {
        &self.core
    }

    pub(super) fn status(&self) -> Status {
        self.core.status()
    }

    pub(super) fn replicated(&self) -> Option<&Replicated> {
        self.state.as_deref()
    }

    /// Whether the fate of a founder set is not known here yet.
    pub(super) fn is_founding(&self) -> bool {
        self.fate_open
    }

    /// Whether the state takes a command; a machine that panics takes none.
    pub(super) fn check(&self, command: &Envelope) -> Result<(), ServiceError> {
        // Soon the state is here again, and there is no better answer than to try then.
        let Some(state) = &self.state else { return Err(ServiceError::Overloaded) };
        catch_unwind(AssertUnwindSafe(|| state.check(command))).unwrap_or(Err(ServiceError::Halted))
    }

    /// What the state answers, and what it has applied. A query may panic as little as a command: a
    /// machine that does answers nothing more.
    pub(super) fn query(&self, query: &[u8]) -> Result<(Index, Bytes), QueryError> {
        let Some(state) = &self.state else { return Err(QueryError::Restoring) };
        let answer = catch_unwind(AssertUnwindSafe(|| state.query(query)));
        Ok((state.applied().index, answer.unwrap_or(Err(QueryError::Halted))?))
    }

    pub(super) fn deadline(&self) -> Option<Moment> {
        self.core.deadline().into_iter().chain(self.versions.deadline()).min()
    }

    /// Requests whose command was handed to the core and is not answered yet.
    pub(super) fn pending_proposals(&self) -> Vec<RequestId> {
        self.waiting.all()
    }

    /// Hands an input to the core as it is.
    pub(super) fn handle(&mut self, now: Moment, input: Input) {
        self.core.handle(now, input);
    }

    /// Writes up to this one are durable; which snapshots stay, if one of them recorded one.
    pub(super) fn persisted(&mut self, now: Moment, write: WriteId) -> Option<Vec<Position>> {
        self.core.handle(now, Input::Persisted(write));
        self.retained.persisted(write, now)
    }

    pub(super) fn read(&mut self, now: Moment, id: RequestId, level: ReadLevel) {
        self.core.handle(now, Input::Read { id: ReadId::new(id.get()), level });
    }

    /// Whether this member leads, and may propose: it has applied an entry of its own term, so that
    /// it knows the log's time.
    pub(super) fn is_ready(&self) -> bool {
        self.led_term().is_some()
    }

    fn led_term(&self) -> Option<Term> {
        let applied = self.state.as_ref()?.applied().term;
        let term = self.core.term();
        (self.core.is_ready() && applied == term).then_some(term)
    }

    /// The stamp of an entry proposed now.
    pub(super) fn log_time_ms(&self, now: Moment) -> u64 {
        self.log_time.stamp_ms(now)
    }

    pub(super) fn propose(
        &mut self,
        now: Moment,
        id: RequestId,
        (session, sequence): (SessionId, Sequence),
        command: Bytes,
    ) {
        let id = self.waiting.propose(id, Pending::Write(session, sequence));
        self.core.handle(now, Input::Propose { id, command });
    }

    pub(super) fn admit(&mut self, now: Moment, id: RequestId, member: Member) {
        let id = self.waiting.propose(id, Pending::Admit);
        let change = Change { steps: vec![ChangeStep::AddLearner(member)] };
        self.core.handle(now, Input::Change { id, change });
    }

    /// Why a node that supports no more than this may not join now, if so.
    pub(super) fn too_old(&self, supports: ClusterVersion) -> Option<ServiceError> {
        let state = self.state.as_ref()?;
        let in_force = self.versions.needed(self.core.term(), state.version());
        (supports < in_force).then_some(ServiceError::TooOld { supports, in_force })
    }

    /// Proposes the version that all members support, if that is more than what is in force.
    fn raise_version(&mut self, now: Moment) {
        self.versions.expire(now);
        let Some(state) = self.state.as_ref().filter(|it| it.version() < it.supports()) else {
            return;
        };
        let Some(term) = self.led_term() else { return };
        let leading = Leading {
            me: self.core.me(),
            supports: state.supports(),
            term,
            in_force: state.version(),
            configuration: self.core.configuration(),
            applied: state.configuration(),
        };
        if let Some(version) = self.versions.propose(now, leading) {
            let command = Envelope::ClusterVersion(version).encode();
            self.core.handle(now, Input::Propose { id: RAISE, command });
        }
    }

    /// The newest configuration in the log.
    pub(super) fn configuration(&self) -> &Configuration {
        self.core.configuration()
    }

    /// Takes a node out in every incarnation, all in one change. One that takes no part is left to
    /// the core to refuse: only it knows whether the configuration is settled.
    pub(super) fn remove(&mut self, now: Moment, id: RequestId, node: NodeId) {
        let id = self.waiting.propose(id, Pending::Remove);
        let members = self.core.configuration().members();
        let mut steps: Vec<_> =
            members.into_iter().filter(|it| it.node == node).map(ChangeStep::Remove).collect();
        if steps.is_empty() {
            steps.push(ChangeStep::Remove(Member::new(node, Incarnation::new([0; 16]))));
        }
        self.core.handle(now, Input::Change { id, change: Change { steps } });
    }

    /// Hands leadership over. To one without a vote is left to the core to refuse.
    pub(super) fn transfer(&mut self, now: Moment, id: RequestId, to: Option<NodeId>) {
        let id = self.waiting.propose(id, Pending::Transfer(self.core.me().node));
        let to = to.map(|node| {
            let mut voters = self.core.configuration().voters.iter();
            let voter = voters.find(|voter| voter.node == node).copied();
            voter.unwrap_or_else(|| Member::new(node, Incarnation::new([0; 16])))
        });
        self.core.handle(now, Input::Transfer { id, to });
    }

    /// The node ends: somebody else shall lead.
    pub(super) fn hand_over(&mut self, now: Moment) {
        if self.core.role() == Role::Leader {
            self.core.handle(now, Input::Transfer { id: HAND_OVER, to: None });
        }
    }

    /// Whether leadership is on its way, from here, to somebody who is not known to lead yet.
    pub(super) fn is_handing_over(&self) -> bool {
        self.core.is_handing_over()
    }

    /// Everything that the core wants after the inputs so far; `None` if it wants nothing.
    pub(super) fn drain(&mut self, now: Moment) -> Option<Vec<Effect>> {
        let mut effects = Vec::new();
        let mut entries = Vec::new();
        let mut install = None;
        let mut quiet = true;
        self.raise_version(now);
        while let Some(output) = self.core.poll() {
            quiet = false;
            match output {
                Output::Apply(batch) if entries.is_empty() => entries = batch,
                Output::Apply(batch) => entries.extend(batch),
                Output::InstallSnapshot(meta) => install = Some(*meta),
                Output::SendSnapshot { to, meta } => self.retained.pin(to, meta.position, now),
                Output::Resolve { id: RAISE, outcome } => self.versions.resolved(now, &outcome),
                other => self.translate(other, &mut effects),
            }
        }
        if quiet {
            return None;
        }
        self.note_role(&mut effects);
        if !entries.is_empty() {
            self.apply(now, entries, &mut effects);
            effects.extend(self.take_snapshot());
        }
        if let Some(meta) = install {
            self.install(meta, &mut effects);
        }
        self.log_time.lead(self.led_term(), now);
        Some(effects)
    }

    fn translate(&mut self, output: Output, effects: &mut Vec<Effect>) {
        let out = match output {
            Output::Send { to, lane, message } => ReplicaOutput::Send { to, lane, message },
            Output::Persist(write) => {
                self.retained.writing(&write);
                ReplicaOutput::Persist(write)
            }
            Output::Load { id, range, bytes_max } => ReplicaOutput::Load { id, range, bytes_max },
            Output::Resolve { id, outcome } => {
                let core = &self.core;
                let now = || (core.committed_configuration().0, core.configuration().members());
                let resolved = self.waiting.resolve(id, outcome, now);
                effects.extend(resolved.map(Effect::Route));
                return;
            }
            Output::ReadReady { id, index } => {
                let id = RequestId::new(id.get());
                effects.push(Effect::Route(router::Input::ReadIndex { id, result: Ok(index) }));
                return;
            }
            Output::ReadFailed { id, error } => {
                let id = RequestId::new(id.get());
                effects.push(Effect::Route(router::Input::ReadIndex { id, result: Err(error) }));
                return;
            }
            Output::Amnesia { acknowledged } => ReplicaOutput::Amnesia { acknowledged },
            Output::Departed { .. } => ReplicaOutput::Departed,
            Output::NeedFirstEntry { term } => {
                self.led = true;
                ReplicaOutput::Led { term }
            }
            Output::Observe(event) => {
                if matches!(
                    event,
                    Event::ConfigurationChanged { .. } | Event::ConfigurationRolledBack { .. }
                ) {
                    effects.push(Effect::Out(ReplicaOutput::Members));
                }
                if matches!(event, Event::Readmitted { .. }) {
                    effects.push(Effect::Out(ReplicaOutput::Returned));
                }
                ReplicaOutput::Observe(event)
            }
            Output::FetchSnapshot { from, meta } => {
                self.retained.fetching(meta.position);
                ReplicaOutput::FetchSnapshot { from, meta: *meta }
            }
            // The drain above takes these.
            Output::SendSnapshot { .. } | Output::InstallSnapshot(_) | Output::Apply(_) => return,
        };
        effects.push(Effect::Out(out));
    }

    fn note_role(&mut self, effects: &mut Vec<Effect>) {
        let leads = self.core.role() == Role::Leader;
        if self.led && !leads {
            self.led = false;
            effects.push(Effect::Out(ReplicaOutput::Deposed));
        }
    }

    fn apply(&mut self, now: Moment, entries: Vec<Entry>, effects: &mut Vec<Effect>) {
        if let Some(first) = entries.first().filter(|entry| entry.position.index.get() == 1) {
            // The core's own rule: only a configuration as entry 1 makes the cluster live.
            let found = first.kind == EntryKind::Configuration;
            self.decided(if found { Fate::Found } else { Fate::Abandon }, effects);
        }
        let state = self.state.as_mut().expect("nothing is handed out while the state is away");
        let bytes = entries.iter().map(Entry::cost_bytes).sum();
        self.due.applied(entries.len() as u64, bytes);
        let (applied, halt) = match catch_unwind(AssertUnwindSafe(|| state.apply(entries))) {
            Ok(Ok(applied)) => (applied, None),
            Ok(Err(halt)) => (halt.applied, Some(halted(halt.reason))),
            Err(_) => return effects.push(Effect::Halt(HaltReason::Panicked)),
        };
        self.log_time.applied(state.log_time_ms());
        let index = state.applied().index;
        effects.push(Effect::Route(router::Input::Applied(index)));
        self.tell_version(effects);
        for result in applied {
            effects.extend(self.waiting.applied(result).map(Effect::Route));
        }
        match halt {
            Some(reason) => effects.push(Effect::Halt(reason)),
            None => self.core.handle(now, Input::Applied { index, backlog_bytes: 0 }),
        }
    }

    fn tell_version(&mut self, effects: &mut Vec<Effect>) {
        let Some(version) = self.state.as_ref().map(|state| state.version()) else { return };
        if version != std::mem::replace(&mut self.told_version, version) {
            effects.push(Effect::Out(ReplicaOutput::Version(version)));
        }
    }

    /// Entry 1 says what became of the founder set.
    fn decided(&mut self, fate: Fate, effects: &mut Vec<Effect>) {
        if std::mem::take(&mut self.fate_open) {
            effects.push(Effect::Out(ReplicaOutput::Decided(fate)));
        }
    }

    /// Gives the state away, so that a snapshot takes its place.
    fn install(&mut self, meta: SnapshotMeta, effects: &mut Vec<Effect>) {
        let state = self.state.take().expect("one snapshot is installed at a time");
        effects.push(Effect::Install { meta, state });
    }

    /// The state is back, restored from a snapshot.
    pub(super) fn restored(
        &mut self,
        now: Moment,
        meta: SnapshotMeta,
        state: Box<Replicated>,
    ) -> Vec<Effect> {
        let mut effects = Vec::new();
        let state = self.state.insert(state);
        self.log_time.applied(state.log_time_ms());
        effects.push(Effect::Route(router::Input::Applied(state.applied().index)));
        effects.extend(self.waiting.overtaken(state).into_iter().map(Effect::Route));
        self.due.installed();
        self.tell_version(&mut effects);
        // Only of a cluster that lives is there a snapshot.
        self.decided(Fate::Found, &mut effects);
        self.core.handle(now, Input::SnapshotInstalled(Ok(meta)));
        effects
    }

    /// A frozen copy of the state, if one is due.
    pub(super) fn take_snapshot(&mut self) -> Option<Effect> {
        let wanted = self.due.is_due() && !self.fate_open && !self.core.status().founding;
        let state = self.state.as_ref().filter(|_| wanted)?;
        if Some(state.applied()) <= self.retained.recorded() {
            return None;
        }
        Some(match catch_unwind(AssertUnwindSafe(|| state.snapshot())) {
            Ok((meta, writer)) => {
                self.due.begin();
                self.retained.taking(meta.position);
                Effect::Take { meta, writer }
            }
            Err(_) => Effect::Halt(HaltReason::Panicked),
        })
    }
}

/// Why the state stopped, in the words of a node.
pub(super) const fn halted(reason: ApplyHalt) -> HaltReason {
    match reason {
        ApplyHalt::Configuration => HaltReason::UnknownConfiguration,
        ApplyHalt::ClusterVersion { needed, supports } => {
            HaltReason::ClusterVersion { needed, supports }
        }
        ApplyHalt::Responses { commands, responses } => {
            HaltReason::WrongResponses { commands, responses }
        }
        _ => HaltReason::UnknownCommand,
    }
}
