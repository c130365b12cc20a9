//! What a node tells of a namespace: for `serve`'s lines, the events of the embedding API and logs.

use meshraft_consensus::{
    ClusterId, ClusterVersion, Event as CoreEvent, Incarnation, Index, InstallError, Member,
    NodeId, Position, Term,
};
use meshraft_discovery::founding::Event as FoundingEvent;
use meshraft_storage::SnapshotError;
use meshraft_transport::Refusal;

use super::{record::RecordError, snapshot_io::RestoreFailure};

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
    /// Another version of commands is in force, as far as this node has applied.
    Version {
        /// Which.
        in_force: ClusterVersion,
    },
    /// A hello with a peer was refused.
    Refused {
        /// The peer.
        peer: NodeId,
        /// Why.
        why: Refusal,
    },
    /// A peer that the own log does not name proved by cards that it is a member.
    Vouched {
        /// The member.
        member: Member,
        /// The slot of the committed configuration that has it.
        at: Index,
    },
    /// What the store holds of the namespace can't be read: it was not opened.
    Unreadable(RecordError),
    /// The state machine halted: it met a command that it can't apply.
    Halted {
        /// Why.
        reason: HaltReason,
    },
    /// Something happened to a snapshot.
    Snapshot(SnapshotEvent),
    /// A group fell asleep, or was woken by the watch over those that do.
    Sleep(SleepEvent),
    /// Something that the core observed.
    Core(CoreEvent),
    /// Something that founding observed.
    Founding(FoundingEvent),
}

/// What happened to a group that is idle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SleepEvent {
    /// It sleeps: nothing more is sent for it until it is asked for something.
    FellAsleep,
    /// The node of its leader was not heard for an election time-out: it wakes.
    LeaderLost {
        /// The leader.
        leader: NodeId,
    },
    /// A peer takes it to be awake, or to sleep in another term: it wakes.
    Disagreed {
        /// The peer.
        peer: NodeId,
    },
}

/// What happened to a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SnapshotEvent {
    /// One of the own state is durable; the log is cut next.
    Taken {
        /// The last entry that it covers.
        at: Position,
        /// How many bytes its file has.
        bytes: u64,
    },
    /// One of the own state could not be written; the log stays as it is for now.
    NotTaken {
        /// The last entry that it would have covered.
        at: Position,
        /// Why.
        error: SnapshotError,
    },
    /// One is fetched from a member: too much is missing here.
    Fetching {
        /// The member that offers it.
        from: NodeId,
        /// The last entry that it covers.
        at: Position,
    },
    /// A fetched one is whole, sound and durable.
    Fetched {
        /// The last entry that it covers.
        at: Position,
    },
    /// One could not be fetched; the leader offers what it has then.
    NotFetched {
        /// The last entry that it covers.
        at: Position,
        /// Why.
        why: InstallError,
    },
    /// All of one was served to a member.
    Sent {
        /// The receiver.
        to: NodeId,
        /// The last entry that it covers.
        at: Position,
    },
    /// A fetched one took the place of the state.
    Installed {
        /// The last entry that it covers.
        at: Position,
    },
    /// The recorded one is lost, and the state with it. The others have both: as soon as a leader
    /// is heard, this node comes back as a new member.
    Lost {
        /// The last entry that it covers.
        at: Position,
        /// Why it can't be restored.
        why: RestoreFailure,
    },
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
    /// The recorded snapshot can't be restored. Nothing is deleted.
    SnapshotUnreadable {
        /// The last entry that it covers.
        at: Position,
        /// Why.
        why: RestoreFailure,
    },
    /// The store went back in time, and the state machine can't begin anew in this process: a new
    /// start does.
    MachineNotReset,
    /// A further verdict of lost acknowledgements came while as many logs are fenced as are kept:
    /// none of them is deleted for it.
    TooOftenFenced,
    /// A version of commands comes into force, or is in the recorded snapshot, that this member
    /// does not support: a newer build can go on. Nothing is deleted.
    ClusterVersion {
        /// The version in force.
        needed: ClusterVersion,
        /// The newest version that is supported here.
        supports: ClusterVersion,
    },
}
