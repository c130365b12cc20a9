//! The rules of the dissertation's section 6.4.1, reads on a lease; one test a rule.

use std::num::NonZeroU16;

use meshraft_consensus::{
    ConfigBuilder, Index, Input, Message, Output, Position, ReadId, ReadLevel, Term, VoteKind,
    VoteRequest,
};

use crate::cluster::{Cluster, member};

fn with_leases() -> Cluster {
    let lease_drift_permille = NonZeroU16::new(10);
    let mut cluster =
        Cluster::with_knobs(3, ConfigBuilder { lease_drift_permille, ..ConfigBuilder::lan() });
    cluster.make_leader(1);
    cluster.outputs.clear();
    cluster
}

fn read(cluster: &mut Cluster, reader: u8, id: u64) {
    let (id, level) = (ReadId::new(id), ReadLevel::Lease);
    cluster.input(member(reader), Input::Read { id, level });
}

fn served(cluster: &Cluster, id: u64) -> bool {
    cluster.outputs.iter().any(
        |(_, output)| matches!(output, Output::ReadReady { id: served, .. } if served.get() == id),
    )
}

fn heartbeats(cluster: &Cluster) -> usize {
    let sent =
        |output: &Output| matches!(output, Output::Send { message: Message::Heartbeat(_), .. });
    cluster.outputs.iter().filter(|(_, output)| sent(output)).count()
}

/// 6.4.1: a leader serves reads without a round while its lease lasts, for all that ask.
#[test]
fn a_lease_costs_no_round() {
    let mut cluster = with_leases();
    for id in 0..100 {
        read(&mut cluster, 1 + (id % 3) as u8, id);
    }
    cluster.settle();
    assert!((0..100).all(|id| served(&cluster, id)));
    assert_eq!(heartbeats(&cluster), 0);
}

/// 6.4 and 6.4.1: reads that a follower gathers ask for what the strictest of them needs.
#[test]
fn a_lease_weakens_no_other_read() {
    let mut cluster = with_leases();
    for (id, level) in [(1, ReadLevel::Lease), (2, ReadLevel::Linearizable)] {
        cluster.input_only(member(2), Input::Read { id: ReadId::new(id), level });
    }
    cluster.drain(member(2));
    cluster.settle();
    assert!(served(&cluster, 1) && served(&cluster, 2));
    assert_eq!(heartbeats(&cluster), 2, "one round for both");
}

/// 6.4.1: each round of heartbeats that a quorum answers extends it.
#[test]
fn heartbeats_extend_the_lease() {
    let mut cluster = with_leases();
    for id in 0..50 {
        cluster.run_ms(97);
        let before = heartbeats(&cluster);
        read(&mut cluster, 1, id);
        assert!(served(&cluster, id) && heartbeats(&cluster) == before, "at {}", cluster.now);
    }
}

/// 6.4.1: it is over, within the drift of the clocks, before another leader can be elected.
#[test]
fn a_lease_ends_before_another_election_can() {
    let mut cluster = with_leases();
    let (begun, until) = (cluster.now, cluster.core(1).lease_until().unwrap());
    cluster.isolate(1);
    while cluster.leaders() == [member(1)] {
        cluster.run_ms(1);
        if cluster.now >= until {
            let id = cluster.now.as_nanos();
            read(&mut cluster, 1, id);
            assert!(!served(&cluster, id));
        }
    }
    let election = cluster.knobs.election;
    assert!(until.since(cluster.now).is_zero() && cluster.now.since(until) < election);
    assert!(until.since(begun) <= election * 100 / 101, "the clocks may drift");
}

/// 6.4.1: whoever answered a leader keeps its word over a restart, though it has no entry yet.
#[test]
fn a_voter_without_entries_keeps_its_word_over_a_restart() {
    let mut cluster = with_leases();
    cluster.settle();
    cluster.crash(member(3));
    let disk = &mut cluster.node(member(3)).disk;
    let term = disk.hard.term;
    assert!(term > Term::ZERO, "its term is durable");
    disk.entries.clear();
    cluster.start(member(3));
    cluster.outputs.clear();
    let last = Position::new(term, Index::new(50));
    let request = VoteRequest { term: term.next(), kind: VoteKind::Campaign, last };
    let message = Message::VoteRequest(request);
    cluster.input(member(3), Input::Receive { from: member(2), message });
    let answers: Vec<bool> = cluster
        .outputs
        .iter()
        .filter_map(|(_, output)| match output {
            Output::Send { message: Message::VoteResponse(response), .. } => Some(response.granted),
            _ => None,
        })
        .collect();
    assert_eq!(answers, [false]);
}
