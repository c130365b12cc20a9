//! Lets an idle group sleep: no heartbeats, no time-outs, until something happens.
//!
//! Invariants:
//! 1. A leader falls asleep only when every member has the whole log, all of it is committed and
//!    applied, nothing waits for an answer, and that has been so for a while in which all answered.
//! 2. A follower falls asleep only when its durable log ends exactly where its leader's does.
//! 3. Who sleeps has no deadline. Whatever concerns the group wakes it; a leader then speaks to all
//!    at once, so that everybody wakes.
//! 4. A sleeping leader holds no lease; a lease that was not over ends as usual, as no follower
//!    forgets whom it heard.
//!
//! That a sleeping leader lives is the driver's to watch, for all groups of a node at once: it says
//! [`crate::Input::PeerDown`] to those that the lost node leads. Whoever missed that it may sleep
//! campaigns in vain, and wakes the others.

use crate::{
    core::Core,
    identity::Member,
    input::Input,
    message::{HeartbeatResponse, Message, Quiesce},
    output::Lane,
    replication::{Mode, Progress},
    role::{Leader, RoleState},
};

impl Core {
    /// Whether this member sleeps.
    pub fn is_dormant(&self) -> bool {
        match &self.role {
            RoleState::Follower(follower) => follower.asleep,
            RoleState::Candidate(_) => false,
            RoleState::Leader(leader) => leader.asleep,
        }
    }

    /// Wakes this member, if the input concerns the group.
    pub(crate) fn stir(&mut self, input: &Input) {
        if self.config.knobs().quiesce_after.is_none() {
            return;
        }
        match &mut self.role {
            RoleState::Leader(leader) => {
                if is_work(input) {
                    leader.idle_since = None;
                }
                if leader.asleep && concerns_leader(input) {
                    self.wake_leader();
                }
            }
            RoleState::Follower(follower) if follower.asleep => {
                let lost = matches!(input, Input::PeerDown(peer) if follower.leader == Some(*peer));
                if lost || concerns_follower(input) {
                    self.wake_follower(lost);
                }
            }
            RoleState::Follower(_) | RoleState::Candidate(_) => {}
        }
    }

    /// It shows at once that it lives. While it slept nobody was to answer.
    fn wake_leader(&mut self) {
        let (now, heartbeat) = (self.now, self.config.knobs().heartbeat);
        let RoleState::Leader(leader) = &mut self.role else { return };
        (leader.asleep, leader.idle_since) = (false, None);
        leader.heartbeat_due = now.plus(heartbeat);
        leader.progress.values_mut().for_each(|progress| progress.contact = now);
        self.send_heartbeats();
    }

    /// Until now the driver vouched for the leader; if it does no more, the wait is short.
    fn wake_follower(&mut self, lost: bool) {
        if !lost {
            self.heard = Some(self.now);
        }
        let election_due = self.now.plus(self.draw_wait());
        if let RoleState::Follower(follower) = &mut self.role {
            (follower.asleep, follower.election_due) = (false, election_due);
        }
    }

    /// The heartbeat is due: lets the group sleep if it has been idle for long enough. Says whether
    /// it does.
    pub(crate) fn fall_asleep(&mut self) -> bool {
        let Some(after) = self.config.knobs().quiesce_after else { return false };
        let (now, last, term) = (self.now, self.log.last(), self.hard.term);
        let idle = self.is_idle();
        let RoleState::Leader(leader) = &mut self.role else { return false };
        if !idle {
            leader.idle_since = None;
            return false;
        }
        let since = *leader.idle_since.get_or_insert(now);
        // Whoever has not answered since may be gone, and would miss that it may sleep.
        let all_answered = leader.progress.values().all(|one| one.contact > since);
        if now < since.plus(after) || !all_answered {
            return false;
        }
        leader.asleep = true;
        let followers: alloc::vec::Vec<Member> = leader.progress.keys().copied().collect();
        for to in followers {
            self.send(to, Lane::Control, Message::Quiesce(Quiesce { term, last }));
        }
        true
    }

    fn is_idle(&self) -> bool {
        let RoleState::Leader(leader) = &self.role else { return false };
        let last = self.log.last().index;
        let settled = self.commit == last && self.apply.applied() == last;
        let quiet = self.durability.is_quiet(last) && leader.is_quiet() && !self.is_founding();
        let election = self.config.knobs().election;
        let current = |one: &Progress| {
            let sent_all = matches!(one.mode, Mode::Replicate) && one.departing.is_none();
            sent_all && one.matched == last && one.answers(self.now, election)
        };
        settled && quiet && leader.progress.values().all(current)
    }

    /// The leader says that the group may sleep.
    pub(crate) fn quiesce(&mut self, from: Member, message: Quiesce) {
        if message.term >= self.hard.term && !self.follow(from, message.term) {
            return;
        }
        let same = message.last == self.log.last() && self.durability.is_quiet(message.last.index);
        let stale = message.term < self.hard.term;
        let allowed = self.config.knobs().quiesce_after.is_some() && self.damage.is_none();
        if stale || !same || !allowed {
            // An answer wakes a leader that is wrong about this member, or is none any more.
            let (term, free_bytes) = (self.hard.term, self.free_bytes());
            let response = HeartbeatResponse { term, round: 0, free_bytes };
            return self.send(from, Lane::Control, Message::HeartbeatResponse(response));
        }
        self.advance_commit_to(message.last.index);
        if let RoleState::Follower(follower) = &mut self.role {
            // Reads that wait for the leader wake it.
            follower.asleep = follower.reads.is_empty();
        }
    }

    /// Panics if an invariant is broken.
    pub(crate) fn check_sleep(&self) {
        if self.is_dormant() {
            assert!(self.log.last().index == self.commit, "nobody sleeps on what is not committed");
            assert!(self.lease_until().is_none(), "who sleeps holds no lease");
        }
    }
}

impl Leader {
    /// Whether nobody waits for anything.
    fn is_quiet(&self) -> bool {
        let nothing_asked = self.proposals.is_empty() && self.change.is_none();
        self.ready && nothing_asked && self.handover.is_none() && self.reads.is_empty()
    }
}

/// What shows that the group is in use.
const fn is_work(input: &Input) -> bool {
    match input {
        Input::Receive { message, .. } => {
            matches!(message, Message::ReadRequest(_) | Message::LeaseRequest(_))
        }
        Input::Propose { .. } | Input::Change { .. } | Input::Read { .. } => true,
        _ => false,
    }
}

/// What a sleeping leader must act on.
const fn concerns_leader(input: &Input) -> bool {
    is_work(input)
        || matches!(
            input,
            Input::Receive { .. } | Input::Transfer { .. } | Input::Campaign | Input::PeerUp(_)
        )
}

/// What a sleeping follower must act on.
const fn concerns_follower(input: &Input) -> bool {
    match input {
        Input::Receive { message: Message::Quiesce(_), .. } => false,
        Input::Receive { .. } | Input::Read { .. } | Input::Campaign => true,
        _ => false,
    }
}
