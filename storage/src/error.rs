//! Why a folder, a store or a write is refused: one enum per operation, with the facts in fields.

use std::{io, path::PathBuf};

use meshraft_consensus::Index;

use crate::types::GroupId;

/// Why a folder can't be a data folder. Nothing in it was changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataDirError {
    /// The path names something that is no folder.
    #[error("{} is not a folder", path.display())]
    NotAFolder {
        /// The path.
        path: PathBuf,
    },
    /// The folder does not exist and can't be created.
    #[error("can't create the data folder {}", path.display())]
    Create {
        /// The path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The folder can't be read.
    #[error("can't read {}", path.display())]
    Unreadable {
        /// What can't be read.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The folder can't be written to.
    #[error("can't write {}", path.display())]
    Unwritable {
        /// What can't be written.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another process has the folder open.
    #[error("the data folder {} is in use by another process", path.display())]
    InUse {
        /// The path.
        path: PathBuf,
    },
    /// A newer release wrote the folder.
    #[error(
        "the data folder {} has format {found}, this release knows up to {supported}",
        path.display()
    )]
    NewerFormat {
        /// The path.
        path: PathBuf,
        /// The format found.
        found: u64,
        /// The newest format that this release knows.
        supported: u64,
    },
    /// The `format` file is not one of ours.
    #[error("{} is corrupt: it does not name a format", path.display())]
    CorruptFormat {
        /// The file.
        path: PathBuf,
    },
    /// There is a log, and no `format` file that says how to read it.
    #[error("{} is missing beside an existing log", path.display())]
    MissingFormat {
        /// The file.
        path: PathBuf,
    },
}

/// Why a store can't be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The file system failed.
    #[error("can't open the log")]
    Io(#[source] io::Error),
    /// The log is open already, in this process or another.
    #[error("the log is in use")]
    InUse,
    /// A part of the log that nothing else can stand in for fails its checksum.
    #[error("the log is damaged: {0}")]
    Damaged(DamagedPart),
    /// A newer release wrote it.
    #[error("the log holds a {part} of version {version}, which this release does not know")]
    UnknownVersion {
        /// What carries the version.
        part: DamagedPart,
        /// The version.
        version: u8,
    },
    /// The store was closed, or a write of it failed.
    #[error("the log is closed")]
    Closed,
    /// The writer's thread can't be started.
    #[error("can't start the writer's thread")]
    Thread(#[source] io::Error),
}

/// The part of a log that is damaged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DamagedPart {
    /// The file itself, below our records.
    #[error("file structure")]
    File,
    /// The row of a namespace.
    #[error("row of namespace {name:?}")]
    Namespace {
        /// Its name, as far as it can be read.
        name: String,
    },
    /// The number of the next group.
    #[error("group counter")]
    NextGroup,
    /// A row of the inbox.
    #[error("inbox row {row}")]
    Row {
        /// Its key.
        row: u64,
    },
}

/// Why a write failed. The outcome of the jobs in it is unknown, and no later job is taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WriteError {
    /// The file system is full.
    #[error("no space is left for the log")]
    Full,
    /// The file system failed to write or to synchronise.
    #[error("the log can't be written: {kind}")]
    Io {
        /// What kind of failure.
        kind: io::ErrorKind,
        /// The operating system's number for it.
        code: Option<i32>,
    },
    /// The file is damaged where it had to be changed.
    #[error("the log is damaged where it had to be changed")]
    Damaged,
    /// The driver left a gap in a group's log, or truncated what a snapshot covers.
    #[error("the log of {group} goes on at {expected}, but the entry given is {found}")]
    Gap {
        /// The group.
        group: GroupId,
        /// The slot that comes next.
        expected: Index,
        /// The slot given.
        found: Index,
    },
    /// The driver used a group number twice.
    #[error("group number {group} was used before, the next is {next}")]
    GroupReused {
        /// The number given.
        group: GroupId,
        /// The lowest number never used.
        next: GroupId,
    },
    /// The driver gave a record over [`crate::Job::RECORD_BYTES_MAX`].
    #[error("a record of {bytes} bytes is over the limit")]
    RecordTooLarge {
        /// Its length.
        bytes: usize,
    },
    /// The driver gave an entry of 4 GiB or more.
    #[error("an entry of {bytes} bytes is over the limit")]
    EntryTooLarge {
        /// Its length.
        bytes: usize,
    },
}

/// Sorts what redb tells into the few things that matter to a caller.
pub(crate) enum Fault {
    Io(io::Error),
    InUse,
    Damaged,
}

impl From<redb::Error> for Fault {
    fn from(error: redb::Error) -> Self {
        match error {
            redb::Error::Io(error) => Self::Io(error),
            redb::Error::PreviousIo => Self::Io(io::Error::other("an earlier access failed")),
            redb::Error::DatabaseAlreadyOpen => Self::InUse,
            _ => Self::Damaged,
        }
    }
}

impl From<redb::Error> for OpenError {
    fn from(error: redb::Error) -> Self {
        match Fault::from(error) {
            Fault::Io(error) => Self::Io(error),
            Fault::InUse => Self::InUse,
            Fault::Damaged => Self::Damaged(DamagedPart::File),
        }
    }
}

impl From<redb::Error> for WriteError {
    fn from(error: redb::Error) -> Self {
        match Fault::from(error) {
            Fault::Io(error) if error.kind() == io::ErrorKind::StorageFull => Self::Full,
            Fault::Io(error) => Self::Io { kind: error.kind(), code: error.raw_os_error() },
            Fault::InUse | Fault::Damaged => Self::Damaged,
        }
    }
}
