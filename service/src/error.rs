//! What a caller is told when a request fails, and whether it may have taken effect all the same.
//!
//! The variants travel between members: their order is their number on the wire.

use meshraft_consensus::{ClusterVersion, Index, NodeId, Term};
use serde::{Deserialize, Serialize};

/// Why a request failed. [`ServiceError::maybe`] says whether it may have taken effect.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, thiserror::Error)]
#[non_exhaustive]
pub enum ServiceError {
    /// No leader was in sight before the deadline. Not applied.
    #[error("no leader was in sight before the deadline")]
    NoLeader,
    /// The deadline passed while the request was under way.
    #[error("the deadline passed{}", if *.maybe { "; it may have taken effect" } else { "" })]
    Timeout {
        /// Whether it may have taken effect, or still may.
        maybe: bool,
    },
    /// A bound on requests, bytes or the pipeline of a session is reached. Not applied.
    #[error("overloaded")]
    Overloaded,
    /// The request breaks a rule. Not applied.
    #[error("bad request: {0}")]
    BadRequest(#[source] BadRequest),
    /// A time-out is out of bounds. Nothing was sent.
    #[error("a time-out of {given_ms} ms is not within {min_ms} to {max_ms} ms")]
    BadTimeout {
        /// What was given.
        given_ms: i64,
        /// The shortest.
        min_ms: u32,
        /// The longest.
        max_ms: u32,
    },
    /// A key, value or payload is too long. Not applied.
    #[error("{bytes} bytes exceed the limit of {limit_bytes}")]
    TooLarge {
        /// Its length.
        bytes: u64,
        /// The longest.
        limit_bytes: u64,
    },
    /// Whoever knew the outcome is gone; the command may have taken effect, or still may.
    #[error("the outcome is unknown; it may have taken effect")]
    OutcomeUnknown,
    /// The namespace does not remember the session: it is unused for long, or was never opened.
    #[error("the session is not remembered")]
    SessionExpired {
        /// Whether an earlier copy of the request may have taken effect.
        maybe: bool,
    },
    /// The member is shutting down. Not applied.
    #[error("the member is shutting down")]
    ShuttingDown,
    /// The cluster does not live yet. Not applied.
    #[error("the cluster is not founded yet")]
    Founding,
    /// This build does not do it yet. Not applied.
    #[error("{0} is not supported")]
    Unsupported(Feature),
    /// The namespace key differs. Not applied.
    #[error("the namespace key does not match")]
    KeyMismatch,
    /// The member refuses to serve this peer. Not applied.
    #[error("refused: {0}")]
    Refused(Refusal),
    /// What was asked for was compacted away.
    #[error("compacted; the oldest revision kept is {oldest}")]
    Compacted {
        /// The oldest revision that is still there.
        oldest: u64,
    },
    /// Said among members: the receiver may not pass the request on. Not applied.
    #[error("not the leader")]
    NotLeader {
        /// Who leads, as far as the receiver knows.
        leader: Option<NodeId>,
        /// The term of that knowledge; older hints are ignored.
        term: Term,
    },
    /// The command was applied once, but its response was too long to be kept for a retry.
    #[error("applied, but its response of {bytes} bytes is not kept")]
    ResponseDropped {
        /// How long the response was.
        bytes: u64,
    },
    /// This member's replica stopped before it would diverge. Not applied here.
    #[error("the replica has halted")]
    Halted,
    /// The node that shall be removed is in no incarnation a member. Nothing changed.
    #[error("that node is no member")]
    UnknownMember {
        /// Which.
        node: NodeId,
    },
    /// The removal would leave no voter. Nothing changed.
    #[error("it is the last voter: without it there is no cluster")]
    LastVoter,
    /// The asked node is a member of nothing that it could leave or come back to.
    #[error("the asked node takes part in no cluster")]
    NotMember,
    /// Another change of the configuration was under way until the deadline. Nothing changed.
    #[error("another change of the configuration was in progress until the deadline")]
    ChangeInProgress,
    /// Leadership was not handed over.
    #[error("leadership was not handed over: {0}")]
    NotTransferred(#[source] NotTransferred),
    /// Too few of the voters that a removal would leave answer: nothing could be committed any
    /// more. Nothing changed.
    #[error("only {live} of the voters that are left answer, {needed} are needed")]
    NoLiveMajority {
        /// How many of them answer.
        live: u32,
        /// How many are a majority.
        needed: u32,
    },
    /// The asked member did not catch up with what the session has seen before the deadline.
    #[error("this member has applied {applied}, and the session has seen {seen}")]
    Behind {
        /// What the member had applied.
        applied: Index,
        /// What the session had read or written.
        seen: Index,
    },
    /// The command needs a version that not every member of the cluster supports yet. Not applied.
    #[error("the command needs cluster version {needed}, and {in_force} is in force")]
    NotInForce {
        /// The version that the command needs.
        needed: ClusterVersion,
        /// The version in force.
        in_force: ClusterVersion,
    },
    /// The node that shall be admitted supports less than what is in force. Nothing changed.
    #[error("the node supports cluster version {supports} at most, and {in_force} is in force")]
    TooOld {
        /// What it supports at most.
        supports: ClusterVersion,
        /// The version in force, or about to be.
        in_force: ClusterVersion,
    },
}

impl ServiceError {
    /// The stable name that tools rely on.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::NoLeader | Self::NotLeader { .. } => "no_leader",
            Self::Timeout { .. } => "timeout",
            Self::Overloaded => "overloaded",
            Self::BadRequest(_) => "bad_request",
            Self::BadTimeout { .. } => "bad_timeout",
            Self::TooLarge { .. } => "too_large",
            Self::OutcomeUnknown => "outcome_unknown",
            Self::SessionExpired { .. } => "session_expired",
            Self::ShuttingDown => "shutting_down",
            Self::Founding => "founding",
            Self::Unsupported(_) => "unsupported",
            Self::KeyMismatch => "key_mismatch",
            Self::Refused(_) => "refused",
            Self::Compacted { .. } => "compacted",
            Self::ResponseDropped { .. } => "response_dropped",
            Self::Halted => "halted",
            Self::UnknownMember { .. } => "unknown_member",
            Self::LastVoter => "last_voter",
            Self::NotMember => "not_member",
            Self::ChangeInProgress => "change_in_progress",
            Self::NotTransferred(_) => "not_transferred",
            Self::NoLiveMajority { .. } => "no_live_majority",
            Self::Behind { .. } => "behind",
            Self::NotInForce { .. } => "not_in_force",
            Self::TooOld { .. } => "too_old",
        }
    }

    /// Whether the request may have taken effect, or still may.
    pub const fn maybe(&self) -> bool {
        match self {
            Self::Timeout { maybe } | Self::SessionExpired { maybe } => *maybe,
            Self::OutcomeUnknown
            | Self::ResponseDropped { .. }
            | Self::NotTransferred(NotTransferred::Aborted) => true,
            _ => false,
        }
    }

    /// What to say of a request of which an earlier copy is `uncertain`: a definite no to the last
    /// copy says nothing about that one.
    #[must_use]
    pub(crate) fn after(self, uncertain: bool) -> Self {
        match self {
            error if !uncertain || error.maybe() => error,
            Self::SessionExpired { .. } => Self::SessionExpired { maybe: true },
            Self::Timeout { .. } => Self::Timeout { maybe: true },
            _ => Self::OutcomeUnknown,
        }
    }
}

/// Which rule a request breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, thiserror::Error)]
#[non_exhaustive]
pub enum BadRequest {
    /// The bytes are no request, command or query.
    #[error("malformed bytes")]
    Malformed,
    /// A key has no bytes.
    #[error("a key needs at least one byte")]
    EmptyKey,
    /// A page of no keys.
    #[error("a limit is at least 1")]
    ZeroLimit,
    /// A session without a sequence, a sequence without a session, or an acknowledgement beyond the
    /// sequence.
    #[error("session and sequence do not fit together")]
    Sequence,
    /// The request was passed on too often.
    #[error("passed on too often")]
    Hops,
    /// The configuration can't be changed so.
    #[error("the configuration can't be changed so")]
    Change,
    /// A read at the level `session` that does not say what the session has seen.
    #[error("a session read must say what the session has seen")]
    Unseen,
}

/// Why leadership was not handed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, thiserror::Error)]
#[non_exhaustive]
pub enum NotTransferred {
    /// The successor that was named has no vote.
    #[error("the successor is no voter")]
    NoVoter,
    /// It does not answer, or is far behind.
    #[error("the successor does not answer, or is far behind")]
    Behind,
    /// No other voter answers.
    #[error("no other voter can take over")]
    NoSuccessor,
    /// It did not take over in time. It was asked, and may yet.
    #[error("the successor did not take over in time")]
    Aborted,
}

/// What a build may not do yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, thiserror::Error)]
#[non_exhaustive]
pub enum Feature {
    /// Reads at the level `session`; said by older builds.
    #[error("the read level `session`")]
    SessionRead,
    /// Reads at the level `lease`.
    #[error("the read level `lease`")]
    LeaseRead,
    /// An operation that this build does not know.
    #[error("this operation")]
    Operation,
    /// A version of the wire format.
    #[error("this version of the wire format")]
    WireVersion,
    /// A command of the state machine that this build does not know.
    #[error("this command")]
    Command,
    /// A query of the state machine that this build does not know.
    #[error("this query")]
    Query,
}

/// Why a member refuses a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// It does not share the namespace.
    #[error("the member does not share the namespace")]
    UnknownNamespace,
    /// It speaks for another cluster.
    #[error("the member speaks for another cluster")]
    WrongCluster,
    /// It speaks no common version.
    #[error("the member speaks no common version")]
    Version,
    /// The peer is not admitted.
    #[error("the peer is not admitted")]
    NotAdmitted,
    /// It has no room for another peer.
    #[error("the member has no room for another peer")]
    Busy,
}
