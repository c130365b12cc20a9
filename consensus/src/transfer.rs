//! Hands leadership over to another voter, so that the group is not without a leader for an
//! election time-out (thesis 3.10).
//!
//! Invariants:
//! 1. One handover at a time. While it goes on its leader takes no proposal and no change.
//! 2. The successor is asked to campaign only when its durable log equals the leader's and all of
//!    that is committed: it wins with one round of votes, and no proposal is left open.
//! 3. The leader gives up after an election time-out and goes on leading.
//! 4. A handover is resolved exactly once: when a leader is known after this one, when this one
//!    gives up, or another election time-out after it stepped down.
//!
//! Whoever was asked may campaign whenever that message arrives, without regard to those who hear
//! a leader. Once it was sent, nothing may rest on their regard in that term: see `lease`.

use crate::{
    core::Core,
    error::RejectReason,
    event::{DropReason, Event},
    identity::Member,
    message::{Message, TimeoutNow, VoteKind},
    output::{Lane, Outcome},
    replication::Mode,
    role::{Leader, RoleState},
    types::{Moment, ProposalId},
};

/// Leadership on its way to another member.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Handover {
    id: ProposalId,
    pub(crate) to: Member,
    /// When to give up.
    pub(crate) until: Moment,
    /// Whether the successor was asked to campaign.
    asked: bool,
}

impl Core {
    pub(crate) fn transfer(&mut self, id: ProposalId, to: Option<Member>) {
        let to = match self.check_transfer(to) {
            Ok(to) => to,
            Err(reason) => return self.resolve(id, Outcome::Rejected(reason)),
        };
        let until = self.now.plus(self.config.knobs().election);
        if let RoleState::Leader(leader) = &mut self.role {
            leader.handover = Some(Handover { id, to, until, asked: false });
        }
        self.advance_handover();
    }

    fn check_transfer(&self, to: Option<Member>) -> Result<Member, RejectReason> {
        let leader = self.check_leads()?;
        check_no_handover(leader)?;
        let Some(to) = to else {
            return self.successor(leader).ok_or(RejectReason::NoSuccessor);
        };
        if to == self.me {
            return Err(RejectReason::AlreadyDone { member: to });
        }
        if !self.membership.current().voters.contains(&to) {
            return Err(RejectReason::NoSuchMember { member: to });
        }
        match self.may_succeed(leader, &to) {
            true => Ok(to),
            false => Err(RejectReason::Behind { member: to }),
        }
    }

    /// Whether a voter answers and is sent entries: it may have them all soon.
    fn may_succeed(&self, leader: &Leader, to: &Member) -> bool {
        let election = self.config.knobs().election;
        leader.progress.get(to).is_some_and(|one| {
            one.answers(self.now, election) && !matches!(one.mode, Mode::Snapshot)
        })
    }

    /// The other voter that has most of the log, and of those the one heard last.
    pub(crate) fn successor(&self, leader: &Leader) -> Option<Member> {
        let voters = self.membership.current().voters.iter();
        let able = voters.filter(|one| **one != self.me && self.may_succeed(leader, one));
        let rank = |one: &&Member| leader.progress.get(one).map(|it| (it.matched, it.contact));
        able.max_by_key(rank).copied()
    }

    /// What the successor has, or what is committed, has grown: asks it to campaign once it has
    /// all and all is committed.
    pub(crate) fn advance_handover(&mut self) {
        let (last, commit) = (self.log.last().index, self.commit);
        let RoleState::Leader(leader) = &mut self.role else { return };
        let Leader { handover: Some(handover), progress, .. } = leader else { return };
        let has_all = progress.get(&handover.to).is_some_and(|one| one.counted() == last);
        if handover.asked || !has_all || commit < last {
            return;
        }
        handover.asked = true;
        leader.asked_successor = true;
        let to = handover.to;
        self.observe(Event::HandingOver { to, term: self.hard.term });
        self.ask_successor(to);
    }

    fn ask_successor(&mut self, to: Member) {
        let message = Message::TimeoutNow(TimeoutNow { term: self.hard.term });
        self.send(to, Lane::Control, message);
    }

    /// The heartbeat is due: the request may have been lost.
    pub(crate) fn repeat_handover(&mut self) {
        let RoleState::Leader(Leader { handover: Some(handover), .. }) = &self.role else { return };
        if handover.asked {
            self.ask_successor(handover.to);
        }
    }

    /// This leader is taken out and steps down: whoever has all of its log takes over at once.
    pub(crate) fn leave_to_successor(&mut self) {
        let last = self.log.last().index;
        let RoleState::Leader(leader) = &self.role else { return };
        let counted = |to: &Member| leader.progress.get(to).map(|one| one.counted());
        if let Some(to) = self.successor(leader).filter(|to| counted(to) == Some(last)) {
            self.ask_successor(to);
        }
    }

    /// A leader that hands over, or did, has waited long enough.
    pub(crate) fn handover_due(&mut self) {
        let now = self.now;
        if let Some(handed) = self.handed.take_if(|handed| handed.until <= now) {
            self.resolve(handed.id, Outcome::Unknown);
        }
        let RoleState::Leader(leader) = &mut self.role else { return };
        if let Some(handover) = leader.handover.take_if(|handover| handover.until <= now) {
            let reason = RejectReason::TransferAborted { to: handover.to };
            self.resolve(handover.id, Outcome::Rejected(reason));
        }
    }

    /// Leadership ended during a handover: how that ended is seen by who leads next.
    pub(crate) fn handed_over(&mut self, handover: Handover) {
        let until = handover.until.max(self.now.plus(self.config.knobs().election));
        self.handed = Some(Handover { until, ..handover });
    }

    /// A leader after this one is known.
    pub(crate) fn settle_handover(&mut self, leader: Member) {
        let Some(handed) = self.handed.take() else { return };
        let outcome = match leader == handed.to {
            true => Outcome::Transferred { leader, term: self.hard.term },
            false => Outcome::Rejected(RejectReason::TransferAborted { to: handed.to }),
        };
        self.resolve(handed.id, outcome);
    }

    /// This member acts no more, and will not learn how its handover ended.
    pub(crate) fn forget_handover(&mut self) {
        if let Some(handed) = self.handed.take() {
            self.resolve(handed.id, Outcome::Unknown);
        }
    }

    /// The leader asks this member to take over.
    pub(crate) fn timeout_now(&mut self, from: Member, message: TimeoutNow) {
        if message.term > self.hard.term {
            // Whoever has all of a leader's log is in its term.
            return self.drop_message(from, DropReason::Impossible);
        }
        let follows = matches!(self.role, RoleState::Follower(_)) && self.leader() == Some(from);
        if message.term == self.hard.term && follows && self.may_campaign() {
            self.start_candidacy(VoteKind::Transfer);
        }
    }
}

/// While leadership is handed over nothing is appended for clients.
pub(crate) fn check_no_handover(leader: &Leader) -> Result<(), RejectReason> {
    match &leader.handover {
        Some(handover) => Err(RejectReason::TransferInProgress { to: handover.to }),
        None => Ok(()),
    }
}
