//! The clients of a cluster of cores.

use meshraft_consensus::{ProposalId, ReadId, ReadLevel};

use super::{CoreWorld, step::Step};
use crate::check::Violation;

impl CoreWorld {
    /// A number that nothing else of the run has.
    pub(super) fn next_id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }

    /// A client proposes or reads, most often where it takes the leader to be.
    pub(super) fn client(&mut self) -> Result<(), Violation> {
        let (guess, leader, some) = (self.random.below(4) > 0, self.some_leader(), self.some());
        let seat = leader.filter(|_| guess).unwrap_or(some);
        let id = self.next_id();
        let step = if self.random.below(3) == 0 {
            let lease = self.random.below(2) == 0;
            let level = if lease { ReadLevel::Lease } else { ReadLevel::Linearizable };
            Step::Read { seat, id: ReadId::new(id), level }
        } else {
            let bytes = self.random.below(self.plan.command_bytes_max + 1) as usize;
            Step::Propose { seat, id: ProposalId::new(id), bytes }
        };
        match self.cluster.node(seat).core.is_some() {
            true => self.due_step(step),
            false => Ok(()),
        }
    }
}
