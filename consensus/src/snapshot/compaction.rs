//! Decides what a snapshot of the own state lets the log forget (thesis 5.1).
//!
//! Invariants:
//! 1. The log is never compacted past the snapshot, which is of what is applied and durable.
//! 2. What a follower needs to go on after the snapshot that it is being sent stays, within bounds.

use crate::{
    core::Core, entry::SnapshotMeta, event::Event, replication::Mode, role::RoleState, types::Index,
};

impl Core {
    /// The driver has a snapshot of this member's own state, durably.
    pub(crate) fn snapshot_taken(&mut self, meta: SnapshotMeta) {
        let position = meta.position;
        // Before a cluster lives, and after it never will, a snapshot stands for nothing.
        let stands = !self.is_founding() && self.log.holds(position);
        let newer = position.index > self.snapshots.newest();
        if !stands || !newer || position.index > self.apply.handed() {
            return;
        }
        self.apply.reach(position.index);
        self.durability.record_snapshot(meta.clone());
        self.snapshots.newest = Some(meta);
        if self.damage.as_ref().is_some_and(|damage| damage.range.first <= position.index) {
            return self.forget_covered();
        }
        self.compact(position.index);
    }

    /// Forgets what a snapshot covers, but for what is in memory, some entries behind it, and what
    /// followers wait for that are being sent one.
    fn compact(&mut self, covered: Index) {
        let keep_entries_max = self.config.knobs().keep_entries_max;
        let behind = Index::new(covered.get().saturating_sub(keep_entries_max));
        let in_memory = self.log.first_in_memory().previous();
        let base = in_memory.max(behind).min(covered).min(self.held(covered));
        if base <= self.log.base().index {
            return;
        }
        self.log.compact(base);
        self.observe(Event::Compacted { base, covered });
        let RoleState::Leader(leader) = &mut self.role else { return };
        for progress in leader.progress.values_mut() {
            if !matches!(progress.mode, Mode::Snapshot) && progress.next <= base {
                // What is in flight may arrive yet; if it does not, the answer says so.
                progress.back_to_probe(base.next());
            }
        }
    }

    /// Up to where the log may be forgotten for the sake of those who are sent a snapshot, or have
    /// got one and are still behind the newest.
    fn held(&mut self, covered: Index) -> Index {
        let (now, patience) = (self.now, self.config.knobs().election * 2);
        let lag_max = self.config.knobs().snapshot_lag_bytes_max;
        let appended = self.durability.appended_bytes();
        let RoleState::Leader(leader) = &mut self.role else { return covered };
        let mut held = covered;
        for progress in leader.progress.values_mut() {
            let Some(transfer) = &progress.transfer else { continue };
            let sending = matches!(progress.mode, Mode::Snapshot);
            let behind = sending || progress.next <= covered;
            let lag = appended.saturating_sub(transfer.appended_bytes);
            if behind && lag <= lag_max && progress.is_active(now, patience) {
                held = held.min(transfer.meta.position.index.max(progress.matched));
            } else if !sending {
                progress.transfer = None;
            }
        }
        held
    }
}
