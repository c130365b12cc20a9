//! Drives changes of configuration on a leader: starts them, leaves the joint configuration, and
//! sees off those who leave (thesis 4.1 to 4.3).
//!
//! Invariants:
//! 1. A change begins only after the leader committed an entry of its own term (the erratum to the
//!    single-server change holds for joint ones that overlap, too), and when no other is under way.
//! 2. A joint configuration is left by whoever leads once it is committed.
//! 3. No change is begun that only members who do not answer could commit.
//! 4. A leader that is no voter any more steps down when that is committed, not before.

use super::{CatchUp, Change, Configuration, apply_change, leave_joint};
use crate::{
    core::Core,
    error::RejectReason,
    identity::Member,
    output::Outcome,
    replication::Progress,
    role::{Leader, RoleState},
    transfer::check_no_handover,
    types::{Position, ProposalId},
};

impl Core {
    pub(crate) fn change(&mut self, id: ProposalId, change: &Change) {
        let target = match self.check_change(change) {
            Ok(target) => target,
            Err(reason) => return self.resolve(id, Outcome::Rejected(reason)),
        };
        let joint = target.is_joint();
        let position = self.append_configuration(target);
        if let RoleState::Leader(leader) = &mut self.role {
            leader.change = Some((id, (!joint).then_some(position.index)));
        }
    }

    fn check_change(&self, change: &Change) -> Result<Configuration, RejectReason> {
        let leader = self.check_leads()?;
        check_no_handover(leader)?;
        if !leader.ready {
            return Err(RejectReason::NotReady);
        }
        if self.change_in_progress() {
            return Err(RejectReason::ChangeInProgress);
        }
        let target = apply_change(self.membership.current(), change)?;
        self.check_live_majority(leader, &target)?;
        Ok(target)
    }

    /// Whether those who would be left can commit anything.
    fn check_live_majority(
        &self,
        leader: &Leader,
        target: &Configuration,
    ) -> Result<(), RejectReason> {
        let election = self.config.knobs().election;
        // Of those that this very change brings in nothing is known yet.
        let answers = |voter: &&Member| {
            leader.progress.get(voter).is_none_or(|one| one.answers(self.now, election))
        };
        let live = target.voters.iter().filter(answers).count();
        let needed = target.voters.len() / 2 + 1;
        match target.is_joint() && live < needed {
            true => Err(RejectReason::NoLiveMajority { live, needed }),
            false => Ok(()),
        }
    }

    pub(crate) fn change_in_progress(&self) -> bool {
        self.membership.current().is_joint() || self.membership.index() > self.commit
    }

    /// The commit index advanced on a leader: finishes what the configuration in force asks for.
    pub(crate) fn configuration_committed(&mut self) {
        let (commit, index) = (self.commit, self.membership.index());
        if index > commit {
            return;
        }
        let RoleState::Leader(leader) = &mut self.role else { return };
        if let Some((id, Some(last))) = leader.change
            && last <= commit
        {
            leader.change = None;
            let term = self.log.term_at(last).unwrap_or(self.hard.term);
            self.resolve(id, Outcome::Committed(Position::new(term, last)));
        }
        if self.membership.current().is_joint() {
            return self.leave_joint();
        }
        if !self.membership.current().is_voter(&self.me) {
            // Whoever stays learns of the commit first, so that it can elect a leader at once.
            self.send_heartbeats();
            self.leave_to_successor();
            return self.become_follower(self.hard.term, None);
        }
        self.promote_learners();
    }

    fn leave_joint(&mut self) {
        let RoleState::Leader(leader) = &self.role else { return };
        if !leader.ready {
            return;
        }
        let position = self.append_configuration(leave_joint(self.membership.current()));
        if let RoleState::Leader(leader) = &mut self.role
            && let Some((_, last)) = &mut leader.change
        {
            *last = Some(position.index);
        }
    }

    /// Gives every member of the configuration in force a progress, and marks those who left.
    pub(crate) fn meet_members(&mut self) {
        let (me, now, last) = (self.me, self.now, self.log.last().index);
        let (current, index) = (self.membership.current(), self.membership.index());
        let knobs = self.config.knobs();
        let RoleState::Leader(leader) = &mut self.role else { return };
        let (until, numbered) = (now.plus(knobs.election * 2), leader.numbered);
        for (member, progress) in leader.progress.iter_mut() {
            if current.contains(member) {
                progress.departing = None;
            } else if progress.departing.is_none() {
                progress.departing = Some((index, until));
            }
        }
        for member in current.members() {
            if member == me {
                continue;
            }
            leader.progress.meet(member, || {
                let mut met = Progress::probe(last.next(), now, knobs.inflight_bytes_max);
                (met.sequence, met.epoch) = (numbered, numbered);
                met
            });
            let Some(progress) = leader.progress.get_mut(&member) else { continue };
            let learns = current.learners.contains(&member);
            match (&progress.catch_up, learns) {
                (None, true) => progress.catch_up = Some(CatchUp::start(last, now)),
                (Some(_), false) => progress.catch_up = None,
                _ => {}
            }
        }
    }

    /// Stops sending to those who left, once they know it or have been given the time to.
    pub(crate) fn dismiss_departed(&mut self) {
        let (now, commit) = (self.now, self.commit);
        let RoleState::Leader(leader) = &mut self.role else { return };
        if leader.progress.values().all(|progress| progress.departing.is_none()) {
            return;
        }
        let Leader { progress, numbered, .. } = leader;
        let before = progress.members().count();
        progress.retain(|progress| {
            let Some((index, until)) = progress.departing else { return true };
            let told = commit >= index && progress.commit_told >= index;
            let stays = !told && (now < until || commit < index);
            if !stays {
                *numbered = progress.sequence.max(*numbered);
            }
            stays
        });
        if progress.members().count() < before {
            self.known_changed();
        }
    }
}
