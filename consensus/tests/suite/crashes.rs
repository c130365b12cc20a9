//! A member dies at any step of a change of members: whoever is left elects, and finishes it.
//!
//! A configuration is in force from the moment that it is in a log, so that in the middle of a
//! change members disagree on who may vote. As long as majorities of both configurations are up,
//! that must never keep them from a leader.

use meshraft_consensus::{Change, ChangeStep, Input, Member, Outcome, ProposalId};

use crate::{
    basics::{outcome, propose},
    cluster::{Cluster, member},
};

/// More steps than the longest of these changes takes.
const STEPS_MAX: usize = 400;

/// Four voters of which the first leads, and two that stand by as learners.
fn six() -> Cluster {
    let mut cluster = Cluster::new(4);
    cluster.knobs.promote_learners = false;
    let members: Vec<Member> = cluster.nodes.keys().copied().collect();
    for me in members {
        cluster.crash(me);
        cluster.start(me);
    }
    cluster.make_leader(1);
    for number in [5, 6] {
        cluster.add(member(number), crate::cluster::Disk::default());
        change(&mut cluster, u64::from(number), vec![ChangeStep::AddLearner(member(number))]);
        cluster.settle();
    }
    cluster
}

fn change(cluster: &mut Cluster, id: u64, steps: Vec<ChangeStep>) {
    let id = ProposalId::new(id);
    cluster.input(member(1), Input::Change { id, change: Change { steps } });
}

/// Changes `steps` with a command behind it, and lets `dead` die after so many writes and messages:
/// for good and with what it had just said lost, or to come back at once with all of that under
/// way. Says whether the change was over by then.
fn die_at(at: usize, steps: &[ChangeStep], dead: Member, returns: bool) -> bool {
    let mut cluster = six();
    change(&mut cluster, 10, steps.to_vec());
    propose(&mut cluster, member(1), 11, "behind");
    let over = (0..at).any(|_| !cluster.step());
    cluster.crash(dead);
    match returns {
        true => cluster.start(dead),
        false => cluster.packets.retain(|packet| packet.from != dead),
    }
    let leader = cluster.elect();
    assert_ne!((leader, returns), (dead, false), "who is down does not lead");
    propose(&mut cluster, leader, 12, "after");
    cluster.run_ms(3000);
    let committed = matches!(outcome(&cluster, 12), Some(Outcome::Committed(_)));
    assert!(committed, "step {at}: the next leader commits");
    for (me, node) in &cluster.nodes {
        let Some(core) = &node.core else { continue };
        let status = core.status();
        // Who was taken out while it was down is told so, and not sent the entries.
        let over = status.departed || !status.configuration.is_joint();
        assert!(over, "step {at}: {me} is in the middle of a change");
        let taken = status.configuration.contains(me) && !status.departed;
        let has_all = status.last.index == cluster.nodes[&leader].disk.last().index;
        assert!(!taken || has_all, "step {at}: {me} has all");
    }
    over
}

fn everywhere(steps: &[ChangeStep]) {
    for (dead, returns) in [(1, false), (1, true), (2, false), (2, true)] {
        let over = (0..STEPS_MAX).find(|at| die_at(*at, steps, member(dead), returns));
        let over = over.expect("the change comes to an end");
        assert!(over > 10, "a change of {over} steps tests little");
    }
}

/// Thesis 4.2.2, 4.3.
#[test]
fn members_are_added_whoever_dies_when() {
    everywhere(&[ChangeStep::Promote(member(5)), ChangeStep::Promote(member(6))]);
}

/// Thesis 4.2.2, 4.3.
#[test]
fn a_member_is_removed_whoever_dies_when() {
    everywhere(&[ChangeStep::Remove(member(4))]);
}

/// Thesis 4.2.2, 4.3: the leader is among those who go.
#[test]
fn members_are_replaced_whoever_dies_when() {
    let [one, four] = [member(1), member(4)];
    let comes = [5, 6].map(|number| ChangeStep::Promote(member(number)));
    everywhere(&[ChangeStep::Remove(one), ChangeStep::Remove(four), comes[0], comes[1]]);
}
