//! Three hosts with many namespaces each, on one clock that jumps to whatever is due next. What is
//! sent arrives at once, unless the path is cut.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use bytes::Bytes;
use meshraft_consensus::{
    ClusterId, ConfigBuilder, Configuration, Entry, EntryKind, HardState, Incarnation, Index,
    Member, Message, Moment, Namespace, NodeId, Position, Term, Write, WriteId,
};
use meshraft_discovery::Record;
use meshraft_service::{
    Sequence, SessionId,
    envelope::VERSION_LATEST,
    kv::{Kv, KvCommand},
    wire::{Operation, Response, Status},
};
use meshraft_storage::{GroupId, Job, MemoryStore, Ticket};
use meshraft_transport::{
    Body, Channel, NotSent, PeerFacts, PeerRole, ReplyToken, RequestError, RequestId, Scope, Source,
};

use super::super::{
    CallId, Host, HostConfig, Input, NamespaceOptions, NetworkInput, NodeEvent, Output, SleepEvent,
    record::HostRecord,
};

/// How long a group is idle before it sleeps.
pub(super) const IDLE: Duration = Duration::from_millis(500);
const NODES: usize = 3;

pub(super) fn member(seat: usize) -> Member {
    let number = u8::try_from(seat + 1).unwrap();
    Member::new(NodeId::new([number; 32]), Incarnation::new([number; 16]))
}

pub(super) fn namespace(number: usize) -> Namespace {
    Namespace::new(&format!("/jobs/{number}")).unwrap()
}

fn cluster(number: usize) -> ClusterId {
    let mut bytes = [7; 32];
    bytes[..8].copy_from_slice(&(number as u64).to_be_bytes());
    ClusterId::new(bytes)
}

/// What was said, and what hosts were called for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    /// Messages of cores.
    pub(super) consensus: usize,
    /// Of these, questions whether votes would be given.
    pub(super) prevotes: usize,
    /// Frames of the watch.
    pub(super) watch: usize,
    /// Anything else: founding, addresses.
    pub(super) others: usize,
    /// Deadlines that came.
    pub(super) timeouts: usize,
}

pub(super) struct World {
    pub(super) now: Moment,
    pub(super) hosts: Vec<Option<Host>>,
    stores: Vec<MemoryStore>,
    facts: BTreeMap<(usize, Namespace), PeerFacts>,
    inputs: VecDeque<(usize, Input)>,
    asked: BTreeMap<u64, (usize, RequestId)>,
    pub(super) answers: BTreeMap<u64, (Moment, Response)>,
    /// Directions in which everything is lost.
    pub(super) cut: BTreeSet<(usize, usize)>,
    /// Pairs without a connection.
    apart: BTreeSet<(usize, usize)>,
    /// Whether the message that a group may sleep is lost.
    pub(super) loses_quiesce: bool,
    pub(super) counts: Counts,
    pub(super) events: Vec<(Moment, usize, Namespace, SleepEvent)>,
    calls: u64,
    count: usize,
}

impl World {
    /// Three members of so many clusters, which run and have leaders.
    pub(super) fn new(count: usize, seed: u8, quiesce_after: Option<Duration>) -> Self {
        let mut world = Self {
            now: Moment::ZERO,
            hosts: Vec::new(),
            stores: (0..NODES).map(|seat| store(seat, count)).collect(),
            facts: BTreeMap::new(),
            inputs: VecDeque::new(),
            asked: BTreeMap::new(),
            answers: BTreeMap::new(),
            cut: BTreeSet::new(),
            apart: BTreeSet::new(),
            loses_quiesce: false,
            counts: Counts::default(),
            events: Vec::new(),
            calls: 0,
            count,
        };
        for seat in 0..NODES {
            world.hosts.push(None);
            let host = world.start(seat, seed, quiesce_after);
            world.hosts[seat] = Some(host);
        }
        world.run(Duration::from_secs(3));
        world
    }

    fn start(&mut self, seat: usize, seed: u8, quiesce_after: Option<Duration>) -> Host {
        let seed = [seed.wrapping_mul(3).wrapping_add(u8::try_from(seat).unwrap()); 32];
        let config = HostConfig::of_test(member(seat).node, seed);
        let mut host = Host::new(config, self.stores[seat].opened(), self.now);
        for number in 0..self.count {
            let core = ConfigBuilder { quiesce_after, ..ConfigBuilder::lan() };
            let options = NamespaceOptions {
                expect: None,
                found: false,
                window: Duration::from_secs(5),
                threshold_percent: 80,
                force: false,
                voters_target: 3,
                core: core.build().unwrap(),
                machine: Box::new(Kv::default()),
                supports: VERSION_LATEST,
                snapshot_bytes: u64::MAX,
                snapshot_entries: u64::MAX,
                known: Vec::new(),
                targets: 0,
                keyed: false,
            };
            let namespace = namespace(number);
            host.handle(self.now, Input::Open { namespace, options, found: None });
        }
        host
    }

    /// A process dies; whether the others hear of it by their connections.
    pub(super) fn kill(&mut self, seat: usize, noticed: bool) {
        self.hosts[seat] = None;
        self.facts.retain(|(at, _), _| *at != seat);
        self.inputs.retain(|(to, _)| *to != seat);
        for other in (0..NODES).filter(|other| *other != seat && noticed) {
            self.tell(other, NetworkInput::Disconnected { peer: member(seat).node });
        }
        self.settle();
    }

    /// A connection breaks.
    pub(super) fn part(&mut self, one: usize, other: usize) {
        for (at, peer) in [(one, other), (other, one)] {
            self.apart.insert((at, peer));
            self.tell(at, NetworkInput::Disconnected { peer: member(peer).node });
        }
        self.settle();
    }

    /// It is there again.
    pub(super) fn rejoin(&mut self, one: usize, other: usize) {
        for (at, peer) in [(one, other), (other, one)] {
            self.apart.remove(&(at, peer));
            let facts = self.facts.iter().filter(|((seat, _), _)| *seat == peer);
            let facts: Vec<_> =
                facts.map(|((_, name), facts)| (name.clone(), facts.clone())).collect();
            for (namespace, facts) in facts {
                let peer = member(peer).node;
                self.tell(at, NetworkInput::Shared { peer, namespace, facts });
            }
        }
        self.settle();
    }

    fn tell(&mut self, seat: usize, input: NetworkInput) {
        self.inputs.push_back((seat, Input::Network(input)));
    }

    /// Lets this much time go by: the clock jumps from one deadline to the next.
    pub(super) fn run(&mut self, time: Duration) {
        let end = self.now.plus(time);
        loop {
            self.settle();
            let due = self.hosts.iter().flatten().filter_map(Host::deadline).min();
            let Some(due) = due.filter(|due| *due <= end) else { break };
            self.now = self.now.max(due);
            for host in self.hosts.iter_mut().flatten() {
                if host.deadline().is_some_and(|due| due <= self.now) {
                    self.counts.timeouts += 1;
                    host.handle(self.now, Input::Timeout);
                }
            }
        }
        self.now = end;
    }

    /// Lets time go by until something holds; how long it took.
    pub(super) fn until(&mut self, what: &str, holds: impl Fn(&Self) -> bool) -> Duration {
        let begin = self.now;
        for _ in 0..60_000 {
            if holds(self) {
                return self.now.since(begin);
            }
            self.run(Duration::from_millis(1));
        }
        panic!("a minute goes by and {what} does not come about");
    }

    fn settle(&mut self) {
        loop {
            for seat in 0..self.hosts.len() {
                while let Some(output) = self.hosts[seat].as_mut().and_then(Host::poll) {
                    self.output(seat, output);
                }
            }
            let Some((seat, input)) = self.inputs.pop_front() else { return };
            if let Some(host) = &mut self.hosts[seat] {
                host.handle(self.now, input);
            }
        }
    }

    fn output(&mut self, seat: usize, output: Output) {
        match output {
            Output::Store(job) => {
                self.stores[seat].commit(std::slice::from_ref(&job));
                self.inputs.push_back((seat, Input::Stored(vec![job.ticket()])));
            }
            Output::Load { load, range, bytes_max } => {
                let result = self.stores[seat].load(load.group, range, bytes_max);
                self.inputs.push_back((seat, Input::Loaded { load, result }));
            }
            Output::Share { namespace, incarnation, clusters, supports } => {
                let clusters: BTreeSet<_> = clusters.into_keys().collect();
                let cluster = clusters.first().copied();
                let (role, incarnation) = (PeerRole::Member, Some(incarnation));
                let supports = Some(supports);
                let facts = PeerFacts { role, cluster, clusters, incarnation, supports };
                self.facts.insert((seat, namespace.clone()), facts.clone());
                self.introduce(seat, &namespace, facts);
            }
            Output::Unshare { namespace } => {
                self.facts.remove(&(seat, namespace.clone()));
                for other in (0..NODES).filter(|other| *other != seat) {
                    let (peer, namespace) = (member(seat).node, namespace.clone());
                    self.tell(other, NetworkInput::Unshared { peer, namespace });
                }
            }
            Output::Send { to, namespace, scope, channel, body, .. } => {
                self.count(&body, channel, scope);
                let quiesce = matches!(body, Body::Consensus(Message::Quiesce(_)));
                let lost = quiesce && self.loses_quiesce;
                if let Some((to, from)) = self.path(seat, to, namespace, scope).filter(|_| !lost) {
                    self.tell(to, NetworkInput::Received { from, channel, body });
                }
            }
            Output::Request { id, to, namespace, scope, channel, payload, .. } => {
                let Some((to, from)) = self.path(seat, to, namespace, scope) else {
                    let result = Err(RequestError::NotSent(NotSent::NotConnected));
                    return self.tell(seat, NetworkInput::Reply { id, result });
                };
                let number = self.asked.len() as u64;
                self.asked.insert(number, (seat, id));
                let token = ReplyToken::new(0, 0, number);
                self.tell(to, NetworkInput::Request { from, channel, token, payload });
            }
            Output::Reply { token, payload } => {
                let (seat, id) = self.asked[&token.request()];
                self.tell(seat, NetworkInput::Reply { id, result: Ok(payload) });
            }
            Output::Answer { id, response } => {
                self.answers.insert(id.get(), (self.now, response));
            }
            Output::Event { namespace, event: NodeEvent::Sleep(event) } => {
                self.events.push((self.now, seat, namespace, event));
            }
            Output::Event { .. }
            | Output::AddAddress { .. }
            | Output::Hear { .. }
            | Output::Members { .. }
            | Output::Snapshot(_) => {}
        }
    }

    fn count(&mut self, body: &Body, channel: Channel, scope: Scope) {
        let place = match (body, channel, scope) {
            (Body::Consensus(message), _, _) => {
                let kind = meshraft_consensus::VoteKind::Pre;
                let prevote = matches!(message, Message::VoteRequest(it) if it.kind == kind);
                self.counts.prevotes += usize::from(prevote);
                &mut self.counts.consensus
            }
            (Body::Bytes(_), Channel::Control, Scope::Cluster(_)) => &mut self.counts.watch,
            (Body::Bytes(_), _, _) => &mut self.counts.others,
        };
        *place += 1;
    }

    /// Both ends learn of each other.
    fn introduce(&mut self, seat: usize, namespace: &Namespace, facts: PeerFacts) {
        for other in (0..NODES).filter(|other| *other != seat) {
            let theirs = self.facts.get(&(other, namespace.clone())).cloned();
            let Some(theirs) = theirs.filter(|_| !self.apart.contains(&(seat, other))) else {
                continue;
            };
            let (peer, name) = (member(seat).node, namespace.clone());
            let facts = facts.clone();
            self.tell(other, NetworkInput::Shared { peer, namespace: name, facts });
            let (peer, namespace) = (member(other).node, namespace.clone());
            self.tell(seat, NetworkInput::Shared { peer, namespace, facts: theirs });
        }
    }

    /// Where a frame goes, and how its receiver sees its sender.
    fn path(
        &self,
        seat: usize,
        to: NodeId,
        namespace: Namespace,
        scope: Scope,
    ) -> Option<(usize, Source)> {
        let to = (0..NODES).find(|seat| member(*seat).node == to)?;
        let open = |pair: (usize, usize)| !self.cut.contains(&pair) && !self.apart.contains(&pair);
        if !open((seat, to)) {
            return None;
        }
        let mine = self.facts.get(&(seat, namespace.clone()))?;
        let theirs = self.facts.get(&(to, namespace.clone()))?;
        let speaks = |facts: &PeerFacts| {
            scope.cluster().is_none_or(|cluster| facts.clusters.contains(&cluster))
        };
        let incarnation = mine.incarnation;
        let from = Source { node: member(seat).node, incarnation, namespace, scope };
        (speaks(mine) && speaks(theirs)).then_some((to, from))
    }

    /// Asks a node something; the number of the answer.
    pub(super) fn call(&mut self, seat: usize, number: usize, operation: Operation) -> u64 {
        self.calls += 1;
        let (id, timeout) = (CallId::new(self.calls), Duration::from_secs(30));
        let namespace = namespace(number);
        self.inputs.push_back((seat, Input::Call { id, namespace, operation, timeout }));
        self.settle();
        self.calls
    }

    pub(super) fn close(&mut self, seat: usize, number: usize) {
        self.inputs.push_back((seat, Input::Close { namespace: namespace(number) }));
        self.settle();
    }

    pub(super) fn status(&self, seat: usize, number: usize) -> Option<Status> {
        self.hosts[seat].as_ref()?.status(&namespace(number))
    }

    /// Who leads a namespace, as it says itself.
    pub(super) fn leader(&self, number: usize) -> Option<usize> {
        (0..NODES).find(|seat| {
            let status = self.status(*seat, number);
            status.is_some_and(|status| status.leader == Some(member(*seat).node))
        })
    }

    /// How many groups sleep at a node.
    pub(super) fn asleep(&self, seat: usize) -> usize {
        let asleep = |number: &usize| self.status(seat, *number).is_some_and(|it| it.asleep);
        (0..self.count).filter(asleep).count()
    }

    pub(super) fn all_dormant(&self) -> bool {
        let running = (0..NODES).filter(|seat| self.hosts[*seat].is_some());
        running.into_iter().all(|seat| self.asleep(seat) == self.count)
    }
}

/// A write of some pair.
pub(super) fn write() -> Operation {
    let (key, value) = (Bytes::from_static(b"k"), Bytes::from_static(b"v"));
    let payload = KvCommand::Set { key, value }.encode();
    let (session, sequence) = (SessionId::NONE, Sequence::ZERO);
    Operation::Write { session, sequence, acked_below: Sequence::ZERO, payload }
}

/// A disk with the first entry of every cluster.
fn store(seat: usize, count: usize) -> MemoryStore {
    let configuration = Configuration::of_voters((0..NODES).map(member));
    let position = Position::new(Term::new(1), Index::new(1));
    let bytes = configuration.encode();
    let entry = Entry { position, kind: EntryKind::Configuration, bytes };
    let mut store = MemoryStore::default();
    let mut group = GroupId::FIRST;
    for number in 0..count {
        let record = Record { cluster: Some(cluster(number)), ..Record::default() };
        let record = {
            let Member { node, incarnation } = member(seat);
            HostRecord::of_test(node, incarnation, record.encode().to_vec())
        };
        let hard = HardState { term: Term::new(1), vote: None, commit_hint: Index::new(1) };
        let write = Write {
            id: WriteId::new(1),
            hard: Some(hard),
            change: None,
            append: vec![entry.clone()],
        };
        store.commit(&[
            Job::Record {
                ticket: Ticket::new(1),
                namespace: namespace(number),
                record: record.encode().into(),
                create: Some((group, cluster(number))),
                drop: Vec::new(),
            },
            Job::Log { ticket: Ticket::new(2), group, write },
        ]);
        group = group.next();
    }
    store
}
