//! What a core knows of snapshots: its newest one, the one that it fetches, the one that it puts
//! in place of its state (thesis 5).
//!
//! Invariants:
//! 1. `base <= newest <= commit`: what is compacted is covered by a snapshot, and a snapshot covers
//!    only what is committed.
//! 2. Of the state, too, nothing newer than `newest` is missing: unless it is being installed,
//!    `newest` is applied.
//! 3. At most one snapshot is fetched, and at most one installed.
//!
//! The files are the driver's. The core records which one counts, in a numbered write together with
//! what it does to the log, so that a crash leaves all of the old or all of the new.

mod compaction;
mod install;
mod offer;

pub(crate) use install::check_meta;
pub(crate) use offer::Transfer;

use crate::{
    core::Core,
    entry::{Restored, SnapshotMeta},
    identity::Member,
    types::{Index, Moment, Position, WriteId},
};

/// A snapshot that the driver fetches from another member.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Fetch {
    from: Member,
    meta: SnapshotMeta,
    /// How much of it arrived, and when that last grew.
    offset: u64,
    moved: Moment,
}

/// A fetched snapshot that takes the place of the state.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Install {
    meta: SnapshotMeta,
    /// The write that records it.
    write: WriteId,
    /// Whether the driver was told to go on.
    asked: bool,
}

/// The snapshots of one member.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Snapshots {
    newest: Option<SnapshotMeta>,
    fetching: Option<Fetch>,
    installing: Option<Install>,
}

impl Snapshots {
    /// What a store recorded.
    pub(crate) fn restore(newest: Option<SnapshotMeta>) -> Self {
        Self { newest, ..Self::default() }
    }

    /// The newest one.
    pub(crate) const fn newest_meta(&self) -> Option<&SnapshotMeta> {
        self.newest.as_ref()
    }

    /// A snapshot of a state that this member has had is its own newest one.
    pub(crate) fn adopt(&mut self, meta: SnapshotMeta) {
        self.newest = Some(meta);
    }

    /// The last slot that the newest one covers.
    pub(crate) fn newest(&self) -> Index {
        self.newest.as_ref().map_or(Index::ZERO, |meta| meta.position.index)
    }

    /// Whether the state is being replaced: nothing may be applied to it.
    pub(crate) const fn is_installing(&self) -> bool {
        self.installing.is_some()
    }
}

impl Core {
    /// Panics if an invariant is broken.
    pub(crate) fn check_snapshots(&self) {
        let newest = self.snapshots.newest();
        assert!(self.log.base().index <= newest, "what is compacted is covered by a snapshot");
        assert!(newest <= self.commit, "a snapshot covers only what is committed");
        match &self.snapshots.installing {
            Some(install) => {
                assert!(install.meta.position.index == newest, "what is installed is the newest");
                let durable = self.durability.is_durable(install.write);
                assert!(durable || !install.asked, "only what is recorded is installed");
            }
            None => assert!(newest <= self.apply.applied(), "a snapshot's state is applied"),
        }
    }
}

/// Where a restored log begins: after the snapshot, or before it, where a store kept entries that
/// the snapshot covers. The first of those is known by its term, and those after it can be sent.
pub(crate) fn restored_base(restored: &Restored) -> Position {
    let Some(meta) = &restored.snapshot else { return Position::ZERO };
    let covered = restored.damage.is_some_and(|range| range.first <= meta.position.index);
    match restored.terms.first() {
        // What is damaged there is not needed, and its terms may be wrong.
        _ if covered => meta.position,
        Some(first) if first.index <= meta.position.index => *first,
        _ => meta.position,
    }
}
