//! What a node asks of its driver about snapshots' files, and what it hears of them.
//!
//! Jobs of one group are carried out in order, one at a time; reads at any time, beside them. Every
//! job may block, so that none runs where the host does.

use std::fmt;

use bytes::Bytes;
use meshraft_consensus::{Namespace, Position, SnapshotMeta};
use meshraft_service::{Replicated, RestoreError, SnapshotWriter};
use meshraft_storage::{GroupId, IoFault, SnapshotChunk, SnapshotError, SnapshotId, SnapshotPart};

/// One thing to do with the snapshots of a group.
#[derive(Debug)]
pub struct SnapshotJob {
    /// The namespace.
    pub namespace: Namespace,
    /// The group.
    pub group: GroupId,
    /// Which opening of the namespace asks; echoed, so that an answer finds no later one.
    pub life: u64,
    /// What to do.
    pub work: SnapshotWork,
}

/// What to do with the snapshots of a group.
pub enum SnapshotWork {
    /// Write a snapshot; answered by [`Done::Taken`] when it is durable.
    Take {
        /// What it stands for.
        meta: SnapshotMeta,
        /// What tells its file from another at this position.
        id: SnapshotId,
        /// The frozen state.
        writer: SnapshotWriter,
    },
    /// Read bytes of a file; answered by [`Done::Read`]. Not in line with the others.
    Read {
        /// Echoed in the answer.
        token: u64,
        /// Which snapshot.
        position: Position,
        /// Whose file it must be, if that is known.
        id: Option<SnapshotId>,
        /// The first byte.
        offset: u64,
        /// How many bytes at most.
        bytes_max: u32,
    },
    /// Find out what an earlier fetch left; answered by [`Done::Resumed`].
    Resume {
        /// Which snapshot.
        position: Position,
    },
    /// Append to a file that is being fetched; answered by [`Done::Appended`].
    Append {
        /// Which snapshot.
        position: Position,
        /// Whose file it is.
        id: SnapshotId,
        /// How long the whole file is.
        total: u64,
        /// Where the bytes belong.
        offset: u64,
        /// The bytes.
        bytes: Bytes,
    },
    /// Check a fetched file and make it durable; answered by [`Done::Finished`].
    Finish {
        /// What it must stand for.
        meta: SnapshotMeta,
    },
    /// Read a snapshot into a state; answered by [`Done::Restored`].
    Restore {
        /// Which.
        meta: SnapshotMeta,
        /// The state that it replaces. It comes back with the answer, whatever that is.
        state: Box<Replicated>,
    },
    /// Remove every file of the group but these, and unfinished ones below the newest. Not
    /// answered.
    Retain {
        /// What stays.
        positions: Vec<Position>,
    },
    /// Remove every file of the group. Not answered.
    Drop,
}

impl SnapshotWork {
    /// Whether it may be carried out beside other work of its group.
    pub const fn is_read(&self) -> bool {
        matches!(self, Self::Read { .. })
    }
}

impl fmt::Debug for SnapshotWork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Take { meta, id, .. } => write!(f, "take {} {id}", meta.position),
            Self::Read { token, position, offset, bytes_max, .. } => {
                write!(f, "read {token} {position} {offset}+{bytes_max}")
            }
            Self::Resume { position } => write!(f, "resume {position}"),
            Self::Append { position, offset, bytes, .. } => {
                write!(f, "append {position} {offset}+{}", bytes.len())
            }
            Self::Finish { meta } => write!(f, "finish {}", meta.position),
            Self::Restore { meta, .. } => write!(f, "restore {}", meta.position),
            Self::Retain { positions } => write!(f, "retain {positions:?}"),
            Self::Drop => write!(f, "drop"),
        }
    }
}

/// The answer to a [`SnapshotJob`].
#[derive(Debug)]
pub struct SnapshotDone {
    /// The namespace.
    pub namespace: Namespace,
    /// The group.
    pub group: GroupId,
    /// The opening that asked.
    pub life: u64,
    /// How it ended.
    pub done: Done,
}

/// How a job ended.
pub enum Done {
    /// A snapshot is durable, or was not written.
    Taken {
        /// What it stands for.
        meta: SnapshotMeta,
        /// How many bytes its file has.
        result: Result<u64, SnapshotError>,
    },
    /// Bytes were read.
    Read {
        /// The job's.
        token: u64,
        /// The bytes.
        result: Result<SnapshotChunk, SnapshotError>,
    },
    /// What an earlier fetch left.
    Resumed {
        /// Which snapshot.
        position: Position,
        /// Whose file, and how much of it is there.
        result: Result<Option<(SnapshotId, u64)>, SnapshotError>,
    },
    /// Bytes were appended.
    Appended {
        /// Which snapshot.
        position: Position,
        /// Where the file goes on.
        result: Result<u64, SnapshotError>,
    },
    /// A fetched file is whole and durable, or is not what was offered.
    Finished {
        /// What it stands for.
        meta: SnapshotMeta,
        /// How it ended.
        result: Result<(), SnapshotError>,
    },
    /// A state was replaced.
    Restored {
        /// By what.
        meta: SnapshotMeta,
        /// The state; it is halted if it could not be restored.
        state: Box<Replicated>,
        /// How it ended.
        result: Result<(), RestoreFailure>,
    },
}

impl fmt::Debug for Done {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Taken { meta, result } => write!(f, "taken {} {result:?}", meta.position),
            Self::Read { token, result } => {
                let read = result.as_ref().map(|chunk| (chunk.offset, chunk.bytes.len()));
                write!(f, "read {token} {read:?}")
            }
            Self::Resumed { position, result } => write!(f, "resumed {position} {result:?}"),
            Self::Appended { position, result } => write!(f, "appended {position} {result:?}"),
            Self::Finished { meta, result } => write!(f, "finished {} {result:?}", meta.position),
            Self::Restored { meta, result, .. } => {
                write!(f, "restored {} {result:?}", meta.position)
            }
        }
    }
}

impl RestoreFailure {
    /// Whether the file itself is lost: to read it again, or by another release, is of no use.
    pub(crate) const fn is_loss(&self) -> bool {
        matches!(self, Self::Missing | Self::Damaged(_))
    }
}

/// Why a state could not be restored from a recorded snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RestoreFailure {
    /// Its file is not there.
    #[error("its file is missing")]
    Missing,
    /// A part of its file is not what was written.
    #[error("its file is damaged: {0}")]
    Damaged(#[source] SnapshotPart),
    /// A newer release wrote the file.
    #[error("its file has version {version}, which this release does not know")]
    UnknownVersion {
        /// The version.
        version: u8,
    },
    /// The file system failed.
    #[error("its file can't be read")]
    Io(#[source] IoFault),
    /// A newer release wrote the state.
    #[error("its state has format {format}, which this release does not know")]
    UnknownFormat {
        /// The format.
        format: u8,
    },
    /// The state in it breaks a rule.
    #[error("its state is malformed")]
    Malformed,
    /// The state that was restored is not the one that was written.
    #[error("its state hash is {actual:016x} instead of {expected:016x}")]
    Hash {
        /// The hash in the snapshot.
        expected: u64,
        /// The hash of what was restored.
        actual: u64,
    },
    /// The state in it is that of another position than recorded.
    #[error("its state is that of {found}")]
    OtherState {
        /// The position in the snapshot.
        found: Position,
    },
    /// The state machine panicked.
    #[error("the state machine panicked")]
    Panicked,
    /// Its group stopped meanwhile.
    #[error("its group has stopped")]
    Stopped,
}

impl From<SnapshotError> for RestoreFailure {
    fn from(error: SnapshotError) -> Self {
        match error {
            SnapshotError::Gone => Self::Missing,
            SnapshotError::Corrupt { part } => Self::Damaged(part),
            SnapshotError::UnknownVersion { version } => Self::UnknownVersion { version },
            SnapshotError::Io(fault) => Self::Io(fault),
            _ => Self::Malformed,
        }
    }
}

impl From<RestoreError> for RestoreFailure {
    fn from(error: RestoreError) -> Self {
        match error {
            RestoreError::Io(error) => Self::Io(error.into()),
            RestoreError::Format { format } => Self::UnknownFormat { format },
            RestoreError::Hash { expected, actual } => Self::Hash { expected, actual },
            _ => Self::Malformed,
        }
    }
}
