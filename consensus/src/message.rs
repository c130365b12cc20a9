//! What members of one group say to each other: one struct per message.
//!
//! Cluster id and both incarnations are not repeated here: the transport binds them to the handle
//! that carries the message. The order of variants and fields is the wire format.

use alloc::{boxed::Box, vec::Vec};

use serde::{Deserialize, Serialize};

use crate::{
    entry::{Entry, SnapshotMeta},
    types::{Index, Position, Term},
};

/// A message between two members of one group. Variants not yet handled are observed and dropped.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Message {
    /// Leader to follower: entries after a position (thesis 3.5).
    AppendRequest(AppendRequest),
    /// Follower to leader: what of it is durable, or where the logs part.
    AppendResponse(AppendResponse),
    /// Leader to follower: I lead; carries the commit index and a read round.
    Heartbeat(Heartbeat),
    /// Follower to leader: I follow; confirms the round.
    HeartbeatResponse(HeartbeatResponse),
    /// Candidate to voter (thesis 3.4), also as pre-vote (thesis 9.6).
    VoteRequest(VoteRequest),
    /// Voter to candidate.
    VoteResponse(VoteResponse),
    /// Follower to leader: an index to read at (thesis 6.4).
    ReadRequest(ReadRequest),
    /// Leader to follower: that index, or why there is none.
    ReadResponse(ReadResponse),
    /// Leader to its successor: campaign at once (thesis 3.10).
    TimeoutNow(TimeoutNow),
    /// Leader to follower: this group may sleep.
    Quiesce(Quiesce),
    /// Leader to follower: a snapshot is on its way (thesis 5).
    SnapshotOffer(SnapshotOffer),
    /// Follower to leader: how the snapshot fared.
    SnapshotResponse(SnapshotResponse),
    /// Leader to a follower that no longer has what it acknowledged.
    Amnesia(Amnesia),
    /// Leader to a member that is not in its committed configuration any more.
    Dismissed(Dismissed),
    /// Follower to leader: an index to read at, on the leader's lease if it has one (thesis 6.4.1).
    LeaseRequest(ReadRequest),
    /// Leader to follower: the commit index advanced; wants no answer.
    Committed(Committed),
    /// A member whose log is damaged, to any other: what stands in those slots?
    RepairRequest(RepairRequest),
    /// Any member to one whose log is damaged.
    RepairResponse(RepairResponse),
}

impl Message {
    /// The term that its sender was in; for a request for votes, the term that it campaigns for.
    pub const fn term(&self) -> Term {
        match self {
            Self::AppendRequest(message) => message.term,
            Self::AppendResponse(message) => message.term,
            Self::Heartbeat(message) => message.term,
            Self::HeartbeatResponse(message) => message.term,
            Self::VoteRequest(message) => message.term,
            Self::VoteResponse(message) => message.term,
            Self::ReadRequest(message) | Self::LeaseRequest(message) => message.term,
            Self::ReadResponse(message) => message.term,
            Self::TimeoutNow(message) => message.term,
            Self::Quiesce(message) => message.term,
            Self::SnapshotOffer(message) => message.term,
            Self::SnapshotResponse(message) => message.term,
            Self::Amnesia(message) => message.term,
            Self::Dismissed(message) => message.term,
            Self::Committed(message) => message.term,
            Self::RepairRequest(message) => message.term,
            Self::RepairResponse(message) => message.term,
        }
    }
}

/// Entries that follow `previous`; none is a probe.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct AppendRequest {
    /// The leader's term.
    pub term: Term,
    /// Counts the requests to this follower in this term; echoed in the response.
    pub sequence: u64,
    /// The entry directly before `entries`.
    pub previous: Position,
    /// The leader's commit index.
    pub commit: Index,
    /// Contiguous entries, the first directly after `previous`.
    pub entries: Vec<Entry>,
}

/// The answer to an [`AppendRequest`]; leaves only when what it claims is durable.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct AppendResponse {
    /// The follower's term.
    pub term: Term,
    /// The request's sequence.
    pub sequence: u64,
    /// Whether the logs meet at the request's `previous`.
    pub result: AppendResult,
    /// How many bytes of entries the follower can still take in.
    pub free_bytes: u64,
}

/// Whether a follower's log meets the leader's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum AppendResult {
    /// The follower's durable log equals the leader's up to this slot.
    Matched(Index),
    /// The follower has no such entry (thesis 3.5, the hint that skips a term per round trip).
    Conflict {
        /// The follower's entry at or below `previous`: the last one whose term is not above
        /// `previous.term`. The leader goes on from its own last entry that may equal it.
        hint: Position,
        /// The follower's last entry.
        last: Position,
    },
}

/// The leader's sign of life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Heartbeat {
    /// The leader's term.
    pub term: Term,
    /// The newest committed entry that this follower is known to have; it checks that it has.
    pub commit: Position,
    /// The newest round; a response to it proves contact after the round began (thesis 6.4).
    pub round: u64,
}

/// What a follower has is committed, and no request is on its way that would tell it. If it is
/// lost, the next heartbeat says as much.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Committed {
    /// The leader's term.
    pub term: Term,
    /// The newest committed entry that this follower is known to have; it checks that it has.
    pub commit: Position,
}

/// A follower's answer to a heartbeat.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct HeartbeatResponse {
    /// The follower's term.
    pub term: Term,
    /// The heartbeat's round.
    pub round: u64,
    /// How many bytes of entries the follower can still take in.
    pub free_bytes: u64,
}

/// A candidate's request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct VoteRequest {
    /// The term that the candidate campaigns for; for a pre-vote, the one it would campaign for.
    pub term: Term,
    /// Whether this is a pre-vote, a vote, or a vote that a leader asked for.
    pub kind: VoteKind,
    /// The candidate's last entry.
    pub last: Position,
}

/// Which rules a vote request is under.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum VoteKind {
    /// Would you vote for me? Changes no durable state (thesis 9.6).
    Pre,
    /// Vote for me; refused by those who hear a leader (thesis 4.2.3).
    Campaign,
    /// Vote for me, the leader asked me to campaign: stickiness does not apply (thesis 3.10).
    Transfer,
}

/// A voter's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct VoteResponse {
    /// The voter's own term; a rejected pre-vote teaches the higher term with it.
    pub term: Term,
    /// The term of the request that this answers.
    pub request_term: Term,
    /// The kind of the request that this answers.
    pub kind: VoteKind,
    /// Whether the vote is given; a real one is durable when this leaves.
    pub granted: bool,
}

/// A follower asks for a read index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ReadRequest {
    /// The follower's term.
    pub term: Term,
    /// The follower's number for this request; echoed.
    pub id: u64,
}

/// The leader's answer to a [`ReadRequest`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ReadResponse {
    /// The answering member's term.
    pub term: Term,
    /// The request's number.
    pub id: u64,
    /// The index to wait for; `None` if the answering member does not lead, or lost its quorum.
    pub index: Option<Index>,
}

/// The leader hands over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct TimeoutNow {
    /// The leader's term: a request of an older term is void, a second copy does nothing.
    pub term: Term,
}

/// The leader lets the group sleep.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Quiesce {
    /// The leader's term.
    pub term: Term,
    /// The last entry, committed and known to all.
    pub last: Position,
}

/// A snapshot that the leader is about to stream.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SnapshotOffer {
    /// The leader's term.
    pub term: Term,
    /// What it covers.
    pub meta: Box<SnapshotMeta>,
}

/// How a snapshot fared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SnapshotResponse {
    /// The follower's term.
    pub term: Term,
    /// The snapshot's position.
    pub position: Position,
    /// Whether it is installed; if not, the leader probes again.
    pub installed: bool,
}

/// The receiver's store went back in time: a copied, restored or rotted one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Amnesia {
    /// The leader's term.
    pub term: Term,
    /// What the receiver acknowledged as durable, in this very incarnation, to this leader.
    pub acknowledged: Index,
}

/// The receiver is no member any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Dismissed {
    /// The leader's term.
    pub term: Term,
    /// The slot of the committed configuration that does not hold it.
    pub index: Index,
}

/// Asks for entries that the sender had and can't read any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RepairRequest {
    /// The sender's term.
    pub term: Term,
    /// The first slot that it lacks.
    pub first: Index,
    /// The last slot that it lacks.
    pub last: Index,
    /// An entry of the sender's log, at `last` or directly after it: only a log that holds it can
    /// tell what stood before it (thesis 3.5, log matching).
    pub anchor: Position,
    /// The sender's commit index: up to there, every log that is committed as far can tell.
    pub commit: Index,
}

/// The answer to a [`RepairRequest`]. What it says of entries holds for ever, whoever says it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RepairResponse {
    /// The answering member's term.
    pub term: Term,
    /// The request's anchor.
    pub anchor: Position,
    /// The answering member's commit index.
    pub commit: Index,
    /// What stands in those slots.
    pub result: RepairResult,
}

/// What a member can tell of another one's log.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum RepairResult {
    /// Its own log holds the anchor: a prefix of the entries that were asked for.
    Entries(Vec<Entry>),
    /// Its own log holds the anchor, but not all that was asked for any more: this snapshot stands
    /// for it, and can be fetched.
    Compacted(Box<SnapshotMeta>),
    /// Its own log begins after the anchor: only this snapshot helps.
    Passed(Box<SnapshotMeta>),
    /// The log of the leader, who alone says so, does not hold the anchor: it is not committed.
    Elsewhere,
}
