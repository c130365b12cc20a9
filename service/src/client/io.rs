//! What can happen to a client, and what it asks for.

use core::time::Duration;

use bytes::Bytes;
use meshraft_consensus::{Moment, NodeId, Term};

use crate::{
    router::ForwardLost,
    session::SessionId,
    wire::{Level, Request, Response},
};

/// The driver's name for a call; answered exactly once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallId(u64);

impl CallId {
    /// The call with this number.
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// Its number.
    pub const fn get(self) -> u64 {
        self.0
    }
}

/// The client's name for one copy of a call on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AttemptId(u64);

impl AttemptId {
    /// The copy with this number.
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// Its number.
    pub const fn get(self) -> u64 {
        self.0
    }
}

/// What a caller asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Call {
    /// Replicate a command, exactly once.
    Write {
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
    /// Tell how the asked member is.
    Status,
    /// Tell who takes part.
    Members,
    /// Take a node out of the cluster, in every incarnation of it.
    Remove {
        /// Which.
        node: NodeId,
    },
    /// Hand leadership over.
    Transfer {
        /// To which voter; `None` lets the leader choose.
        to: Option<NodeId>,
    },
    /// Let the asked member leave its cluster. Name it, or any may be asked.
    Leave,
    /// Let the asked node come back to its cluster. Name it, or any may be asked.
    Rejoin,
}

impl Call {
    /// Whether it can change something.
    pub const fn is_write(&self) -> bool {
        matches!(
            self,
            Self::Write { .. }
                | Self::Remove { .. }
                | Self::Transfer { .. }
                | Self::Leave
                | Self::Rejoin
        )
    }
}

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// The moment of [`super::Client::deadline`] has come.
    Timeout,
    /// A member can be asked.
    PeerUp(NodeId),
    /// It can't be asked any more. Copies that are under way to it are still answered for.
    PeerDown(NodeId),
    /// A member leads, which saves a hop.
    Leader {
        /// Which.
        leader: NodeId,
        /// Since when; older knowledge is ignored.
        term: Term,
    },
    /// The answer to [`Output::NeedSession`]: 128 bits that nobody drew before.
    Session(SessionId),
    /// A caller asks.
    Call {
        /// The driver's name for it.
        id: CallId,
        /// When it must be answered.
        deadline: Moment,
        /// The only member that may be asked, if the caller wants one.
        via: Option<NodeId>,
        /// What for.
        call: Call,
    },
    /// What became of a copy.
    Replied {
        /// Which.
        attempt: AttemptId,
        /// The member's answer, or that there is none.
        result: Result<Response, ForwardLost>,
    },
    /// Answer everything.
    Closing,
}

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub enum Output {
    /// Draw a session id and answer [`Input::Session`].
    NeedSession,
    /// Send a copy to a member; answer [`Input::Replied`].
    Send {
        /// The copy.
        attempt: AttemptId,
        /// The member.
        to: NodeId,
        /// What to send.
        request: Request,
        /// How long its answer is of use.
        timeout: Duration,
    },
    /// Answer a caller; exactly once for each call.
    Done {
        /// The call.
        id: CallId,
        /// The answer.
        response: Response,
    },
}
