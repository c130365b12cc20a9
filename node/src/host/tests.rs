//! Restarts of a node from what a crash left on disk, as a value: no socket, no file, no clock.

use std::{collections::BTreeSet, num::NonZeroU16, time::Duration};

use bytes::Bytes;
use meshraft_consensus::{
    ConfigBuilder, Configuration, Dismissed, Entry, EntryKind, HardState, Incarnation, Index,
    IndexRange, Member, Message, Moment, Namespace, NodeId, Position, Term,
};
use meshraft_discovery::{Ballot, Departure, FounderSet, Record};
use meshraft_service::{envelope::VERSION_LATEST, kv::Kv, wire::NodeRole};
use meshraft_storage::{GroupId, Job, Opened, OpenedGroup, OpenedNamespace};
use meshraft_transport::{Body, Channel, Scope, Source};

use super::{Host, HostConfig, Input, NamespaceOptions, NetworkInput, Output, record::HostRecord};

fn member(number: u8) -> Member {
    Member::new(NodeId::new([number; 32]), Incarnation::new([number; 16]))
}

fn namespace() -> Namespace {
    Namespace::new("/jobs").unwrap()
}

fn founders(count: u8) -> FounderSet {
    let ballot = Ballot { counter: 1, coordinator: member(1).node };
    FounderSet::new(ballot, (1..=count).map(member).collect::<BTreeSet<_>>()).unwrap()
}

/// A store that holds the promise of `set` and this much of its group's log.
fn promised(set: &FounderSet, group: OpenedGroup) -> Opened {
    let record =
        Record { seen: set.ballot, promise: Some(set.clone()), cluster: None, ..Record::default() };
    let (node, incarnation) = (member(1).node, member(1).incarnation);
    let founding = record.encode().to_vec();
    let record = HostRecord::of_test(node, incarnation, founding);
    let found = OpenedNamespace {
        namespace: namespace(),
        record: record.encode().into(),
        groups: vec![group],
    };
    Opened { next_group: GroupId::new(8), namespaces: vec![found] }
}

fn group(set: &FounderSet, last: Position) -> OpenedGroup {
    OpenedGroup {
        group: GroupId::new(7),
        cluster: set.id(&namespace()),
        hard: HardState::default(),
        snapshot: None,
        terms: Vec::new(),
        configurations: Vec::new(),
        last,
        damage: None,
    }
}

fn opened(opened: Opened) -> Host {
    let config = HostConfig::of_test(member(1).node, [9; 32]);
    let mut host = Host::new(config, opened, Moment::ZERO);
    let options = NamespaceOptions {
        expect: NonZeroU16::new(2),
        found: true,
        window: Duration::from_secs(5),
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
        keyed: false,
    };
    host.handle(Moment::ZERO, Input::Open { namespace: namespace(), options, found: None });
    host
}

fn record_of(job: &Job) -> Option<Record> {
    let Job::Record { record, .. } = job else { return None };
    Some(Record::decode(&HostRecord::decode(record).unwrap().founding).unwrap())
}

/// Everything that the host stores until it is quiet, with loads answered from `log`.
fn settle(host: &mut Host, now: Moment, log: &[Entry]) -> Vec<Job> {
    let mut jobs = Vec::new();
    while let Some(output) = host.poll() {
        match output {
            Output::Load { load, .. } => {
                let result = Ok(log.to_vec());
                host.handle(now, Input::Loaded { load, result });
            }
            Output::Store(job) => {
                host.handle(now, Input::Stored(vec![job.ticket()]));
                jobs.push(job);
            }
            _ => {}
        }
    }
    jobs
}

/// The commit hint may be on disk before the record says that the cluster lives: the core then
/// knows the fate at once, and founding must be told it all the same.
#[test]
fn a_cluster_that_was_founded_before_the_crash_is_recorded_after_it() {
    let set = founders(3);
    let term = Term::new(1);
    let configuration = Configuration::of_voters(set.members.iter().copied());
    let entry = |index, kind, bytes| {
        let position = Position::new(term, Index::new(index));
        Entry { position, kind, bytes }
    };
    let log = [
        entry(1, EntryKind::Configuration, configuration.encode()),
        entry(2, EntryKind::Noop, Bytes::new()),
    ];
    let on_disk = OpenedGroup {
        hard: HardState { term, vote: Some(member(2)), commit_hint: Index::new(1) },
        terms: vec![Position::new(term, Index::new(1))],
        configurations: vec![(Index::new(1), configuration)],
        ..group(&set, Position::new(term, Index::new(2)))
    };
    let mut host = opened(promised(&set, on_disk));
    let jobs = settle(&mut host, Moment::ZERO, &log[..1]);
    let records: Vec<_> = jobs.iter().filter_map(record_of).collect();
    let cluster = set.id(&namespace());
    assert_eq!(records.last().and_then(|record| record.cluster), Some(cluster), "{jobs:?}");
    assert_eq!(host.status(&namespace()).and_then(|status| status.cluster), Some(cluster));
}

/// An old copy of a disk may be from before the founding was decided, and its node removed since.
#[test]
fn who_is_still_bound_learns_that_the_cluster_lives_without_it() {
    let set = founders(3);
    let cluster = set.id(&namespace());
    let mut host = opened(promised(&set, group(&set, Position::ZERO)));
    settle(&mut host, Moment::ZERO, &[]);
    let leader = member(2);
    let from = Source {
        node: leader.node,
        incarnation: Some(leader.incarnation),
        namespace: namespace(),
        scope: Scope::Cluster(cluster),
    };
    let dismissed = Dismissed { term: Term::new(3), index: Index::new(4) };
    let body = Body::Consensus(Message::Dismissed(dismissed));
    let received = NetworkInput::Received { from, channel: Channel::Control, body };
    host.handle(Moment::ZERO, Input::Network(received));
    let jobs = settle(&mut host, Moment::ZERO, &[]);
    let record = jobs.iter().filter_map(record_of).next_back().expect("a record is written");
    assert_eq!((record.cluster, record.departed), (Some(cluster), Some(Departure::Removed)));
    let status = host.status(&namespace()).unwrap();
    assert_eq!((status.cluster, status.role), (Some(cluster), NodeRole::Removed));
}

/// One of a pair may leave alone if it appended nothing; a log that can't be read proves nothing.
#[test]
fn a_damaged_log_is_not_an_empty_one() {
    let set = founders(2);
    let slots = IndexRange { first: Index::new(1), last: Index::new(1) };
    for (damage, leaves) in [(Some(slots), false), (None, true)] {
        let on_disk = OpenedGroup { damage, ..group(&set, Position::ZERO) };
        let mut host = opened(promised(&set, on_disk));
        let mut left = false;
        for second in 0..60 {
            let now = Moment::from_millis(second * 1000);
            host.handle(now, Input::Timeout);
            let jobs = settle(&mut host, now, &[]);
            left |= jobs.iter().filter_map(record_of).any(|record| record.promise.is_none());
        }
        assert_eq!(left, leaves, "damage: {damage:?}");
    }
}

/// A new identity beside an old log would be a member that nobody knows.
#[test]
fn a_store_of_another_node_is_refused_by_name() {
    let set = founders(2);
    let config = HostConfig::of_test(member(5).node, [9; 32]);
    let store = promised(&set, group(&set, Position::ZERO));
    let host = Host::new(config, store, Moment::ZERO);
    assert_eq!(
        host.check(&namespace()),
        Err(super::RecordError::OtherNode { of: member(1).node, node: member(5).node })
    );
}
