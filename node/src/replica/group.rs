//! One group: the core, the state that its entries are applied to, and who waits for them.
//!
//! A committed proposal is answered from apply: its position leads to the request that waits for
//! it. Everything that the core resolves in one drain is read before anything is applied, so that
//! an answer never depends on the order of different outputs.

use std::{
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
};

use bytes::Bytes;
use meshraft_consensus::{
    Change, ChangeStep, Core, Entry, EntryKind, Event, Fate, Incarnation, Index, Input, LoadError,
    LoadId, Member, Message, Moment, NodeId, Outcome, Output, Position, ProposalId, ReadId,
    ReadLevel, RejectReason, Role, Status, WriteId,
};
use meshraft_service::{
    Applied, HaltReason as ApplyHalt, QueryError, Replicated, ServiceError, StateMachine,
    router::{self, AdmitResult, ProposeResult, RemoveResult, RequestId},
};

use super::{input::Output as ReplicaOutput, log_time::LogTime, standing::Standing};
use crate::host::HaltReason;

/// What a drain asks the replica to do.
#[derive(Debug)]
pub(super) enum Effect {
    /// Pass it to the host.
    Out(ReplicaOutput),
    /// Pass it to the router.
    Route(router::Input),
    /// Stop the group.
    Halt(HaltReason),
}

/// What a request waits for in the core.
#[derive(Clone, Copy, Debug)]
enum Pending {
    Write,
    Admit,
    Remove,
}

/// A group and its state.
pub(super) struct Group {
    core: Core,
    state: Replicated,
    pending: BTreeMap<ProposalId, Pending>,
    waiting: BTreeMap<Index, (Position, RequestId)>,
    log_time: LogTime,
    standing: Standing,
    fate_open: bool,
    led: bool,
}

impl Group {
    /// `fate_open`: the host does not know the fate of the founder set yet.
    pub(super) fn new(core: Core, machine: Box<dyn StateMachine>, fate_open: bool) -> Self {
        Self {
            core,
            state: Replicated::new(machine),
            pending: BTreeMap::new(),
            waiting: BTreeMap::new(),
            log_time: LogTime::default(),
            standing: Standing::default(),
            fate_open,
            led: false,
        }
    }

    pub(super) fn into_machine(self) -> Box<dyn StateMachine> {
        self.state.into_machine()
    }

    pub(super) fn core(&self) -> &Core {
        &self.core
    }

    pub(super) fn status(&self) -> Status {
        self.core.status()
    }

    pub(super) fn replicated(&self) -> &Replicated {
        &self.state
    }

    /// Whether the fate of a founder set is not known here yet.
    pub(super) fn is_founding(&self) -> bool {
        self.fate_open
    }

    /// Whether the machine takes a command; one that panics takes none.
    pub(super) fn check(&self, payload: &[u8]) -> Result<(), ServiceError> {
        catch_unwind(AssertUnwindSafe(|| self.state.check(payload)))
            .unwrap_or(Err(ServiceError::Halted))
    }

    /// A query may panic as little as a command: a machine that does answers nothing more.
    pub(super) fn query(&self, query: &[u8]) -> Result<Bytes, QueryError> {
        catch_unwind(AssertUnwindSafe(|| self.state.query(query)))
            .unwrap_or(Err(QueryError::Halted))
    }

    pub(super) fn deadline(&self) -> Option<Moment> {
        self.core.deadline()
    }

    /// Requests whose command was handed to the core and is not answered yet.
    pub(super) fn pending_proposals(&self) -> Vec<RequestId> {
        let proposed = self.pending.keys().map(|id| RequestId::new(id.get()));
        proposed.chain(self.waiting.values().map(|(_, id)| *id)).collect()
    }

    pub(super) fn timeout(&mut self, now: Moment) {
        self.core.handle(now, Input::Timeout);
    }

    pub(super) fn receive(&mut self, now: Moment, from: Member, message: Message) {
        self.core.handle(now, Input::Receive { from, message });
    }

    pub(super) fn peer(&mut self, now: Moment, member: Member, up: bool) {
        let input = if up { Input::PeerUp(member) } else { Input::PeerDown(member) };
        self.core.handle(now, input);
    }

    pub(super) fn persisted(&mut self, now: Moment, write: WriteId) {
        self.core.handle(now, Input::Persisted(write));
    }

    pub(super) fn loaded(
        &mut self,
        now: Moment,
        id: LoadId,
        result: Result<Vec<Entry>, LoadError>,
    ) {
        self.core.handle(now, Input::Loaded { id, result });
    }

    pub(super) fn first_entry(&mut self, now: Moment, fate: Fate) {
        self.core.handle(now, Input::FirstEntry(fate));
    }

    pub(super) fn campaign(&mut self, now: Moment) {
        self.core.handle(now, Input::Campaign);
    }

    pub(super) fn read(&mut self, now: Moment, id: RequestId, level: ReadLevel) {
        self.core.handle(now, Input::Read { id: ReadId::new(id.get()), level });
    }

    /// The stamp of an entry proposed now.
    pub(super) fn log_time_ms(&self, now: Moment) -> u64 {
        self.log_time.stamp_ms(now)
    }

    pub(super) fn propose(&mut self, now: Moment, id: RequestId, command: Bytes) {
        let id = ProposalId::new(id.get());
        self.pending.insert(id, Pending::Write);
        self.core.handle(now, Input::Propose { id, command });
    }

    pub(super) fn admit(&mut self, now: Moment, id: RequestId, member: Member) {
        let id = ProposalId::new(id.get());
        self.pending.insert(id, Pending::Admit);
        let change = Change { steps: vec![ChangeStep::AddLearner(member)] };
        self.core.handle(now, Input::Change { id, change });
    }

    /// Takes a node out in every incarnation, all in one change. One that takes no part is left to
    /// the core to refuse: only it knows whether the configuration is settled.
    pub(super) fn remove(&mut self, now: Moment, id: RequestId, node: NodeId) {
        let id = ProposalId::new(id.get());
        self.pending.insert(id, Pending::Remove);
        let members = self.core.configuration().members();
        let mut steps: Vec<_> =
            members.into_iter().filter(|it| it.node == node).map(ChangeStep::Remove).collect();
        if steps.is_empty() {
            steps.push(ChangeStep::Remove(Member::new(node, Incarnation::new([0; 16]))));
        }
        self.core.handle(now, Input::Change { id, change: Change { steps } });
    }

    /// Everything that the core wants after the inputs so far; `None` if it wants nothing.
    pub(super) fn drain(&mut self, now: Moment) -> Option<Vec<Effect>> {
        let mut effects = Vec::new();
        let mut entries = Vec::new();
        let mut quiet = true;
        while let Some(output) = self.core.poll() {
            quiet = false;
            match output {
                Output::Apply(batch) if entries.is_empty() => entries = batch,
                Output::Apply(batch) => entries.extend(batch),
                other => self.translate(other, &mut effects),
            }
        }
        if quiet {
            return None;
        }
        let member = self.core.configuration().contains(&self.core.me());
        if self.standing.returned(member, self.core.commit()) {
            effects.push(Effect::Out(ReplicaOutput::Returned));
        }
        self.note_role(now, &mut effects);
        if !entries.is_empty() {
            self.apply(now, entries, &mut effects);
        }
        Some(effects)
    }

    fn translate(&mut self, output: Output, effects: &mut Vec<Effect>) {
        let out = match output {
            Output::Send { to, lane, message } => ReplicaOutput::Send { to, lane, message },
            Output::Persist(write) => ReplicaOutput::Persist(write),
            Output::Load { id, range, bytes_max } => ReplicaOutput::Load { id, range, bytes_max },
            Output::Resolve { id, outcome } => {
                effects.extend(self.resolve(id, outcome).map(Effect::Route));
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
            Output::Departed { index } => {
                self.standing.departed(index);
                ReplicaOutput::Departed
            }
            Output::NeedFirstEntry { term } => {
                self.led = true;
                ReplicaOutput::Led { term }
            }
            Output::Observe(event) => {
                if matches!(
                    event,
                    Event::ConfigurationChanged { .. } | Event::ConfigurationRolledBack { .. }
                ) {
                    self.standing.observe(&event);
                    effects.push(Effect::Out(ReplicaOutput::Members));
                }
                ReplicaOutput::Observe(event)
            }
            // A core of this build takes no snapshots, so it neither sends nor installs one; the
            // drain above takes `Apply`.
            Output::SendSnapshot { .. }
            | Output::FetchSnapshot { .. }
            | Output::InstallSnapshot(_)
            | Output::Apply(_) => return,
        };
        effects.push(Effect::Out(out));
    }

    fn resolve(&mut self, id: ProposalId, outcome: Outcome) -> Option<router::Input> {
        let pending = self.pending.remove(&id)?;
        let id = RequestId::new(id.get());
        match (pending, outcome) {
            (Pending::Write, Outcome::Committed(position)) => {
                self.waiting.insert(position.index, (position, id));
                None
            }
            (Pending::Write, Outcome::Rejected(reason)) => {
                Some(router::Input::Proposed { id, result: ProposeResult::Rejected(reason) })
            }
            (Pending::Write, Outcome::Unknown) => {
                Some(router::Input::Proposed { id, result: ProposeResult::Unknown })
            }
            // Asking again for what is so already is how a lost answer is repeated.
            (
                Pending::Admit,
                Outcome::Committed(_) | Outcome::Rejected(RejectReason::AlreadyDone { .. }),
            ) => {
                let members = self.core.configuration().members().into_iter().collect();
                Some(router::Input::AdmissionDone { id, result: AdmitResult::Admitted(members) })
            }
            (Pending::Admit, Outcome::Rejected(reason)) => {
                Some(router::Input::AdmissionDone { id, result: AdmitResult::Rejected(reason) })
            }
            (Pending::Admit, Outcome::Unknown) => {
                Some(router::Input::AdmissionDone { id, result: AdmitResult::Unknown })
            }
            (Pending::Remove, outcome) => {
                let result = match outcome {
                    Outcome::Committed(_) => {
                        let members = self.core.configuration().members();
                        RemoveResult::Removed(members.into_iter().collect())
                    }
                    Outcome::Rejected(RejectReason::NoSuchMember { .. }) => RemoveResult::Absent,
                    Outcome::Rejected(reason) => RemoveResult::Rejected(reason),
                    Outcome::Unknown => RemoveResult::Unknown,
                };
                Some(router::Input::RemovalDone { id, result })
            }
        }
    }

    fn note_role(&mut self, now: Moment, effects: &mut Vec<Effect>) {
        let leads = self.core.role() == Role::Leader;
        self.log_time.lead(leads, now);
        if self.led && !leads {
            self.led = false;
            effects.push(Effect::Out(ReplicaOutput::Deposed));
        }
    }

    fn apply(&mut self, now: Moment, entries: Vec<Entry>, effects: &mut Vec<Effect>) {
        if self.fate_open
            && let Some(first) = entries.first().filter(|entry| entry.position.index.get() == 1)
        {
            self.fate_open = false;
            // The core's own rule: only a configuration as entry 1 makes the cluster live.
            let found = first.kind == EntryKind::Configuration;
            let fate = if found { Fate::Found } else { Fate::Abandon };
            effects.push(Effect::Out(ReplicaOutput::Decided(fate)));
        }
        let state = &mut self.state;
        let (applied, halt) = match catch_unwind(AssertUnwindSafe(|| state.apply(entries))) {
            Ok(Ok(applied)) => (applied, None),
            Ok(Err(halt)) => (halt.applied, Some(halted(halt.reason))),
            Err(_) => return effects.push(Effect::Halt(HaltReason::Panicked)),
        };
        self.log_time.applied(self.state.log_time_ms());
        let index = self.state.applied().index;
        effects.push(Effect::Route(router::Input::Applied(index)));
        for result in applied {
            effects.extend(self.answer(result).map(Effect::Route));
        }
        match halt {
            Some(reason) => effects.push(Effect::Halt(reason)),
            None => self.core.handle(now, Input::Applied { index, backlog_bytes: 0 }),
        }
    }

    fn answer(&mut self, applied: Applied) -> Option<router::Input> {
        let (position, id) = self.waiting.remove(&applied.position.index)?;
        assert_eq!(position, applied.position, "another entry was applied than committed");
        let Applied { effective, response, .. } = applied;
        let result = ProposeResult::Applied { position: effective, response };
        Some(router::Input::Proposed { id, result })
    }
}

/// Why the state stopped, in the words of a node.
const fn halted(reason: ApplyHalt) -> HaltReason {
    match reason {
        ApplyHalt::Configuration => HaltReason::UnknownConfiguration,
        ApplyHalt::Responses { commands, responses } => {
            HaltReason::WrongResponses { commands, responses }
        }
        _ => HaltReason::UnknownCommand,
    }
}
