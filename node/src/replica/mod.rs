//! One namespace as a value: the core of its group, what its entries are applied to, and the
//! router of its requests, joined.
//!
//! Invariants:
//! 1. Only this module moves the core.
//! 2. Every request submitted is answered exactly once, whatever becomes of the group.
//! 3. What is accumulated by several inputs is drained together: 64 proposals make one write and
//!    one message a follower.
//! 4. A core runs only on a state that stands where its log begins: a recorded snapshot is restored
//!    first.
//!
//! Pure: no clock, no I/O, no async. The host drives it; it drives nothing.

mod due;
mod group;
mod input;
mod log_time;
mod pristine;
mod retained;
mod snapshots;
mod start;
mod version;
mod waiting;

use std::collections::VecDeque;

use meshraft_consensus::{
    ClusterVersion, Configuration, Core, Input as CoreInput, Member, Moment, NodeId, Position,
    ReadError, ReadLevel, RejectReason, Role, Status, Term,
};
use meshraft_service::{
    QueryError, Replicated, Router, ServiceError,
    envelope::{Envelope, USER_VERSION, UserCommand},
    router::{self, AdmitResult, ProposeResult, RemoveResult, RequestId, TransferResult},
    wire::Operation,
};

pub use self::{
    due::SnapshotThresholds,
    input::{Input, Output},
    start::ReplicaOptions,
};
use self::{
    group::{Effect, Group},
    start::{Plan, Starting},
};
use crate::host::HaltReason;

/// One namespace of a node.
pub struct Replica {
    router: Router,
    group: Option<Group>,
    /// A founder set's group without its state, while another one is on trial.
    aside: Option<Group>,
    /// Whether the cluster of the group is on trial.
    trial: bool,
    starting: Starting,
    told: LeaderView,
    outputs: VecDeque<Output>,
    now: Moment,
    /// The group stopped before it would have diverged, and does not start again.
    halted: bool,
}

/// What the router was last told of the leader.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct LeaderView {
    leader: Option<Member>,
    is_me: bool,
    ready: bool,
    term: Term,
}

impl Replica {
    /// A replica without a group.
    pub fn new(options: ReplicaOptions, router: Router, now: Moment) -> Self {
        Self {
            router,
            group: None,
            aside: None,
            trial: false,
            starting: Starting::new(options),
            told: LeaderView::default(),
            outputs: VecDeque::new(),
            now,
            halted: false,
        }
    }

    /// Takes one input. Cannot fail; outputs come by [`Replica::poll`] after [`Replica::drain`].
    pub fn handle(&mut self, now: Moment, input: Input) {
        self.now = now;
        match input {
            Input::Timeout => {
                self.router.handle(now, router::Input::Timeout);
                self.hand_in(CoreInput::Timeout);
            }
            Input::Start { config, restored, founding, vouched, trial } => {
                self.trial = trial;
                let (config, restored) = (*config, *restored);
                self.start(Plan { config, restored, founding, vouched });
            }
            Input::Entered => self.trial = false,
            Input::SetAside => self.set_aside(),
            Input::Resume => self.resume(),
            Input::DropAside => self.aside = None,
            Input::Stop => self.stop(),
            Input::Receive { from, message } => self.hand_in(CoreInput::Receive { from, message }),
            Input::PeerUp(member) => self.hand_in(CoreInput::PeerUp(member)),
            Input::PeerDown(member) => self.hand_in(CoreInput::PeerDown(member)),
            Input::LeaderSeen { leader, at } => self.hand_in(CoreInput::LeaderSeen { leader, at }),
            Input::Vouch { members } => self.hand_in(CoreInput::Vouch { members }),
            Input::Wake => self.hand_in(CoreInput::Wake),
            Input::Supports { member, supports } => {
                if let Some(group) = &mut self.group {
                    group.versions.told(member, supports);
                }
            }
            Input::Persisted(write) => self.persisted(write),
            Input::Loaded { id, result } => self.hand_in(CoreInput::Loaded { id, result }),
            Input::FirstEntry(fate) => self.hand_in(CoreInput::FirstEntry(fate)),
            Input::Campaign => self.hand_in(CoreInput::Campaign),
            Input::HandOver => {
                if let Some(group) = &mut self.group {
                    group.hand_over(now);
                }
            }
            Input::SnapshotTaken { meta, result } => self.snapshot_taken(meta, result),
            Input::SnapshotRestored { meta, state, result } => {
                self.snapshot_restored(meta, state, result);
            }
            Input::SnapshotFetched { position, result } => self.snapshot_fetched(position, result),
            Input::SnapshotProgress { peer, term, offset } => {
                self.snapshot_progress(peer, term, offset);
            }
            Input::SnapshotSent { peer, ok } => self.snapshot_sent(peer, ok),
            Input::Submit { id, hops, deadline, operation } => {
                self.submit(id, hops, deadline, operation);
            }
            Input::Replied { forward, result } => {
                self.router.handle(now, router::Input::Replied { forward, result });
            }
            Input::StoreFailed => self.halt(HaltReason::StoreFailed),
            Input::Close => self.close(),
        }
        self.route();
    }

    /// Lets the core say what it wants after all inputs so far, and acts on it.
    pub fn drain(&mut self) {
        while let Some(effects) = self.group.as_mut().and_then(|group| group.drain(self.now)) {
            self.act(effects);
            self.tell_leader();
            self.route();
        }
        self.tell_leader();
        self.route();
    }

    /// The next output.
    pub fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When [`Input::Timeout`] is due if nothing else happens first.
    pub fn deadline(&self) -> Option<Moment> {
        let group = self.group.as_ref().and_then(Group::deadline);
        self.router.deadline().into_iter().chain(group).min()
    }

    /// The group's core, if there is a group.
    pub fn status(&self) -> Option<Status> {
        self.group.as_ref().map(Group::status)
    }

    /// The group's core, if there is a group.
    pub(crate) fn core(&self) -> Option<&Core> {
        self.group.as_ref().map(Group::core)
    }

    /// The newest configuration in the group's log, if there is a group.
    pub fn configuration(&self) -> Option<&Configuration> {
        self.group.as_ref().map(Group::configuration)
    }

    /// The state that entries are applied to, if there is a group, and no snapshot is taking the
    /// state's place.
    pub fn replicated(&self) -> Option<&Replicated> {
        self.group.as_ref().and_then(Group::replicated)
    }

    /// The last entry that the newest recorded snapshot covers, if there is one.
    pub fn snapshot(&self) -> Option<Position> {
        self.group.as_ref().and_then(|group| group.retained.recorded())
    }

    /// Whether a group waits for its state to be restored from a snapshot before it begins.
    pub fn is_restoring(&self) -> bool {
        self.starting.is_restoring()
    }

    /// Whether leadership is on its way, from here, to somebody who is not known to lead yet.
    pub fn is_handing_over(&self) -> bool {
        self.group.as_ref().is_some_and(Group::is_handing_over)
    }

    /// The term of the group's core; zero without a group.
    pub fn term(&self) -> Term {
        self.group.as_ref().map_or(Term::ZERO, |group| group.core().term())
    }

    /// Whether the group is idle and sleeps.
    pub fn is_dormant(&self) -> bool {
        self.group.as_ref().is_some_and(|group| group.core().is_dormant())
    }

    /// For simulations: until when this member may serve reads as leader without asking anybody.
    #[doc(hidden)]
    pub fn lease_until(&self) -> Option<Moment> {
        self.group.as_ref().and_then(|group| group.core().lease_until())
    }

    /// For simulations: panics if the core breaks an invariant of its own.
    #[doc(hidden)]
    pub fn check_invariants(&self) {
        if let Some(group) = &self.group {
            group.core().check_invariants();
        }
    }

    fn hand_in(&mut self, input: CoreInput) {
        if let Some(group) = &mut self.group {
            group.handle(self.now, input);
        }
    }

    /// Told twice, the router answers everything: nothing here will go on.
    fn close(&mut self) {
        if let Some(group) = self.group.take() {
            self.fail_pending(&group);
        }
        self.aside = None;
        self.forget_start();
        self.router.handle(self.now, router::Input::Closing);
        self.router.handle(self.now, router::Input::Closing);
        self.route();
    }

    fn halt(&mut self, reason: HaltReason) {
        if !self.halted {
            self.halted = true;
            self.close();
            self.tell_leader();
            self.outputs.push_back(Output::Halted(reason));
        }
    }

    fn submit(&mut self, id: RequestId, hops: u8, deadline: Moment, operation: Operation) {
        let local = operation.is_local_read();
        let founding = match &self.group {
            Some(group) => group.is_founding() || self.trial,
            None => !self.starting.is_restoring(),
        };
        let error = if self.halted {
            Some(ServiceError::Halted)
        } else if local && founding {
            Some(ServiceError::Founding)
        } else {
            None
        };
        if let Some(error) = error {
            return self.outputs.push_back(Output::Answer { id, response: Err(error) });
        }
        let input = router::Input::Submit { id, hops, deadline, operation };
        self.router.handle(self.now, input);
    }

    /// Carries out what the router wants until it wants nothing.
    fn route(&mut self) {
        while let Some(output) = self.router.poll() {
            match output {
                router::Output::Propose { id, session, sequence, acked_below, payload } => {
                    let (version, log_time_ms) = (USER_VERSION, 0);
                    let command = UserCommand {
                        version,
                        session,
                        sequence,
                        acked_below,
                        log_time_ms,
                        payload,
                    };
                    self.propose(id, command);
                }
                router::Output::Read { id, level } => self.read(id, level),
                router::Output::Query { id, query } => self.query(id, &query),
                router::Output::Admit { id, member, supports } => {
                    self.admit(id, member, supports);
                }
                router::Output::Remove { id, node } => self.remove(id, node),
                router::Output::Transfer { id, to } => self.transfer(id, to),
                router::Output::Forward { forward, to, request, timeout } => {
                    self.outputs.push_back(Output::Forward { forward, to, request, timeout });
                }
                router::Output::Answer { id, response } => {
                    self.outputs.push_back(Output::Answer { id, response });
                }
            }
        }
    }

    /// Wraps a command and proposes it, if the state machine knows it.
    fn propose(&mut self, id: RequestId, mut command: UserCommand) {
        let now = self.now;
        let result = match &mut self.group {
            None => ProposeResult::Rejected(RejectReason::NotLeader { leader: None }),
            Some(group) => {
                command.log_time_ms = group.log_time_ms(now);
                let in_session = (command.session, command.sequence);
                let command = Envelope::User(command);
                match group.check(&command) {
                    Err(error) => ProposeResult::Refused(error),
                    Ok(()) => return group.propose(now, id, in_session, command.encode()),
                }
            }
        };
        self.router.handle(now, router::Input::Proposed { id, result });
    }

    fn read(&mut self, id: RequestId, level: ReadLevel) {
        match &mut self.group {
            Some(group) => group.read(self.now, id, level),
            None => {
                let result = Err(ReadError::NoLeader);
                self.router.handle(self.now, router::Input::ReadIndex { id, result });
            }
        }
    }

    fn query(&mut self, id: RequestId, query: &[u8]) {
        let result = match &self.group {
            Some(group) => group.query(query),
            None if self.starting.is_restoring() => Err(QueryError::Restoring),
            None => Err(QueryError::Halted),
        };
        self.router.handle(self.now, router::Input::Queried { id, result });
    }

    /// Only a leader that has applied everything before its own term knows what is in force.
    fn admit(&mut self, id: RequestId, member: Member, supports: ClusterVersion) {
        let result = match &mut self.group {
            Some(group) if !group.is_ready() => AdmitResult::Rejected(RejectReason::NotReady),
            Some(group) => match group.too_old(supports) {
                Some(error) => AdmitResult::Refused(error),
                None => return group.admit(self.now, id, member),
            },
            None => AdmitResult::Rejected(RejectReason::NotLeader { leader: None }),
        };
        self.router.handle(self.now, router::Input::AdmissionDone { id, result });
    }

    fn remove(&mut self, id: RequestId, node: NodeId) {
        match &mut self.group {
            Some(group) => group.remove(self.now, id, node),
            None => {
                let reason = RejectReason::NotLeader { leader: None };
                let result = RemoveResult::Rejected(reason);
                self.router.handle(self.now, router::Input::RemovalDone { id, result });
            }
        }
    }

    fn transfer(&mut self, id: RequestId, to: Option<NodeId>) {
        match &mut self.group {
            Some(group) => group.transfer(self.now, id, to),
            None => {
                let reason = RejectReason::NotLeader { leader: None };
                let result = TransferResult::Rejected(reason);
                self.router.handle(self.now, router::Input::TransferDone { id, result });
            }
        }
    }

    fn act(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Out(output) => self.outputs.push_back(output),
                Effect::Route(input) => self.router.handle(self.now, input),
                Effect::Take { meta, writer } => {
                    self.outputs.push_back(Output::TakeSnapshot { meta, writer });
                }
                Effect::Install { meta, state } => self.install(meta, state),
                Effect::Halt(reason) => return self.halt(reason),
            }
        }
    }

    /// Tells the router who leads, when that changed.
    fn tell_leader(&mut self) {
        let group = self.group.as_ref().filter(|_| !self.trial);
        let view = group.map_or_else(LeaderView::default, |group| {
            let core = group.core();
            LeaderView {
                leader: core.leader(),
                is_me: core.role() == Role::Leader,
                ready: group.is_ready(),
                term: core.term(),
            }
        });
        if view == self.told {
            return;
        }
        if view.leader != self.told.leader || view.term != self.told.term {
            self.outputs.push_back(Output::Leader { leader: view.leader, term: view.term });
        }
        self.told = view;
        let leader = view.leader.map(|member| member.node);
        let LeaderView { is_me, ready, term, .. } = view;
        self.router.handle(self.now, router::Input::Leader { leader, is_me, ready, term });
    }
}
