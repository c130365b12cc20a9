//! The main paths end to end: elect, replicate, commit, restart, change members, read, found.

use bytes::Bytes;
use meshraft_consensus::{
    Change, ChangeStep, ConfigBuilder, Configuration, Event, Fate, Index, Input, Member, Outcome,
    Output, Position, ProposalId, ReadId, ReadLevel, Role, SnapshotMeta, Term,
};

use crate::{
    cluster::{Cluster, Disk, digest, member, reborn},
    disk::File,
};

pub(crate) fn propose(cluster: &mut Cluster, me: Member, id: u64, command: &str) {
    let command = Bytes::copy_from_slice(command.as_bytes());
    cluster.input(me, Input::Propose { id: ProposalId::new(id), command });
}

pub(crate) fn outcome(cluster: &Cluster, id: u64) -> Option<Outcome> {
    let mut found = cluster.outputs.iter().filter_map(|(_, output)| match output {
        Output::Resolve { id: resolved, outcome } if resolved.get() == id => Some(outcome.clone()),
        _ => None,
    });
    let outcome = found.next();
    assert_eq!(found.next(), None, "resolved once");
    outcome
}

fn change(cluster: &mut Cluster, me: Member, id: u64, steps: Vec<ChangeStep>) {
    cluster.input(me, Input::Change { id: ProposalId::new(id), change: Change { steps } });
}

#[test]
fn three_elect_one_leader_and_commit() {
    let mut cluster = Cluster::new(3);
    let leader = cluster.elect();
    propose(&mut cluster, leader, 1, "a");
    cluster.settle();
    assert!(matches!(outcome(&cluster, 1), Some(Outcome::Committed(_))));
    for node in cluster.nodes.values() {
        assert_eq!(&node.applied.last().unwrap().bytes[..], b"a");
    }
}

#[test]
fn one_voter_alone_leads_at_once() {
    let mut cluster = Cluster::new(1);
    cluster.run_ms(1);
    assert_eq!(cluster.core(1).role(), Role::Leader);
    propose(&mut cluster, member(1), 1, "a");
    assert_eq!(outcome(&cluster, 1), None, "nothing is committed before it is durable");
    cluster.settle();
    assert!(matches!(outcome(&cluster, 1), Some(Outcome::Committed(_))));
}

#[test]
fn a_restarted_cluster_goes_on_from_its_disks() {
    let mut cluster = Cluster::new(3);
    let leader = cluster.elect();
    for id in 0..20 {
        propose(&mut cluster, leader, id, "x");
    }
    cluster.settle();
    for number in 1..=3 {
        cluster.crash(member(number));
    }
    cluster.packets.clear();
    for number in 1..=3 {
        cluster.start(member(number));
    }
    let leader = cluster.elect();
    propose(&mut cluster, leader, 100, "y");
    cluster.run_ms(200);
    for node in cluster.nodes.values() {
        assert_eq!(&node.applied.last().unwrap().bytes[..], b"y");
    }
}

#[test]
fn a_deposed_leader_converges() {
    let mut cluster = Cluster::new(3);
    let old = cluster.elect();
    cluster.isolate(old.node.as_bytes()[0]);
    for id in 0..30 {
        propose(&mut cluster, old, id, "lost");
    }
    cluster.run_ms(3000);
    assert_eq!(outcome(&cluster, 0), Some(Outcome::Unknown));
    let new = cluster.elect();
    assert_ne!(old, new);
    propose(&mut cluster, new, 100, "kept");
    cluster.settle();
    cluster.heal();
    cluster.run_ms(1000);
    for node in cluster.nodes.values() {
        assert!(node.applied.iter().all(|entry| &entry.bytes[..] != b"lost"));
        assert_eq!(&node.applied.last().unwrap().bytes[..], b"kept");
    }
}

#[test]
fn a_joiner_is_promoted_and_takes_the_place_of_its_old_life() {
    let mut cluster = Cluster::with_knobs(3, ConfigBuilder::simulation());
    let leader = cluster.elect();
    for id in 0..50 {
        propose(&mut cluster, leader, id, "some command of some length");
        cluster.settle();
    }
    let wiped = cluster.nodes.keys().copied().find(|one| *one != leader).unwrap();
    cluster.crash(wiped);
    let reborn = reborn(wiped.node.as_bytes()[0]);
    cluster.add(reborn, Disk::default());
    change(&mut cluster, leader, 1000, vec![ChangeStep::AddLearner(reborn)]);
    cluster.run_ms(2000);
    assert!(matches!(outcome(&cluster, 1000), Some(Outcome::Committed(_))));
    let configuration = cluster.nodes[&leader].core.as_ref().unwrap().configuration().clone();
    assert!(configuration.voters.contains(&reborn) && !configuration.is_joint());
    assert!(!configuration.contains(&wiped));
    assert_eq!(cluster.nodes[&reborn].applied.len(), cluster.nodes[&leader].applied.len());
}

#[test]
fn a_removed_leader_finishes_the_change_and_steps_down() {
    let mut cluster = Cluster::new(3);
    let leader = cluster.elect();
    change(&mut cluster, leader, 1, vec![ChangeStep::Remove(leader)]);
    cluster.settle();
    assert!(matches!(outcome(&cluster, 1), Some(Outcome::Committed(_))));
    let [next] = cluster.leaders()[..] else { panic!("a successor was asked to take over") };
    assert_ne!(next, leader);
    cluster.run_ms(5000);
    assert_eq!(cluster.leaders(), [next], "the removed one disturbs nobody");
}

#[test]
fn any_member_serves_linearizable_reads() {
    let mut cluster = Cluster::new(3);
    let leader = cluster.elect();
    propose(&mut cluster, leader, 1, "a");
    cluster.settle();
    let commit = cluster.nodes[&leader].core.as_ref().unwrap().commit();
    for (id, me) in cluster.nodes.keys().copied().collect::<Vec<_>>().into_iter().enumerate() {
        let id = ReadId::new(id as u64);
        cluster.input(me, Input::Read { id, level: ReadLevel::Linearizable });
        cluster.settle();
        let answer = cluster.outputs.iter().rev().find(|(who, output)| {
            *who == me && matches!(output, Output::ReadReady { id: ready, .. } if *ready == id)
        });
        let Some((_, Output::ReadReady { index, .. })) = answer else { panic!("no answer") };
        assert!(*index >= commit);
    }
}

#[test]
fn founders_found_when_told_to() {
    let mut cluster = Cluster::founding(3);
    cluster.input(member(2), Input::Campaign);
    cluster.settle();
    assert_eq!(cluster.leaders(), [member(2)]);
    let asked = |cluster: &Cluster| {
        let needs =
            |(_, output): &&(Member, Output)| matches!(output, Output::NeedFirstEntry { .. });
        cluster.outputs.iter().filter(needs).count()
    };
    cluster.run_ms(500);
    assert_eq!(asked(&cluster), 1, "once a term");
    propose(&mut cluster, member(2), 1, "too early");
    assert!(matches!(outcome(&cluster, 1), Some(Outcome::Rejected(_))));
    cluster.input(member(2), Input::FirstEntry(Fate::Found));
    cluster.settle();
    assert!(!cluster.core(1).status().founding && !cluster.core(3).status().founding);
    propose(&mut cluster, member(2), 2, "a");
    cluster.settle();
    assert!(matches!(outcome(&cluster, 2), Some(Outcome::Committed(_))));
}

#[test]
fn many_proposals_before_one_drain_are_one_write_and_one_request_a_follower() {
    let mut cluster = Cluster::new(3);
    let leader = cluster.elect();
    let before = cluster.outputs.len();
    for id in 0..64 {
        let command = Bytes::from_static(b"c");
        cluster.input_only(leader, Input::Propose { id: ProposalId::new(id), command });
    }
    cluster.drain(leader);
    let outputs = &cluster.outputs[before..];
    let count = |which: fn(&Output) -> bool| outputs.iter().filter(|(_, o)| which(o)).count();
    assert_eq!(count(|output| matches!(output, Output::Persist(_))), 1);
    assert_eq!(count(|output| matches!(output, Output::Send { .. })), 2);
    cluster.settle();
    assert!((0..64).all(|id| matches!(outcome(&cluster, id), Some(Outcome::Committed(_)))));
    let lost =
        |(_, output): &(Member, Output)| matches!(output, Output::Observe(Event::Dropped { .. }));
    assert!(!cluster.outputs.iter().any(lost), "nothing is dropped in calm weather");
}

#[test]
fn a_log_that_begins_at_a_snapshot_goes_on_from_there() {
    let mut cluster = Cluster::new(4);
    let meta = SnapshotMeta {
        position: Position::new(Term::new(1), Index::new(1)),
        configuration: Configuration::of_voters((1..=4).map(member)),
        configuration_index: Index::new(1),
    };
    for number in 1..=4 {
        cluster.crash(member(number));
        let disk = &mut cluster.node(member(number)).disk;
        disk.entries.clear();
        if number < 4 {
            let state = digest(0, meta.position);
            disk.files.insert(Index::new(1), File { meta: meta.clone(), state });
            disk.snapshot = Some(meta.clone());
        }
        cluster.start(member(number));
    }
    cluster.make_leader(1);
    cluster.input(member(1), Input::PeerDown(member(2)));
    cluster.input(member(1), Input::PeerUp(member(2)));
    cluster.settle();
    propose(&mut cluster, member(1), 1, "a");
    cluster.run_ms(200);
    assert_eq!(cluster.core(1).status().first, Index::new(2));
    for number in 1..=4 {
        assert_eq!(&cluster.node(member(number)).applied.last().unwrap().bytes[..], b"a");
    }
    // The one that had nothing was sent the snapshot, and goes on from there, too.
    assert_eq!(cluster.core(4).status().first, Index::new(2));
    assert_eq!(cluster.node(member(4)).disk.snapshot, Some(meta));
}
