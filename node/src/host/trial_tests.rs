//! An admission in an open namespace: what is written, heard and said before the first entry.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use meshraft_consensus::{
    AppendRequest, ClusterId, ConfigBuilder, Configuration, Entry, EntryKind, Incarnation, Index,
    Member, Message, Moment, Namespace, NodeId, Position, Term, VoteKind, VoteRequest,
};
use meshraft_discovery::{
    Ballot, Record,
    founding::{Doubt, Event as FoundingEvent},
    wire::{self as founding_wire, Binding, Standing},
};
use meshraft_service::{envelope::VERSION_LATEST, kv::Kv, wire::NodeRole};
use meshraft_storage::{Job, MemoryStore, Opened};
use meshraft_transport::{Body, Channel, PeerFacts, PeerRole, Scope, Source};

use super::{Host, HostConfig, Input, NamespaceOptions, NetworkInput, NodeEvent, Output};
use crate::host::record::HostRecord;

const CLUSTER: ClusterId = ClusterId::new([7; 32]);

fn member(number: u8) -> Member {
    Member::new(NodeId::new([number; 32]), Incarnation::new([number; 16]))
}

fn namespace() -> Namespace {
    Namespace::new("/jobs").unwrap()
}

/// A node on a store, which makes everything durable as soon as it is asked to.
struct Node {
    host: Host,
    store: MemoryStore,
    now: Moment,
    /// What was asked since the last look, but for the store.
    said: Vec<Output>,
    jobs: Vec<Job>,
}

impl Node {
    fn start(store: MemoryStore, keyed: bool) -> Self {
        let config = HostConfig::of_test(member(1).node, [9; 32]);
        let opened: Opened = store.opened();
        let mut host = Host::new(config, opened, Moment::ZERO);
        let options = NamespaceOptions {
            expect: std::num::NonZeroU16::new(3),
            found: true,
            window: Duration::from_secs(1),
            threshold_percent: 80,
            force: false,
            voters_target: 5,
            core: ConfigBuilder::local().build().unwrap(),
            machine: Box::new(Kv::default()),
            supports: VERSION_LATEST,
            snapshot_bytes: NamespaceOptions::SNAPSHOT_BYTES,
            snapshot_entries: NamespaceOptions::SNAPSHOT_ENTRIES,
            known: Vec::new(),
            targets: 0,
            keyed,
        };
        host.handle(Moment::ZERO, Input::Open { namespace: namespace(), options, found: None });
        let (said, jobs) = (Vec::new(), Vec::new());
        let mut node = Self { host, store, now: Moment::ZERO, said, jobs };
        node.settle();
        node
    }

    /// A free node, and a peer that told it of its cluster and said that it is admitted.
    fn admitted(keyed: bool) -> Self {
        let mut node = Self::start(MemoryStore::default(), keyed);
        node.meet_and_be_admitted();
        node
    }

    fn meet_and_be_admitted(&mut self) {
        let facts = PeerFacts {
            role: PeerRole::Member,
            cluster: Some(CLUSTER),
            clusters: [CLUSTER].into(),
            incarnation: Some(member(2).incarnation),
            supports: Some(VERSION_LATEST),
        };
        let peer = member(2).node;
        self.input(Input::Network(NetworkInput::Shared { peer, namespace: namespace(), facts }));
        let binding = Binding::Living { cluster: CLUSTER };
        let standing = Standing { seen: Ballot::NONE, expect: None, binding };
        self.hear(&founding_wire::Message::CanvassAnswer(standing));
        let incarnation = self.host.status(&namespace()).unwrap().incarnation;
        self.hear(&founding_wire::Message::Admitted {
            cluster: CLUSTER,
            member: Member::new(member(1).node, incarnation),
            index: Index::new(5),
            members: [member(2)].into(),
            cards: Vec::new(),
        });
    }

    fn input(&mut self, input: Input) {
        self.host.handle(self.now, input);
        self.settle();
    }

    fn hear(&mut self, message: &founding_wire::Message) {
        self.received(Scope::Free, Body::Bytes(message.encode()));
    }

    fn hear_core(&mut self, message: Message) {
        self.received(Scope::Cluster(CLUSTER), Body::Consensus(message));
    }

    fn received(&mut self, scope: Scope, body: Body) {
        self.received_from(member(2), scope, body);
    }

    fn received_from(&mut self, sender: Member, scope: Scope, body: Body) {
        let from = Source {
            node: sender.node,
            incarnation: Some(sender.incarnation),
            namespace: namespace(),
            scope,
        };
        let channel = Channel::Control;
        self.input(Input::Network(NetworkInput::Received { from, channel, body }));
    }

    fn settle(&mut self) {
        while let Some(output) = self.host.poll() {
            match output {
                Output::Store(job) => {
                    self.store.commit(std::slice::from_ref(&job));
                    let ticket = job.ticket();
                    self.jobs.push(job);
                    self.host.handle(self.now, Input::Stored(vec![ticket]));
                }
                other => self.said.push(other),
            }
        }
    }

    fn run(&mut self, time: Duration) {
        let end = self.now.plus(time);
        while let Some(deadline) = self.host.deadline().filter(|at| *at <= end) {
            self.now = self.now.max(deadline);
            self.input(Input::Timeout);
        }
        self.now = end;
    }

    /// The founding record as it is on the disk.
    fn record(&self) -> Record {
        Record::decode(&self.host_record().founding).unwrap()
    }

    fn host_record(&self) -> HostRecord {
        let opened = self.store.reopen(&namespace()).unwrap();
        HostRecord::decode(&opened.record).unwrap()
    }

    /// A free peer is met, and says how it stands.
    fn meet_founder(&mut self, founder: Member) {
        let facts = PeerFacts {
            role: PeerRole::Member,
            cluster: None,
            clusters: BTreeSet::new(),
            incarnation: Some(founder.incarnation),
            supports: Some(VERSION_LATEST),
        };
        let peer = founder.node;
        self.input(Input::Network(NetworkInput::Shared { peer, namespace: namespace(), facts }));
        let standing = Standing { seen: Ballot::NONE, expect: None, binding: Binding::Free };
        let answer = founding_wire::Message::CanvassAnswer(standing);
        self.received_from(founder, Scope::Free, Body::Bytes(answer.encode()));
    }

    /// Whom the node told its transport to hear, by cluster, at last.
    fn heard(&self) -> BTreeMap<ClusterId, BTreeSet<Member>> {
        let shared = self.said.iter().rev().find_map(|output| match output {
            Output::Share { clusters, .. } => Some(clusters),
            _ => None,
        });
        let known = shared.into_iter().flatten();
        known.map(|(cluster, known)| (*cluster, known.members.clone())).collect()
    }

    fn groups(&self) -> BTreeSet<ClusterId> {
        let opened = self.store.reopen(&namespace()).unwrap();
        opened.groups.iter().map(|group| group.cluster).collect()
    }

    fn answers(&mut self) -> Vec<Message> {
        let said = std::mem::take(&mut self.said);
        said.into_iter()
            .filter_map(|output| match output {
                Output::Send { body: Body::Consensus(message), .. } => Some(message),
                _ => None,
            })
            .collect()
    }

    fn events(&mut self) -> Vec<FoundingEvent> {
        let said = std::mem::take(&mut self.said);
        said.into_iter()
            .filter_map(|output| match output {
                Output::Event { event: NodeEvent::Founding(event), .. } => Some(event),
                _ => None,
            })
            .collect()
    }
}

fn append(entries: Vec<Entry>) -> Message {
    Message::AppendRequest(AppendRequest {
        term: Term::new(3),
        sequence: 1,
        previous: Position::ZERO,
        commit: Index::ZERO,
        entries,
    })
}

fn first_entry() -> Entry {
    let bytes = Configuration::of_voters([member(2)]).encode();
    let position = Position::new(Term::new(1), Index::new(1));
    Entry { position, kind: EntryKind::Configuration, bytes }
}

#[test]
fn with_a_key_the_cluster_is_on_record_at_once() {
    let node = Node::admitted(true);
    assert_eq!(node.record().cluster, Some(CLUSTER));
}

#[test]
fn the_record_names_the_cluster_in_one_write_with_its_first_entry() {
    let mut node = Node::admitted(false);
    assert_eq!(node.record().cluster, None, "a peer's word is on record");
    assert_eq!(node.host.status(&namespace()).unwrap().role, NodeRole::Joining);

    // A leader that has nothing to send is answered, and nothing more.
    node.hear_core(append(Vec::new()));
    assert!(matches!(node.answers()[..], [Message::AppendResponse(_)]));
    assert_eq!(node.record().cluster, None, "a probe is no entry");

    node.jobs.clear();
    node.hear_core(append(vec![first_entry()]));
    let entered = node.jobs.iter().filter_map(|job| match job {
        Job::Enter { write, .. } => Some(write.append.len()),
        _ => None,
    });
    assert_eq!(entered.collect::<Vec<_>>(), [1], "{:?}", node.jobs);
    assert_eq!(node.record().cluster, Some(CLUSTER));
    assert!(matches!(node.answers()[..], [Message::AppendResponse(_)]));
}

#[test]
fn on_trial_no_vote_is_given_and_nobody_is_retired() {
    let mut node = Node::admitted(false);
    node.said.clear();
    let request = VoteRequest {
        term: Term::new(9),
        kind: VoteKind::Campaign,
        last: Position::new(Term::new(9), Index::new(9)),
    };
    node.hear_core(Message::VoteRequest(request));
    let acknowledged = Index::new(9);
    node.hear_core(Message::Amnesia(meshraft_consensus::Amnesia {
        term: Term::new(9),
        acknowledged,
    }));
    assert!(node.answers().is_empty());
    node.hear_core(append(vec![first_entry()]));
    assert_eq!(node.record().cluster, Some(CLUSTER), "its term is still that of the leader");
}

#[test]
fn a_cluster_that_sends_nothing_is_dropped_and_its_peer_is_named() {
    let mut node = Node::admitted(false);
    assert_eq!(node.groups(), [CLUSTER].into());
    node.said.clear();
    // Ten upper election time-outs of the preset.
    node.run(Duration::from_millis(6_100));
    let passed_over = node.events().into_iter().find_map(|event| match event {
        FoundingEvent::PassedOver { peer, why, .. } => Some((peer, why)),
        _ => None,
    });
    let expected = Some((member(2).node, Doubt::NothingCame { cluster: CLUSTER }));
    assert_eq!(passed_over, expected);
    assert_eq!((node.record().cluster, node.groups()), (None, BTreeSet::new()));
    let waiting = node.host.status(&namespace()).unwrap().waiting.unwrap();
    assert_eq!(waiting.code, meshraft_service::wire::WaitingCode::PassedOver);
    assert_eq!(waiting.missing, [member(2).node]);
}

/// A liar that admits a free node is one of those that the node hears in the liar's cluster, and in
/// no other one: not in that which is founded after the trial, and not after a crash.
#[test]
fn who_admitted_in_vain_is_not_heard_in_the_next_cluster() {
    let mut node = Node::admitted(false);
    assert_eq!(node.heard()[&CLUSTER], [member(2)].into());
    node.input(Input::Timeout);
    assert_eq!(node.host_record().vouched, [], "of a cluster that the record does not name");
    node.run(Duration::from_millis(6_100));

    let others = [member(3), member(4)];
    others.into_iter().for_each(|founder| node.meet_founder(founder));
    let set = node.record().promise.expect("three are enough, and this one comes first");
    assert_eq!(node.heard()[&set.id(&namespace())], others.into());
    let vouched = node.host_record().vouched;
    assert!(vouched.iter().all(|(one, _)| *one != member(2)), "{vouched:?}");
}

#[test]
fn a_crash_on_trial_finds_the_node_free_and_it_can_be_admitted_again() {
    let node = Node::admitted(false);
    let mut node = Node::start(node.store, false);
    assert_eq!((node.record().cluster, node.groups()), (None, BTreeSet::new()));
    assert_eq!(node.host.status(&namespace()).unwrap().role, NodeRole::Free);
    node.meet_and_be_admitted();
    node.hear_core(append(vec![first_entry()]));
    assert_eq!((node.record().cluster, node.groups()), (Some(CLUSTER), [CLUSTER].into()));

    // After that a crash finds it a member.
    let node = Node::start(node.store, false);
    assert_eq!(node.host.status(&namespace()).unwrap().cluster, Some(CLUSTER));
}
