//! The log of every namespace of a node, behind one commit for all who wait.
//!
//! A [`Store`] takes [`Job`]s without blocking; one thread turns all that is queued into one redb
//! transaction with one synchronisation of the file, and then acknowledges it. N busy namespaces
//! thus cost one synchronisation a batch. [`Store::load`] reads beside it. [`MemoryStore`] keeps
//! the same contract as a plain value.
//!
//! The layout is one value per commit (the "inbox") with an index in memory, rebuilt at open from
//! the directories at the head of each value; `docs/storage-format.md` draws every byte. Payloads
//! carry checksums of their own, verified on every read: damage is told by type, never repaired by
//! dropping something, and never passed on as data.
//!
//! [`Snapshots`] are files beside the log, checked block by block; [`MemorySnapshots`] keeps the
//! same contract.

mod batch;
mod catalog;
mod dir;
mod disk;
mod error;
mod group;
mod load;
mod memory;
mod namespace;
mod rebuild;
mod reopen;
mod rewrite;
mod row;
mod rows;
mod snapshot;
mod stage;
mod store;
mod types;
mod writer;

pub use dir::DataDir;
pub use error::{DamagedPart, DataDirError, OpenError, WriteError};
pub use memory::MemoryStore;
pub use meshraft_consensus::LoadError;
pub use redb::StorageBackend;
pub use snapshot::{
    Access, IoFault, MemorySnapshots, SnapshotChunk, SnapshotError, SnapshotFile, SnapshotFiles,
    SnapshotId, SnapshotOptions, SnapshotPart, Snapshots, SnapshotsError,
};
pub use store::{Store, StoreOptions, Usage};
pub use types::{Ack, GroupId, Job, Opened, OpenedGroup, OpenedNamespace, Ticket};

pub use meshraft_consensus::LogAfterSnapshot;
