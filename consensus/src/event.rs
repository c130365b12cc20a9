//! Facts that a core observes: for logs, metrics and tests, never needed for correctness.

use core::time::Duration;

use crate::{
    entry::HardState,
    identity::Member,
    types::{Index, IndexRange, Position, Term},
};

/// One observation.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Event {
    /// The role changed.
    BecameRole {
        /// The new role.
        role: Role,
        /// The term it is in.
        term: Term,
    },
    /// The leader that this member follows changed.
    LeaderChanged {
        /// The leader, if one is known.
        leader: Option<Member>,
        /// The term.
        term: Term,
    },
    /// A leader committed an entry of its own term: it may serve reads and changes.
    LeaderReady {
        /// Its term.
        term: Term,
    },
    /// A configuration came into force.
    ConfigurationChanged {
        /// Its slot.
        index: Index,
        /// Whether it is joint.
        joint: bool,
    },
    /// A configuration was rolled back with its truncated entry.
    ConfigurationRolledBack {
        /// The slot of the configuration in force again.
        index: Index,
    },
    /// A learner finished a catch-up round quickly enough and is being promoted.
    LearnerCaughtUp {
        /// The learner.
        member: Member,
    },
    /// A follower's conflicting tail was dropped.
    Truncated {
        /// The first slot dropped.
        from: Index,
        /// The last slot dropped.
        last: Position,
    },
    /// A leader lost contact with a quorum and stepped down (thesis 6.2).
    QuorumLost {
        /// The term it led.
        term: Term,
    },
    /// A leader asked another member to take over (thesis 3.10).
    HandingOver {
        /// The successor.
        to: Member,
        /// The term that it still leads.
        term: Term,
    },
    /// A leader's disk has not finished a write for too long; it stepped down.
    DiskStalled {
        /// The term it led.
        term: Term,
        /// How long the write has been out.
        elapsed: Duration,
    },
    /// A vote was given, durably.
    Voted {
        /// What was written.
        hard: HardState,
    },
    /// A message was dropped.
    Dropped {
        /// Who sent it.
        from: Member,
        /// Why.
        reason: DropReason,
    },
    /// A follower no longer has what it acknowledged: a copied, restored or rotted store. It counts
    /// for nothing until it is admitted anew.
    Amnesia {
        /// The follower.
        member: Member,
        /// What it acknowledged as durable.
        acknowledged: Index,
        /// Its last entry now.
        last: Position,
    },
    /// This member is in a committed configuration, and had departed, whether it knew that or not;
    /// or it knew of no configuration with it, as one that joined.
    Readmitted {
        /// The configuration's slot.
        index: Index,
    },
    /// The log forgot what a snapshot of the own state covers.
    Compacted {
        /// Entries up to here are gone.
        base: Index,
        /// The snapshot covers everything up to here.
        covered: Index,
    },
    /// A snapshot of another member took the place of the own state.
    SnapshotInstalled {
        /// The last entry that it covers.
        position: Position,
    },
    /// The own log can't be read: the member neither votes nor leads until it is repaired. A run
    /// that ends after the log says that the end is not known: it can't be repaired, and the member
    /// comes back as a new one once it hears a leader.
    Damaged {
        /// The slots.
        range: IndexRange,
    },
    /// What could not be read is there again, durably, or a snapshot stands for it.
    Repaired {
        /// The slots.
        range: IndexRange,
    },
}

/// Why a message was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DropReason {
    /// Of a variant that this build does not handle yet.
    Unsupported,
    /// Breaks a rule that every correct member keeps (a gap in entries, a term of zero).
    Malformed,
    /// Claims more than this member knows to be possible.
    Impossible,
    /// The sender is in no configuration that this member knows.
    Stranger,
    /// Two leaders of one term: a broken member, or a store that went back in time.
    SecondLeader,
    /// Would replace an entry that is committed here.
    CommittedConflict,
}

/// What a member does at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// Receives the log and does not vote.
    Learner,
    /// Follows, or waits for a leader.
    Follower,
    /// Asks whether it could win (thesis 9.6).
    PreCandidate,
    /// Campaigns.
    Candidate,
    /// Leads.
    Leader,
}
