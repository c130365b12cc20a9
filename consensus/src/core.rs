//! The core: takes inputs, hands out outputs, and says when it wants to be woken. Dispatch only;
//! what is decided is decided in the modules beside this one.
//!
//! Writes, requests and rounds of reads are built when the driver drains, from everything that it
//! handed in since: many proposals become one write and one request a follower.

use alloc::{boxed::Box, collections::VecDeque};

use crate::{
    apply::ApplyWindow,
    config::Config,
    damage::Damage,
    durability::{ChangeDue, Durability},
    entry::{HardState, LogAfterSnapshot, LogChange, Restored, SnapshotWrite, Write},
    event::{DropReason, Event, Role},
    founding::Founding,
    identity::{ClusterId, Member},
    input::{Input, ReadLevel},
    load::Loads,
    log::Log,
    membership::{Configuration, Departure, History, Vouched},
    message::Message,
    output::{Lane, Output},
    random::Random,
    role::{Follower, RoleState},
    snapshot::{self, Snapshots},
    term_rise::TermRise,
    transfer::Handover,
    types::{Index, Moment, Term, WriteId},
};

/// One member of one group: a value, moved by [`Core::handle`] alone.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Core {
    pub(crate) config: Config,
    pub(crate) me: Member,
    pub(crate) cluster: ClusterId,
    pub(crate) random: Random,
    pub(crate) now: Moment,
    pub(crate) hard: HardState,
    pub(crate) durability: Durability,
    pub(crate) log: Log,
    pub(crate) commit: Index,
    pub(crate) membership: History,
    pub(crate) departure: Departure,
    /// Whom it hears besides the members of its configurations.
    pub(crate) vouched: Vouched,
    /// Counts the changes of whom it hears that are none of a configuration.
    pub(crate) known_changes: u64,
    /// Whom it heard last, and under which version of what it knows: looked up before each message.
    pub(crate) heard_before: Option<(Member, u64)>,
    pub(crate) term_rise: TermRise,
    pub(crate) founding: Founding,
    pub(crate) damage: Option<Damage>,
    pub(crate) role: RoleState,
    pub(crate) apply: ApplyWindow,
    pub(crate) snapshots: Snapshots,
    pub(crate) loads: Loads,
    pub(crate) read_number: u64,
    /// When a leader was heard last, of whatever term: votes are refused for an election time-out
    /// after.
    pub(crate) heard: Option<Moment>,
    /// Leadership that this member gave up, for a successor that is not known to lead yet.
    pub(crate) handed: Option<Handover>,
    pub(crate) outputs: VecDeque<Output>,
    /// It lost what it acknowledged, and acts no more.
    pub(crate) retired: bool,
    drained: bool,
    told: (Role, Option<Member>),
}

impl Core {
    /// A core that goes on from what its store restored. The seed of `config` must be drawn anew
    /// at every start.
    pub fn new(config: Config, restored: Restored, now: Moment) -> Self {
        let salt = restored.me.node.as_bytes().iter().chain(restored.me.incarnation.as_bytes());
        let started = now.as_nanos().to_be_bytes();
        let mut random = Random::new(config.knobs().seed, salt.copied().chain(started));
        let configuration = restored_configuration(&restored);
        let base = snapshot::restored_base(&restored);
        let log = Log::restore(base, &restored.terms, restored.last);
        let snapshots = Snapshots::restore(restored.snapshot);
        let last = log.last();
        // A store may know of terms in its log that its hard state was not told of.
        let term = restored.hard.term.max(last.term);
        let vote = restored.hard.vote.filter(|_| term == restored.hard.term);
        let commit = restored.hard.commit_hint.min(last.index).max(snapshots.newest());
        let mut membership = History::restore(restored.me, configuration, restored.configurations);
        let founding = match restored.founding {
            // A snapshot is taken only of a cluster that lives.
            Some(_) if snapshots.newest() == Index::ZERO => Founding::Open,
            Some(_) | None => Founding::Lives,
        };
        let knobs = config.knobs();
        let deference = knobs.election / 2 * u32::from(knobs.election_rank);
        let first_election = knobs.election + random.below(knobs.election) + deference;
        let follower = Follower::started(now.plus(first_election));
        let mut core = Self {
            me: restored.me,
            cluster: restored.cluster,
            now,
            hard: HardState { term, vote, commit_hint: commit },
            durability: Durability::restore(last.index),
            log,
            commit,
            founding,
            damage: restored.damage.map(|range| Damage::restore(range, last.index, now)),
            role: RoleState::Follower(follower),
            apply: ApplyWindow::restore(snapshots.newest()),
            snapshots,
            loads: Loads::default(),
            read_number: random.next() >> 16,
            heard: None,
            handed: None,
            outputs: VecDeque::new(),
            departure: Departure::default(),
            vouched: Vouched::default(),
            known_changes: 0,
            heard_before: None,
            term_rise: TermRise::default(),
            retired: false,
            drained: false,
            told: (Role::Follower, None),
            membership: {
                membership.truncate_from(last.index.next());
                membership
            },
            config,
            random,
        };
        core.settle_founding();
        core.configurations_restored();
        core.begin();
        core
    }

    fn begin(&mut self) {
        self.damage_restored();
        // A single voter has nobody to wait for; but until that it is the only one is committed, a
        // leader that leaves it behind may still lead, and hold a lease.
        let alone = self.membership.current().voters.iter().eq([&self.me])
            && !self.membership.current().is_joint()
            && self.membership.index() <= self.commit;
        if let RoleState::Follower(follower) = &mut self.role
            && alone
        {
            follower.election_due = self.now;
        } else if self.config.knobs().lease_drift_permille.is_some() && self.hard.term > Term::ZERO
        {
            // A lease may rest on the word of this member's last run: whoever answered a leader has
            // its term on disk, though perhaps no entry yet.
            self.heard = Some(self.now);
        }
        self.told = (self.role(), None);
    }

    /// Takes one input at a moment. Cannot fail: bad input is observed and dropped, errors of
    /// clients travel in [`Output::Resolve`] and [`Output::ReadFailed`]. A moment before an
    /// earlier one counts as that one.
    pub fn handle(&mut self, now: Moment, input: Input) {
        self.now = self.now.max(now);
        self.drained = false;
        if self.retired {
            return self.refuse(input);
        }
        if !self.is_heard(&input) {
            return;
        }
        self.stir(&input);
        match input {
            Input::Timeout => self.timeout(),
            Input::Receive { from, message } => self.receive(from, message),
            Input::Propose { id, command } => self.propose(id, command),
            Input::FirstEntry(fate) => self.first_entry(fate),
            Input::Change { id, change } => self.change(id, &change),
            Input::Read { id, level } => self.read(id, level),
            Input::Transfer { id, to } => self.transfer(id, to),
            Input::Campaign => self.campaign(),
            Input::Persisted(write) => self.persisted(write),
            Input::Applied { index, backlog_bytes } => self.applied(index, backlog_bytes),
            Input::Loaded { id, result } => self.loaded(id, result),
            Input::SnapshotTaken(meta) => self.snapshot_taken(meta),
            Input::SnapshotProgress { peer, term, offset } => {
                self.snapshot_progress(peer, term, offset);
            }
            Input::SnapshotSent { peer, ok } => self.snapshot_sent(peer, ok),
            Input::SnapshotFetched { position, result } => self.snapshot_fetched(position, &result),
            Input::SnapshotInstalled(result) => self.snapshot_installed(result),
            Input::PeerDown(peer) => {
                self.note_peer(peer, false);
                self.peer_changed(peer, false);
            }
            Input::PeerUp(peer) => {
                self.note_peer(peer, true);
                self.peer_changed(peer, true);
            }
            Input::LeaderSeen { leader, at } => self.leader_seen(leader, at),
            Input::Vouch { members } => self.vouch(members),
            // Whom it concerns woke before.
            Input::Wake => {}
        }
        self.tell();
    }

    /// The next output; drain until `None` after one or several inputs. Order matters within one
    /// variant, never across variants.
    pub fn poll(&mut self) -> Option<Output> {
        if self.outputs.is_empty() && !self.drained && !self.retired {
            self.drained = true;
            self.start_reads();
            self.replicate();
            self.write();
            self.hand_out();
            let (tail, written) = (self.config.knobs().tail_bytes_max, self.durability.written());
            self.log.evict(tail, written);
        }
        self.outputs.pop_front()
    }

    /// When to send [`Input::Timeout`] if nothing else happens first.
    pub fn deadline(&self) -> Option<Moment> {
        if self.retired {
            return None;
        }
        let handed = self.handed.as_ref().map(|handed| handed.until);
        let repair = self.damage.as_ref().and_then(|damage| damage.ask_due);
        [self.role.deadline(), self.apply.due(), handed, repair].into_iter().flatten().min()
    }

    /// Who this core is.
    pub const fn me(&self) -> Member {
        self.me
    }

    /// The group that it belongs to.
    pub const fn cluster(&self) -> ClusterId {
        self.cluster
    }

    /// The latest term that it has seen.
    pub const fn term(&self) -> Term {
        self.hard.term
    }

    /// Known to be committed.
    pub const fn commit(&self) -> Index {
        self.commit
    }

    /// Whether it leads and has committed an entry of its own term.
    pub fn is_ready(&self) -> bool {
        matches!(&self.role, RoleState::Leader(leader) if leader.ready)
    }

    /// Whether leadership is on its way, from here, to a member that is not known to lead yet.
    pub fn is_handing_over(&self) -> bool {
        let leads = matches!(&self.role, RoleState::Leader(leader) if leader.handover.is_some());
        leads || self.handed.is_some()
    }

    /// The configuration in force.
    pub fn configuration(&self) -> &Configuration {
        self.membership.current()
    }

    fn timeout(&mut self) {
        self.retry_apply();
        self.handover_due();
        self.repair_due();
        match &self.role {
            RoleState::Follower(follower) => {
                let (election_due, asleep) = (follower.election_due, follower.asleep);
                self.forwarded_reads_due();
                if election_due <= self.now && !asleep {
                    self.election_timed_out();
                }
            }
            RoleState::Candidate(_) => self.candidacy_timed_out(),
            RoleState::Leader(_) => self.heartbeat_due(),
        }
    }

    fn receive(&mut self, from: Member, message: Message) {
        let (term, before) = (message.term(), self.hard.term);
        if !self.term_rise.allows(self.now, before, term) {
            return self.drop_message(from, DropReason::Impossible);
        }
        self.dispatch(from, message);
        if self.hard.term > before {
            self.term_rise.raised(self.now, self.hard.term.get() - before.get());
        }
    }

    fn dispatch(&mut self, from: Member, message: Message) {
        let term = message.term();
        if self.is_forgotten() {
            return self.receive_forgotten(from, message);
        }
        match message {
            Message::AppendRequest(request) => self.append_request(from, request),
            Message::Heartbeat(heartbeat) => self.heartbeat(from, heartbeat),
            Message::VoteRequest(request) => self.vote_request(from, request),
            Message::SnapshotOffer(offer) => self.snapshot_offer(from, offer),
            Message::Amnesia(message) => self.amnesia(from, message),
            Message::Dismissed(message) => self.dismissed(from, message),
            Message::TimeoutNow(message) => self.timeout_now(from, message),
            Message::Quiesce(message) => self.quiesce(from, message),
            Message::Committed(message) => self.committed(from, message),
            Message::AppendResponse(_)
            | Message::HeartbeatResponse(_)
            | Message::VoteResponse(_)
            | Message::SnapshotResponse(_)
            | Message::ReadRequest(_)
            | Message::LeaseRequest(_)
            | Message::ReadResponse(_)
            | Message::RepairRequest(_)
            | Message::RepairResponse(_) => self.receive_from_peer(from, term, message),
        }
    }

    /// Messages that any member may send: a higher term ends this one's role, but a leader is not
    /// deposed by those it has removed.
    fn receive_from_peer(&mut self, from: Member, term: Term, message: Message) {
        if !self.check_follower(from) {
            return;
        }
        if term > self.hard.term {
            self.become_follower(term, None);
        }
        match message {
            Message::AppendResponse(response) => self.append_response(from, response),
            Message::HeartbeatResponse(response) => self.heartbeat_response(from, response),
            Message::VoteResponse(response) => self.vote_response(from, response),
            Message::SnapshotResponse(response) => self.snapshot_response(from, response),
            Message::ReadRequest(request) => {
                self.read_request(from, request, ReadLevel::Linearizable);
            }
            Message::LeaseRequest(request) => self.read_request(from, request, ReadLevel::Lease),
            Message::ReadResponse(response) => self.read_response(from, response),
            Message::RepairRequest(request) => self.repair_request(from, request),
            Message::RepairResponse(response) => self.repair_response(from, response),
            _ => {}
        }
    }

    fn persisted(&mut self, write: WriteId) {
        if !self.durability.acknowledge(write, self.now) {
            return;
        }
        let free_bytes = self.free_bytes();
        while let Some(mut output) = self.durability.release() {
            // What was free when the answer was made ready is out of date.
            if let Output::Send { message: Message::AppendResponse(response), .. } = &mut output {
                response.free_bytes = free_bytes;
            }
            self.outputs.push_back(output);
        }
        self.snapshot_recorded();
        self.repair_recorded();
        self.count_own_vote();
        self.advance_commit();
    }

    /// Closes the write that has gathered.
    fn write(&mut self) {
        if self.is_forgotten() {
            return;
        }
        let last = self.log.last().index;
        let Some(due) = self.durability.take(last, self.now) else { return };
        let append = self.log.slice(due.append_from, last, u64::MAX);
        assert!(
            append.len() as u64 == last.distance_from(due.append_from.previous()),
            "what is to be written is in memory"
        );
        let hinted = self.hard.commit_hint;
        self.hard.commit_hint = self.commit;
        let hard = (due.hard || hinted != self.commit).then_some(self.hard);
        let change = due.change.map(|change| self.log_change(*change));
        self.outputs.push_back(Output::Persist(Write { id: due.id, hard, change, append }));
    }

    fn log_change(&self, due: ChangeDue) -> Box<LogChange> {
        let ChangeDue { snapshot, repair, truncate_from } = due;
        let keep_from = self.log.base().index.next();
        let snapshot = snapshot.map(|due| SnapshotWrite {
            meta: due.meta,
            log: match due.replaces {
                true => LogAfterSnapshot::Replace,
                false => LogAfterSnapshot::KeepFrom(keep_from),
            },
        });
        Box::new(LogChange { snapshot, repair, truncate_from })
    }

    /// Sends a message, no sooner than its term is durable: no peer ever sees a term go back.
    pub(crate) fn send(&mut self, to: Member, lane: Lane, message: Message) {
        self.send_after(WriteId::ZERO, to, lane, message);
    }

    /// Sends a message once this write, and the term, are durable.
    pub(crate) fn send_after(&mut self, write: WriteId, to: Member, lane: Lane, message: Message) {
        let write = write.max(self.durability.hard());
        self.output_after(write, Output::Send { to, lane, message });
    }

    /// Hands out an output once this write is durable.
    pub(crate) fn output_after(&mut self, write: WriteId, output: Output) {
        match self.durability.is_durable(write) {
            true => self.outputs.push_back(output),
            false => self.durability.hold(write, output),
        }
    }

    /// Observes a change of role or leader.
    fn tell(&mut self) {
        let role = self.role();
        // Nothing is copied to find out, as nearly every input leaves both as they are.
        if role != self.told.0 || self.known_leader() != self.told.1.as_ref() {
            self.tell_change(role);
        }
        if self.handed.is_some()
            && let Some(leader) = self.leader()
        {
            self.settle_handover(leader);
        }
    }

    fn tell_change(&mut self, role: Role) {
        let (leader, term) = (self.leader(), self.hard.term);
        let (told_role, told_leader) = core::mem::replace(&mut self.told, (role, leader));
        if role != told_role {
            self.observe(Event::BecameRole { role, term });
        }
        if leader != told_leader {
            self.observe(Event::LeaderChanged { leader, term });
        }
    }
}

/// The configuration before the log that was restored, and its slot.
fn restored_configuration(restored: &Restored) -> (Index, Configuration) {
    match (&restored.snapshot, &restored.founding) {
        (Some(meta), _) => (meta.configuration_index, meta.configuration.clone()),
        (None, founders) => {
            let founders = founders.clone().unwrap_or_default();
            (Index::ZERO, Configuration::of_voters(founders))
        }
    }
}
