//! Knows which configuration is in force: the newest one in the log, committed or not (thesis 4.1).
//!
//! Invariants:
//! 1. Slots are strictly ascending; the first configuration is committed, or the one at the base.
//! 2. The last one is in force, from its append on, until a truncation takes it back.

use alloc::{collections::BTreeSet, vec, vec::Vec};

use super::Configuration;
use crate::{identity::Member, types::Index};

/// The configurations that are in force or may be again.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct History {
    me: Member,
    base: (Index, Configuration),
    /// Those after the base, ascending.
    later: Vec<(Index, Configuration)>,
    /// Whether `me` votes in the last one: kept, as it is asked at every input.
    votes: bool,
    /// Counts the changes of what stands here.
    version: u64,
}

impl History {
    /// What a store of `me` restored: the configuration at the base of the log, and those in the
    /// log.
    pub(crate) fn restore(
        me: Member,
        base: (Index, Configuration),
        logged: Vec<(Index, Configuration)>,
    ) -> Self {
        let mut later = logged;
        later.retain(|(index, _)| *index > base.0);
        assert!(
            later.is_sorted_by(|one, next| one.0 < next.0),
            "restored configurations are ascending"
        );
        let mut history = Self { me, base, later, votes: false, version: 0 };
        history.look();
        history
    }

    fn look(&mut self) {
        self.version = self.version.wrapping_add(1);
        self.votes = self.current().is_voter(&self.me);
    }

    /// The configuration in force.
    pub(crate) fn current(&self) -> &Configuration {
        self.later.last().map_or(&self.base.1, |(_, configuration)| configuration)
    }

    /// Its slot.
    pub(crate) fn index(&self) -> Index {
        self.later.last().map_or(self.base.0, |(index, _)| *index)
    }

    /// The newest configuration that is known to be committed, and its slot.
    pub(crate) fn committed(&self) -> (Index, &Configuration) {
        (self.base.0, &self.base.1)
    }

    /// Whether this member votes in the configuration in force.
    pub(crate) const fn votes(&self) -> bool {
        self.votes
    }

    /// A number that changes whenever a configuration is appended, committed or taken back.
    pub(crate) const fn version(&self) -> u64 {
        self.version
    }

    /// Whether `member` is in the newest configuration that is known to be committed, or in a later
    /// one.
    pub(crate) fn has(&self, member: &Member) -> bool {
        self.all().any(|configuration| configuration.contains(member))
    }

    /// Every member of those configurations.
    pub(crate) fn every_member(&self) -> BTreeSet<Member> {
        self.all().flat_map(Configuration::members).collect()
    }

    fn all(&self) -> impl Iterator<Item = &Configuration> {
        let later = self.later.iter().map(|(_, configuration)| configuration);
        core::iter::once(&self.base.1).chain(later)
    }

    /// The slot of the only configuration that is in force or may be again.
    pub(crate) fn only(&self) -> Option<Index> {
        self.later.is_empty().then_some(self.base.0)
    }

    /// The newest slot up to `last` whose configuration has `member` in it.
    pub(crate) fn newest_with(&self, member: &Member, last: Index) -> Option<Index> {
        let all = core::iter::once(&self.base).chain(&self.later);
        let within = all.take_while(|(slot, _)| *slot <= last);
        within.filter(|(_, one)| one.contains(member)).map(|(slot, _)| *slot).last()
    }

    /// Whether `member` was not in some configuration between these slots, as far as that is known
    /// still: where the log was replaced it is not.
    pub(crate) fn was_out_between(&self, member: &Member, from: Index, to: Index) -> bool {
        let mut between = self.later.iter().filter(|(slot, _)| from < *slot && *slot < to);
        let unknown = from < self.base.0 && self.base.0 <= to;
        unknown || between.any(|(_, one)| !one.contains(member))
    }

    /// Whether a configuration stands at this slot.
    pub(crate) fn is_at(&self, index: Index) -> bool {
        self.base.0 == index || self.later.iter().any(|(slot, _)| *slot == index)
    }

    /// Whether `member` votes in any configuration that is in force or may be again.
    pub(crate) fn is_voter_in_any(&self, member: &Member) -> bool {
        self.base.1.is_voter(member)
            || self.later.iter().any(|(_, configuration)| configuration.is_voter(member))
    }

    /// A configuration was appended.
    pub(crate) fn push(&mut self, index: Index, configuration: Configuration) {
        assert!(index > self.index(), "a configuration is appended after the one in force");
        self.later.push((index, configuration));
        self.look();
    }

    /// A configuration that could not be read stands at this slot. One that is older than what is
    /// known to be committed never comes back.
    pub(crate) fn insert(&mut self, index: Index, configuration: Configuration) {
        let place = self.later.partition_point(|(slot, _)| *slot < index);
        if index > self.base.0 && self.later.get(place).is_none_or(|(slot, _)| *slot != index) {
            self.later.insert(place, (index, configuration));
            self.look();
        }
    }

    /// Every entry from `index` on was dropped. Says whether the configuration in force changed.
    pub(crate) fn truncate_from(&mut self, index: Index) -> bool {
        let kept = self.later.partition_point(|(slot, _)| *slot < index);
        let changed = kept < self.later.len();
        self.later.truncate(kept);
        if changed {
            self.look();
        }
        changed
    }

    /// A snapshot replaced the log: its configuration, at this slot, is all that is left.
    pub(crate) fn replace(&mut self, base: (Index, Configuration)) {
        let version = self.version;
        *self = Self::restore(self.me, base, Vec::new());
        self.version = version.wrapping_add(1);
    }

    /// Everything up to `index` is committed: older configurations never come back.
    pub(crate) fn commit(&mut self, index: Index) {
        let committed = self.later.partition_point(|(slot, _)| *slot <= index);
        let newest = self.later.drain(..committed).next_back();
        if let Some(newest) = newest {
            self.base = newest;
            self.look();
        }
    }

    /// Panics if an invariant is broken; everything up to `commit` is committed.
    pub(crate) fn check(&self, commit: Index) {
        assert!(self.base.0 <= commit, "the base configuration is committed");
        assert!(self.votes == self.current().is_voter(&self.me), "the own vote is known");
        let slots = vec![self.base.0].into_iter().chain(self.later.iter().map(|(slot, _)| *slot));
        assert!(slots.is_sorted_by(|one, next| one < next), "configurations are ascending");
        for (_, configuration) in core::iter::once(&self.base).chain(&self.later) {
            let apart = configuration.voters.is_disjoint(&configuration.learners);
            assert!(apart, "no member is voter and learner at once");
        }
    }
}
