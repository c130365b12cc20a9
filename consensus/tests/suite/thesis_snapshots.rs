//! One test a rule of the dissertation's chapter on log compaction; the section is in its doc line.

use meshraft_consensus::{
    Change, ChangeStep, ConfigBuilder, Index, Input, Member, Outcome, Output, Position, ProposalId,
    Term,
};

use crate::{
    basics::propose,
    cluster::{Cluster, Disk, member},
};

/// Three members whose logs forget all that a snapshot covers; the first leads.
fn forgetful() -> Cluster {
    let knobs = ConfigBuilder { keep_entries_max: 0, ..ConfigBuilder::lan() };
    let mut cluster = Cluster::with_knobs(3, knobs);
    cluster.make_leader(1);
    cluster
}

fn propose_some(cluster: &mut Cluster, count: u64) {
    let first = cluster.outputs.len() as u64;
    for id in first..first + count {
        propose(cluster, member(1), id, &id.to_string());
    }
    cluster.settle();
}

fn first_index(cluster: &Cluster, number: u8) -> u64 {
    cluster.core(number).status().first.get()
}

fn position_of(cluster: &Cluster, number: u8) -> Position {
    cluster.nodes[&member(number)].applied_at.expect("something is applied")
}

/// What leaves a member that holds a condition.
fn count(cluster: &Cluster, me: Member, holds: fn(&Output) -> bool) -> usize {
    cluster.outputs.iter().filter(|(one, output)| *one == me && holds(output)).count()
}

/// 5.1: each member takes snapshots of its own, which the others need not know of.
#[test]
fn each_member_compacts_its_own_log() {
    let mut cluster = forgetful();
    propose_some(&mut cluster, 10);
    cluster.take_snapshot(member(3));
    cluster.settle();
    assert_eq!([1, 2, 3].map(|number| first_index(&cluster, number)), [1, 1, 13]);
    propose_some(&mut cluster, 10);
    assert!((1..=3).all(|number| position_of(&cluster, number).index == Index::new(22)));
    let sent = count(&cluster, member(1), |output| matches!(output, Output::SendSnapshot { .. }));
    assert_eq!(sent, 0, "nobody needs what is gone");
}

/// 5.1: the position of the last entry that a snapshot covers is kept, for the check of the entry
/// that follows on it, and for elections.
#[test]
fn a_log_without_entries_still_has_an_end() {
    let mut cluster = forgetful();
    propose_some(&mut cluster, 5);
    for number in 1..=3 {
        cluster.take_snapshot(member(number));
    }
    cluster.settle();
    assert!((1..=3).all(|number| cluster.nodes[&member(number)].disk.entries.is_empty()));
    let last = cluster.core(1).status().last;
    assert_eq!(last, Position::new(Term::new(2), Index::new(7)));
    for number in 1..=3 {
        cluster.crash(member(number));
    }
    (1..=3).for_each(|number| cluster.start(member(number)));
    assert!((1..=3).all(|number| cluster.core(number).status().last == last));
    let leader = cluster.elect();
    propose(&mut cluster, leader, 1000, "next");
    cluster.settle();
    assert!((1..=3).all(|number| position_of(&cluster, number).index == Index::new(9)));
}

/// 5.1: a snapshot keeps the configuration in force at its end.
#[test]
fn a_snapshot_keeps_the_configuration() {
    let mut cluster = forgetful();
    let change = Change { steps: vec![ChangeStep::Remove(member(3))] };
    cluster.input(member(1), Input::Change { id: ProposalId::new(1), change });
    cluster.settle();
    cluster.take_snapshot(member(1));
    cluster.settle();
    let configuration = cluster.core(1).configuration().clone();
    assert!(!configuration.contains(&member(3)) && !configuration.is_joint());
    cluster.crash(member(1));
    assert!(cluster.node(member(1)).disk.entries.is_empty());
    cluster.start(member(1));
    assert_eq!(*cluster.core(1).configuration(), configuration);
}

/// 5.1: a restart begins from the snapshot, and applies only what follows on it.
#[test]
fn a_restart_applies_only_what_follows_the_snapshot() {
    let mut cluster = forgetful();
    propose_some(&mut cluster, 5);
    cluster.take_snapshot(member(2));
    propose_some(&mut cluster, 3);
    cluster.crash(member(2));
    cluster.start(member(2));
    cluster.run_ms(200);
    let applied = &cluster.node(member(2)).applied;
    let slots: Vec<u64> = applied.iter().map(|entry| entry.position.index.get()).collect();
    assert_eq!(slots, [8, 9, 10]);
}

/// 5.1: a leader that has discarded the next entry of a follower sends it a snapshot; one that is
/// slow, and of which nothing is discarded, gets entries.
#[test]
fn a_follower_gets_a_snapshot_only_if_it_needs_one() {
    let mut cluster = forgetful();
    cluster.isolate(3);
    propose_some(&mut cluster, 10);
    cluster.take_snapshot(member(2));
    cluster.settle();
    cluster.heal();
    cluster.run_ms(200);
    let fetched = |output: &Output| matches!(output, Output::FetchSnapshot { .. });
    assert_eq!(count(&cluster, member(3), fetched), 0, "the leader still has the entries");
    cluster.isolate(3);
    propose_some(&mut cluster, 10);
    cluster.take_snapshot(member(1));
    cluster.settle();
    cluster.heal();
    cluster.run_ms(200);
    assert_eq!(count(&cluster, member(3), fetched), 1);
    assert_eq!(position_of(&cluster, 3), position_of(&cluster, 1));
}

/// 5.1: a follower whose log conflicts with a snapshot discards all of it.
#[test]
fn a_snapshot_replaces_a_log_that_conflicts() {
    let mut cluster = forgetful();
    cluster.isolate(1);
    for id in 0..20 {
        propose(&mut cluster, member(1), id, "lost");
    }
    cluster.settle();
    cluster.now = cluster.now.plus(cluster.knobs.election);
    cluster.make_follower_lead(2);
    for id in 100..105 {
        propose(&mut cluster, member(2), id, "kept");
    }
    cluster.settle();
    cluster.take_snapshot(member(2));
    cluster.settle();
    cluster.heal();
    cluster.run_ms(500);
    assert_eq!(first_index(&cluster, 1), first_index(&cluster, 2));
    assert_eq!(cluster.core(1).status().last, cluster.core(2).status().last);
    let unknown =
        |output: &Output| matches!(output, Output::Resolve { outcome: Outcome::Unknown, .. });
    assert_eq!(count(&cluster, member(1), unknown), 20);
}

/// 5.1, 4.2.1: a new member starts from a snapshot.
#[test]
fn a_new_member_starts_from_a_snapshot() {
    let mut cluster = forgetful();
    propose_some(&mut cluster, 10);
    for number in 1..=3 {
        cluster.take_snapshot(member(number));
    }
    cluster.settle();
    cluster.add(member(4), Disk::default());
    let change = Change { steps: vec![ChangeStep::AddLearner(member(4))] };
    cluster.input(member(1), Input::Change { id: ProposalId::new(1000), change });
    cluster.run_ms(500);
    assert!(cluster.core(4).configuration().voters.contains(&member(4)), "it is promoted");
    assert_eq!(first_index(&cluster, 4), 13);
}

/// 5.1: while a follower is sent a snapshot the leader keeps what follows on it, so that it needs
/// no other one afterwards, however many the leader takes meanwhile.
#[test]
fn a_transfer_under_load_ends() {
    let mut cluster = forgetful();
    cluster.node(member(3)).slow_transfer = true;
    cluster.isolate(3);
    propose_some(&mut cluster, 10);
    cluster.take_snapshot(member(1));
    cluster.settle();
    cluster.heal();
    cluster.run_ms(200);
    for _ in 0..2 {
        propose_some(&mut cluster, 10);
        cluster.take_snapshot(member(1));
        cluster.run_ms(100);
        cluster.transfer(member(3));
    }
    assert_eq!(first_index(&cluster, 1), 13, "what follows on the snapshot stays");
    cluster.node(member(3)).slow_transfer = false;
    cluster.run_ms(500);
    assert_eq!(position_of(&cluster, 3), position_of(&cluster, 1));
    let fetched = |output: &Output| matches!(output, Output::FetchSnapshot { .. });
    assert_eq!(count(&cluster, member(3), fetched), 1);
    propose_some(&mut cluster, 1);
    cluster.take_snapshot(member(1));
    assert!(first_index(&cluster, 1) > 30, "nothing is held back any more");
}
