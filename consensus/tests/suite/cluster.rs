//! A cluster of cores on a network, disks and a clock that the test moves by hand.
//!
//! Every core's invariants are checked after every input, and the properties that hold between
//! members after every step: one leader a term, one history of what is applied, and nothing
//! acknowledged that a disk does not have.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use meshraft_consensus::{
    AppendResult, Change, ChangeStep, ClusterId, Config, ConfigBuilder, Configuration, Core, Entry,
    EntryKind, Event, HardState, Incarnation, Index, Input, Member, Message, Moment, NodeId,
    Output, Position, Role, Term, VoteKind, WriteId,
};

pub(crate) use crate::disk::Disk;
use crate::{cards::Cards, node::Node, text, transfer::Fetch};

/// The member whose key and incarnation are this number over and over.
pub(crate) fn member(number: u8) -> Member {
    Member::new(NodeId::new([number; 32]), Incarnation::new([number; 16]))
}

/// A second life of a node: the same key, another incarnation.
pub(crate) fn reborn(number: u8) -> Member {
    Member::new(NodeId::new([number; 32]), Incarnation::new([number + 100; 16]))
}

/// A message on its way.
#[derive(Clone, Debug)]
pub(crate) struct Packet {
    pub(crate) from: Member,
    pub(crate) to: Member,
    pub(crate) message: Message,
}

/// A digest of a state after one more entry.
pub(crate) const fn digest(state: u64, position: Position) -> u64 {
    let mixed = state ^ position.term.get() ^ (position.index.get() << 32);
    mixed.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29)
}

/// All members, the network between them, and the clock.
pub(crate) struct Cluster {
    pub(crate) nodes: BTreeMap<Member, Node>,
    pub(crate) packets: VecDeque<Packet>,
    pub(crate) cuts: BTreeSet<(Member, Member)>,
    pub(crate) now: Moment,
    pub(crate) knobs: ConfigBuilder,
    pub(crate) trace: Vec<String>,
    /// Everything that drivers were handed, in order.
    pub(crate) outputs: Vec<(Member, Output)>,
    cards: Cards,
    leaders: BTreeMap<u64, Member>,
    pub(crate) history: BTreeMap<Index, Entry>,
    states: BTreeMap<Index, u64>,
}

impl Cluster {
    /// Members `1..=voters` as voters of a founded cluster, stopped clock, nobody leads.
    pub(crate) fn new(voters: u8) -> Self {
        Self::with_knobs(voters, ConfigBuilder::lan())
    }

    /// The same with other knobs.
    pub(crate) fn with_knobs(voters: u8, knobs: ConfigBuilder) -> Self {
        let mut cluster = Self::empty(knobs);
        let founders: Vec<Member> = (1..=voters).map(member).collect();
        let found = Entry {
            position: Position::new(Term::new(1), Index::new(1)),
            kind: EntryKind::Configuration,
            bytes: Configuration::of_voters(founders.clone()).encode(),
        };
        let hard = HardState { term: Term::new(1), vote: None, commit_hint: Index::new(1) };
        for founder in founders {
            let disk = Disk { hard, entries: vec![found.clone()], ..Disk::default() };
            cluster.add(founder, disk);
        }
        cluster
    }

    /// A founder set whose fate is open.
    pub(crate) fn founding(founders: u8) -> Self {
        Self::founding_with_knobs(founders, ConfigBuilder::lan())
    }

    /// The same with other knobs.
    pub(crate) fn founding_with_knobs(founders: u8, knobs: ConfigBuilder) -> Self {
        let mut cluster = Self::empty(knobs);
        let members: Vec<Member> = (1..=founders).map(member).collect();
        for founder in members.clone() {
            let disk = Disk { founding: Some(members.clone()), ..Disk::default() };
            cluster.add(founder, disk);
        }
        cluster
    }

    /// No members at all.
    pub(crate) fn empty(knobs: ConfigBuilder) -> Self {
        Self {
            nodes: BTreeMap::new(),
            packets: VecDeque::new(),
            cuts: BTreeSet::new(),
            now: Moment::ZERO,
            knobs,
            trace: Vec::new(),
            outputs: Vec::new(),
            cards: Cards::default(),
            leaders: BTreeMap::new(),
            history: BTreeMap::new(),
            states: BTreeMap::new(),
        }
    }

    /// Starts a member with this disk; an empty one is a joiner.
    pub(crate) fn add(&mut self, me: Member, disk: Disk) {
        self.nodes.insert(me, Node::new(disk));
        self.start(me);
    }

    /// Starts a member from its disk.
    pub(crate) fn start(&mut self, me: Member) {
        let (knobs, now) = (self.knobs.clone(), self.now);
        let node = self.node(me);
        node.starts += 1;
        let seed = u64::from(me.node.as_bytes()[0]) * 1000 + node.starts;
        let config: Config =
            ConfigBuilder { seed, election_rank: node.rank, ..knobs }.build().unwrap();
        node.forget();
        let restored = node.disk.restored(me, ClusterId::new([9; 32]));
        node.core = Some(Core::new(config, restored, now));
        let members = node.vouched.clone();
        self.input(me, Input::Vouch { members });
    }

    /// Stops a member: what was not durable is lost, what is on the network is not.
    pub(crate) fn crash(&mut self, me: Member) {
        let node = self.node(me);
        node.core = None;
        node.writes.clear();
        node.stalled = false;
        node.fetch = None;
        node.install = None;
    }

    pub(crate) fn node(&mut self, me: Member) -> &mut Node {
        self.nodes.get_mut(&me).expect("the member exists")
    }

    pub(crate) fn core(&self, number: u8) -> &Core {
        self.nodes[&member(number)].core.as_ref().expect("the member runs")
    }

    /// Hands one input in and drains.
    pub(crate) fn input(&mut self, me: Member, input: Input) {
        self.input_only(me, input);
        self.drain(me);
    }

    /// Hands one input in and does not drain.
    pub(crate) fn input_only(&mut self, me: Member, input: Input) {
        let now = self.now;
        if let Input::Change { change, .. } = &input {
            self.admit(me, &change.clone());
        }
        if let Some(core) = &mut self.node(me).core {
            core.handle(now, input);
            core.check_invariants();
        }
    }

    /// Those whom a leader is asked to add are told who the members are, as an admission does.
    fn admit(&mut self, leader: Member, change: &Change) {
        let Some(core) = &self.node(leader).core else { return };
        let at = core.status().last.index.next();
        let mut members: Vec<(Member, Index)> =
            core.configuration().members().into_iter().map(|member| (member, at)).collect();
        members.push((leader, at));
        for step in &change.steps {
            let ChangeStep::AddLearner(joiner) = step else { continue };
            if self.nodes.contains_key(joiner) && *joiner != leader {
                self.vouch(*joiner, members.clone());
            }
        }
    }

    fn vouch(&mut self, me: Member, members: Vec<(Member, Index)>) {
        // Its driver has stored that, also while no core runs.
        self.node(me).vouched.extend(members.iter().copied());
        self.input_only(me, Input::Vouch { members });
    }

    /// Takes all outputs of a member and does what they ask for.
    pub(crate) fn drain(&mut self, me: Member) {
        loop {
            let Some(core) = &mut self.node(me).core else { return };
            let Some(output) = core.poll() else { break };
            core.check_invariants();
            if let Some(line) = text::output(me, &output) {
                self.trace.push(line);
            }
            self.outputs.push((me, output.clone()));
            self.carry_out(me, output);
        }
        self.check(me);
    }

    fn carry_out(&mut self, me: Member, output: Output) {
        match output {
            Output::Send { to, message, .. } => {
                self.check_claim(me, &message);
                if !self.cuts.contains(&(me, to)) {
                    self.packets.push_back(Packet { from: me, to, message });
                }
            }
            Output::Persist(write) => {
                let node = self.node(me);
                let covered = write.snapshot().map(|one| one.meta.position.index);
                node.replaced |= covered.is_some_and(|covered| covered > node.applied_index());
                node.writes.push_back(write);
            }
            Output::Apply(entries) => self.apply(me, entries),
            Output::Load { id, range, bytes_max } => {
                let result = match self.node(me).load_error.clone() {
                    Some(error) => Err(error),
                    None => self.future_disk(me).load(range, bytes_max),
                };
                self.input_only(me, Input::Loaded { id, result });
            }
            Output::SendSnapshot { to, meta } => self.pin(me, to, meta.position.index),
            Output::FetchSnapshot { from, meta } => {
                self.node(me).fetch = Some(Fetch::new(from, *meta));
            }
            Output::InstallSnapshot(meta) => {
                let node = self.node(me);
                assert_eq!(node.disk.snapshot.as_ref(), Some(&*meta), "{me} has recorded it");
                node.install = Some(*meta);
            }
            // It may be deposed before its driver drains it.
            Output::Observe(Event::BecameRole { role: Role::Leader, term }) => {
                let leader = *self.leaders.entry(term.get()).or_insert(me);
                assert_eq!(leader, me, "two leaders in term {term}");
            }
            Output::Departed { index } => self.check_departed(me, index),
            Output::Amnesia { .. } if !self.node(me).stubborn => self.crash(me),
            _ => {}
        }
    }

    /// Who departs is not in the configuration that it is said to have departed with.
    fn check_departed(&self, me: Member, index: Index) {
        let entry = self.history.get(&index);
        let left = entry.and_then(|entry| Configuration::decode(&entry.bytes).ok());
        assert!(left.is_none_or(|left| !left.contains(&me)), "{me} departed at {index}");
    }

    /// The disk as it will be once what was handed to it is written.
    fn future_disk(&mut self, me: Member) -> Disk {
        let node = self.node(me);
        let mut disk = node.disk.clone();
        node.writes.iter().for_each(|write| disk.write(write));
        disk
    }

    fn apply(&mut self, me: Member, entries: Vec<Entry>) {
        assert!(!self.node(me).replaced, "{me} applies to a state that it gave up");
        for entry in entries {
            let node = self.nodes.get_mut(&me).unwrap();
            let index = entry.position.index;
            assert_eq!(index, node.applied_index().next(), "{me} applies in order, each once");
            node.applied_at = Some(entry.position);
            node.state = digest(node.state, entry.position);
            if entry.kind == EntryKind::Configuration {
                node.configuration = (index, Configuration::decode(&entry.bytes).unwrap());
            }
            node.backlog_bytes += entry.cost_bytes();
            node.applied.push(entry.clone());
            let known = self.history.entry(index).or_insert_with(|| entry.clone());
            assert_eq!(*known, entry, "{me} applies another history");
            self.check_state(me, index);
        }
        if !self.node(me).slow_apply {
            self.report_applied(me);
        }
    }

    /// Whoever has applied the same has the same state.
    pub(crate) fn check_state(&mut self, me: Member, index: Index) {
        let state = self.node(me).state;
        let known = *self.states.entry(index).or_insert(state);
        assert_eq!(known, state, "{me} has another state after {index}");
    }

    /// What was applied before is forgotten.
    pub(crate) fn forget_history(&mut self) {
        self.history.clear();
        self.states.clear();
    }

    /// The driver says that everything handed out is applied.
    pub(crate) fn report_applied(&mut self, me: Member) {
        let node = self.node(me);
        node.backlog_bytes = 0;
        let index = node.applied_index();
        self.input_only(me, Input::Applied { index, backlog_bytes: 0 });
    }

    /// What a message claims of the own disk must be so when it leaves.
    fn check_claim(&mut self, me: Member, message: &Message) {
        let disk = &self.node(me).disk;
        let last = disk.last();
        match message {
            Message::AppendResponse(response) => {
                assert!(disk.hard.term >= response.term, "{me} answers in a term it may forget");
                if let AppendResult::Matched(index) = response.result {
                    assert!(last.index >= index, "{me} acknowledged what it does not have");
                }
            }
            Message::VoteRequest(request) if request.kind == VoteKind::Campaign => {
                assert_eq!(disk.hard.term, request.term, "{me} campaigns in a term it may forget");
                assert_eq!(disk.hard.vote, Some(me), "{me} voted for itself durably");
                assert!(last >= request.last, "{me} shows a log that it may lose");
            }
            Message::SnapshotResponse(response) if response.installed => {
                let durable = last.index >= response.position.index;
                assert!(durable, "{me} says that it has a snapshot that it may lose");
            }
            Message::VoteResponse(response) if response.granted => {
                let durable = disk.hard.term >= response.request_term;
                assert!(response.kind == VoteKind::Pre || durable, "{me} votes and may forget it");
            }
            _ => {}
        }
    }

    fn check(&mut self, me: Member) {
        let Some(core) = &self.nodes[&me].core else { return };
        let (index, configuration) = core.committed_configuration();
        let vouched = core.vouched();
        self.cards.sign(me, index, configuration);
        self.node(me).vouched = vouched;
        let Some(core) = &self.nodes[&me].core else { return };
        // Who lost what it acknowledged is never told that its state was replaced.
        let (status, retired) = (core.status(), core.deadline().is_none() && !core.is_dormant());
        let node = self.node(me);
        assert!(status.first >= node.first, "{me}: the log's base never moves back");
        node.first = status.first;
        assert!(status.first <= status.snapshot.next(), "{me}: only what is covered is gone");
        assert!(
            status.snapshot <= status.applied || node.replaced || retired,
            "{me}: what is covered is applied"
        );
        assert!(status.applied <= status.commit, "{me}: what is applied is committed");
        assert!(status.commit <= status.last.index, "{me}: what is committed is in the log");
    }

    /// Makes a member's oldest write durable.
    pub(crate) fn persist(&mut self, me: Member) -> Option<WriteId> {
        let node = self.node(me);
        let write = node.writes.pop_front()?;
        let mut before = node.disk.entries.iter().map(|entry| entry.position);
        for entry in write.repair().iter().filter(|_| !node.stubborn) {
            let same = before.any(|position| position == entry.position);
            assert!(same, "{me} is repaired by what was there");
        }
        node.disk.write(&write);
        let pinned: Vec<Index> = node.pins.values().copied().collect();
        node.disk.sweep(&pinned);
        self.input(me, Input::Persisted(write.id));
        Some(write.id)
    }

    /// Delivers one packet.
    pub(crate) fn deliver(&mut self, packet: Packet) {
        let to = packet.to;
        self.deliver_only(packet);
        if self.nodes.contains_key(&to) {
            self.drain(to);
        }
    }

    /// Delivers one packet and does not drain.
    pub(crate) fn deliver_only(&mut self, packet: Packet) {
        let Packet { from, to, message } = packet;
        if !self.cuts.contains(&(from, to)) && self.nodes.contains_key(&to) {
            self.judge(from, to, &message);
            self.input_only(to, Input::Receive { from, message });
        }
    }

    /// A sender that the receiver does not know shows its cards. A dismissal opens no handle.
    fn judge(&mut self, from: Member, to: Member, message: &Message) {
        let Some(core) = &self.nodes[&to].core else { return };
        if core.knows(&from) || matches!(message, Message::Dismissed(_)) {
            return;
        }
        if let Some(at) = self.cards.vouch(core, from) {
            self.vouch(to, vec![(from, at)]);
        }
    }

    /// Delivers and writes until nothing is left to do; time stands still.
    pub(crate) fn settle(&mut self) {
        let rest = (0..100_000).find(|_| !self.step());
        assert!(rest.is_some(), "the cluster does not come to rest");
    }

    /// Makes one write durable, or delivers one packet; `false` if nothing is left to do.
    pub(crate) fn step(&mut self) -> bool {
        let idle = self.nodes.iter().find(|(_, node)| !node.stalled && !node.writes.is_empty());
        if let Some((me, _)) = idle {
            let me = *me;
            self.persist(me);
        } else if let Some(packet) = self.packets.pop_front() {
            self.deliver(packet);
        } else if let Some(me) = self.transferring() {
            self.transfer(me);
        } else {
            return false;
        }
        true
    }

    /// Settles, then moves the clock from deadline to deadline for this long.
    pub(crate) fn run_ms(&mut self, millis: u64) {
        let end = Moment::from_nanos(self.now.as_nanos() + millis * 1_000_000);
        self.settle();
        while let Some((due, me)) = self.next_deadline().filter(|(due, _)| *due <= end) {
            self.now = self.now.max(due);
            self.input(me, Input::Timeout);
            self.settle();
        }
        self.now = end;
    }

    /// Whose deadline comes next, and when.
    pub(crate) fn next_deadline(&self) -> Option<(Moment, Member)> {
        let due = |(me, node): (&Member, &Node)| Some((node.core.as_ref()?.deadline()?, *me));
        self.nodes.iter().filter_map(due).min()
    }

    /// Who led in this term.
    pub(crate) fn leader_of(&self, term: Term) -> Option<Member> {
        self.leaders.get(&term.get()).copied()
    }

    /// The members that lead, in ascending order.
    pub(crate) fn leaders(&self) -> Vec<Member> {
        let leads =
            |node: &Node| node.core.as_ref().is_some_and(|core| core.role() == Role::Leader);
        self.nodes.iter().filter(|(_, node)| leads(node)).map(|(me, _)| *me).collect()
    }

    /// Runs until exactly one member leads and has committed in its term.
    pub(crate) fn elect(&mut self) -> Member {
        for _ in 0..100 {
            self.run_ms(100);
            if let [leader] = self.leaders()[..]
                && self.nodes[&leader].core.as_ref().is_some_and(Core::is_ready)
            {
                return leader;
            }
        }
        panic!("no leader within ten seconds");
    }

    /// Makes this member campaign and win; nobody else leads.
    pub(crate) fn make_leader(&mut self, number: u8) {
        self.make_follower_lead(number);
        assert_eq!(self.leaders(), [member(number)], "nobody else leads");
    }

    /// Makes this member campaign and win, though another may think that it leads.
    pub(crate) fn make_follower_lead(&mut self, number: u8) {
        if self.knobs.lease_drift_permille.is_some() {
            // Whoever has just started votes for nobody.
            self.now = self.now.plus(self.knobs.election);
        }
        self.input(member(number), Input::Campaign);
        self.settle();
        assert!(self.leaders().contains(&member(number)), "the campaign is won");
    }

    /// Cuts a member off, both ways.
    pub(crate) fn isolate(&mut self, number: u8) {
        let others: Vec<Member> = self.nodes.keys().copied().collect();
        for other in others {
            self.cut(member(number), other);
            self.cut(other, member(number));
        }
    }

    pub(crate) fn cut(&mut self, from: Member, to: Member) {
        self.cuts.insert((from, to));
        self.packets.retain(|packet| (packet.from, packet.to) != (from, to));
    }

    pub(crate) fn heal(&mut self) {
        self.cuts.clear();
    }
}
