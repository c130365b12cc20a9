//! Checks the whole state of a core; tests and the simulator do so after every input.
//!
//! What it checks is what each module's header promises; peers' data is never asserted here.

use crate::{core::Core, founding::Founding, role::RoleState, types::Position};

impl Core {
    /// Panics if the state breaks an invariant. Walks the log in memory: for tests and simulation.
    #[doc(hidden)]
    pub fn check_invariants(&self) {
        let last = self.log.last();
        self.log.check();
        self.durability.check(last.index);
        self.membership.check(self.commit);
        self.apply.check(self.commit, self.durability.durable());
        assert!(last.term <= self.hard.term, "no entry is of a term to come");
        assert!(self.commit <= last.index, "only what is in the log is committed");
        self.check_snapshots();
        self.check_damage();
        self.check_sleep();
        assert!(self.membership.index() <= last.index, "configurations are in the log");
        assert!(self.hard.commit_hint <= self.commit, "the hint is behind the commit index");
        self.check_role(last);
    }

    fn check_role(&self, last: Position) {
        let follows = matches!(self.role, RoleState::Follower(_));
        assert!(follows || !self.is_departed(), "who has departed only follows");
        assert!(follows || !self.retired, "who lost what it acknowledged only follows");
        match &self.role {
            RoleState::Follower(follower) => {
                assert!(follower.leader != Some(self.me), "nobody follows itself");
                assert!(
                    follower.leader.is_some() || follower.reads.due().is_none(),
                    "without a leader no read waits for it"
                );
            }
            RoleState::Candidate(_) => {
                assert!(self.damage.is_none(), "a damaged member never campaigns");
            }
            RoleState::Leader(leader) => {
                assert!(self.damage.is_none(), "a damaged member never leads");
                assert!(self.hard.vote == Some(self.me), "a leader voted for itself");
                let members = leader.progress.members();
                assert!(members.is_sorted_by(|one, next| one < next), "followers are in order");
                assert!(!leader.progress.contains(&self.me), "a leader does not follow");
                let in_order = leader.proposals.iter().is_sorted_by(|a, b| a.index < b.index);
                assert!(in_order, "proposals are in the order of their slots");
                let bytes: u64 = leader.proposals.iter().map(|one| one.bytes).sum();
                assert!(bytes == leader.uncommitted_bytes, "uncommitted bytes are counted");
                let first = leader.proposals.front();
                assert!(first.is_none_or(|one| one.index > self.commit), "committed is resolved");
                assert!(self.handed.is_none(), "who leads again knows how its handover ended");
                leader.reads.check(self.config.knobs().reads_max);
                let base = self.log.base().index;
                leader.progress.values().for_each(|one| one.check(base, last.index));
                if self.founding == Founding::Open && last == Position::ZERO {
                    assert!(!leader.ready, "nothing is committed before the fate");
                }
            }
        }
    }
}
