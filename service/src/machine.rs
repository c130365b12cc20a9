//! The one trait that a program implements to be replicated.

use std::io;

use bytes::Bytes;
use meshraft_consensus::{ClusterVersion, Index, Position};

use crate::{
    codec::WireError,
    error::{BadRequest, Feature, ServiceError},
};

/// Writes one snapshot of a machine, on a blocking task, while the machine goes on.
pub type SnapshotWriter = Box<dyn FnOnce(&mut dyn io::Write) -> io::Result<()> + Send>;

/// One committed command, as every replica sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Command<'a> {
    /// Where it stands in the log.
    pub position: Position,
    /// The log's own time, which never goes back. The only time that `apply` may use.
    pub log_time_ms: u64,
    /// What the caller proposed.
    pub payload: &'a [u8],
}

/// What commands are applied to.
///
/// Every replica gets the same commands in the same order, in batches that differ between replicas:
/// what `apply` does and returns may depend on nothing else, neither clock nor randomness nor the
/// bounds of a batch.
pub trait StateMachine: Send {
    /// Whether this build knows the command. Asked before it is proposed and again before it is
    /// applied: a replica halts before a command that it does not know.
    ///
    /// # Errors
    /// Says why the command can't be applied.
    fn check(&self, payload: &[u8]) -> Result<(), CheckError> {
        let _ = payload;
        Ok(())
    }

    /// Which cluster version has to be in force before this command may be proposed, of a command
    /// that [`Self::check`] knows. A kind of command that an older build of the machine does not
    /// know needs a version that the older build does not support, and that this one does: so no
    /// member of a cluster that is upgraded node by node meets a command that it does not know.
    fn needs(&self, payload: &[u8]) -> ClusterVersion {
        let _ = payload;
        ClusterVersion::BASELINE
    }

    /// Applies commands in order and returns one response for each.
    fn apply(&mut self, commands: &[Command<'_>]) -> Vec<Bytes>;

    /// Answers a query on the state after the entry at `applied`.
    ///
    /// # Errors
    /// Says why the query can't be answered.
    fn query(&self, query: &[u8], applied: Index) -> Result<Bytes, QueryError>;

    /// A frozen copy of the state that writes itself. Must be cheap; the writing need not be.
    /// Equal states must write equal bytes, as replicas compare hashes of them.
    fn snapshot(&self) -> SnapshotWriter;

    /// Replaces the state, all of it, by the snapshot that is read up to its end. Called on a
    /// blocking thread, where a snapshot came from the leader, and at each start that goes on from
    /// one; a state that is durable itself is then the snapshot's, [`Self::durable_applied`]
    /// included.
    ///
    /// # Errors
    /// The stream broke off or is no snapshot; the state is then not used any more.
    fn restore(&mut self, snapshot: &mut dyn io::Read) -> io::Result<()>;

    /// Up to where the state itself is durable; commands up to there are not applied again after a
    /// restart. `None` for a state in memory.
    fn durable_applied(&self) -> Option<Index> {
        None
    }

    /// Whether `apply` and `query` may block, on a disk for example.
    fn blocks(&self) -> bool {
        false
    }
}

/// Why a machine does not take a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CheckError {
    /// A version of commands that this build does not know.
    #[error("commands of version {version} are not known")]
    Version {
        /// The version byte.
        version: u8,
    },
    /// A kind of command that this build does not know.
    #[error("commands of kind {kind} are not known")]
    Kind {
        /// The number of the kind.
        kind: u32,
    },
    /// Something in it is too long.
    #[error("{bytes} bytes exceed the limit of {limit_bytes}")]
    TooLarge {
        /// The length.
        bytes: u64,
        /// The longest.
        limit_bytes: u64,
    },
    /// It breaks a rule.
    #[error("{0}")]
    Bad(#[source] BadRequest),
}

impl From<CheckError> for ServiceError {
    fn from(error: CheckError) -> Self {
        match error {
            CheckError::Version { .. } | CheckError::Kind { .. } => {
                Self::Unsupported(Feature::Command)
            }
            CheckError::TooLarge { bytes, limit_bytes } => Self::TooLarge { bytes, limit_bytes },
            CheckError::Bad(rule) => Self::BadRequest(rule),
        }
    }
}

impl From<WireError> for CheckError {
    fn from(error: WireError) -> Self {
        match error {
            WireError::TooLarge { bytes, limit_bytes } => {
                Self::TooLarge { bytes: bytes as u64, limit_bytes: limit_bytes as u64 }
            }
            WireError::Version { version } => Self::Version { version },
            WireError::Kind { kind } => Self::Kind { kind },
            WireError::Malformed => Self::Bad(BadRequest::Malformed),
        }
    }
}

/// Why a machine does not answer a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum QueryError {
    /// A version or kind of query that this build does not know.
    #[error("the query is not known")]
    Unknown,
    /// Something in it is too long.
    #[error("{bytes} bytes exceed the limit of {limit_bytes}")]
    TooLarge {
        /// The length.
        bytes: u64,
        /// The longest.
        limit_bytes: u64,
    },
    /// It breaks a rule.
    #[error("{0}")]
    Bad(#[source] BadRequest),
    /// A snapshot takes the place of the state at this moment: try again.
    #[error("the state is being restored")]
    Restoring,
    /// The replica has halted.
    #[error("the replica has halted")]
    Halted,
}

impl From<QueryError> for ServiceError {
    fn from(error: QueryError) -> Self {
        match error {
            QueryError::Unknown => Self::Unsupported(Feature::Query),
            QueryError::TooLarge { bytes, limit_bytes } => Self::TooLarge { bytes, limit_bytes },
            QueryError::Bad(rule) => Self::BadRequest(rule),
            QueryError::Restoring => Self::Overloaded,
            QueryError::Halted => Self::Halted,
        }
    }
}

impl From<CheckError> for QueryError {
    fn from(error: CheckError) -> Self {
        match error {
            CheckError::Version { .. } | CheckError::Kind { .. } => Self::Unknown,
            CheckError::TooLarge { bytes, limit_bytes } => Self::TooLarge { bytes, limit_bytes },
            CheckError::Bad(rule) => Self::Bad(rule),
        }
    }
}
