//! Decides when a member that was taken out knows it, and tells those who do not (thesis 4.2.3).
//!
//! Invariants:
//! 1. A member has departed when a configuration without it is committed after one with it; nobody
//!    departs who never was a member, as a joiner that learns the log from its beginning, nor by a
//!    configuration that is older than an admission or a card that it was told of.
//! 2. The driver is told once, and again only after the member was admitted again.
//! 3. Who has departed never campaigns. It still votes, and still receives what it is sent.

use alloc::collections::BTreeSet;

use crate::{
    core::Core,
    event::{DropReason, Event},
    identity::Member,
    message::{Dismissed, HeartbeatResponse, Message},
    output::{Lane, Output},
    role::RoleState,
    types::{Index, Term},
};

/// What a member knows of its own place.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Departure {
    /// The newest committed configuration that it was in.
    listed: Option<Index>,
    /// The configuration that it was not in any more.
    departed: Option<Index>,
    /// Whether a leader spoke to it since: it may be in again, and out once more.
    doubts: bool,
    /// Whether what the store held is settled: what is new is news.
    restored: bool,
    /// Peers to which there is a path.
    peers: BTreeSet<Member>,
}

impl Departure {
    /// This member was in the configuration committed at this slot.
    pub(crate) fn admitted(&mut self, at: Index) {
        self.listed = self.listed.max(Some(at));
    }

    /// A leader speaks to this member.
    pub(crate) const fn heard_leader(&mut self) {
        self.doubts |= self.departed.is_some();
    }

    /// Whether there is a path to this peer.
    pub(crate) fn reaches(&self, peer: &Member) -> bool {
        self.peers.contains(peer)
    }
}

/// Of so many peers one surely knows better.
const PEERS_MAX: usize = 64;

impl Core {
    /// Whether this member was taken out, and not admitted again.
    pub(crate) fn is_departed(&self) -> bool {
        let listed = self.membership.newest_with(&self.me, self.log.last().index);
        self.departure.departed.is_some_and(|at| listed.is_none_or(|slot| slot < at))
    }

    /// The commit index advanced: settles the configurations up to it.
    pub(crate) fn commit_configurations(&mut self) {
        let only = self.membership.only();
        if only.is_some() && only == self.departure.listed && self.departure.departed.is_none() {
            // It was looked at before: so it is at nearly every commit.
            return;
        }
        let listed = self.membership.newest_with(&self.me, self.commit);
        let before = self.departure.listed;
        self.departure.listed = before.max(listed);
        // Its leader may have told it that it is out, and the log only now that it is in again.
        // Or it knew it by a log that it has compacted since.
        let was_out = match (before, listed) {
            (Some(before), Some(now)) => self.membership.was_out_between(&self.me, before, now),
            (None, Some(_)) => self.departure.restored,
            (_, None) => false,
        };
        self.membership.commit(self.commit);
        self.settle_vouched();
        let Some(index) = listed else { return };
        if self.departure.departed.map_or(was_out, |departed| departed < index) {
            self.departure.departed = None;
            self.observe(Event::Readmitted { index });
        }
    }

    /// The configurations that may be in force changed: looks whether this member is in any.
    pub(crate) fn check_departed(&mut self) {
        if self.damage.is_some() {
            // The configuration that has it may be among what it can't read.
            return;
        }
        let (index, committed) = self.membership.committed();
        if self.departure.listed.is_none_or(|listed| listed >= index) {
            // It never was a member, or still is.
            return;
        }
        if self.vouched.at(&self.me).is_some_and(|admitted| admitted > index) {
            // It was admitted again since: its log has yet to come to that.
            return;
        }
        let may_be = committed.contains(&self.me)
            || self.membership.newest_with(&self.me, self.log.last().index).is_some();
        if !may_be {
            self.depart(index);
        }
    }

    fn depart(&mut self, index: Index) {
        // A later word is news: it may have been in again meanwhile, and told so by others.
        if self.departure.departed.is_some_and(|known| known >= index) {
            return;
        }
        self.departure.departed = Some(index);
        if !matches!(self.role, RoleState::Follower(_)) {
            self.become_follower(self.hard.term, None);
        }
        self.outputs.push_back(Output::Departed { index });
    }

    /// This member was admitted at this slot: an earlier departure that its driver was not told of,
    /// as after a start, is none.
    pub(crate) fn take_back_departure(&mut self, admitted: Index) {
        let unsaid = |output: &Output| match output {
            Output::Departed { index } => *index < admitted,
            _ => false,
        };
        if self.outputs.iter().any(unsaid) {
            self.outputs.retain(|output| !unsaid(output));
            self.departure.departed = None;
        }
    }

    /// A known member says that its newest committed configuration, at this slot, does not have
    /// this member. Where that is not above every configuration, admission and card by which this
    /// member knows itself to be one, the sender merely lags behind.
    pub(crate) fn dismissed(&mut self, from: Member, message: Dismissed) {
        let listed = self.membership.newest_with(&self.me, self.log.last().index);
        let listed = listed.max(self.departure.listed).max(self.vouched.at(&self.me));
        if listed.is_some_and(|listed| message.index <= listed) || message.index == Index::ZERO {
            // It was said before this member was admitted.
            return;
        }
        if matches!(self.role, RoleState::Leader(_)) && message.term <= self.hard.term {
            return self.drop_message(from, DropReason::Impossible);
        }
        // The log alone, or a snapshot, may end before it was in again.
        self.departure.doubts = false;
        self.depart(message.index);
    }

    /// What the store held of configurations is known.
    pub(crate) fn configurations_restored(&mut self) {
        self.commit_configurations();
        self.departure.restored = true;
        self.check_departed();
    }

    /// The known members to which there is a path.
    pub(crate) fn reachable_members(&self) -> impl Iterator<Item = Member> + '_ {
        self.departure.peers.iter().copied().filter(|peer| self.knows(peer))
    }

    /// A path to a member that speaks for this group is there, or gone.
    pub(crate) fn note_peer(&mut self, peer: Member, up: bool) {
        let peers = &mut self.departure.peers;
        if !up {
            peers.remove(&peer);
        } else if peers.len() < PEERS_MAX {
            peers.insert(peer);
        }
    }

    /// Who has no vote, or may not use it any more, and hears no leader says to its peers that it
    /// is there. It never campaigns, so that a leader which has removed it would else never learn
    /// that it does not know. Who knows that it is out asks only if a leader has spoken to it
    /// since, until it is told once more: it may have been in again, and have missed both.
    pub(crate) fn ask_for_standing(&mut self) {
        let current = self.membership.current();
        let votes = current.is_voter(&self.me) && !self.is_forgotten();
        if votes || (self.is_departed() && !self.departure.doubts) {
            return;
        }
        // A joiner that was sent nothing knows no voter, but whoever it is connected to.
        let mut asked: BTreeSet<Member> = self.reachable_members().collect();
        asked.extend(current.voters.iter().take(PEERS_MAX).copied());
        asked.remove(&self.me);
        // Who forgot may have been in a later term, and is no contact with a quorum: it names none.
        let term = if self.is_forgotten() { Term::ZERO } else { self.hard.term };
        let (round, free_bytes) = (0, self.free_bytes());
        for peer in asked {
            let message = HeartbeatResponse { term, round, free_bytes };
            self.send(peer, Lane::Control, Message::HeartbeatResponse(message));
        }
    }
}
