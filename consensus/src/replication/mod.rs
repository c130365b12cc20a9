//! Sends the log to the followers and learns how far they are (thesis 3.5, 10.2.1).
//!
//! Requests are built when the driver drains, from all that has gathered since, and before the own
//! write is durable: disk and network overlap. A lost request is found by an empty one behind it,
//! a heartbeat later.

mod followers;
mod inflight;
mod progress;

use alloc::vec::Vec;

pub(crate) use followers::Followers;
pub(crate) use progress::{Mode, Progress};

use crate::{
    config::ConfigBuilder,
    core::Core,
    entry::Entry,
    event::{DropReason, Event},
    identity::Member,
    log::Log,
    message::{
        AppendRequest, AppendResponse, AppendResult, Committed, Heartbeat, HeartbeatResponse,
        Message,
    },
    output::{Lane, Output},
    role::RoleState,
    types::{Index, IndexRange, LoadId, Moment, Position, Term},
};

/// What to do next for one follower.
enum Step {
    Wait,
    /// Send entries in memory up to this cost; none at zero.
    Request(u64),
    /// Fetch entries that are no longer in memory, up to this cost.
    Load(IndexRange, u64),
}

/// What every request to every follower holds.
struct Desk<'a> {
    term: Term,
    commit: Index,
    now: Moment,
    log: &'a Log,
    knobs: &'a ConfigBuilder,
}

impl Desk<'_> {
    fn step(&self, progress: &Progress) -> Step {
        let (next, first, last) =
            (progress.next, self.log.first_in_memory(), self.log.last().index);
        let append_max = self.knobs.append_bytes_max;
        let active = || progress.is_active(self.now, self.knobs.election);
        if progress.amnesiac.is_some() {
            // What it is sent would hide what it lost.
            return Step::Wait;
        }
        match progress.mode {
            Mode::Snapshot | Mode::Probe { sent: Some(_) } => Step::Wait,
            // Who does not answer is not sent the same entries to no end.
            Mode::Probe { sent: None } if next < first || progress.has_asked() || !active() => {
                Step::Request(0)
            }
            Mode::Probe { sent: None } => Step::Request(append_max.min(progress.free_bytes)),
            Mode::Replicate if next > last || progress.load.is_some() => Step::Wait,
            Mode::Replicate => {
                let room = progress.inflight.room(
                    self.knobs.inflight_messages_max,
                    self.knobs.inflight_bytes_max,
                    progress.free_bytes,
                );
                let room = room.min(append_max);
                let cost = self.log.cost_at(next).unwrap_or(1);
                if room == 0 || (cost > room && !progress.inflight.is_empty()) {
                    Step::Wait
                } else if next < first {
                    Step::Load(IndexRange { first: next, last: first.previous() }, room)
                } else {
                    Step::Request(room)
                }
            }
        }
    }

    /// The request that begins at the follower's next entry.
    fn request(&self, progress: &mut Progress, entries: Vec<Entry>) -> Message {
        let before = progress.next.previous();
        let term = self.log.term_at(before);
        assert!(term.is_some(), "a request begins after an entry that the leader knows");
        let previous = Position::new(term.unwrap_or(Term::ZERO), before);
        let end = before.plus(entries.len() as u64);
        match &mut progress.mode {
            Mode::Probe { sent } => *sent = Some(self.now),
            Mode::Replicate | Mode::Snapshot => {
                progress.commit_told = progress.commit_told.max(self.commit.min(end));
                if end > before {
                    let bytes = entries
                        .iter()
                        .fold(0, |sum: u64, one| sum.saturating_add(one.cost_bytes()));
                    progress.inflight.push(end, bytes, self.now);
                    progress.next = end.next();
                }
            }
        }
        let sequence = progress.number();
        let (term, commit) = (self.term, self.commit);
        Message::AppendRequest(AppendRequest { term, sequence, previous, commit, entries })
    }

    /// The entry at a slot; the beginning of all logs if it is compacted, which says nothing.
    fn position(&self, index: Index) -> Position {
        let term = self.log.term_at(index);
        term.map_or(Position::ZERO, |term| Position::new(term, index))
    }

    fn heartbeat(&self, progress: &mut Progress, round: u64) -> Message {
        let commit = self.commit.min(progress.matched);
        progress.commit_told = progress.commit_told.max(commit);
        let commit = self.position(commit);
        Message::Heartbeat(Heartbeat { term: self.term, commit, round })
    }
}

impl Core {
    /// Sends every follower what it can take of what it lacks.
    pub(crate) fn replicate(&mut self) {
        let Self { role, log, config, outputs, loads, now, commit, hard, .. } = self;
        let RoleState::Leader(leader) = role else { return };
        let desk = Desk { term: hard.term, commit: *commit, now: *now, log, knobs: config.knobs() };
        for (to, progress) in leader.progress.iter_mut() {
            loop {
                match desk.step(progress) {
                    Step::Wait => break,
                    Step::Request(bytes_max) => {
                        let last = log.last().index;
                        let entries = match bytes_max {
                            0 => Vec::new(),
                            _ => log.slice(progress.next, last, bytes_max),
                        };
                        let message = desk.request(progress, entries);
                        outputs.push_back(Output::Send { to: *to, lane: Lane::Entries, message });
                    }
                    Step::Load(range, bytes_max) => {
                        let id = loads.ask_for_follower(*to);
                        progress.load = Some(id);
                        outputs.push_back(Output::Load { id, range, bytes_max });
                    }
                }
            }
            let commit = (*commit).min(progress.matched);
            if progress.commit_told < commit {
                // Reads and forwarded writes on the follower wait for the commit index.
                progress.commit_told = commit;
                let commit = desk.position(commit);
                let message = Message::Committed(Committed { term: hard.term, commit });
                outputs.push_back(Output::Send { to: *to, lane: Lane::Control, message });
            }
        }
    }

    /// Sends every follower the commit index and the newest round.
    pub(crate) fn send_heartbeats(&mut self) {
        self.note_round();
        let Self { role, log, config, outputs, now, commit, hard, .. } = self;
        let RoleState::Leader(leader) = role else { return };
        let round = leader.reads.round();
        let desk = Desk { term: hard.term, commit: *commit, now: *now, log, knobs: config.knobs() };
        for (to, progress) in leader.progress.iter_mut() {
            let message = desk.heartbeat(progress, round);
            outputs.push_back(Output::Send { to: *to, lane: Lane::Control, message });
        }
    }

    /// Finds out what was lost: sends an empty request behind those that have waited for a
    /// heartbeat, repeats a probe, and a load that failed.
    pub(crate) fn probe_losses(&mut self) {
        let Self { role, log, config, outputs, loads, now, commit, hard, .. } = self;
        let RoleState::Leader(leader) = role else { return };
        let knobs = config.knobs();
        let desk = Desk { term: hard.term, commit: *commit, now: *now, log, knobs };
        let is_old = |at: Moment| at.plus(knobs.heartbeat) <= *now;
        for (to, progress) in leader.progress.iter_mut() {
            if progress.load.is_some_and(|load| !loads.is_pending(load)) {
                progress.load = None;
            }
            match &mut progress.mode {
                Mode::Probe { sent } => *sent = sent.filter(|at| !is_old(*at)),
                Mode::Snapshot => {}
                Mode::Replicate if progress.inflight.oldest().is_some_and(is_old) => {
                    let message = desk.request(progress, Vec::new());
                    outputs.push_back(Output::Send { to: *to, lane: Lane::Entries, message });
                }
                Mode::Replicate => {}
            }
        }
    }

    pub(crate) fn append_response(&mut self, from: Member, response: AppendResponse) {
        let (now, last, term) = (self.now, self.log.last().index, self.hard.term);
        let Some(progress) = self.progress_of(from, response.term) else { return };
        let beyond = matches!(response.result, AppendResult::Matched(index) if index > last);
        let unasked = response.sequence > progress.sequence && response.term == term;
        if beyond || unasked {
            return self.drop_message(from, DropReason::Impossible);
        }
        progress.contact = now;
        progress.free_bytes = response.free_bytes;
        match response.result {
            AppendResult::Matched(index) => self.follower_matched(from, index),
            AppendResult::Conflict { hint, last } => {
                self.conflict(from, response.sequence, hint, last);
            }
        }
    }

    /// A follower has, durably, everything up to `index`.
    pub(crate) fn follower_matched(&mut self, from: Member, index: Index) {
        let (now, last, election) = (self.now, self.log.last().index, self.config.knobs().election);
        let base = self.log.base().index;
        let Some(progress) = self.progress_of(from, self.hard.term) else { return };
        if progress.amnesiac.is_some() {
            return;
        }
        progress.advance(index);
        if !matches!(progress.mode, Mode::Snapshot) && progress.next <= base {
            // It has what it was sent, and the log has gone on without it.
            progress.back_to_probe(base.next());
        }
        if let Some(rounds) = &mut progress.catch_up {
            rounds.advance(progress.matched, last, election, now);
        }
        self.advance_commit();
        self.advance_handover();
        self.promote_learners();
        self.dismiss_departed();
    }

    /// The logs part at or below the request's `previous`: goes on from the last entry that may be
    /// equal, which skips a term per round trip (thesis 3.5).
    fn conflict(&mut self, from: Member, sequence: u64, hint: Position, last: Position) {
        let (meet, base) = (self.log.last_not_above(hint.index, hint.term), self.log.base().index);
        let term = self.hard.term;
        let Some(progress) = self.progress_of(from, term) else { return };
        if sequence <= progress.epoch || progress.amnesiac.is_some() {
            return;
        }
        let previous = progress.next.previous();
        let acknowledged = progress.matched;
        // Asked for exactly what it acknowledged, or ending below what it had acknowledged before
        // it was asked: a copied, restored or rotted store.
        let lost = previous == acknowledged && acknowledged > Index::ZERO;
        let lost = lost || last.index < progress.epoch_matched;
        // Whoever has the entry at the base has it, or a later one, below what was asked for.
        let needs_compacted = previous <= base || hint.index < base;
        match progress.mode {
            // In a pipeline an answer may be out of order, so that it proves no loss: ask again.
            Mode::Replicate => progress.back_to_probe(meet.index.next().min(progress.next)),
            Mode::Snapshot => {}
            Mode::Probe { .. } if lost => {
                progress.forget(acknowledged);
                self.observe(Event::Amnesia { member: from, acknowledged, last });
                self.tell_amnesiacs();
            }
            Mode::Probe { .. } if needs_compacted => self.offer_snapshot(from),
            Mode::Probe { .. } => progress.back_to_probe(meet.index.next().min(previous)),
        }
    }

    pub(crate) fn heartbeat_response(&mut self, from: Member, response: HeartbeatResponse) {
        let now = self.now;
        let RoleState::Leader(leader) = &self.role else { return };
        let round = leader.reads.round();
        if response.round > round {
            return self.drop_message(from, DropReason::Impossible);
        }
        let Some(progress) = self.progress_of(from, response.term) else { return };
        progress.contact = now;
        progress.free_bytes = response.free_bytes;
        progress.round = progress.round.max(response.round);
        self.confirm_reads();
    }

    /// Entries that were loaded for a follower.
    pub(crate) fn loaded_for_follower(&mut self, id: LoadId, to: Member, entries: Vec<Entry>) {
        let Self { role, log, config, outputs, now, commit, hard, .. } = self;
        let RoleState::Leader(leader) = role else { return };
        let Some(progress) = leader.progress.get_mut(&to) else { return };
        let sendable = progress.next > log.base().index && progress.amnesiac.is_none();
        if progress.load != Some(id) || !sendable || !follows(log, progress.next, &entries) {
            // Left as asked, so that the next heartbeat asks again: a store that answers wrongly
            // is not asked in a circle.
            return;
        }
        progress.load = None;
        let desk = Desk { term: hard.term, commit: *commit, now: *now, log, knobs: config.knobs() };
        let message = desk.request(progress, entries);
        outputs.push_back(Output::Send { to, lane: Lane::Entries, message });
    }

    /// The transport lost its last path to a member, or has one again.
    pub(crate) fn peer_changed(&mut self, peer: Member, up: bool) {
        let (now, current) = (self.now, self.membership.current());
        let (is_voter, base) = (current.is_voter(&peer), self.log.base().index);
        match &mut self.role {
            RoleState::Follower(_) if up => self.hasten_first_election(),
            RoleState::Follower(_) => self.leader_unreachable(peer),
            RoleState::Candidate(_) if up && is_voter => self.ask_vote(peer),
            RoleState::Leader(leader) => {
                if let Some(progress) = leader.progress.get_mut(&peer) {
                    // What was in flight is lost; a probe goes on where it was.
                    let next = match progress.mode {
                        Mode::Replicate => progress.matched.max(base).next(),
                        Mode::Probe { .. } => progress.next,
                        // It may go on where the transfer stopped.
                        Mode::Snapshot if up => return self.offer_again(peer),
                        Mode::Snapshot => return,
                    };
                    progress.back_to_probe(next);
                    progress.mode = Mode::Probe { sent: (!up).then_some(now) };
                }
            }
            RoleState::Candidate(_) => {}
        }
    }

    /// The follower's progress, if this member leads in `term`.
    pub(crate) fn progress_of(&mut self, follower: Member, term: Term) -> Option<&mut Progress> {
        match &mut self.role {
            RoleState::Leader(leader) if term == self.hard.term => {
                leader.progress.get_mut(&follower)
            }
            _ => None,
        }
    }
}

/// Whether these are the log's own entries from `first` on.
pub(crate) fn follows(log: &Log, first: Index, entries: &[Entry]) -> bool {
    let mut expected = first;
    !entries.is_empty()
        && entries.iter().all(|entry| {
            let own = entry.position.index == expected && log.holds(entry.position);
            expected = expected.next();
            own
        })
}
