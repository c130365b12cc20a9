//! Why a snapshot can't be written, read or fetched, with the facts in fields.

use std::io;

use crate::snapshot::SnapshotId;

/// Why the folder of the snapshots can't be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SnapshotsError {
    /// It can't be created, or its name can't be made durable.
    #[error("can't use the folder of the snapshots")]
    Io(#[source] IoFault),
}

/// Why something could not be done with a snapshot's file. Whatever it is, every other file is as
/// it was.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SnapshotError {
    /// There is no such file.
    #[error("there is no such snapshot")]
    Gone,
    /// The file at this position is another one.
    #[error("the file is that of snapshot {found}")]
    OtherId {
        /// Whose file it is.
        found: SnapshotId,
    },
    /// A part of the file is not what was written, or not what was asked for.
    #[error("the file of the snapshot is damaged: {part}")]
    Corrupt {
        /// The first part that is wrong.
        part: SnapshotPart,
    },
    /// A newer release wrote the file.
    #[error("the file of the snapshot has version {version}, which this release does not know")]
    UnknownVersion {
        /// The version.
        version: u8,
    },
    /// The bytes do not lie where the file goes on.
    #[error("the file goes on at {expected}, the offset given is {found}")]
    Gap {
        /// How long the file is.
        expected: u64,
        /// The offset given.
        found: u64,
    },
    /// More bytes than the file was announced to have.
    #[error("{end} bytes are more than the {total} announced")]
    TooLong {
        /// The length announced.
        total: u64,
        /// Where the bytes given would end.
        end: u64,
    },
    /// The file system is full. The unfinished file is removed.
    #[error("no space is left for the snapshot")]
    NoSpace,
    /// The file system failed, or whoever wrote the state did.
    #[error("the snapshot's file can't be read or written")]
    Io(#[source] IoFault),
}

/// The part of a snapshot's file that is damaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SnapshotPart {
    /// Its header.
    #[error("header")]
    Header,
    /// The header is sound, but names another position, or another meta than was offered.
    #[error("it stands for something else")]
    Meta,
    /// A block: rotten, missing, or one of another file.
    #[error("block {number}")]
    Block {
        /// Counted from 0.
        number: u64,
    },
    /// Its end mark, or bytes after it.
    #[error("end")]
    End,
}

/// What an operating system says of a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{kind}")]
pub struct IoFault {
    /// What kind of failure.
    pub kind: io::ErrorKind,
    /// The operating system's number for it.
    pub code: Option<i32>,
}

impl From<io::Error> for IoFault {
    fn from(error: io::Error) -> Self {
        Self { kind: error.kind(), code: error.raw_os_error() }
    }
}

impl From<io::Error> for SnapshotsError {
    fn from(error: io::Error) -> Self {
        Self::Io(error.into())
    }
}

impl From<io::Error> for SnapshotError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::NoSpace,
            _ => Self::Io(error.into()),
        }
    }
}
