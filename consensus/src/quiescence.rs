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
//! 5. Sleep hears nobody: whoever wakes refuses its vote only for what it heard before, or what the
//!    driver saw of the leader's node since.
//!
//! That a sleeping leader lives is the driver's to watch, for all groups of a node at once: it says
//! [`crate::Input::PeerDown`] to those that the lost node leads, and [`crate::Input::LeaderSeen`]
//! before anything that may wake a follower of one that lives. Whoever missed that it may sleep
//! campaigns in vain then, and wakes the others.

use crate::{
    core::Core,
    identity::Member,
    input::{Input, ReadLevel},
    message::{AppendResponse, AppendResult, Message, Quiesce},
    output::Lane,
    replication::{Mode, Progress},
    role::{Leader, RoleState},
    types::Moment,
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
                if leader.asleep && self.concerns_leader(input) {
                    self.wake_leader();
                }
            }
            RoleState::Follower(follower) if follower.asleep => {
                let lost = matches!(input, Input::PeerDown(peer) if follower.leader == Some(*peer));
                if lost || concerns_follower(input) {
                    self.wake_follower();
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

    /// It waits for a leader as if it had just begun to; if that one is known to be lost, the wait
    /// is shortened next.
    fn wake_follower(&mut self) {
        let election_due = self.now.plus(self.draw_wait());
        if let RoleState::Follower(follower) = &mut self.role {
            (follower.asleep, follower.election_due) = (false, election_due);
        }
    }

    /// The driver saw a sign of life of the leader's node.
    pub(crate) fn leader_seen(&mut self, leader: Member, at: Moment) {
        let at = at.min(self.now);
        if let RoleState::Follower(follower) = &self.role
            && follower.asleep
            && follower.leader == Some(leader)
        {
            self.heard = self.heard.max(Some(at));
        }
    }

    /// What a sleeping leader must act on.
    fn concerns_leader(&self, input: &Input) -> bool {
        match input {
            Input::Receive { message, .. } => !self.is_late_answer(message),
            Input::Transfer { .. } | Input::Campaign | Input::PeerUp(_) | Input::Wake => true,
            Input::Read { level: ReadLevel::Lease, .. } => true,
            _ => is_work(input),
        }
    }

    /// An answer to what this leader said before it fell asleep: waking for it would send what is
    /// answered again, to no end. Later the same message is a member's that looks for its leader.
    fn is_late_answer(&self, message: &Message) -> bool {
        let RoleState::Leader(leader) = &self.role else { return false };
        if self.now >= leader.heartbeat_due.plus(self.config.knobs().election) {
            return false;
        }
        let answer = match message {
            Message::HeartbeatResponse(_) | Message::VoteResponse(_) => true,
            Message::AppendResponse(response) => {
                matches!(response.result, AppendResult::Matched(_))
            }
            _ => false,
        };
        answer && message.term() == self.hard.term
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
        let followers: alloc::vec::Vec<Member> = leader.progress.members().copied().collect();
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
        if stale {
            return self.answer_stale(from);
        }
        if !same || !allowed {
            return self.refuse_sleep(from);
        }
        self.advance_commit_to(self.log.last().index);
        if let RoleState::Follower(follower) = &mut self.role {
            // Reads that wait for the leader wake it.
            follower.asleep = follower.reads.is_empty();
        }
    }

    /// Wakes a leader that is wrong about this member: a conflict of no request takes nothing back.
    fn refuse_sleep(&mut self, leader: Member) {
        let (term, last, free_bytes) = (self.hard.term, self.log.last(), self.free_bytes());
        let result = AppendResult::Conflict { hint: last, last };
        let response = AppendResponse { term, sequence: 0, result, free_bytes };
        self.send(leader, Lane::Control, Message::AppendResponse(response));
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

/// What a sleeping follower must act on.
const fn concerns_follower(input: &Input) -> bool {
    match input {
        Input::Receive { message: Message::Quiesce(_), .. } => false,
        Input::Receive { .. } | Input::Read { .. } | Input::Campaign | Input::Wake => true,
        _ => false,
    }
}
