//! Three hosts, their disks and a network without faults, in one thread and on one clock.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use bytes::Bytes;
use meshraft_consensus::{
    ClusterId, Config, ConfigBuilder, Configuration, Entry, EntryKind, HardState, Incarnation,
    Index, LoadError, Member, Moment, Namespace, NodeId, Position, Term, Write, WriteId,
};
use meshraft_discovery::Record;
use meshraft_service::{
    Sequence, ServiceError, SessionId,
    envelope::VERSION_LATEST,
    kv::{Kv, KvCommand, KvQuery},
    wire::{Level, Operation, Reply, Response},
};
use meshraft_storage::{GroupId, Job, MemorySnapshots, MemoryStore, Ticket};
use meshraft_transport::{
    Channel, NotSent, PeerFacts, PeerRole, ReplyToken, RequestError, RequestId, Scope, Source,
};

use super::super::{
    CallId, Done, Host, HostConfig, Input, NamespaceOptions, NetworkInput, NodeEvent, Output,
    SnapshotDone, SnapshotWork,
    record::HostRecord,
    snapshot_wire::{FetchBody, FetchReply},
};

/// A snapshot is due after so many entries.
pub(super) const SNAPSHOT_ENTRIES: u64 = 20;

pub(super) fn member(seat: usize) -> Member {
    let number = u8::try_from(seat + 1).unwrap();
    Member::new(NodeId::new([number; 32]), Incarnation::new([number; 16]))
}

pub(super) fn namespace() -> Namespace {
    Namespace::new("/jobs").unwrap()
}

/// One node.
pub(super) struct Seat {
    pub(super) host: Option<Host>,
    pub(super) store: MemoryStore,
    pub(super) files: MemorySnapshots,
    /// What it shares with others.
    facts: Option<PeerFacts>,
    pub(super) events: Vec<NodeEvent>,
    /// Whether restored states are held back, and those that are.
    pub(super) holds: bool,
    pub(super) held: Vec<SnapshotDone>,
    /// Bytes of snapshots appended in this life, and where fetches went on.
    pub(super) appended_bytes: usize,
    pub(super) resumed: Vec<u64>,
}

/// Everything.
pub(super) struct World {
    pub(super) now: Moment,
    pub(super) seats: Vec<Seat>,
    inputs: VecDeque<(usize, Input)>,
    /// Who asked what on the way: the seat, and its own name for it.
    asked: BTreeMap<u64, (usize, RequestId)>,
    answers: BTreeMap<u64, Response>,
    /// The reply to who asks from outside.
    direct: Option<Bytes>,
    calls: u64,
    /// Whether a third of the requests for parts of snapshots is lost.
    pub(super) loses: bool,
    /// After so many bytes of one no request for another part is answered.
    pub(super) serves_bytes: usize,
    lives: u8,
}

impl World {
    /// Three members of a cluster whose first entry is on each disk.
    pub(super) fn new() -> Self {
        let cluster = ClusterId::new([7; 32]);
        let configuration = Configuration::of_voters((0..3).map(member));
        let first = Position::new(Term::new(1), Index::new(1));
        let entry = Entry {
            position: first,
            kind: EntryKind::Configuration,
            bytes: configuration.encode(),
        };
        let seats = (0..3).map(|seat| {
            let record = Record { cluster: Some(cluster), ..Record::default() };
            let record = {
                let Member { node, incarnation } = member(seat);
                HostRecord::of_test(node, incarnation, record.encode().to_vec())
            };
            let mut store = MemoryStore::default();
            let write = Write {
                id: WriteId::new(1),
                hard: Some(HardState {
                    term: Term::new(1),
                    vote: None,
                    commit_hint: Index::new(1),
                }),
                change: None,
                append: vec![entry.clone()],
            };
            let group = GroupId::FIRST;
            store.commit(&[
                Job::Record {
                    ticket: Ticket::new(1),
                    namespace: namespace(),
                    record: record.encode().into(),
                    create: Some((group, cluster)),
                    drop: Vec::new(),
                },
                Job::Log { ticket: Ticket::new(2), group, write },
            ]);
            Seat {
                host: None,
                store,
                files: MemorySnapshots::default(),
                facts: None,
                events: Vec::new(),
                holds: false,
                held: Vec::new(),
                appended_bytes: 0,
                resumed: Vec::new(),
            }
        });
        Self {
            now: Moment::ZERO,
            seats: seats.collect(),
            inputs: VecDeque::new(),
            asked: BTreeMap::new(),
            answers: BTreeMap::new(),
            direct: None,
            calls: 0,
            loses: false,
            serves_bytes: usize::MAX,
            lives: 0,
        }
    }

    /// Starts a node on its disk.
    pub(super) fn start(&mut self, seat: usize) {
        self.lives += 1;
        let config = HostConfig::of_test(member(seat).node, [self.lives; 32]);
        let it = &mut self.seats[seat];
        let opened = it.store.opened();
        it.files.sweep(&opened).unwrap();
        let mut host = Host::new(config, opened, self.now);
        host.handle(
            self.now,
            Input::Open { namespace: namespace(), options: options(), found: None },
        );
        it.host = Some(host);
    }

    /// Closes the namespace of a node and opens it again.
    pub(super) fn reopen(&mut self, seat: usize) {
        let it = &mut self.seats[seat];
        let host = it.host.as_mut().unwrap();
        host.handle(self.now, Input::Close { namespace: namespace() });
        self.settle();
        let it = &mut self.seats[seat];
        let found = it.store.reopen(&namespace()).map(Box::new);
        let open = Input::Open { namespace: namespace(), options: options(), found };
        it.host.as_mut().unwrap().handle(self.now, open);
    }

    /// Hands a host what was held back.
    pub(super) fn hand(&mut self, seat: usize, done: SnapshotDone) {
        self.inputs.push_back((seat, Input::Snapshot(done)));
    }

    /// Ends a node as a crash would: only its disk stays.
    pub(super) fn crash(&mut self, seat: usize) {
        let it = &mut self.seats[seat];
        it.host = None;
        it.facts = None;
        it.held.clear();
        it.appended_bytes = 0;
        it.files.crash();
        self.inputs.retain(|(to, _)| *to != seat);
        for other in self.others(seat) {
            let peer = member(seat).node;
            self.tell(other, NetworkInput::Disconnected { peer });
        }
    }

    fn others(&self, seat: usize) -> Vec<usize> {
        (0..self.seats.len()).filter(|at| *at != seat && self.seats[*at].host.is_some()).collect()
    }

    fn tell(&mut self, seat: usize, input: NetworkInput) {
        self.inputs.push_back((seat, Input::Network(input)));
    }

    /// Lets this much time go by.
    pub(super) fn run(&mut self, time: Duration) {
        let end = self.now.plus(time);
        while self.now < end {
            self.settle();
            self.now = self.now.plus(Duration::from_millis(5));
            for seat in 0..self.seats.len() {
                let Some(host) = &mut self.seats[seat].host else { continue };
                if host.deadline().is_some_and(|due| due <= self.now) {
                    host.handle(self.now, Input::Timeout);
                }
            }
        }
    }

    /// Lets time go by until something holds.
    pub(super) fn until(&mut self, what: &str, mut holds: impl FnMut(&Self) -> bool) {
        for _ in 0..12_000 {
            if holds(self) {
                return;
            }
            self.run(Duration::from_millis(5));
        }
        panic!("a minute goes by and {what} does not come about");
    }

    fn settle(&mut self) {
        loop {
            for seat in 0..self.seats.len() {
                self.drain(seat);
            }
            let Some((seat, input)) = self.inputs.pop_front() else { return };
            if let Some(host) = &mut self.seats[seat].host {
                host.handle(self.now, input);
            }
        }
    }

    fn drain(&mut self, seat: usize) {
        while let Some(output) = self.seats[seat].host.as_mut().and_then(Host::poll) {
            self.output(seat, output);
        }
    }

    fn output(&mut self, seat: usize, output: Output) {
        let it = &mut self.seats[seat];
        match output {
            Output::Store(job) => {
                it.store.commit(std::slice::from_ref(&job));
                self.inputs.push_back((seat, Input::Stored(vec![job.ticket()])));
            }
            Output::Load { load, range, bytes_max } => {
                let result: Result<_, LoadError> = it.store.load(load.group, range, bytes_max);
                self.inputs.push_back((seat, Input::Loaded { load, result }));
            }
            Output::Snapshot(job) => {
                let restores = matches!(job.work, SnapshotWork::Restore { .. });
                if let SnapshotWork::Append { bytes, .. } = &job.work {
                    it.appended_bytes += bytes.len();
                }
                let Some(done) = job.run(&mut it.files) else { return };
                if let Done::Resumed { result: Ok(found), .. } = &done.done {
                    it.resumed.push(found.map_or(0, |(_, offset)| offset));
                }
                if restores && it.holds {
                    it.held.push(done);
                } else {
                    self.inputs.push_back((seat, Input::Snapshot(done)));
                }
            }
            Output::Share { incarnation, clusters, .. } => {
                self.share(seat, incarnation, clusters.into_keys().collect());
            }
            Output::Send { to, scope, channel, body, .. } => {
                if let Some((to, from)) = self.path(seat, to, scope) {
                    self.tell(to, NetworkInput::Received { from, channel, body });
                }
            }
            Output::Request { id, to, scope, channel, payload, .. } => {
                let Some((to, from)) = self.path(seat, to, scope) else {
                    let result = Err(RequestError::NotSent(NotSent::NotConnected));
                    return self.tell(seat, NetworkInput::Reply { id, result });
                };
                let number = self.asked.len() as u64;
                let served = self.seats[seat].appended_bytes < self.serves_bytes;
                if channel == Channel::Snapshot && !served {
                    return;
                }
                if channel == Channel::Snapshot && self.loses && number.is_multiple_of(3) {
                    self.asked.insert(number, (seat, id));
                    let result = Err(RequestError::Lost);
                    return self.tell(seat, NetworkInput::Reply { id, result });
                }
                self.asked.insert(number, (seat, id));
                let token = ReplyToken::new(0, 0, number);
                self.tell(to, NetworkInput::Request { from, channel, token, payload });
            }
            Output::Reply { token, payload } => {
                if token.stream() == 1 {
                    self.direct = Some(payload);
                    return;
                }
                let (seat, id) = self.asked[&token.request()];
                self.tell(seat, NetworkInput::Reply { id, result: Ok(payload) });
            }
            Output::Answer { id, response } => {
                self.answers.insert(id.get(), response);
            }
            Output::Event { event, .. } => it.events.push(event),
            // Addresses are of no use here.
            _ => {}
        }
    }

    /// Where a frame goes, and how its receiver sees its sender.
    fn path(&self, seat: usize, to: NodeId, scope: Scope) -> Option<(usize, Source)> {
        let (mine, theirs) = (self.seats[seat].facts.as_ref()?, self.seat_of(to)?);
        let shared = |facts: &PeerFacts| {
            scope.cluster().is_none_or(|cluster| facts.clusters.contains(&cluster))
        };
        self.seats[theirs].facts.as_ref().filter(|facts| shared(facts) && shared(mine))?;
        let incarnation = mine.incarnation;
        let from = Source { node: member(seat).node, incarnation, namespace: namespace(), scope };
        Some((theirs, from))
    }

    fn seat_of(&self, node: NodeId) -> Option<usize> {
        (0..self.seats.len()).find(|seat| member(*seat).node == node)
    }

    fn share(&mut self, seat: usize, incarnation: Incarnation, clusters: BTreeSet<ClusterId>) {
        let cluster = clusters.first().copied();
        let (role, incarnation) = (PeerRole::Member, Some(incarnation));
        let facts =
            PeerFacts { role, cluster, clusters, incarnation, supports: Some(VERSION_LATEST) };
        self.seats[seat].facts = Some(facts.clone());
        for other in self.others(seat) {
            let peer = member(seat).node;
            let (namespace, facts) = (namespace(), facts.clone());
            self.tell(other, NetworkInput::Shared { peer, namespace, facts });
            if let Some(facts) = self.seats[other].facts.clone() {
                let (peer, namespace) = (member(other).node, super::world::namespace());
                self.tell(seat, NetworkInput::Shared { peer, namespace, facts });
            }
        }
    }

    /// Hands a host what was held back.
    pub(super) fn release(&mut self, seat: usize) {
        self.seats[seat].holds = false;
        for done in std::mem::take(&mut self.seats[seat].held) {
            self.inputs.push_back((seat, Input::Snapshot(done)));
        }
    }

    /// Asks a node something; the number of the answer.
    pub(super) fn call(&mut self, seat: usize, operation: Operation) -> u64 {
        self.calls += 1;
        let (id, timeout) = (CallId::new(self.calls), Duration::from_secs(30));
        let input = Input::Call { id, namespace: namespace(), operation, timeout };
        self.inputs.push_back((seat, input));
        self.calls
    }

    pub(super) fn answer(&self, call: u64) -> Option<&Response> {
        self.answers.get(&call)
    }

    /// Writes a pair through a node, and waits until that is done.
    pub(super) fn set(&mut self, seat: usize, key: &str, value: &str) {
        let (key, value) = (Bytes::from(key.to_owned()), Bytes::from(value.to_owned()));
        let payload = KvCommand::Set { key, value }.encode();
        let call = self.call(seat, write(SessionId::NONE, Sequence::ZERO, payload));
        self.until("a write", |world| world.answer(call).is_some());
        let answer = self.answer(call);
        assert!(matches!(answer, Some(Ok(Reply::Written { .. }))), "{answer:?}");
    }

    /// Reads a key at a node.
    pub(super) fn get(&mut self, seat: usize, key: &str, level: Level) -> u64 {
        let query = KvQuery::Get { key: Bytes::from(key.to_owned()) }.encode();
        self.call(seat, Operation::Read { level, query })
    }

    /// What a read answered.
    pub(super) fn read(&self, call: u64) -> Option<Result<Bytes, ServiceError>> {
        let answer = self.answer(call)?;
        Some(match answer {
            Ok(Reply::Read { response, .. }) => Ok(response.clone()),
            Ok(other) => panic!("no answer to a read: {other:?}"),
            Err(error) => Err(error.clone()),
        })
    }

    /// Asks a node for a part of a snapshot, as somebody who says this of itself.
    pub(super) fn ask(
        &mut self,
        seat: usize,
        incarnation: Option<Incarnation>,
        scope: Scope,
        payload: Bytes,
    ) -> FetchBody {
        let node = NodeId::new([99; 32]);
        let from = Source { node, incarnation, namespace: namespace(), scope };
        let (channel, token) = (Channel::Snapshot, ReplyToken::new(1, 0, 0));
        self.direct = None;
        self.tell(seat, NetworkInput::Request { from, channel, token, payload });
        self.until("a reply", |world| world.direct.is_some());
        FetchReply::decode(&self.direct.take().unwrap()).unwrap().body
    }

    pub(super) fn status(&self, seat: usize) -> meshraft_service::wire::Status {
        self.seats[seat].host.as_ref().and_then(|host| host.status(&namespace())).unwrap()
    }

    pub(super) fn hash(&self, seat: usize) -> Option<(Index, u64)> {
        let replica = self.seats[seat].host.as_ref()?.replica(&namespace())?;
        let state = replica.replicated()?;
        Some((state.applied().index, state.state_hash()))
    }

    /// A node that leads, as it says itself.
    pub(super) fn leader(&mut self) -> usize {
        let leads = |world: &Self| {
            (0..3).find(|seat| {
                world.seats[*seat].host.is_some()
                    && world.status(*seat).leader == Some(member(*seat).node)
            })
        };
        self.until("a leader", |world| leads(world).is_some());
        leads(self).unwrap()
    }
}

pub(super) fn write(session: SessionId, sequence: Sequence, payload: Bytes) -> Operation {
    Operation::Write { session, sequence, acked_below: Sequence::ZERO, payload }
}

fn core() -> Config {
    ConfigBuilder { keep_entries_max: 0, ..ConfigBuilder::simulation() }.build().unwrap()
}

fn options() -> NamespaceOptions {
    NamespaceOptions {
        expect: None,
        found: false,
        window: Duration::from_secs(5),
        threshold_percent: 80,
        force: false,
        voters_target: 3,
        core: core(),
        machine: Box::new(Kv::default()),
        supports: VERSION_LATEST,
        snapshot_bytes: u64::MAX,
        snapshot_entries: SNAPSHOT_ENTRIES,
        known: Vec::new(),
        targets: 0,
        keyed: false,
    }
}
