//! Asks for entries that are no longer in memory, one load at a time for each who needs them.
//!
//! Invariant: at most one load a follower and one for applying is pending, so that memory for
//! loaded entries is bounded.

use alloc::{collections::BTreeMap, vec::Vec};

use crate::{
    core::Core,
    entry::Entry,
    error::LoadError,
    event::Event,
    identity::Member,
    role::RoleState,
    types::{IndexRange, LoadId},
};

/// Who needs the entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Purpose {
    Apply,
    Follower(Member),
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
        self.pending.retain(|_, other| *other != purpose);
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

    /// Whether this load has no answer yet.
    pub(crate) fn is_pending(&self, id: LoadId) -> bool {
        self.pending.contains_key(&id)
    }

    /// Leadership ended: nobody waits for entries of followers any more.
    pub(crate) fn forget_followers(&mut self) {
        self.pending.retain(|_, purpose| *purpose == Purpose::Apply);
    }
}

impl Core {
    pub(crate) fn loaded(&mut self, id: LoadId, result: Result<Vec<Entry>, LoadError>) {
        let Some(purpose) = self.loads.pending.remove(&id) else { return };
        if let Err(LoadError::Damaged(range)) = result {
            return self.found_damage(range);
        }
        if let (Purpose::Follower(member), Err(LoadError::Compacted)) = (purpose, &result) {
            return self.load_compacted(id, member);
        }
        // Whatever else failed is asked for again later: followers' entries at the next heartbeat.
        let entries = result.unwrap_or_default();
        match purpose {
            Purpose::Apply => self.loaded_for_apply(id, entries),
            Purpose::Follower(member) => self.loaded_for_follower(id, member, entries),
        }
    }

    /// The own log can't be read there: this member does not vote or lead any more.
    fn found_damage(&mut self, range: IndexRange) {
        self.damage = Some(range);
        self.observe(Event::Damaged { range });
        if !matches!(self.role, RoleState::Follower(_)) {
            self.become_follower(self.hard.term, None);
        }
    }
}
