//! What a leader does: takes proposals, resolves them, shows that it lives, and steps down (thesis
//! 3.5, 6.2, 6.3).
//!
//! Invariants:
//! 1. A leader never truncates its log.
//! 2. Every proposal is resolved exactly once: when it is committed, or when leadership ends.
//! 3. Proposals are in the order of their slots.

use alloc::collections::VecDeque;

use bytes::Bytes;

use crate::{
    core::Core,
    entry::{Entry, EntryKind},
    error::RejectReason,
    event::{DropReason, Event},
    identity::Member,
    lease::Sent,
    output::{Outcome, Output},
    read::LeaderReads,
    replication::Followers,
    role::RoleState,
    transfer::{Handover, check_no_handover},
    types::{Index, Moment, Position, ProposalId},
};

/// A proposal that is in the log and not committed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Proposal {
    pub(crate) id: ProposalId,
    pub(crate) index: Index,
    pub(crate) bytes: u64,
}

/// A leader.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Leader {
    /// Every other member, and those on their way out.
    pub(crate) progress: Followers,
    /// Requests to members that are gone had numbers up to this one: a member that is in again is
    /// asked in others, so that what it said before answers none of them.
    pub(crate) numbered: u64,
    /// Where the log ended when it was elected: what is committed beyond is of its own term.
    pub(crate) elected_at: Index,
    /// Whether an entry of its own term is committed.
    pub(crate) ready: bool,
    /// When to show again that it lives.
    pub(crate) heartbeat_due: Moment,
    /// Proposals that are not committed.
    pub(crate) proposals: VecDeque<Proposal>,
    /// Their cost.
    pub(crate) uncommitted_bytes: u64,
    /// The change in progress, and where its last configuration stands once it is appended.
    pub(crate) change: Option<(ProposalId, Option<Index>)>,
    /// Reads that wait for a round.
    pub(crate) reads: LeaderReads,
    /// When rounds were sent.
    pub(crate) sent: Sent,
    /// Leadership that is on its way to another member.
    pub(crate) handover: Option<Handover>,
    /// Whether any member was asked to campaign in this term.
    pub(crate) asked_successor: bool,
    /// Since when it has been seen that there is nothing to do.
    pub(crate) idle_since: Option<Moment>,
    /// Whether the group sleeps.
    pub(crate) asleep: bool,
}

impl Leader {
    /// When it next acts by itself.
    pub(crate) fn deadline(&self) -> Option<Moment> {
        let handover = self.handover.as_ref().map(|one| one.until);
        let heartbeat = (!self.asleep).then_some(self.heartbeat_due);
        [handover, heartbeat].into_iter().flatten().min()
    }
}

impl Core {
    pub(crate) fn become_leader(&mut self) {
        assert!(self.damage.is_none(), "a member with a damaged log never leads");
        let (now, elected_at) = (self.now, self.log.last().index);
        let leader = Leader {
            progress: Followers::default(),
            numbered: 0,
            elected_at,
            ready: false,
            heartbeat_due: now.plus(self.config.knobs().heartbeat),
            proposals: VecDeque::new(),
            uncommitted_bytes: 0,
            change: None,
            reads: LeaderReads::default(),
            sent: Sent::default(),
            handover: None,
            asked_successor: false,
            idle_since: None,
            asleep: false,
        };
        self.replace_role(RoleState::Leader(leader));
        self.meet_members();
        self.open_term();
        self.send_heartbeats();
    }

    pub(crate) fn propose(&mut self, id: ProposalId, command: Bytes) {
        if let Err(reason) = self.check_proposal(&command) {
            return self.resolve(id, Outcome::Rejected(reason));
        }
        let position = self.append_own(EntryKind::Command, command);
        let bytes = self.log.cost_at(position.index).unwrap_or(0);
        let RoleState::Leader(leader) = &mut self.role else { return };
        leader.uncommitted_bytes = leader.uncommitted_bytes.saturating_add(bytes);
        leader.proposals.push_back(Proposal { id, index: position.index, bytes });
    }

    fn check_proposal(&self, command: &Bytes) -> Result<(), RejectReason> {
        let leader = self.check_leads()?;
        check_no_handover(leader)?;
        let knobs = self.config.knobs();
        let (bytes, limit_bytes) = (command.len() as u64, knobs.command_bytes_max);
        if bytes > limit_bytes {
            return Err(RejectReason::TooLarge { bytes, limit_bytes });
        }
        // Others may commit what the own disk has not written: that is bounded too.
        let pending_bytes = leader.uncommitted_bytes.max(self.durability.pending_bytes());
        let limit_bytes = knobs.uncommitted_bytes_max;
        let cost = bytes.saturating_add(Entry::OVERHEAD_BYTES);
        if pending_bytes > 0 && pending_bytes.saturating_add(cost) > limit_bytes {
            return Err(RejectReason::Overloaded { pending_bytes, limit_bytes });
        }
        Ok(())
    }

    /// Whether this member leads a cluster that lives.
    pub(crate) fn check_leads(&self) -> Result<&Leader, RejectReason> {
        if self.is_founding() {
            return Err(RejectReason::Founding);
        }
        match &self.role {
            RoleState::Leader(leader) => Ok(leader),
            _ => Err(RejectReason::NotLeader { leader: self.leader().map(|leader| leader.node) }),
        }
    }

    /// Appends an entry of the own term.
    pub(crate) fn append_own(&mut self, kind: EntryKind, bytes: Bytes) -> Position {
        let position = Position::new(self.hard.term, self.log.last().index.next());
        self.append_entry(Entry { position, kind, bytes });
        position
    }

    pub(crate) fn resolve(&mut self, id: ProposalId, outcome: Outcome) {
        self.outputs.push_back(Output::Resolve { id, outcome });
    }

    /// The commit index advanced while this member leads.
    pub(crate) fn leader_committed(&mut self) {
        let commit = self.commit;
        let RoleState::Leader(leader) = &mut self.role else { return };
        let became_ready = !leader.ready && commit > leader.elected_at;
        leader.ready |= became_ready;
        while let Some(proposal) = leader.proposals.pop_front_if(|first| first.index <= commit) {
            leader.uncommitted_bytes = leader.uncommitted_bytes.saturating_sub(proposal.bytes);
            let position = Position::new(self.hard.term, proposal.index);
            let outcome = Outcome::Committed(position);
            self.outputs.push_back(Output::Resolve { id: proposal.id, outcome });
        }
        if became_ready {
            self.observe(Event::LeaderReady { term: self.hard.term });
        }
        self.configuration_committed();
        self.advance_handover();
    }

    /// The heartbeat is due: checks that a quorum is still there, and shows that this leader is.
    pub(crate) fn heartbeat_due(&mut self) {
        let (now, heartbeat) = (self.now, self.config.knobs().heartbeat);
        let RoleState::Leader(leader) = &mut self.role else { return };
        if leader.heartbeat_due > now || leader.asleep {
            return;
        }
        leader.heartbeat_due = now.plus(heartbeat);
        let RoleState::Leader(leader) = &self.role else { return };
        if !self.hears_quorum(leader) {
            // A leader that goes on here would keep those who hear it from electing another.
            self.observe(Event::QuorumLost { term: self.hard.term });
            return self.become_follower(self.hard.term, None);
        }
        if self.yield_stalled() {
            return;
        }
        self.dismiss_departed();
        self.promote_learners();
        self.expire_reads();
        if self.fall_asleep() {
            return;
        }
        self.send_heartbeats();
        self.probe_losses();
        self.repeat_offers();
        self.repeat_handover();
        self.tell_amnesiacs();
    }

    /// Answers everything that the end of leadership leaves open.
    pub(crate) fn retire_leader(&mut self, leader: Leader) {
        for proposal in leader.proposals {
            self.resolve(proposal.id, Outcome::Unknown);
        }
        if let Some((id, _)) = leader.change {
            self.resolve(id, Outcome::Unknown);
        }
        if let Some(handover) = leader.handover {
            self.handed_over(handover);
        }
        self.fail_leader_reads(leader.reads);
        self.loads.forget_followers();
    }

    /// Whether a message of the leader's own followers comes from one.
    pub(crate) fn check_follower(&mut self, from: Member) -> bool {
        let RoleState::Leader(leader) = &self.role else { return true };
        let known = leader.progress.contains(&from);
        if !known {
            self.drop_message(from, DropReason::Stranger);
        }
        known
    }

    /// Appends a configuration and, in force at once, sends to those it names.
    pub(crate) fn append_configuration(
        &mut self,
        configuration: crate::membership::Configuration,
    ) -> Position {
        let position = self.append_own(EntryKind::Configuration, configuration.encode());
        self.meet_members();
        // A round may have waited for none but those who leave.
        self.confirm_reads();
        position
    }
}
