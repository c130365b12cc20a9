//! The rules of the dissertation's section 3.10, leadership transfer; one test a rule.

use meshraft_consensus::{Input, Member, Message, Outcome, Output, ProposalId, RejectReason, Role};

use crate::{
    basics::{outcome, propose},
    cluster::{Cluster, member},
};

fn transfer(cluster: &mut Cluster, id: u64, to: Member) {
    let id = ProposalId::new(id);
    cluster.input(member(1), Input::Transfer { id, to: Some(to) });
}

/// 3.10: the leader takes no proposals while it hands over, and takes them again if that fails
/// within an election time-out.
#[test]
fn proposals_stop_for_an_election_timeout_at_most() {
    let mut cluster = Cluster::new(3);
    cluster.make_leader(1);
    cluster.isolate(2);
    transfer(&mut cluster, 1, member(2));
    let begun = cluster.now;
    propose(&mut cluster, member(1), 2, "early");
    let handing_over = RejectReason::TransferInProgress { to: member(2) };
    assert_eq!(outcome(&cluster, 2), Some(Outcome::Rejected(handing_over)));
    cluster.run_ms(cluster.knobs.election.as_millis() as u64);
    assert_eq!(cluster.now.since(begun), cluster.knobs.election);
    let aborted = RejectReason::TransferAborted { to: member(2) };
    assert_eq!(outcome(&cluster, 1), Some(Outcome::Rejected(aborted)));
    propose(&mut cluster, member(1), 3, "late");
    cluster.settle();
    assert!(matches!(outcome(&cluster, 3), Some(Outcome::Committed(_))));
}

/// 3.10: the successor has the whole log before it is asked to campaign.
#[test]
fn the_successor_has_the_leaders_log() {
    let mut cluster = Cluster::new(3);
    cluster.make_leader(1);
    (0..20).for_each(|id| propose(&mut cluster, member(1), id, "x"));
    transfer(&mut cluster, 100, member(2));
    cluster.settle();
    let asked = cluster.outputs.iter().position(|(_, output)| {
        matches!(output, Output::Send { message: Message::TimeoutNow(_), .. })
    });
    let told = cluster.outputs.iter().rposition(|(_, output)| {
        matches!(output, Output::Resolve { outcome: Outcome::Committed(_), .. })
    });
    assert!(asked.unwrap() > told.unwrap(), "all proposals are committed before");
    assert!(matches!(outcome(&cluster, 100), Some(Outcome::Transferred { leader, .. })
        if leader == member(2)));
}

/// 3.10 and 4.2.3: it campaigns at once, and those who hear a leader vote all the same.
#[test]
fn the_successor_leads_without_a_timeout() {
    let mut cluster = Cluster::new(5);
    cluster.make_leader(1);
    let begun = cluster.now;
    transfer(&mut cluster, 1, member(4));
    cluster.settle();
    assert_eq!(cluster.leaders(), [member(4)]);
    assert_eq!(cluster.now, begun, "no time passed");
    assert_eq!(cluster.core(1).role(), Role::Follower);
}
