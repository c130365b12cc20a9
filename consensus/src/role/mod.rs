//! What a member does: follow, campaign or lead. Each role owns its state, so that nothing of it
//! survives the end of the role.

mod candidate;
mod follower;
mod leader;

pub(crate) use candidate::Candidate;
pub(crate) use follower::Follower;
pub(crate) use leader::Leader;

use crate::{core::Core, event::Role, identity::Member, message::VoteKind, types::Moment};

/// The role and all that belongs to it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum RoleState {
    /// Follows a leader, or waits for one; also a learner.
    Follower(Follower),
    /// Asks for votes, or whether it would get them.
    Candidate(Candidate),
    /// Leads.
    Leader(Leader),
}

impl RoleState {
    /// When this role next wants to act.
    pub(crate) fn deadline(&self) -> Option<Moment> {
        match self {
            Self::Follower(follower) => follower.deadline(),
            Self::Candidate(candidate) => Some(candidate.deadline()),
            Self::Leader(leader) => leader.deadline(),
        }
    }
}

impl Core {
    /// What this member does at the moment.
    pub fn role(&self) -> Role {
        match &self.role {
            RoleState::Follower(_) if self.membership.votes() => Role::Follower,
            // A member that its newest configuration leaves out, but an earlier one that may come
            // back has, still takes part in elections.
            RoleState::Follower(_) if self.may_campaign() => Role::Follower,
            RoleState::Follower(_) => Role::Learner,
            RoleState::Candidate(candidate) if candidate.kind == VoteKind::Pre => {
                Role::PreCandidate
            }
            RoleState::Candidate(_) => Role::Candidate,
            RoleState::Leader(_) => Role::Leader,
        }
    }

    /// The leader that this member knows of, itself included.
    pub fn leader(&self) -> Option<Member> {
        self.known_leader().copied()
    }

    /// The same, where it lies.
    pub(crate) const fn known_leader(&self) -> Option<&Member> {
        match &self.role {
            RoleState::Follower(follower) => follower.leader.as_ref(),
            RoleState::Candidate(_) => None,
            RoleState::Leader(_) => Some(&self.me),
        }
    }

    /// Takes a new role; what the old one still owed is answered.
    pub(crate) fn replace_role(&mut self, role: RoleState) {
        // A leader hears those who leave, too.
        self.known_changed();
        match core::mem::replace(&mut self.role, role) {
            RoleState::Follower(follower) => self.fail_forwarded_reads(follower.reads),
            RoleState::Candidate(_) => {}
            RoleState::Leader(leader) => self.retire_leader(leader),
        }
    }
}
