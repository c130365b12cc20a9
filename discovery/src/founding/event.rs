//! Facts that founding observes: for logs, events and tests, never needed for correctness.

use meshraft_consensus::{ClusterId, Fate, Member, Moment, NodeId};

use super::doubt::Doubt;
use crate::{
    ballot::Ballot,
    record::Departure,
    wire::{NotAdmitted, Refusal},
};

/// One observation.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Event {
    /// This node proposes a founder set.
    Coordinating {
        /// The set's id.
        cluster: ClusterId,
        /// How many founders it has.
        founders: usize,
    },
    /// This node promised a founder set that another proposed.
    Promised {
        /// The set's id.
        cluster: ClusterId,
        /// Its ballot.
        ballot: Ballot,
    },
    /// This node refused a founder set.
    Refused {
        /// The set's id.
        cluster: ClusterId,
        /// Its ballot.
        ballot: Ballot,
        /// Why.
        why: Refusal,
    },
    /// The promised founder set is dead, and the promise ends.
    Left {
        /// The set's id.
        cluster: ClusterId,
        /// What proved it.
        proof: Proof,
    },
    /// This node leads the set's group and decided what its first entry shall say.
    FateProposed {
        /// The set's id.
        cluster: ClusterId,
        /// The fate.
        fate: Fate,
    },
    /// The founder set lives.
    Founded {
        /// The cluster.
        cluster: ClusterId,
    },
    /// This node asks to be admitted to a living cluster.
    Joining {
        /// The cluster.
        cluster: ClusterId,
        /// The member that is asked.
        by: NodeId,
    },
    /// A peer says that its cluster admitted this node. It is bound to it in memory only, until the
    /// first entry comes from there.
    OnTrial {
        /// The cluster.
        cluster: ClusterId,
        /// The peer.
        by: NodeId,
    },
    /// A peer did not do what it said. This node leaves it out of founder sets, does not wait for
    /// the cluster that it claims, and may found without it.
    PassedOver {
        /// The peer.
        peer: NodeId,
        /// What it did not do.
        why: Doubt,
        /// Until when: longer each time, up to 8 founding time-outs.
        until: Moment,
    },
    /// A living cluster admitted this node, and the record says so.
    Joined {
        /// The cluster.
        cluster: ClusterId,
    },
    /// This node is about to leave its cluster: it asks to be removed.
    Leaving {
        /// The cluster.
        cluster: ClusterId,
    },
    /// This node takes part in its cluster no more.
    Departed {
        /// The cluster.
        cluster: ClusterId,
        /// Whether it wanted to.
        how: Departure,
    },
    /// The cluster that this node departed from has it again as a member.
    Rejoined {
        /// The cluster.
        cluster: ClusterId,
    },
    /// A member answered that the admission was not committed.
    NotAdmitted {
        /// The cluster.
        cluster: ClusterId,
        /// Who answered.
        by: NodeId,
        /// Why.
        why: NotAdmitted,
    },
    /// A peer says that it lives in another cluster of the same namespace than this node does, or
    /// than it has to return to.
    OtherCluster {
        /// Who says so.
        peer: Member,
        /// Its cluster.
        theirs: ClusterId,
        /// The cluster of this node.
        ours: ClusterId,
    },
    /// A message had no effect.
    Dropped {
        /// Who sent it.
        from: Member,
        /// Why.
        reason: DropReason,
    },
}

/// What proves that a founder set is dead.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Proof {
    /// Its group committed `Abandon`.
    Abandoned,
    /// A member refused it.
    Refused {
        /// Who.
        by: Member,
        /// Why.
        why: Refusal,
    },
    /// It is a pair, and this member of it left before it had appended anything.
    Unseconded,
}

/// Why a message had no effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DropReason {
    /// Its author or this incarnation is not among the founders that it proposes.
    NotAFounder,
    /// It proposes a founder that this node did not meet, and nobody here proves a key: the founder
    /// may be invented.
    UnknownFounder,
    /// Its ballot is further above the highest seen than any honest peer's.
    BallotOutOfReach {
        /// The ballot.
        ballot: Ballot,
    },
    /// Too many writes are waiting for the disk to take on another.
    DiskBehind,
    /// It admits another incarnation, or to a cluster that its author never claimed to be in.
    NotAsked,
}
