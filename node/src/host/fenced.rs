//! Incarnations that lost what they had acknowledged: fenced, and kept until nobody can need them.
//!
//! A leader's verdict ends an incarnation at once and durably: no vote, acknowledgement or read is
//! given in its name any more. Its log stays as it is, as the verdict may be all that is wrong, and
//! `recover` may need what is left. The log goes when the new incarnation is a voter of a committed
//! configuration, or has the state of a committed snapshot: what the old one held is there then.
//!
//! Invariants:
//! 1. No message makes a node delete the log of an incarnation that ever acted.
//! 2. At most [`FencedGroups::MAX`] are kept; a further verdict halts the namespace instead.

use std::collections::BTreeSet;

use meshraft_consensus::{ClusterId, Incarnation, Index};
use meshraft_storage::GroupId;
use serde::{Deserialize, Serialize};

/// One incarnation's log that is kept and never acts again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FencedGroup {
    /// The number of the group in the store.
    pub(crate) group: u64,
    /// The cluster, or the founder set, whose log it is.
    pub(crate) cluster: ClusterId,
    /// The incarnation that acts no more.
    pub(crate) incarnation: Incarnation,
    /// The last slot that it had acknowledged, as the verdict says.
    pub(crate) acknowledged: Index,
}

/// Every log that is kept so.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct FencedGroups(Vec<FencedGroup>);

impl FencedGroups {
    /// The most logs that are kept.
    pub(super) const MAX: usize = 16;

    /// What a record lists.
    pub(super) const fn restore(listed: Vec<FencedGroup>) -> Self {
        Self(listed)
    }

    /// Whether there is room for so many more.
    pub(super) fn has_room(&self, more: usize) -> bool {
        self.0.len() + more <= Self::MAX
    }

    /// Keeps one more.
    pub(super) fn add(&mut self, fenced: FencedGroup) {
        self.0.push(fenced);
    }

    /// Whether this group's log is fenced: no core begins on it.
    pub(super) fn contains(&self, group: GroupId) -> bool {
        self.0.iter().any(|fenced| fenced.group == group.get())
    }

    /// The newest one.
    pub(super) fn newest(&self) -> Option<&FencedGroup> {
        self.0.last()
    }

    /// All of them, to be stored.
    pub(super) fn to_vec(&self) -> Vec<FencedGroup> {
        self.0.clone()
    }

    /// Nobody needs them any more: the groups to drop.
    pub(super) fn release(&mut self) -> BTreeSet<GroupId> {
        std::mem::take(&mut self.0).iter().map(|fenced| GroupId::new(fenced.group)).collect()
    }
}
