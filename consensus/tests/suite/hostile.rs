//! Any message, with any numbers in it, at any time: nothing panics, no invariant breaks, the term
//! never falls, and what is committed stays.

use std::{collections::BTreeSet, num::NonZeroU16, time::Duration};

use bytes::Bytes;
use meshraft_consensus::{
    Amnesia, AppendRequest, AppendResponse, AppendResult, ChangeStep, Committed, ConfigBuilder,
    Configuration, Dismissed, Entry, EntryKind, Heartbeat, HeartbeatResponse, Index, Input,
    InstallError, LoadError, Message, Moment, Output, Position, ProposalId, Quiesce, ReadId,
    ReadLevel, ReadRequest, ReadResponse, RepairRequest, RepairResponse, RepairResult,
    SnapshotMeta, SnapshotOffer, SnapshotResponse, Term, TimeoutNow, VoteKind, VoteRequest,
    VoteResponse,
};
use proptest::prelude::*;

use crate::{
    cluster::{Cluster, Disk, member},
    disk::File,
    transfer::Fetch,
};

/// Small numbers that meet, and the ends of the range.
fn number() -> impl Strategy<Value = u64> {
    prop_oneof![
        12 => 0_u64..12,
        1 => Just(u64::MAX),
        1 => Just(u64::MAX - 1),
        1 => Just(1 << 32),
        1 => any::<u64>(),
    ]
}

fn term() -> impl Strategy<Value = Term> {
    number().prop_map(Term::new)
}

fn index() -> impl Strategy<Value = Index> {
    number().prop_map(Index::new)
}

fn position() -> impl Strategy<Value = Position> {
    (term(), index()).prop_map(|(term, index)| Position::new(term, index))
}

fn entry() -> impl Strategy<Value = (u64, EntryKind, Bytes)> {
    let configuration = prop::collection::btree_set(1_u8..5, 0..4)
        .prop_map(|voters| Configuration::of_voters(voters.into_iter().map(member)).encode());
    prop_oneof![
        4 => (0_u64..2).prop_map(|step| (step, EntryKind::Command, Bytes::from_static(b"x"))),
        1 => (0_u64..2).prop_map(|step| (step, EntryKind::Noop, Bytes::new())),
        1 => (0_u64..2).prop_map(|step| (step, EntryKind::Abandon, Bytes::new())),
        1 => (0_u64..2, configuration)
            .prop_map(|(step, bytes)| (step, EntryKind::Configuration, bytes)),
        1 => (0_u64..2).prop_map(|step| (step, EntryKind::Configuration, Bytes::from_static(b"?"))),
    ]
}

/// Entries that follow a position more often than not: terms rise by steps, slots by one.
fn append() -> impl Strategy<Value = AppendRequest> {
    let entries = prop::collection::vec((entry(), prop::bool::weighted(0.02)), 0..5);
    (term(), number(), position(), index(), entries).prop_map(
        |(term, sequence, previous, commit, steps)| {
            let mut at = previous;
            let entries = steps
                .into_iter()
                .map(|((step, kind, bytes), gap)| {
                    let index = if gap { at.index } else { at.index.next() };
                    at = Position::new(Term::new(at.term.get().saturating_add(step)), index);
                    Entry { position: at, kind, bytes }
                })
                .collect();
            AppendRequest { term, sequence, previous, commit, entries }
        },
    )
}

fn kind() -> impl Strategy<Value = VoteKind> {
    prop_oneof![Just(VoteKind::Pre), Just(VoteKind::Campaign), Just(VoteKind::Transfer)]
}

fn append_result() -> impl Strategy<Value = AppendResult> {
    prop_oneof![
        index().prop_map(AppendResult::Matched),
        (position(), position()).prop_map(|(hint, last)| AppendResult::Conflict { hint, last }),
    ]
}

fn message() -> impl Strategy<Value = Message> {
    prop_oneof![
        4 => append().prop_map(Message::AppendRequest),
        4 => (term(), number(), append_result(), number()).prop_map(
            |(term, sequence, result, free_bytes)| {
                Message::AppendResponse(AppendResponse { term, sequence, result, free_bytes })
            }
        ),
        2 => (term(), position(), number())
            .prop_map(|(term, commit, round)| Heartbeat { term, commit, round })
            .prop_map(Message::Heartbeat),
        1 => (term(), position())
            .prop_map(|(term, commit)| Message::Committed(Committed { term, commit })),
        2 => (term(), number(), number()).prop_map(|(term, round, free_bytes)| {
            Message::HeartbeatResponse(HeartbeatResponse { term, round, free_bytes })
        }),
        2 => (term(), kind(), position())
            .prop_map(|(term, kind, last)| Message::VoteRequest(VoteRequest { term, kind, last })),
        4 => (term(), term(), kind(), prop::bool::weighted(0.8)).prop_map(
            |(term, request_term, kind, granted)| {
                Message::VoteResponse(VoteResponse { term, request_term, kind, granted })
            }
        ),
        1 => (term(), number())
            .prop_map(|(term, id)| ReadRequest { term, id })
            .prop_map(Message::ReadRequest),
        1 => (term(), number())
            .prop_map(|(term, id)| ReadRequest { term, id })
            .prop_map(Message::LeaseRequest),
        1 => (term(), number(), prop::option::of(index())).prop_map(|(term, id, index)| {
            Message::ReadResponse(ReadResponse { term, id, index })
        }),
        1 => term().prop_map(|term| Message::TimeoutNow(TimeoutNow { term })),
        1 => (term(), position())
            .prop_map(|(term, last)| Message::Quiesce(Quiesce { term, last })),
        3 => (term(), meta())
            .prop_map(|(term, meta)| (term, Box::new(meta)))
            .prop_map(|(term, meta)| Message::SnapshotOffer(SnapshotOffer { term, meta })),
        2 => (term(), position(), any::<bool>()).prop_map(|(term, position, installed)| {
            Message::SnapshotResponse(SnapshotResponse { term, position, installed })
        }),
        1 => (term(), index())
            .prop_map(|(term, acknowledged)| Message::Amnesia(Amnesia { term, acknowledged })),
        2 => (term(), index(), index(), position()).prop_map(|(term, first, last, anchor)| {
            Message::RepairRequest(RepairRequest { term, first, last, anchor, commit: last })
        }),
        4 => (append(), position(), prop::option::weighted(0.3, refusal())).prop_map(
            |(request, anchor, refusal)| {
                let AppendRequest { term, commit, entries, .. } = request;
                let result = refusal.unwrap_or(RepairResult::Entries(entries));
                Message::RepairResponse(RepairResponse { term, anchor, commit, result })
            }
        ),
        1 => (term(), index())
            .prop_map(|(term, index)| Message::Dismissed(Dismissed { term, index })),
    ]
}

fn refusal() -> impl Strategy<Value = RepairResult> {
    prop_oneof![
        meta().prop_map(|meta| RepairResult::Compacted(Box::new(meta))),
        meta().prop_map(|meta| RepairResult::Passed(Box::new(meta))),
        Just(RepairResult::Elsewhere)
    ]
}

fn meta() -> impl Strategy<Value = SnapshotMeta> {
    let members = || {
        let some = prop::collection::btree_set(1_u8..6, 0..4);
        some.prop_map(|some| some.into_iter().map(member).collect::<BTreeSet<_>>())
    };
    let outgoing = prop_oneof![3 => Just(BTreeSet::new()), 1 => members()];
    let learners = prop_oneof![3 => Just(BTreeSet::new()), 1 => members()];
    (position(), members(), outgoing, learners, index()).prop_map(
        |(position, voters, outgoing, learners, configuration_index)| SnapshotMeta {
            position,
            configuration: Configuration { voters, outgoing, learners },
            configuration_index,
        },
    )
}

#[derive(Clone, Debug)]
enum Step {
    Receive(u8, Message),
    TimeOut,
    Campaign,
    Persist,
    Propose,
    Read,
    Add(u8),
    Remove(u8),
    Demote(u8),
    Transfer(Option<u8>),
    Peer(u8, bool),
    Seen(u8, u64),
    Wake,
    Restart,
    Snapshot,
    /// What the core asked for has arrived, or not; its state is replaced.
    Fetched(bool),
    Installed,
    Moved(u8, Term, u64),
    Sent(u8, bool),
    Compacted,
    /// Some slots can't be read any more, which a restart finds, or a load.
    Rot(u64, u64, bool),
    /// An answer that fits the damage there is, but for what it says.
    Repair(u8, u64, Vec<(u64, EntryKind, Bytes)>),
    /// Answers of a quorum in the core's own term, so that it gets to lead.
    Elect,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let peer = 2_u8..6;
    let step = prop_oneof![
        16 => (peer.clone(), message()).prop_map(|(from, message)| Step::Receive(from, message)),
        2 => Just(Step::TimeOut),
        1 => Just(Step::Campaign),
        4 => Just(Step::Persist),
        2 => Just(Step::Propose),
        1 => Just(Step::Read),
        1 => peer.clone().prop_map(Step::Add),
        1 => (1_u8..6).prop_map(Step::Remove),
        1 => (1_u8..6).prop_map(Step::Demote),
        1 => prop::option::of(1_u8..6).prop_map(Step::Transfer),
        1 => (peer, any::<bool>()).prop_map(|(peer, up)| Step::Peer(peer, up)),
        1 => (1_u8..6, any::<u64>()).prop_map(|(leader, at)| Step::Seen(leader, at)),
        1 => Just(Step::Wake),
        1 => Just(Step::Restart),
        2 => Just(Step::Snapshot),
        4 => prop::bool::weighted(0.8).prop_map(Step::Fetched),
        4 => Just(Step::Installed),
        1 => (2_u8..6, term(), number()).prop_map(|(peer, term, at)| Step::Moved(peer, term, at)),
        1 => (2_u8..6, any::<bool>()).prop_map(|(peer, ok)| Step::Sent(peer, ok)),
        1 => Just(Step::Compacted),
        2 => (1_u64..8, 0_u64..3, any::<bool>())
            .prop_map(|(first, more, seen)| Step::Rot(first, first + more, seen)),
        4 => (2_u8..6, 0_u64..8, prop::collection::vec(entry(), 0..4))
            .prop_map(|(from, commit, entries)| Step::Repair(from, commit, entries)),
        3 => Just(Step::Elect),
    ];
    prop::collection::vec(step, 1..120)
}

fn elect(cluster: &mut Cluster) {
    cluster.input(member(1), Input::Campaign);
    for kind in [VoteKind::Pre, VoteKind::Campaign] {
        let term = cluster.core(1).term();
        let request_term = if kind == VoteKind::Pre { term.next() } else { term };
        let response = VoteResponse { term, request_term, kind, granted: true };
        for from in 2..6 {
            let (from, message) = (member(from), Message::VoteResponse(response));
            cluster.input(member(1), Input::Receive { from, message });
        }
        while cluster.persist(member(1)).is_some() {}
    }
}

/// Slots can't be read any more, which a restart finds if it is `seen`, or else a load.
fn rot(cluster: &mut Cluster, first: u64, last: u64, seen: bool) {
    let disk = &mut cluster.node(member(1)).disk;
    let held: Vec<Index> = disk.entries.iter().map(|entry| entry.position.index).collect();
    let slots = (first..=last).map(Index::new).filter(|slot| held.contains(slot));
    if seen { disk.lost.extend(slots) } else { disk.rotten.extend(slots) }
}

/// A snapshot that was asked for has arrived, or not.
fn fetched(cluster: &mut Cluster, ok: bool) {
    let Some(meta) = cluster.node(member(1)).fetch.take().map(Fetch::into_meta) else { return };
    let position = meta.position;
    let file = File { meta, state: 0 };
    let result = if ok { Ok(()) } else { Err(InstallError::Damaged) };
    if ok {
        cluster.node(member(1)).disk.files.insert(position.index, file);
    }
    cluster.input(member(1), Input::SnapshotFetched { position, result });
}

/// Tells a damaged core what stood in its damaged slots, or what may have.
fn repair(cluster: &mut Cluster, from: u8, commit: u64, kinds: Vec<(u64, EntryKind, Bytes)>) {
    let Some(range) = cluster.core(1).status().damage else { return };
    let end = cluster.core(1).status().last;
    let disk = &cluster.node(member(1)).disk;
    let at = |index: Index| disk.entries.iter().find(|entry| entry.position.index == index);
    let Some(anchor) = at(range.last.next().min(end.index)).map(|entry| entry.position) else {
        return;
    };
    let mut slot = range.first;
    let mut entries = Vec::new();
    for (step, kind, bytes) in kinds {
        let own = at(slot).map_or(anchor.term, |entry| entry.position.term);
        let term = Term::new(own.get().saturating_add(step));
        entries.push(Entry { position: Position::new(term, slot), kind, bytes });
        slot = slot.next();
    }
    let (term, commit) = (cluster.core(1).term(), Index::new(commit));
    let result = RepairResult::Entries(entries);
    let message = Message::RepairResponse(RepairResponse { term, anchor, commit, result });
    cluster.input(member(1), Input::Receive { from: member(from), message });
}

fn take(cluster: &mut Cluster, step: Step, nth: usize) {
    let me = member(1);
    let id = ProposalId::new(nth as u64);
    let change = |step| meshraft_consensus::Change { steps: vec![step] };
    let demote = matches!(step, Step::Demote(_));
    match step {
        Step::Receive(from, message) => {
            cluster.input(me, Input::Receive { from: member(from), message });
        }
        Step::TimeOut => {
            let due = cluster.core(1).deadline().unwrap_or_default();
            cluster.now = cluster.now.max(due);
            cluster.input(me, Input::Timeout);
        }
        Step::Campaign => cluster.input(me, Input::Campaign),
        Step::Persist => {
            cluster.persist(me);
        }
        Step::Propose => {
            cluster.input(me, Input::Propose { id, command: Bytes::from(vec![1; nth * 10]) });
        }
        Step::Read => {
            let level = [ReadLevel::Linearizable, ReadLevel::Lease][nth % 2];
            cluster.input(me, Input::Read { id: ReadId::new(nth as u64), level });
        }
        Step::Add(peer) => {
            let change = change(ChangeStep::AddLearner(member(peer)));
            cluster.input(me, Input::Change { id, change });
        }
        Step::Remove(peer) | Step::Demote(peer) => {
            let step = if demote { ChangeStep::Demote } else { ChangeStep::Remove };
            cluster.input(me, Input::Change { id, change: change(step(member(peer))) });
        }
        Step::Transfer(to) => cluster.input(me, Input::Transfer { id, to: to.map(member) }),
        Step::Peer(peer, true) => cluster.input(me, Input::PeerUp(member(peer))),
        Step::Peer(peer, false) => cluster.input(me, Input::PeerDown(member(peer))),
        Step::Seen(leader, at) => {
            let (leader, at) = (member(leader), Moment::from_nanos(at));
            cluster.input(me, Input::LeaderSeen { leader, at });
        }
        Step::Wake => cluster.input(me, Input::Wake),
        Step::Restart => {
            cluster.crash(me);
            // Liars may give what was committed another fate, as far as the disk forgot that.
            cluster.forget_history();
            cluster.start(me);
        }
        Step::Elect => elect(cluster),
        Step::Snapshot => cluster.take_snapshot(me),
        Step::Fetched(ok) => fetched(cluster, ok),
        Step::Installed => {
            if cluster.node(me).install.is_some() {
                cluster.transfer(me);
            }
        }
        Step::Moved(peer, term, offset) => {
            cluster.input(me, Input::SnapshotProgress { peer: member(peer), term, offset });
        }
        Step::Sent(peer, ok) => cluster.input(me, Input::SnapshotSent { peer: member(peer), ok }),
        Step::Rot(first, last, seen) => rot(cluster, first, last, seen),
        Step::Repair(from, commit, entries) => repair(cluster, from, commit, entries),
        Step::Compacted => {
            let node = cluster.node(me);
            let set = node.load_error.is_none();
            node.load_error = set.then_some(LoadError::Compacted);
        }
    }
}

/// Three voters, of which only the first runs, its log beginning where a snapshot ends.
fn one_of_three(base: u64) -> Cluster {
    let lease_drift_permille = NonZeroU16::new(100);
    let knobs = ConfigBuilder {
        lease_drift_permille,
        quiesce_after: Some(Duration::from_millis(100)),
        ..ConfigBuilder::simulation()
    };
    let mut cluster = Cluster::with_knobs(3, knobs);
    (2..=3).for_each(|number| cluster.crash(member(number)));
    cluster.node(member(1)).stubborn = true;
    if base > 0 {
        cluster.crash(member(1));
        let configuration = Configuration::of_voters((1..=3).map(member));
        let position = Position::new(Term::new(1), Index::new(base));
        let meta = SnapshotMeta { position, configuration, configuration_index: Index::new(1) };
        let node = cluster.node(member(1));
        node.disk = Disk { hard: node.disk.hard, snapshot: Some(meta), ..Disk::default() };
        cluster.start(member(1));
    }
    cluster
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 400,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn nothing_that_peers_say_breaks_a_core(base in 0_u64..4, steps in steps()) {
        let mut cluster = one_of_three(base);
        let mut term = Term::ZERO;
        for (nth, step) in steps.into_iter().enumerate() {
            take(&mut cluster, step, nth);
            let core = cluster.core(1);
            prop_assert!(core.term() >= term, "the term never falls");
            term = cluster.node(member(1)).disk.hard.term;
            cluster.packets.clear();
            for (_, output) in cluster.outputs.drain(..) {
                if let Output::Send { message: Message::AppendRequest(request), .. } = output {
                    let follows = request.entries.first();
                    let next = request.previous.index.next();
                    prop_assert!(follows.is_none_or(|entry| entry.position.index == next));
                }
            }
        }
    }
}
