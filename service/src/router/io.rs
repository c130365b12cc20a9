//! What can happen to a router, and what it asks for.

use core::time::Duration;

use bytes::Bytes;
use meshraft_consensus::{
    ClusterVersion, Index, Member, Moment, NodeId, Position, ReadError, ReadLevel, RejectReason,
    Term,
};

use crate::{
    error::ServiceError,
    machine::QueryError,
    replicated::ApplyError,
    session::{Sequence, SessionId},
    wire::{Operation, Request, Response},
};

/// The driver's name for a request; answered exactly once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(u64);

impl RequestId {
    /// The request with this number.
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// Its number.
    pub const fn get(self) -> u64 {
        self.0
    }
}

/// The router's name for one copy of a request on its way to another member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ForwardId(u64);

impl ForwardId {
    /// The copy with this number.
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// Its number.
    pub const fn get(self) -> u64 {
        self.0
    }
}

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// The moment of [`super::Router::deadline`] has come.
    Timeout,
    /// A request, from an embedder, a client or another member.
    Submit {
        /// The driver's name for it.
        id: RequestId,
        /// How often it was passed on.
        hops: u8,
        /// When it must be answered.
        deadline: Moment,
        /// What to do. Status and members are the driver's to answer.
        operation: Operation,
    },
    /// What the own core knows of its leader; to be told at every change of any of these.
    Leader {
        /// Who leads.
        leader: Option<NodeId>,
        /// Whether that is this member.
        is_me: bool,
        /// Whether it has committed an entry of its own term.
        ready: bool,
        /// The core's term.
        term: Term,
    },
    /// How a proposal ended.
    Proposed {
        /// The request.
        id: RequestId,
        /// How.
        result: ProposeResult,
    },
    /// What the own core answered to a read.
    ReadIndex {
        /// The request.
        id: RequestId,
        /// What to wait for.
        result: Result<Index, ReadError>,
    },
    /// The own replica has applied everything up to here; to be told before the answers of a batch,
    /// and anew when another replica takes its place.
    Applied(Index),
    /// What the own replica answered to a query.
    Queried {
        /// The request.
        id: RequestId,
        /// The answer, and what the state that gave it had applied: that may be more than the
        /// router was told of when it asked.
        result: Result<(Index, Bytes), QueryError>,
    },
    /// What became of a copy.
    Replied {
        /// Which.
        forward: ForwardId,
        /// The other member's answer, or that there is none.
        result: Result<Response, ForwardLost>,
    },
    /// How an admission ended.
    AdmissionDone {
        /// The request.
        id: RequestId,
        /// How.
        result: AdmitResult,
    },
    /// How a removal ended.
    RemovalDone {
        /// The request.
        id: RequestId,
        /// How.
        result: RemoveResult,
    },
    /// How a transfer of leadership ended.
    TransferDone {
        /// The request.
        id: RequestId,
        /// How.
        result: TransferResult,
    },
    /// The namespace is closing: what is parked is answered, what is under way goes on. Told a
    /// second time, everything is answered.
    Closing,
}

/// How a proposal ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProposeResult {
    /// It was committed and applied.
    Applied {
        /// Where it took effect.
        position: Position,
        /// What the state machine answered.
        response: Result<Bytes, ApplyError>,
    },
    /// The core did not take it; it has no effect.
    Rejected(RejectReason),
    /// The replica did not propose it; it has no effect.
    Refused(ServiceError),
    /// It was appended and may yet be committed, or was, and nobody here saw its response.
    Unknown,
}

/// How an admission ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AdmitResult {
    /// The member takes part.
    Admitted {
        /// Where the configuration that admitted it, or a later one, is committed.
        index: Index,
        /// Who takes part.
        members: Vec<Member>,
    },
    /// The core did not take the change.
    Rejected(RejectReason),
    /// The replica did not propose the change.
    Refused(ServiceError),
    /// The change was appended and may yet be committed.
    Unknown,
}

/// How a removal ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RemoveResult {
    /// The node takes part no more; these do.
    Removed(Vec<Member>),
    /// The node took no part.
    Absent,
    /// The core did not take the change.
    Rejected(RejectReason),
    /// The change was appended and may yet be committed.
    Unknown,
}

/// How a transfer of leadership ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TransferResult {
    /// This node leads, as was asked.
    Leads(NodeId),
    /// The core did not hand over.
    Rejected(RejectReason),
    /// The core leads no more, and does not know who does.
    Unknown,
}

/// A copy has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ForwardLost {
    /// Whether it may have been delivered all the same.
    pub delivered_maybe: bool,
}

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub enum Output {
    /// Check the command, wrap it and propose it to the own core; answer [`Input::Proposed`].
    Propose {
        /// The request.
        id: RequestId,
        /// Its session.
        session: SessionId,
        /// Its number there.
        sequence: Sequence,
        /// What its caller has the answers to.
        acked_below: Sequence,
        /// The command.
        payload: Bytes,
    },
    /// Ask the own core for an index; answer [`Input::ReadIndex`].
    Read {
        /// The request.
        id: RequestId,
        /// How fresh.
        level: ReadLevel,
    },
    /// Run a query on the own replica now; answer [`Input::Queried`].
    Query {
        /// The request.
        id: RequestId,
        /// The query.
        query: Bytes,
    },
    /// Send a copy to another member; answer [`Input::Replied`].
    Forward {
        /// The copy.
        forward: ForwardId,
        /// The other member.
        to: NodeId,
        /// What to send.
        request: Request,
        /// How long its answer is of use.
        timeout: Duration,
    },
    /// Have the own core, which leads, add a learner; answer [`Input::AdmissionDone`].
    Admit {
        /// The request.
        id: RequestId,
        /// Who.
        member: Member,
        /// The newest cluster version that it supports.
        supports: ClusterVersion,
    },
    /// Have the own core, which leads, take a node out, in every incarnation; answer
    /// [`Input::RemovalDone`].
    Remove {
        /// The request.
        id: RequestId,
        /// Which.
        node: NodeId,
    },
    /// Have the own core, which leads, hand leadership over; answer [`Input::TransferDone`].
    Transfer {
        /// The request.
        id: RequestId,
        /// To which voter; `None` lets the core choose.
        to: Option<NodeId>,
    },
    /// Answer a request; exactly once for each.
    Answer {
        /// The request.
        id: RequestId,
        /// The answer.
        response: Response,
    },
}
