//! Serves linearizable reads: the leader confirms with a quorum that it still leads, once for all
//! reads that wait; a follower asks it for the index (thesis 6.4).
//!
//! Invariants:
//! 1. A round begins only after an entry of the leader's own term is committed, and its index is
//!    the commit index at that moment.
//! 2. Each round has a number of its own; only answers to that number or a later one confirm it,
//!    in the same term.
//! 3. Numbers of follower reads begin at random, so that an answer to an earlier run of this
//!    member confirms nothing.
//! 4. Every read is answered exactly once.

use alloc::{
    collections::{VecDeque, vec_deque::Drain},
    vec::Vec,
};
use core::mem;

use crate::{
    core::Core,
    error::ReadError,
    event::DropReason,
    identity::Member,
    input::ReadLevel,
    message::{Message, ReadRequest, ReadResponse},
    output::{Lane, Output},
    role::RoleState,
    types::{Index, Moment, ReadId},
};

/// Rounds that a leader has under way at once; later reads share the next one.
const ROUNDS_MAX: usize = 4;

/// Who reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Reader {
    Local(ReadId),
    Follower { member: Member, id: u64 },
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Round {
    number: u64,
    index: Index,
    readers: Vec<Reader>,
}

/// Reads on a leader.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct LeaderReads {
    waiting: Vec<Reader>,
    waiting_since: Moment,
    rounds: VecDeque<Round>,
    last_round: u64,
    count: usize,
}

impl LeaderReads {
    /// The newest round.
    pub(crate) const fn round(&self) -> u64 {
        self.last_round
    }

    /// Whether nobody waits.
    pub(crate) const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Numbers another round.
    pub(crate) const fn next_round(&mut self) -> u64 {
        self.last_round = self.last_round.saturating_add(1);
        self.last_round
    }

    fn push(&mut self, reader: Reader, now: Moment) {
        if self.waiting.is_empty() {
            self.waiting_since = now;
        }
        self.waiting.push(reader);
        self.count += 1;
    }

    /// Panics if an invariant is broken.
    pub(crate) fn check(&self, limit: usize) {
        let count =
            self.waiting.len() + self.rounds.iter().map(|round| round.readers.len()).sum::<usize>();
        assert!(count == self.count && count <= limit, "reads are counted and bounded");
        assert!(
            self.rounds.iter().all(|round| round.number <= self.last_round),
            "rounds are numbered once"
        );
    }
}

/// One question to the leader.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Asked {
    id: u64,
    level: ReadLevel,
    reads: Vec<ReadId>,
    /// When to ask again.
    again: Moment,
    /// When to give up.
    until: Moment,
}

/// Reads on a follower.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct ForwardedReads {
    fresh: Vec<ReadId>,
    /// Whether one of the fresh ones may not rest on a lease.
    fresh_linearizable: bool,
    asked: VecDeque<Asked>,
    count: usize,
}

impl ForwardedReads {
    /// Whether nobody waits.
    pub(crate) const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// When to ask again, or to give up.
    pub(crate) fn due(&self) -> Option<Moment> {
        self.asked.iter().map(|asked| asked.again.min(asked.until)).min()
    }

    fn push(&mut self, id: ReadId, level: ReadLevel) {
        self.fresh_linearizable |= level == ReadLevel::Linearizable;
        self.fresh.push(id);
        self.count += 1;
    }

    /// Takes the reads that the answer to a question serves: the index is newer than every question
    /// before that one, too. What the leader said by its lease is no answer to a question that asks
    /// for a round; nor is what it said to a question that is forgotten.
    fn answered(&mut self, id: u64) -> Vec<ReadId> {
        let by_round =
            self.asked.iter().any(|asked| asked.id == id && asked.level == ReadLevel::Linearizable);
        let mut reads = Vec::new();
        self.asked.retain_mut(|asked| {
            let served = asked.id <= id && (by_round || asked.level == ReadLevel::Lease);
            if served {
                reads.append(&mut asked.reads);
            }
            !served
        });
        self.count = self.count.saturating_sub(reads.len());
        reads
    }

    fn settle(&mut self, count: usize) -> Drain<'_, Asked> {
        let settled = self.asked.iter().take(count).map(|asked| asked.reads.len()).sum();
        self.count = self.count.saturating_sub(settled);
        self.asked.drain(..count)
    }
}

impl Core {
    pub(crate) fn read(&mut self, id: ReadId, level: ReadLevel) {
        let (limit, now) = (self.config.knobs().reads_max, self.now);
        let error = if self.is_founding() {
            ReadError::Founding
        } else if level == ReadLevel::Lease && self.holds_lease() {
            let index = self.commit;
            return self.outputs.push_back(Output::ReadReady { id, index });
        } else {
            match &mut self.role {
                RoleState::Leader(leader) if leader.reads.count < limit => {
                    return leader.reads.push(Reader::Local(id), now);
                }
                RoleState::Leader(leader) => {
                    ReadError::Overloaded { pending: leader.reads.count, limit }
                }
                RoleState::Follower(follower) if follower.leader.is_none() => ReadError::NoLeader,
                RoleState::Follower(follower) if follower.reads.count < limit => {
                    return follower.reads.push(id, level);
                }
                RoleState::Follower(follower) => {
                    ReadError::Overloaded { pending: follower.reads.count, limit }
                }
                RoleState::Candidate(_) => ReadError::NoLeader,
            }
        };
        self.fail_read(id, error);
    }

    /// Begins a round for the reads that gathered, or asks the leader for an index for them.
    pub(crate) fn start_reads(&mut self) {
        match &self.role {
            RoleState::Leader(_) => self.start_round(),
            RoleState::Follower(_) => self.ask_leader(),
            RoleState::Candidate(_) => {}
        }
    }

    fn start_round(&mut self) {
        let index = self.commit;
        let RoleState::Leader(leader) = &mut self.role else { return };
        let reads = &mut leader.reads;
        if !leader.ready || reads.waiting.is_empty() || reads.rounds.len() >= ROUNDS_MAX {
            return;
        }
        let (number, readers) = (reads.next_round(), mem::take(&mut reads.waiting));
        reads.rounds.push_back(Round { number, index, readers });
        self.send_heartbeats();
        self.confirm_reads();
    }

    /// Answers the rounds that a quorum confirmed.
    pub(crate) fn confirm_reads(&mut self) {
        let RoleState::Leader(leader) = &self.role else { return };
        if leader.reads.rounds.is_empty() {
            return;
        }
        let confirmed = self.confirmed_round(leader);
        while let Some(round) = self.finished_round(confirmed) {
            for reader in round.readers {
                self.answer_reader(reader, Some(round.index));
            }
        }
    }

    fn finished_round(&mut self, confirmed: u64) -> Option<Round> {
        let RoleState::Leader(leader) = &mut self.role else { return None };
        let round = leader.reads.rounds.pop_front_if(|round| round.number <= confirmed)?;
        leader.reads.count = leader.reads.count.saturating_sub(round.readers.len());
        Some(round)
    }

    fn answer_reader(&mut self, reader: Reader, index: Option<Index>) {
        match (reader, index) {
            (Reader::Local(id), Some(index)) => {
                self.outputs.push_back(Output::ReadReady { id, index });
            }
            (Reader::Local(id), None) => self.fail_read(id, ReadError::Unconfirmed),
            (Reader::Follower { member, id }, index) => {
                let response = ReadResponse { term: self.hard.term, id, index };
                self.send(member, Lane::Control, Message::ReadResponse(response));
            }
        }
    }

    /// Gives up on reads that have waited for this leader's first commit for too long.
    pub(crate) fn expire_reads(&mut self) {
        let (now, patience) = (self.now, self.config.knobs().election * 2);
        let RoleState::Leader(leader) = &mut self.role else { return };
        let reads = &mut leader.reads;
        if leader.ready || reads.waiting.is_empty() || now < reads.waiting_since.plus(patience) {
            return;
        }
        let waiting = mem::take(&mut reads.waiting);
        reads.count = reads.count.saturating_sub(waiting.len());
        for reader in waiting {
            self.answer_reader(reader, None);
        }
    }

    pub(crate) fn fail_leader_reads(&mut self, reads: LeaderReads) {
        let in_rounds = reads.rounds.into_iter().flat_map(|round| round.readers);
        for reader in in_rounds.chain(reads.waiting) {
            self.answer_reader(reader, None);
        }
    }

    fn ask_leader(&mut self) {
        let (knobs, now) = (self.config.knobs(), self.now);
        let RoleState::Follower(follower) = &mut self.role else { return };
        let Some(leader) = follower.leader.filter(|_| !follower.reads.fresh.is_empty()) else {
            return;
        };
        self.read_number = self.read_number.saturating_add(1);
        let id = self.read_number;
        let reads = mem::take(&mut follower.reads.fresh);
        let level = match mem::take(&mut follower.reads.fresh_linearizable) {
            true => ReadLevel::Linearizable,
            false => ReadLevel::Lease,
        };
        let (again, until) = (now.plus(knobs.heartbeat), now.plus(knobs.election));
        follower.reads.asked.push_back(Asked { id, level, reads, again, until });
        let message = question(ReadRequest { term: self.hard.term, id }, level);
        self.send(leader, Lane::Control, message);
    }

    /// Asks again for what has no answer, and gives up on what has waited for an election
    /// time-out.
    pub(crate) fn forwarded_reads_due(&mut self) {
        let (now, term, heartbeat) = (self.now, self.hard.term, self.config.knobs().heartbeat);
        let RoleState::Follower(follower) = &mut self.role else { return };
        let late = follower.reads.asked.iter().take_while(|asked| asked.until <= now).count();
        let failed: Vec<ReadId> =
            follower.reads.settle(late).flat_map(|asked| asked.reads).collect();
        let leader = follower.leader;
        let mut again = Vec::new();
        for asked in follower.reads.asked.iter_mut().filter(|asked| asked.again <= now) {
            asked.again = now.plus(heartbeat);
            again.push(question(ReadRequest { term, id: asked.id }, asked.level));
        }
        for id in failed {
            self.fail_read(id, ReadError::Unconfirmed);
        }
        for (message, leader) in again.into_iter().filter_map(|one| Some((one, leader?))) {
            self.send(leader, Lane::Control, message);
        }
    }

    pub(crate) fn read_request(&mut self, from: Member, request: ReadRequest, level: ReadLevel) {
        let (limit, now) = (self.config.knobs().reads_max, self.now);
        let reader = Reader::Follower { member: from, id: request.id };
        let lives = !self.is_founding();
        if level == ReadLevel::Lease && lives && self.holds_lease() {
            return self.answer_reader(reader, Some(self.commit));
        }
        match &mut self.role {
            RoleState::Leader(leader) if lives && leader.reads.count < limit => {
                leader.reads.push(reader, now);
            }
            _ => self.answer_reader(reader, None),
        }
    }

    pub(crate) fn read_response(&mut self, from: Member, response: ReadResponse) {
        let newest = self.read_number;
        let RoleState::Follower(follower) = &mut self.role else { return };
        if response.term < self.hard.term || follower.leader != Some(from) {
            return;
        }
        if response.id > newest {
            return self.drop_message(from, DropReason::Impossible);
        }
        let reads = follower.reads.answered(response.id);
        for id in reads {
            match response.index {
                Some(index) => self.outputs.push_back(Output::ReadReady { id, index }),
                None => self.fail_read(id, ReadError::Unconfirmed),
            }
        }
    }

    pub(crate) fn fail_forwarded_reads(&mut self, reads: ForwardedReads) {
        let asked = reads.asked.into_iter().flat_map(|asked| asked.reads);
        for id in asked.chain(reads.fresh) {
            self.fail_read(id, ReadError::Unconfirmed);
        }
    }

    fn fail_read(&mut self, id: ReadId, error: ReadError) {
        self.outputs.push_back(Output::ReadFailed { id, error });
    }
}

/// The message that asks a leader for an index.
const fn question(request: ReadRequest, level: ReadLevel) -> Message {
    match level {
        ReadLevel::Linearizable => Message::ReadRequest(request),
        ReadLevel::Lease => Message::LeaseRequest(request),
    }
}
