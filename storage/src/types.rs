//! What goes into a store and what comes out: jobs, acknowledgements, and what an open finds.

use std::fmt;

use bytes::Bytes;
use meshraft_consensus::{
    ClusterId, Configuration, HardState, Index, IndexRange, Namespace, Position, SnapshotMeta,
    Write,
};

use crate::error::WriteError;

/// The number of one group: a (namespace, cluster) pair in one store. The driver hands numbers out
/// in ascending order, starting from [`Opened::next_group`]; none is ever used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupId(u64);

impl GroupId {
    /// The number that the first group of a new store gets.
    pub const FIRST: Self = Self(1);

    /// The group with this number.
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// Its number.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The number after this one; the last number stays where it is.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for GroupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "g{}", self.0)
    }
}

/// The driver's name for a job, echoed when the job is durable. The store gives it no meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(u64);

impl Ticket {
    /// The ticket with this number.
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// Its number.
    pub const fn get(self) -> u64 {
        self.0
    }
}

/// One thing to make durable, all of it or nothing. Jobs are durable in the order of submission.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Job {
    /// A write of one group's core. Ignored, but acknowledged, if the group was dropped.
    Log {
        /// Echoed in the acknowledgement.
        ticket: Ticket,
        /// The group.
        group: GroupId,
        /// What to write: the snapshot first, whose file is durable already, and which is ignored
        /// if the group has a newer one; then entries in the place of those at their slots; then
        /// what is truncated; then entries, which follow directly on what is left of the log.
        write: Write,
    },
    /// Replaces a namespace's record, and creates and drops groups in the same transaction.
    Record {
        /// Echoed in the acknowledgement.
        ticket: Ticket,
        /// The namespace; it exists from its first record on.
        namespace: Namespace,
        /// Opaque to the store, at most [`Job::RECORD_BYTES_MAX`] bytes.
        record: Bytes,
        /// A new group of the namespace, with a number that was never used.
        create: Option<(GroupId, ClusterId)>,
        /// Groups of the namespace that go, with all that they hold. Unknown ones are ignored.
        drop: Vec<GroupId>,
    },
    /// Replaces a namespace's record and writes to one of its groups, in one transaction: after a
    /// crash both are there, or neither is.
    Enter {
        /// Echoed in the acknowledgement.
        ticket: Ticket,
        /// The namespace.
        namespace: Namespace,
        /// As in [`Job::Record`].
        record: Bytes,
        /// A group of the namespace, created before.
        group: GroupId,
        /// As in [`Job::Log`].
        write: Write,
    },
}

impl Job {
    /// The most bytes of a namespace's record.
    pub const RECORD_BYTES_MAX: usize = 64 * 1024;

    /// The driver's name for the job.
    pub const fn ticket(&self) -> Ticket {
        match self {
            Self::Log { ticket, .. } | Self::Record { ticket, .. } | Self::Enter { ticket, .. } => {
                *ticket
            }
        }
    }

    /// What the job writes to the log of a group, if it does.
    pub const fn write(&self) -> Option<(GroupId, &Write)> {
        match self {
            Self::Log { group, write, .. } | Self::Enter { group, write, .. } => {
                Some((*group, write))
            }
            Self::Record { .. } => None,
        }
    }
}

/// What a store holds when it is opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opened {
    /// The lowest group number that was never used.
    pub next_group: GroupId,
    /// Every namespace, in the order of their names.
    pub namespaces: Vec<OpenedNamespace>,
}

/// What a store holds of one namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenedNamespace {
    /// Its name.
    pub namespace: Namespace,
    /// Its newest record.
    pub record: Bytes,
    /// Its groups, in the order of their numbers.
    pub groups: Vec<OpenedGroup>,
}

/// What a store holds of one group: everything that a core is restored from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenedGroup {
    /// Its number.
    pub group: GroupId,
    /// The cluster, or the founder set, whose log it is.
    pub cluster: ClusterId,
    /// Term, vote and commit hint; all zero if none was written.
    pub hard: HardState,
    /// The newest snapshot, if one was recorded.
    pub snapshot: Option<SnapshotMeta>,
    /// Where each term begins in the log that is left: strictly ascending in term and index. The
    /// first reaches down to the start of the log, over slots that are lost too.
    pub terms: Vec<Position>,
    /// Every configuration in the log that is left, with its slot, ascending.
    pub configurations: Vec<(Index, Configuration)>,
    /// The last entry, or the snapshot's position if nothing follows it.
    pub last: Position,
    /// Slots that are lost or may be stale, because a checksum failed, as one run with what lies
    /// between them. The terms of all others, and `last`, are right; but a range that ends after
    /// `last` says that the log may have been longer, and term and vote newer.
    pub damage: Option<IndexRange>,
}

/// What the writer tells, on its own thread and in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ack {
    /// These jobs are durable, in the order of submission.
    Durable(Vec<Ticket>),
    /// The last acknowledgement of this store: a write failed and its outcome is unknown. Nothing
    /// after the last [`Ack::Durable`] may be relied on before the store is opened again.
    Failed(WriteError),
}
