//! What travels between members, and between a client and a member: one request, one response.
//!
//! Versioned by a first byte; kinds are only ever appended. Lengths, deadlines and hops are checked
//! when a request is decoded, before anything is done with it.

mod status;

use bytes::Bytes;
use meshraft_consensus::{ClusterVersion, Index, Member, NodeId, Position};
use serde::{Deserialize, Serialize};

pub use crate::codec::WireError;
use crate::{
    codec,
    error::{BadRequest, ServiceError},
    limits::{
        ADDRESSES_MAX, HOPS_MAX, MEMBERS_MAX, REQUEST_BYTES_MAX, RESPONSE_BYTES_MAX, TIMEOUT_MS,
    },
    session::{Sequence, SessionId},
};
pub use status::{
    Damaged, Halted, HeldBack, MemberRole, MemberState, MemberStatus, NodeRole, NotAdmitted,
    Status, Waiting, WaitingCode,
};

const VERSION: u8 = 1;
const OPERATIONS: u32 = 13;

/// One request on its way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// How long the sender still waits, within [`TIMEOUT_MS`].
    pub deadline_ms: u32,
    /// How often it was passed on, up to [`HOPS_MAX`].
    pub hops: u8,
    /// What to do.
    pub operation: Operation,
}

/// What a request asks for. The order of the variants is their number on the wire.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Operation {
    /// Replicate a command.
    Write {
        /// The session, or [`SessionId::NONE`].
        session: SessionId,
        /// From 1 in a session, else 0.
        sequence: Sequence,
        /// The caller has the answers to all below; at most `sequence`.
        acked_below: Sequence,
        /// What the state machine gets.
        payload: Bytes,
    },
    /// Answer a query.
    Read {
        /// How fresh.
        level: Level,
        /// What the state machine gets.
        query: Bytes,
    },
    /// Wait until every write that was acknowledged before is applied where this is asked.
    Barrier,
    /// Admit a member as a learner; does nothing if it is one already.
    Admit {
        /// Which.
        member: Member,
        /// The newest cluster version that it told the asked member to support.
        supports: ClusterVersion,
    },
    /// Tell how the asked member is, in the words of the first version.
    Status,
    /// Tell who takes part, in the words of the first version.
    Members,
    /// Tell where the members can be reached, as far as the asked one knows.
    Addresses,
    /// Take a node out of the cluster, in every incarnation of it.
    Remove {
        /// Which.
        node: NodeId,
    },
    /// Leave the cluster: the asked member itself. Answered once it is out.
    Leave,
    /// Come back after having left or having been removed: the asked node itself. Answered once it
    /// asks for admission.
    Rejoin,
    /// Tell how the asked member is, and who takes part, in all words.
    Describe,
    /// Hand leadership over.
    Transfer {
        /// To which voter; `None` lets the leader choose.
        to: Option<NodeId>,
    },
    /// Answer a query as soon as the asked member has applied what the session has seen: a read at
    /// [`Level::Session`].
    SessionRead {
        /// The newest entry that the session has read or written.
        seen: Index,
        /// What the state machine gets.
        query: Bytes,
    },
}

/// How fresh a read is. The order of the variants is their number on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Level {
    /// What the asked member has applied.
    Stale,
    /// Never older than what the session has read or written. Between members it travels as
    /// [`Operation::SessionRead`], which says what that is.
    Session,
    /// Linearizable as long as clocks drift within bounds (thesis 6.4.1).
    Lease,
    /// After every write that was acknowledged before (thesis 6.4).
    Linearizable,
}

/// What a request answers.
pub type Response = Result<Reply, ServiceError>;

/// What a request answers if it does not fail. The order of the variants is their wire number.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    /// To a write.
    Written {
        /// Where it took effect.
        position: Position,
        /// What the state machine answered.
        response: Bytes,
    },
    /// To a read.
    Read {
        /// What the answering member had applied.
        index: Index,
        /// What the state machine answered.
        response: Bytes,
    },
    /// To a barrier.
    Barrier {
        /// What the answering member has applied at least.
        index: Index,
    },
    /// To an admission, by a member of an earlier release.
    Admitted {
        /// Who takes part, the new one included; at most [`MEMBERS_MAX`].
        members: Vec<Member>,
    },
    /// To a request for status.
    Status(Box<Status>),
    /// To a request for members; at most [`MEMBERS_MAX`].
    Members(Vec<MemberStatus>),
    /// To a request for addresses; at most [`ADDRESSES_MAX`], each in the transport's own form.
    Addresses(Vec<(NodeId, Bytes)>),
    /// To a removal: the node is in the configuration no more.
    Removed {
        /// Who takes part now; at most [`MEMBERS_MAX`], nobody if the answering member can't say.
        members: Vec<Member>,
    },
    /// To a request to leave: the asked node is out, durably.
    Left,
    /// To a request to come back: the asked node is a member, or asks for admission.
    Rejoining,
    /// To a request for a description.
    Described(#[serde(with = "status::extended")] Box<Status>),
    /// To a transfer.
    Transferred {
        /// Who leads now.
        leader: NodeId,
    },
    /// To an admission, with where it was committed.
    AdmittedAt {
        /// The configuration that admitted the node, or a later one.
        index: Index,
        /// Who takes part, the new one included; at most [`MEMBERS_MAX`].
        members: Vec<Member>,
    },
}

impl Reply {
    /// The newest entry that whoever gets this has seen.
    #[must_use]
    pub const fn seen(&self) -> Index {
        match self {
            Self::Written { position, .. } => position.index,
            Self::Read { index, .. } | Self::Barrier { index } => *index,
            _ => Index::ZERO,
        }
    }
}

impl Operation {
    /// The bytes that it carries.
    pub(crate) fn payload_bytes(&self) -> usize {
        match self {
            Self::Write { payload, .. } => payload.len(),
            Self::Read { query, .. } | Self::SessionRead { query, .. } => query.len(),
            _ => 0,
        }
    }

    /// Whether it is a read that needs nobody but the asked member.
    #[must_use]
    pub const fn is_local_read(&self) -> bool {
        matches!(self, Self::Read { level: Level::Stale, .. } | Self::SessionRead { .. })
    }

    /// Whether it can change something.
    pub(crate) const fn is_write(&self) -> bool {
        matches!(
            self,
            Self::Write { .. }
                | Self::Admit { .. }
                | Self::Remove { .. }
                | Self::Leave
                | Self::Rejoin
                | Self::Transfer { .. }
        )
    }

    /// Whether a copy of which the outcome is unknown may be followed by another one.
    pub(crate) fn is_repeatable(&self) -> bool {
        match self {
            Self::Write { session, .. } => !session.is_none(),
            // A second copy would hand it on.
            Self::Transfer { to } => to.is_some(),
            _ => true,
        }
    }

    /// Refuses what no correct caller asks for.
    pub(crate) fn check(&self) -> Result<(), ServiceError> {
        let bad = match self {
            Self::Write { session, sequence, acked_below, .. } => {
                let numbered = *sequence >= Sequence::FIRST && *acked_below <= *sequence;
                let unnumbered = *sequence == Sequence::ZERO && *acked_below == Sequence::ZERO;
                let fits = if session.is_none() { unnumbered } else { numbered };
                (!fits).then_some(BadRequest::Sequence)
            }
            Self::Read { level: Level::Session, .. } => Some(BadRequest::Unseen),
            _ => None,
        };
        bad.map_or(Ok(()), |bad| Err(ServiceError::BadRequest(bad)))
    }
}

impl Request {
    /// The bytes to send.
    pub fn encode(&self) -> Bytes {
        codec::encode(VERSION, self, self.operation.payload_bytes())
    }

    /// Reads and checks a request.
    ///
    /// # Errors
    /// What to answer instead: too large, an unknown version or operation, malformed bytes, a
    /// deadline out of bounds, too many hops, or numbers that do not fit together.
    pub fn decode(bytes: &[u8]) -> Result<Self, ServiceError> {
        let body = codec::body(VERSION, bytes, REQUEST_BYTES_MAX)?;
        let (_, operation) = postcard::take_from_bytes::<(u32, u8)>(body)
            .map_err(|_| ServiceError::BadRequest(BadRequest::Malformed))?;
        codec::known_kind(operation, OPERATIONS)?;
        let request: Self = codec::whole(body)?;
        let (min_ms, max_ms) = TIMEOUT_MS;
        if !(min_ms..=max_ms).contains(&request.deadline_ms) {
            let given_ms = i64::from(request.deadline_ms);
            return Err(ServiceError::BadTimeout { given_ms, min_ms, max_ms });
        }
        if request.hops > HOPS_MAX {
            return Err(ServiceError::BadRequest(BadRequest::Hops));
        }
        request.operation.check()?;
        Ok(request)
    }
}

/// The bytes of a response.
pub fn encode_response(response: &Response) -> Bytes {
    let payload_bytes = match response {
        Ok(Reply::Written { response, .. } | Reply::Read { response, .. }) => response.len(),
        _ => 0,
    };
    let bytes = codec::encode(VERSION, response, payload_bytes);
    if bytes.len() <= RESPONSE_BYTES_MAX {
        return bytes;
    }
    let (bytes, limit_bytes) = (bytes.len() as u64, RESPONSE_BYTES_MAX as u64);
    let error = match response {
        Ok(Reply::Written { .. }) => ServiceError::ResponseDropped { bytes },
        _ => ServiceError::TooLarge { bytes, limit_bytes },
    };
    codec::encode(VERSION, &Response::Err(error), 0)
}

/// Reads a response.
///
/// # Errors
/// Says what is unknown, malformed or too long; what became of the request is then not known.
pub fn decode_response(bytes: &[u8]) -> Result<Response, WireError> {
    let response: Response = codec::whole(codec::body(VERSION, bytes, RESPONSE_BYTES_MAX)?)?;
    let members = match &response {
        Ok(
            Reply::Admitted { members }
            | Reply::AdmittedAt { members, .. }
            | Reply::Removed { members },
        ) => members.len(),
        Ok(Reply::Members(members)) => members.len(),
        Ok(Reply::Status(status) | Reply::Described(status)) => {
            let missing = status.waiting.as_ref().map_or(0, |waiting| waiting.missing.len());
            status.members.len().max(missing)
        }
        Ok(Reply::Addresses(addresses)) => addresses.len().div_ceil(ADDRESSES_MAX / MEMBERS_MAX),
        _ => 0,
    };
    if members > MEMBERS_MAX { Err(WireError::Malformed) } else { Ok(response) }
}
