//! The members that are heard although no own configuration names them: those that an admission
//! named, and those whose cards counted.
//!
//! Invariants:
//! 1. Each is heard until the configuration at its slot, or a later one, is committed here: from
//!    then on the own log says whether it is a member.
//! 2. At most [`Vouched::MEMBERS_MAX`] are remembered; the one with the lowest slot goes first.

use alloc::{collections::BTreeMap, vec::Vec};

use crate::{identity::Member, types::Index};

/// Members that were vouched for, each with the slot of the committed configuration that has it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Vouched(BTreeMap<Member, Index>);

impl Vouched {
    /// The most members that are remembered.
    pub(crate) const MEMBERS_MAX: usize = 256;

    /// The configuration committed at `at` has this member. Says whether that is news.
    pub(crate) fn add(&mut self, member: Member, at: Index) -> bool {
        let known = self.0.get(&member).copied();
        if known.is_some_and(|known| known >= at) {
            return false;
        }
        self.0.insert(member, at);
        if self.0.len() > Self::MEMBERS_MAX
            && let Some(oldest) = self.0.iter().min_by_key(|(_, at)| **at).map(|(one, _)| *one)
        {
            self.0.remove(&oldest);
        }
        true
    }

    /// The slot at which this member was vouched for.
    pub(crate) fn at(&self, member: &Member) -> Option<Index> {
        self.0.get(member).copied()
    }

    /// The configuration at this slot is committed here. Says whether any member was forgotten.
    pub(crate) fn settle(&mut self, committed: Index) -> bool {
        let before = self.0.len();
        self.0.retain(|_, at| *at > committed);
        self.0.len() < before
    }

    /// Each member with its slot.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Member, Index)> + '_ {
        self.0.iter().map(|(member, at)| (*member, *at))
    }

    /// Each member with its slot, to be stored.
    pub(crate) fn to_vec(&self) -> Vec<(Member, Index)> {
        self.iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::{Incarnation, NodeId};

    fn member(number: u16) -> Member {
        let mut key = [0; 32];
        key[..2].copy_from_slice(&number.to_be_bytes());
        Member::new(NodeId::new(key), Incarnation::new([1; 16]))
    }

    #[test]
    fn a_member_is_vouched_for_until_its_configuration_is_committed() {
        let mut vouched = Vouched::default();
        assert!(vouched.add(member(1), Index::new(7)));
        assert!(!vouched.add(member(1), Index::new(6)), "an older word is no news");
        assert!(vouched.add(member(1), Index::new(8)));
        assert!(!vouched.settle(Index::new(7)));
        assert_eq!(vouched.at(&member(1)), Some(Index::new(8)));
        assert!(vouched.settle(Index::new(8)));
        assert_eq!(vouched.at(&member(1)), None);
    }

    #[test]
    fn the_oldest_goes_when_there_are_too_many() {
        let mut vouched = Vouched::default();
        for number in 0..1_000 {
            assert!(vouched.add(member(number), Index::new(u64::from(number) + 1)));
        }
        assert_eq!(vouched.iter().count(), Vouched::MEMBERS_MAX);
        assert_eq!(vouched.at(&member(999)), Some(Index::new(1_000)));
        assert_eq!(vouched.at(&member(0)), None);
    }
}
