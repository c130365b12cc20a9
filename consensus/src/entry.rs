//! Log entries, and what a store restores and writes.

use alloc::{boxed::Box, vec::Vec};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::{
    identity::{ClusterId, Member},
    membership::Configuration,
    types::{Index, IndexRange, Position, Term, WriteId},
};

/// One slot of the replicated log.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Entry {
    /// Its identity.
    pub position: Position,
    /// What its bytes are.
    pub kind: EntryKind,
    /// Empty for `Noop` and `Abandon`, an encoded [`Configuration`] for `Configuration`, the
    /// service's envelope for `Command`.
    pub bytes: Bytes,
}

impl Entry {
    /// What an entry costs beside its payload, in every bound that is counted in bytes.
    pub const OVERHEAD_BYTES: u64 = 32;

    /// Its cost in every bound that is counted in bytes.
    pub fn cost_bytes(&self) -> u64 {
        Self::OVERHEAD_BYTES.saturating_add(self.bytes.len() as u64)
    }
}

/// What an entry holds. The order of the variants is their number on wire and disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum EntryKind {
    /// A new leader's first entry (thesis 3.6.2).
    Noop,
    /// A configuration, in force as soon as it is appended (thesis 4.1). As entry 1 it is `Found`.
    Configuration,
    /// The fate of a founder set that shall not live, as entry 1 only.
    Abandon,
    /// A command of the service.
    Command,
}

/// What must survive a crash besides the log (thesis 3.8).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct HardState {
    /// The latest term seen; never decreases.
    pub term: Term,
    /// Who got this member's vote in `term`.
    pub vote: Option<Member>,
    /// Known to be committed when this was written. A hint: it rides on other writes and is never
    /// needed for safety.
    pub commit_hint: Index,
}

/// One numbered write that the driver makes durable, all of it or nothing.
///
/// The store applies `hard` and `change`, then `append`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Write {
    /// Its number; [`crate::Input::Persisted`] acknowledges it and every earlier one.
    pub id: WriteId,
    /// The hard state, if it changed.
    pub hard: Option<HardState>,
    /// What becomes of the log that is there. In a box, as few writes have one, and all are moved
    /// about.
    pub change: Option<Box<LogChange>>,
    /// Entries to append, contiguous, directly after what is left.
    pub append: Vec<Entry>,
}

/// What a write does to the log that is there: `snapshot` first, then `repair`, then
/// `truncate_from`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct LogChange {
    /// The snapshot that the log begins after from now on; its file is durable already.
    pub snapshot: Option<SnapshotWrite>,
    /// Entries, contiguous, each in place of the one in its slot, which can't be read. Those that
    /// the snapshot covers are void.
    pub repair: Vec<Entry>,
    /// Drop every entry from this slot on.
    pub truncate_from: Option<Index>,
}

impl Write {
    /// The snapshot that the log begins after from now on.
    pub fn snapshot(&self) -> Option<&SnapshotWrite> {
        self.change.as_ref()?.snapshot.as_ref()
    }

    /// Entries in place of those that can't be read; mostly none.
    pub fn repair(&self) -> &[Entry] {
        self.change.as_ref().map_or(&[], |change| &change.repair)
    }

    /// From where on the log is dropped before `append`.
    pub fn truncate_from(&self) -> Option<Index> {
        self.change.as_ref()?.truncate_from
    }
}

/// A snapshot that becomes the newest one of a group, and what becomes of the log with it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SnapshotWrite {
    /// What the snapshot stands for.
    pub meta: SnapshotMeta,
    /// What becomes of the log.
    pub log: LogAfterSnapshot,
}

/// What becomes of a group's log when a snapshot is recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LogAfterSnapshot {
    /// Entries before this slot go, up to the snapshot's own slot at most; what follows stays. A
    /// log that ends before the snapshot is replaced.
    KeepFrom(Index),
    /// The whole log goes: the snapshot came from a leader, and the next entry follows on it.
    Replace,
}

/// What a snapshot stands for: the state after the entry at `position`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SnapshotMeta {
    /// The last entry that the snapshot covers.
    pub position: Position,
    /// The configuration in force there.
    pub configuration: Configuration,
    /// Where in the log that configuration stands.
    pub configuration_index: Index,
}

/// What a store knows of a group when it is opened; the driver builds it, the core trusts it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restored {
    /// Who this core is.
    pub me: Member,
    /// The group it belongs to: a living cluster's id, or that of a founder set.
    pub cluster: ClusterId,
    /// The voters of a founder set whose fate is open; `None` once the cluster lives, and for a
    /// joiner.
    pub founding: Option<Vec<Member>>,
    /// Term, vote and commit hint.
    pub hard: HardState,
    /// The newest snapshot, if there is one.
    pub snapshot: Option<SnapshotMeta>,
    /// Where each term begins in the log that is left: strictly ascending in term and index.
    pub terms: Vec<Position>,
    /// Every configuration in the log that is left, with its slot, ascending.
    pub configurations: Vec<(Index, Configuration)>,
    /// The last entry of the log, or the snapshot's position if nothing follows it.
    pub last: Position,
    /// A run of slots that failed its checksums, or holds some that did; such a core does not vote
    /// or lead. The terms of all other slots are right. A run that ends after `last` says that the
    /// log may have been longer, and term and vote newer.
    pub damage: Option<IndexRange>,
}
