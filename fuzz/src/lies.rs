//! What liars make up: consensus messages of every kind, with fields that matter to their receiver.

use meshraft_consensus::{
    Amnesia, AppendRequest, AppendResponse, AppendResult, Committed, Configuration, Dismissed,
    Entry, EntryKind, Heartbeat, HeartbeatResponse, Index, Member, Message, Position, Quiesce,
    ReadRequest, ReadResponse, RepairRequest, RepairResponse, RepairResult, SnapshotMeta,
    SnapshotOffer, SnapshotResponse, Status, Term, TimeoutNow, VoteKind, VoteRequest, VoteResponse,
};

use crate::{counts::counted, random::Random};

/// Makes things up.
pub(crate) struct Lies<'a>(pub(crate) &'a mut Random);

impl Lies<'_> {
    /// A message of some kind, with fields that matter to its receiver.
    pub(crate) fn message(&mut self, from: Member, to: &Status) -> Message {
        let (term, at, beyond) = (self.term(to), self.index(to), self.index(to));
        let position = Position::new(self.term(to).min(term), at);
        match self.0.below(18) {
            0..=2 => Message::AppendRequest(self.entries(from, to, term)),
            3 => Message::AppendResponse(AppendResponse {
                term,
                sequence: self.0.below(64),
                result: match self.0.below(2) {
                    0 => AppendResult::Matched(at),
                    _ => AppendResult::Conflict { hint: position, last: to.last },
                },
                free_bytes: self.0.below(1 << 20),
            }),
            4 => Message::Heartbeat(Heartbeat { term, commit: position, round: 1 }),
            5 => Message::Committed(Committed { term, commit: to.last }),
            6 => {
                let round = self.0.below(1 << 10);
                Message::HeartbeatResponse(HeartbeatResponse { term, round, free_bytes: 0 })
            }
            7 => {
                let kind = self.votes();
                let last = Position::new(term, beyond.max(to.last.index));
                Message::VoteRequest(VoteRequest { term, kind, last })
            }
            8 => {
                let (kind, granted) = (self.votes(), self.0.below(4) > 0);
                let request_term = [to.term, to.term.next()][self.0.place(2)];
                Message::VoteResponse(VoteResponse { term, request_term, kind, granted })
            }
            9 => {
                let request = ReadRequest { term, id: self.0.below(1 << 20) };
                let lease = self.0.below(2) == 0;
                if lease { Message::LeaseRequest(request) } else { Message::ReadRequest(request) }
            }
            10 => {
                let id = self.0.below(1 << 20);
                Message::ReadResponse(ReadResponse { term, id, index: Some(at) })
            }
            11 => Message::TimeoutNow(TimeoutNow { term }),
            12 => Message::Quiesce(Quiesce { term, last: to.last }),
            13 => Message::SnapshotOffer(SnapshotOffer { term, meta: self.snapshot(from, to) }),
            14 => {
                let installed = self.0.below(2) == 0;
                Message::SnapshotResponse(SnapshotResponse { term, position, installed })
            }
            15 => Message::Amnesia(Amnesia { term, acknowledged: at.max(Index::new(1)) }),
            16 => {
                let term = [Term::ZERO, term][self.0.place(2)];
                Message::Dismissed(Dismissed { term, index: beyond.max(to.commit.next()) })
            }
            _ => self.repair(from, to, term),
        }
    }

    fn term(&mut self, to: &Status) -> Term {
        let own = to.term.get();
        let near = [0, 1, own.saturating_sub(1), own, own + 1, own + 2, own + (1 << 20)];
        let far = [own + (1 << 32), own + (1 << 33), u64::MAX];
        let all: Vec<u64> = near.into_iter().chain(far).collect();
        Term::new(all[self.0.place(all.len())])
    }

    fn index(&mut self, to: &Status) -> Index {
        let (commit, last) = (to.commit, to.last.index);
        let some = Index::new(self.0.below(last.get() + 2));
        let all = [Index::ZERO, some, commit, commit.next(), last, last.next(), last.plus(9)];
        all[self.0.place(all.len())]
    }

    fn votes(&mut self) -> VoteKind {
        [VoteKind::Pre, VoteKind::Campaign, VoteKind::Transfer][self.0.place(3)]
    }

    /// Entries after the receiver's last one, or in place of some; often a configuration of the
    /// actor alone.
    fn entries(&mut self, from: Member, to: &Status, term: Term) -> AppendRequest {
        let previous = match self.0.below(2) {
            0 => to.last,
            _ => Position::new(to.last.term, self.index(to)),
        };
        let entry = |nth| Entry {
            position: Position::new(term, previous.index.plus(nth)),
            kind: EntryKind::Configuration,
            bytes: Configuration::of_voters([from]).encode(),
        };
        let entries = (1..=self.0.below(3)).map(entry).collect();
        let commit = self.index(to).max(previous.index);
        AppendRequest { term, sequence: self.0.below(64), previous, commit, entries }
    }

    fn snapshot(&mut self, from: Member, to: &Status) -> Box<SnapshotMeta> {
        let position = Position::new(to.term, self.index(to).max(to.last.index.next()));
        let configuration = Configuration::of_voters([from]);
        Box::new(SnapshotMeta { position, configuration, configuration_index: position.index })
    }

    fn repair(&mut self, from: Member, to: &Status, term: Term) -> Message {
        let damaged = to.damage.map_or(to.commit, |damage| damage.first);
        let anchor = to.last;
        let entries = vec![Entry {
            position: Position::new(to.term, damaged),
            kind: EntryKind::Command,
            bytes: Default::default(),
        }];
        let result = match self.0.below(5) {
            0 => RepairResult::Elsewhere,
            1 => RepairResult::Entries(entries),
            2 => RepairResult::Passed(self.snapshot(from, to)),
            3 => RepairResult::Compacted(self.snapshot(from, to)),
            _ => {
                let (first, last) = (Index::new(1), to.last.index);
                let commit = to.commit;
                return Message::RepairRequest(RepairRequest { term, first, last, anchor, commit });
            }
        };
        Message::RepairResponse(RepairResponse { term, anchor, commit: to.last.index, result })
    }
}

counted! {
    Lie, LieCounts:
    /// Entries.
    Entries = "entries",
    /// An acknowledgement of entries, or that logs part.
    Acknowledgement = "acknowledgements",
    /// A word as of a leader.
    Heartbeat = "heartbeats",
    /// An answer to a leader.
    Standing = "heartbeat answers",
    /// A request for a vote.
    Candidate = "vote requests",
    /// A vote, or the refusal of one.
    Vote = "votes",
    /// A request for a read, or an answer.
    Read = "reads",
    /// A request to campaign.
    Transfer = "transfers",
    /// A word that lets a member sleep.
    Quiesce = "words to sleep",
    /// A snapshot, or the answer to an offer.
    Snapshot = "snapshots",
    /// A verdict that a member lost what it acknowledged.
    Verdict = "verdicts",
    /// A dismissal.
    Dismissal = "dismissals",
    /// A request for a repair, or an answer.
    Repair = "repairs",
    /// A message of consensus that was on the wire before, sent as the actor's own.
    Replayed = "of these, replayed",
    /// A message on a handle that was opened before its receiver knew better.
    Late = "of these, on handles opened before",
    /// A bundle of cards that are forged, stale or of elsewhere.
    Cards = "bundles of cards",
    /// A node says that it speaks for a cluster, in some incarnation.
    Claimed = "claims to speak for a cluster",
    /// How a node stands: it joins, holds a promise.
    Canvass = "canvasses",
    /// A node says that it lives in a cluster, a real or an invented one.
    Living = "claims to live",
    /// A proposal of founders.
    Propose = "proposals",
    /// A promise in another founder's place.
    Promised = "promises",
    /// A refusal of a founder set.
    Refused = "refusals",
    /// An admission.
    Admitted = "admissions",
    /// The refusal of an admission.
    NotAdmitted = "refused admissions",
    /// Addresses of others.
    Exchange = "exchanges of addresses",
    /// A request to admit the actor.
    Admit = "requests for admission",
    /// Another request.
    Request = "other requests",
    /// Bytes that mean nothing.
    Noise = "noise",
    /// Many things at once.
    Burst = "bursts",
    /// A removed member lied to one that had not learned of its removal.
    Believed = "lies that are believed",
}

/// As what a message of consensus is counted.
pub(crate) const fn lie_of(message: &Message) -> Lie {
    match message {
        Message::AppendRequest(_) => Lie::Entries,
        Message::AppendResponse(_) => Lie::Acknowledgement,
        Message::Heartbeat(_) | Message::Committed(_) => Lie::Heartbeat,
        Message::HeartbeatResponse(_) => Lie::Standing,
        Message::VoteRequest(_) => Lie::Candidate,
        Message::VoteResponse(_) => Lie::Vote,
        Message::ReadRequest(_) | Message::LeaseRequest(_) | Message::ReadResponse(_) => Lie::Read,
        Message::TimeoutNow(_) => Lie::Transfer,
        Message::Quiesce(_) => Lie::Quiesce,
        Message::SnapshotOffer(_) | Message::SnapshotResponse(_) => Lie::Snapshot,
        Message::Amnesia(_) => Lie::Verdict,
        Message::Dismissed(_) => Lie::Dismissal,
        Message::RepairRequest(_) | Message::RepairResponse(_) => Lie::Repair,
    }
}
