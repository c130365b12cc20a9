//! Why a core says no: one enum per operation, with the facts in fields.

use crate::{
    identity::{Member, NodeId},
    types::IndexRange,
};

/// Why a proposal, change or transfer was not taken. It has no effect and never will.
#[derive(Clone, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum RejectReason {
    /// Another member leads, or none is known to.
    #[error("not the leader")]
    NotLeader {
        /// Who leads, as far as this member knows.
        leader: Option<NodeId>,
    },
    /// The bound on uncommitted bytes is reached.
    #[error("{pending_bytes} bytes pending exceeds the limit of {limit_bytes}")]
    Overloaded {
        /// Bytes appended and not committed.
        pending_bytes: u64,
        /// The bound.
        limit_bytes: u64,
    },
    /// The command alone exceeds the bound on one entry.
    #[error("a command of {bytes} bytes exceeds the limit of {limit_bytes}")]
    TooLarge {
        /// The command's length.
        bytes: u64,
        /// The bound.
        limit_bytes: u64,
    },
    /// The cluster does not live yet: its fate is not committed, or it is abandoned.
    #[error("the cluster is not founded")]
    Founding,
    /// The leader has not committed an entry of its own term yet (thesis 4.1, the 2015 erratum).
    #[error("the leader has not committed in its own term yet")]
    NotReady,
    /// An earlier change of configuration is not finished.
    #[error("another configuration change is in progress")]
    ChangeInProgress,
    /// The step asks for what is so already.
    #[error("{member} is already what the change asks for")]
    AlreadyDone {
        /// The member of the step.
        member: Member,
    },
    /// The step names a member that is not what it must be (for `Promote` a learner that the change
    /// itself does not add, for `Remove` any member).
    #[error("{member} is not a member that this step can be applied to")]
    NoSuchMember {
        /// The member of the step.
        member: Member,
    },
    /// The change would leave no voter.
    #[error("the change leaves no voter")]
    NoVoters,
    /// Too few of the voters that the change would leave answer: neither the change nor anything
    /// after it could be committed before others are back.
    #[error("{live} of the voters that are left answer, {needed} are needed")]
    NoLiveMajority {
        /// How many of them answered within an election time-out, this leader included.
        live: usize,
        /// How many are a majority.
        needed: usize,
    },
    /// The change has no steps, or more than a configuration can hold.
    #[error("the change has {steps} steps")]
    StepCount {
        /// How many.
        steps: usize,
    },
    /// Leadership is on its way to another member; what was proposed is better proposed there.
    #[error("leadership is being handed over to {to}")]
    TransferInProgress {
        /// The successor.
        to: Member,
    },
    /// The successor did not take over in time: this member leads on, or another one does.
    #[error("leadership was not handed over to {to}")]
    TransferAborted {
        /// Who should have led.
        to: Member,
    },
    /// The member can't take over: it does not answer, lost what it acknowledged, or needs a
    /// snapshot.
    #[error("{member} does not answer or is far behind")]
    Behind {
        /// The member that was named as successor.
        member: Member,
    },
    /// No other voter answers and has the log.
    #[error("no other voter can take over")]
    NoSuccessor,
    /// This build does not do it yet.
    #[error("{operation} is not supported yet")]
    Unsupported {
        /// What was asked.
        operation: &'static str,
    },
}

/// Why a read can't be served by this member now.
#[derive(Clone, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// No leader is known.
    #[error("no leader is known")]
    NoLeader,
    /// The leader did not answer, lost its quorum, or was deposed before it confirmed.
    #[error("the leader did not confirm the read")]
    Unconfirmed,
    /// Too many reads wait already.
    #[error("{pending} reads pending, the limit is {limit}")]
    Overloaded {
        /// How many wait.
        pending: usize,
        /// The bound.
        limit: usize,
    },
    /// The cluster does not live yet.
    #[error("the cluster is not founded")]
    Founding,
    /// This build does not do it yet.
    #[error("{operation} is not supported yet")]
    Unsupported {
        /// What was asked.
        operation: &'static str,
    },
}

/// Why entries could not be loaded.
#[derive(Clone, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// They were compacted away; only a snapshot covers them.
    #[error("the entries were compacted away")]
    Compacted,
    /// They were truncated since they were asked for; the core no longer wants them.
    #[error("the entries were truncated")]
    Truncated,
    /// Slots that fail their checksums.
    #[error("entries {}..={} fail their checksums", .0.first, .0.last)]
    Damaged(IndexRange),
    /// The store failed.
    #[error("the store failed to read")]
    Failed,
}

/// Why a snapshot was not installed.
#[derive(Clone, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum InstallError {
    /// The stream broke off.
    #[error("the stream broke off")]
    Interrupted,
    /// Its contents fail their checksum.
    #[error("the snapshot fails its checksum")]
    Damaged,
    /// The store failed.
    #[error("the store failed to write")]
    Failed,
}
