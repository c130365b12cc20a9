//! A cluster of cores on a network, disks and a clock that the test moves by hand.
//!
//! Every core's invariants are checked after every input, and the properties that hold between
//! members after every step: one leader a term, one history of what is applied, and nothing
//! acknowledged that a disk does not have.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use meshraft_consensus::{
    AppendResult, ClusterId, Config, ConfigBuilder, Configuration, Core, Entry, EntryKind,
    HardState, Incarnation, Index, IndexRange, Input, LoadError, Member, Message, Moment, NodeId,
    Output, Position, Restored, Role, SnapshotMeta, Term, VoteKind, Write, WriteId,
};

use crate::text;

/// The member whose key and incarnation are this number over and over.
pub(crate) fn member(number: u8) -> Member {
    Member::new(NodeId::new([number; 32]), Incarnation::new([number; 16]))
}

/// A second life of a node: the same key, another incarnation.
pub(crate) fn reborn(number: u8) -> Member {
    Member::new(NodeId::new([number; 32]), Incarnation::new([number + 100; 16]))
}

/// What a member's disk holds.
#[derive(Clone, Debug, Default)]
pub(crate) struct Disk {
    pub(crate) hard: HardState,
    pub(crate) entries: Vec<Entry>,
    pub(crate) founding: Option<Vec<Member>>,
    pub(crate) snapshot: Option<SnapshotMeta>,
    pub(crate) damage: Option<IndexRange>,
}

impl Disk {
    fn base(&self) -> u64 {
        self.snapshot.as_ref().map_or(0, |meta| meta.position.index.get())
    }

    pub(crate) fn write(&mut self, write: &Write) {
        if let Some(hard) = write.hard {
            assert!(hard.term >= self.hard.term, "the durable term never decreases");
            let same_term = hard.term == self.hard.term;
            let kept = !same_term || self.hard.vote.is_none() || hard.vote == self.hard.vote;
            assert!(kept, "the durable vote of a term never changes");
            self.hard = hard;
        }
        let base = self.base();
        if let Some(from) = write.truncate_from {
            self.entries.truncate((from.get() - base - 1) as usize);
        }
        for entry in &write.append {
            let next = base + self.entries.len() as u64 + 1;
            assert_eq!(entry.position.index.get(), next, "a write follows what is left");
            self.entries.push(entry.clone());
        }
    }

    pub(crate) fn restored(&self, me: Member, cluster: ClusterId) -> Restored {
        let base = self.snapshot.as_ref().map_or(Position::ZERO, |meta| meta.position);
        let mut terms: Vec<Position> = Vec::new();
        for entry in &self.entries {
            if terms.last().is_none_or(|start| start.term < entry.position.term) {
                terms.push(entry.position);
            }
        }
        let configurations = self
            .entries
            .iter()
            .filter(|entry| entry.kind == EntryKind::Configuration)
            .map(|entry| (entry.position.index, Configuration::decode(&entry.bytes).unwrap()))
            .collect();
        Restored {
            me,
            cluster,
            founding: self.founding.clone(),
            hard: self.hard,
            snapshot: self.snapshot.clone(),
            terms,
            configurations,
            last: self.entries.last().map_or(base, |entry| entry.position),
            damage: self.damage,
        }
    }
}

/// One member: its core while it runs, its disk, and what its driver holds.
pub(crate) struct Node {
    pub(crate) core: Option<Core>,
    pub(crate) disk: Disk,
    pub(crate) writes: VecDeque<Write>,
    pub(crate) stalled: bool,
    pub(crate) applied: Vec<Entry>,
    /// Whether the driver leaves applied entries unreported.
    pub(crate) slow_apply: bool,
    /// What the store answers instead of entries.
    pub(crate) load_error: Option<LoadError>,
    pub(crate) backlog_bytes: u64,
    pub(crate) starts: u64,
}

/// A message on its way.
#[derive(Clone, Debug)]
pub(crate) struct Packet {
    pub(crate) from: Member,
    pub(crate) to: Member,
    pub(crate) message: Message,
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
    leaders: BTreeMap<u64, Member>,
    history: BTreeMap<Index, Entry>,
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
        let mut cluster = Self::empty(ConfigBuilder::lan());
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
            leaders: BTreeMap::new(),
            history: BTreeMap::new(),
        }
    }

    /// Starts a member with this disk; an empty one is a joiner.
    pub(crate) fn add(&mut self, me: Member, disk: Disk) {
        let node = Node {
            core: None,
            disk,
            writes: VecDeque::new(),
            stalled: false,
            applied: Vec::new(),
            slow_apply: false,
            load_error: None,
            backlog_bytes: 0,
            starts: 0,
        };
        self.nodes.insert(me, node);
        self.start(me);
    }

    /// Starts a member from its disk.
    pub(crate) fn start(&mut self, me: Member) {
        let (knobs, now) = (self.knobs.clone(), self.now);
        let node = self.node(me);
        node.starts += 1;
        let seed = u64::from(me.node.as_bytes()[0]) * 1000 + node.starts;
        let config: Config = ConfigBuilder { seed, ..knobs }.build().unwrap();
        node.applied.clear();
        node.backlog_bytes = 0;
        let restored = node.disk.restored(me, ClusterId::new([9; 32]));
        node.core = Some(Core::new(config, restored, now));
        self.drain(me);
    }

    /// Stops a member: what was not durable is lost, what is on the network is not.
    pub(crate) fn crash(&mut self, me: Member) {
        let node = self.node(me);
        node.core = None;
        node.writes.clear();
        node.stalled = false;
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
        if let Some(core) = &mut self.node(me).core {
            core.handle(now, input);
            core.check_invariants();
        }
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
            Output::Persist(write) => self.node(me).writes.push_back(write),
            Output::Apply(entries) => self.apply(me, entries),
            Output::Load { id, range, bytes_max } => {
                let result = match self.node(me).load_error.clone() {
                    Some(error) => Err(error),
                    None => Ok(self.load(me, range.first, range.last, bytes_max)),
                };
                self.input_only(me, Input::Loaded { id, result });
            }
            _ => {}
        }
    }

    /// Reads from the disk as it will be once what was handed to it is written.
    fn load(&mut self, me: Member, first: Index, last: Index, bytes_max: u64) -> Vec<Entry> {
        let node = self.node(me);
        let mut disk = node.disk.clone();
        node.writes.iter().for_each(|write| disk.write(write));
        let mut bytes = 0;
        let wanted =
            disk.entries.into_iter().filter(|entry| (first..=last).contains(&entry.position.index));
        let loaded: Vec<Entry> = wanted
            .enumerate()
            .take_while(|(nth, entry)| {
                bytes += entry.cost_bytes();
                *nth == 0 || bytes <= bytes_max
            })
            .map(|(_, entry)| entry)
            .collect();
        assert!(!loaded.is_empty(), "{me}: asked for entries that were never written");
        loaded
    }

    fn apply(&mut self, me: Member, entries: Vec<Entry>) {
        let base = self.node(me).disk.base() as usize;
        for entry in entries {
            let at = entry.position.index.get() as usize - 1;
            let node = self.nodes.get_mut(&me).unwrap();
            assert_eq!(at, base + node.applied.len(), "{me} applies in order, each once");
            node.backlog_bytes += entry.cost_bytes();
            node.applied.push(entry.clone());
            let known = self.history.entry(entry.position.index).or_insert_with(|| entry.clone());
            assert_eq!(*known, entry, "{me} applies another history");
        }
        if !self.node(me).slow_apply {
            self.report_applied(me);
        }
    }

    /// The driver says that everything handed out is applied.
    pub(crate) fn report_applied(&mut self, me: Member) {
        let node = self.node(me);
        node.backlog_bytes = 0;
        let index = node.applied.last().map_or(Index::ZERO, |entry| entry.position.index);
        self.input_only(me, Input::Applied { index, backlog_bytes: 0 });
    }

    /// What a message claims of the own disk must be so when it leaves.
    fn check_claim(&mut self, me: Member, message: &Message) {
        let disk = &self.node(me).disk;
        let base = disk.base();
        match message {
            Message::AppendResponse(response) => {
                assert!(disk.hard.term >= response.term, "{me} answers in a term it may forget");
                if let AppendResult::Matched(index) = response.result {
                    let durable = base + disk.entries.len() as u64;
                    assert!(durable >= index.get(), "{me} acknowledged what it does not have");
                }
            }
            Message::VoteRequest(request) if request.kind == VoteKind::Campaign => {
                let last = disk.entries.last().map_or(Position::ZERO, |entry| entry.position);
                let snapshot = disk.snapshot.as_ref().map_or(last, |meta| meta.position);
                assert_eq!(disk.hard.term, request.term, "{me} campaigns in a term it may forget");
                assert_eq!(disk.hard.vote, Some(me), "{me} voted for itself durably");
                assert!(last.max(snapshot) == request.last, "{me} shows a log that it may lose");
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
        if core.role() == Role::Leader {
            let leader = *self.leaders.entry(core.term().get()).or_insert(me);
            assert_eq!(leader, me, "two leaders in term {}", core.term());
        }
    }

    /// Makes a member's oldest write durable.
    pub(crate) fn persist(&mut self, me: Member) -> Option<WriteId> {
        let node = self.node(me);
        let write = node.writes.pop_front()?;
        node.disk.write(&write);
        self.input(me, Input::Persisted(write.id));
        Some(write.id)
    }

    /// Delivers one packet.
    pub(crate) fn deliver(&mut self, packet: Packet) {
        let Packet { from, to, message } = packet;
        if !self.cuts.contains(&(from, to)) && self.nodes.contains_key(&to) {
            self.input(to, Input::Receive { from, message });
        }
    }

    /// Delivers and writes until nothing is left to do; time stands still.
    pub(crate) fn settle(&mut self) {
        for _ in 0..100_000 {
            let idle = self.nodes.iter().find(|(_, node)| !node.stalled && !node.writes.is_empty());
            if let Some((me, _)) = idle {
                let me = *me;
                self.persist(me);
            } else if let Some(packet) = self.packets.pop_front() {
                self.deliver(packet);
            } else {
                return;
            }
        }
        panic!("the cluster does not come to rest");
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

    /// Makes this member campaign and win.
    pub(crate) fn make_leader(&mut self, number: u8) {
        self.input(member(number), Input::Campaign);
        self.settle();
        assert_eq!(self.leaders(), [member(number)], "the campaign is won");
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
