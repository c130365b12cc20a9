//! Decides which learners become voters (thesis 4.2.1).
//!
//! Invariants:
//! 1. Nobody is promoted who has not caught up, does not answer, or lost what it acknowledged.
//! 2. Promotions end when there are as many voters as are wanted; but a learner may always take the
//!    place of another life of its node, which leaves as many voters as there were.
//! 3. A learner that does not answer leaves if another life of its node does: it never will again.

use alloc::vec::Vec;

use super::{Change, ChangeStep, Configuration, apply_change};
use crate::{
    core::Core,
    event::Event,
    identity::Member,
    replication::Progress,
    role::{Leader, RoleState},
    status::HeldBack,
};

impl Core {
    /// Promotes every learner that may be, all in one change.
    pub(crate) fn promote_learners(&mut self) {
        let current = self.membership.current();
        if current.learners.is_empty() {
            return;
        }
        let Ok(leader) = self.check_leads() else { return };
        let busy = self.change_in_progress() || leader.handover.is_some();
        if !self.config.knobs().promote_learners || !leader.ready || busy {
            return;
        }
        let mut promoted: Vec<Member> = Vec::new();
        let mut voters = current.voters.len();
        for learner in &current.learners {
            // Of two lives of one node at most one becomes a voter.
            let other_life = promoted.iter().any(|one| one.node == learner.node);
            if !other_life && self.held_back(learner, voters).is_none() {
                voters += usize::from(!replaces(current, learner));
                promoted.push(*learner);
            }
        }
        let mut steps: Vec<_> = promoted.iter().copied().map(ChangeStep::Promote).collect();
        // A promotion takes the other lives of its node out by itself.
        let outlived =
            self.outlived(leader).filter(|life| promoted.iter().all(|one| one.node != life.node));
        steps.extend(outlived.map(ChangeStep::Remove));
        let Ok(target) = apply_change(current, &Change { steps }) else { return };
        for member in promoted {
            self.observe(Event::LearnerCaughtUp { member });
        }
        self.append_configuration(target);
    }

    /// Learners that do not answer, while another life of their node does.
    fn outlived<'a>(&'a self, leader: &'a Leader) -> impl Iterator<Item = Member> + 'a {
        let (election, current) = (self.config.knobs().election, self.membership.current());
        let answers = move |one: &Member| {
            let progress = leader.progress.get(one);
            *one == self.me || progress.is_some_and(|it| it.answers(self.now, election))
        };
        let voters = current.voters.len();
        let silent =
            move |one: &&Member| self.held_back(one, voters) == Some(HeldBack::Unreachable);
        let outlives = move |learner: &&Member| {
            let members = current.voters.iter().chain(&current.learners);
            let mut lives = members.filter(|one| one.node == learner.node && one != learner);
            lives.any(answers)
        };
        current.learners.iter().filter(outlives).filter(silent).copied()
    }

    /// Why a learner is not promoted, in a configuration of this many voters. `None` for others.
    pub(crate) fn held_back(&self, learner: &Member, voters: usize) -> Option<HeldBack> {
        let RoleState::Leader(leader) = &self.role else { return None };
        let (knobs, current) = (self.config.knobs(), self.membership.current());
        if !current.learners.contains(learner) {
            return None;
        }
        // Who sleeps was heard before.
        let answers = |one: &&Progress| {
            let asleep = leader.asleep && one.amnesiac.is_none();
            asleep || one.answers(self.now, knobs.election)
        };
        let Some(progress) = leader.progress.get(learner).filter(answers) else {
            return Some(HeldBack::Unreachable);
        };
        if !progress.catch_up.is_some_and(|rounds| rounds.is_done()) {
            return Some(HeldBack::CatchingUp);
        }
        if !knobs.promote_learners {
            return Some(HeldBack::NotWanted);
        }
        let full = voters >= knobs.voters_target && !replaces(current, learner);
        full.then_some(HeldBack::EnoughVoters { target: knobs.voters_target })
    }
}

/// Whether another life of the learner's node votes, whose place it takes.
fn replaces(current: &Configuration, learner: &Member) -> bool {
    current.voters.iter().any(|voter| voter.node == learner.node)
}
