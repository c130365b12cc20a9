//! How configurations may follow on each other (thesis 4.1 to 4.3): one at a time, voters change
//! through a joint one alone, and no leader begins before it has committed in its own term.

use std::collections::BTreeSet;

use meshraft_consensus::{ClusterId, Configuration, Member, Position, Status};

use super::{GroupKey, Violation, log::Logs, shadow::place};
use crate::world::Seat;

impl Logs {
    /// How many configurations were ever appended.
    pub(super) fn known_configurations(&self) -> usize {
        self.configurations.len()
    }

    /// Whether a configuration stands there.
    pub(super) fn is_configuration(&self, cluster: ClusterId, position: Position) -> bool {
        self.configurations.contains_key(&(cluster, position))
    }

    /// What a core counts by is the newest configuration in its log (thesis 4.1).
    pub(super) fn expect_in_force(&self, seat: Seat, status: &Status) -> Result<(), Violation> {
        let shadows = self.key_of(seat, status.cluster).and_then(|key| self.shadows(key));
        let Some((believed, _)) = shadows else { return Ok(()) };
        if status.damage.is_some() {
            // The newest one may be among what it can't read.
            return Ok(());
        }
        match self.configuration_of(status.cluster, believed.entries()) {
            Some((_, newest)) if *newest != status.configuration => {
                Err(Violation::NotInForce { member: status.me })
            }
            _ => Ok(()),
        }
    }

    /// Checks a configuration that a leader appended, in the light of what is committed by now.
    pub(super) fn expect_change(
        &self,
        key: GroupKey,
        cluster: ClusterId,
        position: Position,
    ) -> Result<(), Violation> {
        let (Some((believed, _)), Some(member)) = (self.shadows(key), self.member_of(key)) else {
            return Ok(());
        };
        let before = believed.entries().get(..place(position.index.previous()));
        let to = self.configurations.get(&(cluster, position));
        let from = before.and_then(|before| self.configuration_of(cluster, before));
        let (Some((at, from)), Some(to)) = (from, to) else { return Ok(()) };
        let wrong = |what| Err(Violation::Change { member, position, what });
        let committed = self.all_committed(cluster);
        if committed.get(place(at.index.previous())).map(|entry| entry.position) != Some(at) {
            return wrong("follows on one that is not committed");
        }
        let own_term = committed.iter().rev().find(|entry| entry.position.index < position.index);
        if own_term.is_none_or(|entry| entry.position.term < position.term) {
            return wrong("is its leader's first word in its term");
        }
        match follows(from, to) {
            true => Ok(()),
            false => wrong("does not follow on the one before"),
        }
    }

    /// Checks that a quorum of `configuration`, of both halves if it is joint, has an entry on
    /// disk, without those that are known to have forgotten what they acknowledged.
    pub(super) fn expect_quorum(
        &self,
        member: Member,
        cluster: ClusterId,
        position: Position,
        configuration: &Configuration,
        forgetful: &BTreeSet<Member>,
    ) -> Result<(), Violation> {
        let has = |voter: &&Member| {
            !forgetful.contains(*voter) && self.has_durable(**voter, cluster, position)
        };
        let quorum = |voters: &BTreeSet<Member>| {
            voters.is_empty() || voters.iter().filter(has).count() * 2 > voters.len()
        };
        if quorum(&configuration.voters) && quorum(&configuration.outgoing) {
            return Ok(());
        }
        let durable = configuration.members().iter().filter(has).copied().collect();
        Err(Violation::NotDurable { cluster, member, position, durable })
    }
}

/// Whether a configuration may follow on another.
fn follows(from: &Configuration, to: &Configuration) -> bool {
    if from.is_joint() {
        return !to.is_joint() && to.voters == from.voters;
    }
    let voters_stay = to.voters == from.voters;
    if to.is_joint() { to.outgoing == from.voters && !voters_stay } else { voters_stay }
}

#[cfg(test)]
mod tests {
    use meshraft_consensus::{Incarnation, NodeId};

    use super::*;

    fn of(voters: &[u8], outgoing: &[u8], learners: &[u8]) -> Configuration {
        let members = |numbers: &[u8]| {
            let member = |it: &u8| Member::new(NodeId::new([*it; 32]), Incarnation::new([*it; 16]));
            numbers.iter().map(member).collect()
        };
        Configuration {
            voters: members(voters),
            outgoing: members(outgoing),
            learners: members(learners),
        }
    }

    #[test]
    fn voters_change_through_a_joint_configuration_alone() {
        let three = of(&[1, 2, 3], &[], &[]);
        assert!(follows(&three, &of(&[1, 2, 3], &[], &[4])));
        assert!(follows(&three, &of(&[1, 2, 4], &[1, 2, 3], &[])));
        assert!(!follows(&three, &of(&[1, 2], &[], &[])), "not even one at once");
        assert!(!follows(&three, &of(&[4], &[1, 2], &[])), "another outgoing half");
        let joint = of(&[4, 5], &[1, 2, 3], &[]);
        assert!(follows(&joint, &of(&[4, 5], &[], &[])));
        assert!(!follows(&joint, &of(&[1, 2, 3], &[], &[])), "never back");
        assert!(!follows(&joint, &of(&[6], &[4, 5], &[])), "never from joint to joint");
    }
}
