//! Asks for entries that are no longer in memory, one load at a time for each who needs them.
//!
//! Invariant: at most one load a follower, one a member that repairs its log, one of this
//! member that rereads its own, and one for applying is pending, so that memory for loaded entries
//! is bounded.

use alloc::{collections::BTreeMap, vec::Vec};

use crate::{
    core::Core,
    entry::Entry,
    error::LoadError,
    identity::Member,
    message::RepairRequest,
    types::{Index, LoadId},
};

/// Who needs the entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Purpose {
    Apply,
    Follower(Member),
    Repair(Member, RepairRequest),
    Reread(Index),
}

impl Purpose {
    /// Whether what is loaded for one is of no use once it is asked for the other.
    fn is_replaced_by(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Repair(one, _), Self::Repair(other, _)) => one == other,
            (Self::Reread(_), Self::Reread(_)) => true,
            (one, other) => one == other,
        }
    }
}

/// The loads that have no answer yet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Loads {
    asked: u64,
    pending: BTreeMap<LoadId, Purpose>,
}

impl Loads {
    fn ask(&mut self, purpose: Purpose) -> LoadId {
        self.asked = self.asked.saturating_add(1);
        let id = LoadId::new(self.asked);
        // A member that is asked for anew no longer needs what it waited for.
        self.pending.retain(|_, other| !other.is_replaced_by(&purpose));
        self.pending.insert(id, purpose);
        id
    }

    /// Numbers a load for a follower.
    pub(crate) fn ask_for_follower(&mut self, member: Member) -> LoadId {
        self.ask(Purpose::Follower(member))
    }

    /// Numbers a load of entries to apply.
    pub(crate) fn ask_for_apply(&mut self) -> LoadId {
        self.ask(Purpose::Apply)
    }

    /// Numbers a load of entries that another member can't read.
    pub(crate) fn ask_for_repair(&mut self, member: Member, request: RepairRequest) -> LoadId {
        self.ask(Purpose::Repair(member, request))
    }

    /// Numbers a load of entries that may be sound between others that can't be read.
    pub(crate) fn ask_to_reread(&mut self, first: Index) -> LoadId {
        self.ask(Purpose::Reread(first))
    }

    /// Whether the own log is being reread from there.
    pub(crate) fn is_rereading(&self, first: Index) -> bool {
        self.pending.values().any(|purpose| *purpose == Purpose::Reread(first))
    }

    /// Whether exactly this is being loaded for a member that can't read it.
    pub(crate) fn is_repairing(&self, member: Member, request: &RepairRequest) -> bool {
        self.pending.values().any(|purpose| *purpose == Purpose::Repair(member, *request))
    }

    /// Whether this load has no answer yet.
    pub(crate) fn is_pending(&self, id: LoadId) -> bool {
        self.pending.contains_key(&id)
    }

    /// What is being reread is of no use any more.
    pub(crate) fn forget_reread(&mut self) {
        self.pending.retain(|_, purpose| !matches!(purpose, Purpose::Reread(_)));
    }

    /// Leadership ended: nobody waits for entries of followers any more.
    pub(crate) fn forget_followers(&mut self) {
        self.pending.retain(|_, purpose| !matches!(purpose, Purpose::Follower(_)));
    }
}

impl Core {
    pub(crate) fn loaded(&mut self, id: LoadId, result: Result<Vec<Entry>, LoadError>) {
        let Some(purpose) = self.loads.pending.remove(&id) else { return };
        if let Err(LoadError::Damaged(range)) = result {
            let known = self.is_damaged_at(range.first) && self.is_damaged_at(range.last);
            return match purpose {
                // Another member lacks what this one lacks, too.
                Purpose::Repair(..) if known => {}
                Purpose::Reread(first) => self.reread_lost(first),
                _ => self.found_damage(range),
            };
        }
        if let (Purpose::Follower(member), Err(LoadError::Compacted)) = (purpose, &result) {
            return self.load_compacted(id, member);
        }
        // Whatever else failed is asked for again later: followers' entries at the next heartbeat.
        let entries = result.unwrap_or_default();
        match purpose {
            Purpose::Apply => self.loaded_for_apply(id, entries),
            Purpose::Follower(member) => self.loaded_for_follower(id, member, entries),
            Purpose::Repair(member, request) => self.loaded_for_repair(member, request, entries),
            Purpose::Reread(first) => self.reread_sound(first, &entries),
        }
    }
}
