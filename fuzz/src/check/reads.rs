//! What a read is promised, level by level (thesis 6.4), the moment that it is answered.
//!
//! Whatever its level, an answer says at which index it was given: it must be the state at that
//! index exactly, and nothing that is not committed. Lease reads, linearizable reads and barriers
//! must not be below anything that was committed anywhere when they were asked for, and so not
//! below any write that had been acknowledged. A session never goes back, and reads its writes.

use meshraft_consensus::{Index, Namespace};
use meshraft_service::wire::Level;

use super::{Checks, Violation};

/// What a read found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FoundAt {
    /// A key, with value and revision if it is there.
    Key(u64, Option<(u64, u64)>),
    /// A counter, with what it shows.
    Counter(u64, u64),
    /// Nothing was asked but that everything before is there.
    Barrier,
}

impl Checks {
    /// How much is committed in a namespace, as far as any of its members ever said.
    pub(crate) fn committed_in(&self, namespace: &Namespace) -> Index {
        let living = self.states.living(namespace);
        living.map_or(Index::ZERO, |cluster| self.logs.committed_up_to(cluster))
    }

    /// A read that was asked for when `floor` was committed is answered with the state at `index`.
    pub(crate) fn served(
        &self,
        namespace: &Namespace,
        level: Level,
        floor: Index,
        index: Index,
        found: FoundAt,
    ) -> Result<(), Violation> {
        let wrong = |what| {
            let namespace = namespace.clone();
            Err(Violation::WrongRead { namespace, index, what })
        };
        if matches!(level, Level::Lease | Level::Linearizable) && index < floor {
            return Err(Violation::StaleRead { index, committed: floor });
        }
        let Some(cluster) = self.states.living(namespace) else {
            return wrong("answered where no cluster lives");
        };
        if index > self.logs.committed_up_to(cluster) {
            return wrong("answered with what is not committed");
        }
        let right = match found {
            FoundAt::Key(key, found) => self.states.value_at(cluster, key, index) == found,
            FoundAt::Counter(key, found) => self.states.count_at(cluster, key, index) == found,
            FoundAt::Barrier => true,
        };
        if right { Ok(()) } else { wrong("answered with another state than that of its index") }
    }

    /// A write that was asked for when `floor` was committed took effect at an index.
    pub(crate) fn wrote(
        &self,
        namespace: &Namespace,
        floor: Index,
        index: Index,
    ) -> Result<(), Violation> {
        let (namespace, committed) = (namespace.clone(), self.committed_in(namespace));
        if index <= floor {
            let what = "is where a write took effect that was asked for later";
            return Err(Violation::WrongRead { namespace, index, what });
        }
        if index > committed {
            let what = "is where a write took effect, and not committed";
            return Err(Violation::WrongRead { namespace, index, what });
        }
        Ok(())
    }
}
