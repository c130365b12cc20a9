//! Why an operation of the embedding API failed: one enum per operation, with the facts in fields.
//!
//! Whether a failed operation may have taken effect is what a caller must know: every error of an
//! operation on a namespace has `maybe_applied()`.

use std::{io, path::PathBuf, time::Duration};

use meshraft_consensus::{ConfigError, Namespace, NamespaceError};
use meshraft_discovery::founding::ForceError;
use meshraft_service::{ServiceError, wire::WireError};
use meshraft_storage::DataDirError;
use meshraft_transport::{AddressErrors, KeyError, Multiaddr, identity::IdentityError};

use super::founders::FoundersError;
use crate::{host::RecordError, shutdown::StopReason};

/// Why a node does not start. What its data folder held before is unchanged.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// No data folder was named.
    #[error("a node needs a data folder")]
    NoDataDir,
    /// The data folder can't be used.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    /// The identity in the data folder can't be used.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// There is a log and no identity. A new identity would be a member that nobody knows.
    #[error(
        "{} is missing beside an existing log: put it back, or start with an empty folder",
        path.display()
    )]
    IdentityMissing {
        /// Where the identity should be.
        path: PathBuf,
    },
    /// The log in the data folder can't be opened.
    #[error("the log in {} can't be opened", path.display())]
    Store {
        /// The data folder.
        path: PathBuf,
        /// Why.
        source: meshraft_storage::OpenError,
    },
    /// The folder of the snapshots in the data folder can't be used.
    #[error("the snapshots in {} can't be used", path.display())]
    Snapshots {
        /// The data folder.
        path: PathBuf,
        /// Why.
        source: meshraft_storage::SnapshotsError,
    },
    /// Addresses to listen on, or of peers, can't be used; all of them are named.
    #[error(transparent)]
    Addresses(#[from] AddressErrors),
    /// The times contradict each other.
    #[error("contradictory timing")]
    Timing(#[from] ConfigError),
    /// A key file can't be used.
    #[error(transparent)]
    Key(#[from] KeyFileError),
    /// The system does not let the node listen there. Nothing was created.
    #[error("can't listen on {address}")]
    Listen {
        /// Where.
        address: Multiaddr,
        /// Why.
        source: io::Error,
    },
    /// The transport does not start.
    #[error(transparent)]
    Transport(#[from] meshraft_transport::StartError),
    /// The system did not say in time that it listens.
    #[error("not listening after {} ms", waited.as_millis())]
    NotListening {
        /// How long it was waited for.
        waited: Duration,
    },
    /// The operating system gave no randomness.
    #[error("the operating system gave no randomness")]
    Randomness(#[source] getrandom::Error),
    /// Opening the data folder panicked; the log of the program says where.
    #[error("opening the data folder panicked")]
    Panicked,
}

/// Why a namespace is not opened. Nothing was changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The name is no namespace.
    #[error("{name:?} is not a namespace")]
    Name {
        /// What was given.
        name: String,
        /// Which rule it breaks.
        source: NamespaceError,
    },
    /// A key file can't be used.
    #[error(transparent)]
    Key(#[from] KeyFileError),
    /// The times contradict each other.
    #[error("contradictory timing for namespace {namespace}")]
    Timing {
        /// The namespace.
        namespace: Namespace,
        /// The contradiction.
        source: ConfigError,
    },
    /// The settings of founding contradict each other.
    #[error("contradictory founding of namespace {namespace}")]
    Founders {
        /// The namespace.
        namespace: Namespace,
        /// The contradiction.
        source: FoundersError,
    },
    /// The node hosts the namespace already.
    #[error("namespace {namespace} is open already")]
    AlreadyOpen {
        /// The namespace.
        namespace: Namespace,
    },
    /// The node hosted the namespace and closed it, and what the store holds of it can't be read
    /// again in this run.
    #[error("namespace {namespace} was closed and can't be opened again in this run of the node")]
    Lost {
        /// The namespace.
        namespace: Namespace,
        /// Why; `None` if reading panicked, of which the program's log says more.
        source: Option<meshraft_storage::OpenError>,
    },
    /// It shall be founded by force, and what is on record forbids that.
    #[error("namespace {namespace} can't be founded by force-bootstrap")]
    Forced {
        /// The namespace.
        namespace: Namespace,
        /// What is on record.
        source: ForceError,
    },
    /// What the store holds of the namespace can't be read.
    #[error("namespace {namespace} can't be opened")]
    Unreadable {
        /// The namespace.
        namespace: Namespace,
        /// Why.
        source: RecordError,
    },
    /// The node does not run any more.
    #[error("the node has stopped")]
    Stopped(#[source] StopReason),
}

/// Why a key file holds no key.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyFileError {
    /// It can't be read.
    #[error("can't read the key file {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is no key.
    #[error("the key file {} holds no key", path.display())]
    Contents {
        /// The file.
        path: PathBuf,
        /// Why.
        source: KeyError,
    },
}

/// Why a write (set, delete, propose) failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WriteError {
    /// The cluster, or this node on its way there, said no or did not answer in time.
    #[error(transparent)]
    Service(#[from] ServiceError),
    /// It was applied, but the machine's answer can't be read: another machine runs there.
    #[error("applied, but the answer can't be read")]
    Answer(#[from] WireError),
    /// It was applied, but the machine's answer is not one to this command.
    #[error("applied, but the answer is to another kind of command")]
    OtherAnswer,
    /// The node had stopped before; surely not applied.
    #[error("the node has stopped")]
    NotSent(#[source] StopReason),
    /// The node stopped while the write was under way.
    #[error("the node stopped while the write was under way")]
    Stopped(#[source] StopReason),
    /// The operating system gave no randomness for a session; surely not applied.
    #[error("the operating system gave no randomness")]
    Randomness(#[source] getrandom::Error),
}

impl WriteError {
    /// Whether the write may have taken effect, or still may.
    pub const fn maybe_applied(&self) -> bool {
        match self {
            Self::Service(error) => error.maybe(),
            Self::Answer(_) | Self::OtherAnswer | Self::Stopped(_) => true,
            Self::NotSent(_) | Self::Randomness(_) => false,
        }
    }
}

/// Why a read (get, keys, query) or a barrier failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The cluster, or this node on its way there, said no or did not answer in time.
    #[error(transparent)]
    Service(#[from] ServiceError),
    /// The machine's answer can't be read: another machine runs there.
    #[error("the answer can't be read")]
    Answer(#[from] WireError),
    /// The machine's answer is not one to this query.
    #[error("the answer is to another kind of query")]
    OtherAnswer,
    /// The node has stopped.
    #[error("the node has stopped")]
    Stopped(#[source] StopReason),
}

impl ReadError {
    /// Always false: a read has no effect.
    pub const fn maybe_applied(&self) -> bool {
        false
    }
}

/// Why a namespace is not ready.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReadyError {
    /// It was not within the time given; [`crate::NamespaceHandle::status`] says what it waits for.
    #[error("not ready after {} ms", waited.as_millis())]
    Timeout {
        /// The time given.
        waited: Duration,
        /// What the last try said.
        #[source]
        last: Option<ServiceError>,
    },
    /// It will not get ready in this process.
    #[error(transparent)]
    Service(ServiceError),
    /// The node has stopped.
    #[error("the node has stopped")]
    Stopped(#[source] StopReason),
}

impl ReadyError {
    /// Always false: waiting has no effect.
    pub const fn maybe_applied(&self) -> bool {
        false
    }
}

/// Why there is no status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StatusError {
    /// The namespace is closed.
    #[error("the namespace is closed")]
    Closed,
    /// The node has stopped.
    #[error("the node has stopped")]
    Stopped(#[source] StopReason),
}

impl StatusError {
    /// Always false: looking has no effect.
    pub const fn maybe_applied(&self) -> bool {
        false
    }
}

/// Why there is no next event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EventsError {
    /// The listener was too slow; the oldest events are lost, the next ones follow.
    #[error("{count} events were missed")]
    Missed {
        /// How many.
        count: u64,
    },
    /// The namespace is closed or the node has stopped.
    #[error("the namespace is closed")]
    Closed,
}
