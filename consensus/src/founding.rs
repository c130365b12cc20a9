//! Decides what a founder set's group may do before its fate is committed, and drives its first
//! entry.
//!
//! Invariants:
//! 1. While the fate is open a leader with an empty log appends nothing but the driver's fate.
//! 2. Before `Found` is committed, and for ever after `Abandon` is, the group takes no command, no
//!    read and no change.

use bytes::Bytes;

use crate::{
    core::Core,
    entry::EntryKind,
    input::Fate,
    output::Output,
    role::RoleState,
    types::{Index, Position},
};

/// Where the fate of the founder set stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Founding {
    /// No founder set, or one whose cluster lives.
    Lives,
    /// Entry 1 is not committed.
    Open,
    /// Entry 1 is `Abandon`, for ever.
    Abandoned,
}

impl Core {
    /// Whether the group is closed to commands, reads and changes.
    pub(crate) fn is_founding(&self) -> bool {
        self.founding != Founding::Lives
    }

    /// Whether the first entry is the driver's to decide.
    pub(crate) fn awaits_first_entry(&self) -> bool {
        self.founding == Founding::Open && self.log.last() == Position::ZERO
    }

    /// The commit index advanced: entry 1 settles the fate.
    pub(crate) fn settle_founding(&mut self) {
        let first = Index::ZERO.next();
        if self.founding == Founding::Open && self.commit >= first {
            // Whatever was changed, was changed in a cluster that lives.
            let found = self.membership.is_at(first) || self.membership.committed().0 > first;
            if found {
                self.founding = Founding::Lives;
            } else if !self.is_damaged_at(first) {
                self.founding = Founding::Abandoned;
            }
        }
    }

    pub(crate) fn first_entry(&mut self, fate: Fate) {
        if !matches!(self.role, RoleState::Leader(_)) || !self.awaits_first_entry() {
            return;
        }
        match fate {
            Fate::Found => {
                let founders = self.membership.current().clone();
                self.append_configuration(founders);
            }
            Fate::Abandon => {
                self.append_own(EntryKind::Abandon, Bytes::new());
            }
        }
    }

    /// A new leader's first entry: a no-op, or the driver's.
    pub(crate) fn open_term(&mut self) {
        if self.awaits_first_entry() {
            self.outputs.push_back(Output::NeedFirstEntry { term: self.hard.term });
        } else {
            self.append_own(EntryKind::Noop, Bytes::new());
        }
    }
}
