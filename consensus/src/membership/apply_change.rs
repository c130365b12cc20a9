//! Decides which configuration a change leads to (thesis 4.2.1, 4.3).
//!
//! Invariants of what comes out, given a configuration that is not joint:
//! 1. It is joint exactly if the voters change, and then its outgoing half is the old voters.
//! 2. It has at least one voter.

use super::{Change, ChangeStep, Configuration};
use crate::{error::RejectReason, identity::Member};

/// The configuration to append for this change.
///
/// # Errors
/// Says which step can't be applied, and why.
pub(crate) fn apply_change(
    from: &Configuration,
    change: &Change,
) -> Result<Configuration, RejectReason> {
    let steps = change.steps.len();
    let step_count = Err(RejectReason::StepCount { steps });
    if steps == 0 || steps > Configuration::MEMBERS_MAX {
        return step_count;
    }
    let mut to = from.clone();
    for step in &change.steps {
        // A member hears the others once the configuration that adds it is committed: in one change
        // its vote could be needed for just that.
        if let ChangeStep::Promote(member) = *step
            && !from.contains(&member)
        {
            return Err(RejectReason::NoSuchMember { member });
        }
        apply_step(&mut to, *step)?;
    }
    if to.voters.is_empty() {
        return Err(RejectReason::NoVoters);
    }
    if to.members().len() > Configuration::MEMBERS_MAX {
        return step_count;
    }
    if to.voters != from.voters {
        to.outgoing.clone_from(&from.voters);
    }
    Ok(to)
}

/// The configuration that follows a joint one.
pub(crate) fn leave_joint(joint: &Configuration) -> Configuration {
    Configuration { outgoing: [].into(), ..joint.clone() }
}

fn apply_step(to: &mut Configuration, step: ChangeStep) -> Result<(), RejectReason> {
    match step {
        ChangeStep::AddLearner(member) => {
            if to.contains(&member) {
                return Err(RejectReason::AlreadyDone { member });
            }
            to.learners.insert(member);
        }
        ChangeStep::Promote(member) => {
            if to.voters.contains(&member) {
                return Err(RejectReason::AlreadyDone { member });
            }
            if !to.learners.remove(&member) {
                return Err(RejectReason::NoSuchMember { member });
            }
            // A node has one vote: its other lives leave as this one comes.
            let other = |one: &Member| one.node == member.node;
            to.voters.retain(|voter| !other(voter));
            to.learners.retain(|learner| !other(learner));
            to.voters.insert(member);
        }
        ChangeStep::Demote(member) => {
            if to.learners.contains(&member) {
                return Err(RejectReason::AlreadyDone { member });
            }
            if !to.voters.remove(&member) {
                return Err(RejectReason::NoSuchMember { member });
            }
            to.learners.insert(member);
        }
        ChangeStep::Remove(member) => {
            if !to.voters.remove(&member) && !to.learners.remove(&member) {
                return Err(RejectReason::NoSuchMember { member });
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;
    use crate::identity::{Incarnation, NodeId};

    fn member(node: u8, incarnation: u8) -> Member {
        Member::new(NodeId::new([node; 32]), Incarnation::new([incarnation; 16]))
    }

    fn three_voters_and_a_learner() -> Configuration {
        let voters = [1, 2, 3].map(|node| member(node, 0));
        Configuration { learners: [member(3, 1)].into(), ..Configuration::of_voters(voters) }
    }

    #[test]
    fn a_promotion_takes_the_other_lives_of_the_node_out() {
        let from = three_voters_and_a_learner();
        let change = Change { steps: vec![ChangeStep::Promote(member(3, 1))] };
        let to = apply_change(&from, &change).unwrap();
        assert_eq!(to.voters, [member(1, 0), member(2, 0), member(3, 1)].into());
        assert_eq!(to.outgoing, from.voters);
        assert!(to.learners.is_empty());
        assert!(!leave_joint(&to).is_joint());
    }

    #[test]
    fn steps_that_can_not_be_applied_are_named() {
        let from = three_voters_and_a_learner();
        let refused = |steps| apply_change(&from, &Change { steps }).unwrap_err();
        let (voter, learner, stranger) = (member(1, 0), member(3, 1), member(9, 0));
        let done = RejectReason::AlreadyDone { member: learner };
        assert_eq!(refused(vec![ChangeStep::AddLearner(learner)]), done);
        let done = RejectReason::AlreadyDone { member: voter };
        assert_eq!(refused(vec![ChangeStep::Promote(voter)]), done);
        let unknown = RejectReason::NoSuchMember { member: stranger };
        assert_eq!(refused(vec![ChangeStep::Promote(stranger)]), unknown);
        assert_eq!(refused(vec![ChangeStep::Remove(stranger)]), unknown);
        // A member that this very change adds hears nobody yet.
        let at_once = vec![ChangeStep::AddLearner(stranger), ChangeStep::Promote(stranger)];
        assert_eq!(refused(at_once), unknown);
        assert_eq!(refused(vec![]), RejectReason::StepCount { steps: 0 });
        let everyone = from.voters.iter().map(|voter| ChangeStep::Remove(*voter)).collect();
        assert_eq!(refused(everyone), RejectReason::NoVoters);
    }

    #[test]
    fn a_demoted_voter_votes_until_the_joint_configuration_is_left() {
        let from = three_voters_and_a_learner();
        let change = Change { steps: vec![ChangeStep::Demote(member(1, 0))] };
        let joint = apply_change(&from, &change).unwrap();
        assert!(joint.is_voter(&member(1, 0)) && joint.learners.contains(&member(1, 0)));
        assert_eq!(Configuration::decode(&joint.encode()), Ok(joint.clone()));
        let left = leave_joint(&joint);
        assert!(!left.is_voter(&member(1, 0)) && left.learners.contains(&member(1, 0)));
        // To take it out and add it again in one change is the same.
        let again = vec![ChangeStep::Remove(member(1, 0)), ChangeStep::AddLearner(member(1, 0))];
        assert_eq!(apply_change(&from, &Change { steps: again }).unwrap(), joint);
    }

    #[test]
    fn learners_change_without_a_joint_configuration() {
        let from = three_voters_and_a_learner();
        let steps = vec![ChangeStep::AddLearner(member(4, 0)), ChangeStep::Remove(member(3, 1))];
        let to = apply_change(&from, &Change { steps }).unwrap();
        assert!(!to.is_joint());
        assert_eq!(to.learners, [member(4, 0)].into());
    }
}
