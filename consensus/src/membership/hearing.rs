//! Decides whom a member hears: known members alone.
//!
//! Membership is proved by the configuration, an admission or cards ([`super::KnownMembers`]). A
//! transport opens handles to known members only; the core holds the same rule once more, so that
//! no term, vote, leader or verdict of a stranger ever moves it.
//!
//! Invariants:
//! 1. A message of a member that is not known changes nothing but the answer that it gets: which
//!    configuration, committed here, does not have it.
//! 2. An answer of that kind is never answered, so that two strangers fall silent.

use alloc::{collections::BTreeSet, vec::Vec};

use crate::{
    core::Core,
    event::DropReason,
    identity::Member,
    input::Input,
    membership::Configuration,
    message::{Dismissed, Message},
    output::{Lane, Output},
    role::RoleState,
    types::{Index, Term},
};

impl Core {
    /// Whether this peer is heard: it is in the newest configuration that is known to be committed
    /// or in a later one in the log, was vouched for, or is leaving and this leader tells it so.
    pub fn knows(&self, peer: &Member) -> bool {
        let follows = match &self.role {
            RoleState::Leader(leader) => leader.progress.contains(peer),
            RoleState::Follower(_) | RoleState::Candidate(_) => false,
        };
        follows || self.membership.has(peer) || self.vouched.at(peer).is_some()
    }

    /// The slot of the newest configuration that this member knows to be committed, and every
    /// member that it hears.
    pub fn known_members(&self) -> (Index, BTreeSet<Member>) {
        let mut members = self.membership.every_member();
        members.extend(self.vouched.iter().map(|(member, _)| member));
        match &self.role {
            RoleState::Leader(leader) => members.extend(leader.progress.members()),
            // It may have left, and has yet to hand its leadership over.
            RoleState::Follower(follower) => members.extend(follower.leader),
            RoleState::Candidate(_) => {}
        }
        members.remove(&self.me);
        (self.membership.committed().0, members)
    }

    /// The newest configuration that this member knows to be committed, and its slot.
    pub fn committed_configuration(&self) -> (Index, &Configuration) {
        self.membership.committed()
    }

    /// A number that changes whenever [`Self::known_members`] may have changed.
    pub const fn known_version(&self) -> u64 {
        self.membership.version().wrapping_add(self.known_changes)
    }

    /// What a driver stores beside the log, so that a member whose configurations are lost still
    /// knows whom to hear: each member that was vouched for or is in the newest committed
    /// configuration, with the slot that says so. Hand it in by [`Input::Vouch`] after a start.
    pub fn vouched(&self) -> Vec<(Member, Index)> {
        let (at, committed) = self.membership.committed();
        let mut vouched = self.vouched.clone();
        for voter in committed.voters.iter().chain(&committed.outgoing) {
            vouched.add(*voter, at);
        }
        vouched.to_vec()
    }

    /// An admission named these members, or their cards counted.
    pub(crate) fn vouch(&mut self, members: Vec<(Member, Index)>) {
        let committed = self.membership.committed().0;
        for (member, at) in members {
            if at > committed && self.vouched.add(member, at) {
                self.known_changed();
                if member == self.me {
                    self.take_back_departure(at);
                }
            }
        }
    }

    /// The members that this leader hears changed, and no configuration with them.
    pub(crate) const fn known_changed(&mut self) {
        self.known_changes = self.known_changes.wrapping_add(1);
    }

    /// A configuration was committed: what was vouched for up to its slot is settled.
    pub(crate) fn settle_vouched(&mut self) {
        let committed = self.membership.committed().0;
        if let Some(at) = self.vouched.at(&self.me).filter(|at| *at <= committed) {
            // The admission is part of the past, also where a snapshot stands for it.
            self.departure.admitted(at);
        }
        if self.vouched.settle(committed) {
            self.known_changed();
        }
    }

    /// Whether an input comes from this cluster at all. Peers that are not known are told so.
    pub(crate) fn is_heard(&mut self, input: &Input) -> bool {
        match input {
            Input::Receive { from, message } => self.hears(*from, message),
            Input::PeerUp(peer) | Input::LeaderSeen { leader: peer, .. } => self.knows(peer),
            _ => true,
        }
    }

    /// Whether the leader of this term, which has left with the configuration that is committed
    /// here, asks its successor to campaign: the last word that is heard of it (thesis 3.10).
    fn is_hand_over(&self, from: &Member, message: &Message) -> bool {
        let leads = self.known_leader() == Some(from) && message.term() == self.hard.term;
        leads && matches!(message, Message::TimeoutNow(_))
    }

    fn hears(&mut self, from: Member, message: &Message) -> bool {
        if from == self.me {
            self.drop_message(from, DropReason::Malformed);
            return false;
        }
        let version = self.known_version();
        if self.heard_before == Some((from, version)) {
            return true;
        }
        if self.knows(&from) {
            self.heard_before = Some((from, version));
            return true;
        }
        if self.is_hand_over(&from, message) {
            return true;
        }
        self.drop_message(from, DropReason::Stranger);
        let index = self.membership.committed().0;
        if index > Index::ZERO && !matches!(message, Message::Dismissed(_)) {
            let message = Message::Dismissed(Dismissed { term: Term::ZERO, index });
            // It names no term and waits for no write: strangers fill no queue behind a disk.
            self.outputs.push_back(Output::Send { to: from, lane: Lane::Control, message });
        }
        false
    }
}
