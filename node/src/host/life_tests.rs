//! What a life of a namespace leaves to the next one in the same process, and what not: a renewed
//! store, and one that is opened again. As a value: no socket, no file, no clock.

use std::{collections::BTreeSet, time::Duration};

use meshraft_consensus::{
    Amnesia, ClusterId, ConfigBuilder, Configuration, HardState, Incarnation, Index, LoadError,
    Member, Message, Moment, Namespace, NodeId, Position, Term,
};
use meshraft_discovery::{Departure, Record};
use meshraft_service::{
    ServiceError,
    envelope::VERSION_LATEST,
    kv::Kv,
    wire::{self, NodeRole, Operation, Reply, Request, Response},
};
use meshraft_storage::{GroupId, Job, Opened, OpenedGroup, OpenedNamespace, Ticket};
use meshraft_transport::{Body, Channel, PeerFacts, PeerRole, Scope, Source};

use super::{
    CallId, Host, HostConfig, Input, NamespaceOptions, NetworkInput, NodeEvent, Output,
    fenced::FencedGroup, record::HostRecord,
};

const CLUSTER: ClusterId = ClusterId::new([3; 32]);

fn member(number: u8) -> Member {
    Member::new(NodeId::new([number; 32]), Incarnation::new([number; 16]))
}

fn namespace() -> Namespace {
    Namespace::new("/jobs").unwrap()
}

/// A store of member 1 in a cluster of three, whose log ends at 5.
fn found() -> OpenedNamespace {
    found_departed(None)
}

/// The same, of a member that is out.
fn found_departed(departed: Option<Departure>) -> OpenedNamespace {
    let record = Record { cluster: Some(CLUSTER), departed, ..Record::default() };
    let (node, incarnation) = (member(1).node, member(1).incarnation);
    let founding = record.encode().to_vec();
    let term = Term::new(1);
    let group = OpenedGroup {
        group: GroupId::new(7),
        cluster: CLUSTER,
        hard: HardState { term, vote: None, commit_hint: Index::new(2) },
        snapshot: None,
        terms: vec![Position::new(term, Index::new(1))],
        configurations: vec![(Index::new(1), Configuration::of_voters((1..=3).map(member)))],
        last: Position::new(term, Index::new(5)),
        damage: None,
    };
    let record = HostRecord::of_test(node, incarnation, founding);
    OpenedNamespace { namespace: namespace(), record: record.encode().into(), groups: vec![group] }
}

fn options() -> NamespaceOptions {
    NamespaceOptions {
        expect: None,
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
        keyed: false,
    }
}

fn host() -> Host {
    host_on(found())
}

fn host_on(found: OpenedNamespace) -> Host {
    let config = HostConfig::of_test(member(1).node, [9; 32]);
    let opened = Opened { next_group: GroupId::new(8), namespaces: vec![found] };
    let mut host = Host::new(config, opened, Moment::ZERO);
    let open = Input::Open { namespace: namespace(), options: options(), found: None };
    host.handle(Moment::ZERO, open);
    host
}

fn drain(host: &mut Host) -> Vec<Output> {
    std::iter::from_fn(|| host.poll()).collect()
}

fn jobs(outputs: Vec<Output>) -> Vec<Job> {
    let job = |output| match output {
        Output::Store(job) => Some(job),
        _ => None,
    };
    outputs.into_iter().filter_map(job).collect()
}

fn record_of(job: &Job) -> Option<(HostRecord, Record, Vec<GroupId>)> {
    let Job::Record { record, drop, .. } = job else { return None };
    let record = HostRecord::decode(record).unwrap();
    let founding = Record::decode(&record.founding).unwrap();
    Some((record, founding, drop.clone()))
}

fn from_leader(message: Message) -> Input {
    let leader = member(2);
    let from = Source {
        node: leader.node,
        incarnation: Some(leader.incarnation),
        namespace: namespace(),
        scope: Scope::Cluster(CLUSTER),
    };
    let body = Body::Consensus(message);
    Input::Network(NetworkInput::Received { from, channel: Channel::Control, body })
}

/// A member of the cluster can be reached.
fn meet(number: u8) -> Input {
    let facts = PeerFacts {
        role: PeerRole::Member,
        cluster: Some(CLUSTER),
        clusters: [CLUSTER].into(),
        incarnation: Some(member(number).incarnation),
        supports: Some(VERSION_LATEST),
    };
    let peer = member(number).node;
    Input::Network(NetworkInput::Shared { peer, namespace: namespace(), facts })
}

fn call(number: u64, operation: Operation) -> Input {
    let (id, timeout) = (CallId::new(number), Duration::from_secs(20));
    Input::Call { id, namespace: namespace(), operation, timeout }
}

fn answers(outputs: &[Output]) -> Vec<(CallId, Response)> {
    let answer = |output: &Output| match output {
        Output::Answer { id, response } => Some((*id, response.clone())),
        _ => None,
    };
    outputs.iter().filter_map(answer).collect()
}

/// Makes durable what was written, until nothing more is.
fn settle(host: &mut Host, now: Moment, mut outputs: Vec<Output>) -> Vec<Output> {
    let mut all = Vec::new();
    loop {
        let ticket = |output: &Output| match output {
            Output::Store(job) => Some(job.ticket()),
            _ => None,
        };
        let tickets: Vec<_> = outputs.iter().filter_map(ticket).collect();
        all.append(&mut outputs);
        if tickets.is_empty() {
            return all;
        }
        host.handle(now, Input::Stored(tickets));
        outputs = drain(host);
    }
}

fn shares(outputs: &[Output]) -> Vec<(Incarnation, BTreeSet<ClusterId>)> {
    let share = |output: &Output| match output {
        Output::Share { incarnation, clusters, .. } => {
            Some((*incarnation, clusters.keys().copied().collect()))
        }
        _ => None,
    };
    outputs.iter().filter_map(share).collect()
}

#[test]
fn a_store_that_went_back_in_time_begins_anew_in_one_write_before_anybody_hears_of_it() {
    let mut host = host();
    let before = drain(&mut host);
    assert_eq!(shares(&before), [(member(1).incarnation, [CLUSTER].into())]);
    let amnesia = Amnesia { term: Term::new(2), acknowledged: Index::new(9) };
    host.handle(Moment::ZERO, from_leader(Message::Amnesia(amnesia)));
    let outputs = drain(&mut host);
    assert!(shares(&outputs).is_empty(), "it is not durable yet");
    assert!(!outputs.iter().any(|output| matches!(output, Output::Send { .. })), "{outputs:?}");
    let renewed = outputs.iter().find_map(|output| match output {
        Output::Event { event: NodeEvent::Amnesia { lost, renewed, acknowledged }, .. } => {
            assert_eq!((*lost, *acknowledged), (member(1).incarnation, Index::new(9)));
            Some(*renewed)
        }
        _ => None,
    });
    let renewed = renewed.expect("it is told");
    let jobs = jobs(outputs);
    let (record, founding, dropped) = jobs.iter().find_map(record_of).expect("a record is written");
    // The log of the lost incarnation is fenced, and nothing of it is deleted.
    assert_eq!((record.incarnation, dropped), (renewed, vec![]));
    let [fenced] = record.fenced[..] else { panic!("{:?}", record.fenced) };
    let expected = (7, CLUSTER, member(1).incarnation, Index::new(9));
    let FencedGroup { group, cluster, incarnation, acknowledged } = fenced;
    assert_eq!((group, cluster, incarnation, acknowledged), expected);
    assert_eq!((founding.cluster, founding.former), (None, Some(CLUSTER)));

    // Nothing is said to a peer that is met now.
    host.handle(Moment::ZERO, meet(3));
    let outputs = drain(&mut host);
    assert!(!outputs.iter().any(|output| matches!(output, Output::Send { .. })), "{outputs:?}");

    // Whatever the old life waited for is nothing to the new one.
    let written = jobs.iter().find(|job| record_of(job).is_some()).expect("as above").ticket();
    let others: Vec<_> = jobs.iter().map(Job::ticket).filter(|it| *it != written).collect();
    host.handle(Moment::ZERO, Input::Stored(others));
    assert!(shares(&drain(&mut host)).is_empty());
    host.handle(Moment::ZERO, Input::Stored(vec![written]));
    let outputs = drain(&mut host);
    assert_eq!(shares(&outputs), [(renewed, BTreeSet::new())]);
    let asked =
        |output: &Output| matches!(output, Output::Send { to, .. } if *to == member(3).node);
    assert!(outputs.iter().any(asked), "it meets its peers now: {outputs:?}");
    let status = host.status(&namespace()).unwrap();
    assert_eq!((status.incarnation, status.cluster), (renewed, None));
}

#[test]
fn an_opening_hears_nothing_of_what_an_earlier_one_asked_for() {
    let mut host = host();
    let outputs = drain(&mut host);
    let load = outputs.iter().find_map(|output| match output {
        Output::Load { load, .. } => Some(load.clone()),
        _ => None,
    });
    let load = load.expect("the committed entries are loaded to be applied");
    let written: Vec<_> = jobs(outputs).iter().map(Job::ticket).collect();
    host.handle(Moment::ZERO, Input::Close { namespace: namespace() });
    drain(&mut host);

    // What the store holds by now is given along; without it the namespace is not opened.
    let again = Input::Open { namespace: namespace(), options: options(), found: None };
    host.handle(Moment::ZERO, again);
    assert!(host.status(&namespace()).is_none());
    let found = Some(Box::new(found()));
    host.handle(Moment::ZERO, Input::Open { namespace: namespace(), options: options(), found });
    drain(&mut host);
    let before = host.status(&namespace()).unwrap();
    assert_eq!(before.incarnation, member(1).incarnation);

    // An answer to the old core would make the new one go on from entries that it did not ask for.
    let result = Err(LoadError::Failed);
    host.handle(Moment::ZERO, Input::Loaded { load, result });
    host.handle(Moment::ZERO, Input::Stored(written));
    host.handle(Moment::ZERO, Input::Stored(vec![Ticket::new(1), Ticket::new(2)]));
    drain(&mut host);
    assert_eq!(host.status(&namespace()).unwrap(), before);
}

#[test]
fn a_leave_is_durable_before_it_is_asked_for_and_answered_at_its_deadline() {
    let mut host = host();
    drain(&mut host);
    let (id, timeout) = (CallId::new(1), Duration::from_millis(300));
    let operation = Operation::Leave;
    let call = Input::Call { id, namespace: namespace(), operation, timeout };
    host.handle(Moment::ZERO, call);
    let asked = jobs(drain(&mut host));
    let (_, founding, _) = asked.iter().find_map(record_of).expect("the wish is written");
    assert_eq!(founding.departed, Some(Departure::Left));

    let deadline = Moment::ZERO.plus(timeout);
    let mut answers = Vec::new();
    while let Some(now) = host.deadline().filter(|at| *at <= deadline) {
        host.handle(now, Input::Timeout);
        answers.extend(drain(&mut host).into_iter().filter_map(|output| match output {
            Output::Answer { id, response } => Some((now, id, response)),
            _ => None,
        }));
    }
    let expected = Err(ServiceError::Timeout { maybe: true });
    assert_eq!(answers, [(deadline, id, expected)]);
}

/// One that is out, and told to leave before it knows, hears of no leader: whoever it meets does.
#[test]
fn a_leave_goes_through_any_member_that_can_be_reached() {
    let mut host = host_on(found_departed(Some(Departure::Left)));
    let mut now = Moment::ZERO;
    drain(&mut host);
    host.handle(now, meet(2));
    host.handle(now, meet(3));
    host.handle(now, call(1, Operation::Leave));
    let outputs = drain(&mut host);
    let mut outputs = settle(&mut host, now, outputs);
    let not_leader = || ServiceError::NotLeader { leader: None, term: Term::new(1) };
    let refused: [Option<ServiceError>; 3] = [Some(not_leader()), Some(not_leader()), None];
    for (to, refusal) in [2, 3, 2].into_iter().zip(refused) {
        let asked = loop {
            let asked = outputs.iter().find_map(|output| match output {
                Output::Request { id, to, scope, channel, payload, .. } => {
                    assert_eq!((*scope, *channel), (Scope::Cluster(CLUSTER), Channel::Command));
                    let request = Request::decode(payload).unwrap();
                    assert_eq!(request.operation, Operation::Remove { node: member(1).node });
                    Some((*id, *to))
                }
                _ => None,
            });
            if let Some(asked) = asked {
                break asked;
            }
            now = host.deadline().unwrap();
            host.handle(now, Input::Timeout);
            let drained = drain(&mut host);
            outputs = settle(&mut host, now, drained);
        };
        assert_eq!(asked.1, member(to).node, "one after the other");
        let response = match refusal {
            Some(error) => Err(error),
            None => Ok(Reply::Removed { members: Vec::new() }),
        };
        let result = Ok(wire::encode_response(&response));
        host.handle(now, Input::Network(NetworkInput::Reply { id: asked.0, result }));
        outputs = drain(&mut host);
    }
    assert_eq!(answers(&outputs), [(CallId::new(1), Ok(Reply::Left))]);
    assert_eq!(host.status(&namespace()).unwrap().role, NodeRole::Left);
}

#[test]
fn who_was_removed_is_no_member_that_could_leave() {
    let mut host = host_on(found_departed(Some(Departure::Removed)));
    drain(&mut host);
    host.handle(Moment::ZERO, call(1, Operation::Leave));
    let outputs = drain(&mut host);
    assert_eq!(answers(&outputs), [(CallId::new(1), Err(ServiceError::NotMember))]);
    assert!(jobs(outputs).iter().all(|job| record_of(job).is_none()), "nothing is forgotten");
}
