//! Decides who leads: election time-outs, pre-votes, votes, stickiness and check-quorum (thesis
//! 3.4, 3.6.1, 3.8, 4.2.3, 6.2, 9.6).
//!
//! Invariants:
//! 1. One vote a term, durable before it leaves; a candidate's own vote counts no sooner.
//! 2. A vote goes only to a log that is at least as up-to-date as the voter's.
//! 3. The term never decreases, and its vote is never taken back: stepping down keeps both.
//! 4. While a leader is heard, votes are refused without a look at their term, unless that leader
//!    asked for the election.
//!
//! Whoever is asked votes, whatever its own configuration says: a member that was promoted may not
//! know it yet. The candidate counts by its configuration.

use alloc::{collections::BTreeMap, vec::Vec};
use core::time::Duration;

use crate::{
    core::Core,
    entry::HardState,
    event::{DropReason, Event},
    identity::Member,
    message::{Message, VoteKind, VoteRequest, VoteResponse},
    output::{Lane, Output},
    quorum::{self, VoteOutcome},
    read::ForwardedReads,
    role::{Candidate, Follower, Leader, RoleState},
    types::{Moment, Term, WriteId},
};

impl Core {
    /// Whether this member may stand for election.
    ///
    /// A member that its newest configuration gives no vote may, while that configuration is not
    /// known to be committed and an earlier one has it: else a change that only the leaving have
    /// may leave nobody to finish it (thesis 4.2.2). A joiner knows no configuration, and waits.
    pub(crate) fn may_campaign(&self) -> bool {
        let current = self.membership.current();
        let outgoing = self.membership.index() > self.commit
            && !current.is_voter(&self.me)
            && self.membership.is_voter_in_any(&self.me);
        // At the end of all terms nobody can be elected any more.
        let term_left = self.hard.term.next() > self.hard.term;
        let takes_part = current.is_voter(&self.me) || outgoing;
        let allowed = self.damage.is_none() && !self.is_departed();
        takes_part && term_left && allowed && !current.voters.is_empty()
    }

    pub(crate) fn draw_election(&mut self) -> Duration {
        let election = self.config.knobs().election;
        election + self.random.below(election)
    }

    /// How much longer than others this member waits before it campaigns.
    pub(crate) fn deference(&self) -> Duration {
        let knobs = self.config.knobs();
        match knobs.election_rank {
            0 => Duration::ZERO,
            rank => knobs.election / 2 * u32::from(rank),
        }
    }

    /// How long this member waits for a leader.
    pub(crate) fn draw_wait(&mut self) -> Duration {
        self.draw_election() + self.deference()
    }

    /// The election time-out of a member that follows, or waits.
    pub(crate) fn election_timed_out(&mut self) {
        if self.may_campaign() {
            return self.start_candidacy(VoteKind::Pre);
        }
        self.ask_for_standing();
        self.become_follower(self.hard.term, None);
    }

    /// The driver asks for a campaign; still by a pre-vote, so that it can't disturb a leader.
    pub(crate) fn campaign(&mut self) {
        if !matches!(self.role, RoleState::Leader(_)) && self.may_campaign() {
            self.start_candidacy(VoteKind::Pre);
        }
    }

    pub(crate) fn start_candidacy(&mut self, kind: VoteKind) {
        if kind != VoteKind::Pre {
            let term = self.hard.term.next();
            self.change_hard(HardState { term, vote: Some(self.me), ..self.hard });
        }
        let candidate = Candidate {
            kind,
            answers: BTreeMap::new(),
            own_vote: self.durability.hard(),
            until: self.now.plus(self.draw_election()),
            ask_due: self.now.plus(self.config.knobs().heartbeat),
        };
        self.replace_role(RoleState::Candidate(candidate));
        self.ask_votes();
        self.count_own_vote();
    }

    /// A candidate's time has come: to start again, or to repeat itself.
    pub(crate) fn candidacy_timed_out(&mut self) {
        let (now, heartbeat) = (self.now, self.config.knobs().heartbeat);
        let RoleState::Candidate(candidate) = &mut self.role else { return };
        if candidate.until <= now {
            return self.election_timed_out();
        }
        if candidate.ask_due <= now {
            candidate.ask_due = now.plus(heartbeat);
            self.ask_votes();
            self.count_own_vote();
        }
    }

    fn ask_votes(&mut self) {
        let RoleState::Candidate(candidate) = &self.role else { return };
        let current = self.membership.current();
        let unanswered = |member: &Member| !candidate.answers.contains_key(member);
        let mut asked = current.members();
        asked.retain(|one| current.is_voter(one));
        if candidate.kind == VoteKind::Pre {
            // Its configuration may be long past. Whoever leads now answers a member that it does
            // not know, and is perhaps none that this one knows.
            asked.extend(self.reachable_members());
        }
        let asked: Vec<Member> =
            asked.into_iter().filter(|one| *one != self.me && unanswered(one)).collect();
        for member in asked {
            self.ask_vote(member);
        }
    }

    /// Asks one voter, if this member campaigns and it has not answered.
    pub(crate) fn ask_vote(&mut self, member: Member) {
        let RoleState::Candidate(candidate) = &self.role else { return };
        let kind = candidate.kind;
        let term = match kind {
            VoteKind::Pre => self.hard.term.next(),
            VoteKind::Campaign | VoteKind::Transfer => self.hard.term,
        };
        let last = self.log.last();
        // It claims the log's end, and a vote won by what a crash takes back would elect a leader
        // without it. The term's write is behind those of the log, but for a snapshot that arrived
        // since.
        let write = match kind {
            VoteKind::Pre => WriteId::ZERO,
            VoteKind::Campaign | VoteKind::Transfer => self.durability.write_of(last.index),
        };
        let message = Message::VoteRequest(VoteRequest { term, kind, last });
        self.send_after(write, member, Lane::Control, message);
    }

    /// Counts the own vote as soon as it is durable.
    pub(crate) fn count_own_vote(&mut self) {
        if !matches!(self.role, RoleState::Candidate(_)) {
            return;
        }
        let (me, is_voter) = (self.me, self.membership.current().is_voter(&self.me));
        let hears_leader = self.hears_leader();
        let RoleState::Candidate(candidate) = &mut self.role else { return };
        let durable = self.durability.is_durable(candidate.own_vote);
        // Asked by its driver it may campaign early; its own vote is no freer than others'.
        let counts = match candidate.kind {
            VoteKind::Pre => !hears_leader,
            VoteKind::Campaign => !hears_leader && durable,
            VoteKind::Transfer => durable,
        };
        if is_voter && counts {
            candidate.answers.insert(me, true);
        }
        self.count_votes();
    }

    fn count_votes(&mut self) {
        let RoleState::Candidate(candidate) = &self.role else { return };
        let answer = |member: &Member| candidate.answers.get(member).copied();
        match (quorum::outcome(self.membership.current(), answer), candidate.kind) {
            (VoteOutcome::Open, _) => {}
            (VoteOutcome::Won, VoteKind::Pre) => self.start_candidacy(VoteKind::Campaign),
            (VoteOutcome::Won, _) => self.become_leader(),
            (VoteOutcome::Lost, _) => self.become_follower(self.hard.term, None),
        }
    }

    pub(crate) fn vote_request(&mut self, from: Member, request: VoteRequest) {
        if request.term == Term::ZERO || request.last.term > request.term {
            return self.drop_message(from, DropReason::Malformed);
        }
        let sticky = request.kind != VoteKind::Transfer && self.hears_leader();
        let granted = match request.kind {
            _ if sticky || self.damage.is_some() => false,
            VoteKind::Pre => request.term > self.hard.term && request.last >= self.log.last(),
            VoteKind::Campaign | VoteKind::Transfer => self.vote(from, request),
        };
        let message = Message::VoteResponse(VoteResponse {
            term: self.hard.term,
            request_term: request.term,
            kind: request.kind,
            granted,
        });
        self.send(from, Lane::Control, message);
    }

    /// Decides a real vote, and gives it.
    fn vote(&mut self, candidate: Member, request: VoteRequest) -> bool {
        if request.term < self.hard.term {
            return false;
        }
        if request.term > self.hard.term {
            self.become_follower(request.term, None);
        }
        let free = self.hard.vote.is_none_or(|vote| vote == candidate);
        if !free || request.last < self.log.last() {
            return false;
        }
        if self.hard.vote.is_none() {
            self.change_hard(HardState { vote: Some(candidate), ..self.hard });
            let voted = Output::Observe(Event::Voted { hard: self.hard });
            self.output_after(self.durability.hard(), voted);
        }
        // The vote may elect a leader: give it time. A pre-candidate of this term steps back.
        if !matches!(self.role, RoleState::Follower(_)) {
            self.become_follower(self.hard.term, None);
        }
        let election_due = self.now.plus(self.draw_wait());
        if let RoleState::Follower(follower) = &mut self.role {
            follower.election_due = election_due;
        }
        true
    }

    pub(crate) fn vote_response(&mut self, from: Member, response: VoteResponse) {
        // A higher term was taken over before: this member is no candidate any more.
        let term = self.hard.term;
        let counts = self.membership.current().is_voter(&from);
        let RoleState::Candidate(candidate) = &mut self.role else { return };
        let asked_term = if candidate.kind == VoteKind::Pre { term.next() } else { term };
        if response.kind != candidate.kind || response.request_term != asked_term {
            return;
        }
        if !counts {
            if candidate.kind == VoteKind::Pre {
                // It was asked only so that it may say who leads.
                return;
            }
            return self.drop_message(from, DropReason::Stranger);
        }
        candidate.answers.entry(from).or_insert(response.granted);
        self.count_votes();
    }

    /// Whether this member heard a leader, or as leader its quorum, within an election time-out.
    fn hears_leader(&self) -> bool {
        let election = self.config.knobs().election;
        match &self.role {
            RoleState::Leader(leader) => self.hears_quorum(leader),
            // Neither a campaign of its own nor a higher term takes back what it let a leader
            // count on.
            RoleState::Follower(_) | RoleState::Candidate(_) => {
                self.heard.is_some_and(|heard| self.now < heard.plus(election))
            }
        }
    }

    /// Whether a leader heard a quorum within an election time-out (thesis 6.2).
    pub(crate) fn hears_quorum(&self, leader: &Leader) -> bool {
        let heard = self.quorum_contact(leader);
        heard.is_some_and(|heard| self.now < heard.plus(self.config.knobs().election))
    }

    /// When a leader heard a quorum last.
    pub(crate) fn quorum_contact(&self, leader: &Leader) -> Option<Moment> {
        let contact = |member: &Member| {
            if *member == self.me {
                return Some(self.now);
            }
            let counts = leader.progress.get(member).filter(|one| one.amnesiac.is_none());
            counts.map(|progress| progress.contact)
        };
        quorum::agreed(self.membership.current(), contact).flatten()
    }

    /// Follows `leader`, or waits for one, in `term`. The vote of a term is kept (thesis 3.4).
    pub(crate) fn become_follower(&mut self, term: Term, leader: Option<Member>) {
        assert!(term >= self.hard.term, "the term never decreases");
        if term > self.hard.term {
            self.change_hard(HardState { term, vote: None, ..self.hard });
        }
        // A wait that has begun goes on: a higher term alone is no sign of a leader.
        let waiting = match &self.role {
            RoleState::Follower(follower) if follower.election_due > self.now => {
                Some(follower.election_due)
            }
            _ => None,
        };
        let election_due = waiting.unwrap_or_else(|| self.now.plus(self.draw_wait()));
        let follower = Follower {
            leader,
            election_due,
            asleep: false,
            just_started: false,
            reads: ForwardedReads::default(),
        };
        self.replace_role(RoleState::Follower(follower));
    }

    /// The path to the leader broke: waits no longer than others refuse their votes.
    pub(crate) fn leader_unreachable(&mut self, member: Member) {
        let election = self.config.knobs().election;
        let stagger = self.random.below(election / 4) + self.deference();
        let heard = self.heard;
        let RoleState::Follower(follower) = &mut self.role else { return };
        if follower.leader == Some(member)
            && let Some(heard) = heard
        {
            let due = heard.plus(election).max(self.now).plus(stagger);
            follower.election_due = follower.election_due.min(due);
        }
    }

    /// A path came up. Who has just started and can reach a quorum does not wait a whole time-out
    /// for a leader: one that lives would be heard within a heartbeat, and a pre-vote disturbs
    /// none. It waits a little longer than that, and not as long as others.
    pub(crate) fn hasten_first_election(&mut self) {
        let knobs = self.config.knobs();
        let RoleState::Follower(follower) = &self.role else { return };
        let first = follower.just_started && knobs.election_rank == 0;
        let reached = |member: &Member| {
            let reached = *member == self.me || self.departure.reaches(member);
            reached.then_some(true)
        };
        let current = self.membership.current();
        if !first || quorum::outcome(current, reached) != VoteOutcome::Won || !self.may_campaign() {
            return;
        }
        let due = self.now.plus(knobs.heartbeat + self.random.below(knobs.heartbeat * 2));
        if let RoleState::Follower(follower) = &mut self.role {
            follower.just_started = false;
            follower.election_due = follower.election_due.min(due);
        }
    }

    /// Takes over a new term or vote, to be made durable.
    fn change_hard(&mut self, hard: HardState) {
        assert!(hard.term >= self.hard.term, "the term never decreases");
        let new_term = hard.term > self.hard.term;
        assert!(new_term || self.hard.vote.is_none(), "a vote is given once");
        self.hard = hard;
        self.durability.change_hard(new_term);
    }
}
