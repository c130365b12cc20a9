//! What a follower does with the leader's log and signs of life (thesis 3.5), also as a learner.
//!
//! Invariants:
//! 1. An entry at or below the commit index is never replaced.
//! 2. Only an entry that conflicts is truncated: a late request with entries that match changes
//!    nothing.
//! 3. `Matched` leaves only when everything up to it is durable.

use crate::{
    core::Core,
    entry::{Entry, EntryKind},
    event::{DropReason, Event},
    identity::Member,
    membership::Configuration,
    message::{
        AppendRequest, AppendResponse, AppendResult, Committed, Heartbeat, HeartbeatResponse,
        Message,
    },
    output::{Lane, Output},
    read::ForwardedReads,
    role::RoleState,
    types::{Index, Moment, Position, Term},
};

/// A follower, a learner, or a member that waits for a leader.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Follower {
    /// Whom it follows in this term.
    pub(crate) leader: Option<Member>,
    /// When it stops waiting for a leader.
    pub(crate) election_due: Moment,
    /// Whether its leader let it sleep: it waits for nothing.
    pub(crate) asleep: bool,
    /// Whether nothing has happened since it started: no leader, no campaign.
    pub(crate) just_started: bool,
    /// Reads that wait for the leader's index.
    pub(crate) reads: ForwardedReads,
}

impl Follower {
    /// A member that has just started, and waits until then for a leader.
    pub(crate) fn started(election_due: Moment) -> Self {
        Self {
            leader: None,
            election_due,
            asleep: false,
            just_started: true,
            reads: ForwardedReads::default(),
        }
    }

    /// When it next acts by itself.
    pub(crate) fn deadline(&self) -> Option<Moment> {
        let election = (!self.asleep).then_some(self.election_due);
        [self.reads.due(), election].into_iter().flatten().min()
    }
}

impl Core {
    pub(crate) fn append_request(&mut self, from: Member, request: AppendRequest) {
        if request.term < self.hard.term {
            return self.answer_stale(from);
        }
        if let Err(reason) = check_entries(&request) {
            return self.drop_message(from, reason);
        }
        if !self.follow(from, request.term) || self.is_out_of_action() {
            return;
        }
        let previous = request.previous;
        let below_base = previous.index < self.log.base().index;
        if !below_base && !self.meets(previous) {
            let hint = self.log.last_not_above(previous.index, previous.term);
            let result = conflict(hint, self.log.last());
            return self.answer_append(from, request.sequence, result);
        }
        let end = previous.index.plus(request.entries.len() as u64);
        if !self.take_entries(from, request.entries) {
            return;
        }
        let last = self.log.last().index;
        self.advance_commit_to(request.commit.min(end));
        // Below the base everything is committed, so it equals the leader's log.
        let matched = end.max(self.log.base().index).min(last);
        self.answer_append(from, request.sequence, AppendResult::Matched(matched));
    }

    /// Whether the own log holds the entry that a request follows on.
    fn meets(&self, previous: Position) -> bool {
        self.log.holds(previous)
    }

    /// Appends what is new of `entries`, in place of what conflicts. Says whether it could.
    fn take_entries(&mut self, from: Member, entries: alloc::vec::Vec<Entry>) -> bool {
        let base = self.log.base();
        let held =
            |entry: &&Entry| entry.position.index < base.index || self.log.holds(entry.position);
        let known = entries.iter().take_while(held).count();
        let Some(first) = entries.get(known).map(|entry| entry.position.index) else {
            return true;
        };
        if first <= self.commit {
            self.drop_message(from, DropReason::CommittedConflict);
            return false;
        }
        let new = entries.iter().skip(known);
        let bytes = new.fold(0_u64, |sum, entry| sum.saturating_add(entry.cost_bytes()));
        let pending = self.durability.pending_bytes();
        let limit = self.config.knobs().inflight_bytes_max;
        if pending > 0 && pending.saturating_add(bytes) > limit {
            // More than this member said it could take in: as good as lost, and sent again.
            return false;
        }
        if first <= self.log.last().index {
            self.truncate_from(first);
        }
        for entry in entries.into_iter().skip(known) {
            self.append_entry(entry);
        }
        true
    }

    fn truncate_from(&mut self, index: Index) {
        assert!(index > self.commit, "a committed entry is never truncated");
        let last = self.log.last();
        self.log.truncate_from(index);
        self.durability.truncate_from(index);
        let unwritten = self.unwritten_bytes();
        self.durability.set_unwritten(unwritten);
        self.observe(Event::Truncated { from: index, last });
        if self.membership.truncate_from(index) {
            let index = self.membership.index();
            self.observe(Event::ConfigurationRolledBack { index });
            self.check_departed();
        }
    }

    /// Appends an entry that follows the last one; a configuration is in force at once.
    pub(crate) fn append_entry(&mut self, entry: Entry) {
        let position = entry.position;
        if entry.kind == EntryKind::Configuration {
            // Checked when the message came in, or encoded here.
            if let Ok(configuration) = Configuration::decode(&entry.bytes) {
                let joint = configuration.is_joint();
                self.membership.push(position.index, configuration);
                self.observe(Event::ConfigurationChanged { index: position.index, joint });
            }
        }
        self.durability.append(entry.cost_bytes());
        self.log.append(entry);
    }

    pub(crate) fn heartbeat(&mut self, from: Member, heartbeat: Heartbeat) {
        if heartbeat.term < self.hard.term {
            return self.answer_stale(from);
        }
        if !self.follow(from, heartbeat.term) {
            return;
        }
        self.learn_commit(from, heartbeat.commit);
        if self.is_out_of_action() {
            // It may have lost what it promised: it confirms no read and is part of no quorum.
            return;
        }
        self.answer_heartbeat(from, heartbeat.round);
    }

    pub(crate) fn committed(&mut self, from: Member, message: Committed) {
        if message.term < self.hard.term {
            return self.answer_stale(from);
        }
        if self.follow(from, message.term) {
            self.learn_commit(from, message.commit);
        }
    }

    /// What the leader says that this member has, and is committed: it may have lost it since, with
    /// a store that went back in time, and hold another entry there.
    fn learn_commit(&mut self, from: Member, commit: Position) {
        let last = self.log.last().index;
        // The leader never says more than this member acknowledged.
        if commit.index > last || (commit.index > self.commit && !self.log.holds(commit)) {
            self.drop_message(from, DropReason::Impossible);
        } else {
            self.advance_commit_to(commit.index);
        }
    }

    /// A leader of an earlier term still speaks. The answer's term tells it to step down; nothing
    /// more is claimed: the same member may lead now, and counts its requests and rounds anew, so
    /// that an old number would answer one of now.
    pub(crate) fn answer_stale(&mut self, to: Member) {
        self.answer_heartbeat(to, 0);
    }

    fn answer_heartbeat(&mut self, to: Member, round: u64) {
        let (term, free_bytes) = (self.hard.term, self.free_bytes());
        let message = HeartbeatResponse { term, round, free_bytes };
        self.send(to, Lane::Control, Message::HeartbeatResponse(message));
    }

    /// Takes the sender of a message of a current or later term as leader of that term. Says
    /// whether it is.
    pub(crate) fn follow(&mut self, from: Member, term: Term) -> bool {
        assert!(term >= self.hard.term, "a stale leader is answered before");
        let same_term = term == self.hard.term;
        match self.known_leader() {
            Some(leader) if same_term && *leader == from => {}
            Some(_) if same_term => {
                self.drop_message(from, DropReason::SecondLeader);
                return false;
            }
            _ => self.become_follower(term, Some(from)),
        }
        self.departure.heard_leader();
        self.heard_leader();
        true
    }

    /// The leader that this member follows lives.
    pub(crate) fn heard_leader(&mut self) {
        let (now, election_due) = (self.now, self.now.plus(self.draw_wait()));
        self.heard = Some(now);
        if let RoleState::Follower(follower) = &mut self.role {
            follower.election_due = election_due;
        }
    }

    fn answer_append(&mut self, to: Member, sequence: u64, result: AppendResult) {
        let write = match result {
            AppendResult::Matched(index) => self.durability.write_of(index),
            // A conflict claims only entries that a restart may take back; the leader then finds
            // them missing and probes on.
            AppendResult::Conflict { .. } => self.durability.hard(),
        };
        let (term, free_bytes) = (self.hard.term, self.free_bytes());
        let response = AppendResponse { term, sequence, result, free_bytes };
        self.send_after(write, to, Lane::Control, Message::AppendResponse(response));
    }

    /// The cost of entries that no write holds yet.
    pub(crate) fn unwritten_bytes(&self) -> u64 {
        let first = self.durability.written().next();
        let entries = self.log.slice(first, self.log.last().index, u64::MAX);
        entries.iter().fold(0, |sum, entry| sum.saturating_add(entry.cost_bytes()))
    }

    /// How many bytes of entries this member can take in before its disk has caught up.
    pub(crate) fn free_bytes(&self) -> u64 {
        let limit = self.config.knobs().inflight_bytes_max;
        limit.saturating_sub(self.durability.pending_bytes())
    }

    pub(crate) fn advance_commit_to(&mut self, index: Index) {
        if index > self.commit {
            self.set_commit(index);
        }
    }

    pub(crate) fn observe(&mut self, event: Event) {
        self.outputs.push_back(Output::Observe(event));
    }

    pub(crate) fn drop_message(&mut self, from: Member, reason: DropReason) {
        self.observe(Event::Dropped { from, reason });
    }
}

const fn conflict(hint: Position, last: Position) -> AppendResult {
    AppendResult::Conflict { hint, last }
}

/// Checks what every correct leader keeps: no gap, terms that never decrease and are not above the
/// leader's, configurations that can be read, `Abandon` as entry 1 only.
fn check_entries(request: &AppendRequest) -> Result<(), DropReason> {
    let mut previous = request.previous;
    if request.term == Term::ZERO || previous.term > request.term {
        return Err(DropReason::Malformed);
    }
    for entry in &request.entries {
        let Position { term, index } = entry.position;
        let follows = index == previous.index.next() && index != previous.index;
        if !follows || term < previous.term || term > request.term || term == Term::ZERO {
            return Err(DropReason::Malformed);
        }
        let readable = match entry.kind {
            EntryKind::Configuration => Configuration::decode(&entry.bytes)
                .is_ok_and(|configuration| !configuration.voters.is_empty()),
            EntryKind::Abandon => index == Index::ZERO.next(),
            EntryKind::Noop | EntryKind::Command => true,
        };
        if !readable {
            return Err(DropReason::Malformed);
        }
        previous = entry.position;
    }
    Ok(())
}
