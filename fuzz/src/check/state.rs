//! State machine safety (thesis 3.6.3), exactly once (6.3), and one cluster a namespace.

use std::collections::BTreeMap;

use meshraft_consensus::{ClusterId, Index, Namespace};

use super::Violation;
use crate::{digest::Digest, world::Seat};

/// One command that a machine applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AppliedCommand {
    pub(crate) index: Index,
    pub(crate) payload: Digest,
    pub(crate) response: Digest,
    /// The key and the value that it writes.
    pub(crate) writes: Option<(u64, u64)>,
    /// The counter that it adds to, and the value that it made.
    pub(crate) adds: Option<(u64, u64)>,
}

/// What was applied where.
#[derive(Debug, Default)]
pub(crate) struct States {
    applied: BTreeMap<(ClusterId, Index), AppliedCommand>,
    /// Where each payload took effect: every payload of a run is written by one operation, but for
    /// increments, which are counted.
    effects: BTreeMap<(ClusterId, Digest), Index>,
    /// Every value that each key ever had, by revision.
    values: BTreeMap<(ClusterId, u64), BTreeMap<Index, u64>>,
    /// Every value that each counter ever had.
    counts: BTreeMap<(ClusterId, u64), BTreeMap<Index, u64>>,
    /// How far each machine of each process is.
    reached: BTreeMap<(Seat, ClusterId), Index>,
    living: BTreeMap<Namespace, ClusterId>,
}

impl States {
    /// A process starts with machines that have applied nothing.
    pub(crate) fn started(&mut self, seat: Seat) {
        self.reached.retain(|(at, _), _| *at != seat);
    }

    /// A machine begins anew in a process that goes on.
    pub(crate) fn reopened(&mut self, seat: Seat, cluster: ClusterId) {
        self.reached.remove(&(seat, cluster));
    }

    /// A machine applied a command.
    pub(crate) fn applied(
        &mut self,
        seat: Seat,
        cluster: ClusterId,
        command: AppliedCommand,
    ) -> Result<(), Violation> {
        let AppliedCommand { index, payload, response, writes, adds } = command;
        let differ = |what| Err(Violation::StatesDiffer { cluster, index, what });
        let reached = self.reached.entry((seat, cluster)).or_default();
        if *reached >= index {
            return differ("a replica went back");
        }
        *reached = index;
        let first = *self.applied.entry((cluster, index)).or_insert(command);
        if first.payload != payload {
            return differ("the command");
        }
        if first.response != response {
            return differ("the answer");
        }
        if let Some((key, value)) = writes {
            self.values.entry((cluster, key)).or_default().insert(index, value);
        }
        if let Some((counter, value)) = adds {
            let counts = self.counts.entry((cluster, counter)).or_default();
            let before = counts.range(..index).next_back().map_or(0, |(_, value)| *value);
            if *counts.entry(index).or_insert(before + 1) != value {
                return differ("a counter");
            }
            return Ok(());
        }
        match *self.effects.entry((cluster, payload)).or_insert(index) {
            first if first == index => Ok(()),
            first => Err(Violation::AppliedTwice { first, second: index }),
        }
    }

    /// A cluster lives in a namespace: its `Found` is committed. Returns the first that did.
    pub(crate) fn lives(&mut self, namespace: &Namespace, cluster: ClusterId) -> ClusterId {
        *self.living.entry(namespace.clone()).or_insert(cluster)
    }

    /// The cluster that lives in a namespace.
    pub(crate) fn living(&self, namespace: &Namespace) -> Option<ClusterId> {
        self.living.get(namespace).copied()
    }

    /// The value and the revision of a key at an index.
    pub(crate) fn value_at(
        &self,
        cluster: ClusterId,
        key: u64,
        index: Index,
    ) -> Option<(u64, u64)> {
        let (revision, value) = self.values.get(&(cluster, key))?.range(..=index).next_back()?;
        Some((*value, revision.get()))
    }

    /// What a counter shows at an index.
    pub(crate) fn count_at(&self, cluster: ClusterId, counter: u64, index: Index) -> u64 {
        let counts = self.counts.get(&(cluster, counter));
        let last = counts.and_then(|counts| counts.range(..=index).next_back());
        last.map_or(0, |(_, value)| *value)
    }

    /// Where a payload took effect.
    pub(crate) fn effect(&self, cluster: ClusterId, payload: Digest) -> Option<Index> {
        self.effects.get(&(cluster, payload)).copied()
    }

    /// How many commands took effect.
    pub(crate) fn count(&self) -> usize {
        self.applied.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn divergence_repetition_and_a_second_cluster_are_seen() {
        let (mut states, cluster) = (States::default(), ClusterId::new([1; 32]));
        let command = |index, payload: &[u8], response: &[u8]| AppliedCommand {
            index: Index::new(index),
            payload: Digest::of(payload),
            response: Digest::of(response),
            writes: Some((1, index)),
            adds: None,
        };
        let mut apply = |seat, command| states.applied(Seat(seat), cluster, command);
        assert_eq!(apply(0, command(3, b"a", b"x")), Ok(()));
        assert_eq!(apply(1, command(3, b"a", b"x")), Ok(()));
        assert!(matches!(apply(1, command(3, b"a", b"x")), Err(Violation::StatesDiffer { .. })));
        assert!(matches!(apply(2, command(3, b"b", b"x")), Err(Violation::StatesDiffer { .. })));
        assert!(matches!(apply(0, command(4, b"a", b"x")), Err(Violation::AppliedTwice { .. })));
        assert_eq!(states.value_at(cluster, 1, Index::new(3)), Some((3, 3)));
        assert_eq!(states.value_at(cluster, 1, Index::new(2)), None);
        let namespace = Namespace::new("/a").unwrap();
        assert_eq!(states.lives(&namespace, cluster), cluster);
        assert_eq!(states.lives(&namespace, ClusterId::new([2; 32])), cluster);
    }
}
