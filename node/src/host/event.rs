//! What a node tells of a namespace: for `serve`'s lines, the events of the embedding API and logs.

use meshraft_consensus::{ClusterId, Event as CoreEvent, Incarnation, Index, Member, NodeId, Term};
use meshraft_discovery::founding::Event as FoundingEvent;
use meshraft_transport::Refusal;

use super::record::RecordError;

/// One event of a namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NodeEvent {
    /// The leader that this node knows of changed.
    Leader {
        /// The leader, if one is known.
        leader: Option<NodeId>,
        /// The term.
        term: Term,
    },
    /// A cluster lives here: it was founded, joined, or found on disk.
    Serving {
        /// The cluster.
        cluster: ClusterId,
    },
    /// Who takes part changed.
    Members {
        /// The voters, both halves of a joint change.
        voters: Vec<Member>,
        /// The learners.
        learners: Vec<Member>,
    },
    /// The cluster that lives here was founded alone because an operator said so.
    Forced {
        /// The cluster.
        cluster: ClusterId,
    },
    /// A leader proved that this store went back in time: what it had acknowledged is not in it. It
    /// goes on as another incarnation, which its former cluster has to admit.
    Amnesia {
        /// The incarnation that acts no more.
        lost: Incarnation,
        /// The one that takes its place.
        renewed: Incarnation,
        /// What the lost one had acknowledged as durable.
        acknowledged: Index,
    },
    /// A hello with a peer was refused.
    Refused {
        /// The peer.
        peer: NodeId,
        /// Why.
        why: Refusal,
    },
    /// What the store holds of the namespace can't be read: it was not opened.
    Unreadable(RecordError),
    /// The state machine halted: it met a command that it can't apply.
    Halted {
        /// Why.
        reason: HaltReason,
    },
    /// Something that the core observed.
    Core(CoreEvent),
    /// Something that founding observed.
    Founding(FoundingEvent),
}

/// Why a replica applies no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum HaltReason {
    /// A command that this build does not know: going on would diverge.
    UnknownCommand,
    /// A configuration that this build does not know.
    UnknownConfiguration,
    /// The state machine gave another number of responses than it got commands.
    WrongResponses {
        /// Commands given.
        commands: usize,
        /// Responses got.
        responses: usize,
    },
    /// The state machine panicked.
    Panicked,
    /// The store failed.
    StoreFailed,
    /// The store went back in time, and the state machine can't begin anew in this process: a new
    /// start does.
    MachineNotReset,
}
