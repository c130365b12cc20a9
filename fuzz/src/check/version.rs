//! The cluster version: never more than what every member told its proposer, never lower than
//! before, the same at the same index, and nobody is left behind who did not go back by itself.

use std::collections::{BTreeMap, BTreeSet};

use meshraft_consensus::{ClusterId, ClusterVersion, Index, Member, Position};

use super::{Checks, Violation};
use crate::world::Seat;

/// What was said of versions, and what came of it.
#[derive(Debug, Default)]
pub(crate) struct Versions {
    /// The newest that each member ever said that it supports.
    told: BTreeMap<Member, ClusterVersion>,
    /// Who was ever out of its cluster: it may have been sent what follows its removal.
    departed: BTreeSet<Member>,
    /// Every proposal that was seen.
    proposed: BTreeMap<ClusterId, BTreeSet<(Position, ClusterVersion)>>,
    /// What is in force where something was applied.
    in_force: BTreeMap<ClusterId, BTreeMap<Index, ClusterVersion>>,
    /// What is in force at each replica of a process.
    reached: BTreeMap<(Seat, ClusterId), ClusterVersion>,
}

impl Versions {
    /// A process starts with states that have applied nothing.
    pub(crate) fn started(&mut self, seat: Seat) {
        self.reached.retain(|(at, _), _| *at != seat);
    }

    /// A replica begins anew in a process that goes on.
    pub(crate) fn reopened(&mut self, seat: Seat, cluster: ClusterId) {
        self.reached.remove(&(seat, cluster));
    }

    /// A member says what it supports.
    pub(crate) fn tells(&mut self, member: Member, supports: ClusterVersion) {
        let told = self.told.entry(member).or_insert(supports);
        *told = supports.max(*told);
    }

    /// A member is out of its cluster.
    pub(crate) fn departed(&mut self, member: Member) {
        self.departed.insert(member);
    }

    /// An entry that raises the version is in a log. Whether that is news: its proposer wrote it.
    pub(crate) fn is_proposed(
        &mut self,
        cluster: ClusterId,
        at: Position,
        version: ClusterVersion,
    ) -> bool {
        self.proposed.entry(cluster).or_default().insert((at, version))
    }

    /// A replica has applied up to this index.
    pub(crate) fn applied(
        &mut self,
        seat: Seat,
        cluster: ClusterId,
        (index, version): (Index, ClusterVersion),
        supports: ClusterVersion,
    ) -> Result<(), Violation> {
        let wrong = |what| Err(Violation::Version { cluster, index, version, what });
        let reached = self.reached.entry((seat, cluster)).or_insert(version);
        if version < *reached {
            return wrong("is lower than before");
        }
        *reached = version;
        if version > supports {
            return wrong("is not supported where it is in force");
        }
        let known = self.in_force.entry(cluster).or_default();
        if *known.entry(index).or_insert(version) != version {
            return wrong("is another one elsewhere");
        }
        let before = known.range(..index).next_back();
        let after = known.range(index.next()..).next();
        if before.is_some_and(|(_, it)| *it > version) || after.is_some_and(|(_, it)| *it < version)
        {
            return wrong("is not between those before and after");
        }
        Ok(())
    }

    /// Where a version was proposed.
    fn places(&self, cluster: ClusterId, version: ClusterVersion) -> impl Iterator<Item = Index> {
        let all = self.proposed.get(&cluster).into_iter().flatten();
        all.filter(move |(_, it)| *it == version).map(|(at, _)| at.index)
    }

    /// A member halts because it is too old: it once said that it supports what came into force,
    /// or was out by then.
    fn may_halt(&self, cluster: Option<ClusterId>, member: Member, needed: ClusterVersion) -> bool {
        let proposed = cluster.and_then(|cluster| self.proposed.get(&cluster));
        let comes = proposed.is_some_and(|all| all.iter().any(|(_, version)| *version == needed));
        let was_not = self.told.get(&member).is_some_and(|told| *told >= needed);
        comes && (was_not || self.departed.contains(&member))
    }
}

impl Checks {
    /// A member halts because it is too old for what came into force: it was not always, or it was
    /// out by then, whether it knew that or not.
    pub(crate) fn may_halt(
        &self,
        cluster: Option<ClusterId>,
        member: Member,
        needed: ClusterVersion,
    ) -> bool {
        let out = cluster.is_some_and(|cluster| {
            self.versions.places(cluster, needed).any(|index| self.was_out(cluster, member, index))
        });
        out || self.versions.may_halt(cluster, member, needed)
    }

    /// Whether a member was taken out before this slot; not one that was never in until then.
    fn was_out(&self, cluster: ClusterId, member: Member, slot: Index) -> bool {
        let mut told = self.logs.configuration_at(cluster, slot);
        let mut newest = true;
        while let Some((at, configuration)) = told {
            if configuration.contains(&member) {
                return !newest;
            }
            newest = false;
            told = self.logs.configuration_at(cluster, at.previous());
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use meshraft_consensus::{Incarnation, NodeId, Term};

    use super::*;

    const CLUSTER: ClusterId = ClusterId::new([1; 32]);

    fn version(number: u16) -> ClusterVersion {
        ClusterVersion::new(number)
    }

    #[test]
    fn a_version_that_goes_down_differs_or_is_not_supported_is_seen() {
        let mut versions = Versions::default();
        let mut applied = |seat, index, number, supports| {
            let at = (Index::new(index), version(number));
            versions.applied(Seat(seat), CLUSTER, at, version(supports))
        };
        assert_eq!(applied(0, 3, 1, 2), Ok(()));
        assert_eq!(applied(0, 5, 2, 2), Ok(()));
        let is = |result, wanted: &str| match result {
            Err(Violation::Version { what, .. }) => what.contains(wanted),
            _ => false,
        };
        assert!(is(applied(0, 6, 1, 2), "lower"));
        assert!(is(applied(1, 5, 1, 2), "elsewhere"));
        assert!(is(applied(2, 2, 2, 3), "between"));
        assert!(is(applied(3, 9, 3, 2), "not supported"));
    }

    #[test]
    fn only_who_went_back_may_halt() {
        let mut versions = Versions::default();
        let member = |number| Member::new(NodeId::new([number; 32]), Incarnation::new([1; 16]));
        let at = Position::new(Term::new(1), Index::new(4));
        versions.tells(member(1), version(2));
        versions.tells(member(1), version(1));
        versions.tells(member(2), version(1));
        let (cluster, two) = (Some(CLUSTER), version(2));
        assert!(!versions.may_halt(cluster, member(1), two), "nobody proposed it");
        assert!(versions.is_proposed(CLUSTER, at, two));
        assert!(!versions.is_proposed(CLUSTER, at, two), "it is no news");
        assert!(versions.may_halt(cluster, member(1), two));
        assert!(!versions.may_halt(cluster, member(2), two));
        versions.departed(member(2));
        assert!(versions.may_halt(cluster, member(2), two));
    }
}
