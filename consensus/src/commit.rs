//! Decides when the leader may advance the commit index (thesis 3.5, 3.6.2; joint rule 4.3).
//!
//! Invariants:
//! 1. The commit index never decreases.
//! 2. A leader's lands only on an entry of its own term; earlier entries follow by log matching.
//! 3. The leader counts itself only up to what its own disk has, and only while it is a voter.

use crate::{
    core::Core, identity::Member, quorum, replication::Progress, role::RoleState, types::Index,
};

impl Core {
    /// A match index rose, or the configuration changed: commits what a quorum has.
    pub(crate) fn advance_commit(&mut self) {
        let RoleState::Leader(leader) = &self.role else { return };
        if self.commit == self.log.last().index {
            return;
        }
        let durable = |member: &Member| {
            if *member == self.me {
                return self.durability.durable();
            }
            leader.progress.get(member).map_or(Index::ZERO, Progress::counted)
        };
        let Some(reached) = quorum::agreed(self.membership.current(), durable) else { return };
        let own_term = self.log.term_at(reached) == Some(self.hard.term);
        if reached > self.commit && own_term {
            self.set_commit(reached);
        }
    }

    /// Everything up to `index` is committed.
    pub(crate) fn set_commit(&mut self, index: Index) {
        assert!(index > self.commit, "the commit index never decreases");
        assert!(index <= self.log.last().index, "only what is in the log is committed");
        self.commit = index;
        // Reads the configurations, so before those that are settled are forgotten.
        self.settle_founding();
        self.commit_configurations();
        self.leader_committed();
        self.check_departed();
    }
}
