//! What a member tells of itself in one namespace, as plain data.

use meshraft_consensus::{ClusterId, Incarnation, Index, Member, Namespace, NodeId, Term};
use serde::{Deserialize, Serialize};

/// One member's view of one namespace. In no cluster, all numbers are 0 and `members` is empty.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The namespace.
    pub namespace: Namespace,
    /// The living cluster that it belongs to.
    pub cluster: Option<ClusterId>,
    /// Who tells.
    pub node: NodeId,
    /// The life of its store.
    pub incarnation: Incarnation,
    /// What it does.
    pub role: NodeRole,
    /// Its term.
    pub term: Term,
    /// Who leads, as far as it knows.
    pub leader: Option<NodeId>,
    /// Known to be committed.
    pub commit: Index,
    /// Applied.
    pub applied: Index,
    /// The first entry that its log still holds.
    pub first: Index,
    /// The last entry of its log.
    pub last: Index,
    /// Who takes part.
    pub members: Vec<MemberStatus>,
    /// What it waits for before it can serve.
    pub waiting: Option<Waiting>,
}

/// What a node does in a namespace. The order of the variants is their number on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum NodeRole {
    /// In no cluster and bound by nothing.
    Free,
    /// Bound by a promise.
    Founding,
    /// Being admitted to a living cluster.
    Joining,
    /// Follows a leader, or waits for one.
    Follower,
    /// Asks for votes.
    Candidate,
    /// Leads.
    Leader,
    /// Receives the log and does not vote.
    Learner,
    /// Is no member any more, or has halted.
    Stopped,
}

/// One member, as the telling one sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberStatus {
    /// Which.
    pub member: Member,
    /// What it is in the configuration.
    pub role: MemberRole,
    /// Its log equals the leader's up to here; only a leader knows.
    pub matched: Option<Index>,
    /// How the leader sends to it; only a leader knows.
    pub state: Option<MemberState>,
}

/// What a member is in the configuration. The order of the variants is their number on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum MemberRole {
    /// It votes.
    Voter,
    /// It votes until a joint change is over.
    Outgoing,
    /// It receives the log only.
    Learner,
}

/// How a leader sends to a member. The order of the variants is their number on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum MemberState {
    /// It is the leader itself.
    Leader,
    /// Looking for where the logs meet.
    Probe,
    /// In a pipeline.
    Replicate,
    /// A snapshot is on its way.
    Snapshot,
    /// Not heard for an election time-out.
    Unreachable,
}

/// What a node waits for before it can serve.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waiting {
    /// What for.
    pub code: WaitingCode,
    /// How many there are, itself included.
    pub have: u32,
    /// How many are needed.
    pub need: u32,
    /// Those that are missing, as far as their ids are known.
    pub missing: Vec<NodeId>,
}

/// What a node waits for. The order of the variants is their number on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum WaitingCode {
    /// Enough founders.
    Founders,
    /// The fate of a founder set.
    Promise,
    /// Admission to a living cluster.
    Admission,
    /// A leader.
    Leader,
}
