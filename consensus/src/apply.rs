//! Hands out committed entries, in order, each once, and no more than the driver can hold (thesis
//! 3.5).
//!
//! Invariants:
//! 1. `applied <= handed <= commit`, and what is handed out is durable here: a state machine never
//!    runs ahead of the log that it would be rebuilt from.
//! 2. What is handed out and not applied costs at most the window, or is a single entry.
//! 3. From the moment at which a snapshot takes the log's place until the driver says that it is
//!    the state, nothing is handed out.

use alloc::vec::Vec;

use crate::{
    core::Core,
    entry::Entry,
    output::Output,
    replication::follows,
    types::{Index, IndexRange, LoadId, Moment},
};

/// How far the driver's state machine is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ApplyWindow {
    handed: Index,
    applied: Index,
    backlog_bytes: u64,
    load: Option<LoadId>,
    /// When to ask again for entries that could not be loaded.
    retry_due: Option<Moment>,
}

impl ApplyWindow {
    /// The state machine stands where the log begins.
    pub(crate) const fn restore(applied: Index) -> Self {
        Self { handed: applied, applied, backlog_bytes: 0, load: None, retry_due: None }
    }

    /// The last entry that the driver applied.
    pub(crate) const fn applied(&self) -> Index {
        self.applied
    }

    /// The last entry that was handed out.
    pub(crate) const fn handed(&self) -> Index {
        self.handed
    }

    /// A snapshot of the state after `index` is proof that it was applied.
    pub(crate) fn reach(&mut self, index: Index) {
        assert!(index <= self.handed, "only what is handed out is applied");
        self.applied = self.applied.max(index);
    }

    /// Nothing that was asked for is wanted any more: the state will be replaced.
    pub(crate) const fn interrupt(&mut self) {
        (self.load, self.retry_due) = (None, None);
    }

    /// The state was replaced by a snapshot of the state after `index`.
    pub(crate) const fn restart(&mut self, index: Index) {
        *self = Self::restore(index);
    }

    /// When to act without an input.
    pub(crate) const fn due(&self) -> Option<Moment> {
        self.retry_due
    }

    /// Panics if an invariant is broken.
    pub(crate) fn check(&self, commit: Index, durable: Index) {
        assert!(self.applied <= self.handed, "what is applied was handed out");
        assert!(self.handed <= commit, "what is handed out is committed");
        assert!(self.handed <= durable, "what is handed out is durable");
    }
}

impl Core {
    pub(crate) fn applied(&mut self, index: Index, backlog_bytes: u64) {
        self.apply.applied = self.apply.applied.max(index.min(self.apply.handed));
        self.apply.backlog_bytes = backlog_bytes;
    }

    /// Committed, and durable here.
    fn appliable(&self) -> Index {
        self.commit.min(self.durability.durable())
    }

    /// Hands out what is committed and durable, as far as the window allows.
    pub(crate) fn hand_out(&mut self) {
        let last = self.appliable();
        let window = self.config.knobs().apply_bytes_max;
        let apply = &mut self.apply;
        let waits = apply.load.is_some() || apply.retry_due.is_some();
        let stopped = self.damage.is_some() || self.snapshots.is_installing();
        if apply.handed >= last || waits || stopped {
            return;
        }
        let (first, room) = (apply.handed.next(), window.saturating_sub(apply.backlog_bytes));
        let cost = self.log.cost_at(first).unwrap_or(1);
        if apply.backlog_bytes > 0 && cost > room {
            return;
        }
        if first < self.log.first_in_memory() {
            let last = last.min(self.log.first_in_memory().previous());
            let id = self.loads.ask_for_apply();
            apply.load = Some(id);
            let range = IndexRange { first, last };
            return self.outputs.push_back(Output::Load { id, range, bytes_max: room });
        }
        let entries = self.log.slice(first, last, room);
        self.hand(entries);
    }

    fn hand(&mut self, entries: Vec<Entry>) {
        for entry in &entries {
            self.apply.handed = entry.position.index;
            let backlog = self.apply.backlog_bytes.saturating_add(entry.cost_bytes());
            self.apply.backlog_bytes = backlog;
        }
        self.outputs.push_back(Output::Apply(entries));
    }

    pub(crate) fn loaded_for_apply(&mut self, id: LoadId, entries: Vec<Entry>) {
        if self.apply.load != Some(id) {
            return;
        }
        self.apply.load = None;
        let last = self.appliable();
        let within = entries.last().is_some_and(|entry| entry.position.index <= last);
        if within && follows(&self.log, self.apply.handed.next(), &entries) {
            self.hand(entries);
        } else {
            self.apply.retry_due = Some(self.now.plus(self.config.knobs().heartbeat));
        }
    }

    /// A load that failed may be asked for again.
    pub(crate) fn retry_apply(&mut self) {
        if self.apply.retry_due.is_some_and(|due| due <= self.now) {
            self.apply.retry_due = None;
        }
    }
}
